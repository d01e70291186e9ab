// SPDX-License-Identifier: BSD-3-Clause
#include <scaledot/merge.hpp>

#include "support/attention_cases.hpp"
#include "support/attention_oracle.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <initializer_list>
#include <limits>
#include <string>
#include <vector>

namespace sd = scaledot;
using namespace test_support;

namespace {

template <class T>
struct problem {
    dense<T, 3> q = gaussians<T, 3>({2, 7, 8}, 1, 3);
    dense<T, 3> k = gaussians<T, 3>({2, 300, 8}, 2);
    dense<T, 3> v = gaussians<T, 3>({2, 300, 5}, 3);

    auto part(std::size_t first, std::size_t last, const sd::attention_options& options = {}) const
    {
        return sd::attention_with_lse(q, xt::view(k, xt::all(), xt::range(first, last)),
                                      xt::view(v, xt::all(), xt::range(first, last)), options);
    }
};

/// The largest difference of outputs and lse, in units of 2^-24 (float) or 2^-53 of the largest value.
template <class Result>
double distance(const Result& a, const Result& b)
{
    using T = typename decltype(a.output)::value_type;
    const double unit = static_cast<double>(std::numeric_limits<T>::epsilon()) / 2;
    double worst = 0;
    for (std::size_t i = 0; i < a.output.size(); ++i) {
        worst = std::max(
            worst, std::abs(static_cast<double>(a.output.data()[i]) - static_cast<double>(b.output.data()[i])) / 4);
    }
    for (std::size_t i = 0; i < a.lse.size(); ++i) {
        const auto lse = static_cast<double>(b.lse.data()[i]);
        worst = std::max(worst, std::abs(static_cast<double>(a.lse.data()[i]) - lse) / std::max(std::abs(lse), 1.0));
    }
    return worst / unit;
}

template <class Result>
bool same(const Result& a, const Result& b)
{
    return same_bits(a.output, b.output) && same_bits(a.lse, b.lse);
}

/// Two ways through sums of 300 weights and two roundings of each share: a generous count of their roundings.
constexpr double rounding_steps = 128;

template <class T>
using result_of = sd::attention_result<xt::xtensor<T, 2>, xt::xtensor<T, 1>>;

template <class T>
result_of<T> row(T output, T lse)
{
    return {xt::xtensor<T, 2>{{output, -output}}, xt::xtensor<T, 1>{lse}};
}

} // namespace

TEST_CASE_TEMPLATE("merge: attention over two ranges of keys is attention over both, wherever they are cut", T, float,
                   double)
{
    const problem<T> p;
    const auto whole = p.part(0, 300);
    for (std::size_t cut = 0; cut <= 300; ++cut) {
        CAPTURE(cut);
        CHECK(distance(sd::merge(p.part(0, cut), p.part(cut, 300)), whole) <= rounding_steps);
    }
}

TEST_CASE_TEMPLATE("merge: shares follow the definition in long double, however far apart the parts' scores lie", T,
                   float, double)
{
    for (const double a : {-800.0, -3.0, 0.0, 0.5, 90.0, 1e4}) {
        for (const double b : {-1e4, -80.0, -3.0, 0.0, 0.5, 12.0, 700.0}) {
            CAPTURE(a);
            CAPTURE(b);
            const auto merged = sd::merge(row<T>(T(3), static_cast<T>(a)), row<T>(T(-1), static_cast<T>(b)));
            const long double largest = std::max(a, b);
            const long double left = std::exp(a - largest), right = std::exp(b - largest);
            const auto exact = static_cast<double>((3 * left - right) / (left + right));
            const auto lse = static_cast<double>(largest + std::log(left + right));
            const auto epsilon = static_cast<double>(std::numeric_limits<T>::epsilon());
            CHECK(std::abs(static_cast<double>(merged.output(0, 0)) - exact) <= 4 * epsilon);
            CHECK(merged.output(0, 1) == -merged.output(0, 0));
            CHECK(std::abs(static_cast<double>(merged.lse(0)) - lse) <= epsilon * std::max(1.0, std::abs(lse)));
        }
    }
}

TEST_CASE_TEMPLATE("merge: associative and commutative up to rounding", T, float, double)
{
    const problem<T> p;
    const auto a = p.part(0, 10), b = p.part(10, 150), c = p.part(150, 300);
    CHECK(distance(sd::merge(sd::merge(a, b), c), sd::merge(a, sd::merge(b, c))) <= rounding_steps);
    CHECK(distance(sd::merge(a, b), sd::merge(b, a)) <= rounding_steps);
    auto one_by_one = p.part(0, 1);
    for (std::size_t j = 1; j < 300; ++j) {
        one_by_one = sd::merge(one_by_one, p.part(j, j + 1));
    }
    CHECK(distance(one_by_one, p.part(0, 300)) <= 2 * 300 + rounding_steps); // each step rounds the result once more
}

