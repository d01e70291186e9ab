// SPDX-License-Identifier: BSD-3-Clause
#include <scaledot/statistics.hpp>

#include "support/mpfr_number.hpp"
#include "support/norm_rows.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <vector>

#if __has_include(<xtensor/views/xview.hpp>)
#include <xtensor/misc/xmanipulation.hpp>
#include <xtensor/views/xview.hpp>
#else
#include <xtensor/xmanipulation.hpp>
#include <xtensor/xview.hpp>
#endif

namespace sd = scaledot;
using namespace test_support;
using scaledot::detail::is_nan;
using scaledot::detail::is_negative_infinity;
using scaledot::detail::is_positive_infinity;

namespace {

const double infinity = sd::kernel::infinity<double>;

double nan()
{
    return sd::kernel::quiet_nan<double>();
}

} // namespace

TEST_CASE_TEMPLATE("summarize: mean and standard deviation are within 1 ULP of the exact ones, whatever cancels", T,
                   float, double, xtl::half_float, sd::bfloat16)
{
    for (const std::size_t length : {1u, 2u, 3u, 7u, 8u, 9u, 33u, 768u, 50'000u}) {
        for (const auto& row : hurtful_rows<T>(length)) {
            const auto x = rounded_to<T>(row.values);
            mpfr_number sum(0);
            mpfr_number squares(0);
            for (const T element : x) {
                const mpfr_number value(as_double(element));
                sum += value;
                squares += value * value;
            }
            const mpfr_number n(static_cast<double>(length));
            const mpfr_number mean = sum / n;
            const mpfr_number variance = squares / n - mean * mean;
            const mpfr_number deviation = variance < mpfr_number(0) ? mpfr_number(0) : sqrt(variance);
            CAPTURE(row.name);
            CAPTURE(length);
            const sd::summary s = sd::summarize(x);
            CHECK(s.count == length);
            CHECK(error_in_ulp<double>(s.mean, mean, mean) <= 1);
            if (length == 1) {
                CHECK(s.standard_deviation == 0);
            } else {
                CHECK(error_in_ulp<double>(s.standard_deviation, deviation, deviation) <= 1);
            }
            const auto less = [](T a, T b) { return as_double(a) < as_double(b); };
            CHECK(s.minimum == as_double(*std::min_element(x.begin(), x.end(), less)));
            CHECK(s.maximum == as_double(*std::max_element(x.begin(), x.end(), less)));
        }
    }
}

TEST_CASE("summarize: integers, views, other layouts and lazy expressions are taken as they are")
{
    const xt::xarray<int> dice = {1, 2, 3, 4, 5, 6};
    const sd::summary s = sd::summarize(dice);
    CHECK(s.mean == 3.5);
    CHECK(s.standard_deviation == doctest::Approx(std::sqrt(35.0 / 12)).epsilon(1e-15));
    CHECK(sd::summarize(xt::xtensor<bool, 1>{true, false, true, true}).mean == 0.75);
    CHECK(sd::summarize(dice * 2).maximum == 12);
    const xt::xtensor<float, 2> x = {{1, 2, 3}, {4, 5, 6}};
    CHECK(sd::summarize(xt::view(x, xt::all(), xt::range(0, 2))).mean == 3);
    CHECK(sd::summarize(xt::view(x, xt::all(), 1)).mean == 3.5);
    CHECK(sd::summarize(xt::transpose(x)).standard_deviation == doctest::Approx(s.standard_deviation).epsilon(1e-15));
    CHECK(sd::summarize(xt::xarray<double>(7.0)).count == 1);
}

TEST_CASE("summarize: a constant has standard deviation 0, also at the largest double")
{
    for (const double value : {0.1, -1e-300, 1e300, std::numeric_limits<double>::max()}) {
        const sd::summary s = sd::summarize(xt::xtensor<double, 1>({1001}, value));
        CHECK(s.mean == value);
        CHECK(s.standard_deviation == 0);
    }
    const double largest = std::numeric_limits<double>::max();
    const sd::summary s = sd::summarize(xt::xtensor<double, 1>{largest, -largest});
    CHECK(s.mean == 0);
    CHECK(s.standard_deviation == largest);
}

TEST_CASE("summarize: no elements give NaN, one NaN makes all NaN, infinities have a mean but no deviation")
{
    const sd::summary empty = sd::summarize(xt::xtensor<float, 2>::from_shape({3, 0}));
    CHECK(empty.count == 0);
    CHECK(is_nan(empty.mean));
    CHECK(is_nan(empty.minimum));
    for (const std::size_t position : {0u, 4u, 18u}) {
        auto x = gaussian<float>(19, 0, 1, 1);
        x(position) = static_cast<float>(nan());
        const sd::summary s = sd::summarize(x);
        CHECK(s.count == 19);
        CHECK(is_nan(s.mean));
        CHECK(is_nan(s.standard_deviation));
        CHECK(is_nan(s.minimum));
        CHECK(is_nan(s.maximum));
    }
    auto x = gaussian<double>(19, 0, 1, 1);
    x(3) = infinity;
    sd::summary s = sd::summarize(x);
    CHECK(is_positive_infinity(s.mean));
    CHECK(is_nan(s.standard_deviation));
    CHECK(is_positive_infinity(s.maximum));
    CHECK(sd::detail::is_finite(s.minimum));
    x(5) = -infinity;
    s = sd::summarize(x);
    CHECK(is_nan(s.mean));
    CHECK(is_negative_infinity(s.minimum));
}

TEST_CASE("fraction_within: both ends count as inside")
{
    const xt::xtensor<float, 1> x = {1, 2, 3, 4, 5};
    CHECK(sd::fraction_within(x, 2, 4) == 0.6);
    CHECK(sd::fraction_within(x, 2.5, 2.9) == 0);
    CHECK(sd::fraction_within(x, 4, 2) == 0);
    CHECK(sd::fraction_within(x, -infinity, infinity) == 1);
    CHECK(sd::fraction_within(xt::xarray<int>{1, 2, 3, 4}, 1, 2) == 0.5);
}

TEST_CASE("fraction_within: NaN is outside, of no elements the fraction is NaN, a bound that is NaN is refused")
{
    const xt::xtensor<double, 1> x = {1, nan(), infinity, -1};
    CHECK(sd::fraction_within(x, -infinity, infinity) == 0.75);
    CHECK(sd::fraction_within(x, 0, 2) == 0.25);
    CHECK(is_nan(sd::fraction_within(xt::xtensor<double, 1>::from_shape({0}), 0, 1)));
    CHECK(complaint_of([&] { sd::fraction_within(x, nan(), 1); }) == "scaledot: low was NaN, must be a number");
    CHECK(complaint_of([&] { sd::fraction_within(x, 0, nan()); }) == "scaledot: high was NaN, must be a number");
}

TEST_CASE("quantile: linear between order statistics, as numpy.quantile")
{
    const xt::xtensor<double, 2> x = {{7, 1, 3}, {10, 4, 2}};
    // numpy.quantile([7, 1, 3, 10, 4, 2], [0, 0.1, 0.25, 0.5, 0.9, 1])
    const std::vector<double> expected = {1, 1.5, 2.25, 3.5, 8.5, 10};
    const std::vector<double> q = sd::quantiles(x, {0, 0.1, 0.25, 0.5, 0.9, 1});
    for (std::size_t i = 0; i < expected.size(); ++i) {
        CHECK(q[i] == doctest::Approx(expected[i]).epsilon(1e-15));
    }
    CHECK(sd::quantile(xt::xarray<int>{3}, 0.7) == 3);
    CHECK(sd::quantile(xt::xarray<int>{1, 2}, 0.5) == 1.5);
    CHECK(sd::quantiles(x, {}).empty());
    const auto large = gaussian<float>(10'001, 0, 1, 3);
    std::vector<float> sorted(large.begin(), large.end());
    std::sort(sorted.begin(), sorted.end());
    CHECK(sd::quantile(large, 0.5) == static_cast<double>(sorted[5000]));
    CHECK(sd::quantile(large, 0.05) == doctest::Approx(static_cast<double>(sorted[500])).epsilon(1e-12));
}

TEST_CASE("quantile: never decreases with the probability and does not overflow between the largest doubles")
{
    const double largest = std::numeric_limits<double>::max();
    const xt::xtensor<double, 1> x = {-largest, largest, 0.1, 0.1, 0.1};
    double previous = -largest;
    for (int i = 0; i <= 1000; ++i) {
        const double q = sd::quantile(x, i / 1000.0);
        CHECK(sd::detail::is_finite(q));
        CHECK(q >= previous);
        previous = q;
    }
    CHECK(sd::quantile(xt::xtensor<double, 1>{-largest, largest}, 0.5) == 0);
}

TEST_CASE("quantile: NaN spoils all, infinities are order statistics like others")
{
    const xt::xtensor<double, 1> spoilt = {1, nan(), 3};
    CHECK(is_nan(sd::quantile(spoilt, 0)));
    const xt::xtensor<double, 1> x = {-infinity, 1, 2, infinity, infinity};
    CHECK(is_negative_infinity(sd::quantile(x, 0)));
    CHECK(is_negative_infinity(sd::quantile(x, 0.1)));
    CHECK(sd::quantile(x, 0.25) == 1);
    CHECK(is_positive_infinity(sd::quantile(x, 0.6)));
    CHECK(is_positive_infinity(sd::quantile(x, 0.9)));
}

TEST_CASE("quantile: no elements, or a probability outside [0, 1], is refused")
{
    const xt::xtensor<float, 1> x = {1, 2};
    CHECK(complaint_of([&] { sd::quantile(xt::xtensor<float, 1>::from_shape({0}), 0.5); }) ==
          "scaledot: the number of elements was 0, must be at least 1");
    for (const double p : {-0.01, 1.01, nan(), infinity}) {
        CHECK(complaint_of([&] { sd::quantile(x, p); }).find("a probability was") != std::string::npos);
    }
}

TEST_CASE("histogram: bins are closed below and the last one above, as numpy.histogram's")
{
    const xt::xtensor<float, 1> x = {0, 1, 1, 2, 3, 4, 4, -1, 5, 100};
    // numpy.histogram(x, 4, (0, 4))
    const sd::histogram_result h = sd::histogram(x, 4, 0, 4);
    CHECK(h.edges == xt::xtensor<double, 1>{0, 1, 2, 3, 4});
    CHECK(h.counts == xt::xtensor<std::size_t, 1>{1, 2, 1, 3});
    CHECK(h.below == 1);
    CHECK(h.above == 2);
    CHECK(h.nan == 0);
}

TEST_CASE("histogram: every element is counted once, in the bin whose edges enclose it")
{
    auto x = gaussian<float>(20'000, 0, 1, 9);
    x(7) = static_cast<float>(nan());
    x(8) = static_cast<float>(infinity);
    x(9) = static_cast<float>(-infinity);
    x(10) = std::nextafter(0.7f, 0.f); // just below the last edge
    const sd::histogram_result h = sd::histogram(x, 7, static_cast<double>(-0.7f), static_cast<double>(0.7f));
    CHECK(h.edges.size() == 8);
    CHECK(h.edges(0) == static_cast<double>(-0.7f));
    CHECK(h.edges(7) == static_cast<double>(0.7f));
    CHECK(h.nan == 1);
    std::size_t total = h.below + h.above + h.nan;
    for (std::size_t bin = 0; bin < 7; ++bin) {
        total += h.counts(bin);
        const auto inside = std::count_if(x.begin(), x.end(), [&](float value) {
            const auto v = static_cast<double>(value);
            return !is_nan(v) && v >= h.edges(bin) && (bin == 6 ? v <= h.edges(7) : v < h.edges(bin + 1));
        });
        CHECK(h.counts(bin) == static_cast<std::size_t>(inside));
    }
    CHECK(total == x.size());
}

TEST_CASE("histogram: counts of elements outside only, and of none, are zeros")
{
    const sd::histogram_result outside = sd::histogram(xt::xarray<int>{5, 6}, 3, 0, 1);
    CHECK(outside.counts == xt::xtensor<std::size_t, 1>{0, 0, 0});
    CHECK(outside.above == 2);
    CHECK(sd::histogram(xt::xtensor<float, 1>::from_shape({0}), 2, 0, 1).counts == xt::xtensor<std::size_t, 1>{0, 0});
}

TEST_CASE("histogram: no bins, or a range that is empty, reversed or not finite, is refused")
{
    const xt::xtensor<float, 1> x = {1, 2};
    CHECK(complaint_of([&] { sd::histogram(x, 0, 0, 1); }) == "scaledot: bins was 0, must be at least 1");
    CHECK(complaint_of([&] { sd::histogram(x, 2, 1, 1); }) ==
          "scaledot: the range was [1, 1], must be finite with low < high");
    CHECK(complaint_of([&] { sd::histogram(x, 2, 2, 1); }).find("the range was") != std::string::npos);
    CHECK(complaint_of([&] { sd::histogram(x, 2, nan(), 1); }).find("the range was") != std::string::npos);
    CHECK(complaint_of([&] { sd::histogram(x, 2, 0, infinity); }).find("the range was") != std::string::npos);
}
