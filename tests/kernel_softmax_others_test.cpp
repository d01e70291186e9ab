// SPDX-License-Identifier: BSD-3-Clause
#include <scaledot/kernel/softmax_others.hpp>

#include "support/mpfr_number.hpp"
#include "support/softmax_kernels.hpp"
#include "support/weights.hpp"

#include <scaledot/kernel/partial.hpp>
#include <scaledot/softmax.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

namespace sd = scaledot;
using namespace scaledot::kernel;
using namespace test_support;
using arch = softmax_arch;

namespace {

template <class T>
mpfr_number sum_of(const pair<T>& sum)
{
    return mpfr_number(static_cast<double>(sum.high)) + mpfr_number(static_cast<double>(sum.low));
}

/// The exact sum of e^x over a row without its maximum.
template <class T>
mpfr_number exact_others(const std::vector<T>& x)
{
    const T maximum = *std::max_element(x.begin(), x.end());
    mpfr_number sum(0);
    for (const T logit : x) {
        if (logit < maximum && !is_negative_infinity_bits(logit)) {
            sum += exp(mpfr_number(static_cast<double>(logit)));
        }
    }
    return sum;
}

/// Rows that a logit dominates: the others are `below` it and less.
template <class T>
std::vector<T> dominated_row(std::size_t length, double maximum, double below, std::size_t seed)
{
    const auto drawn = gaussian<T>(length, 0, 1, static_cast<unsigned>(seed));
    std::vector<T> x(length);
    for (std::size_t i = 0; i < length; ++i) {
        x[i] = static_cast<T>(maximum - below - std::abs(static_cast<double>(drawn(i))));
    }
    x[seed % length] = static_cast<T>(maximum);
    return x;
}

} // namespace

TEST_CASE_TEMPLATE("add_plain_others, add_any_others: the others' sum to weight_sum_max_error, however small it is", T,
                   float, double)
{
    using B = batch<arch, T>;
    const exponent_scale<T> scale(1.0);
    const double bound = weight_sum_max_error + 2 * weight_max_error;
    double worst = 0;
    std::size_t rows = 0;
    std::size_t plain_rows = 0;
    for (std::size_t length = 2; length <= 70; length += 3) {
        for (const double maximum : {0.0, 30.0, -30.0, -180.0, 500.0}) {
            for (const double below : {1.0, 20.0, 40.0, 75.0, 90.0}) {
                const auto x = dominated_row<T>(length, maximum, below, length);
                const T largest = *std::max_element(x.begin(), x.end());
                const T lowest = *std::min_element(x.begin(), x.end());
                const auto frame = frame_of(B(largest), B(std::min(lowest, T(0))), scale);
                const T second = largest_lane(largest_below<arch>(x.data(), length, largest));
                const frames_of_others<B> frames(B(second), B(largest), B(std::min(lowest, T(0))), frame, scale);
                const weigher<B, false> weigh(frame, scale);
                const auto w = weigh(B(largest));
                const mpfr_number unit = number_of(weight<T>{w.power.get(0), w.excess.get(0)});
                const mpfr_number exact = exact_others(x) / exp(mpfr_number(static_cast<double>(largest)));
                const auto error = [&](const pair<B>& sum, T power) {
                    return relative_error<T>(sum_of(reduce(sum)) * mpfr_number(static_cast<double>(power)) / unit,
                                             exact);
                };
                const auto any = add_any_others<arch, T>(x.data(), length, frame, scale, largest);
                worst = std::max(worst, error(any, T(1)));
                ++rows;
                if (xsimd::all(frames.plain == B(1))) {
                    ++plain_rows;
                    const auto plain = add_plain_others<arch, T>(x.data(), length, frames.of_second, scale, largest);
                    worst = std::max(worst, error(plain, frames.power.get(0)));
                }
            }
        }
    }
    MESSAGE("others: ", worst, " u");
    CHECK(4 * plain_rows > rows); // both ways have been looked at
    CHECK(10 * plain_rows < 9 * rows);
    CHECK(worst <= bound);
}

