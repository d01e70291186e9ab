// SPDX-License-Identifier: BSD-3-Clause
// The "Goldilocks zone" of logits: spread enough that softmax tells keys apart, not so much that it sees only one. And
// the temperature that gives a softmax a wanted entropy, or brings it back into the zone.
#ifndef SCALEDOT_ZONE_HPP
#define SCALEDOT_ZONE_HPP

#include <scaledot/detail/check.hpp>
#include <scaledot/detail/config.hpp>
#include <scaledot/detail/entropy.hpp>
#include <scaledot/detail/summary.hpp>
#include <scaledot/detail/view.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <string_view>
#include <vector>

namespace scaledot::inline SCALEDOT_BUILD {

/// Where logits stand between a softmax that cannot tell keys apart and one that sees a single key.
enum class logit_zone {
    flat,     ///< nearly equal shares: the logits hardly differ
    balanced, ///< keys are told apart, and gradients pass
    saturated ///< one key or a few have it all, and little gradient passes
};

/// "flat", "balanced" or "saturated".
constexpr std::string_view to_string(logit_zone zone)
{
    switch (zone) {
    case logit_zone::flat:
        return "flat";
    case logit_zone::balanced:
        return "balanced";
    case logit_zone::saturated:
        break;
    }
    return "saturated";
}

namespace detail {

inline void require_choice(std::size_t keys)
{
    if (keys < 2) {
        reject("keys", keys, "at least 2: a single key leaves nothing to choose");
    }
}

} // namespace detail

/// sqrt(2 ln n): the standard deviation from which on the softmax of n Gaussian logits rests on a few of them.
///
/// In the random-energy model (Derrida 1981) the sum of exponentials of n Gaussians of standard deviation s is carried
/// by many terms as long as s < sqrt(2 ln n), and by the few largest beyond. The transition is sharp only in the limit
/// of many keys: at this threshold the mean entropy is 0.47 ln n for 48 keys and 0.37 ln n for 1024
/// (tests/zone_test.cpp).
///
/// @throws std::invalid_argument  keys < 2
inline double saturation_threshold(std::size_t keys)
{
    detail::require_choice(keys);
    return std::sqrt(2 * std::log(static_cast<double>(keys)));
}

/// sqrt(0.02 ln n): the standard deviation below which a softmax of n logits is uniform but for 1 % of its entropy.
/// Small logits of standard deviation s take s^2 / 2 off the entropy ln n, to second order.
///
/// @throws std::invalid_argument  keys < 2
inline double flatness_threshold(std::size_t keys)
{
    detail::require_choice(keys);
    return std::sqrt(0.02 * std::log(static_cast<double>(keys)));
}

/// saturated from saturation_threshold(keys) on, flat below flatness_threshold(keys), balanced between.
///
/// @param standard_deviation  of the logits a query sees; +infinity is saturated
/// @param keys                how many logits a query sees, at least 2
/// @throws std::invalid_argument  keys < 2, or the standard deviation negative or NaN
inline logit_zone classify_logits(double standard_deviation, std::size_t keys)
{
    if (!detail::is_non_negative(standard_deviation)) {
        detail::reject("standard_deviation", standard_deviation, "at least 0");
    }
    if (standard_deviation < flatness_threshold(keys)) {
        return logit_zone::flat;
    }
    return standard_deviation < saturation_threshold(keys) ? logit_zone::balanced : logit_zone::saturated;
}

/// The entropy, divided by ln n, from which down a softmax of n keys is saturated: the mean over independent Gaussian
/// logits whose standard deviation is saturation_threshold(n). 0.73 for 2 keys, 0.47 for 48, 0.37 for 1024.
///
/// Accuracy  within 0.001 of that mean from 48 keys to 2^24, within 0.007 for fewer (tests/zone_test.cpp compares with
///           quadrature and with simulation); constant beyond.
/// @throws std::invalid_argument  keys < 2
/// Source    docs/numerics.md#zone
inline double saturation_entropy(std::size_t keys)
{
    detail::require_choice(keys);
    // for 2, 4, 8, ... 2^24 keys
    constexpr std::array<double, 24> means = {0.728260, 0.627938, 0.564992, 0.519116, 0.483200, 0.453898,
                                              0.429340, 0.408354, 0.390151, 0.374169, 0.359996, 0.347318,
                                              0.335893, 0.325528, 0.316071, 0.307397, 0.299404, 0.292009,
                                              0.285140, 0.278738, 0.272752, 0.267140, 0.261863, 0.256891};
    const double position = std::min(std::log2(static_cast<double>(keys)), 24.0) - 1;
    const auto below = std::min(static_cast<std::size_t>(position), means.size() - 2);
    return std::lerp(means[below], means[below + 1], position - static_cast<double>(below));
}

/// The share of ln n that the entropy of a softmax in the middle of the zone has; see zone_centre().
inline constexpr double zone_centre_entropy = 0.9;

/// The share of ln n that the entropy of a softmax has at the flat end of the zone; see flatness_threshold().
inline constexpr double flatness_entropy = 0.99;

/// sqrt(0.2 ln n): the standard deviation of n logits in the middle of the zone, the geometric mean of the two
/// thresholds. A tenth of the entropy ln n is missing there.
///
/// @throws std::invalid_argument  keys < 2
inline double zone_centre(std::size_t keys)
{
    detail::require_choice(keys);
    return std::sqrt(2 * (1 - zone_centre_entropy) * std::log(static_cast<double>(keys)));
}

/// The zone by measured entropy instead of by the logits' spread, which says little where one key stands apart: flat
/// from 99 % of ln n on, saturated from saturation_entropy(n) ln n down, balanced between.
///
/// @param entropy  in nats, of a softmax over `keys` keys; a sink counts as one. At most ln n but for rounding
/// @param keys     at least 2
/// @throws std::invalid_argument  keys < 2, or the entropy negative, NaN or above ln n by more than a ten-thousandth
inline logit_zone classify_entropy(double entropy, std::size_t keys)
{
    detail::require_choice(keys);
    const double most = std::log(static_cast<double>(keys));
    if (!detail::is_non_negative(entropy) || entropy > most * (1 + 1e-4)) {
        detail::reject("entropy", entropy, detail::text("in [0, ", most, "], from one key to ", keys, " equal ones"));
    }
    if (entropy > flatness_entropy * most) {
        return logit_zone::flat;
    }
    return entropy > saturation_entropy(keys) * most ? logit_zone::balanced : logit_zone::saturated;
}

/// The temperature that brings n logits of this spread to the middle of the zone if they are outside it,
/// sigma / zone_centre(n), and 1 if they are inside. Attention's scale, divided by it, is the scale to use.
///
/// It knows the spread alone: where a few keys stand far apart from the rest, give it the logits themselves (below).
///
/// @param standard_deviation  positive and finite: no temperature tells equal logits apart
/// @param keys                how many logits a query sees, at least 2
/// @throws std::invalid_argument  keys < 2, or the standard deviation not positive and finite
inline double recommended_temperature(double standard_deviation, std::size_t keys)
{
    if (!detail::is_non_negative(standard_deviation) || !detail::is_finite(standard_deviation) ||
        standard_deviation == 0) {
        detail::reject("standard_deviation", standard_deviation, "positive and finite");
    }
    return classify_logits(standard_deviation, keys) == logit_zone::balanced ? 1
                                                                             : standard_deviation / zone_centre(keys);
}

/// The temperature T at which the probabilities softmax(logits / T) have the given entropy in nats.
///
/// The entropy grows with T from ln(number of maxima) at T -> 0 to ln(number of logits) at T -> infinity, so there is
/// one such T: found by Newton steps on ln(entropy) over ln T inside a shrinking bracket.
///
/// @param logits   rank 1; -infinity has probability 0 at any temperature and is not counted
/// @param entropy  in [ln(number of maxima), ln(number of logits)]; the ends give exactly 0 and +infinity (0 where all
///                 logits are equal and both ends are the same)
/// @throws std::invalid_argument  logits not of rank 1, without a finite logit, or with NaN or +infinity; entropy
///                                outside
///
/// Accuracy        the entropy at the returned T is the wanted one to 1e-13 of it (tests/zone_test.cpp).
/// Cost            some ten evaluations of the entropy, a few hundred at worst; one copy of the logits.
template <detail::tensor E>
double temperature_for_entropy(const E& logits, double entropy)
{
    static_assert(detail::element<detail::element_of<E>>,
                  "scaledot: temperature_for_entropy needs float, double, half or bfloat16 elements");
    if (logits.dimension() != 1) {
        detail::reject("the rank of logits", logits.dimension(), "1");
    }
    const detail::input<E> in(logits);
    const detail::gaps gaps = detail::gaps_below_maximum(detail::elements_as_doubles(in.view()));
    const double lowest = std::log(static_cast<double>(gaps.maxima));
    const double highest = std::log(static_cast<double>(gaps.maxima + gaps.values.size()));
    if (!detail::is_non_negative(entropy) || entropy < lowest || entropy > highest) {
        detail::reject("entropy", entropy,
                       detail::text("in [", lowest, ", ", highest, "], from the logarithm of the number of maxima, ",
                                    gaps.maxima, ", to that of the number of logits above -infinity, ",
                                    gaps.maxima + gaps.values.size()));
    }
    if (entropy == lowest) {
        return 0;
    }
    if (entropy == highest) {
        return kernel::infinity<double>;
    }
    return detail::temperature_at(gaps, entropy - lowest);
}

/// The one temperature T that brings the rows of logits back into the zone: 1 if they are in it, by the mean over the
/// rows of entropy / ln(number of logits above -infinity), and otherwise the T at which softmax(logits / T) has a mean
/// of zone_centre_entropy. Attention's scale, divided by it, is the scale to use.
///
/// @param logits  any rank >= 1, rows along the last axis, such as a head's [queries, keys] of
///                attention_scores(q, k, score_stage::masked); -infinity is excluded. Rows of fewer than two visible
///                keys have no say
/// @throws std::invalid_argument  logits of rank 0, with NaN or +infinity, without a row of two visible keys; or so
///                                many of them equal to their row's maximum that no temperature brings the rest
///                                forward
///
/// Accuracy       the mean entropy at the returned T is the wanted one to 1e-13 of it.
/// Cost           some ten evaluations of the entropies; one copy of the logits as doubles.
template <detail::tensor E>
double recommended_temperature(const E& logits)
{
    static_assert(detail::element<detail::element_of<E>>,
                  "scaledot: recommended_temperature needs float, double, half or bfloat16 elements");
    if (logits.dimension() == 0) {
        detail::reject("the rank of logits", 0, "at least 1");
    }
    const detail::input<E> in(logits);
    detail::choices rows;
    double saturated = 0;
    detail::for_each_row(in.view(), [&](const auto* row, std::size_t length) {
        if (const std::size_t keys = rows.add(row, length); keys > 1) {
            saturated += saturation_entropy(keys);
        }
    });
    if (rows.size() == 0) {
        detail::reject("the number of rows with two logits above -infinity", 0, "at least 1");
    }
    const double now = rows.entropy_at(1).value;
    if (now <= flatness_entropy && now > saturated / static_cast<double>(rows.size())) {
        return 1;
    }
    if (rows.coldest() >= zone_centre_entropy) {
        detail::reject("the mean entropy / ln n of the rows at temperature 0", rows.coldest(),
                       detail::text("below ", zone_centre_entropy,
                                    ": too many logits equal their row's maximum for any temperature"));
    }
    return rows.temperature_at(zone_centre_entropy);
}

} // namespace scaledot::inline SCALEDOT_BUILD

#endif
