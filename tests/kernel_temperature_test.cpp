// SPDX-License-Identifier: BSD-3-Clause
#include <scaledot/kernel/temperature.hpp>

#include "support/mpfr_number.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <bit>
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

template <class T, class Temperature>
pair<T> scaled(const Temperature& temperature, T x, T maximum)
{
    using B = batch<arch, T>;
    const pair<B> z = temperature.scaled(B(x), B(maximum));
    std::array<T, lanes<arch, T>> high;
    std::array<T, lanes<arch, T>> low;
    z.high.store_unaligned(high.data());
    z.low.store_unaligned(low.data());
    return {high.front(), low.back()};
}

template <class T>
mpfr_number sum_of(const pair<T>& p)
{
    return mpfr_number(static_cast<double>(p.high)) + mpfr_number(static_cast<double>(p.low));
}

/// A logit and a maximum that is not below it.
template <class T>
struct logits {
    T x;
    T maximum;
};

/// Of magnitudes from the smallest normal to the largest, of both signs, close to each other and far apart.
template <class T>
std::vector<logits<T>> pairs_of_logits()
{
    constexpr T largest = std::numeric_limits<T>::max();
    constexpr T smallest = std::numeric_limits<T>::min();
    std::vector<logits<T>> all = {{-largest, largest}, {-largest, T(0)}, {T(0), largest}, {largest / 2, largest},
                                  {T(0), smallest},    {T(1), T(1)},     {T(-1), T(1)},   {-smallest, smallest}};
    std::mt19937_64 engine(1);
    std::uniform_real_distribution<double> exponent(std::log2(static_cast<double>(smallest)),
                                                    std::log2(static_cast<double>(largest)));
    std::uniform_real_distribution<double> mantissa(-1, 1);
    for (int i = 0; i < 2000; ++i) {
        const double size = std::exp2(exponent(engine));
        const T a = static_cast<T>(mantissa(engine) * size);
        const T b = static_cast<T>(mantissa(engine) * (i % 2 ? size : std::exp2(exponent(engine))));
        all.push_back({std::min(a, b), std::max(a, b)});
    }
    return all;
}

/// What may be missing from an exact difference: its subnormal parts, where the processor takes them for 0.
template <class T>
mpfr_number flushed()
{
#if defined(__FAST_MATH__)
    return mpfr_number(2.0 * static_cast<double>(std::numeric_limits<T>::min()));
#else
    return mpfr_number(0);
#endif
}

} // namespace

TEST_CASE_TEMPLATE(
    "positive_temperature: twice the precision, whatever T, and -inf only where the exact value overflows", T, float,
    double)
{
    const mpfr_number lowest(static_cast<double>(std::numeric_limits<T>::lowest()));
    const mpfr_number overflow = lowest + lowest * mpfr_number::power_of_two(-1 - std::numeric_limits<T>::digits);
    // 1/T, the difference and their product are pairs; what underflows on the way stays below 2^-60
    const mpfr_number relative = mpfr_number::power_of_two(4 - 2 * std::numeric_limits<T>::digits);
    const mpfr_number absolute = mpfr_number::power_of_two(-60);
    std::vector<double> temperatures = {0.1,     0.75,  1.9,    2,     7.3,       0x1.fffffffffffffp0,
                                        0x1p-30, 1e-30, 1e30,   1e-45, 1e-60,     1e-75,
                                        1e-80,   1e-90, 1e-300, 1e300, 0x1p-1022, 0x1.fffffffffffffp1023};
#if !defined(__FAST_MATH__) // which makes the processor take subnormal numbers for 0
    temperatures.push_back(0x1p-1074);
    temperatures.push_back(3e-310);
#endif
    for (const double t : temperatures) {
        CAPTURE(t);
        const positive_temperature<T> temperature(t);
        for (const logits<T>& two : pairs_of_logits<T>()) {
            const T x = two.x;
            const T maximum = two.maximum;
            CAPTURE(x);
            CAPTURE(maximum);
            const mpfr_number difference =
                mpfr_number(static_cast<double>(x)) - mpfr_number(static_cast<double>(maximum));
            const mpfr_number exact = difference / mpfr_number(t);
            const pair<T> z = scaled<T>(temperature, x, maximum);
            if (exact < overflow) {
                CHECK(std::bit_cast<bits_of<T>>(z.high) == negative_infinity_bits<T>);
            } else {
                CHECK(!(abs(exact) * relative + absolute + flushed<T>() / mpfr_number(t) < abs(sum_of(z) - exact)));
            }
        }
    }
}

#if !defined(__FAST_MATH__)
TEST_CASE("positive_temperature: subnormal logits of float at temperatures below float's range")
{
    for (const double t : {1e-60, 1e-76, 1e-78, 1e-82, 1e-84, 1e-300}) {
        CAPTURE(t);
        const positive_temperature<float> temperature(t);
        for (const float x : {-0x1p-149f, -0x1.8p-148f, -0x1p-130f}) {
            const double exact = static_cast<double>(x) / t;
            const pair<float> z = scaled<float>(temperature, x, 0.f);
            if (exact < static_cast<double>(std::numeric_limits<float>::lowest())) {
                CHECK(std::bit_cast<bits_of<float>>(z.high) == negative_infinity_bits<float>);
            } else {
                CHECK(std::abs(static_cast<double>(z.high) + static_cast<double>(z.low) - exact) <= -exact * 0x1p-44);
            }
        }
    }
}
#endif

