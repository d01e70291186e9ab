// SPDX-License-Identifier: BSD-3-Clause
#include <scaledot/kernel/double_rows.hpp>

#include "support/mpfr_pairs.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <vector>

namespace sd = scaledot;
using namespace scaledot::kernel;
using test_support::error_in_ulp;
using test_support::gaussian;
using test_support::mpfr_number;
using test_support::relative_error;
using arch = sd::native_architecture;
using vector = batch<arch, double>;

namespace {

template <bool Centred = true>
double_normalizations<arch> normalizations(const std::vector<double>& x, double epsilon)
{
    std::array<double_sums<arch>, vector::size> sums;
    sums[1] = double_summation<arch, Centred, double>(x.data(), x.size()).finish();
    return normalizations_of<arch, Centred>(sums, x.size(), epsilon);
}

/// Of a row between others of ones.
double_normalizations<arch> short_normalizations(const std::vector<double>& x, double epsilon)
{
    std::vector<double> rows(vector::size * x.size(), 1.0);
    std::copy(x.begin(), x.end(), rows.begin() + static_cast<std::ptrdiff_t>(x.size()));
    return normalizations_of_short_rows<arch, true>(rows.data(), static_cast<std::ptrdiff_t>(x.size()), x.size(),
                                                    epsilon)[0];
}

bool is_usual(const std::vector<double>& x, double epsilon = 1e-5)
{
    const bool usual = normalizations(x, epsilon).verdict[1] >= 0;
    CHECK(usual == (short_normalizations(x, epsilon).verdict[1] >= 0));
    return usual;
}

} // namespace

// What is below asks for sums to twice the precision of double, which take fused multiply-add.

TEST_CASE("rounded_inverse_root: 1 / sqrt(v) rounded once")
{
    if (!fused<vector>) {
        return;
    }
    for (const double v : gaussian(20'000, 0, 1)) {
        const auto pair = two_sum(v * v, v * 0x1p-60);
        const vector root = rounded_inverse_root(sd::kernel::pair<vector>{vector(pair.high), vector(pair.low)});
        const mpfr_number exact = mpfr_number(1) / sqrt(test_support::value_of(pair));
        CHECK(error_in_ulp<double>(root.data[0], exact, exact) <= 0.5000001);
    }
}

TEST_CASE("normalizations_of: mean, the rest of the mean, inverse, in the lane of the row")
{
    if (!fused<vector>) {
        return;
    }
    for (const std::size_t length : {std::size_t{2}, std::size_t{8}, std::size_t{31}, std::size_t{64}}) {
        for (const double centre : {0.0, 3.0, 1e3}) {
            CAPTURE(length);
            CAPTURE(centre);
            const auto x = gaussian(length, centre, 1);
            mpfr_number mean(0);
            mpfr_number square(0);
            for (const double value : x) {
                mean += mpfr_number(value) / mpfr_number(static_cast<double>(length));
                square += mpfr_number(value) * mpfr_number(value) / mpfr_number(static_cast<double>(length));
            }
            const mpfr_number inverse = mpfr_number(1) / sqrt(square - mean * mean + mpfr_number(1e-5));
            for (const auto& n : {normalizations(x, 1e-5), short_normalizations(x, 1e-5)}) {
                REQUIRE(n.verdict[1] >= 0);
                CHECK(n.rounded[1] >= 0);
                CHECK(error_in_ulp<double>(n.mean[1], mean, mean) <= 0.5);
                CHECK(error_in_ulp<double>(n.inverse[1], inverse, inverse) <= 0.5001);
                const mpfr_number offset = (mpfr_number(n.mean[1]) - mean) * inverse;
                CHECK(abs(mpfr_number(n.offset[1]) - offset).to_double() <= 0x1p-84 * (1 + centre));
            }
        }
    }
    const auto n = normalizations<false>({3, 4, 5, 0, 0}, 6);
    REQUIRE(n.verdict[1] >= 0);
    CHECK(n.mean[1] == 0);
    CHECK(n.offset[1] == 0);
    CHECK(n.inverse[1] == 0.25);
}

TEST_CASE("normalizations_of: rows that need more care are told")
{
    if (!fused<vector>) {
        return;
    }
    CHECK(is_usual({1, -2, 0, 3}));
    CHECK(is_usual({1, -2, 0, 3}, 0.0));
    CHECK(is_usual({1e300 * 0x1p-1000, 0x1p-1000, 3}));
    CHECK(is_usual({7.3, 7.3, 7.3, 7.3}));                  // beside epsilon the variance may cancel
    CHECK(!is_usual({7.3, 7.3, 7.3, 7.3}, 0.0));            // infinite inverse
    CHECK(!is_usual({1e9, 1e9 + 1, 1e9, 1e9 + 1}, 0));      // the variance cancels to eighteen digits
    CHECK(!is_usual({0, 0, 0, 0}));                         // no different from squares that underflow
    CHECK(!is_usual({0x1p-205, 0x1p-206, 0x1p-205, 0}, 0)); // next to underflow
    CHECK(!is_usual({0x1p205, 0x1p200, 0x1p201, 0}, 0));    // next to overflow
    CHECK(!is_usual({0x1p700, 1, 2, 3}));
    CHECK(!is_usual({1, 2, 3, 4}, 1e200)); // results next to underflow
    CHECK(!is_usual({1, 2, sd::kernel::infinity<double>, 3}));
    CHECK(!is_usual({1, 2, sd::kernel::quiet_nan<double>(), 3}));
    CHECK(!is_usual({1, 2, -sd::kernel::quiet_nan<double>(), 3}));
    CHECK(normalizations(gaussian(64, 1e5, 1), 0).rounded[1] < 0);
    CHECK(normalizations(gaussian(64, 1e5, 1), 0).verdict[1] >= 0);
}
