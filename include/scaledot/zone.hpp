// SPDX-License-Identifier: BSD-3-Clause
// The "Goldilocks zone" of logits: spread enough that softmax tells keys apart, not so much that it sees only one. And
// the temperature that gives a softmax a wanted entropy.
#ifndef SCALEDOT_ZONE_HPP
#define SCALEDOT_ZONE_HPP

#include <scaledot/detail/check.hpp>
#include <scaledot/detail/config.hpp>
#include <scaledot/detail/entropy.hpp>
#include <scaledot/detail/summary.hpp>
#include <scaledot/detail/view.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <string_view>
#include <vector>

namespace scaledot::inline SCALEDOT_BUILD {

/// Where logits stand between a softmax that cannot tell keys apart and one that sees a single key.
enum class logit_zone { flat, balanced, saturated };

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

} // namespace scaledot::inline SCALEDOT_BUILD

#endif