TEST_CASE_TEMPLATE("others_weigher: the others' sum beside the largest weight, as long as it is not below least_others",
                   T, float, double)
{
    using B = batch<arch, T>;
    const exponent_scale<T> scale(1.0);
    double worst = 0;
    for (const std::size_t length : {2u, 17u, 64u, 300u, 4096u}) {
        const double least = least_others<T>(length);
        for (std::size_t seed = 1; seed <= 40; ++seed) {
            const double spread = std::log(static_cast<double>(length)) - std::log(least);
            const auto x = dominated_row<T>(length, 3, spread * static_cast<double>(seed) / 41, seed);
            const T lowest = std::min(T(0), *std::min_element(x.begin(), x.end()));
            const auto frame = frame_of(B(T(3)), B(lowest), scale);
            const weigher<B, false> weigh(frame, scale);
            const auto w = weigh(B(T(3)));
            const mpfr_number unit = number_of(weight<T>{w.power.get(0), w.excess.get(0)});
            const mpfr_number exact = exact_others(x) / exp(mpfr_number(3));
            if (exact < mpfr_number(least)) {
                continue;
            }
            maxima_counter<B> maxima(0);
            const others_weigher<B, weigher<B, false>> weigh_others(weigh, B(T(3)), maxima);
            const auto sum = reduce(add_row<arch, T, weight_sum<B>>(
                x.data(), length, weigh_others, row_to_fetch<T>{x.data()}, [](std::size_t, std::size_t, const B&) {}));
            CHECK(sum_of_counts<arch, T>(maxima) == 1);
            worst = std::max(worst, relative_error<T>(sum_of(sum) / unit, exact));
        }
    }
    MESSAGE("others: ", worst, " u");
    CHECK(worst <= weight_sum_max_error + 2 * weight_max_error + least_others_max_error);
}

TEST_CASE_TEMPLATE("others_weigher: counts the largest logits, those behind a row's end not among them", T, float,
                   double)
{
    using B = batch<arch, T>;
    const exponent_scale<T> scale(1.0);
    const std::size_t width = lanes<arch, T>;
    for (std::size_t length = 1; length < 3 * width; ++length) {
        for (std::size_t first = 0; first < length; ++first) {
            for (const T largest : {T(0), T(2)}) {
                std::vector<T> x(length, T(-1));
                x[first] = largest;
                x[(first * 7 + 3) % length] = largest;
                const auto count = static_cast<std::size_t>(std::count(x.begin(), x.end(), largest));
                maxima_counter<B> maxima(0);
                const others_weigher<B, weigher<B, true>> weigh(
                    weigher<B, true>(frame_of(B(largest), B(T(-1)), scale), scale), B(largest), maxima);
                const auto sum = reduce(add_row<arch, T, weight_sum<B>>(
                    x.data(), length, weigh, row_to_fetch<T>{x.data()}, [](std::size_t, std::size_t, const B&) {}));
                CHECK(sum_of_counts<arch, T>(maxima) == count);
                CHECK(count_maxima_of_row<arch>(x.data(), length, largest) == count);
                CHECK((sum.high == T(0)) == (count == length));
            }
        }
    }
}

TEST_CASE_TEMPLATE("add_further_maxima: all but one of the largest weights, where there are several", T, float, double)
{
    using B = batch<arch, T>;
    const weight<B> w{B(T(1.25)), B(T(0.0123))};
    const mpfr_number largest = number_of(weight<T>{T(1.25), T(0.0123)});
    lane_array<arch, T> high;
    lane_array<arch, T> low;
    std::array<std::size_t, lanes<arch, T>> maxima;
    const std::vector<std::size_t> counts{0, 1, 2, 3, 1000, (std::size_t{1} << 25) + 4, (std::size_t{1} << 62) + 12345};
    for (std::size_t lane = 0; lane < maxima.size(); ++lane) {
        maxima[lane] = counts[lane % counts.size()];
        high[lane] = static_cast<T>(lane) * T(0.3);
        low[lane] = high[lane] * std::numeric_limits<T>::epsilon() / 3;
    }
    pair<B> others{high.vector(), low.vector()};
    add_further_maxima<arch, T>(others, maxima, as_pair(w));
    for (std::size_t lane = 0; lane < maxima.size(); ++lane) {
        const pair<T> found{others.high.get(lane), others.low.get(lane)};
        if (maxima[lane] < 2) {
            CHECK(found.high == high[lane]);
            CHECK(found.low == low[lane]);
            continue;
        }
        // Two numbers for the count, since it may have more digits than a double.
        const auto further = maxima[lane] - 1;
        const mpfr_number count = mpfr_number(static_cast<double>(further >> 20)) * mpfr_number::power_of_two(20) +
                                  mpfr_number(static_cast<double>(further & 0xfffff));
        const mpfr_number exact = sum_of(pair<T>{high[lane], low[lane]}) + count * largest;
        CHECK(relative_error<T>(sum_of(found), exact) <= 0x1p-16);
    }
}

