// SPDX-License-Identifier: BSD-3-Clause
// rms_norm: every block of trailing axes divided by its root mean square, then scaled by gamma. Its arithmetic lives in
// kernel/moments.hpp and kernel/norm.hpp.
#ifndef SCALEDOT_RMS_NORM_HPP
#define SCALEDOT_RMS_NORM_HPP

#include <scaledot/detail/config.hpp>
#include <scaledot/detail/norm_arguments.hpp>
#include <scaledot/detail/view.hpp>

#include <cstddef>

namespace scaledot::inline SCALEDOT_BUILD {

/// Options of rms_norm.
struct rms_norm_options {
    std::ptrdiff_t axis = -1; ///< the first axis to normalise over, all to the last follow; negative: from the end
    double epsilon = 1e-5;    ///< added to the mean square, 0 or more; the default is ONNX's
};

/// Largest error of rms_norm in units in the last place of the exact value, where that is a normal number.
inline constexpr double rms_norm_max_ulp = 4;

/// What rms_norm_with_statistics returns. The statistic has x's rank, with extent 1 along the normalised axes.
template <class Output, class Statistics>
struct rms_norm_result {
    Output output;                       ///< as of rms_norm
    Statistics inverse_root_mean_square; ///< 1 / sqrt(mean square + epsilon)
};

namespace detail {

template <class X, class... Others>
constexpr void check_rms_norm_types()
{
    static_assert(norm_elements<X, Others...>, "scaledot: rms_norm needs float, double, half or bfloat16 elements");
}

template <class X, class G>
auto rms_norm(const X& x, const G& gamma, const rms_norm_options& options)
{
    auto result = make_like<X, element_of<X>>(x.shape());
    norm_into<norm_kind::root_mean_square>(result, x, gamma, no_parameter{}, options.axis, options.epsilon);
    return result;
}

template <class X, class G>
auto rms_norm_with_statistics(const X& x, const G& gamma, const rms_norm_options& options)
{
    using statistic = element_of<statistics_of<X>>;
    rms_norm_result<container_like<X, element_of<X>>, statistics_of<X>> result{
        make_like<X, element_of<X>>(x.shape()), make_like<X, statistic>(statistics_shape(x.shape(), options.axis))};
    const auto inverse = view_of(result.inverse_root_mean_square);
    const auto report = [&](std::size_t block, const kernel::normalization& n) {
        inverse.data[offset_of(inverse, block, 0)] = static_cast<statistic>(n.unscaled_inverse);
    };
    norm_into<norm_kind::root_mean_square>(result.output, x, gamma, no_parameter{}, options.axis, options.epsilon,
                                           report);
    return result;
}

} // namespace detail

/// y = x / sqrt(mean of x^2 + epsilon) * gamma, with the mean over the axes from options.axis to the last, written to
/// out. Without gamma it is 1.
///
/// @param out      same shape as x, any element type; may be x itself, may not share a part of it
/// @param x        rank >= 1, normalised in blocks of its trailing axes
/// @param gamma    exactly the shape of these axes; an element type of its own
/// @param options  axis (default: last) and epsilon >= 0 (default: 1e-5)
/// @throws std::invalid_argument  axis outside the rank, epsilon negative or not finite, shapes that do not fit,
///                                overlapping memory
///
/// Special values  a block with NaN or infinity is NaN, others are not touched by it; so is a block of zeros when
///                 epsilon is 0 (0 / 0).
/// Accuracy        at most rms_norm_max_ulp of the exact value in the output's type, without overflow or underflow of
///                 the squares whatever the magnitude of x (tests/rms_norm_test.cpp).
/// Determinism     bit-identical for any thread count and any position of the block.
/// Cost            two passes over each block (three once an argument is double), which reads memory once while a block
///                 fits the cache. Results of more than half of kernel::cached_bytes (or, on many threads,
///                 cached_bytes_of_thread for each) are written past the caches, but for bfloat16 to bfloat16. Views
///                 whose last axis is contiguous are used in place, other expressions are copied first.
/// Source          Zhang & Sennrich 2019; docs/numerics.md#rms_norm
template <class Out, detail::tensor X, detail::tensor G>
    requires detail::in_memory<Out>
void rms_norm_into(Out&& out, const X& x, const G& gamma, const rms_norm_options& options = {})
{
    detail::check_rms_norm_types<X, Out, G>();
    detail::norm_into<detail::norm_kind::root_mean_square>(out, x, gamma, detail::no_parameter{}, options.axis,
                                                           options.epsilon);
}

/// rms_norm without gamma, written to out. See rms_norm_into above.
template <class Out, detail::tensor X>
    requires detail::in_memory<Out>
void rms_norm_into(Out&& out, const X& x, const rms_norm_options& options = {})
{
    detail::check_rms_norm_types<X, Out>();
    detail::norm_into<detail::norm_kind::root_mean_square>(out, x, detail::no_parameter{}, detail::no_parameter{},
                                                           options.axis, options.epsilon);
}

/// rms_norm of x as a new array of x's shape, element type and kind. See rms_norm_into.
template <detail::tensor X, detail::tensor G>
auto rms_norm(const X& x, const G& gamma, const rms_norm_options& options = {})
{
    detail::check_rms_norm_types<X, G>();
    return detail::rms_norm(x, gamma, options);
}

/// rms_norm without gamma. See rms_norm_into.
template <detail::tensor X>
auto rms_norm(const X& x, const rms_norm_options& options = {})
{
    detail::check_rms_norm_types<X>();
    return detail::rms_norm(x, detail::no_parameter{}, options);
}

/// rms_norm with 1 / sqrt(mean square + epsilon) of each block, in float (double for double), rounded once; NaN for
/// blocks with NaN or infinity, and for blocks without elements. See rms_norm_into.
template <detail::tensor X, detail::tensor G>
auto rms_norm_with_statistics(const X& x, const G& gamma, const rms_norm_options& options = {})
{
    detail::check_rms_norm_types<X, G>();
    return detail::rms_norm_with_statistics(x, gamma, options);
}

/// The same without gamma.
template <detail::tensor X>
auto rms_norm_with_statistics(const X& x, const rms_norm_options& options = {})
{
    detail::check_rms_norm_types<X>();
    return detail::rms_norm_with_statistics(x, detail::no_parameter{}, options);
}

} // namespace scaledot::inline SCALEDOT_BUILD

#endif
