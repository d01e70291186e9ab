// SPDX-License-Identifier: BSD-3-Clause
#include <scaledot/kernel/cut_sums.hpp>

#include "support/mpfr_pairs.hpp"

#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <random>
#include <vector>

namespace sd = scaledot;
using namespace scaledot::kernel;
using test_support::gaussian;
using test_support::mpfr_number;
using test_support::relative_error;
using test_support::value_of;
using arch = sd::native_architecture;
using vector = batch<arch, double>;

TEST_CASE("accumulate_extremes: the smallest and the largest element at every length and place")
{
    for (std::size_t length = 1; length <= 5 * vector::size + 1; ++length) {
        for (std::size_t position = 0; position < length; ++position) {
            std::vector<double> x(length, 2.5);
            const auto range = [&](double value) {
                x[position] = value;
                extremes<vector> all{vector(x[0]), vector(x[0])};
                accumulate_extremes<arch>(x.data(), length, all);
                return reduce(all);
            };
            CHECK(range(1e300).largest == 1e300);
            CHECK(range(-1e300).smallest == -1e300);
            CHECK(range(2.25).smallest == 2.25);
            CHECK(range(2.25).largest == (length == 1 ? 2.25 : 2.5));
        }
    }
}

TEST_CASE("accumulate_cut_sum: a sum to twice the precision of double, segments add up")
{
    for (const std::size_t length : {std::size_t{1}, std::size_t{5}, std::size_t{1000}, std::size_t{100'003}}) {
        const auto x = gaussian(length, 1e6, 1);
        mpfr_number exact(0);
        for (const double value : x) {
            exact += mpfr_number(value);
        }
        sd::kernel::pair<vector> sum{vector(0), vector(0)};
        accumulate_cut_sum<arch>(x.data(), length / 3, 0x1p-20, sum);
        accumulate_cut_sum<arch>(x.data() + length / 3, length - length / 3, 0x1p-20, sum);
        CHECK(relative_error(join_lanes(sum), exact * mpfr_number::power_of_two(-20)) < 0x1p-88);
    }
}

TEST_CASE("accumulate_rounded_squares: twice the precision of double, from deviations rounded to double")
{
    for (const std::size_t length : {std::size_t{2}, std::size_t{31}, std::size_t{1000}, std::size_t{100'003}}) {
        const auto x = gaussian(length, 3, 1);
        centre c;
        c.scale = 0.125;
        c.mean = {0.375, 0};
        mpfr_number exact(0);
        for (const double value : x) {
            const mpfr_number d(value * c.scale - c.mean.high);
            exact += d * d;
        }
        sd::kernel::pair<vector> squares{vector(0), vector(0)};
        accumulate_rounded_squares<arch>(x.data(), length, c, 2, squares); // 16 standard deviations
        CHECK(relative_error(join_lanes(squares), exact) < 0x1p-88);
    }
}

TEST_CASE("cut_sum: as many terms of one sign next to the limit as it takes, nothing lost")
{
    const double limit = 8;
    const double term = std::nextafter(limit, 0);
    for (const double sign : {1.0, -1.0}) {
        cut_sum<vector> sum(limit);
        for (std::size_t i = 0; i < cut_sum<vector>::terms; ++i) {
            sum.add(vector(term), vector(sign));
        }
        const auto total = join_lanes(sum.take());
        const auto count = static_cast<double>(cut_sum<vector>::terms * vector::size);
        CHECK(total.high + total.low == sign * count * term);
        CHECK(value_of(total).to_double() == sign * count * term);
        CHECK((value_of(total) - mpfr_number(sign) * mpfr_number(count) * mpfr_number(term)).to_double() == 0);
        CHECK(join_lanes(sum.take()).high == 0);
    }
}

TEST_CASE("join_lanes: every lane of both parts, once")
{
    sd::kernel::pair<vector> sum{vector(0), vector(0)};
    std::array<double, vector::size> high;
    std::array<double, vector::size> low;
    double expected = 0;
    for (std::size_t i = 0; i < vector::size; ++i) {
        high[i] = std::exp2(static_cast<double>(3 * i));
        low[i] = high[i] * 0x1p-60;
        expected += high[i];
    }
    sum.high = vector::load_unaligned(high.data());
    sum.low = vector::load_unaligned(low.data());
    CHECK(join_lanes(sum).high == expected);
    CHECK(join_lanes(sum).low == expected * 0x1p-60);
}
