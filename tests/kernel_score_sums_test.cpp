// SPDX-License-Identifier: BSD-3-Clause
#include <scaledot/kernel/score_sums.hpp>

#include <scaledot/kernel/step.hpp>

#include "support/attention_cases.hpp"
#include "support/exact_statistics.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <initializer_list>
#include <limits>
#include <vector>

namespace kernel = scaledot::kernel;
using namespace test_support;
using arch = scaledot::native_architecture;

namespace {

template <class T>
constexpr std::size_t lanes = kernel::lanes<arch, T>;

template <class T>
struct summed {
    score_statistics statistics;
    T weights; ///< their sum, relative to the last reference
};

/// The statistics of factor * scores, taken block by block as attention does.
template <class T>
summed<T> sum_up(std::vector<T> scores, std::size_t block, T factor)
{
    using step = kernel::number_step<arch, T>;
    kernel::score_sums<arch, T> sums;
    kernel::batch<arch, T> weights(T(0));
    std::array<T, lanes<T>> references; // raised a vector at a time
    references.fill(minus_infinity_of<T>());
    for (std::size_t first = 0; first < scores.size(); first += block) {
        T* const begin = scores.data() + first;
        const std::size_t count = std::min(block, scores.size() - first);
        const auto extremes = kernel::extremes_of<arch>(begin, count);
        const bool all_visible = extremes.smallest > minus_infinity_of<T>();
        const T smallest = kernel::smallest_visible<arch>(begin, count);
        std::array<T, lanes<T>> maxima;
        std::array<T, lanes<T>> kept;
        maxima.fill(extremes.largest);
        const T before = references[0];
        kernel::raise_references<arch>(references.data(), maxima.data(), factor, 1, kept.data());
        const T reference = references[0];
        sums.raise(reference - before, kept[0]);
        weights = weights * kernel::batch<arch, T>(kept[0]);
        const auto add = [&]<bool AllVisible, bool HoldsReference>() {
            weights = kernel::weigh_row_into<step, AllVisible, HoldsReference>(sums, begin, count, factor, reference,
                                                                               {extremes.largest, smallest}, weights);
        };
        if (factor * extremes.largest == reference) {
            all_visible ? add.template operator()<true, true>() : add.template operator()<false, true>();
        } else {
            all_visible ? add.template operator()<true, false>() : add.template operator()<false, false>();
        }
    }
    return {sums.statistics(factor, references[0]), kernel::sum_of_lanes(weights)};
}

template <class T>
std::vector<T> scaled(std::vector<T> scores, T factor)
{
    for (T& score : scores) {
        score *= factor;
    }
    return scores;
}

/// Weights come from factor * score before it is rounded: off by half a unit of the score's last place. On top, 1024
/// numbers added in lanes.
template <class T>
double sums_error(T largest)
{
    return (256 + std::abs(static_cast<double>(largest))) * static_cast<double>(std::numeric_limits<T>::epsilon());
}

template <class T>
void check_sums(const std::vector<T>& scores, T factor)
{
    const auto computed = scaled(scores, factor);
    const auto exact = exact_statistics(computed);
    double magnitude = 0;
    for (const T score : computed) {
        magnitude =
            score > minus_infinity_of<T>() ? std::max(magnitude, std::abs(static_cast<double>(score))) : magnitude;
    }
    for (const std::size_t blocks : std::initializer_list<std::size_t>{1, 2, 4}) {
        CAPTURE(blocks);
        const auto sums = sum_up(scores, scores.size() / blocks, factor);
        check_statistics(sums.statistics, exact, sums_error(static_cast<T>(exact.maximum)), magnitude);
        CHECK(static_cast<double>(sums.weights) == doctest::Approx(1 + exact.rest).epsilon(1e-5));
    }
}

} // namespace

