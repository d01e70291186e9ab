// SPDX-License-Identifier: BSD-3-Clause
// A scalar has no axis to run along.
// expects: scaledot: softmax needs an array of rank 1 or more
#include <scaledot/softmax.hpp>

#ifdef SCALEDOT_WRONG
constexpr std::size_t rank = 0;
#else
constexpr std::size_t rank = 1;
#endif

int main()
{
    const xt::xtensor<float, rank> logits(std::array<std::size_t, rank>{});
    return scaledot::softmax(logits).dimension() == rank ? 0 : 1;
}
