// SPDX-License-Identifier: BSD-3-Clause
// LayerNorm and RMSNorm, for scaledot::dispatch.
#include "calls.hpp"

#include <scaledot/detail/element.hpp>
#include <scaledot/detail/norm_driver.hpp>

#include <cstddef>
#include <type_traits>

namespace scaledot::inline SCALEDOT_BUILD::calls {
namespace {

template <detail::norm_kind Kind, class S, class G, class B>
void normalize_with(const compiled::norm_call& call, const G& gamma, const B& beta)
{
    const auto report = [&](std::size_t block, const kernel::normalization& n) {
        call.report.call(call.report.context, {block, n.unscaled_mean, n.unscaled_inverse});
    };
    detail::drive_norm<native_architecture, Kind, detail::arithmetic_t<S>>(
        view_of<S>(call.out), view_of<const S>(call.x), gamma, beta, call.axis, call.epsilon,
        call.report.context ? detail::norm_report(report) : detail::norm_report());
}

template <class S, class P>
void normalize_by(const compiled::norm_call& call)
{
    using enum detail::norm_kind;
    const auto gamma = view_of<const P>(call.gamma);
    const detail::no_parameter none;
    if (!call.centred) {
        normalize_with<root_mean_square, S>(call, gamma, none);
    } else if (call.beta.type == compiled::element_type::none) {
        normalize_with<centred, S>(call, gamma, none);
    } else {
        normalize_with<centred, S>(call, gamma, view_of<const P>(call.beta));
    }
}

} // namespace

void norm(const compiled::norm_call& call)
{
    using enum detail::norm_kind;
    callers_threads threads(call.threads);
    with_element(call.x.type, [&]<class S>() {
        const detail::no_parameter none;
        if (call.gamma.type == compiled::element_type::none) {
            call.centred ? normalize_with<centred, S>(call, none, none)
                         : normalize_with<root_mean_square, S>(call, none, none);
        } else if (call.gamma.type == call.x.type) {
            normalize_by<S, S>(call);
        } else {
            normalize_by<S, detail::arithmetic_t<S>>(call);
        }
    });
}

} // namespace scaledot::inline SCALEDOT_BUILD::calls
