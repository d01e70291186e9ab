// SPDX-License-Identifier: BSD-3-Clause
#include <scaledot/kernel/scores.hpp>

#include "support/attention_cases.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

namespace kernel = scaledot::kernel;
using namespace test_support;
using arch = scaledot::native_architecture;

namespace {

template <class T>
std::vector<T> numbers(std::size_t count, unsigned seed, double deviation = 1)
{
    const auto x = gaussians<T, 1>({count}, seed, deviation);
    return std::vector<T>(x.begin(), x.end());
}

/// Of x / cap, tanh and the product with cap: a unit in the last place each, and hyperbolic_tangent's few.
constexpr double softcap_max_ulp = 6;

} // namespace

TEST_CASE("in_range: finite numbers stay finite, infinities and NaN stay what they are")
{
    CHECK(kernel::in_range<float>(1e300) == std::numeric_limits<float>::max());
    CHECK(kernel::in_range<float>(-1e300) == std::numeric_limits<float>::lowest());
    CHECK(kernel::in_range<float>(0.1) == 0.1f);
    CHECK(kernel::in_range<float>(1e-300) == 0.f);
    CHECK(scaledot::detail::is_negative_infinity(
        static_cast<double>(kernel::in_range<float>(minus_infinity_of<double>()))));
    CHECK(scaledot::detail::is_positive_infinity(static_cast<double>(kernel::in_range<float>(infinity_of<double>()))));
    CHECK(scaledot::detail::is_nan(static_cast<double>(kernel::in_range<float>(nan_of<double>()))));
    CHECK(kernel::in_range<double>(1e300) == 1e300);
    CHECK(kernel::in_range<float>(from_double<scaledot::bfloat16>(-3e38)) < -2.9e38f);
}

TEST_CASE_TEMPLATE("softcap_row: cap tanh(score / cap) from tiny to saturated scores", T, float, double)
{
    constexpr std::size_t count = 4 * kernel::lanes<arch, T>;
    for (const double cap : {1e-20, 1.0, 30.0, 1e20}) {
        for (const double size : {1e-30, 1e-6, 1e-3, 1.0, 1e3, 1e30}) {
            auto scores = numbers<T>(count, 1, size);
            const auto input = scores;
            kernel::softcap_row<arch>(scores.data(), count, static_cast<T>(cap));
            for (std::size_t i = 0; i < count; ++i) {
                const long double c = static_cast<T>(cap);
                const auto exact = static_cast<double>(c * std::tanh(static_cast<long double>(input[i]) / c));
                CAPTURE(input[i]);
                CAPTURE(cap);
                CHECK(std::abs(static_cast<double>(scores[i]) - exact) <=
                      softcap_max_ulp * std::abs(exact) * static_cast<double>(std::numeric_limits<T>::epsilon()));
            }
        }
    }
    std::vector<T> special(count, T(0));
    special[0] = infinity_of<T>();
    special[1] = minus_infinity_of<T>();
    special[2] = nan_of<T>();
    special[3] = T(-0.0);
    kernel::softcap_row<arch>(special.data(), count, T(5));
    CHECK(special[0] == T(5));
    CHECK(special[1] == T(-5));
    CHECK(scaledot::detail::is_nan(static_cast<double>(special[2])));
    CHECK(special[3] == T(0));
}

TEST_CASE_TEMPLATE("mask_row: the sum of two finite numbers stays finite, what is not finite stays so", T, float,
                   double)
{
    constexpr T largest = std::numeric_limits<T>::max();
    constexpr T lowest = std::numeric_limits<T>::lowest();
    const T infinite = infinity_of<T>();
    const T none = minus_infinity_of<T>();
    const std::vector<T> scores = {lowest / 2, lowest, T(-1),  largest / 2, largest, T(1),    none,   infinite,
                                   none,       T(1),   lowest, largest,     T(0),    largest, lowest, T(2)};
    const std::vector<T> biases = {lowest,  lowest,   lowest, largest, largest, largest, lowest,  largest,
                                   largest, infinite, none,   T(1e25), lowest,  lowest,  largest, T(3)};
    const std::vector<T> sums = {lowest, lowest,   lowest, largest, largest, largest, none, infinite,
                                 none,   infinite, none,   largest, lowest,  T(0),    T(0), T(5)};
    std::vector<T> masked = scores;
    kernel::mask_row(masked.data(), masked.size(), biases.data(), 1);
    for (std::size_t j = 0; j < sums.size(); ++j) {
        CAPTURE(j);
        CHECK(std::bit_cast<kernel::bits_of<T>>(masked[j]) == std::bit_cast<kernel::bits_of<T>>(sums[j]));
    }
    std::vector<T> invalid = {nan_of<T>(), T(1), nan_of<T>(), infinite};
    const std::vector<T> with = {T(1), nan_of<T>(), largest, none};
    kernel::mask_row(invalid.data(), 4, with.data(), 1);
    CHECK(all_nan(std::vector<T>(invalid.begin(), invalid.begin() + 3)));
    CHECK(std::bit_cast<kernel::bits_of<T>>(invalid[3]) == kernel::negative_infinity_bits<T>);
}

