// SPDX-License-Identifier: BSD-3-Clause
#include <scaledot/kernel/partial.hpp>

#include "support/attention_cases.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <cstring>
#include <limits>
#include <vector>

namespace kernel = scaledot::kernel;
using namespace test_support;
using arch = scaledot::native_architecture;

namespace {

template <class T>
struct partial {
    std::vector<T> output = std::vector<T>(2 * kernel::lanes<arch, T>);
    T maximum = minus_infinity_of<T>();
    T sum = 0;

    partial() = default;
    partial(T value, T largest, T weights) : maximum(largest), sum(weights)
    {
        for (std::size_t c = 0; c < output.size(); ++c) {
            output[c] = value * static_cast<T>(c + 1);
        }
    }

    kernel::partial_row<T> row() { return {output.data(), &maximum, &sum, nullptr}; }

    bool same(const partial& other) const
    {
        return std::memcmp(output.data(), other.output.data(), output.size() * sizeof(T)) == 0 &&
               std::memcmp(&maximum, &other.maximum, sizeof maximum) == 0 &&
               std::memcmp(&sum, &other.sum, sizeof sum) == 0;
    }
};

template <class T>
partial<T> merged(partial<T> into, partial<T> from)
{
    kernel::merge<arch>(into.row(), from.row(), into.output.size());
    return into;
}

} // namespace

TEST_CASE_TEMPLATE("has_nan_bits and is_negative_infinity_bits tell NaN of either sign and -inf from the rest", T,
                   float, double)
{
    CHECK(kernel::has_nan_bits(nan_of<T>()));
    CHECK(kernel::has_nan_bits(std::copysign(nan_of<T>(), T(-1))));
    for (const T x : {infinity_of<T>(), minus_infinity_of<T>(), T(0), T(-1), std::numeric_limits<T>::max()}) {
        CHECK(!kernel::has_nan_bits(x));
    }
    CHECK(kernel::is_negative_infinity_bits(minus_infinity_of<T>()));
    for (const T x : {infinity_of<T>(), nan_of<T>(), T(0), std::numeric_limits<T>::lowest()}) {
        CHECK(!kernel::is_negative_infinity_bits(x));
    }
}

TEST_CASE_TEMPLATE("exp_of: exactly 1 at 0, 0 at -inf, exp between", T, float, double)
{
    CHECK(kernel::exp_of<arch>(T(0)) == 1);
    CHECK(kernel::exp_of<arch>(T(-0.0)) == 1);
    CHECK(kernel::exp_of<arch>(minus_infinity_of<T>()) == 0);
    CHECK(kernel::exp_of<arch>(T(-1)) == doctest::Approx(std::exp(-1.0)));
}

TEST_CASE_TEMPLATE("clear: no key seen", T, float, double)
{
    partial<T> p(T(3), T(4), T(5));
    kernel::score_statistics statistics{.maximum = 7, .count = 3};
    kernel::clear(kernel::partial_row<T>{p.output.data(), &p.maximum, &p.sum, &statistics}, p.output.size());
    CHECK(p.same(partial<T>()));
    CHECK(statistics.count == 0);
}

TEST_CASE_TEMPLATE("merge: an empty partial changes no bit of the other, from either side", T, float, double)
{
    for (const T value : {T(1), T(-0.0), infinity_of<T>(), nan_of<T>()}) {
        for (const T maximum : {T(2), std::numeric_limits<T>::lowest(), nan_of<T>()}) {
            const partial<T> some(value, maximum, T(1.5));
            CHECK(merged(some, partial<T>()).same(some));
            CHECK(merged(partial<T>(), some).same(some));
        }
    }
    CHECK(merged(partial<T>(), partial<T>()).same(partial<T>()));
}

TEST_CASE_TEMPLATE("merge: rescales the part with the smaller maximum and adds", T, float, double)
{
    for (const double gap : {0.0, 0.5, 3.0, 50.0, 1000.0}) {
        const partial<T> high(T(3), T(10), T(1.25));
        const partial<T> low(T(-7), static_cast<T>(10 - gap), T(2));
        for (const auto& p : {merged(high, low), merged(low, high)}) {
            CHECK(p.maximum == T(10));
            const double weight = std::exp(-gap);
            const double epsilon = static_cast<double>(std::numeric_limits<T>::epsilon());
            CHECK(std::abs(static_cast<double>(p.sum) - (1.25 + 2 * weight)) <= 4 * epsilon);
            for (std::size_t c = 0; c < p.output.size(); ++c) {
                const double n = static_cast<double>(c + 1);
                CHECK(std::abs(static_cast<double>(p.output[c]) - (3 - 7 * weight) * n) <= 4 * epsilon * 10 * n);
            }
        }
    }
    const partial<T> high(T(3), std::numeric_limits<T>::max(), T(1));
    const partial<T> low(T(7), std::numeric_limits<T>::lowest(), T(1)); // the difference overflows: weight 0
    CHECK(merged(high, low).same(high));
    CHECK(merged(low, high).same(high));
}

TEST_CASE_TEMPLATE("merge: a NaN part makes the whole NaN", T, float, double)
{
    const partial<T> some(T(1), T(2), T(3));
    const partial<T> bad(nan_of<T>(), nan_of<T>(), nan_of<T>());
    for (const auto& p : {merged(some, bad), merged(bad, some), merged(bad, bad)}) {
        CHECK(all_nan(p.output));
        CHECK(all_nan(std::vector<T>{p.maximum, p.sum}));
    }
}
