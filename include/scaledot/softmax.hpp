// SPDX-License-Identifier: BSD-3-Clause
// softmax, log_softmax and logsumexp along any axis, at any temperature. Their arithmetic lives in kernel/softmax.hpp.
#ifndef SCALEDOT_SOFTMAX_HPP
#define SCALEDOT_SOFTMAX_HPP

#include <scaledot/detail/check.hpp>
#include <scaledot/detail/config.hpp>
#include <scaledot/detail/overlap.hpp>
#include <scaledot/detail/softmax_run.hpp>
#include <scaledot/detail/view.hpp>

#include <cstddef>

namespace scaledot::inline SCALEDOT_BUILD {

/// Options of softmax, log_softmax and logsumexp.
struct softmax_options {
    std::ptrdiff_t axis = -1; ///< the axis they run along; negative: from the end
    double temperature = 1.0; ///< T >= 0, what logits are divided by
};

/// Largest error of softmax in float and double, in units in the last place of the exact value, for any finite logits
/// and temperature, where the exact value is a normal number.
inline constexpr double softmax_max_ulp = 2.0;
/// The same of log_softmax, also next to 0.
inline constexpr double log_softmax_max_ulp = 2.0;
/// The same of logsumexp, in ulp of max(|maximum / T|, |result|).
inline constexpr double logsumexp_max_ulp = 2.0;

namespace detail {

template <class E>
void check_softmax_types()
{
    static_assert(element<element_of<E>>, "scaledot: softmax needs float, double, half or bfloat16 elements");
    static_assert(rank_of<E> != 0, "scaledot: softmax needs an array of rank 1 or more");
}

template <class T>
std::size_t check_softmax(const strided_view<T>& x, const softmax_options& options)
{
    if (!is_non_negative(options.temperature)) {
        reject("temperature", options.temperature, "0 or more");
    }
    return normalize_axis(options.axis, x.rank());
}

template <softmax_output Output, class Out, class E>
void softmax_into(Out&& out, const E& x, const softmax_options& options)
{
    check_softmax_types<E>();
    check_softmax_types<Out>();
    const input<E> in(x);
    const std::size_t axis = check_softmax(in.view(), options);
    output<std::remove_reference_t<Out>> result(out);
    require_shape("out", result.view().shape, in.view().shape, "that of x");
    require_distinct_elements(view_of(out));
    require_apart_or_identical(out, x, "x");
    run_softmax<Output>(in.view(), result.view(), axis, options.temperature);
    result.commit();
}

} // namespace detail

/// y[i,j] = exp((x[i,j] - m[i]) / T) / sum_k exp((x[i,k] - m[i]) / T),  m[i] = max_k x[i,k], written to out
///
/// @param out      same shape as x; may be x itself, may not share a part of it
/// @param x        logits, any rank >= 1; softmax runs along options.axis
/// @param options  axis (default: last) and temperature T (default: 1)
/// @throws std::invalid_argument  axis outside the rank, T negative or NaN, shapes that differ, overlapping memory
///
/// Special values  -inf gives 0; a row with NaN or +inf, or of -inf only, is all NaN. T = 0 is the limit: equal shares
///                 for all maxima, 0 elsewhere; T = inf gives equal shares to all logits above -inf.
/// Accuracy        at most softmax_max_ulp of the exact value in float and double (tests/softmax_test.cpp); half and
///                 bfloat16 are computed in float and rounded once. Results below the normal range are rounded
///                 gradually.
/// Determinism     bit-identical for any thread count and any position of the row among others.
/// Cost            memory is read once and written once: rows of a few logits are taken a vector's lanes at a time,
///                 long ones while the row before is written, past the caches where all results are 16 MiB or more;
///                 rows along another axis in blocks of columns. Contiguous rows whose logits are all within 4.85 T of 0
///                 (14.5 T in double) take a fifth fewer operations. Views whose last axis is contiguous are used in
///                 place, other expressions are copied first; beyond that at most 516 KiB a thread.
/// Source          Milakov & Gimelshein 2018; docs/numerics.md#softmax
template <class Out, detail::tensor E>
    requires detail::in_memory<Out>
void softmax_into(Out&& out, const E& x, const softmax_options& options = {})
{
    detail::softmax_into<detail::softmax_output::probabilities>(out, x, options);
}

/// softmax of x along options.axis as a new array of x's shape, element type and kind. See softmax_into.
template <detail::tensor E>
auto softmax(const E& x, const softmax_options& options = {})
{
    detail::check_softmax_types<E>();
    auto result = detail::make_like<E, detail::element_of<E>>(x.shape());
    softmax_into(result, x, options);
    return result;
}

/// y[i,j] = (x[i,j] - m[i]) / T - ln sum_k exp((x[i,k] - m[i]) / T),  m[i] = max_k x[i,k], written to out
///
/// Never through softmax: where one logit dominates, ln(1 + the others' weights) keeps its digits.
///
/// @param out      same shape as x; may be x itself, may not share a part of it
/// @param x        logits, any rank >= 1
/// @param options  axis (default: last) and temperature T (default: 1)
/// @throws std::invalid_argument  as softmax_into
///
/// Special values  -inf gives -inf; a row with NaN or +inf, or of -inf only, is all NaN. T = 0: -ln(number of maxima)
///                 for the maxima, -inf elsewhere; T = inf: -ln(number of logits above -inf).
/// Accuracy        at most log_softmax_max_ulp of the exact value in float and double, also next to 0.
/// Determinism, cost, source  as softmax_into; docs/numerics.md#log_softmax
template <class Out, detail::tensor E>
    requires detail::in_memory<Out>
void log_softmax_into(Out&& out, const E& x, const softmax_options& options = {})
{
    detail::softmax_into<detail::softmax_output::logarithms>(out, x, options);
}

/// log_softmax of x along options.axis as a new array of x's shape, element type and kind. See log_softmax_into.
template <detail::tensor E>
auto log_softmax(const E& x, const softmax_options& options = {})
{
    detail::check_softmax_types<E>();
    auto result = detail::make_like<E, detail::element_of<E>>(x.shape());
    log_softmax_into(result, x, options);
    return result;
}

/// y[i] = ln sum_k exp(x[i,k] / T), written to out
///
/// @param out      the shape of x without options.axis; may not share memory with x
/// @param x        logits, any rank >= 1
/// @param options  axis (default: last) and temperature T (default: 1)
/// @throws std::invalid_argument  as softmax_into
///
/// Special values  a row with NaN is NaN, else with +inf is +inf, else of -inf only (or empty) is -inf. T = inf: ln of
///                 the number of logits above -inf; T = 0: the limit, +inf, -inf or ln(number of maxima) as the maximum
///                 is positive, negative or 0.
/// Accuracy        at most logsumexp_max_ulp of max(|m / T|, |y|) in float and double.
/// Determinism     as softmax_into. Cost: two passes over each row.
/// Source          Blanchard, Higham & Higham 2021; docs/numerics.md#logsumexp
template <class Out, detail::tensor E>
    requires detail::in_memory<Out>
void logsumexp_into(Out&& out, const E& x, const softmax_options& options = {})
{
    detail::check_softmax_types<E>();
    static_assert(detail::element<detail::element_of<Out>>,
                  "scaledot: logsumexp needs float, double, half or bfloat16 elements");
    const detail::input<E> in(x);
    const std::size_t axis = detail::check_softmax(in.view(), options);
    detail::output<std::remove_reference_t<Out>> result(out);
    detail::require_shape("out", result.view().shape, detail::without_axis(in.view().shape, axis),
                          "that of x without the axis");
    detail::require_distinct_elements(detail::view_of(out));
    detail::require_apart(out, x, "x");
    detail::run_softmax<detail::softmax_output::logsumexp>(in.view(), result.view(), axis, options.temperature);
    result.commit();
}

/// logsumexp of x along options.axis as a new array of x's element type and kind, one rank lower. See logsumexp_into.
template <detail::tensor E>
auto logsumexp(const E& x, const softmax_options& options = {})
{
    detail::check_softmax_types<E>();
    constexpr std::size_t rank = detail::rank_of<E>;
    const std::size_t axis = detail::normalize_axis(options.axis, x.dimension());
    const detail::shape_vector shape(x.shape().begin(), x.shape().end());
    auto result = detail::make_like < E, detail::element_of<E>,
         rank == detail::dynamic_rank ? rank : rank - 1 > (detail::without_axis(shape, axis));
    logsumexp_into(result, x, options);
    return result;
}

} // namespace scaledot::inline SCALEDOT_BUILD

#endif
