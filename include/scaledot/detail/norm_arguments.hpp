// SPDX-License-Identifier: BSD-3-Clause
// What layer_norm and rms_norm have in common: checks of their arguments, and where their statistics go.
#ifndef SCALEDOT_DETAIL_NORM_ARGUMENTS_HPP
#define SCALEDOT_DETAIL_NORM_ARGUMENTS_HPP

#include <scaledot/detail/check.hpp>
#include <scaledot/detail/config.hpp>
#include <scaledot/detail/element.hpp>
#include <scaledot/detail/norm_run.hpp>
#include <scaledot/detail/overlap.hpp>
#include <scaledot/detail/view.hpp>

#include <cstddef>
#include <type_traits>

namespace scaledot::inline SCALEDOT_BUILD::detail {

/// A gamma or beta in memory.
template <class P>
class norm_parameter {
public:
    explicit norm_parameter(const P& parameter) : parameter_(parameter), in_(parameter) {}

    const auto& view() const { return in_.view(); }

    template <class Out>
    void check(const char* name, const shape_vector& normalized, Out& out) const
    {
        require_shape(name, view().shape, normalized, "that of x from axis on");
        require_apart(out, parameter_, name);
    }

private:
    const P& parameter_;
    input<P> in_;
};

template <>
class norm_parameter<no_parameter> {
public:
    explicit norm_parameter(no_parameter) {}

    no_parameter view() const { return {}; }

    template <class Out>
    void check(const char*, const shape_vector&, Out&) const
    {
    }
};

/// Element type of a parameter; X's where there is none.
template <class P, class X>
struct norm_element {
    using type = element_of<P>;
};

template <class X>
struct norm_element<no_parameter, X> {
    using type = element_of<X>;
};

template <class X, class... Others>
inline constexpr bool norm_elements =
    (element<element_of<X>> && ... && element<typename norm_element<Others, X>::type>);

/// Checks everything, then normalises x into out and tells report.
template <norm_kind Kind, class Out, class X, class G, class B>
void norm_into(Out&& out, const X& x, const G& gamma, const B& beta, std::ptrdiff_t axis, double epsilon,
               const norm_report& report = {})
{
    if (!is_non_negative(epsilon) || !is_finite(epsilon)) {
        reject("epsilon", epsilon, "finite and at least 0");
    }
    const input<X> in(x);
    const shape_vector& shape = in.view().shape;
    const std::size_t first = normalize_axis(axis, shape.size());
    const shape_vector normalized(shape.begin() + static_cast<std::ptrdiff_t>(first), shape.end());
    output<std::remove_reference_t<Out>> result(out);
    const norm_parameter<G> factor(gamma);
    const norm_parameter<B> summand(beta);
    require_shape("out", result.view().shape, shape, "that of x");
    require_distinct_elements(view_of(out));
    require_apart_or_identical(out, x, "x");
    factor.check("gamma", normalized, out);
    summand.check("beta", normalized, out);
    run_norm<Kind>(result.view(), in.view(), factor.view(), summand.view(), first, epsilon, report);
    result.commit();
}

/// The shape of statistics: x's with extent 1 from axis on.
template <class Shape>
shape_vector statistics_shape(const Shape& shape, std::ptrdiff_t axis)
{
    shape_vector result(shape.begin(), shape.end());
    for (std::size_t i = normalize_axis(axis, result.size()); i < result.size(); ++i) {
        result[i] = 1;
    }
    return result;
}

/// Where statistics of X are kept: float, double for double.
template <class X>
using statistics_of = container_like<X, arithmetic_t<element_of<X>>>;

} // namespace scaledot::inline SCALEDOT_BUILD::detail

#endif
