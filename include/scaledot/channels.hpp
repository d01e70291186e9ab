// SPDX-License-Identifier: BSD-3-Clause
// What the learned weight or bias of a normalisation does to its channels: how much it shrinks or grows them, which it
// has switched off, and which stand out.
#ifndef SCALEDOT_CHANNELS_HPP
#define SCALEDOT_CHANNELS_HPP

#include <scaledot/detail/check.hpp>
#include <scaledot/detail/config.hpp>
#include <scaledot/detail/element.hpp>
#include <scaledot/detail/summary.hpp>
#include <scaledot/detail/view.hpp>
#include <scaledot/detail/xtensor.hpp>
#include <scaledot/kernel/simd.hpp>
#include <scaledot/statistics.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

namespace scaledot::inline SCALEDOT_BUILD {

/// A channel that stands out.
struct outlier_channel {
    std::size_t index; ///< of the channel, from 0
    double value;      ///< with the offset added
    double robust_z;   ///< (value - median) / (1.4826 median |value - median|)
};

/// What summarize_channels() returns. Shares are of all channels, those that are not finite included.
struct channel_summary {
    summary finite;                        ///< count, mean, standard deviation and extremes of the finite channels
    double median = 0;                     ///< of the finite channels, NaN without any
    double median_deviation = 0;           ///< median |value - median| of the finite channels, NaN without any
    double root_mean_square = 0;           ///< of the finite channels, NaN without any: of a gamma, the effective gain
    std::size_t not_finite = 0;            ///< channels that are NaN or infinite
    double shrinking = 0;                  ///< share with |value| < 1, those switched off included
    double growing = 0;                    ///< share with |value| > 1, infinite ones included
    double negative = 0;                   ///< share below 0
    double dead = 0;                       ///< share with |value| < dead_below
    std::vector<outlier_channel> outliers; ///< by |robust_z|, largest first; equal ones by index
};

/// Options of summarize_channels.
struct channel_options {
    /// added to every value: 1 for a gamma stored as its distance from 1 (Gemma's)
    double offset = 0;
    /// a smaller |value| counts as switched off
    double dead_below = 1e-3;
    /// |robust_z| from which on a channel is an outlier
    double outlier_from = 8;
};

/// The channels of a gamma or beta, one element each.
///
/// A normalised input has mean square 1, so a gamma with independent channels leaves it with a root mean square of
/// sqrt(mean gamma^2): the effective gain. The robust z-score measures distance from the median in median deviations,
/// times 1.4826 so that it is a standard deviation for Gaussian channels: unlike a plain one it is not moved by the
/// outliers themselves.
///
/// @param values   any tensor of float, double, half or bfloat16; channels are counted in row-major order
/// @param options  see channel_options
/// @throws std::invalid_argument  offset not finite, dead_below or outlier_from negative or NaN
///
/// Special values  NaN and infinite channels are counted, are no outliers and have no part in the other figures but the
///                 shares. Where the median deviation is 0, a channel that differs has an infinite z-score. No
///                 channels: all shares are 0.
/// Accuracy        mean and standard deviation as summarize().
/// Cost            a few passes and two sorts of a copy as doubles.
template <detail::tensor E>
channel_summary summarize_channels(const E& values, const channel_options& options = {})
{
    static_assert(detail::element<detail::element_of<E>>,
                  "scaledot: summarize_channels needs float, double, half or bfloat16 elements");
    if (!detail::is_finite(options.offset)) {
        detail::reject("offset", options.offset, "finite");
    }
    if (!detail::is_non_negative(options.dead_below)) {
        detail::reject("dead_below", options.dead_below, "at least 0");
    }
    if (!detail::is_non_negative(options.outlier_from)) {
        detail::reject("outlier_from", options.outlier_from, "at least 0");
    }
    const detail::input<E> in(values);
    std::vector<double> all = detail::elements_as_doubles(in.view());
    std::vector<double> finite;
    channel_summary result;
    for (double& value : all) {
        value += options.offset;
        if (detail::is_finite(value)) {
            finite.push_back(value);
        }
        result.shrinking += std::abs(value) < 1 ? 1 : 0;
        result.growing += std::abs(value) > 1 ? 1 : 0;
        result.negative += value < 0 ? 1 : 0;
        result.dead += std::abs(value) < options.dead_below ? 1 : 0;
    }
    for (double* share : {&result.shrinking, &result.growing, &result.negative, &result.dead}) {
        *share /= static_cast<double>(std::max<std::size_t>(all.size(), 1));
    }
    result.not_finite = all.size() - finite.size();
    result.finite = summarize(xt::adapt(finite));
    if (finite.empty()) {
        result.median = result.median_deviation = result.root_mean_square = kernel::quiet_nan<double>();
        return result;
    }
    result.root_mean_square = std::hypot(result.finite.mean, result.finite.standard_deviation);
    // Qualified: newer versions of xtensor have a quantile of their own.
    result.median = scaledot::quantile(xt::adapt(finite), 0.5);
    std::transform(finite.begin(), finite.end(), finite.begin(),
                   [&](double value) { return std::abs(value - result.median); });
    result.median_deviation = scaledot::quantile(xt::adapt(finite), 0.5);

    constexpr double gaussian = 1.4826022185056018; // standard deviation over median deviation
    for (std::size_t i = 0; i < all.size(); ++i) {
        const double distance = all[i] - result.median;
        if (!detail::is_finite(all[i]) || distance == 0) {
            continue;
        }
        const double z = result.median_deviation > 0 ? distance / (gaussian * result.median_deviation)
                                                     : std::copysign(kernel::infinity<double>, distance);
        if (std::abs(z) >= options.outlier_from) {
            result.outliers.push_back({i, all[i], z});
        }
    }
    std::sort(result.outliers.begin(), result.outliers.end(), [](const auto& a, const auto& b) {
        const double of_a = std::abs(a.robust_z);
        const double of_b = std::abs(b.robust_z);
        return of_a > of_b || (of_a == of_b && a.index < b.index);
    });
    return result;
}

} // namespace scaledot::inline SCALEDOT_BUILD

#endif
