// SPDX-License-Identifier: BSD-3-Clause
// Runs a norm on views, here or in the kernels of scaledot::dispatch.
#ifndef SCALEDOT_DETAIL_NORM_RUN_HPP
#define SCALEDOT_DETAIL_NORM_RUN_HPP

#include <scaledot/detail/compiled_calls.hpp>
#include <scaledot/detail/config.hpp>
#include <scaledot/detail/element.hpp>
#include <scaledot/detail/norm_blocks.hpp>
#include <scaledot/detail/norm_driver.hpp>
#include <scaledot/detail/view.hpp>
#include <scaledot/kernel/norm.hpp>
#include <scaledot/kernel/simd.hpp>

#include <concepts>
#include <cstddef>
#include <type_traits>

namespace scaledot::inline SCALEDOT_BUILD::detail {

/// Element type of a parameter's view; S where there is none.
template <class View, class S>
struct parameter_element {
    using type = S;
};

template <class P, class S>
struct parameter_element<strided_view<const P>, S> {
    using type = P;
};

/// A norm into x's type, whose parameters are of x's type, or float where that is smaller.
template <class O, class S, class G, class B>
inline constexpr bool norm_is_compiled = dispatching && std::same_as<O, S> &&
                                         (std::same_as<B, no_parameter> || std::same_as<G, B>)&&(
                                             std::same_as<typename parameter_element<G, S>::type, S> ||
                                             std::same_as<typename parameter_element<G, S>::type, arithmetic_t<S>>);

inline compiled::array<const void> parameter_array(no_parameter)
{
    return {};
}

template <class P>
compiled::array<const void> parameter_array(const strided_view<const P>& view)
{
    return array_of(view);
}

template <class O, class S, class G, class B>
void normalize_compiled(bool centred, const strided_view<O>& out, const strided_view<const S>& x, const G& gamma,
                        const B& beta, std::size_t axis, double epsilon, const norm_report& report)
{
    compiled::norm_call call{};
    call.centred = centred;
    call.out = array_of(out);
    call.x = array_of(x);
    call.gamma = parameter_array(gamma);
    call.beta = parameter_array(beta);
    call.axis = axis;
    call.epsilon = epsilon;
    if (report) {
        call.report = {&report, [](const void* context, const compiled::norm_report& block) {
                           kernel::normalization n;
                           n.unscaled_mean = block.mean;
                           n.unscaled_inverse = block.inverse;
                           (*static_cast<const norm_report*>(context))(block.block, n);
                       }};
    }
    call.threads = threads_of_caller();
    compiled::selected_kernels().norm(call);
}

/// Normalises the blocks of x along its axes from `axis` on into out with the widest kernels there are, and tells
/// report, of which only the unscaled mean and inverse are meant.
template <norm_kind Kind, class O, class S, class G, class B>
void run_norm(const strided_view<O>& out, const strided_view<const S>& x, const G& gamma, const B& beta,
              std::size_t axis, double epsilon, const norm_report& report)
{
    using arithmetic =
        arithmetic_t<O, S, typename parameter_element<G, S>::type, typename parameter_element<B, S>::type>;
    if constexpr (norm_is_compiled<O, S, G, B>) {
        normalize_compiled(Kind == norm_kind::centred, out, x, gamma, beta, axis, epsilon, report);
    } else {
        drive_norm<native_architecture, Kind, arithmetic>(out, x, gamma, beta, axis, epsilon, report);
    }
}

} // namespace scaledot::inline SCALEDOT_BUILD::detail

#endif
