// SPDX-License-Identifier: BSD-3-Clause
#include <scaledot/kernel/softmax_limits.hpp>

#include "support/norm_rows.hpp"

#include <scaledot/detail/check.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace sd = scaledot;
using namespace scaledot::kernel;
using test_support::as_double;
using test_support::from_double;

namespace {

constexpr double none = std::bit_cast<double>(0xfff0000000000000u);
constexpr double infinite = std::bit_cast<double>(0x7ff0000000000000u);
constexpr double invalid = std::bit_cast<double>(0x7ff8000000000000u);
constexpr double negative_invalid = std::bit_cast<double>(0xfff8000000000000u);

template <class S>
using arithmetic = sd::detail::arithmetic_t<S>;

template <class S>
std::vector<S> row(const std::vector<double>& values)
{
    std::vector<S> result(values.size());
    std::transform(values.begin(), values.end(), result.begin(), from_double<S>);
    return result;
}

template <class S>
std::vector<double> limit(const std::vector<double>& values, bool cold, softmax_output kind)
{
    const auto x = row<S>(values);
    std::vector<S> y(x.size());
    softmax_limit_row<arithmetic<S>>(x.data(), y.data(), x.size(), 1, 1, cold, kind);
    std::vector<double> result;
    for (const S value : y) {
        result.push_back(as_double(value));
    }
    return result;
}

template <class S>
double sum_limit(const std::vector<double>& values, bool cold)
{
    const auto x = row<S>(values);
    return static_cast<double>(logsumexp_limit<arithmetic<S>>(x.data(), x.size(), 1, cold));
}

template <class S>
double nearest(double value)
{
    return as_double(from_double<S>(value));
}

} // namespace

TEST_CASE_TEMPLATE("take_census: counts what is above -inf and the maxima among it", S, float, double, xtl::half_float,
                   sd::bfloat16)
{
    const auto x = row<S>({none, -2, 3, none, 3, -7, 3});
    const auto census = take_census<arithmetic<S>>(x.data(), x.size(), 1);
    CHECK(census.finite == 5);
    CHECK(census.largest == 3);
    CHECK(static_cast<double>(census.maximum) == 3);
    CHECK(!census.has_nan);
    CHECK(!census.has_infinity);
    const auto every_other = take_census<arithmetic<S>>(x.data() + 1, 3, 2);
    CHECK(every_other.finite == 2);
    CHECK(every_other.largest == 1);
    CHECK(static_cast<double>(every_other.maximum) == -2);
}

TEST_CASE_TEMPLATE("take_census: tells NaN of either sign and +inf apart, wherever they stand", S, float, double,
                   xtl::half_float, sd::bfloat16)
{
    for (std::size_t at = 0; at < 4; ++at) {
        for (const double bad : {infinite, invalid, negative_invalid}) {
            std::vector<double> values = {1, none, 2, 0};
            values[at] = bad;
            const auto x = row<S>(values);
            const auto census = take_census<arithmetic<S>>(x.data(), x.size(), 1);
            CHECK(census.has_nan == sd::detail::is_nan(bad));
            CHECK(census.has_infinity == !sd::detail::is_nan(bad));
        }
    }
}

TEST_CASE_TEMPLATE("softmax_limit_row: T = 0 gives equal shares to the maxima", S, float, double, xtl::half_float,
                   sd::bfloat16)
{
    const double share = nearest<S>(1.0 / 3);
    CHECK(limit<S>({5, none, 5, -3, 5}, true, softmax_output::probabilities) ==
          std::vector<double>{share, 0, share, 0, share});
    const auto logarithms = limit<S>({5, none, 5, -3, 5}, true, softmax_output::logarithms);
    CHECK(logarithms[0] == nearest<S>(-std::log(3.0)));
    CHECK(sd::detail::is_negative_infinity(logarithms[1]));
    CHECK(sd::detail::is_negative_infinity(logarithms[3]));
    CHECK(limit<S>({-0.0, 0.0}, true, softmax_output::probabilities) == std::vector<double>{0.5, 0.5});
}

