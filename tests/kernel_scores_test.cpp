// SPDX-License-Identifier: BSD-3-Clause
#include <scaledot/kernel/scores.hpp>

#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <cstddef>
#include <limits>
#include <random>
#include <vector>

using namespace scaledot;
using namespace scaledot::kernel;
using arch = native_architecture;

namespace {

template <class T>
bool is_nan_by_bits(T x)
{
    return (std::bit_cast<bits_of<T>>(x) & std::numeric_limits<bits_of<T>>::max()) > exponent_mask<T>;
}

template <class T>
bool is_excluded(T x)
{
    return std::bit_cast<bits_of<T>>(x) == negative_infinity_bits<T>;
}

} // namespace

TEST_CASE_TEMPLATE("softcap_row: c tanh(s / c) to a few ulp, small scores to all digits", T, float, double)
{
    constexpr std::size_t count = 4 * lanes<arch, T>;
    for (const double cap : {0.5, 30.0, 1e6}) {
        for (const double spread : {1e-30, 1e-3, 1.0, 100.0}) {
            std::vector<T> scores(count);
            std::mt19937 generator(7);
            std::normal_distribution<double> draw(0, spread * cap);
            for (T& s : scores) {
                s = static_cast<T>(draw(generator));
            }
            const auto before = scores;
            softcap_row<arch>(scores.data(), count, static_cast<T>(cap));
            for (std::size_t j = 0; j < count; ++j) {
                const long double c = static_cast<T>(cap);
                const long double exact = c * std::tanh(static_cast<long double>(before[j]) / c);
                // the quotient's and the product's rounding and hyperbolic_tangent's bound
                CHECK(std::abs(scores[j] - exact) <=
                      (hyperbolic_tangent_max_ulp + 2) * std::numeric_limits<T>::epsilon() * std::abs(exact));
            }
        }
    }
}

TEST_CASE_TEMPLATE("mask_row: false and -inf exclude, whatever the score; a finite number only adds", T, float, double)
{
    const std::vector<T> start = {T(1), quiet_nan<T>(), std::numeric_limits<T>::max(), T(-2)};
    const bool allowed[] = {true, false, false, true};
    std::vector<T> scores = start;
    mask_row(scores.data(), scores.size(), allowed, 1);
    CHECK(scores[0] == T(1));
    CHECK(is_excluded(scores[1]));
    CHECK(is_excluded(scores[2]));
    CHECK(scores[3] == T(-2));

    const std::vector<T> bias = {T(0.5), negative_infinity<T>, negative_infinity<T>, T(-1e30)};
    scores = start;
    mask_row(scores.data(), scores.size(), bias.data(), 1);
    CHECK(scores[0] == T(1.5));
    CHECK(is_excluded(scores[1]));
    CHECK(is_excluded(scores[2]));
    CHECK_FALSE(is_excluded(scores[3]));
}

TEST_CASE("mask_row: steps of 0 broadcast, negative ones walk backwards; -1e300 does not exclude in float")
{
    const double bias[] = {1.0, 2.0, -1e300};
    std::vector<float> scores = {0.f, 0.f, 0.f};
    mask_row(scores.data(), scores.size(), bias, 0);
    CHECK(scores == std::vector<float>{1.f, 1.f, 1.f});
    mask_row(scores.data(), 2, bias + 1, -1);
    CHECK(scores == std::vector<float>{3.f, 2.f, 1.f});
    mask_row(scores.data(), 1, bias + 2, 1);
    CHECK_FALSE(is_excluded(scores[0]));
}

TEST_CASE_TEMPLATE("restrict_row: keeps [first, last)", T, float, double)
{
    for (std::size_t first = 0; first <= 6; ++first) {
        for (std::size_t last = 0; last <= 6; ++last) {
            std::vector<T> scores(5, T(1));
            restrict_row(scores.data(), scores.size(), first, last);
            for (std::size_t j = 0; j < scores.size(); ++j) {
                CHECK(is_excluded(scores[j]) == !(first <= j && j < last));
            }
        }
    }
}

TEST_CASE_TEMPLATE("weigh_row: exp(score - maximum) and their sum; excluded scores weigh +0", T, float, double)
{
    constexpr std::size_t count = 3 * lanes<arch, T>;
    std::vector<T> scores(count, negative_infinity<T>);
    for (std::size_t j = 0; j < count; j += 2) {
        scores[j] = T(1000) - static_cast<T>(j);
    }
    const auto before = scores;
    const auto row = weigh_row<arch>(scores.data(), count);
    CHECK(row.maximum == T(1000));
    long double sum = 0;
    for (std::size_t j = 0; j < count; ++j) {
        if (j % 2 == 1) {
            CHECK(std::bit_cast<bits_of<T>>(scores[j]) == 0);
            continue;
        }
        const long double exact = std::exp(static_cast<long double>(before[j]) - 1000);
        CHECK(std::abs(scores[j] - exact) <= exp_negative_max_ulp * std::numeric_limits<T>::epsilon() * exact);
        sum += exact;
    }
    CHECK(std::abs(row.sum - sum) <= (exp_negative_max_ulp + 2) * std::numeric_limits<T>::epsilon() * sum);
}

TEST_CASE_TEMPLATE("weigh_row: nothing but excluded scores is empty; NaN and +inf make all NaN", T, float, double)
{
    constexpr std::size_t count = 2 * lanes<arch, T>;
    std::vector<T> scores(count, negative_infinity<T>);
    const auto empty = weigh_row<arch>(scores.data(), count);
    CHECK(is_excluded(empty.maximum));
    CHECK(empty.sum == T(0));
    CHECK(scores[count - 1] == T(0));
    for (const T bad : {quiet_nan<T>(), std::bit_cast<T>(static_cast<bits_of<T>>(negative_infinity_bits<T> | 1)), infinity<T>}) {
        for (std::size_t at = 0; at < count; ++at) {
            for (const T others : {T(3), negative_infinity<T>}) {
                std::vector<T> row(count, others);
                row[at] = bad;
                const auto result = weigh_row<arch>(row.data(), count);
                CHECK(is_nan_by_bits(result.maximum));
                CHECK(is_nan_by_bits(result.sum));
                CHECK(is_nan_by_bits(row[0]));
            }
        }
    }
}
