// SPDX-License-Identifier: BSD-3-Clause
// What is in a tensor: count, mean, spread and extremes, the share inside an interval, quantiles, a histogram. Numbers
// are taken as doubles; the sums are in kernel/moments.hpp.
#ifndef SCALEDOT_STATISTICS_HPP
#define SCALEDOT_STATISTICS_HPP

#include <scaledot/detail/check.hpp>
#include <scaledot/detail/config.hpp>
#include <scaledot/detail/element.hpp>
#include <scaledot/detail/summary.hpp>
#include <scaledot/detail/view.hpp>
#include <scaledot/detail/xtensor.hpp>
#include <scaledot/kernel/simd.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <type_traits>
#include <vector>

namespace scaledot::inline SCALEDOT_BUILD {

/// What summarize() returns. The standard deviation is the population's: it divides by n.
struct summary {
    std::size_t count = 0;         ///< elements
    double mean = 0;               ///< NaN without elements, as the next three
    double standard_deviation = 0; ///< the root of the mean squared deviation
    double minimum = 0;            ///< the smallest element
    double maximum = 0;            ///< the largest element
};

/// mean = sum x / n, standard deviation = sqrt(sum (x - mean)^2 / n), minimum, maximum over all elements.
///
/// @param x   any tensor expression of float, double, half, bfloat16 or integers
/// @return    the summary; of no elements: count 0 and NaN for the rest
///
/// Special values  one NaN makes everything but the count NaN; with infinities the mean is what their sum is, the
///                 standard deviation NaN.
/// Accuracy        centred two-pass with compensated sums: mean and standard deviation within 1 ULP, whatever the mean
///                 is to the standard deviation, without overflow up to the largest double (tests/statistics_test.cpp).
/// Cost            three passes; a copy of lazy expressions and of views whose last axis is not contiguous.
template <detail::tensor E>
summary summarize(const E& x)
{
    static_assert(detail::number<detail::element_of<E>>,
                  "scaledot: summarize needs float, double, half, bfloat16 or integer elements");
    const detail::input<E> in(x);
    const auto moments = detail::moments_of<native_architecture>(in.view());
    return {moments.count, moments.mean, moments.standard_deviation, moments.minimum, moments.maximum};
}

/// The share of elements with low <= x <= high, in [0, 1].
///
/// @throws std::invalid_argument  low or high NaN
///
/// Special values  NaN elements are outside; of no elements: NaN. low > high is an interval without elements.
template <detail::tensor E>
double fraction_within(const E& x, double low, double high)
{
    static_assert(detail::number<detail::element_of<E>>,
                  "scaledot: fraction_within needs float, double, half, bfloat16 or integer elements");
    if (detail::is_nan(low) || detail::is_nan(high)) {
        detail::reject(detail::is_nan(low) ? "low" : "high", "NaN", "a number");
    }
    const detail::input<E> in(x);
    std::size_t count = 0;
    std::size_t inside = 0;
    detail::for_each_element(in.view(), [&](double value) {
        ++count;
        inside += !detail::is_nan(value) && value >= low && value <= high ? 1 : 0;
    });
    return count == 0 ? kernel::quiet_nan<double>() : static_cast<double>(inside) / static_cast<double>(count);
}

/// The quantiles of all elements at the given probabilities, linear between order statistics: with the n elements
/// sorted and h = (n - 1) p, it is x[floor h] + (h - floor h) (x[floor h + 1] - x[floor h]), as NumPy's default.
///
/// @param x              any tensor expression of float, double, half, bfloat16 or integers
/// @param probabilities  each in [0, 1]
/// @return               one quantile per probability, in their order
/// @throws std::invalid_argument  x without elements, or a probability outside [0, 1]
///
/// Special values  NaN among the elements makes every quantile NaN. Between -infinity and a finite number it is
///                 -infinity.
/// Cost            one copy of the elements as doubles and a sort.
template <detail::tensor E>
std::vector<double> quantiles(const E& x, const std::vector<double>& probabilities)
{
    static_assert(detail::number<detail::element_of<E>>,
                  "scaledot: quantiles needs float, double, half, bfloat16 or integer elements");
    for (const double p : probabilities) {
        if (!detail::is_non_negative(p) || p > 1) {
            detail::reject("a probability", p, "in [0, 1]");
        }
    }
    const detail::input<E> in(x);
    std::vector<double> values = detail::elements_as_doubles(in.view());
    if (values.empty()) {
        detail::reject("the number of elements", 0, "at least 1");
    }
    if (std::any_of(values.begin(), values.end(), detail::is_nan)) {
        return std::vector<double>(probabilities.size(), kernel::quiet_nan<double>());
    }
    std::sort(values.begin(), values.end());
    std::vector<double> result;
    result.reserve(probabilities.size());
    for (const double p : probabilities) {
        result.push_back(detail::sorted_quantile(values, p));
    }
    return result;
}

/// The quantile at one probability; see quantiles().
template <detail::tensor E>
double quantile(const E& x, double probability)
{
    return quantiles(x, {probability}).front();
}

/// What histogram() returns: bin i is edges[i] <= x < edges[i + 1], the last one closed above.
struct histogram_result {
    xt::xtensor<double, 1> edges;       ///< one more than there are bins
    xt::xtensor<std::size_t, 1> counts; ///< elements in each bin
    std::size_t below = 0;              ///< elements under the first edge
    std::size_t above = 0;              ///< elements over the last edge
    std::size_t nan = 0;                ///< elements that are NaN
};

/// Counts of elements in bins of equal width between low and high, as numpy.histogram(x, bins, (low, high)).
///
/// @param x     any tensor expression of float, double, half, bfloat16 or integers
/// @param bins  how many, at least 1
/// @param low   the first edge
/// @param high  the last edge, which is inside
/// @return      bins + 1 edges, bins counts, and how many elements are in no bin; all counts add up to the elements
/// @throws std::invalid_argument  bins is 0, or low and high are not finite with low < high
///
/// Cost         a binary search among the edges for each element inside.
template <detail::tensor E>
histogram_result histogram(const E& x, std::size_t bins, double low, double high)
{
    static_assert(detail::number<detail::element_of<E>>,
                  "scaledot: histogram needs float, double, half, bfloat16 or integer elements");
    if (bins == 0) {
        detail::reject("bins", bins, "at least 1");
    }
    if (!detail::is_finite(low) || !detail::is_finite(high) || !(low < high)) {
        detail::reject("the range", detail::text("[", low, ", ", high, "]"), "finite with low < high");
    }
    histogram_result result;
    result.edges = detail::equal_edges(bins, low, high);
    result.counts = xt::xtensor<std::size_t, 1>(std::array{bins}, 0);
    const detail::input<E> in(x);
    detail::for_each_element(in.view(), [&](double value) {
        if (detail::is_nan(value)) {
            ++result.nan;
        } else if (value < low) {
            ++result.below;
        } else if (value > high) {
            ++result.above;
        } else {
            // By the edges themselves: a product for the bin's index rounds past the last bin for values just below the
            // last edge. xt::histogram would do, but its header costs whoever includes it a second to compile.
            const double* const first = result.edges.data();
            ++result.counts(static_cast<std::size_t>(std::upper_bound(first, first + bins, value) - first) - 1);
        }
    });
    return result;
}

} // namespace scaledot::inline SCALEDOT_BUILD

#endif
