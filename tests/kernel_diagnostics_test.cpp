// SPDX-License-Identifier: BSD-3-Clause
#include <scaledot/kernel/diagnostics.hpp>

#include "support/attention_cases.hpp"
#include "support/exact_statistics.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <vector>

namespace kernel = scaledot::kernel;
using namespace test_support;
using arch = scaledot::native_architecture;
using kernel::score_statistics;

TEST_CASE_TEMPLATE("statistics_of_block: the sums of the visible scores, at every length", T, float, double)
{
    for (std::size_t count = 1; count <= 4 * kernel::lanes<arch, T> + 1; ++count) {
        for (const double deviation : {0.01, 1.0, 10.0}) {
            CAPTURE(count);
            CAPTURE(deviation);
            const auto scores = scores_of<T>(count, static_cast<unsigned>(count), deviation);
            check_statistics(kernel::statistics_of_block<arch>(scores.data(), count), exact_statistics(scores),
                             statistics_error<T>, 3 + deviation);
        }
    }
}

TEST_CASE_TEMPLATE("statistics_of_block: ties leave one maximum out", T, float, double)
{
    std::vector<T> scores(37, T(-1000));
    scores[2] = scores[20] = scores[36] = T(5);
    const auto s = kernel::statistics_of_block<arch>(scores.data(), scores.size());
    CHECK(s.rest == 2);
    CHECK(s.squares == 2);
    CHECK(s.cubes == 2);
    CHECK(s.drop == 0);
}

TEST_CASE_TEMPLATE("statistics_of_block: nothing visible is empty; NaN or +inf anywhere is invalid, and still counted",
                   T, float, double)
{
    const std::vector<T> nothing(9, minus_infinity_of<T>());
    const auto empty = kernel::statistics_of_block<arch>(nothing.data(), 9);
    CHECK(empty.count == 0);
    CHECK(!empty.invalid);
    for (std::size_t i = 0; i < 9; ++i) {
        for (const T bad : {nan_of<T>(), infinity_of<T>()}) {
            std::vector<T> scores(9, T(1));
            scores[i] = bad;
            const auto s = kernel::statistics_of_block<arch>(scores.data(), 9);
            CHECK(s.invalid);
            CHECK(s.count == 9);
        }
    }
}

TEST_CASE_TEMPLATE("statistics_of_scaled_block: those of the scores times the factor, up to a whole block", T, float,
                   double)
{
    const auto same = [](double a, double b) {
        return std::bit_cast<std::uint64_t>(a) == std::bit_cast<std::uint64_t>(b);
    };
    for (const std::size_t count : std::initializer_list<std::size_t>{0, 1, 2, 7, 64, 67, kernel::block_keys}) {
        for (const T factor : {T(1), T(0.125), T(0.3), T(1e-3)}) {
            const auto scores = scores_of<T>(count, static_cast<unsigned>(count + 1), 10);
            auto scaled = scores;
            std::transform(scaled.begin(), scaled.end(), scaled.begin(), [&](T score) { return score * factor; });
            const auto a = kernel::statistics_of_scaled_block<arch>(scores.data(), count, factor);
            const auto b = kernel::statistics_of_block<arch>(scaled.data(), count);
            CHECK(same(a.maximum, b.maximum));
            CHECK(same(a.minimum, b.minimum));
            CHECK(same(a.count, b.count));
            CHECK(same(a.mean, b.mean));
            CHECK(same(a.deviation, b.deviation));
            CHECK(same(a.rest, b.rest));
            CHECK(same(a.drop, b.drop));
            CHECK(same(a.squares, b.squares));
            CHECK(same(a.cubes, b.cubes));
            CHECK(a.invalid == b.invalid);
            if (count > 0) {
                // twice as many numbers
                check_statistics(a, exact_statistics(scaled), 2 * statistics_error<T>, 13);
            }
        }
    }
    for (const T bad : {nan_of<T>(), infinity_of<T>()}) {
        std::vector<T> scores(9, T(1));
        scores[8] = bad;
        const auto statistics = kernel::statistics_of_scaled_block<arch>(scores.data(), 9, T(0.5));
        CHECK(statistics.invalid);
        CHECK(statistics.count == 9);
    }
}

