// SPDX-License-Identifier: BSD-3-Clause
#include <scaledot/kernel/mask.hpp>

#include "support/attention_cases.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <limits>
#include <memory>
#include <random>
#include <type_traits>
#include <vector>

namespace kernel = scaledot::kernel;
using namespace test_support;
using arch = scaledot::native_architecture;

namespace {

/// Scores after mask_row, which finds them in whole vectors.
template <class T, class M>
std::vector<T> mask_scores(std::vector<T> scores, const M* mask, std::ptrdiff_t step, T factor = 1)
{
    constexpr std::size_t lanes = kernel::lanes<arch, T>;
    const std::size_t count = scores.size();
    scores.resize((count + lanes - 1) / lanes * lanes);
    kernel::mask_row<arch>(scores.data(), count, mask, step, factor);
    scores.resize(count);
    return scores;
}

/// What mask_row says of one score.
template <class T, class M>
T masked(T score, M element)
{
    if constexpr (std::is_same_v<M, bool>) {
        return element ? score : minus_infinity_of<T>();
    } else {
        const auto bias = static_cast<long double>(
            static_cast<double>(kernel::to_arithmetic<scaledot::detail::arithmetic_t<M>>(element)));
        if (scaledot::detail::is_negative_infinity(static_cast<double>(bias))) {
            return minus_infinity_of<T>();
        }
        constexpr long double largest = std::numeric_limits<T>::max();
        return static_cast<T>(
            std::clamp(static_cast<long double>(score) + std::clamp(bias, -largest, largest), -largest, largest));
    }
}

} // namespace

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
    const std::vector<T> masked = mask_scores(scores, biases.data(), 1);
    for (std::size_t j = 0; j < sums.size(); ++j) {
        CAPTURE(j);
        CHECK(std::bit_cast<kernel::bits_of<T>>(masked[j]) == std::bit_cast<kernel::bits_of<T>>(sums[j]));
    }
    const std::vector<T> with = {T(1), nan_of<T>(), largest, none};
    const std::vector<T> invalid =
        mask_scores(std::vector<T>{nan_of<T>(), T(1), nan_of<T>(), infinite}, with.data(), 1);
    CHECK(all_nan(std::vector<T>(invalid.begin(), invalid.begin() + 3)));
    CHECK(std::bit_cast<kernel::bits_of<T>>(invalid[3]) == kernel::negative_infinity_bits<T>);
}

TEST_CASE_TEMPLATE("mask_row: false and -inf exclude any score, other numbers are added, along any step", M, bool,
                   float, double, xtl::half_float, scaledot::bfloat16)
{
    for (const std::ptrdiff_t step : {std::ptrdiff_t{1}, std::ptrdiff_t{3}, std::ptrdiff_t{-2}, std::ptrdiff_t{0}}) {
        const std::vector<float> before = {1, 2, nan_of<float>(), infinity_of<float>(), minus_infinity_of<float>(), 6};
        dense<M, 1> mask = filled<M, 1>({40}, 1);
        const auto at = [&](std::ptrdiff_t j) { return static_cast<std::size_t>(20 + j * step); };
        for (const std::ptrdiff_t j : {0, 2, 3}) {
            if constexpr (std::is_same_v<M, bool>) {
                mask(at(j)) = false;
            } else {
                mask(at(j)) = minus_infinity_of<M>();
            }
        }
        const std::vector<float> scores = mask_scores(before, &mask(20), step);
        for (std::ptrdiff_t j = 0; j < 6; ++j) {
            const auto i = static_cast<std::size_t>(j);
            const bool excluded = step == 0 || j == 0 || j == 2 || j == 3 || j == 4;
            const float sum = std::is_same_v<M, bool> ? before[i] : before[i] + 1;
            CHECK(
                (excluded ? scaledot::detail::is_negative_infinity(static_cast<double>(scores[i])) : scores[i] == sum));
        }
    }
}

TEST_CASE_TEMPLATE("mask_row: at every length, of the mask nothing but its elements is read", M, bool, float, double,
                   xtl::half_float, scaledot::bfloat16)
{
    const auto check = [&]<class T>(T) {
        std::mt19937 generator(5);
        std::normal_distribution<float> normal(0, 30);
        for (std::size_t count = 1; count <= 3 * kernel::lanes<arch, T> + 1; ++count) {
            const auto mask = std::make_unique<M[]>(count);
            std::vector<T> scores(count);
            for (std::size_t j = 0; j < count; ++j) {
                scores[j] = static_cast<T>(normal(generator));
                if constexpr (std::is_same_v<M, bool>) {
                    mask[j] = generator() % 3 != 0;
                } else {
                    mask[j] = generator() % 3 == 0 ? minus_infinity_of<M>() : M(normal(generator));
                    if (std::is_same_v<M, double> && generator() % 3 == 0) {
                        mask[j] = M(std::is_same_v<T, float> ? 1e300 : 0x1.8p-20);
                    }
                }
            }
            for (const T factor : {T(1), T(0.3)}) {
                const std::vector<T> result = mask_scores(scores, mask.get(), 1, factor);
                const bool multiplied = !std::is_same_v<M, bool>;
                for (std::size_t j = 0; j < count; ++j) {
                    const T score = multiplied ? scores[j] * factor : scores[j];
                    CHECK(std::bit_cast<kernel::bits_of<T>>(result[j]) ==
                          std::bit_cast<kernel::bits_of<T>>(masked(score, mask[j])));
                }
            }
        }
    };
    check(float{});
    check(double{});
}
