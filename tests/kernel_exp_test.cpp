// SPDX-License-Identifier: BSD-3-Clause
#include <scaledot/kernel/exp.hpp>

#include "support/bits.hpp"
#include "support/mpfr_number.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

namespace sd = scaledot;
using namespace scaledot::kernel;
using namespace test_support;
using arch = sd::native_architecture;

namespace {

/// f of one number in all lanes, which must agree.
template <class T, class F>
T in_all_lanes(F&& f)
{
    std::array<T, lanes<arch, T>> values;
    f().store_unaligned(values.data());
    for (const T value : values) {
        CHECK(std::bit_cast<bits_of<T>>(value) == std::bit_cast<bits_of<T>>(values[0]));
    }
    return values[0];
}

template <class T>
T exp_negative_of(T x)
{
    return in_all_lanes<T>([&] { return exp_negative(batch<arch, T>(x)); });
}

template <class T>
T tanh_of(T x)
{
    return in_all_lanes<T>([&] { return hyperbolic_tangent(batch<arch, T>(x)); });
}

/// Arguments <= 0 from next to zero to where exp vanishes, many of them at ties of the reduction.
template <class T>
std::vector<T> arguments()
{
    std::vector<T> x;
    std::mt19937_64 engine(11);
    const T limit = sizeof(T) == 8 ? T(708) : T(87);
    std::uniform_real_distribution<T> wide(-limit, 0);
    std::uniform_real_distribution<T> narrow(-2, 0);
    for (int i = 0; i < 10'000; ++i) {
        x.push_back(wide(engine));
        x.push_back(narrow(engine));
        x.push_back(-std::exp(wide(engine)));
    }
    for (int k = 0; T(k) < limit; ++k) {
        const T tie = -(T(k) + T(0.5)) * T(0.693147180559945309417);
        for (const T at : {std::nextafter(tie, T(0)), tie, std::nextafter(tie, -limit)}) {
            x.push_back(std::max(at, -limit));
        }
    }
    return x;
}

/// Arguments around all multiples of ln(2) / 32 (sixteenths of powers of two and the middles between them), and the
/// last ones with a normal result.
template <class T>
std::vector<T> table_arguments()
{
    std::vector<T> x;
    const T limit = exp_constants<T>::normal_limit;
    const int powers = sizeof(T) == 8 ? 60 : 126;
    for (int k = 0; k <= powers * 32; ++k) {
        T at = -static_cast<T>(k) * T(0.693147180559945309417) / 32;
        for (int step = 0; step < 4 && at >= limit; ++step) {
            x.push_back(at);
            x.push_back(std::min(T(0), std::nextafter(at, T(1))));
            at = std::nextafter(at, limit * 2);
        }
    }
    T at = limit;
    for (int step = 0; step < 2000; ++step) {
        x.push_back(at);
        at = std::nextafter(at, T(0));
    }
    return x;
}

} // namespace

TEST_CASE_TEMPLATE("exp_negative: at most exp_negative_max_ulp on normal results", T, float, double)
{
    double worst = 0;
    auto x = arguments<T>();
    const auto more = table_arguments<T>();
    x.insert(x.end(), more.begin(), more.end());
    for (const T at : x) {
        const mpfr_number exact = exp(mpfr_number(static_cast<double>(at)));
        worst = std::max(worst, error_in_ulp<T>(static_cast<double>(exp_negative_of(at)), exact, exact));
    }
    MESSAGE("exp_negative: ", worst, " ulp");
    CHECK(worst <= exp_negative_max_ulp);
}

