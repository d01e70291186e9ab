// SPDX-License-Identifier: BSD-3-Clause
// Softmax, its logarithms and logsumexp, for scaledot::dispatch.
#include "calls.hpp"

#include <scaledot/detail/element.hpp>
#include <scaledot/detail/softmax_driver.hpp>

#include <type_traits>

namespace scaledot::inline SCALEDOT_BUILD::calls {
namespace {

template <class S, class R>
void run(const compiled::softmax_call& call)
{
    using enum detail::softmax_output;
    const auto as = [&]<detail::softmax_output Output>() {
        detail::drive_softmax<native_architecture, Output>(view_of<const S>(call.x), view_of<R>(call.y), call.axis,
                                                           call.temperature);
    };
    switch (static_cast<detail::softmax_output>(call.output)) {
    case probabilities:
        return as.template operator()<probabilities>();
    case logarithms:
        return as.template operator()<logarithms>();
    case logsumexp:
        return as.template operator()<logsumexp>();
    }
}

} // namespace

void softmax(const compiled::softmax_call& call)
{
    callers_threads threads(call.threads);
    with_element(call.x.type, [&]<class S>() {
        using T = detail::arithmetic_t<S>;
        if (call.y.type == call.x.type) {
            run<S, S>(call);
        } else if constexpr (!std::is_same_v<S, T>) {
            run<S, T>(call);
        }
    });
}

} // namespace scaledot::inline SCALEDOT_BUILD::calls