TEST_CASE_TEMPLATE("extremes_of: the largest and the smallest score; smallest_visible: but those excluded", T, float,
                   double)
{
    for (const std::size_t count : {lanes<T>, 3 * lanes<T>}) {
        std::vector<T> scores(count, T(3));
        for (std::size_t i = 0; i < count; ++i) {
            scores[i] = T(-7);
            scores[count - 1 - i] = T(50);
            auto extremes = kernel::extremes_of<arch>(scores.data(), count);
            CHECK(extremes.largest == T(50));
            CHECK(extremes.smallest == T(2 * i + 1 == count ? 50 : -7));
            CHECK(kernel::smallest_visible<arch>(scores.data(), count) == extremes.smallest);
            scores[i] = minus_infinity_of<T>();
            extremes = kernel::extremes_of<arch>(scores.data(), count);
            CHECK(scaledot::detail::is_negative_infinity(static_cast<double>(extremes.smallest)));
            CHECK(kernel::smallest_visible<arch>(scores.data(), count) >= T(3));
            scores[i] = scores[count - 1 - i] = T(3);
        }
    }
    const std::vector<T> nothing(lanes<T>, minus_infinity_of<T>());
    CHECK(kernel::smallest_visible<arch>(nothing.data(), lanes<T>) == infinity_of<T>());
}

TEST_CASE_TEMPLATE("score_sums: in any number of blocks the statistics of all, spread and peaked", T, float, double)
{
    for (const std::size_t count : {4 * lanes<T>, std::size_t{1024}}) {
        for (const double deviation : {0.01, 1.0, 10.0}) {
            for (const T factor : {T(1), T(0.125), T(0.3)}) {
                CAPTURE(count);
                CAPTURE(deviation);
                CAPTURE(factor);
                const auto with_excluded = scores_of<T>(count, static_cast<unsigned>(count), deviation);
                check_sums(with_excluded, factor);
                auto visible = with_excluded;
                std::replace(visible.begin(), visible.end(), minus_infinity_of<T>(), T(0.5));
                check_sums(visible, factor);
            }
        }
    }
}

TEST_CASE_TEMPLATE("score_sums: a saturated row keeps the digits of what is left, wherever the leader stands", T, float,
                   double)
{
    for (const T lead : {T(5), T(20), T(60), T(100)}) {
        for (const std::size_t place : std::initializer_list<std::size_t>{0, 300, 600, 1023}) {
            CAPTURE(lead);
            CAPTURE(place);
            auto scores = scores_of<T>(1024, 5, 0.5);
            scores[place] = lead;
            check_sums(scores, T(1));
        }
    }
}

TEST_CASE_TEMPLATE("score_sums: ties leave one maximum out, in one block and in several", T, float, double)
{
    std::vector<T> scores(512, T(-50));
    for (const std::size_t place : std::initializer_list<std::size_t>{3, 4, 130, 500}) {
        scores[place] = T(5);
    }
    check_sums(scores, T(1));
    const auto s = sum_up(scores, 128, T(1)).statistics;
    CHECK(s.rest == doctest::Approx(3));
    CHECK(s.count == 512);
}

TEST_CASE_TEMPLATE("score_sums: references that rise with each block, scores that drift away from the first", T, float,
                   double)
{
    std::vector<T> scores = scores_of<T>(1024, 9, 1);
    for (std::size_t j = 0; j < scores.size(); ++j) {
        scores[j] += T(static_cast<double>(j / 256) * 10);
    }
    check_sums(scores, T(1));
    check_sums(scores, T(0.25));
    std::reverse(scores.begin(), scores.end());
    check_sums(scores, T(1));
}

TEST_CASE_TEMPLATE("score_sums: a block of excluded keys, first or last, changes nothing", T, float, double)
{
    auto scores = scores_of<T>(512, 2, 1);
    std::fill_n(scores.begin(), 256, minus_infinity_of<T>());
    std::reverse(scores.begin(), scores.end());
    check_sums(scores, T(1));
    const kernel::score_sums<arch, T> nothing;
    CHECK(nothing.statistics(T(1), minus_infinity_of<T>()).count == 0);
}
