// SPDX-License-Identifier: BSD-3-Clause
#include <scaledot/channels.hpp>

#include "support/norm_rows.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <string>
#include <vector>

namespace sd = scaledot;
using namespace test_support;

namespace {

const double infinity = sd::kernel::infinity<double>;
const double not_a_number = sd::kernel::quiet_nan<double>();
using channels = xt::xtensor<double, 1>;

/// The middle of the sorted values, or the mean of the two in the middle.
double middle(std::vector<double> values)
{
    std::sort(values.begin(), values.end());
    const std::size_t half = values.size() / 2;
    return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

} // namespace

TEST_CASE("summarize_channels: shares are counts over the number of channels")
{
    const auto s = sd::summarize_channels(channels{0.5, -0.5, 1.0, 2.0, -3.0, 0.0009, -0.0009, 0.001, 0.0, -1.0});
    CHECK(s.shrinking == 0.6);
    CHECK(s.growing == 0.2);
    CHECK(s.negative == 0.4);
    CHECK(s.dead == doctest::Approx(0.3).epsilon(1e-15));
    CHECK(s.not_finite == 0);
    CHECK(s.finite.count == 10);
    CHECK(s.finite.minimum == -3);
    CHECK(s.finite.maximum == 2);
}

TEST_CASE("summarize_channels: the effective gain is the root mean square that a normalised input leaves with")
{
    std::mt19937_64 engine(7);
    std::normal_distribution<double> normal;
    const xt::xtensor<float, 1> gamma = gaussian<float>(64, 0.3, 0.2, 5);
    const auto s = sd::summarize_channels(gamma);
    long double exact = 0;
    for (const float g : gamma) {
        exact += static_cast<long double>(g) * g / 64;
    }
    CHECK(s.root_mean_square == doctest::Approx(static_cast<double>(std::sqrt(exact))).epsilon(1e-14));
    double squares = 0; // of gamma times standard normal channels
    constexpr int rows = 20'000;
    for (int row = 0; row < rows; ++row) {
        for (const float g : gamma) {
            squares += std::pow(g * normal(engine), 2);
        }
    }
    // the mean of 64 x 20,000 squares scatters by about 0.2 %
    CHECK(s.root_mean_square == doctest::Approx(std::sqrt(squares / (64 * rows))).epsilon(0.01));
}

TEST_CASE("summarize_channels: median, median deviation and z-scores, for odd and even numbers of channels")
{
    for (const std::size_t count : {std::size_t{768}, std::size_t{769}}) {
        const xt::xtensor<float, 1> drawn = gaussian<float>(count, 1.2, 0.08, 9);
        std::vector<double> values(drawn.begin(), drawn.end());
        values[500] = 17.4;
        values[7] = -0.5;
        const auto s = sd::summarize_channels(xt::adapt(values));
        const double median = middle(values);
        std::vector<double> distances;
        for (const double v : values) {
            distances.push_back(std::abs(v - median));
        }
        CHECK(s.median == doctest::Approx(median).epsilon(1e-15));
        CHECK(s.median_deviation == doctest::Approx(middle(distances)).epsilon(1e-14));
        // of Gaussian channels, 1.4826 median deviations are the standard deviation: to 3 standard errors, 1.17 /
        // sqrt(n)
        CHECK(std::abs(1.4826 * s.median_deviation / 0.08 - 1) <= 3 * 1.17 / std::sqrt(static_cast<double>(count)));
        REQUIRE(s.outliers.size() == 2);
        CHECK(s.outliers[0].index == 500);
        CHECK(s.outliers[0].value == 17.4);
        CHECK(s.outliers[0].robust_z ==
              doctest::Approx((17.4 - median) / (1.482602 * middle(distances))).epsilon(1e-6));
        CHECK(s.outliers[1].index == 7);
        CHECK(s.outliers[1].robust_z < -8);
        CHECK(sd::summarize_channels(xt::adapt(values), {.outlier_from = 1e4}).outliers.empty());
    }
}

TEST_CASE("summarize_channels: one channel that differs from equal others is infinitely far; equal ones come by index")
{
    const auto s = sd::summarize_channels(channels{1, 1, 0.5, 1, 1, 1.5, 1});
    REQUIRE(s.outliers.size() == 2);
    CHECK(s.outliers[0].index == 2);
    CHECK(sd::detail::is_negative_infinity(s.outliers[0].robust_z));
    CHECK(s.outliers[1].index == 5);
    CHECK(sd::detail::is_positive_infinity(s.outliers[1].robust_z));
    CHECK(sd::summarize_channels(channels{3}).outliers.empty());
}

TEST_CASE("summarize_channels: NaN and infinity are counted and left out")
{
    const auto s = sd::summarize_channels(channels{1, not_a_number, 3, infinity, 2, -infinity});
    CHECK(s.not_finite == 3);
    CHECK(s.finite.count == 3);
    CHECK(s.finite.mean == 2);
    CHECK(s.median == 2);
    CHECK(s.growing == doctest::Approx(4.0 / 6));
    CHECK(s.negative == doctest::Approx(1.0 / 6));
    CHECK(s.outliers.empty());
    const auto none = sd::summarize_channels(channels{not_a_number, infinity});
    CHECK(none.not_finite == 2);
    CHECK(sd::detail::is_nan(none.median));
    CHECK(sd::detail::is_nan(none.root_mean_square));
    const auto empty = sd::summarize_channels(xt::xarray<float>::from_shape({0}));
    CHECK(empty.finite.count == 0);
    CHECK(empty.shrinking == 0);
    CHECK(empty.dead == 0);
}

TEST_CASE("summarize_channels: an offset is added first; half and bfloat16 are read as numbers")
{
    const auto s = sd::summarize_channels(channels{-0.5, 0.5, 1.0}, {.offset = 1});
    CHECK(s.finite.mean == doctest::Approx(4.0 / 3));
    CHECK(s.shrinking == doctest::Approx(1.0 / 3));
    CHECK(s.negative == 0);
    CHECK(sd::summarize_channels(rounded_to<sd::bfloat16>(channels{0.25, 2})).finite.mean == 1.125);
    CHECK(sd::summarize_channels(rounded_to<xtl::half_float>(channels{0.25, 2})).growing == 0.5);
}

TEST_CASE("summarize_channels: huge channels do not overflow")
{
    const double huge = std::numeric_limits<double>::max() / 2;
    const auto s = sd::summarize_channels(channels{huge, huge, -huge, huge});
    CHECK(s.root_mean_square == doctest::Approx(huge).epsilon(1e-14));
    CHECK(s.negative == 0.25);
}

TEST_CASE("summarize_channels: options that make no sense are refused")
{
    const channels x{1};
    CHECK(complaint_of([&] { sd::summarize_channels(x, {.offset = infinity}); }) ==
          "scaledot: offset was inf, must be finite");
    CHECK(complaint_of([&] { sd::summarize_channels(x, {.dead_below = -1}); }) ==
          "scaledot: dead_below was -1, must be at least 0");
    CHECK(complaint_of([&] { sd::summarize_channels(x, {.outlier_from = not_a_number}); }).find("outlier_from was") !=
          std::string::npos);
}
