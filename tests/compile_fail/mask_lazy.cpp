// SPDX-License-Identifier: BSD-3-Clause
// A lazy expression has no elements in memory to look at.
// expects: scaledot: a mask must be in memory: evaluate the lazy expression into a container first
#include <scaledot/attention_options.hpp>

int main()
{
    const xt::xtensor<float, 2> bias = {{0.f, -1.f}};
#ifdef SCALEDOT_WRONG
    const scaledot::mask_view mask(2.f * bias);
#else
    const xt::xtensor<float, 2> doubled = 2.f * bias;
    const scaledot::mask_view mask(doubled);
#endif
    return mask ? 0 : 1;
}