TEST_CASE_TEMPLATE("merge: a part without keys changes no bit of the other", T, float, double)
{
    problem<T> p;
    p.v(1, 20, 2) = T(-0.0);
    p.v(0, 7, 1) = infinity_of<T>();
    const auto some = p.part(0, 300);
    const auto none = p.part(0, 0);
    CHECK(same(sd::merge(some, none), some));
    CHECK(same(sd::merge(none, some), some));
    CHECK(same(sd::merge(none, none), none));
    auto kept = row<T>(T(-0.0), T(2));
    CHECK(same(sd::merge(kept, row<T>(nan_of<T>(), minus_infinity_of<T>())), kept));
    CHECK(same(sd::merge(row<T>(infinity_of<T>(), minus_infinity_of<T>()), kept), kept));
}

TEST_CASE_TEMPLATE("merge: an lse of NaN or +inf makes its row NaN, and no other", T, float, double)
{
    for (const T bad : {nan_of<T>(), infinity_of<T>()}) {
        for (const T good : {T(1), T(-900), minus_infinity_of<T>()}) {
            for (const auto& merged :
                 {sd::merge(row<T>(T(5), bad), row<T>(T(2), good)), sd::merge(row<T>(T(2), good), row<T>(T(5), bad))}) {
                CHECK(all_nan(merged.output));
                CHECK(all_nan(merged.lse));
            }
        }
    }
    problem<T> p;
    const auto clean = sd::merge(p.part(0, 100), p.part(100, 300));
    p.q(1, 3, 0) = nan_of<T>();
    const auto result = sd::merge(p.part(0, 100), p.part(100, 300));
    for (std::size_t h = 0; h < 2; ++h) {
        for (std::size_t i = 0; i < 7; ++i) {
            const bool hit = h == 1 && i == 3;
            CHECK(sd::detail::is_nan(static_cast<double>(result.output(h, i, 4))) == hit);
            CHECK((hit || result.output(h, i, 4) == clean.output(h, i, 4)));
        }
    }
}

TEST_CASE("merge: a sink given to one of the parts is the sink of the whole")
{
    const problem<double> p;
    const std::vector<double> sinks = {1.5, 30};
    const auto whole = p.part(0, 300, {.sinks = sinks});
    CHECK(distance(sd::merge(p.part(0, 40, {.sinks = sinks}), p.part(40, 300)), whole) <= rounding_steps);
    CHECK(distance(sd::merge(p.part(0, 40), p.part(40, 300, {.sinks = sinks})), whole) <= rounding_steps);
    CHECK(distance(sd::merge(p.part(0, 0, {.sinks = sinks}), p.part(0, 300)), whole) <= rounding_steps);
}

TEST_CASE("merge: half and bfloat16 outputs are rounded once")
{
    using half = xtl::half_float;
    const sd::attention_result<xt::xarray<half>, xt::xarray<float>> a{xt::xarray<half>::from_shape({1, 3}),
                                                                      xt::xarray<float>{0.f}};
    auto left = a, right = a;
    std::fill(left.output.begin(), left.output.end(), from_double<half>(1));
    std::fill(right.output.begin(), right.output.end(), from_double<half>(2));
    right.lse(0) = std::log(2.f);
    const auto merged = sd::merge(left, right);
    CHECK(as_double(merged.output(0, 2)) == as_double(from_double<half>(5.0 / 3.0)));
}

TEST_CASE("merge: any number of threads gives the same bits; empty results merge to empty results")
{
    const auto q = gaussians<float, 3>({16, 100, 64}, 1);
    const auto k = gaussians<float, 3>({16, 20, 64}, 2);
    const auto a = sd::attention_with_lse(q, k, k);
    const auto b = sd::attention_with_lse(q, q, q);
    const auto expected = sd::merge(a, b);
    for (const std::size_t threads : std::initializer_list<std::size_t>{2, 3, 8}) {
        thread_per_task pool(threads);
        const sd::executor_scope scope(pool);
        CHECK(same(sd::merge(a, b), expected));
    }
    const result_of<float> empty{xt::xtensor<float, 2>::from_shape({0, 3}), xt::xtensor<float, 1>::from_shape({0})};
    CHECK(sd::merge(empty, empty).output.shape(1) == 3);
    const result_of<float> thin{xt::xtensor<float, 2>::from_shape({1, 0}), xt::xtensor<float, 1>{2.f}};
    CHECK(sd::merge(thin, thin).lse(0) == doctest::Approx(2 + std::log(2.0)));
}

TEST_CASE("merge: shapes that differ are named")
{
    const auto make = [](std::size_t rows, std::size_t size, std::size_t sums) {
        return result_of<float>{xt::zeros<float>({rows, size}), xt::zeros<float>({sums})};
    };
    CHECK(complaint_of([&] {
              sd::merge(make(2, 3, 2), make(2, 4, 2));
          }).find("scaledot: the shape of right.output was (2, 4), must be (2, 3)") == 0);
    CHECK(complaint_of([&] {
              sd::merge(make(2, 3, 3), make(2, 3, 2));
          }).find("scaledot: the shape of left.lse was (3,), must be (2,)") == 0);
    CHECK(complaint_of([&] {
              sd::merge(make(2, 3, 2), make(2, 3, 3));
          }).find("scaledot: the shape of right.lse was (3,), must be (2,)") == 0);
}
