// SPDX-License-Identifier: BSD-3-Clause
// Statistics of scores by their definitions, and how far sums may be from them.
#pragma once

#include "attention_cases.hpp"

#include <scaledot/kernel/diagnostics.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

namespace test_support {

using scaledot::kernel::score_statistics;

template <class T>
std::vector<T> scores_of(std::size_t count, unsigned seed, double deviation)
{
    const auto x = gaussians<T, 1>({count}, seed, deviation, 2);
    std::vector<T> scores(x.begin(), x.end());
    for (std::size_t j = 3; j < count; j += 7) {
        scores[j] = minus_infinity_of<T>();
    }
    return scores;
}

/// The sums by their definitions, in long double.
template <class T>
score_statistics exact_statistics(const std::vector<T>& scores)
{
    std::vector<long double> visible;
    for (const T s : scores) {
        if (!scaledot::detail::is_negative_infinity(static_cast<double>(s))) {
            visible.push_back(s);
        }
    }
    score_statistics exact;
    if (visible.empty()) {
        return exact;
    }
    const auto top = std::max_element(visible.begin(), visible.end());
    long double mean = 0, deviation = 0, rest = 0, drop = 0, squares = 0, cubes = 0;
    for (const long double s : visible) {
        mean += s / static_cast<long double>(visible.size());
    }
    for (auto s = visible.begin(); s != visible.end(); ++s) {
        const long double w = std::exp(*s - *top);
        deviation += (*s - mean) * (*s - mean);
        drop += w * (*top - *s);
        if (s != top) {
            rest += w;
            squares += w * w;
            cubes += w * w * w;
        }
    }
    exact = {
        static_cast<double>(*top),           static_cast<double>(*std::min_element(visible.begin(), visible.end())),
        static_cast<double>(visible.size()), static_cast<double>(mean),
        static_cast<double>(deviation),      static_cast<double>(rest),
        static_cast<double>(drop),           static_cast<double>(squares),
        static_cast<double>(cubes),          false};
    return exact;
}

/// Up to a relative error, and 128 weights or their powers that underflow.
inline bool close(double a, double b, double error)
{
    constexpr double underflow = 128 * static_cast<double>(std::numeric_limits<float>::min());
    return std::abs(a - b) <= error * std::max(std::abs(a), std::abs(b)) + underflow;
}

inline void check_statistics(const score_statistics& computed, const score_statistics& exact, double error,
                             double magnitude)
{
    CHECK(computed.maximum == exact.maximum);
    CHECK(computed.minimum == exact.minimum);
    CHECK(computed.count == exact.count);
    CHECK(std::abs(computed.mean - exact.mean) <= error * magnitude);
    CHECK(close(computed.deviation, exact.deviation, error));
    CHECK(close(computed.rest, exact.rest, error));
    CHECK(close(computed.drop, exact.drop, error));
    CHECK(close(computed.squares, exact.squares, error));
    CHECK(close(computed.cubes, exact.cubes, error));
    CHECK(!computed.invalid);
}

/// 128 numbers added in lanes, each off by a few units, the rounding of a fall of 30 made relative by exp.
template <class T>
constexpr double statistics_error = 128 * static_cast<double>(std::numeric_limits<T>::epsilon());

} // namespace test_support
