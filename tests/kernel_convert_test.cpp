// SPDX-License-Identifier: BSD-3-Clause
#include <scaledot/kernel/convert.hpp>

#include "support/bits.hpp"

#include <scaledot/kernel/simd.hpp>

#include <doctest/doctest.h>

#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <random>
#include <type_traits>
#include <vector>

namespace sd = scaledot;
using namespace scaledot::kernel;
using test_support::is_nan_of;

namespace {

/// The value of half bits by the format's definition.
double half_value(std::uint32_t bits)
{
    const int exponent = static_cast<int>((bits >> 10) & 31u);
    const double fraction = bits & 1023u;
    const double magnitude = exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
    return bits & 0x8000u ? -magnitude : magnitude;
}

template <class S>
std::vector<S> interesting_numbers()
{
    std::vector<S> numbers(4096);
    std::mt19937 engine(3);
    for (auto& number : numbers) {
        if constexpr (sizeof(S) == 2) {
            number = std::bit_cast<S>(static_cast<std::uint16_t>(engine()));
        } else {
            const float x = std::bit_cast<float>(static_cast<std::uint32_t>(engine()));
            number = static_cast<S>(x) * static_cast<S>(1 + 0x1.9p-26); // a double that is no float
        }
    }
    return numbers;
}

template <class T>
auto raw(T x)
{
    return std::bit_cast<std::conditional_t<sizeof(T) == 8, std::uint64_t,
                                            std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint16_t>>>(x);
}

} // namespace

TEST_CASE("half_to_float: exact for every bit pattern, infinities and NaN stay what they are")
{
    for (std::uint32_t i = 0; i <= 0xffffu; ++i) {
        const float x = half_to_float(static_cast<std::uint16_t>(i));
        const auto bits = std::bit_cast<std::uint32_t>(x);
        if ((i & 0x7c00u) == 0x7c00u) {
            REQUIRE(bits == (((i & 0x8000u) << 16) | 0x7f800000u | ((i & 1023u) << 13)));
        } else {
            REQUIRE(static_cast<double>(x) == half_value(i));
            REQUIRE((bits >> 31) == (i >> 15));
        }
    }
}

TEST_CASE("float_to_half: the inverse of half_to_float")
{
    for (std::uint32_t i = 0; i <= 0xffffu; ++i) {
        const auto half = static_cast<std::uint16_t>(i);
        const bool nan = (i & 0x7fffu) > 0x7c00u;
        REQUIRE(float_to_half(half_to_float(half)) == (nan ? half | 0x200u : half));
    }
}

TEST_CASE("float_to_half: to the nearer neighbour, halfway to the even one, from half the largest step to infinity")
{
    for (std::uint32_t lower = 0; lower < 0x7c00u; ++lower) {
        const double above = lower == 0x7bffu ? 65536.0 : half_value(lower + 1);
        const auto middle = static_cast<float>((half_value(lower) + above) / 2); // exact: 12 bits
        for (const float sign : {1.f, -1.f}) {
            const std::uint32_t top = sign < 0 ? 0x8000u : 0u;
            REQUIRE(float_to_half(sign * std::nextafter(middle, 0.f)) == (lower | top));
            REQUIRE(float_to_half(sign * middle) == ((lower + (lower & 1u)) | top));
            REQUIRE(float_to_half(sign * std::nextafter(middle, 1e30f)) == ((lower + 1) | top));
        }
    }
    CHECK(float_to_half(1e30f) == 0x7c00);
    CHECK(float_to_half(-1e-30f) == 0x8000);
    CHECK((float_to_half(std::bit_cast<float>(0x7f800001u)) & 0x7fffu) > 0x7c00u);
}

TEST_CASE_TEMPLATE("widen: a vector holds what one number at a time gives, at any alignment", S, float, double,
                   xtl::half_float, sd::bfloat16)
{
    const auto numbers = interesting_numbers<S>();
    const auto check = [&]<class T>(T) {
        using V = batch<sd::native_architecture, T>;
        for (std::size_t i = 0; i + V::size <= numbers.size(); i += 3) {
            std::array<T, V::size> values;
            widen<V>(numbers.data() + i).store_unaligned(values.data());
            for (std::size_t lane = 0; lane < V::size; ++lane) {
                const T expected = to_arithmetic<T>(numbers[i + lane]);
                REQUIRE((raw(values[lane]) == raw(expected) || (is_nan_of(values[lane]) && is_nan_of(expected))));
            }
        }
    };
    check(double{});
    if constexpr (!std::is_same_v<S, double>) {
        check(float{});
    }
}

TEST_CASE_TEMPLATE("narrow: a vector is written as one number at a time would be, at any alignment", S, float,
                   xtl::half_float, sd::bfloat16)
{
    const auto check = [&]<class T>(T) {
        using V = batch<sd::native_architecture, T>;
        const auto numbers = interesting_numbers<T>();
        for (std::size_t i = 0; i + V::size <= numbers.size(); i += 3) {
            std::array<S, V::size> values;
            narrow(values.data(), V::load_unaligned(numbers.data() + i));
            for (std::size_t lane = 0; lane < V::size; ++lane) {
                const S expected = to_storage<S>(numbers[i + lane]);
                REQUIRE((raw(values[lane]) == raw(expected) || (is_nan_of(values[lane]) && is_nan_of(expected))));
            }
        }
    };
    check(double{});
    check(float{});
}

