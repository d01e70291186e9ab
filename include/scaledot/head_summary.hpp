// SPDX-License-Identifier: BSD-3-Clause
// A figure of attention's rows, taken together head by head.
#ifndef SCALEDOT_HEAD_SUMMARY_HPP
#define SCALEDOT_HEAD_SUMMARY_HPP

#include <scaledot/detail/check.hpp>
#include <scaledot/detail/config.hpp>
#include <scaledot/detail/head_rows.hpp>
#include <scaledot/kernel/simd.hpp>

#include <algorithm>
#include <cstddef>
#include <vector>

namespace scaledot::inline SCALEDOT_BUILD {

/// One figure over the rows of a head that have it: a row without a key has no largest logit, one with a NaN logit has
/// nothing.
struct head_summary {
    std::size_t rows = 0;                         ///< whose figure is finite
    double minimum = kernel::quiet_nan<double>(); ///< over these rows, NaN without any
    double maximum = kernel::quiet_nan<double>(); ///< over these rows, NaN without any
    double mean = kernel::quiet_nan<double>();    ///< over these rows, NaN without any
};

/// Summaries of a figure of attention_diagnostics, `summarize_heads(d.max_logit)` say. Quantiles of a head's rows are
/// those of its row of the figure: quantile(xt::row(...), p).
///
/// @param figure  [..., heads, queries]; of softmax_diagnostics, whose last axis is taken as one head's
/// @return        one summary per head and batch entry, in row-major order; NaN where no row has the figure
/// Accuracy       the mean is summed in double. Cost: one pass.
template <class Figure>
std::vector<head_summary> summarize_heads(const Figure& figure)
{
    const detail::head_rows size = detail::head_rows_of(figure);
    std::vector<head_summary> summaries(size.heads);
    for (std::size_t head = 0; head < size.heads; ++head) {
        head_summary& summary = summaries[head];
        double sum = 0;
        for (std::size_t row = head * size.queries; row < (head + 1) * size.queries; ++row) {
            const auto value = static_cast<double>(figure.data()[row]);
            if (!detail::is_finite(value)) {
                continue;
            }
            summary.minimum = summary.rows == 0 ? value : std::min(summary.minimum, value);
            summary.maximum = summary.rows == 0 ? value : std::max(summary.maximum, value);
            sum += value;
            ++summary.rows;
        }
        if (summary.rows > 0) {
            summary.mean = sum / static_cast<double>(summary.rows);
        }
    }
    return summaries;
}

} // namespace scaledot::inline SCALEDOT_BUILD

#endif
