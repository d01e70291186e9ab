// SPDX-License-Identifier: BSD-3-Clause
#include <scaledot/kernel/moments.hpp>

#include "support/mpfr_pairs.hpp"

#include <doctest/doctest.h>

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

namespace sd = scaledot;
using namespace scaledot::kernel;
using test_support::error_in_ulp;
using test_support::gaussian;
using test_support::mpfr_number;
using test_support::relative_error;
using test_support::value_of;
using arch = sd::native_architecture;
using vector = batch<arch, double>;

TEST_CASE("for_each_vector: every element once, in order, the rest of the last vector 0")
{
    for (std::size_t count = 0; count <= 4 * vector::size + 1; ++count) {
        std::vector<float> x(count);
        for (std::size_t i = 0; i < count; ++i) {
            x[i] = static_cast<float>(i + 1);
        }
        std::vector<double> seen;
        std::size_t kept = 0;
        for_each_vector<arch>(x.data(), count, [&](const vector& v, std::size_t n) {
            std::array<double, vector::size> lanes;
            v.store_unaligned(lanes.data());
            seen.insert(seen.end(), lanes.begin(), lanes.end());
            kept += n;
        });
        CHECK(kept == count);
        for (std::size_t i = 0; i < seen.size(); ++i) {
            CHECK(seen[i] == (i < count ? static_cast<double>(i + 1) : 0.0));
        }
    }
}

TEST_CASE("keep_lanes: the first lanes stay, the others are 0 even where they were NaN")
{
    for (std::size_t count = 0; count <= vector::size; ++count) {
        std::array<double, vector::size> lanes;
        lanes.fill(quiet_nan<double>());
        std::fill_n(lanes.begin(), count, 3.0);
        keep_lanes(vector::load_unaligned(lanes.data()), count).store_unaligned(lanes.data());
        for (std::size_t i = 0; i < vector::size; ++i) {
            CHECK(lanes[i] == (i < count ? 3.0 : 0.0));
        }
    }
}

TEST_CASE("accumulate_magnitude: the largest magnitude, infinity above all numbers, NaN above infinity")
{
    for (std::size_t length = 1; length <= 3 * vector::size; ++length) {
        for (std::size_t position = 0; position < length; ++position) {
            std::vector<double> x(length, -2.5);
            const auto largest = [&](double value) {
                x[position] = value;
                batch<arch, std::int64_t> magnitudes(0);
                accumulate_magnitude<arch>(x.data(), length, magnitudes);
                return reduce_magnitude(magnitudes);
            };
            CHECK(largest(-1e300) == std::bit_cast<std::int64_t>(1e300));
            CHECK(largest(-infinity<double>) == exponent_mask<double>);
            CHECK(largest(quiet_nan<double>()) > exponent_mask<double>);
        }
    }
}

TEST_CASE("scale_for: a power of two that brings the magnitude to [1, 4), itself and its inverse normal numbers")
{
    for (const double magnitude :
         {1.0, 1.999, 2.0, 3e-300, 7e300, std::numeric_limits<double>::max(), std::numeric_limits<double>::min()}) {
        const double scale = scale_for(magnitude);
        CHECK(magnitude * scale >= 1);
        CHECK(magnitude * scale < 4);
        CHECK(std::exp2(std::round(std::log2(scale))) == scale);
        CHECK(std::isnormal(1 / scale));
    }
    CHECK(std::isnormal(scale_for(0)));
    CHECK(std::isnormal(scale_for(5e-324)));
}