TEST_CASE("exp_negative: at most exp_negative_max_ulp on every 251st float")
{
    constexpr std::size_t size = lanes<arch, float>;
    double worst = 0;
    const auto last = std::bit_cast<std::uint32_t>(exp_constants<float>::normal_limit);
    for (std::uint32_t first = 0x80000000u; first <= last; first += 251 * size) {
        std::array<float, size> x;
        for (std::uint32_t lane = 0; lane < size; ++lane) {
            x[lane] = std::bit_cast<float>(std::min(first + 251 * lane, last));
        }
        std::array<float, size> y;
        exp_negative(batch<arch, float>::load_unaligned(x.data())).store_unaligned(y.data());
        for (std::size_t lane = 0; lane < size; ++lane) {
            // double's exp is off by 2^-29 of a float's unit
            const double exact = std::exp(static_cast<double>(x[lane]));
            const double unit = std::ldexp(1.0, std::max(std::ilogb(exact), -126) - 23);
            worst = std::max(worst, std::abs(static_cast<double>(y[lane]) - exact) / unit);
        }
    }
    MESSAGE("exp_negative: ", worst, " ulp");
    CHECK(worst <= exp_negative_max_ulp);
}

TEST_CASE_TEMPLATE("exp_negative: exactly 1 at 0 and next to it", T, float, double)
{
    for (const T x : {T(0), T(-0.0), -std::numeric_limits<T>::denorm_min(), -std::numeric_limits<T>::min(),
                      -std::numeric_limits<T>::epsilon() / 8}) {
        CHECK(exp_negative_of(x) == T(1));
    }
}

TEST_CASE_TEMPLATE("exp_negative: +0 where the result would be subnormal, the limit itself is normal", T, float, double)
{
    const T limit = exp_constants<T>::normal_limit;
    CHECK(exp_negative_of(limit) >= std::numeric_limits<T>::min());
    for (const T x : {std::nextafter(limit, limit * 2), limit * T(1.001), limit * T(1.1), limit * T(1.5),
                      limit * T(1e6), std::numeric_limits<T>::lowest(), barrier(negative_infinity<T>)}) {
        CHECK(std::bit_cast<bits_of<T>>(exp_negative_of(x)) == 0);
    }
}

TEST_CASE_TEMPLATE("exp_negative: NaN of either sign and any payload gives NaN, also beside numbers", T, float, double)
{
    using I = bits_of<T>;
    const I quiet = std::bit_cast<I>(quiet_nan<T>());
    for (const I sign : {I{0}, std::numeric_limits<I>::min()}) {
        for (I payload = 0; payload < 32; ++payload) {
            const std::array nans = {std::bit_cast<T>(sign | quiet | payload),
                                     std::bit_cast<T>(sign | (std::numeric_limits<I>::max() - payload)),
                                     std::bit_cast<T>(sign | (exponent_mask<T> + 1 + payload))};
            for (const T nan : nans) {
                REQUIRE(is_nan_of(nan));
                CHECK(is_nan_of(exp_negative_of(barrier(nan))));
            }
            for (std::size_t lane = 0; lane < lanes<arch, T>; ++lane) {
                std::array<T, lanes<arch, T>> values;
                values.fill(T(-1));
                values[lane] = nans[0];
                exp_negative(barrier(batch<arch, T>::load_unaligned(values.data()))).store_unaligned(values.data());
                for (std::size_t i = 0; i < values.size(); ++i) {
                    REQUIRE(is_nan_of(values[i]) == (i == lane));
                }
            }
        }
    }
}

TEST_CASE_TEMPLATE(
    "hyperbolic_tangent: odd, at most hyperbolic_tangent_max_ulp also next to 0, 1 at infinity, NaN for NaN", T, float,
    double)
{
    double worst = 0;
    for (const T x : arguments<T>()) {
        const T y = tanh_of(x);
        CHECK(tanh_of(T(-x)) == -y);
        const mpfr_number exact = tanh(mpfr_number(static_cast<double>(x)));
        if (abs(exact) < smallest_normal<T>()) {
            continue;
        }
        worst = std::max(worst, error_in_ulp<T>(static_cast<double>(y), exact, exact));
    }
    CAPTURE(worst);
    CHECK(worst <= hyperbolic_tangent_max_ulp);
    CHECK(tanh_of(barrier(infinity<T>)) == T(1));
    CHECK(tanh_of(barrier(negative_infinity<T>)) == T(-1));
    CHECK(std::bit_cast<bits_of<T>>(tanh_of(T(-0.0))) == std::bit_cast<bits_of<T>>(T(-0.0)));
    CHECK(is_nan_of(tanh_of(barrier(quiet_nan<T>()))));
}
