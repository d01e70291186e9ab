// SPDX-License-Identifier: BSD-3-Clause
// layer_norm: every block of trailing axes shifted and scaled to mean 0 and variance 1, then by gamma and beta. Its
// arithmetic lives in kernel/moments.hpp and kernel/norm.hpp.
#ifndef SCALEDOT_LAYER_NORM_HPP
#define SCALEDOT_LAYER_NORM_HPP

#include <scaledot/detail/config.hpp>
#include <scaledot/detail/norm_arguments.hpp>
#include <scaledot/detail/view.hpp>

#include <cstddef>

namespace scaledot::inline SCALEDOT_BUILD {

/// Options of layer_norm.
struct layer_norm_options {
    std::ptrdiff_t axis = -1; ///< the first axis to normalise over, all to the last follow; negative: from the end
    double epsilon = 1e-5;    ///< added to the variance, 0 or more
};

/// Largest error of layer_norm in units in the last place of max(|y|, |gamma * normalised x|, |beta|).
inline constexpr double layer_norm_max_ulp = 4;

/// What layer_norm_with_statistics returns. The statistics have x's rank, with extent 1 along the normalised axes.
template <class Output, class Statistics>
struct layer_norm_result {
    Output output;                         ///< as of layer_norm
    Statistics mean;                       ///< of each block
    Statistics inverse_standard_deviation; ///< 1 / sqrt(variance + epsilon)
};

namespace detail {

template <class X, class... Others>
constexpr void check_layer_norm_types()
{
    static_assert(norm_elements<X, Others...>, "scaledot: layer_norm needs float, double, half or bfloat16 elements");
}

template <class X, class G, class B>
auto layer_norm(const X& x, const G& gamma, const B& beta, const layer_norm_options& options)
{
    auto result = make_like<X, element_of<X>>(x.shape());
    norm_into<norm_kind::centred>(result, x, gamma, beta, options.axis, options.epsilon);
    return result;
}

template <class X, class G, class B>
auto layer_norm_with_statistics(const X& x, const G& gamma, const B& beta, const layer_norm_options& options)
{
    using statistic = element_of<statistics_of<X>>;
    const shape_vector shape = statistics_shape(x.shape(), options.axis);
    layer_norm_result<container_like<X, element_of<X>>, statistics_of<X>> result{
        make_like<X, element_of<X>>(x.shape()), make_like<X, statistic>(shape), make_like<X, statistic>(shape)};
    const auto mean = view_of(result.mean);
    const auto inverse = view_of(result.inverse_standard_deviation);
    const auto report = [&](std::size_t block, const kernel::normalization& n) {
        mean.data[offset_of(mean, block, 0)] = static_cast<statistic>(n.unscaled_mean);
        inverse.data[offset_of(inverse, block, 0)] = static_cast<statistic>(n.unscaled_inverse);
    };
    norm_into<norm_kind::centred>(result.output, x, gamma, beta, options.axis, options.epsilon, report);
    return result;
}

} // namespace detail

/// y = (x - mean) / sqrt(variance + epsilon) * gamma + beta, with mean and (biased) variance over the axes from
/// options.axis to the last, written to out. Without gamma and beta they are 1 and 0.
///
/// @param out          same shape as x, any element type; may be x itself, may not share a part of it
/// @param x            rank >= 1, normalised in blocks of its trailing axes
/// @param gamma, beta  exactly the shape of these axes; element types of their own
/// @param options      axis (default: last) and epsilon >= 0 (default: 1e-5)
/// @throws std::invalid_argument  axis outside the rank, epsilon negative or not finite, shapes that do not fit,
///                                overlapping memory
///
/// Special values  a block with NaN or infinity is NaN, others are not touched by it; so is a block of equal elements
///                 when epsilon is 0 (0 / 0). With epsilon > 0 such a block is beta.
/// Accuracy        at most layer_norm_max_ulp of max(|y|, |gamma * normalised x|, |beta|) in the output's type,
///                 whatever the ratio of mean to standard deviation, without overflow up to the largest finite x
///                 (tests/layer_norm_test.cpp). Of double, blocks are excepted in which large elements cancel and others
///                 are 2^30 times smaller: docs/numerics.md#layer_norm says what holds there.
/// Determinism     bit-identical for any thread count and any position of the block.
/// Cost            two passes over each block (four once an argument is double), which reads memory once while a block
///                 fits the cache. Results of more than half of kernel::cached_bytes (or, on many threads,
///                 cached_bytes_of_thread for each) are written past the caches, but for bfloat16 to bfloat16.
///                 Blocks of several segments, and those whose mean or variance takes more care, cost a few times as
///                 much. Views whose last axis is contiguous are used in place, other expressions are copied first.
/// Source          Ba, Kiros & Hinton 2016; docs/numerics.md#layer_norm
template <class Out, detail::tensor X, detail::tensor G, detail::tensor B>
    requires detail::in_memory<Out>
void layer_norm_into(Out&& out, const X& x, const G& gamma, const B& beta, const layer_norm_options& options = {})
{
    detail::check_layer_norm_types<X, Out, G, B>();
    detail::norm_into<detail::norm_kind::centred>(out, x, gamma, beta, options.axis, options.epsilon);
}

/// layer_norm with gamma and without beta, written to out. See layer_norm_into above.
template <class Out, detail::tensor X, detail::tensor G>
    requires detail::in_memory<Out>
void layer_norm_into(Out&& out, const X& x, const G& gamma, const layer_norm_options& options = {})
{
    detail::check_layer_norm_types<X, Out, G>();
    detail::norm_into<detail::norm_kind::centred>(out, x, gamma, detail::no_parameter{}, options.axis, options.epsilon);
}

/// layer_norm without gamma and beta, written to out. See layer_norm_into above.
template <class Out, detail::tensor X>
    requires detail::in_memory<Out>
void layer_norm_into(Out&& out, const X& x, const layer_norm_options& options = {})
{
    detail::check_layer_norm_types<X, Out>();
    detail::norm_into<detail::norm_kind::centred>(out, x, detail::no_parameter{}, detail::no_parameter{}, options.axis,
                                                  options.epsilon);
}

/// layer_norm of x as a new array of x's shape, element type and kind. See layer_norm_into.
template <detail::tensor X, detail::tensor G, detail::tensor B>
auto layer_norm(const X& x, const G& gamma, const B& beta, const layer_norm_options& options = {})
{
    detail::check_layer_norm_types<X, G, B>();
    return detail::layer_norm(x, gamma, beta, options);
}

/// layer_norm with gamma and without beta. See layer_norm_into.
template <detail::tensor X, detail::tensor G>
auto layer_norm(const X& x, const G& gamma, const layer_norm_options& options = {})
{
    detail::check_layer_norm_types<X, G>();
    return detail::layer_norm(x, gamma, detail::no_parameter{}, options);
}

/// layer_norm without gamma and beta. See layer_norm_into.
template <detail::tensor X>
auto layer_norm(const X& x, const layer_norm_options& options = {})
{
    detail::check_layer_norm_types<X>();
    return detail::layer_norm(x, detail::no_parameter{}, detail::no_parameter{}, options);
}

/// layer_norm with the mean and 1 / sqrt(variance + epsilon) of each block, in float (double for double), rounded once.
/// Both are NaN for blocks with NaN or infinity, and for blocks without elements. See layer_norm_into.
template <detail::tensor X, detail::tensor G, detail::tensor B>
auto layer_norm_with_statistics(const X& x, const G& gamma, const B& beta, const layer_norm_options& options = {})
{
    detail::check_layer_norm_types<X, G, B>();
    return detail::layer_norm_with_statistics(x, gamma, beta, options);
}

/// The same with gamma and without beta.
template <detail::tensor X, detail::tensor G>
auto layer_norm_with_statistics(const X& x, const G& gamma, const layer_norm_options& options = {})
{
    detail::check_layer_norm_types<X, G>();
    return detail::layer_norm_with_statistics(x, gamma, detail::no_parameter{}, options);
}

/// The same without gamma and beta.
template <detail::tensor X>
auto layer_norm_with_statistics(const X& x, const layer_norm_options& options = {})
{
    detail::check_layer_norm_types<X>();
    return detail::layer_norm_with_statistics(x, detail::no_parameter{}, detail::no_parameter{}, options);
}

} // namespace scaledot::inline SCALEDOT_BUILD

#endif