TEST_CASE("mean_of: exact where it is a double, and what it leaves of a double next to it has 51 bits")
{
    const auto check = [](const sd::kernel::pair<double>& sum, double count, const sd::kernel::triple<double>& mean) {
        const mpfr_number exact = value_of(sum) / mpfr_number(count);
        CHECK(error_in_ulp<double>(mean.high, exact, exact) <= 0.5000001);
        const mpfr_number left = exact - mpfr_number(mean.high);
        CHECK(relative_error({mean.low, 0}, left) <= 0x1p-51);
        return relative_error({mean.low, mean.lowest}, left);
    };
    for (std::size_t i = 2; i < 3000; ++i) {
        const auto count = static_cast<double>(i);
        const double value = 1 / (count + 0.3);
        const auto equal = two_product(value, count);
        const auto constant = mean_of(equal, count);
        CHECK(constant.high == value);
        CHECK(constant.low == 0);
        CHECK(constant.lowest == 0);
        const auto any = two_sum(1e6 * value, 3e-13 * count);
        check(any, count, mean_of(any, count));
        const auto one_digit_more = fast_two_sum(equal.high, equal.low + (std::nextafter(value, 1.0) - value));
        CHECK(check(one_digit_more, count, mean_of(one_digit_more, count)) <= 0x1p-101);
        if (fused<vector>) {
            const vector high(one_digit_more.high);
            const auto lanes = mean_of(sd::kernel::pair<vector>{high, vector(one_digit_more.low)}, count);
            const sd::kernel::triple<double> lane{lanes.high.data[0], lanes.low.data[0], lanes.lowest.data[0]};
            CHECK(check(one_digit_more, count, lane) <= 0x1p-101);
        }
    }
}

TEST_CASE("accumulate_sum and mean_of: the mean to 96 bits, segments add up")
{
    for (const std::size_t length : {std::size_t{1}, std::size_t{5}, std::size_t{1000}}) {
        const auto x = gaussian(length, 1e6, 1);
        mpfr_number exact(0);
        for (const double value : x) {
            exact += mpfr_number(value);
        }
        sd::kernel::pair<vector> sum{vector(0), vector(0)};
        accumulate_sum<arch, true>(x.data(), length / 3, 0x1p-20, sum);
        accumulate_sum<arch, true>(x.data() + length / 3, length - length / 3, 0x1p-20, sum);
        const auto count = static_cast<double>(length);
        const mpfr_number mean = exact * mpfr_number::power_of_two(-20) / mpfr_number(count);
        const auto found = mean_of(reduce(sum), count);
        CHECK(relative_error(sd::kernel::pair<double>{found.high, found.low}, mean) < 0x1p-96);
    }
}

TEST_CASE("accumulate_squares: deviations from a mean between two doubles, in pairs to 90 bits, otherwise to 45")
{
    for (std::size_t length = 2; length <= 3 * vector::size + 1; ++length) {
        const auto wide = gaussian(length, 1e6, 1);
        std::vector<float> narrow(length);
        std::transform(wide.begin(), wide.end(), narrow.begin(), [](double x) { return static_cast<float>(x); });
        const auto check = [&]<bool Pairs, class S>(const std::vector<S>& x, double scale, double bound) {
            centre c;
            c.scale = scale;
            sd::kernel::pair<vector> sum{vector(0), vector(0)};
            accumulate_sum<arch, Pairs>(x.data(), length, scale, sum);
            const auto mean = mean_of(reduce(sum), static_cast<double>(length));
            c.mean = {mean.high, mean.low};
            mpfr_number exact(0);
            for (const S value : x) {
                const mpfr_number d = mpfr_number(static_cast<double>(value)) * mpfr_number(scale) - value_of(c.mean);
                exact += d * d;
            }
            sd::kernel::pair<vector> squares{vector(0), vector(0)};
            accumulate_squares<arch, Pairs>(x.data(), length, c, squares);
            CHECK(relative_error(reduce(squares), exact) < bound);
        };
        check.operator()<true>(wide, 0x1p-20, 0x1p-90);
        check.operator()<true>(narrow, 1.0, 0x1p-90);
        check.operator()<false>(narrow, 1.0, 0x1p-45);
    }
}

TEST_CASE("inverse_root: to 96 bits over the range scaled variances have, infinite for 0")
{
    std::mt19937_64 engine(3);
    std::uniform_real_distribution<double> mantissa(1, 2);
    std::uniform_int_distribution<int> exponent(-400, 400);
    for (int i = 0; i < 2000; ++i) {
        const double high = std::ldexp(mantissa(engine), exponent(engine));
        const sd::kernel::pair<double> v{high, high * 0x1p-54 * (mantissa(engine) - 1)};
        CHECK(relative_error(inverse_root(v), mpfr_number(1) / sqrt(value_of(v))) < 0x1p-96);
    }
    CHECK(sd::kernel::inverse_root({4, 0}).high == 0.5);
    CHECK(sd::kernel::inverse_root({4, 0}).low == 0);
    CHECK(std::bit_cast<std::int64_t>(inverse_root(sd::kernel::pair<double>{0, 0}).high) == exponent_mask<double>);
}
