// SPDX-License-Identifier: BSD-3-Clause
#include <scaledot/kernel/convert.hpp>

#include <scaledot/kernel/simd.hpp>

#include <doctest/doctest.h>

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <random>
#include <type_traits>
#include <vector>

namespace sd = scaledot;
using namespace scaledot::kernel;

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

template <class T>
bool is_nan_of(T x)
{
    const auto value = to_arithmetic<double>(x);
    return value != value;
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
