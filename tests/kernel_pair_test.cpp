// SPDX-License-Identifier: BSD-3-Clause
#include <scaledot/kernel/pair.hpp>

#include "support/mpfr_number.hpp"

#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <random>
#include <vector>

namespace sd = scaledot;
using namespace scaledot::kernel;
using test_support::error_in_ulp;
using test_support::mpfr_number;
using arch = sd::native_architecture;

namespace {

/// Numbers of both signs and very different magnitudes, far from overflow and from subnormal products.
template <class T>
class number_source {
public:
    T operator()()
    {
        const T magnitude = std::ldexp(uniform_(engine_), exponent_(engine_));
        return engine_() % 2 ? magnitude : -magnitude;
    }

private:
    static constexpr int range = sizeof(T) == 8 ? 120 : 20;
    std::mt19937_64 engine_{7};
    std::uniform_real_distribution<T> uniform_{1, 2};
    std::uniform_int_distribution<int> exponent_{-range, range};
};

template <class T>
void check_exact(T high, T low, const mpfr_number& exact)
{
    const mpfr_number sum = mpfr_number(static_cast<double>(high)) + mpfr_number(static_cast<double>(low));
    CHECK((sum - exact).is_zero());
    CHECK(error_in_ulp<T>(static_cast<double>(high), exact, exact) <= 0.5);
}

/// Applies an operation on vectors to one pair of numbers and returns lane 0.
template <class T, class Operation>
sd::kernel::pair<T> in_lane(Operation&& operation, T a, T b)
{
    const auto result = operation(batch<arch, T>(a), batch<arch, T>(b));
    std::array<T, lanes<arch, T>> high;
    std::array<T, lanes<arch, T>> low;
    result.high.store_unaligned(high.data());
    result.low.store_unaligned(low.data());
    return {high[0], low[0]};
}

} // namespace

TEST_CASE_TEMPLATE("two_sum: high is the rounded sum and high + low the exact one, whatever the order", T, float,
                   double)
{
    number_source<T> number;
    for (int i = 0; i < 5000; ++i) {
        const T a = number();
        const T b = number();
        const mpfr_number exact = mpfr_number(static_cast<double>(a)) + mpfr_number(static_cast<double>(b));
        const auto scalar = two_sum(a, b);
        check_exact(scalar.high, scalar.low, exact);
        const auto vector = in_lane<T>([](auto x, auto y) { return two_sum(x, y); }, a, b);
        check_exact(vector.high, vector.low, exact);
        const auto difference = two_difference(a, T(-b));
        check_exact(difference.high, difference.low, exact);
        const bool ordered = std::abs(a) >= std::abs(b);
        const auto fast = fast_two_sum(ordered ? a : b, ordered ? b : a);
        check_exact(fast.high, fast.low, exact);
    }
}

TEST_CASE_TEMPLATE("two_sum: nothing is lost next to cancellation", T, float, double)
{
    for (int i = 1; i < 1000; ++i) {
        const T a = T(1) / static_cast<T>(i);
        const T b = -std::nextafter(a, T(2)) + std::ldexp(T(1), -40);
        const auto sum = two_sum(a, b);
        check_exact(sum.high, sum.low, mpfr_number(static_cast<double>(a)) + mpfr_number(static_cast<double>(b)));
    }
}

TEST_CASE_TEMPLATE("two_product: high is the rounded product and high + low the exact one", T, float, double)
{
    number_source<T> number;
    for (int i = 0; i < 5000; ++i) {
        const T a = number();
        const T b = number();
        const mpfr_number exact = mpfr_number(static_cast<double>(a)) * mpfr_number(static_cast<double>(b));
        const auto scalar = two_product(a, b);
        check_exact(scalar.high, scalar.low, exact);
        const auto vector = in_lane<T>([](auto x, auto y) { return two_product(x, y); }, a, b);
        check_exact(vector.high, vector.low, exact);
    }
}

TEST_CASE_TEMPLATE("accumulate and reduce: a sum that cancels to a millionth keeps all its digits", T, float, double)
{
    using V = batch<arch, T>;
    number_source<T> number;
    sd::kernel::pair<V> sum{V(T(0)), V(T(0))};
    mpfr_number exact(0);
    std::array<T, lanes<arch, T>> values;
    for (int i = 0; i < 1000; ++i) {
        for (auto& value : values) {
            value = number() * (i % 2 ? T(1) : T(1e-3));
            exact += mpfr_number(static_cast<double>(value));
        }
        const V v = V::load_unaligned(values.data());
        accumulate(sum, v);
        accumulate(sum, V(-v)); // everything cancels
        accumulate(sum, V(T(1e-6) * v));
        for (const T value : values) {
            exact += mpfr_number(static_cast<double>(T(T(1e-6) * value))) - mpfr_number(static_cast<double>(value));
        }
    }
    const auto total = reduce(sum);
    CHECK(error_in_ulp<T>(static_cast<double>(total.high), exact, exact) <= 1);
}

TEST_CASE("reduce: adds the lanes of both parts")
{
    using V = batch<arch, double>;
    const auto total = reduce(sd::kernel::pair<V>{V(1.0), V(0x1p-60)});
    const auto size = static_cast<double>(lanes<arch, double>);
    CHECK(total.high == size);
    CHECK(total.low == size * 0x1p-60);
}
