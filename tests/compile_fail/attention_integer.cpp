// SPDX-License-Identifier: BSD-3-Clause
// Integer queries are refused.
// expects: scaledot: attention needs float, double, half or bfloat16 elements
#include <scaledot/attention.hpp>

#ifdef SCALEDOT_WRONG
using element = int;
#else
using element = float;
#endif

int main()
{
    const xt::xtensor<element, 2> query = {{1, 2}};
    const xt::xtensor<float, 2> key = {{1, 2}};
    return scaledot::attention(query, key, key).dimension() == 2 ? 0 : 1;
}
