// SPDX-License-Identifier: BSD-3-Clause
// Integer activations are refused.
// expects: scaledot: layer_norm needs float, double, half or bfloat16 elements
#include <scaledot/layer_norm.hpp>

#ifdef SCALEDOT_WRONG
using element = int;
#else
using element = float;
#endif

int main()
{
    const xt::xtensor<element, 2> x = {{1, 2}};
    const xt::xtensor<float, 1> gamma = {1, 1}, beta = {0, 0};
    return scaledot::layer_norm(x, gamma, beta).dimension() == 2 ? 0 : 1;
}
