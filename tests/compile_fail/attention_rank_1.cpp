// SPDX-License-Identifier: BSD-3-Clause
// A query of rank 1 has no axis of queries.
// expects: scaledot: attention needs arrays of rank 2 or more: [..., heads, length, head size]
#include <scaledot/attention.hpp>

#ifdef SCALEDOT_WRONG
constexpr std::size_t rank = 1;
#else
constexpr std::size_t rank = 2;
#endif

int main()
{
    const xt::xtensor<float, rank> query(std::array<std::size_t, rank>{});
    const xt::xtensor<float, 2> key(std::array<std::size_t, 2>{});
    return scaledot::attention(query, key, key).dimension() == rank ? 0 : 1;
}