TEST_CASE_TEMPLATE("positive_temperature: powers of two scale exactly", T, float, double)
{
    for (const double t : {0x1p-40, 0x1p-3, 0.5, 2.0, 4096.0}) {
        const positive_temperature<T> temperature(t);
        for (const T x : {T(-3.7), T(0.1), T(1.25)}) {
            const mpfr_number exact =
                (mpfr_number(static_cast<double>(x)) - mpfr_number(static_cast<double>(T(1.3)))) / mpfr_number(t);
            CHECK((sum_of(scaled<T>(temperature, x, T(1.3))) - exact).is_zero());
        }
    }
}

TEST_CASE_TEMPLATE("temperatures: a logit of -inf stays -inf, the maximum is at 0", T, float, double)
{
    const T none = barrier(negative_infinity<T>);
    for (const double t : {1e-300, 0.3, 1e300}) {
        const positive_temperature<T> temperature(t);
        CHECK(std::bit_cast<bits_of<T>>(scaled<T>(temperature, none, T(3)).high) == negative_infinity_bits<T>);
        CHECK(scaled<T>(temperature, T(3), T(3)).high == 0);
        CHECK(scaled<T>(temperature, T(3), T(3)).low == 0);
    }
}

namespace {

/// The logarithm (x - maximum) / T + addend.
template <class T, class Temperature>
T logarithm_of(const Temperature& temperature, T x, T maximum, T addend)
{
    using B = batch<arch, T>;
    std::array<T, lanes<arch, T>> values;
    temperature.logarithm(B(x), B(maximum), pair<B>{B(addend), B(0)}).store_unaligned(values.data());
    return values.back();
}

} // namespace

TEST_CASE_TEMPLATE("temperatures: the logarithm of a share is within 1.5 units of the last place", T, float, double)
{
    using test_support::error_in_ulp;
    double worst = 0;
    const auto meet = [&](const auto& temperature, const logits<T>& two, T addend) {
        const mpfr_number exact =
            (mpfr_number(static_cast<double>(two.x)) - mpfr_number(static_cast<double>(two.maximum))) /
                mpfr_number(temperature.value) +
            mpfr_number(static_cast<double>(addend));
        const T value = logarithm_of(temperature, two.x, two.maximum, addend);
        if (exact < mpfr_number(static_cast<double>(std::numeric_limits<T>::lowest()))) {
            CHECK(value <= std::numeric_limits<T>::lowest());
        } else {
            worst = std::max(worst, error_in_ulp<T>(static_cast<double>(value), exact, exact));
        }
    };
    std::mt19937_64 engine(4);
    std::uniform_real_distribution<double> magnitude(-10, 4);
    auto all = pairs_of_logits<T>();
    for (int i = 0; i < 2000; ++i) {
        const T x = static_cast<T>(-std::exp2(magnitude(engine)));
        all.push_back({x, static_cast<T>(std::exp2(magnitude(engine)))});
    }
    for (const logits<T>& two : all) {
        const T addend = static_cast<T>(-std::exp2(magnitude(engine)));
        meet(unit_temperature<T>{}, two, addend);
        for (const double t : {0.3, 0.75, 1.9, 7.3, 4096.0, 1e-9, 1e9}) {
            meet(moderate_temperature<T>(t), two, addend);
        }
        meet(positive_temperature<T>(1e-30), two, addend);
    }
    CAPTURE(worst);
    CHECK(worst <= 1.5);
}

TEST_CASE_TEMPLATE("temperatures: the logarithm of a share of -inf is -inf", T, float, double)
{
    const T none = barrier(negative_infinity<T>);
    const auto is_none = [](T value) { return std::bit_cast<bits_of<T>>(value) == negative_infinity_bits<T>; };
    CHECK(is_none(logarithm_of(unit_temperature<T>{}, none, T(3), T(-0.5))));
    for (const double t : {0x1p-39, 0.3, 1.3, 2.0, 0x1p38}) {
        CHECK(is_none(logarithm_of(moderate_temperature<T>(t), none, T(3), T(-0.5))));
    }
    for (const double t : {1e-300, 1e300}) {
        CHECK(is_none(logarithm_of(positive_temperature<T>(t), none, T(3), T(-0.5))));
    }
}

TEST_CASE_TEMPLATE("moderate_temperature: powers of two give the bits of T = 1 for x / T", T, float, double)
{
    std::mt19937_64 engine(5);
    std::uniform_real_distribution<double> uniform(-20, 20);
    for (const double t : {0x1p-20, 0.5, 2.0, 0x1p12}) {
        for (int i = 0; i < 1000; ++i) {
            const T a = static_cast<T>(uniform(engine));
            const T b = static_cast<T>(uniform(engine));
            const T x = std::min(a, b);
            const T maximum = std::max(a, b);
            const T addend = static_cast<T>(-std::exp(uniform(engine)));
            const T scale = static_cast<T>(t);
            CHECK(logarithm_of(moderate_temperature<T>(t), T(x * scale), T(maximum * scale), addend) ==
                  logarithm_of(unit_temperature<T>{}, x, maximum, addend));
        }
    }
}
