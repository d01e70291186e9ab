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
#include <utility>
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

/// The temperature at which `entropy_at(temperature)`, an excess entropy or a mean of several, is `target`, which must
/// lie strictly between its limits; the search begins at `start`.
template <class EntropyAt>
double solve_temperature(EntropyAt&& entropy_at, double target, double start)
{
    constexpr double largest = std::numeric_limits<double>::max();
    constexpr double smallest = std::numeric_limits<double>::min();
    constexpr int enough_steps = 400;
    double low = smallest;
    double high = largest;
    double temperature = std::clamp(start, low, high);
    for (int step = 0; step < enough_steps; ++step) {
        const excess_entropy at = entropy_at(temperature);
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
    return temperature;
}

inline double largest_gap(const gaps& gaps)
{
    return *std::max_element(gaps.values.begin(), gaps.values.end());
}

/// The temperature at which one row's excess entropy is `target`, which must lie strictly between its limits.
inline double temperature_at(const gaps& gaps, double target)
{
    return gaps.unit * solve_temperature([&](double temperature) { return excess_entropy_at(gaps, temperature); },
                                         target, largest_gap(gaps));
}

/// Rows of logits that leave a choice, and the mean of their entropies, each divided by the logarithm of the number of
/// its logits.
class choices {
public:
    /// Returns how many logits are above -infinity; a row with fewer than two is not kept.
    template <class T>
    std::size_t add(const T* row, std::size_t length)
    {
        std::vector<double> logits;
        for (std::size_t i = 0; i < length; ++i) {
            const double logit = kernel::to_arithmetic<double>(row[i]);
            if (!is_negative_infinity(logit)) {
                logits.push_back(logit);
            }
        }
        const std::size_t keys = logits.size();
        if (keys > 0) { // also a single one, which must not be NaN
            gaps found = gaps_below_maximum(std::move(logits));
            if (keys > 1) {
                most_.push_back(std::log(static_cast<double>(keys)));
                least_ += std::log(static_cast<double>(found.maxima)) / most_.back();
                rows_.push_back(std::move(found));
            }
        }
        return keys;
    }

    std::size_t size() const { return rows_.size(); }

    /// The mean at temperature 0.
    double coldest() const { return least_ / static_cast<double>(rows_.size()); }

    /// The mean, and its derivative by ln T.
    excess_entropy entropy_at(double temperature) const
    {
        excess_entropy mean = excess_at(temperature);
        mean.value += coldest();
        return mean;
    }

    /// The temperature at which the mean is `target`, strictly between coldest() and 1.
    double temperature_at(double target) const
    {
        double start = 0;
        for (const gaps& row : rows_) {
            start = row.values.empty() ? start : std::max(start, largest_gap(row));
        }
        return solve_temperature([&](double temperature) { return excess_at(temperature); }, target - coldest(), start);
    }

private:
    excess_entropy excess_at(double temperature) const
    {
        excess_entropy sum{0, 0};
        for (std::size_t i = 0; i < rows_.size(); ++i) {
            // (barrier: -ffast-math would divide by the temperature itself, whose inverse may be subnormal)
            const excess_entropy row = excess_entropy_at(rows_[i], kernel::barrier(temperature / rows_[i].unit));
            sum.value += row.value / most_[i];
            sum.slope += row.slope / most_[i];
        }
        const auto count = static_cast<double>(rows_.size());
        return {sum.value / count, sum.slope / count};
    }

    std::vector<gaps> rows_;
    std::vector<double> most_; ///< ln of the number of logits, row by row
    double least_ = 0;         ///< sum of ln(maxima) / most
};

} // namespace scaledot::inline SCALEDOT_BUILD::detail

#endif
