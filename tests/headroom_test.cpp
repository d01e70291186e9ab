// SPDX-License-Identifier: BSD-3-Clause
#include <scaledot/headroom.hpp>

#include "support/made_diagnostics.hpp"
#include "support/norm_rows.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

namespace sd = scaledot;
using namespace test_support;
using half = xtl::half_float;

namespace {

const double infinity = sd::kernel::infinity<double>;

/// The largest relative error of the weight exp(s) that rounding s to T makes, over numbers s of the binade from `low`.
template <class T>
double worst_weight_error(double low)
{
    double worst = 0;
    for (int i = 0; i < 5000; ++i) {
        const double s = low * (1 + i / 5000.0);
        const double error = static_cast<double>(static_cast<float>(T(static_cast<float>(s)))) - s;
        worst = std::max(worst, std::abs(std::expm1(error)));
    }
    return worst;
}

template <class T>
void check_bits()
{
    const int digits = sd::format_of<T>().digits;
    for (int exponent = 0; exponent <= 15; ++exponent) {
        const double low = std::ldexp(1.0, exponent);
        const int bits = sd::headroom<T>(low, 0).significant_bits;
        CAPTURE(exponent);
        CHECK(sd::headroom<T>(std::nextafter(2 * low, 0.0), 0).significant_bits == bits);
        const double worst = worst_weight_error<T>(low);
        if (exponent < digits) {
            // e^x - 1 <= x + x^2 for x <= 1
            CHECK(worst <= std::exp2(-bits) * (1 + std::exp2(-bits)));
            CHECK(worst > std::exp2(-bits) / 2); // one bit more would be a lie
        } else {
            CHECK(bits == 0);
            CHECK(worst > 0.6);
        }
    }
    for (const double small : {0.0, 1e-30, 0.5, 0.999}) {
        CHECK(sd::headroom<T>(small, 0).significant_bits == digits);
    }
}

} // namespace

TEST_CASE("headroom: the formats are those of the types")
{
    CHECK(sd::format_of<half>().digits == std::numeric_limits<half>::digits);
    CHECK(sd::format_of<half>().largest == static_cast<double>(static_cast<float>(std::numeric_limits<half>::max())));
    CHECK(sd::format_of<sd::bfloat16>().largest ==
          static_cast<double>(static_cast<float>(sd::bfloat16::from_bits(0x7f7f))));
    // 2^8 + 1 is the first integer that needs nine bits
    CHECK(static_cast<float>(sd::bfloat16(257.f)) != 257.f);
    CHECK(static_cast<float>(sd::bfloat16(255.f)) == 255.f);
    CHECK(sd::format_of<sd::bfloat16>().digits == 8);
}

TEST_CASE("headroom: significant bits are those that rounding to half leaves a weight")
{
    check_bits<half>();
}

TEST_CASE("headroom: significant bits are those that rounding to bfloat16 leaves a weight")
{
    check_bits<sd::bfloat16>();
}

TEST_CASE("headroom: products overflow past the largest finite number")
{
    for (const double product : {0.0, 1.0, 65503.0, 65504.0}) {
        CHECK_FALSE(sd::headroom<half>(1, product).overflows);
        CHECK(std::isfinite(static_cast<float>(half(static_cast<float>(product)))));
    }
    for (const double product : {65520.0, 1e6, infinity}) {
        CHECK(sd::headroom<half>(1, product).overflows);
        CHECK(sd::detail::is_positive_infinity(static_cast<float>(half(static_cast<float>(product)))));
    }
    CHECK(sd::headroom<half>(1, 65505).overflows);
    CHECK_FALSE(sd::headroom<sd::bfloat16>(1, 3.38e38).overflows);
    CHECK(sd::headroom<sd::bfloat16>(1, 3.40e38).overflows);
    CHECK(sd::headroom<half>(1, 65504.0 / 4).room == 4);
    CHECK(sd::headroom<half>(1, 65504.0 * 4).room == 0.25);
    CHECK(sd::detail::is_positive_infinity(sd::headroom<half>(1, 0).room));
    CHECK(sd::headroom<half>(1, infinity).room == 0);
}

TEST_CASE("headroom: a score out of range has no bits left")
{
    CHECK(sd::headroom<half>(infinity, 1).significant_bits == 0);
    CHECK(sd::headroom<half>(1e300, 1).significant_bits == 0);
    CHECK(sd::headroom<sd::bfloat16>(1e300, 1).significant_bits == 0);
}

TEST_CASE("headroom: heads, by the score that carries weight and the product that is largest")
{
    made_diagnostics figures({2, 2, 2});
    figures.set(0, {3, -900, 1}); // the scores near the maximum carry the weight, -900 is the largest product
    figures.set(1, {-5, -6});
    figures.set(2, {9000});
    figures.set(4, {1});
    figures.max_logit.data()[4] = sd::kernel::quiet_nan<float>();
    const auto heads = sd::headroom_of_heads<half>(figures, -0.125);
    REQUIRE(heads.size() == 4);
    CHECK(heads[0].max_score == 5);
    CHECK(heads[0].significant_bits == 9);
    CHECK(heads[0].largest_product == 7200);
    CHECK_FALSE(heads[0].overflows);
    CHECK(heads[1].largest_product == 72000);
    CHECK(heads[1].significant_bits == 0);
    CHECK(heads[1].overflows);
    CHECK(heads[2].overflows); // a NaN
    CHECK(heads[2].significant_bits == 0);
    CHECK(heads[3].largest_product == 0); // no visible key
    CHECK(heads[3].significant_bits == 11);
    CHECK_FALSE(sd::headroom_of_heads<sd::bfloat16>(figures, 0.125)[1].overflows);
}

TEST_CASE("headroom: sentences")
{
    CHECK(to_string(sd::headroom<half>(100, 800)) ==
          "half: a score of 100 leaves 5 of 11 significant bits (weights to 3.12 %); products up to 800 are inside its "
          "range, 81.9 times over");
    CHECK(to_string(sd::headroom<half>(9000, 72000)) ==
          "half: a score of 9e+03 leaves 0 of 11 significant bits (weights to 100 %); products up to 7.2e+04 overflow "
          "before the scale (65504 is the largest number): scale the queries first");
    CHECK(to_string(sd::headroom<sd::bfloat16>(0, 0)) ==
          "bfloat16: a score of 0 leaves 8 of 8 significant bits (weights to 0.391 %); products up to 0 are inside its "
          "range");
}

TEST_CASE("headroom: what is no magnitude and no scale is refused")
{
    CHECK(complaint_of([] { sd::headroom<half>(-1, 1); }) == "scaledot: max_score was -1, must be at least 0");
    CHECK(complaint_of([] { sd::headroom<half>(1, sd::kernel::quiet_nan<double>()); }).find("largest_product was") !=
          std::string::npos);
    const made_diagnostics figures({1, 1, 1});
    CHECK(complaint_of([&] { sd::headroom_of_heads<half>(figures, 0); }) ==
          "scaledot: scale was 0, must be finite and not 0");
    CHECK(complaint_of([&] { sd::headroom_of_heads<half>(figures, infinity); }).find("scale was") != std::string::npos);
}
