// SPDX-License-Identifier: BSD-3-Clause
#include <scaledot/kernel/norm.hpp>

#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <vector>

namespace sd = scaledot;
using namespace scaledot::kernel;
using arch = sd::native_architecture;

namespace {

bool is_infinite_or_nan(double x)
{
    return (std::bit_cast<std::int64_t>(x) & exponent_mask<double>) == exponent_mask<double>;
}

constexpr const absent* none = nullptr;

} // namespace

TEST_CASE("norm_scale: neither the largest element nor the root of epsilon is beyond 4, one of them is at least 1")
{
    for (const double largest : {0.0, 1e-300, 1.0, 1e300}) {
        for (const double epsilon : {0.0, 1e-300, 1e-5, 1e300}) {
            const double scale = norm_scale(largest, epsilon);
            CHECK(largest * scale < 4);
            CHECK(std::sqrt(epsilon) * scale < 4);
            if (largest > 0 || epsilon > 0) {
                CHECK(std::max(largest, std::sqrt(epsilon)) * scale >= 1);
            }
        }
    }
}

TEST_CASE("finite_magnitude: the larger end of a range; 0 for infinity and NaN")
{
    CHECK(finite_magnitude({-3, 2}) == 3);
    CHECK(finite_magnitude({1, 2}) == 2);
    CHECK(finite_magnitude({-2, -1}) == 2);
    CHECK(finite_magnitude({0, infinity<double>}) == 0);
    CHECK(finite_magnitude({-infinity<double>, 0}) == 0);
    CHECK(finite_magnitude({quiet_nan<double>(), quiet_nan<double>()}) == 0);
}

TEST_CASE("reach_of: a power of two above all deviations, whose square is a normal number")
{
    centre c;
    c.scale = 0.5;
    c.mean = {1, 0};
    for (const double distance : {0.0, 0x1p-50, 0.125, 1.0, 2.0, 6.0}) {
        const double reach = reach_of({2 - distance, 2 + distance / 2}, c);
        CHECK(reach > distance / 2);
        CHECK(std::exp2(std::round(std::log2(reach))) == reach);
        CHECK(std::isnormal(reach * reach));
        CHECK((distance == 0 || reach <= 4 * distance));
    }
}

TEST_CASE("squares_about_mean: those about the mean's high part less count times its low part squared")
{
    centre c;
    c.mean = {1, 0x1p-55};
    const auto squares = squares_about_mean({0x1p-100, 0}, c, 2);
    CHECK(squares.high == 0x1p-100 - 0x1p-109);
}

TEST_CASE("is_spoilt: infinity and NaN are, the largest number is not")
{
    CHECK(!is_spoilt({std::numeric_limits<double>::max(), 0}));
    CHECK(is_spoilt({barrier(infinity<double>), 0}));
    CHECK(is_spoilt({barrier(-infinity<double>), barrier(quiet_nan<double>())}));
    const normalization n = spoilt_normalization();
    CHECK(is_infinite_or_nan(n.unscaled_mean));
    CHECK(is_infinite_or_nan(n.unscaled_inverse));
}

TEST_CASE("set_mean: of the scaled elements, and of those as they are, also where the scaled ones vanish")
{
    normalization n;
    n.centre.scale = 0x1p-10;
    set_mean(n, {12, 0x1p-60}, 4, 0x1p10);
    CHECK(n.centre.mean.high == 3 * 0x1p-20);
    CHECK(n.centre.mean.low == 0x1p-82);
    CHECK(n.unscaled_mean == 3 * 0x1p-10);
    n.centre.scale = 0x1p-500;
    set_mean(n, {12, 0}, 4, 0x1p1000);
    CHECK(n.centre.mean.high == 0);
    CHECK(n.unscaled_mean == 3 * 0x1p-1000);
}