TEST_CASE_TEMPLATE("widen, narrow: element types that are not ours, or wider than the vector's, number by number", T,
                   float, double)
{
    using V = batch<sd::native_architecture, T>;
    const auto check = [&]<class S>(S) {
        std::array<S, V::size> numbers;
        for (std::size_t lane = 0; lane < V::size; ++lane) {
            numbers[lane] = static_cast<S>(7 * lane + 1);
        }
        std::array<T, V::size> values;
        widen<V>(numbers.data()).store_unaligned(values.data());
        for (std::size_t lane = 0; lane < V::size; ++lane) {
            CHECK(values[lane] == static_cast<T>(7 * lane + 1));
        }
    };
    check(std::int8_t{});
    check(std::int32_t{});
    check(std::int64_t{});
    check(double{});
    std::array<double, V::size> wide;
    narrow(wide.data(), V(T(0.1)));
    for (const double x : wide) {
        CHECK(x == static_cast<double>(T(0.1)));
    }
}

namespace {

/// x as a half by distances: the nearer of its neighbours among all halves, the even one halfway between.
std::uint16_t nearest_half(float x)
{
    const auto bits = std::bit_cast<std::uint32_t>(x);
    const auto sign = static_cast<std::uint16_t>((bits >> 16) & 0x8000u);
    if ((bits & 0x7fffffffu) >= 0x7f800000u) {
        const bool nan = (bits & 0x7fffffu) != 0; // quiet, with the upper bits of its payload
        return static_cast<std::uint16_t>(sign | 0x7c00u | (nan ? 0x200u | ((bits >> 13) & 0x3ffu) : 0u));
    }
    const double magnitude = std::abs(static_cast<double>(x));
    std::uint32_t lower = 0; // the last half not above it
    for (std::uint32_t step = 0x4000u; step > 0; step /= 2) {
        if (lower + step <= 0x7bffu && half_value(lower + step) <= magnitude) {
            lower += step;
        }
    }
    const double above = lower == 0x7bffu ? 65536.0 : half_value(lower + 1);
    const double down = magnitude - half_value(lower);
    const double up = above - magnitude;
    return static_cast<std::uint16_t>(sign | (down < up || (down == up && lower % 2 == 0) ? lower : lower + 1));
}

/// Floats of every exponent and sign, ties and their neighbours among them, and NaN of many payloads.
std::vector<float> floats_of_every_exponent()
{
    std::vector<float> x;
    std::mt19937 engine(4);
    for (std::uint32_t exponent = 0; exponent < 512; ++exponent) {
        for (const std::uint32_t fraction : {0u, 1u, 0x0fffu, 0x1000u, 0x1001u, 0x2000u, 0x2fffu, 0x3000u, 0x3001u,
                                             0x3fffffu, 0x400000u, 0x400001u, 0x7fefffu, 0x7ff000u, 0x7fffffu}) {
            x.push_back(std::bit_cast<float>(exponent << 23 | fraction));
        }
        for (int i = 0; i < 49; ++i) {
            // Fractions that end in a tie at some bit: those of subnormal halves are shorter.
            const std::uint32_t end = static_cast<std::uint32_t>(i) % 24;
            const std::uint32_t fraction = ((engine() << end) | (end > 0 ? 1u << (end - 1) : 0u)) & 0x7fffffu;
            x.push_back(std::bit_cast<float>(exponent << 23 | fraction));
        }
    }
    return x;
}

} // namespace

TEST_CASE("narrow: float to half is the nearest, ties to even, in vectors bit for bit as for one number")
{
    using V = batch<sd::native_architecture, float>;
    const auto x = floats_of_every_exponent();
    static_assert(512 % V::size == 0);
    for (std::size_t i = 0; i < x.size(); i += V::size) {
        std::array<xtl::half_float, V::size> halves;
        narrow(halves.data(), V::load_unaligned(x.data() + i));
        for (std::size_t lane = 0; lane < V::size; ++lane) {
            CAPTURE(std::bit_cast<std::uint32_t>(x[i + lane]));
            REQUIRE(raw(halves[lane]) == nearest_half(x[i + lane]));
            REQUIRE(raw(halves[lane]) == float_to_half(x[i + lane]));
        }
    }
}

TEST_CASE("widen_bfloat16 and load_16_bits: 4 lanes or a vector, every pattern, NaN too, at any alignment")
{
    std::vector<sd::bfloat16> numbers(65536 + 16);
    for (std::size_t i = 0; i < numbers.size(); ++i) {
        numbers[i] = sd::bfloat16::from_bits(static_cast<std::uint16_t>(i));
    }
    const auto check = [&]<std::size_t Count>(std::integral_constant<std::size_t, Count>) {
        for (std::size_t i = 0; i < 65536; i += Count + 1) {
            const auto floats = std::bit_cast<std::array<std::uint32_t, Count>>(widen_bfloat16<Count>(&numbers[i]));
            const auto bits = std::bit_cast<std::array<std::uint32_t, Count>>(load_16_bits<Count>(&numbers[i]));
            for (std::size_t lane = 0; lane < Count; ++lane) {
                REQUIRE(bits[lane] == ((i + lane) & 0xffffu));
                REQUIRE(floats[lane] == bits[lane] << 16);
            }
        }
    };
    check(std::integral_constant<std::size_t, 4>{});
    check(std::integral_constant<std::size_t, lanes<sd::native_architecture, float>>{});
}

TEST_CASE("narrow, widen: what a float holds of a double is rounded when it comes back")
{
    // compilers may see both ways in one function, and g++ 12 takes the rounding out of vectors
    using D = batch<sd::native_architecture, double>;
    const D x = barrier(D(0.1));
    std::array<float, D::size> rounded;
    narrow(rounded.data(), x);
    const D rest = x - widen<D>(rounded.data());
    for (std::size_t i = 0; i < D::size; ++i) {
        CHECK(rest.get(i) == 0.1 - static_cast<double>(0.1f));
    }
}
