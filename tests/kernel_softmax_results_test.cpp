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

TEST_CASE_TEMPLATE(
    "minus_logarithms: ln to more digits than T has, however small the others' sum; minus_logarithm: the "
    "same bits of one row",
    T, float, double)
{
    using B = batch<arch, T>;
    const weight<T> largest{T(1.5), T(0.01)};
    const mpfr_number one = mpfr_number(1.5) * (mpfr_number(1) + mpfr_number(static_cast<double>(T(0.01))));
    const bool is_float = sizeof(T) == 4;
    const mpfr_number of_few(is_float ? logarithm_max_error : pair_logarithm_of_1_plus_max_error);
    const mpfr_number of_all(is_float ? logarithm_max_error : pair_logarithm_max_error);
    const auto all_others = sums<T>();
    for (const double least : {outweighed, 0x1p-10}) {
        for (std::size_t first = 0; first + B::size <= all_others.size(); first += B::size) {
            const std::size_t rows = first % 3 == 0 ? B::size : B::size - 1;
            const auto lanes_of = [&](auto&& number) {
                lane_array<arch, T> high;
                lane_array<arch, T> low;
                for (std::size_t lane = 0; lane < B::size; ++lane) {
                    const pair<T> value = number(all_others[first + lane]);
                    high[lane] = value.high;
                    low[lane] = value.low;
                }
                return pair<B>{high.vector(), low.vector()};
            };
            const auto is_few = [&](const pair<T>& others) { return static_cast<double>(others.high) < least * 1.515; };
            // Where they are few, a third more than they are.
            const auto others = lanes_of([&](const pair<T>& value) {
                return is_few(value) ? pair<T>{value.high * T(1.3), value.low} : value;
            });
            wanted_lanes<arch, T> asked{};
            const auto find = [&](const wanted_lanes<arch, T>& wanted, pair<B>& found) {
                asked = wanted;
                found = lanes_of([&](const pair<T>& value) { return is_few(value) ? value : pair<T>{7, 0}; });
            };
            const auto largest_weights = as_pair(weight<B>{B(largest.power), B(largest.excess)});
            const auto minus_log = minus_logarithms<arch, T>(rows, others, largest_weights, least, find);
            for (std::size_t lane = 0; lane < rows; ++lane) {
                const pair<T>& of_lane = all_others[first + lane];
                bool found = false;
                const auto alone = minus_logarithm<arch, T>(
                    {others.high.get(lane), others.low.get(lane)},
                    {largest_weights.high.get(lane), largest_weights.low.get(lane)}, least, [&] {
                        found = true;
                        return of_lane;
                    });
                CHECK(found == asked[lane]);
                CHECK(alone.high == minus_log.high.get(lane));
                CHECK(alone.low == minus_log.low.get(lane));
                const bool is_border = std::abs(static_cast<double>(of_lane.high) / (least * 1.515) - 1) < 0.3;
                if (is_border) {
                    continue; // a third more may be enough
                }
                CHECK(asked[lane] == is_few(of_lane));
                const mpfr_number exact = log1p(number_of(of_lane) / one);
                const mpfr_number value = number_of(pair<T>{minus_log.high.get(lane), minus_log.low.get(lane)});
                const bool outweighs = static_cast<double>(of_lane.high) < outweighed * 1.515;
                CHECK(!(exact * (outweighs ? of_few : of_all) < abs(value + exact)));
            }
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
        const T share = scaled_inverse<B>(inverse).times(B(weight)).get(0);
        CHECK(test_support::error_in_ulp<T>(static_cast<double>(share), exact, exact) <= 0.501);
        CHECK(scaled_inverse<B>(inverse).times(B(sum_high * T(1.00001))).get(0) == T(1));
    }
}
