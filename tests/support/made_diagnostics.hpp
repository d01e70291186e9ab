// SPDX-License-Identifier: BSD-3-Clause
// Diagnostics made by hand, or from logits in long double by the textbook, for the tests of what reads diagnostics:
// they need no attention.
#ifndef SCALEDOT_TESTS_SUPPORT_MADE_DIAGNOSTICS_HPP
#define SCALEDOT_TESTS_SUPPORT_MADE_DIAGNOSTICS_HPP

#include <scaledot/detail/xtensor.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

namespace test_support {

/// The members of scaledot::logit_diagnostics that are read, [batch, heads, queries].
struct made_diagnostics {
    explicit made_diagnostics(std::array<std::size_t, 3> shape)
        : max_logit(shape, 0.f), min_logit(shape, 0.f), logit_mean(shape, 0.f), logit_standard_deviation(shape, 0.f),
          visible_keys(shape, 0), entropy(shape, 0.f), sink_probability(shape, 0.f)
    {
    }

    xt::xtensor<float, 3> max_logit;
    xt::xtensor<float, 3> min_logit;
    xt::xtensor<float, 3> logit_mean;
    xt::xtensor<float, 3> logit_standard_deviation;
    xt::xtensor<std::size_t, 3> visible_keys;
    xt::xtensor<float, 3> entropy;
    xt::xtensor<float, 3> sink_probability;

    /// Writes the figures of one row of visible logits at a flat index.
    void set(std::size_t row, const std::vector<double>& logits)
    {
        long double sum = 0, mean = 0, squares = 0, weighted = 0;
        const double maximum = logits.empty() ? -infinity : *std::max_element(logits.begin(), logits.end());
        for (const double s : logits) {
            const long double w = std::exp(static_cast<long double>(s) - maximum);
            sum += w;
            weighted += w * (s - maximum);
            mean += s / static_cast<long double>(logits.size());
        }
        for (const double s : logits) {
            squares += (s - mean) * (s - mean) / static_cast<long double>(logits.size());
        }
        const auto put = [row](auto& figure, long double value) { figure.data()[row] = static_cast<float>(value); };
        put(max_logit, maximum);
        put(min_logit, logits.empty() ? infinity : *std::min_element(logits.begin(), logits.end()));
        put(logit_mean, mean);
        put(logit_standard_deviation, std::sqrt(squares));
        put(entropy, logits.empty() ? 0 : std::log(sum) - weighted / sum);
        visible_keys.data()[row] = logits.size();
    }

    static constexpr double infinity = std::numeric_limits<double>::infinity();
};

} // namespace test_support

#endif
