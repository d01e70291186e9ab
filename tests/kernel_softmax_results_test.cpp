// SPDX-License-Identifier: BSD-3-Clause
#include <scaledot/kernel/softmax_logarithms.hpp>
#include <scaledot/kernel/softmax_results.hpp>

#include "support/mpfr_number.hpp"

#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <random>
#include <vector>

namespace sd = scaledot;
using namespace scaledot::kernel;
using test_support::mpfr_number;
using arch = sd::native_architecture;

namespace {

/// Sums from 2^-60 to 2^60 with low parts of half an ulp at most.
template <class T>
std::vector<pair<T>> sums()
{
    std::vector<pair<T>> all = {{1, 0}, {2, 0}, {T(1'000'000.25), 0}};
    std::mt19937_64 engine(1);
    std::uniform_real_distribution<double> exponent(-60, 60);
    std::uniform_real_distribution<double> half_ulp(-0.5, 0.5);
    for (int i = 0; i < 5000; ++i) {
        const T high = static_cast<T>(std::exp2(exponent(engine)));
        const T ulp = high * std::numeric_limits<T>::epsilon() / 2;
        all.push_back({high, static_cast<T>(half_ulp(engine)) * ulp});
    }
    return all;
}

template <class T>
mpfr_number number_of(const pair<T>& p)
{
    return mpfr_number(static_cast<double>(p.high)) + mpfr_number(static_cast<double>(p.low));
}

} // namespace

TEST_CASE_TEMPLATE("inverse_of_sum: 1 / sum to far more digits than T has", T, float, double)
{
    using B = batch<arch, T>;
    for (const auto& sum : sums<T>()) {
        const mpfr_number exact = mpfr_number(1) / number_of(sum);
        const auto inverse = inverse_of_sum(pair<B>{B(sum.high), B(sum.low)});
        const mpfr_number error = abs(number_of(pair<T>{inverse.high.get(0), inverse.low.get(0)}) - exact);
        CHECK(!(exact * mpfr_number::power_of_two(4 - 2 * std::numeric_limits<T>::digits) < error));
    }
}

TEST_CASE_TEMPLATE("minus_logarithms: ln to more digits than T has, however small the others' sum", T, float, double)
{
    using B = batch<arch, T>;
    const weight<T> largest{T(1.5), T(0.01)};
    const mpfr_number one = mpfr_number(1.5) * (mpfr_number(1) + mpfr_number(static_cast<double>(T(0.01))));
    const mpfr_number relative = mpfr_number::power_of_two(-6 - std::numeric_limits<T>::digits);
    const auto all_others = sums<T>();
    for (std::size_t first = 0; first + B::size <= all_others.size(); first += B::size) {
        const std::size_t rows = first % 3 == 0 ? B::size : B::size - 1;
        lane_array<arch, T> high;
        lane_array<arch, T> low;
        for (std::size_t lane = 0; lane < B::size; ++lane) {
            const auto& others = all_others[first + lane];
            const auto all = two_sum(others.high, largest.power * (1 + largest.excess));
            high[lane] = all.high;
            low[lane] = all.low + others.low;
        }
        wanted_lanes<arch, T> asked{};
        const auto find = [&](const wanted_lanes<arch, T>& wanted, pair<B>& others) {
            asked = wanted;
            lane_array<arch, T> others_high;
            lane_array<arch, T> others_low;
            for (std::size_t lane = 0; lane < B::size; ++lane) {
                others_high[lane] = all_others[first + lane].high;
                others_low[lane] = all_others[first + lane].low;
            }
            others = {others_high.vector(), others_low.vector()};
        };
        const auto minus_log =
            minus_logarithms<arch, T>(rows, {high.vector(), low.vector()}, {B(largest.power), B(largest.excess)}, find);
        for (std::size_t lane = 0; lane < rows; ++lane) {
            const auto& others = all_others[first + lane];
            const mpfr_number exact = log1p(number_of(others) / one);
            CHECK(asked[lane] == (others.high < T(0.9) * T(1.515)));
            const mpfr_number value = number_of(pair<T>{minus_log.high.get(lane), minus_log.low.get(lane)});
            // without the others the largest's own rounding counts, where it is not far from their sum
            const mpfr_number of_others = sizeof(T) == 4 ? relative : mpfr_number(pair_logarithm_of_1_plus_max_error);
            const mpfr_number allowed = asked[lane] ? of_others : relative * mpfr_number(32 * 4);
            CHECK(!(exact * allowed < abs(value + exact)));
        }
    }
}

TEST_CASE_TEMPLATE("scaled_inverse: weight times inverse, rounded once, at most 1, also next to the subnormal numbers",
                   T, float, double)
{
    using B = batch<arch, T>;
    std::mt19937_64 engine(3);
    std::uniform_real_distribution<double> uniform(1, 2);
    const int bias = weight_constants<T>::bias;
    for (int i = 0; i < 3000; ++i) {
        const T sum_high = static_cast<T>(std::ldexp(uniform(engine) + 1, bias));
        const T sum_low = sum_high * std::numeric_limits<T>::epsilon() / 5;
        const auto inverse = inverse_of_sum(pair<B>{B(sum_high), B(sum_low)});
        const int depth = i % 2 ? i % 60 : -std::numeric_limits<T>::min_exponent - 2;
        const T weight = static_cast<T>(std::ldexp(uniform(engine), bias - depth));
        const mpfr_number exact = mpfr_number(static_cast<double>(weight)) / number_of(pair<T>{sum_high, sum_low});
        const T careful = scaled_inverse<B, false>(inverse).times(B(weight)).get(0);
        CHECK(test_support::error_in_ulp<T>(static_cast<double>(careful), exact, exact) <= 0.501);
        if (i % 2) {
            CHECK(scaled_inverse<B, true>(inverse).times(B(weight)).get(0) == careful);
        }
        CHECK(scaled_inverse<B, true>(inverse).times(B(sum_high * T(1.00001))).get(0) == T(1));
    }
}
