// SPDX-License-Identifier: BSD-3-Clause
#include <scaledot/bfloat16.hpp>

#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <type_traits>

using scaledot::bfloat16;

namespace {

std::uint32_t bits_of(float x)
{
    return std::bit_cast<std::uint32_t>(x);
}

bool is_nan_bits(std::uint32_t bits)
{
    return (bits & 0x7fffffffu) > 0x7f800000u;
}

} // namespace

TEST_CASE("bfloat16: two bytes, trivially copyable, zero when value-initialised, usable in constant expressions")
{
    static_assert(sizeof(bfloat16) == 2);
    static_assert(std::is_trivially_copyable_v<bfloat16>);
    static_assert(bfloat16{}.bits() == 0);
    static_assert(static_cast<float>(bfloat16(1.5f)) == 1.5f);
    static_assert(!std::is_convertible_v<float, bfloat16>, "rounding is asked for");
    static_assert(std::is_convertible_v<bfloat16, float>, "widening is exact");
}

TEST_CASE("bfloat16: to float and back is the identity on all bit patterns but signalling NaN, which turn quiet")
{
    for (std::uint32_t i = 0; i <= 0xffffu; ++i) {
        const auto bits = static_cast<std::uint16_t>(i);
        const float wide = bfloat16::from_bits(bits);
        REQUIRE(bits_of(wide) == i << 16);
        const std::uint16_t back = bfloat16(wide).bits();
        REQUIRE((back == bits || (is_nan_bits(i << 16) && back == (bits | 0x40u))));
    }
}

TEST_CASE("bfloat16: a float rounds to the nearer neighbour, halfway to the even one")
{
    for (std::uint32_t lower = 0; lower < 0x7f80u; ++lower) {
        const std::uint32_t middle = (lower << 16) | 0x8000u;
        for (const std::uint32_t sign : {0u, 0x80000000u}) {
            const auto rounded = [&](std::uint32_t bits) { return bfloat16(std::bit_cast<float>(bits | sign)).bits(); };
            const std::uint32_t top = sign >> 16;
            REQUIRE(rounded(middle - 1) == (lower | top));
            REQUIRE(rounded(middle + 1) == ((lower + 1) | top));
            REQUIRE(rounded(middle) == ((lower + (lower & 1u)) | top));
        }
    }
}

TEST_CASE("bfloat16: overflow gives infinity, the largest finite float too")
{
    CHECK(bfloat16(std::numeric_limits<float>::max()).bits() == 0x7f80);
    CHECK(bfloat16(-std::numeric_limits<float>::max()).bits() == 0xff80);
    CHECK(bfloat16(std::bit_cast<float>(0x7f7f7fffu)).bits() == 0x7f7f);
    CHECK(bfloat16(std::numeric_limits<float>::infinity()).bits() == 0x7f80);
    CHECK(bfloat16(-0.0f).bits() == 0x8000);
}

TEST_CASE("bfloat16: a NaN stays one with its sign, also when only low bits told it from infinity")
{
    for (const std::uint32_t bits : {0x7f800001u, 0xff800001u, 0x7fc00000u, 0xffffffffu, 0x7f80ffffu}) {
        const bfloat16 rounded(std::bit_cast<float>(bits));
        CHECK(is_nan_bits(static_cast<std::uint32_t>(rounded.bits()) << 16));
        CHECK((rounded.bits() >> 15) == (bits >> 31));
        CHECK((rounded.bits() & 0x40u) != 0);
    }
}

TEST_CASE("bfloat16: double and integers are taken through float")
{
    CHECK(static_cast<float>(bfloat16(1.5)) == 1.5f);
    CHECK(static_cast<float>(bfloat16(257)) == 256.f);
    CHECK(static_cast<float>(bfloat16(std::size_t{259})) == 260.f);
    CHECK(static_cast<float>(bfloat16(-3L)) == -3.f);
    CHECK(static_cast<float>(bfloat16(2.5L)) == 2.5f);
    CHECK(bfloat16(1e300).bits() == 0x7f80);
}

TEST_CASE("bfloat16: rounding keeps the order")
{
    std::mt19937 engine(1);
    std::normal_distribution<float> normal;
    for (int i = 0; i < 100'000; ++i) {
        const float a = normal(engine);
        const float b = normal(engine);
        if (a <= b) {
            REQUIRE(static_cast<float>(bfloat16(a)) <= static_cast<float>(bfloat16(b)));
        }
        REQUIRE(std::abs(static_cast<float>(bfloat16(a)) - a) <= std::abs(a) * 0x1p-8f);
    }
}
