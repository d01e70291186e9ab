// SPDX-License-Identifier: BSD-3-Clause
// The driver of statistics.hpp: walks the rows of a view, calls the kernels' passes on them, and finishes the numbers.
#ifndef SCALEDOT_DETAIL_SUMMARY_HPP
#define SCALEDOT_DETAIL_SUMMARY_HPP

#include <scaledot/detail/check.hpp>
#include <scaledot/detail/config.hpp>
#include <scaledot/detail/element.hpp>
#include <scaledot/detail/view.hpp>
#include <scaledot/detail/xtensor.hpp>
#include <scaledot/kernel/moments.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <vector>

namespace scaledot::inline SCALEDOT_BUILD::detail {

template <class T>
concept number = element<T> || std::is_integral_v<T>;

/// Calls row(pointer, length) for each row along the last axis.
template <class T, class Row>
void for_each_row(const strided_view<T>& view, Row&& row)
{
    const std::size_t length = view.rank() == 0 ? 1 : view.extent(-1);
    const std::size_t count = element_count(view.shape);
    for (std::size_t i = 0; i * length < count; ++i) {
        row(view.data + offset_of(view, i, view.rank() == 0 ? 0 : 1), length);
    }
}

/// Calls visit(value) for each element as a double.
template <class T, class Visit>
void for_each_element(const strided_view<T>& view, Visit&& visit)
{
    for_each_row(view, [&](const T* row, std::size_t length) {
        for (std::size_t i = 0; i < length; ++i) {
            visit(kernel::to_arithmetic<double>(row[i]));
        }
    });
}

template <class T>
std::vector<double> elements_as_doubles(const strided_view<T>& view)
{
    std::vector<double> values;
    values.reserve(element_count(view.shape));
    for_each_element(view, [&](double value) { values.push_back(value); });
    return values;
}

struct moments {
    std::size_t count;
    double mean;
    double standard_deviation;
    double minimum;
    double maximum;
};

/// Count, mean, standard deviation and extremes of all elements; see summarize().
template <class Arch, class T>
moments moments_of(const strided_view<T>& view)
{
    using V = kernel::batch<Arch, double>;
    const double nan = kernel::quiet_nan<double>();
    const std::size_t count = element_count(view.shape);
    if (count == 0) {
        return {0, nan, nan, nan, nan};
    }
    kernel::batch<Arch, std::int64_t> magnitudes(0);
    for_each_row(view, [&](const T* row, std::size_t n) { kernel::accumulate_magnitude<Arch>(row, n, magnitudes); });
    const std::int64_t largest = kernel::reduce_magnitude(magnitudes);
    if (largest > kernel::exponent_mask<double>) {
        return {count, nan, nan, nan, nan};
    }

    kernel::centre centre;
    centre.scale =
        std::is_same_v<std::remove_const_t<T>, double> ? kernel::scale_for(std::bit_cast<double>(largest)) : 1;
    const double first = kernel::to_arithmetic<double>(*view.data);
    double minimum = first;
    double maximum = first;
    kernel::pair<V> sum{V(0), V(0)};
    for_each_row(view, [&](const T* row, std::size_t n) {
        kernel::accumulate_sum<Arch, true>(row, n, centre.scale, sum);
        for (std::size_t i = 0; i < n; ++i) {
            const double value = kernel::to_arithmetic<double>(row[i]);
            minimum = value < minimum ? value : minimum;
            maximum = maximum < value ? value : maximum;
        }
    });
    if (largest == kernel::exponent_mask<double>) {
        const bool both = is_negative_infinity(minimum) && is_positive_infinity(maximum);
        const double mean = both ? nan : is_negative_infinity(minimum) ? minimum : maximum;
        return {count, kernel::barrier(mean), nan, minimum, maximum};
    }

    const auto mean = kernel::mean_of(kernel::reduce(sum), static_cast<double>(count));
    centre.mean = {mean.high, mean.low};
    kernel::pair<V> squares{V(0), V(0)};
    for_each_row(view,
                 [&](const T* row, std::size_t n) { kernel::accumulate_squares<Arch, true>(row, n, centre, squares); });
    const double variance = kernel::mean_of(kernel::reduce(squares), static_cast<double>(count)).high;
    return {count, centre.mean.high / centre.scale, std::sqrt(variance) / centre.scale, minimum, maximum};
}

/// The quantile at p of sorted values without NaN; see quantiles().
inline double sorted_quantile(const std::vector<double>& sorted, double p)
{
    const double position = static_cast<double>(sorted.size() - 1) * p;
    const auto below = std::min(static_cast<std::size_t>(position), sorted.size() - 1);
    const double share = position - static_cast<double>(below);
    const double a = sorted[below];
    const double b = sorted[std::min(below + 1, sorted.size() - 1)];
    if (share <= 0 || a == b || (is_negative_infinity(a) && is_finite(b))) {
        return a;
    }
    return std::lerp(a, b, share);
}

/// bins + 1 edges from low to high, both exactly.
inline xt::xtensor<double, 1> equal_edges(std::size_t bins, double low, double high)
{
    xt::xtensor<double, 1> edges = xt::xtensor<double, 1>::from_shape({bins + 1});
    for (std::size_t i = 0; i <= bins; ++i) {
        edges(i) = std::lerp(low, high, static_cast<double>(i) / static_cast<double>(bins));
    }
    return edges;
}

} // namespace scaledot::inline SCALEDOT_BUILD::detail

#endif
