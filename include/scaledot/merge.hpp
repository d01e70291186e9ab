// SPDX-License-Identifier: BSD-3-Clause
// Attention over two ranges of keys made one: for caches split over machines, and prefixes computed once.
#ifndef SCALEDOT_MERGE_HPP
#define SCALEDOT_MERGE_HPP

#include <scaledot/attention.hpp>
#include <scaledot/detail/attention_call.hpp>
#include <scaledot/detail/config.hpp>
#include <scaledot/detail/overlap.hpp>
#include <scaledot/detail/shared_work.hpp>
#include <scaledot/detail/view.hpp>
#include <scaledot/executor.hpp>

#include <cmath>
#include <cstddef>
#include <utility>

namespace scaledot::inline SCALEDOT_BUILD {
namespace detail {

/// The shares of two parts in their merge, and its lse; an empty part (lse -inf) has share 0, the other exactly 1. Not
/// finite: a part's lse is NaN or +inf, all is NaN (a flag, as -ffast-math may take NaN == 0 for true).
struct merge_shares {
    double left;
    double right;
    double lse;
    bool finite = true;
};

inline merge_shares shares_of(double left, double right)
{
    if (is_nan(left) || is_nan(right) || is_positive_infinity(left) || is_positive_infinity(right)) {
        const double nan = kernel::quiet_nan<double>();
        return {nan, nan, nan, false};
    }
    if (is_negative_infinity(right)) {
        return {1, 0, left};
    }
    if (is_negative_infinity(left)) {
        return {0, 1, right};
    }
    const double largest = left < right ? right : left;
    const double of_left = std::exp(left - largest);
    const double of_right = std::exp(right - largest);
    const double sum = of_left + of_right;
    return {of_left / sum, of_right / sum, largest + std::log1p(left < right ? of_left : of_right)};
}

} // namespace detail

/// output = sum_i exp(lse_i - lse) output_i,  lse = ln sum_i exp(lse_i): attention over the keys of both parts, from
/// what attention_with_lse returned for each
///
/// @param left, right  results for the same queries over disjoint keys; outputs of the same shape and element type
/// @return             an attention_result of left's kind
/// @throws std::invalid_argument  shapes that differ
///
/// Special values  a part whose lse is -inf saw no key and changes no bit of the other; an lse of NaN or +inf makes its
///                 row NaN. Sinks belong to exactly one of the parts.
/// Accuracy        shares are computed in double; one rounding of the result.
/// Determinism     bit-identical for any number of threads; associative up to rounding.
/// Cost            one read of both outputs and one write.
template <class Output, class Lse>
attention_result<Output, Lse> merge(const attention_result<Output, Lse>& left,
                                    const attention_result<Output, Lse>& right)
{
    using T = detail::element_of<Output>;
    const auto left_output = detail::view_of(left.output);
    const auto right_output = detail::view_of(right.output);
    const auto left_lse = detail::view_of(left.lse);
    const auto right_lse = detail::view_of(right.lse);
    detail::require_shape("right.output", right_output.shape, left_output.shape, "that of left.output");
    if (left_output.rank() == 0) {
        detail::reject("the rank of left.output", 0, "1 or more");
    }
    const auto rows_shape = detail::row_shape(left_output);
    detail::require_shape("left.lse", left_lse.shape, rows_shape, "that of left.output without its last axis");
    detail::require_shape("right.lse", right_lse.shape, rows_shape, "that of left.lse");

    attention_result<Output, Lse> result{detail::make_like<Output, T>(left_output.shape),
                                         detail::make_like<Lse, detail::element_of<Lse>>(left_lse.shape)};
    const auto output = detail::view_of(result.output);
    const auto lse = detail::view_of(result.lse);
    const std::size_t size = output.extent(-1);
    const std::size_t rows = detail::element_count(rows_shape);
    const std::size_t parts = detail::part_count(rows, 4.0 * static_cast<double>(size) + 64);
    detail::run_ranges(rows, parts, 1, [&](std::size_t, std::size_t begin, std::size_t end) {
        for (std::size_t row = begin; row < end; ++row) {
            const auto shares =
                detail::shares_of(static_cast<double>(left_lse.data[detail::offset_of(left_lse, row, 0)]),
                                  static_cast<double>(right_lse.data[detail::offset_of(right_lse, row, 0)]));
            lse.data[detail::offset_of(lse, row, 0)] = static_cast<detail::element_of<Lse>>(shares.lse);
            const T* a = left_output.data + detail::offset_of(left_output, row, 1);
            const T* b = right_output.data + detail::offset_of(right_output, row, 1);
            T* c = output.data + detail::offset_of(output, row, 1);
            for (std::size_t i = 0; i < size; ++i) {
                c[i] = !shares.finite      ? kernel::to_storage<T>(shares.lse)
                       : shares.right == 0 ? a[i]
                       : shares.left == 0  ? b[i]
                                           : kernel::to_storage<T>(shares.left * kernel::to_arithmetic<double>(a[i]) +
                                                                  shares.right * kernel::to_arithmetic<double>(b[i]));
            }
        }
    });
    return result;
}

} // namespace scaledot::inline SCALEDOT_BUILD

#endif
