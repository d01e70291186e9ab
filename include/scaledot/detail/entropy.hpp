// SPDX-License-Identifier: BSD-3-Clause
// The entropy of a softmax as a function of its temperature, and the temperature for a given entropy. Entropies are
// counted from the low-temperature limit, so that small ones keep their relative accuracy.
#ifndef SCALEDOT_DETAIL_ENTROPY_HPP
#define SCALEDOT_DETAIL_ENTROPY_HPP

#include <scaledot/detail/check.hpp>
#include <scaledot/detail/config.hpp>
#include <scaledot/kernel/simd.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

namespace scaledot::inline SCALEDOT_BUILD::detail {

/// Logits relative to their maximum, without the -infinity among them.
struct gaps {
    std::size_t maxima = 0;     ///< how many logits equal the maximum
    std::vector<double> values; ///< (maximum - logit) / unit of the others, all positive and finite
    double unit = 1;            ///< 16 where a difference would overflow
};

inline gaps gaps_below_maximum(std::vector<double> logits)
{
    for (const double logit : logits) {
        if (is_nan(logit) || is_positive_infinity(logit)) {
            reject("a logit", is_nan(logit) ? "NaN" : "infinity", "finite or -infinity");
        }
    }
    std::erase_if(logits, is_negative_infinity);
    if (logits.empty()) {
        reject("the number of logits above -infinity", 0, "at least 1");
    }
    const auto [minimum, maximum] = std::minmax_element(logits.begin(), logits.end());
    const double highest = *maximum;
    gaps result;
    result.unit = is_finite(highest - *minimum) ? 1 : 16;
    for (const double logit : logits) {
        if (logit == highest) {
            ++result.maxima;
        } else {
            // barriers: -ffast-math would subtract first
            result.values.push_back(kernel::barrier(highest / result.unit) - kernel::barrier(logit / result.unit));
        }
    }
    return result;
}

/// Entropy less its limit for T -> 0, and its derivative by ln T, which is the variance of gap / T.
struct excess_entropy {
    double value;
    double slope;
};

inline excess_entropy excess_entropy_at(const gaps& gaps, double temperature)
{
    double others = 0;
    double first = 0;
    double second = 0;
    for (const double gap : gaps.values) {
        const double exponent = gap / temperature;
        const double weight = std::exp(-exponent);
        if (weight > 0) {
            others += weight;
            first += exponent * weight;
            second += exponent * exponent * weight;
        }
    }
    const auto maxima = static_cast<double>(gaps.maxima);
    const double mean = first / (maxima + others);
    return {std::log1p(others / maxima) + mean, second / (maxima + others) - mean * mean};
}

/// The temperature at which the excess entropy is `target`, which must lie strictly between its limits.
inline double temperature_at(const gaps& gaps, double target)
{
    constexpr double largest = std::numeric_limits<double>::max();
    constexpr double smallest = std::numeric_limits<double>::min();
    constexpr int enough_steps = 400;
    double low = smallest;
    double high = largest;
    double temperature = std::clamp(*std::max_element(gaps.values.begin(), gaps.values.end()), low, high);
    for (int step = 0; step < enough_steps; ++step) {
        const excess_entropy at = excess_entropy_at(gaps, temperature);
        if (at.value == target) {
            break;
        }
        (at.value < target ? low : high) = temperature;
        const double newton = temperature * std::exp(std::log(target / at.value) * at.value / at.slope);
        // Bisection in ln T where Newton's step is undefined or leaves the bracket, and at times while that is wide.
        const bool bisect =
            !(at.value > 0 && at.slope > 0 && newton > low && newton < high) || (step % 4 == 3 && high / 2 > low);
        // (barriers: under -ffast-math the product of the roots becomes the root of a product that overflows)
        const double next = bisect ? kernel::barrier(std::sqrt(low)) * kernel::barrier(std::sqrt(high)) : newton;
        if (std::abs(next - temperature) <= std::numeric_limits<double>::epsilon() * temperature) {
            temperature = next;
            break;
        }
        temperature = next;
    }
    return temperature * gaps.unit;
}

} // namespace scaledot::inline SCALEDOT_BUILD::detail

#endif
