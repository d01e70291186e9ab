// SPDX-License-Identifier: BSD-3-Clause
#include <scaledot/kernel/softmax.hpp>

#include "support/mpfr_number.hpp"
#include "support/norm_rows.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <limits>
#include <random>
#include <utility>
#include <vector>

namespace sd = scaledot;
using namespace scaledot::kernel;
using test_support::gaussian;
using test_support::mpfr_number;
using arch = sd::native_architecture;

namespace {

constexpr softmax_block along(std::size_t length)
{
    return {true, length, 1, 1, 1};
}

/// Numbers of others and their weights: few and small, many, and those where logarithm and inverse change binade.
template <class T>
std::vector<std::pair<std::size_t, pair<T>>> sums()
{
    std::vector<std::pair<std::size_t, pair<T>>> all = {{1, {0, 0}}, {2, {0, 0}}, {1'000'000, {T(0.25), 0}}};
    std::mt19937_64 engine(1);
    std::uniform_real_distribution<double> exponent(-60, 20);
    std::uniform_real_distribution<double> mantissa(1, 2);
    std::uniform_real_distribution<double> half_ulp(-0.5, 0.5);
    for (int i = 0; i < 5000; ++i) {
        const T high = static_cast<T>(mantissa(engine) * std::exp2(exponent(engine)));
        const T ulp = high * std::numeric_limits<T>::epsilon() / 2;
        all.push_back({1 + static_cast<std::size_t>(i % 3), {high, static_cast<T>(half_ulp(engine)) * ulp}});
    }
    return all;
}

template <class T>
mpfr_number number_of(const pair<T>& p)
{
    return mpfr_number(static_cast<double>(p.high)) + mpfr_number(static_cast<double>(p.low));
}

} // namespace

TEST_CASE_TEMPLATE("inverse_of_sum: 1 / (largest + rest) to far more digits than T has", T, float, double)
{
    for (const auto& [largest, rest] : sums<T>()) {
        const mpfr_number exact = mpfr_number(1) / (mpfr_number(static_cast<double>(largest)) + number_of(rest));
        const mpfr_number error = abs(number_of(inverse_of_sum<T>(largest, rest)) - exact);
        CHECK(!(exact * mpfr_number::power_of_two(3 - 2 * std::numeric_limits<T>::digits) < error));
    }
}

TEST_CASE_TEMPLATE("logarithm_of_sum: ln(largest + rest) to more digits than T has, however small the rest", T, float,
                   double)
{
    for (const auto& [largest, rest] : sums<T>()) {
        const mpfr_number exact = log1p(mpfr_number(static_cast<double>(largest) - 1) + number_of(rest));
        const mpfr_number error = abs(number_of(logarithm_of_sum<T>(largest, rest)) - exact);
        CHECK(!(exact * mpfr_number::power_of_two(-8 - std::numeric_limits<T>::digits) < error));
    }
}

TEST_CASE_TEMPLATE("softmax_find_maxima: the maximum of any length, and whether the row is poisoned", T, float, double)
{
    const std::size_t width = lanes<arch, T>;
    for (std::size_t length = 1; length <= 4 * width + 1; ++length) {
        auto x = gaussian<T>(length, -5, 3, static_cast<unsigned>(length));
        const T largest = *std::max_element(x.begin(), x.end());
        const auto maxima = softmax_find_maxima<arch, T>(x.data(), along(length));
        CHECK(std::all_of(maxima.maximum.begin(), maxima.maximum.end(), [&](T m) { return m == largest; }));
        CHECK(std::none_of(maxima.poisoned.begin(), maxima.poisoned.end(), [](bool p) { return p; }));
        constexpr bits_of<T> sign = std::numeric_limits<bits_of<T>>::min();
        for (const bits_of<T> bits :
             {exponent_mask<T>, bits_of<T>(exponent_mask<T> | 1), bits_of<T>(exponent_mask<T> | sign | 1)}) {
            const T kept = x(length - 1);
            std::memcpy(&x(length - 1), &bits, sizeof bits);
            const auto poisoned = softmax_find_maxima<arch, T>(x.data(), along(length)).poisoned;
            CHECK(std::all_of(poisoned.begin(), poisoned.end(), [](bool p) { return p; }));
            x(length - 1) = kept;
        }
    }
}

