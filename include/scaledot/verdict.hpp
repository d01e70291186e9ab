// SPDX-License-Identifier: BSD-3-Clause
// What the diagnostics of a head say about it: in the zone or not by its measured entropy, and what would bring it
// back.
#ifndef SCALEDOT_VERDICT_HPP
#define SCALEDOT_VERDICT_HPP

#include <scaledot/detail/check.hpp>
#include <scaledot/detail/config.hpp>
#include <scaledot/detail/head_rows.hpp>
#include <scaledot/kernel/simd.hpp>
#include <scaledot/zone.hpp>

#include <cmath>
#include <cstddef>
#include <optional>
#include <string>
#include <vector>

namespace scaledot::inline SCALEDOT_BUILD {

/// One head's verdict, over those of its rows that leave a choice: two visible keys, or a key and a sink.
struct zone_verdict {
    std::optional<logit_zone> zone;      ///< by normalised_entropy; absent where no row leaves a choice
    double normalised_entropy = 0;       ///< mean over the rows of entropy / ln(keys and sink); NaN without rows
    double entropy = 0;                  ///< mean over the rows, nats; NaN without rows
    double logit_standard_deviation = 0; ///< root mean square over the rows; NaN without rows
    std::size_t rows = 0;                ///< that leave a choice
    std::size_t flat_rows = 0;           ///< of these, by classify_entropy
    std::size_t saturated_rows = 0;      ///< of these, by classify_entropy
    std::size_t invalid_rows = 0;        ///< rows with a NaN or +infinite logit; they are not among `rows`
    std::optional<logit_zone> by_spread; ///< what the logits' spread alone lets expect, as classify_logits
    double peak = 0; ///< mean over the rows of (maximum - mean) / spread / sqrt(2 ln keys): at most about 1 for
                     ///< Gaussian logits, large where a few keys stand apart; 0 for equal logits
    std::optional<double> temperature; ///< that would bring the head back, 1 where it is balanced; see head_verdicts
};

namespace detail {

/// zone_verdict::peak of logits whose spread tells what they are: Gaussian ones have at most 1 on average, a single row
/// of them seldom this much.
inline constexpr double largest_gaussian_peak = 1.5;

inline logit_zone zone_of(double normalised_entropy, double saturated)
{
    return normalised_entropy > flatness_entropy ? logit_zone::flat
           : normalised_entropy > saturated      ? logit_zone::balanced
                                                 : logit_zone::saturated;
}

template <class Diagnostics>
zone_verdict verdict_of_rows(const Diagnostics& diagnostics, std::size_t begin, std::size_t end)
{
    zone_verdict result;
    double saturated = 0; // sum of the rows' saturation_entropy
    double squares = 0;   // of the logits' deviations
    double ratios = 0;    // of these over the middle of the zone, squared
    double peaks = 0;
    for (std::size_t row = begin; row < end; ++row) {
        const auto entropy = static_cast<double>(diagnostics.entropy.data()[row]);
        const auto spread = static_cast<double>(diagnostics.logit_standard_deviation.data()[row]);
        const std::size_t visible = diagnostics.visible_keys.data()[row];
        const std::size_t keys = visible + (diagnostics.sink_probability.data()[row] > 0 ? 1 : 0);
        if (is_nan(entropy)) {
            ++result.invalid_rows;
            continue;
        }
        if (keys < 2) {
            continue;
        }
        ++result.rows;
        const logit_zone zone = classify_entropy(entropy, keys);
        result.flat_rows += zone == logit_zone::flat ? 1 : 0;
        result.saturated_rows += zone == logit_zone::saturated ? 1 : 0;
        result.entropy += entropy;
        result.normalised_entropy += entropy / std::log(static_cast<double>(keys));
        saturated += saturation_entropy(keys);
        squares += spread * spread;
        ratios += std::pow(spread / zone_centre(keys), 2);
        if (spread > 0) {
            const auto height = static_cast<double>(diagnostics.max_logit.data()[row]) -
                                static_cast<double>(diagnostics.logit_mean.data()[row]);
            peaks += height / spread / saturation_threshold(keys);
        }
    }
    const auto rows = static_cast<double>(result.rows);
    if (result.rows == 0) {
        result.entropy = result.normalised_entropy = result.logit_standard_deviation = kernel::quiet_nan<double>();
        return result;
    }
    result.entropy /= rows;
    result.normalised_entropy /= rows;
    result.logit_standard_deviation = std::sqrt(squares / rows);
    result.zone = zone_of(result.normalised_entropy, saturated / rows);
    const double ratio = std::sqrt(ratios / rows);
    const double half_width = std::sqrt(10.0); // from the middle of the zone to either threshold, as a factor
    result.by_spread = ratio * half_width < 1 ? logit_zone::flat
                       : ratio < half_width   ? logit_zone::balanced
                                              : logit_zone::saturated;
    result.peak = peaks / rows;
    const bool is_explained = result.zone == logit_zone::flat ? ratio < 1 && ratio > 0 : ratio > 1;
    if (result.zone == logit_zone::balanced) {
        result.temperature = 1;
    } else if (is_explained && result.peak <= largest_gaussian_peak) {
        result.temperature = ratio;
    }
    return result;
}

} // namespace detail

/// The verdict on each head, from its rows' figures.
///
/// zone is that of the mean normalised entropy: flat above 0.99, saturated from the mean of saturation_entropy down.
/// Where the logits look Gaussian, with a spread on the right side of the middle of the zone, that spread over the
/// middle's (root mean square over the rows) is the temperature: attention's scale divided by it, or logits divided by
/// it, bring the head back. Where a few keys stand apart from the rest (an attention sink in the data, say), or the
/// spread tells another story than the entropy, no temperature is given: recommended_temperature(logits) finds it from
/// a sample of the head's logits.
///
/// @param diagnostics  of attention_diagnostics, [..., heads, queries], or of softmax_diagnostics: the last axis is one
///                     head's
/// @return             one verdict per head and batch entry, in row-major order
/// Cost                a few logarithms a row.
/// Source              docs/numerics.md#zone
template <class Diagnostics>
std::vector<zone_verdict> head_verdicts(const Diagnostics& diagnostics)
{
    const detail::head_rows size = detail::head_rows_of(diagnostics.entropy);
    std::vector<zone_verdict> verdicts;
    verdicts.reserve(size.heads);
    for (std::size_t head = 0; head < size.heads; ++head) {
        verdicts.push_back(detail::verdict_of_rows(diagnostics, head * size.queries, (head + 1) * size.queries));
    }
    return verdicts;
}

/// A verdict as a sentence: "saturated: entropy 0.431 nats, 11.1 % of equal shares' (50 rows, 48 saturated, 0 flat),
/// logits spread 7.07; temperature 7.99 (scale times 0.125) brings it back".
inline std::string to_string(const zone_verdict& verdict)
{
    using detail::short_number;
    if (!verdict.zone) {
        return detail::text("no verdict: no row leaves a choice (", verdict.invalid_rows,
                            " rows with NaN or infinity)");
    }
    std::string sentence = detail::text(
        to_string(*verdict.zone), ": entropy ", short_number(verdict.entropy), " nats, ",
        short_number(100 * verdict.normalised_entropy), " % of equal shares' (", verdict.rows, " rows, ",
        verdict.saturated_rows, " saturated, ", verdict.flat_rows, " flat",
        verdict.invalid_rows > 0 ? detail::text(", ", verdict.invalid_rows, " with NaN or infinity") : std::string(),
        "), logits spread ", short_number(verdict.logit_standard_deviation));
    if (verdict.zone == logit_zone::balanced) {
        return sentence + "; nothing to change";
    }
    if (verdict.temperature) {
        return sentence + detail::text("; temperature ", short_number(*verdict.temperature), " (scale times ",
                                       short_number(1 / *verdict.temperature), ") brings it back");
    }
    return sentence + "; their spread does not say why: ask recommended_temperature about the logits";
}

} // namespace scaledot::inline SCALEDOT_BUILD

#endif
