// SPDX-License-Identifier: BSD-3-Clause
// Softmax, its logarithms and logsumexp, for scaledot::dispatch.
#include "calls.hpp"

#include <scaledot/detail/element.hpp>
#include <scaledot/detail/softmax_driver.hpp>

#include <type_traits>

namespace scaledot::inline SCALEDOT_BUILD::calls {
void softmax(const compiled::softmax_call& call)
{
    callers_threads threads(call.threads);
    const auto output = static_cast<detail::softmax_output>(call.output);
    with_element(call.x.type, [&]<class S>() {
        using T = detail::arithmetic_t<S>;
        const auto run = [&]<class R>(const detail::strided_view<R>& y) {
            detail::drive_softmax<native_architecture>(view_of<const S>(call.x), y, call.axis, call.temperature,
                                                       output);
        };
        if (call.y.type == call.x.type) {
            run(view_of<S>(call.y));
        } else if constexpr (!std::is_same_v<S, T>) {
            run(view_of<T>(call.y));
        }
    });
}

} // namespace scaledot::inline SCALEDOT_BUILD::calls