TEST_CASE_TEMPLATE("softmax_find_maxima: rows side by side are judged one by one", T, float, double)
{
    const std::size_t width = lanes<arch, T>;
    std::vector<T> x(3 * width);
    for (std::size_t i = 0; i < x.size(); ++i) {
        x[i] = static_cast<T>(i % width) - static_cast<T>(i / width);
    }
    x[width] = quiet_nan<T>();
    for (std::size_t step = 0; step < 3; ++step) {
        x[step * width + 1] = negative_infinity<T>;
    }
    const auto maxima =
        softmax_find_maxima<arch, T>(x.data(), {false, 3, width, static_cast<std::ptrdiff_t>(width), 1});
    for (std::size_t lane = 0; lane < width; ++lane) {
        CHECK(maxima.poisoned[lane] == (lane < 2));
        CHECK((lane < 2 || maxima.maximum[lane] == static_cast<T>(lane)));
    }
}

TEST_CASE_TEMPLATE("softmax_add_weights: counts the maxima apart from the other weights, in vectors and tails alike", T,
                   float, double)
{
    for (std::size_t length = 1; length <= 4 * lanes<arch, T> + 1; ++length) {
        std::vector<T> x(length);
        for (std::size_t i = 0; i < length; ++i) {
            x[i] = static_cast<T>(i % 3);
        }
        const T maximum = *std::max_element(x.begin(), x.end());
        const auto largest = static_cast<std::size_t>(std::count(x.begin(), x.end(), maximum));
        std::size_t kept = 0;
        const auto sums = softmax_add_weights<arch, T>(
            x.data(), along(length), batch<arch, T>(maximum),
            [](const batch<arch, T>&) {
                return pair<batch<arch, T>>{batch<arch, T>(1), batch<arch, T>(0)};
            },
            [&](std::ptrdiff_t, std::size_t count, const batch<arch, T>&) { kept += count; });
        CHECK(sums.largest[0] == largest);
        CHECK(kept == length);
        // lanes beyond the row hold -inf; this weight of 1 counts them too
        const std::size_t padded = (length + lanes<arch, T> - 1) / lanes<arch, T> * lanes<arch, T>;
        CHECK(static_cast<double>(sums.rest[0].high) == static_cast<double>(padded - largest));
    }
}

TEST_CASE_TEMPLATE("softmax_rows: a row's bits do not depend on how many rows are side by side", T, float, double)
{
    const std::size_t width = lanes<arch, T>;
    const std::size_t length = 50;
    const auto x = gaussian<T>(length * width, 0, 3, 5);
    const auto step = static_cast<std::ptrdiff_t>(width);
    std::vector<T> together(x.size());
    softmax_rows<arch, T>(x.data(), together.data(), {false, length, width, step, step}, unit_temperature{});
    for (std::size_t lane = 0; lane < width; ++lane) {
        std::vector<T> alone(x.size(), T(-1));
        softmax_rows<arch, T>(x.data() + lane, alone.data() + lane, {false, length, 1, step, step}, unit_temperature{});
        for (std::size_t i = 0; i < x.size(); ++i) {
            const T expected = i % width == lane ? together[i] : T(-1);
            CHECK(std::memcmp(&alone[i], &expected, sizeof(T)) == 0);
        }
    }
}

TEST_CASE_TEMPLATE("softmax_rows, log_softmax_rows, logsumexp_rows: nothing beyond the row is read or written", T,
                   float, double)
{
    const std::size_t width = lanes<arch, T>;
    for (std::size_t length = 1; length <= 4 * width + 1; ++length) {
        const auto logits = gaussian<T>(length, 0, 3, static_cast<unsigned>(length));
        // what follows the row would poison it
        std::vector<T> x(length + width, quiet_nan<T>());
        std::copy(logits.begin(), logits.end(), x.begin());
        std::vector<T> p(length + width, T(7));
        std::vector<T> l = p;
        T lse = 7;
        softmax_rows<arch, T>(x.data(), p.data(), along(length), unit_temperature{});
        log_softmax_rows<arch, T>(x.data(), l.data(), along(length), positive_temperature<T>(1.5));
        logsumexp_rows<arch, T>(x.data(), &lse, along(length), unit_temperature{});
        double sum = 0;
        for (std::size_t i = 0; i < length; ++i) {
            sum += static_cast<double>(p[i]);
        }
        CHECK(sum == doctest::Approx(1));
        CHECK(std::all_of(l.begin(), l.begin() + static_cast<std::ptrdiff_t>(length), [](T y) { return y <= 0; }));
        CHECK(lse >= *std::max_element(logits.begin(), logits.end()));
        for (std::size_t i = length; i < length + width; ++i) {
            CHECK(p[i] == 7);
            CHECK(l[i] == 7);
        }
    }
}