TEST_CASE_TEMPLATE("largest_below, largest_below_maximum: the second largest logit, wherever the two stand", T, float,
                   double)
{
    const std::size_t width = lanes<arch, T>;
    for (const std::size_t length : {std::size_t{1}, width, 4 * width, 9 * width + 1, 12 * width + 3}) {
        for (std::size_t first = 0; first < length; ++first) {
            for (std::size_t second = 0; second < length; second += 1 + second % 5) {
                auto x = dominated_row<T>(length, 0, 5, length);
                std::replace(x.begin(), x.end(), T(0), T(-6));
                x[second] = T(-2);
                x[first] = T(3);
                auto others = x;
                others.erase(others.begin() + static_cast<std::ptrdiff_t>(first));
                const T expected =
                    others.empty() ? negative_infinity<T> : *std::max_element(others.begin(), others.end());
                const auto ranges = ranges_of_row<arch, T>(x.data(), length);
                const T found = largest_lane(largest_below<arch>(x.data(), length, T(3)));
                const T found_by_chains = largest_lane(largest_below_maximum<arch>(x.data(), length, ranges, T(3)));
                CHECK(equal_bits(&found, &expected, 1));
                CHECK(equal_bits(&found_by_chains, &expected, 1));
            }
        }
    }
}

TEST_CASE_TEMPLATE("log_softmax, logsumexp: exact where one logit dominates, alone or among other rows", T, float,
                   double)
{
    const unit_temperature<T> temperature;
    double worst = 0;
    for (const std::size_t length : {2 * lanes<arch, T>, std::size_t{77}, std::size_t{130}}) {
        std::vector<std::vector<T>> rows;
        for (const double below : {0.5, 2.0, 5.0, 12.0, 20.0, 40.0, 80.0}) {
            for (const double maximum : {0.0, 3.0, 40.0, -70.0, 2000.0}) {
                rows.push_back(dominated_row<T>(length, maximum, below, rows.size() + 1));
                if (rows.size() % 4 == 2) { // beside which no row of a group passes for plain
                    rows.push_back(softmax_row<T>(length, 3));
                }
            }
        }
        rows.emplace_back(length, barrier(negative_infinity<T>));
        rows.back()[length / 2] = T(3); // nothing else
        const std::size_t width = lanes<arch, T>;
        for (std::size_t first = 0; first < rows.size(); first += width) {
            const std::size_t count = std::min(width, rows.size() - first);
            std::vector<T> y(count * length);
            softmax_rows<T, T> group(length);
            for (std::size_t row = 0; row < count; ++row) {
                group.add(rows[first + row].data(), y.data() + row * length);
            }
            softmax_along<arch, T, T, T>(group, temperature.scale).logarithms(temperature, false);
            for (std::size_t row = 0; row < count; ++row) {
                const auto& x = rows[first + row];
                const T* const logarithms = y.data() + row * length;
                CHECK(equal_bits(logarithms, softmax_of_any(x, temperature).logarithms.data(), length));
                if (x == softmax_row<T>(length, 3)) {
                    continue;
                }
                const mpfr_number maximum(static_cast<double>(*std::max_element(x.begin(), x.end())));
                const mpfr_number rest = log1p(exact_others(x) / exp(maximum));
                for (std::size_t i = 0; i < length; ++i) {
                    if (!is_negative_infinity_bits(x[i])) {
                        const mpfr_number exact = mpfr_number(static_cast<double>(x[i])) - maximum - rest;
                        worst = std::max(worst, error_in_ulp<T>(static_cast<double>(logarithms[i]), exact, exact));
                    }
                }
            }
        }
    }
    MESSAGE("log_softmax of dominated rows: ", worst, " ulp");
    CHECK(worst <= sd::log_softmax_max_ulp);
}

TEST_CASE_TEMPLATE("softmax_along: rows that one logit dominates have the same bits beside any others", T, float,
                   double)
{
    const unit_temperature<T> temperature;
    const std::size_t width = lanes<arch, T>;
    const std::size_t length = 3 * width + 1;
    bool same = true;
    for (std::size_t round = 0; round < 600; ++round) {
        std::vector<std::vector<T>> rows{
            softmax_row<T>(length, 5 + 16 * round)}; // -inf, so that no row passes for plain
        softmax_rows<T, T> group(length);
        std::vector<T> sums(width);
        for (std::size_t row = 1; row < width; ++row) {
            const double below = 0.3 + static_cast<double>((row + round) % 7);
            rows.push_back(dominated_row<T>(length, static_cast<double>(round % 5), below, round * width + row));
        }
        for (std::size_t row = 0; row < width; ++row) {
            group.add(rows[row].data(), &sums[row]);
        }
        softmax_along<arch, T, T, T>(group, temperature.scale).logsumexp(1.0);
        for (std::size_t row = 1; row < width; ++row) {
            T alone = 0;
            const softmax_rows<T, T> single(rows[row].data(), &alone, length);
            softmax_along<arch, T, T, T>(single, temperature.scale).logsumexp(1.0);
            same = same && equal_bits(&alone, &sums[row], 1);
        }
    }
    CHECK(same);
}
