// SPDX-License-Identifier: BSD-3-Clause
// Integers are refused: nothing normalised is an integer.
// expects: scaledot: layer_norm needs float, double, half or bfloat16 elements
#include <scaledot/layer_norm.hpp>

#ifdef SCALEDOT_WRONG
using element = int;
#else
using element = float;
#endif

int main()
{
    const xt::xtensor<element, 2> x = {{1, 2, 3}};
    return scaledot::layer_norm(x).dimension() == 2 ? 0 : 1;
}
