// SPDX-License-Identifier: BSD-3-Clause
// A temporary container is gone before a stored mask_view is used.
// expects: scaledot: a mask must outlive the call: a temporary container does not, give it a name
#include <scaledot/attention_options.hpp>

#include <utility>

int main()
{
    xt::xtensor<bool, 2> may_attend = {{true, false}};
#ifdef SCALEDOT_WRONG
    const scaledot::attention_options options{.mask = std::move(may_attend)};
#else
    const scaledot::attention_options options{.mask = may_attend};
#endif
    return options.mask ? 0 : 1;
}