TEST_CASE("merge: the statistics of two ranges of scores are those of both, wherever they are cut")
{
    for (const double deviation : {0.01, 1.0, 10.0}) {
        const auto scores = scores_of<double>(100, 5, deviation);
        const auto exact = exact_statistics(scores);
        for (std::size_t cut = 0; cut <= 100; ++cut) {
            CAPTURE(cut);
            const auto middle = scores.begin() + static_cast<std::ptrdiff_t>(cut);
            auto left = exact_statistics(std::vector<double>(scores.begin(), middle));
            auto right = exact_statistics(std::vector<double>(middle, scores.end()));
            const auto first = left;
            kernel::merge(left, right);
            check_statistics(left, exact, statistics_error<double>, 3 + deviation);
            kernel::merge(right, first);
            check_statistics(right, exact, statistics_error<double>, 3 + deviation);
        }
    }
}

TEST_CASE("merge: an empty part changes nothing, an invalid one makes the whole invalid and keeps counting")
{
    const auto some = exact_statistics(scores_of<double>(20, 1, 1));
    auto a = some;
    kernel::merge(a, score_statistics{});
    CHECK(a.mean == some.mean);
    CHECK(a.rest == some.rest);
    CHECK(a.maximum == some.maximum);
    score_statistics b;
    kernel::merge(b, some);
    CHECK(b.deviation == some.deviation);
    CHECK(b.count == some.count);
    score_statistics bad;
    bad.invalid = true;
    bad.count = 4;
    kernel::merge(a, bad);
    CHECK(a.invalid);
    CHECK(a.count == some.count + 4);
    kernel::merge(bad, some);
    CHECK(bad.invalid);
    CHECK(bad.count == some.count + 4);
}

TEST_CASE("merge: parts so far apart that the lower weighs nothing leave the upper's sums")
{
    auto high = exact_statistics(std::vector<double>{1e300, 1e300});
    auto low = exact_statistics(std::vector<double>{-1e308, -1e308});
    const auto upper = high;
    for (auto* p : {&high, &low}) {
        auto other = p == &high ? low : upper;
        kernel::merge(*p, other);
        CHECK(p->rest == 1);
        CHECK(p->drop == 0);
        CHECK(p->maximum == 1e300);
        CHECK(p->minimum == -1e308);
    }
}

TEST_CASE("figures_of_row: a uniform row of n keys has entropy ln n and Jacobian sqrt(n - 1) / n")
{
    for (const std::size_t n : std::initializer_list<std::size_t>{1, 2, 10, 1000}) {
        const double count = static_cast<double>(n);
        const auto f =
            kernel::figures_of_row(exact_statistics(std::vector<double>(n, 3.0)), kernel::negative_infinity<double>);
        CHECK(f.lse == doctest::Approx(3 + std::log(count)).epsilon(1e-14));
        CHECK(f.entropy == doctest::Approx(std::log(count)).epsilon(1e-14));
        CHECK(f.effective_keys == doctest::Approx(count).epsilon(1e-12));
        CHECK(f.max_probability == doctest::Approx(1 / count).epsilon(1e-14));
        CHECK(std::abs(f.jacobian_norm - std::sqrt(count - 1) / count) <= 1e-14);
        CHECK(f.sink_probability == 0);
    }
}

TEST_CASE("figures_of_row: the sink is one more entry of the softmax, but no key")
{
    const auto keys = exact_statistics(std::vector<double>{1, 1, 1});
    const auto f = kernel::figures_of_row(keys, 1.0);
    CHECK(f.entropy == doctest::Approx(std::log(4.0)).epsilon(1e-14));
    CHECK(f.max_probability == doctest::Approx(0.25).epsilon(1e-14));
    CHECK(f.sink_probability == doctest::Approx(0.25).epsilon(1e-14));
    CHECK(f.jacobian_norm == doctest::Approx(std::sqrt(3.0) / 4).epsilon(1e-14));
    const auto led = kernel::figures_of_row(keys, 50.0);
    CHECK(led.max_probability == doctest::Approx(std::exp(-49.0)).epsilon(1e-12));
    CHECK(led.sink_probability == 1);
    const auto alone = kernel::figures_of_row({}, 2.0);
    CHECK(alone.lse == 2);
    CHECK(alone.sink_probability == 1);
    CHECK(alone.max_probability == 0);
    CHECK(alone.effective_keys == 1);
    CHECK(scaledot::detail::is_nan(kernel::figures_of_row(keys, nan_of<double>()).entropy));
    CHECK(scaledot::detail::is_nan(kernel::figures_of_row({}, infinity_of<double>()).entropy));
}