TEST_CASE("set_inverse: 1 / sqrt(mean square + epsilon), for the scaled elements and for those as they are")
{
    normalization n;
    set_inverse<false>(n, {12, 0}, 4, 1);
    CHECK(n.inverse.high == 0.5);
    CHECK(n.unscaled_inverse == 0.5);
    n.centre.scale = 0x1p-10;
    set_inverse<true>(n, {12 * 0x1p-20, 0}, 4, 1);
    CHECK(n.inverse.high == 0.5 * 0x1p10);
    CHECK(n.unscaled_inverse == 0.5);
}

TEST_CASE("set_inverse: no deviation and no epsilon is infinite, with epsilon finite also where the scale hides it")
{
    normalization n;
    set_inverse<false>(n, {0, 0}, 4, 0);
    CHECK(is_infinite_or_nan(n.inverse.high));
    n.centre.scale = 0x1p-1022;
    set_inverse<true>(n, {0, 0}, 4, 0);
    CHECK(is_infinite_or_nan(n.inverse.high));
    set_inverse<true>(n, {0, 0}, 4, 0.25);
    CHECK(!is_infinite_or_nan(n.inverse.high));
    CHECK(n.unscaled_inverse == 2);
}

TEST_CASE_TEMPLATE("normalize: (x - mean) * inverse * gamma + beta at every length, with and without gamma and beta", T,
                   float, double, xtl::half_float, sd::bfloat16)
{
    constexpr bool pairs = std::is_same_v<T, double>;
    normalization n;
    n.centre.mean = {3, 0};
    n.inverse = {0.5, 0};
    for (std::size_t count = 0; count <= 4 * lanes<arch, double> + 1; ++count) {
        // exactly `count` elements on the heap, for the address sanitizer to watch the end; all numbers are exact
        const auto x = std::make_unique<T[]>(count);
        const auto gamma = std::make_unique<float[]>(count);
        const auto beta = std::make_unique<double[]>(count);
        const auto y = std::make_unique<T[]>(count);
        for (std::size_t i = 0; i < count; ++i) {
            x[i] = T(static_cast<float>(i % 8));
            gamma[i] = static_cast<float>(i % 3);
            beta[i] = static_cast<double>(i % 5) - 2;
        }
        const auto check = [&](auto&& expected) {
            for (std::size_t i = 0; i < count; ++i) {
                CHECK(to_arithmetic<double>(y[i]) == expected((static_cast<double>(i % 8) - 3) * 0.5, i));
            }
        };
        normalize<arch, pairs>(y.get(), x.get(), gamma.get(), beta.get(), count, n);
        check([&](double z, std::size_t i) { return z * static_cast<double>(gamma[i]) + beta[i]; });
        normalize<arch, pairs>(y.get(), x.get(), gamma.get(), none, count, n);
        check([&](double z, std::size_t i) { return z * static_cast<double>(gamma[i]); });
        normalize<arch, pairs>(x.get(), x.get(), none, none, count, n);
        for (std::size_t i = 0; i < count; ++i) {
            y[i] = x[i];
        }
        check([](double z, std::size_t) { return z; });
    }
}

TEST_CASE("normalize: the low parts of mean and inverse count")
{
    normalization n;
    n.centre.mean = {1, 0x1p-60};
    n.inverse = {1, 0x1p-54};
    const std::vector<double> x(9, 1.0);
    std::vector<double> y(9);
    normalize<arch, true>(y.data(), x.data(), none, none, y.size(), n);
    for (const double value : y) {
        CHECK(value == -0x1p-60);
    }
    const std::vector<float> narrow(9, 1.0f);
    normalize<arch, false>(y.data(), narrow.data(), none, none, y.size(), n);
    for (const double value : y) {
        CHECK(value == -0x1p-60);
    }
    n.centre.mean = {0, 0};
    n.inverse = {1, 0x1p-53};
    const std::vector<double> odd(9, 1.0 + 0x1p-52);
    normalize<arch, true>(y.data(), odd.data(), none, none, y.size(), n);
    for (const double value : y) {
        CHECK(value == 1.0 + 0x1p-51); // 1 + 2^-52 + 2^-53 (1 + 2^-52), just above the middle
    }
}
