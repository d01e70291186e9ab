// SPDX-License-Identifier: BSD-3-Clause
#include <scaledot/kernel/diagnostics.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

using namespace scaledot;
using namespace scaledot::kernel;
using arch = native_architecture;

namespace {

/// The figures by their definitions, from probabilities in long double; excluded scores are -inf by their bits.
struct textbook {
    long double lse, entropy, largest, jacobian;

    template <class T>
    explicit textbook(const std::vector<T>& scores)
    {
        std::vector<long double> visible;
        for (const T s : scores) {
            if (std::bit_cast<bits_of<T>>(s) != negative_infinity_bits<T>) {
                visible.push_back(s);
            }
        }
        const auto top = std::max_element(visible.begin(), visible.end());
        const long double maximum = *top;
        long double rest = 0; // without one maximum: beside 1, small weights would be lost
        for (auto s = visible.begin(); s != visible.end(); ++s) {
            rest += s == top ? 0 : std::exp(*s - maximum);
        }
        lse = maximum + std::log1p(rest);
        entropy = largest = 0;
        std::vector<long double> p;
        for (const long double s : visible) {
            p.push_back(std::exp(s - maximum) / (1 + rest));
            entropy -= p.back() * (s - maximum - std::log1p(rest));
            largest = std::max(largest, p.back());
        }
        long double norm = 0;
        for (std::size_t a = 0; a < p.size(); ++a) {
            long double others = 0; // 1 - p[a]
            for (std::size_t b = 0; b < p.size(); ++b) {
                others += a == b ? 0 : p[b];
                norm += a == b ? 0 : p[a] * p[b] * p[a] * p[b];
            }
            norm += p[a] * others * p[a] * others;
        }
        jacobian = std::sqrt(norm);
    }
};

/// The statistics of a row, merged from blocks of the given size.
template <class T>
score_statistics statistics(const std::vector<T>& scores, std::size_t block)
{
    score_statistics all;
    for (std::size_t first = 0; first < scores.size(); first += block) {
        merge(all, statistics_of_block<arch>(scores.data() + first, std::min(block, scores.size() - first)));
    }
    return all;
}

template <class T>
std::vector<T> gaussian(std::size_t count, double spread, unsigned seed)
{
    std::mt19937 generator(seed);
    std::normal_distribution<double> draw(0, spread);
    std::vector<T> scores(count);
    std::generate(scores.begin(), scores.end(), [&] { return static_cast<T>(draw(generator)); });
    return scores;
}

bool is_nan_by_bits(double x)
{
    return (std::bit_cast<std::uint64_t>(x) & 0x7fffffffffffffffu) > 0x7ff0000000000000u;
}

} // namespace

TEST_CASE_TEMPLATE("diagnostics: figures of a row agree with their definitions, flat or saturated", T, float, double)
{
    const double tolerance = sizeof(T) == 4 ? 1e-5 : 1e-12;
    for (const double spread : {1e-3, 1.0, 5.0, 40.0}) {
        for (const std::size_t count : {std::size_t{1}, std::size_t{2}, std::size_t{17}, std::size_t{300}}) {
            auto scores = gaussian<T>(count, spread, static_cast<unsigned>(count));
            if (count > 10) {
                scores[3] = scores[9] = negative_infinity<T>;
            }
            const textbook exact(scores);
            for (const std::size_t block : {std::size_t{5}, std::size_t{128}, count}) {
                const row_figures found = figures_of_row(statistics(scores, block), negative_infinity<double>);
                CHECK(std::abs(found.lse - exact.lse) <= tolerance * std::max(1.0L, std::abs(exact.lse)));
                CHECK(std::abs(found.entropy - exact.entropy) <= tolerance * exact.entropy);
                CHECK(std::abs(found.max_probability - exact.largest) <= tolerance * exact.largest);
                CHECK(std::abs(found.jacobian_norm - exact.jacobian) <= tolerance * exact.jacobian);
                CHECK(found.sink_probability == 0);
            }
        }
    }
}

TEST_CASE_TEMPLATE("diagnostics: a saturated row keeps the digits of what little is left", T, float, double)
{
    const std::vector<T> scores = {T(50), T(0), T(-3), T(10)};
    const textbook exact(scores);
    const row_figures found = figures_of_row(statistics(scores, 2), negative_infinity<double>);
    CHECK(std::abs(found.entropy - exact.entropy) <= 1e-5L * exact.entropy);
    CHECK(std::abs(found.jacobian_norm - exact.jacobian) <= 1e-5L * exact.jacobian);
}

