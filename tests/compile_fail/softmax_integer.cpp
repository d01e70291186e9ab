// SPDX-License-Identifier: BSD-3-Clause
// Integer logits are refused: a probability is not an integer.
// expects: scaledot: softmax needs float, double, half or bfloat16 elements
#include <scaledot/softmax.hpp>

#ifdef SCALEDOT_WRONG
using element = int;
#else
using element = float;
#endif

int main()
{
    const xt::xtensor<element, 2> logits = {{1, 2, 3}};
    return scaledot::softmax(logits).dimension() == 2 ? 0 : 1;
}