TEST_CASE_TEMPLATE("mask_row: false and -inf exclude any score, other numbers are added, along any step", M, bool,
                   float, double, xtl::half_float, scaledot::bfloat16)
{
    for (const std::ptrdiff_t step : {std::ptrdiff_t{1}, std::ptrdiff_t{3}, std::ptrdiff_t{-2}, std::ptrdiff_t{0}}) {
        std::vector<float> scores = {1, 2, nan_of<float>(), infinity_of<float>(), minus_infinity_of<float>(), 6};
        const auto before = scores;
        dense<M, 1> mask = filled<M, 1>({40}, 1);
        const auto at = [&](std::ptrdiff_t j) { return static_cast<std::size_t>(20 + j * step); };
        for (const std::ptrdiff_t j : {0, 2, 3}) {
            if constexpr (std::is_same_v<M, bool>) {
                mask(at(j)) = false;
            } else {
                mask(at(j)) = minus_infinity_of<M>();
            }
        }
        kernel::mask_row(scores.data(), 6, &mask(20), step);
        for (std::ptrdiff_t j = 0; j < 6; ++j) {
            const auto i = static_cast<std::size_t>(j);
            const bool excluded = step == 0 || j == 0 || j == 2 || j == 3 || j == 4;
            const float sum = std::is_same_v<M, bool> ? before[i] : before[i] + 1;
            CHECK(
                (excluded ? scaledot::detail::is_negative_infinity(static_cast<double>(scores[i])) : scores[i] == sum));
        }
    }
}

TEST_CASE("restrict_row: keeps [first, last), also where that lies outside the row or is empty")
{
    for (std::size_t first = 0; first <= 12; ++first) {
        for (std::size_t last = 0; last <= 12; ++last) {
            std::vector<float> scores(9, 1.f);
            kernel::restrict_row(scores.data(), 8, first, last);
            for (std::size_t j = 0; j < 8; ++j) {
                CHECK(scaledot::detail::is_negative_infinity(static_cast<double>(scores[j])) ==
                      (j < first || j >= last));
            }
            CHECK(scores[8] == 1.f);
        }
    }
}

TEST_CASE_TEMPLATE("weigh_row: weights exp(score - maximum), their sum and the maximum; excluded scores weigh +0", T,
                   float, double)
{
    constexpr std::size_t lanes = kernel::lanes<arch, T>;
    for (const std::size_t count : std::initializer_list<std::size_t>{lanes, 2 * lanes, 128}) {
        for (const double deviation : {0.0, 1.0, 30.0, 1e4}) {
            auto scores = numbers<T>(count, 1, deviation);
            scores[1] = scores[count - 1] = minus_infinity_of<T>();
            const auto input = scores;
            const auto result = kernel::weigh_row<arch>(scores.data(), count);
            T maximum = input[0];
            for (std::size_t j = 0; j + 1 < count; ++j) {
                maximum = j != 1 && input[j] > maximum ? input[j] : maximum;
            }
            CHECK(result.maximum == maximum);
            long double sum = 0;
            for (std::size_t j = 0; j < count; ++j) {
                const bool excluded = j == 1 || j == count - 1;
                // of the difference's rounding, which exp makes relative, and of exp itself
                const long double fall = static_cast<long double>(input[excluded ? 0 : j]) - maximum;
                const auto exact = excluded ? 0 : static_cast<double>(std::exp(fall));
                const double relative =
                    (2 + std::abs(static_cast<double>(fall))) * static_cast<double>(std::numeric_limits<T>::epsilon());
                const double smallest = static_cast<double>(std::numeric_limits<T>::min());
                REQUIRE(std::abs(static_cast<double>(scores[j]) - exact) <= relative * exact + smallest);
                REQUIRE((!excluded || all_zero(std::vector<T>{scores[j]})));
                sum += scores[j];
            }
            CHECK(std::abs(static_cast<double>(static_cast<long double>(result.sum) - sum)) <=
                  static_cast<double>(sum) * static_cast<double>(std::numeric_limits<T>::epsilon()) *
                      static_cast<double>(count));
        }
    }
}

TEST_CASE_TEMPLATE("weigh_row: a row of excluded scores is empty; NaN or +inf anywhere makes it NaN", T, float, double)
{
    constexpr std::size_t count = 3 * kernel::lanes<arch, T>;
    std::vector<T> none(count, minus_infinity_of<T>());
    const auto empty = kernel::weigh_row<arch>(none.data(), count);
    CHECK(kernel::infinity<T> == -empty.maximum);
    CHECK(empty.sum == 0);
    CHECK(all_zero(none));
    for (std::size_t i = 0; i < count; ++i) {
        for (const T bad : {nan_of<T>(), infinity_of<T>()}) {
            for (const T others : {T(1), minus_infinity_of<T>(), std::numeric_limits<T>::lowest()}) {
                std::vector<T> scores(count, others);
                scores[i] = bad;
                const auto result = kernel::weigh_row<arch>(scores.data(), count);
                CHECK(all_nan(std::vector<T>{result.maximum, result.sum}));
                CHECK(all_nan(scores));
            }
        }
    }
    std::vector<T> huge(count, std::numeric_limits<T>::lowest());
    huge[1] = std::numeric_limits<T>::max(); // differences beyond the type's range weigh 0
    const auto result = kernel::weigh_row<arch>(huge.data(), count);
    CHECK(result.sum == 1);
    CHECK(result.maximum == std::numeric_limits<T>::max());
}