TEST_CASE_TEMPLATE("diagnostics: count, mean, spread and range are of the visible scores", T, float, double)
{
    auto scores = gaussian<T>(200, 2.0, 5);
    for (T& s : scores) {
        s += T(1000); // a large mean beside a small spread
    }
    scores[7] = negative_infinity<T>;
    long double mean = 0;
    for (std::size_t j = 0; j < scores.size(); ++j) {
        mean += j == 7 ? 0 : static_cast<long double>(scores[j]) / 199;
    }
    long double deviation = 0;
    T smallest = scores[0];
    for (std::size_t j = 0; j < scores.size(); ++j) {
        deviation += j == 7 ? 0 : (scores[j] - mean) * (scores[j] - mean);
        smallest = j == 7 ? smallest : std::min(smallest, scores[j]);
    }
    const score_statistics found = statistics(scores, 64);
    CHECK(found.count == 199);
    CHECK(std::abs(found.mean - mean) <= 1e-6L * mean);
    CHECK(std::abs(found.deviation - deviation) <= 1e-5L * deviation);
    CHECK(found.minimum == static_cast<double>(smallest));
}

TEST_CASE("diagnostics: a sink takes part in the distribution and in nothing else")
{
    std::vector<double> scores = gaussian<double>(20, 1.5, 11);
    for (const double sink : {-3.0, 0.0, 9.0}) {
        const row_figures found = figures_of_row(statistics(scores, 8), sink);
        std::vector<double> with = scores;
        with.push_back(sink);
        const textbook exact(with);
        CHECK(std::abs(found.lse - exact.lse) <= 1e-13L * std::max(1.0L, std::abs(exact.lse)));
        CHECK(std::abs(found.entropy - exact.entropy) <= 1e-12L * exact.entropy);
        CHECK(std::abs(found.jacobian_norm - exact.jacobian) <= 1e-12L * exact.jacobian);
        CHECK(std::abs(found.sink_probability - std::exp(sink - exact.lse)) <= 1e-12L);
        const double largest = *std::max_element(scores.begin(), scores.end());
        CHECK(std::abs(found.max_probability - std::exp(largest - exact.lse)) <= 1e-12L);
    }
}

TEST_CASE_TEMPLATE("diagnostics: rows without a key, and rows with NaN or +inf", T, float, double)
{
    const std::vector<T> nothing(9, negative_infinity<T>);
    const score_statistics empty = statistics(nothing, 4);
    CHECK(empty.count == 0);
    const row_figures without = figures_of_row(empty, negative_infinity<double>);
    CHECK(std::bit_cast<std::int64_t>(without.lse) == negative_infinity_bits<double>);
    CHECK(without.entropy == 0);
    CHECK(without.effective_keys == 0);
    CHECK(without.max_probability == 0);
    const row_figures only_sink = figures_of_row(empty, 2.5);
    CHECK(only_sink.lse == 2.5);
    CHECK(only_sink.sink_probability == 1);
    CHECK(only_sink.effective_keys == 1);
    for (const T bad : {quiet_nan<T>(), infinity<T>}) {
        std::vector<T> scores(9, T(1));
        scores[8] = bad;
        const score_statistics found = statistics(scores, 4);
        CHECK(found.invalid);
        CHECK(found.count == 9);
        CHECK(is_nan_by_bits(figures_of_row(found, 0.0).entropy));
        CHECK(is_nan_by_bits(figures_of_row(found, negative_infinity<double>).jacobian_norm));
    }
}

TEST_CASE_TEMPLATE("diagnostics: scores as far apart as the type allows", T, float, double)
{
    const T huge = std::numeric_limits<T>::max();
    const std::vector<T> scores = {huge, -huge, huge};
    const row_figures found = figures_of_row(statistics(scores, 3), negative_infinity<double>);
    CHECK(std::abs(found.entropy - std::log(2.0)) < 1e-6);
    CHECK(std::abs(found.max_probability - 0.5) < 1e-6);
    const row_figures in_blocks = figures_of_row(statistics(scores, 1), negative_infinity<double>);
    CHECK(std::abs(in_blocks.entropy - std::log(2.0)) < 1e-6);
}
