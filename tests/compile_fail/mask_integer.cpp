// SPDX-License-Identifier: BSD-3-Clause
// A mask of integers could mean either kind: 1 may attend, or 1 is added.
// expects: scaledot: a mask has bool, float, double, half or bfloat16 elements
#include <scaledot/attention_options.hpp>

#ifdef SCALEDOT_WRONG
using element = int;
#else
using element = bool;
#endif

int main()
{
    const xt::xtensor<element, 2> mask = {{element(1), element(0)}};
    return scaledot::mask_view(mask) ? 0 : 1;
}