TEST_CASE_TEMPLATE("softmax_limit_row: T = inf gives equal shares to all above -inf", S, float, double, xtl::half_float,
                   sd::bfloat16)
{
    const double share = nearest<S>(0.25);
    CHECK(limit<S>({5, none, 5, -3, 50}, false, softmax_output::probabilities) ==
          std::vector<double>{share, 0, share, share, share});
    const auto logarithms = limit<S>({5, none, 5, -3, 50}, false, softmax_output::logarithms);
    CHECK(logarithms[3] == nearest<S>(-std::log(4.0)));
    CHECK(sd::detail::is_negative_infinity(logarithms[1]));
}

TEST_CASE_TEMPLATE("softmax_limit_row: one logit has logarithm +0", S, float, double)
{
    const auto bits = std::bit_cast<std::uint64_t>(limit<S>({3}, true, softmax_output::logarithms)[0]);
    CHECK(bits == 0);
}

TEST_CASE_TEMPLATE("softmax_limit_row: NaN, +inf or nothing but -inf make every element NaN", S, float, double,
                   xtl::half_float, sd::bfloat16)
{
    const std::vector<std::vector<double>> rows = {
        {1, invalid, none}, {negative_invalid, 2, 3}, {none, infinite, 2}, {none, none, none}};
    for (const auto& values : rows) {
        for (const bool cold : {true, false}) {
            for (const auto kind : {softmax_output::probabilities, softmax_output::logarithms}) {
                for (const double y : limit<S>(values, cold, kind)) {
                    CHECK(sd::detail::is_nan(y));
                }
            }
        }
    }
}

TEST_CASE("softmax_limit_row: steps through memory as told and may work in place")
{
    std::vector<float> x = {1, 10, 2, 20, 2, 30};
    softmax_limit_row<float>(x.data(), x.data(), 3, 2, 2, true, softmax_output::probabilities);
    CHECK(x == std::vector<float>{0, 10, 0.5f, 20, 0.5f, 30});
}

TEST_CASE_TEMPLATE("logsumexp_limit: at T = 0 the sign of the maximum decides, at T = inf the number of logits", S,
                   float, double, xtl::half_float, sd::bfloat16)
{
    CHECK(sd::detail::is_positive_infinity(sum_limit<S>({-1, 2}, true)));
    CHECK(sd::detail::is_negative_infinity(sum_limit<S>({-1, none}, true)));
    CHECK(sum_limit<S>({-1, 0, none, 0}, true) == static_cast<double>(static_cast<arithmetic<S>>(std::log(2.0))));
    CHECK(sum_limit<S>({-1, 7, none, 0}, false) == static_cast<double>(static_cast<arithmetic<S>>(std::log(3.0))));
    for (const bool cold : {true, false}) {
        CHECK(sd::detail::is_negative_infinity(sum_limit<S>({none, none}, cold)));
        CHECK(sd::detail::is_negative_infinity(sum_limit<S>({}, cold)));
        CHECK(sd::detail::is_positive_infinity(sum_limit<S>({none, infinite, -1}, cold)));
        CHECK(sd::detail::is_nan(sum_limit<S>({infinite, invalid}, cold)));
    }
}

TEST_CASE_TEMPLATE("logsumexp_of_poisoned: NaN before +inf before -inf", S, float, double, xtl::half_float,
                   sd::bfloat16)
{
    const auto of = [](const std::vector<double>& values) {
        const auto x = row<S>(values);
        return static_cast<double>(logsumexp_of_poisoned<arithmetic<S>>(x.data(), x.size(), 1));
    };
    CHECK(sd::detail::is_nan(of({infinite, 1, negative_invalid})));
    CHECK(sd::detail::is_positive_infinity(of({none, 1, infinite})));
    CHECK(sd::detail::is_negative_infinity(of({none, none})));
}
