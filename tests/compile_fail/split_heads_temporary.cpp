// SPDX-License-Identifier: BSD-3-Clause
// The view would outlive the elements of a temporary container.
// expects: scaledot: split_heads gives a view: a temporary container would not outlive it, give it a name
#include <scaledot/split_heads.hpp>

#include <utility>

int main()
{
    xt::xtensor<float, 2> packed = {{1, 2, 3, 4}};
#ifdef SCALEDOT_WRONG
    return scaledot::split_heads(std::move(packed), 2).dimension() == 3 ? 0 : 1;
#else
    return scaledot::split_heads(packed, 2).dimension() == 3 ? 0 : 1;
#endif
}
