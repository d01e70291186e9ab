// SPDX-License-Identifier: BSD-3-Clause
#include <scaledot/diagnostics.hpp>

#include <scaledot/attention.hpp>
#include <scaledot/scores.hpp>

#include "support/attention_cases.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <initializer_list>
#include <string>
#include <vector>

namespace sd = scaledot;
using namespace test_support;

namespace {

/// diagnostics.hpp: relative to max(|figure|, 1e-6 of its scale) against the exact figures of the computed scores.
constexpr double diagnostics_error = 1e-5;
/// The mean and the spread of n numbers in float: relative to the mean of their magnitudes.
constexpr double mean_error = 1e-6;

/// The figures by their definitions in long double: every probability, every entry of the Jacobian diag(p) - p pᵀ.
struct exact_figures {
    double count = 0, largest = 0, smallest = 0, mean = 0, deviation = 0, magnitude = 0;
    double lse = 0, entropy = 0, max_probability = 0, jacobian = 0, sink = 0;

    exact_figures(const std::vector<double>& scores, double sink_logit, bool with_sink)
    {
        std::vector<long double> logits(scores.begin(), scores.end());
        count = static_cast<double>(logits.size());
        largest = *std::max_element(scores.begin(), scores.end());
        smallest = *std::min_element(scores.begin(), scores.end());
        long double sum = 0, magnitudes = 0, squares = 0;
        for (const long double s : logits) {
            sum += s;
            magnitudes += std::abs(s);
        }
        const long double n = static_cast<long double>(logits.size());
        for (const long double s : logits) {
            squares += (s - sum / n) * (s - sum / n);
        }
        mean = static_cast<double>(sum / n);
        magnitude = static_cast<double>(magnitudes / n);
        deviation = static_cast<double>(std::sqrt(squares / n));
        if (with_sink) {
            logits.push_back(sink_logit);
        }
        probabilities(logits, with_sink);
    }

private:
    void probabilities(const std::vector<long double>& logits, bool with_sink)
    {
        const auto top = std::max_element(logits.begin(), logits.end());
        long double rest = 0;
        for (auto s = logits.begin(); s != logits.end(); ++s) {
            rest += s == top ? 0 : std::exp(*s - *top);
        }
        const long double exact_lse = *top + std::log1p(rest);
        std::vector<long double> p;
        long double exact_entropy = 0;
        for (auto s = logits.begin(); s != logits.end(); ++s) {
            const volatile long double fall = *s - *top; // or -ffast-math subtracts log1p first
            const long double log_p = fall - std::log1p(rest);
            p.push_back(std::exp(log_p));
            exact_entropy -= p.back() * log_p;
        }
        // Sums of all but entry i without cancellation: what is before it and what is after it.
        std::vector<long double> after(p.size() + 1), squares_after(p.size() + 1);
        for (std::size_t i = p.size(); i-- > 0;) {
            after[i] = after[i + 1] + p[i];
            squares_after[i] = squares_after[i + 1] + p[i] * p[i];
        }
        long double norm = 0, before = 0, squares_before = 0;
        for (std::size_t i = 0; i < p.size(); ++i) {
            const long double others = before + after[i + 1]; // 1 - p[i]
            norm += p[i] * p[i] * (others * others + squares_before + squares_after[i + 1]);
            before += p[i];
            squares_before += p[i] * p[i];
        }
        lse = static_cast<double>(exact_lse);
        entropy = static_cast<double>(exact_entropy);
        jacobian = static_cast<double>(std::sqrt(norm));
        max_probability = static_cast<double>(*std::max_element(p.begin(), p.end() - (with_sink ? 1 : 0)));
        sink = with_sink ? static_cast<double>(p.back()) : 0;
    }
};

bool near(double computed, double exact, double scale)
{
    const bool right = std::abs(computed - exact) <= diagnostics_error * std::max(std::abs(exact), 1e-6 * scale);
    if (!right) {
        MESSAGE("computed ", computed, ", exactly ", exact, ", error ", (computed - exact) / exact);
    }
    return right;
}

template <class Diagnostics>
void check_row(const Diagnostics& d, std::size_t row, const exact_figures& exact, double moment_error = mean_error)
{
    CAPTURE(row);
    const auto at = [row](const auto& figure) { return static_cast<double>(figure.data()[row]); };
    const double scale = std::max(std::abs(exact.largest), std::abs(exact.smallest));
    CHECK(at(d.visible_keys) == exact.count);
    CHECK(at(d.max_logit) == exact.largest);
    CHECK(at(d.min_logit) == exact.smallest);
    CHECK(std::abs(at(d.logit_mean) - exact.mean) <= moment_error * exact.magnitude);
    CHECK(std::abs(at(d.logit_standard_deviation) - exact.deviation) <=
          moment_error * (exact.deviation + exact.magnitude));
    CHECK(near(at(d.lse), exact.lse, scale));
    CHECK(near(at(d.entropy), exact.entropy, 1));
    CHECK(near(at(d.effective_keys), std::exp(exact.entropy), 1));
    CHECK(near(at(d.max_probability), exact.max_probability, 1));
    CHECK(near(at(d.jacobian_norm), exact.jacobian, 1));
    CHECK(near(at(d.sink_probability), exact.sink, 1));
}

/// All rows of attention's diagnostics against the figures of attention's scores.
template <class T, std::size_t N>
void check_attention(const dense<T, N>& q, const dense<T, N>& k, const sd::attention_options& options,
                     double moment_error = mean_error)
{
    const auto diagnostics = sd::attention_diagnostics(q, k, options);
    const auto scores = sd::attention_scores(q, k, sd::score_stage::masked, options);
    const std::size_t queries = q.shape(N - 2);
    const std::size_t keys = k.shape(N - 2);
    const std::size_t heads = q.shape(N - 3);
    for (std::size_t row = 0; row < scores.size() / keys; ++row) {
        std::vector<double> visible;
        for (std::size_t j = 0; j < keys; ++j) {
            const auto score = static_cast<double>(scores.data()[row * keys + j]);
            if (!sd::detail::is_negative_infinity(score)) {
                visible.push_back(score);
            }
        }
        REQUIRE(!visible.empty());
        const bool with_sink = !options.sinks.empty();
        check_row(diagnostics, row, {visible, with_sink ? options.sinks[row / queries % heads] : 0, with_sink},
                  moment_error);
    }
}

} // namespace

TEST_CASE_TEMPLATE("attention_diagnostics: the exact figures of the scores, flat, lively and saturated", T, float,
                   double)
{
    for (const double spread : {0.0, 1e-3, 0.5, 3.0, 30.0, 1000.0}) {
        CAPTURE(spread);
        const auto q = gaussians<T, 4>({1, 2, 9, 16}, 1, spread);
        const auto k = gaussians<T, 4>({1, 2, 300, 16}, 2);
        check_attention(q, k, {});
        check_attention(q, k, {.sinks = std::array{0.5, 25.0}});
    }
}

TEST_CASE_TEMPLATE("attention_diagnostics: scales far from 1, whose products are as far the other way", T, float,
                   double)
{
    const auto k = gaussians<T, 4>({1, 1, 300, 16}, 2);
    for (const double scale : {1e-25, 1e-15, 1e-8, 1e-5, 1e5, 1e8, 1e15, 1e25}) {
        CAPTURE(scale);
        check_attention(gaussians<T, 4>({1, 1, 9, 16}, 1, 0.5 / scale), k, {.scale = scale});
    }
    check_attention(gaussians<T, 4>({1, 1, 9, 16}, 1), k, {.scale = 0.0});
}

TEST_CASE("attention_diagnostics: masks, causality, windows, lengths, softcap and grouped heads")
{
    const auto q = gaussians<float, 4>({2, 4, 9, 16}, 1, 2);
    const auto k = gaussians<float, 4>({2, 2, 150, 16}, 2);
    auto mask = filled<bool, 2>({9, 150}, 1);
    for (std::size_t n = 0; n < mask.size(); n += 3) {
        mask.data()[n] = false;
    }
    const auto bias = gaussians<float, 1>({150}, 3);
    const std::vector<std::size_t> lengths = {150, 33};
    check_attention(q, k, {.mask = mask});
    check_attention(q, k, {.mask = bias, .softcap = 3.0});
    check_attention(q, k, {.causal = true, .align = sd::alignment::bottom_right, .key_lengths = lengths});
    check_attention(q, k, {.query_offset = 20, .window_left = 4, .window_right = 1});
}

TEST_CASE("attention_diagnostics: rows over many chunks of keys, on any number of threads, have the same bits")
{
    const auto q = gaussians<float, 3>({1, 6, 16}, 1, 2);
    const auto k = gaussians<float, 3>({1, 3000, 16}, 2);
    check_attention(q, k, {});
    const auto expected = sd::attention_diagnostics(q, k);
    for (const std::size_t threads : std::initializer_list<std::size_t>{2, 3, 8}) {
        thread_per_task pool(threads);
        const sd::executor_scope scope(pool);
        const auto again = sd::attention_diagnostics(q, k);
        CHECK(same_bits(again.entropy, expected.entropy));
        CHECK(same_bits(again.jacobian_norm, expected.jacobian_norm));
        CHECK(same_bits(again.logit_standard_deviation, expected.logit_standard_deviation));
    }
}

TEST_CASE("attention_diagnostics: a saturated row keeps the digits of its entropy and gradient")
{
    // one logit ahead of the others by `lead`: entropy and Jacobian fall like exp(-lead) and stay exact
    for (const double lead : {5.0, 20.0, 40.0, 80.0}) {
        CAPTURE(lead);
        const auto q = filled<float, 2>({1, 1}, 1);
        auto k = filled<float, 2>({200, 1}, 0);
        k(77, 0) = static_cast<float>(lead);
        const auto d = sd::attention_diagnostics(q, k, {.scale = 1.0});
        const long double rest = 199 * std::exp(-static_cast<long double>(lead));
        CHECK(near(d.entropy(0),
                   static_cast<double>(std::log1p(rest) + rest * static_cast<long double>(lead) / (1 + rest)), 0));
        CHECK(d.jacobian_norm(0) > 0);
        std::vector<double> scores(200, 0.0);
        scores[77] = lead;
        check_row(d, 0, {scores, 0, false});
    }
}

TEST_CASE("attention_diagnostics: maxima beyond what is summed in one pass, before, among and after such that are not")
{
    // Rows of spread 80: their maxima pass 128 in some block, or in none.
    const auto q = gaussians<float, 3>({2, 40, 16}, 301, 1);
    const auto k = gaussians<float, 3>({2, 1500, 16}, 302);
    check_attention(q, k, {.scale = 20.0});
    check_attention(q, k, {.scale = 8.0});
    // A score far below all others, in the first block or a later one. Beside it the others lose digits in the sums,
    // which have up to 256 terms a lane: the error is that of the other figures.
    auto far = k;
    for (const std::size_t place : std::initializer_list<std::size_t>{5, 700}) {
        far(0, place, 3) = 1e7f;
        check_attention(q, far, {}, diagnostics_error);
    }
}

TEST_CASE("attention_diagnostics: ties share the largest probability")
{
    const auto q = filled<float, 2>({1, 1}, 1);
    auto k = filled<float, 2>({300, 1}, -1000);
    k(3, 0) = k(100, 0) = k(250, 0) = 7;
    const auto d = sd::attention_diagnostics(q, k, {.scale = 1.0});
    CHECK(near(d.entropy(0), std::log(3.0), 1));
    CHECK(near(d.max_probability(0), 1.0 / 3, 1));
    CHECK(near(d.jacobian_norm(0), std::sqrt(2.0) / 3, 1));
}

TEST_CASE_TEMPLATE("attention_diagnostics: a row without a key has no logits; a sink alone holds all", T, float, double)
{
    const auto q = filled<T, 3>({2, 3, 4}, 1);
    const auto k = filled<T, 3>({2, 5, 4}, 1);
    const auto nobody = filled<bool, 1>({5}, 0);
    const auto d = sd::attention_diagnostics(q, k, {.mask = nobody});
    const std::vector<double> sinks = {2.5, as_double(minus_infinity_of<T>())};
    const auto s = sd::attention_diagnostics(q, k, {.mask = nobody, .sinks = sinks});
    for (std::size_t i = 0; i < 3; ++i) {
        for (const auto* figures : {&d, &s}) {
            CHECK(sd::detail::is_negative_infinity(static_cast<double>(figures->max_logit(0, i))));
            CHECK(sd::detail::is_positive_infinity(static_cast<double>(figures->min_logit(0, i))));
            CHECK(sd::detail::is_nan(static_cast<double>(figures->logit_mean(0, i))));
            CHECK(sd::detail::is_nan(static_cast<double>(figures->logit_standard_deviation(0, i))));
            CHECK(figures->visible_keys(0, i) == 0);
            CHECK(figures->entropy(0, i) == 0);
            CHECK(figures->max_probability(0, i) == 0);
            CHECK(figures->jacobian_norm(0, i) == 0);
        }
        CHECK(sd::detail::is_negative_infinity(static_cast<double>(d.lse(0, i))));
        CHECK(d.effective_keys(0, i) == 0);
        CHECK(d.sink_probability(0, i) == 0);
        CHECK(s.lse(0, i) == T(2.5));
        CHECK(s.effective_keys(0, i) == 1);
        CHECK(s.sink_probability(0, i) == 1);
        CHECK(s.effective_keys(1, i) == 0);
        CHECK(s.sink_probability(1, i) == 0);
    }
    CHECK(sd::attention_diagnostics(q, filled<T, 3>({2, 0, 4}, 1)).visible_keys(1, 2) == 0);
    CHECK(sd::attention_diagnostics(filled<T, 3>({2, 0, 4}, 1), k).entropy.size() == 0);
}

TEST_CASE_TEMPLATE("attention_diagnostics: a NaN or +inf logit makes all figures of its row NaN but the count", T,
                   float, double)
{
    auto q = gaussians<T, 2>({3, 4}, 1);
    auto k = gaussians<T, 2>({300, 4}, 2);
    const auto clean = sd::attention_diagnostics(q, k);
    q(1, 2) = nan_of<T>();
    q(2, 0) = infinity_of<T>();
    const auto d = sd::attention_diagnostics(q, k);
    CHECK(same_bits(dense<T, 1>(xt::view(d.entropy, xt::range(0, 1))),
                    dense<T, 1>(xt::view(clean.entropy, xt::range(0, 1)))));
    for (const auto* figure :
         {&d.max_logit, &d.min_logit, &d.logit_mean, &d.logit_standard_deviation, &d.lse, &d.entropy, &d.effective_keys,
          &d.max_probability, &d.jacobian_norm, &d.sink_probability}) {
        CHECK(sd::detail::is_nan(static_cast<double>((*figure)(1))));
        CHECK(sd::detail::is_nan(static_cast<double>((*figure)(2))));
    }
    CHECK(d.visible_keys(1) == 300);
    const std::vector<double> sinks = {as_double(nan_of<T>())};
    CHECK(sd::detail::is_nan(static_cast<double>(sd::attention_diagnostics(k, k, {.sinks = sinks}).entropy(5))));
}

TEST_CASE("attention_diagnostics: logits as large as the type holds keep their mean and spread")
{
    const auto check = [](auto huge) {
        using T = decltype(huge);
        const auto q = filled<T, 2>({1, 1}, 1);
        auto k = dense<T, 2>::from_shape({200, 1});
        std::vector<double> scores;
        for (std::size_t j = 0; j < 200; ++j) {
            k(j, 0) = j % 2 == 0 ? huge : -huge;
            scores.push_back(static_cast<double>(k(j, 0)));
        }
        check_row(sd::attention_diagnostics(q, k, {.scale = 1.0}), 0, {scores, 0, false});
    };
    check(1e37f);
    check(3e38f);
    check(1e150);
}

TEST_CASE("attention_with_diagnostics: attention's output and attention_diagnostics' figures, to the bit")
{
    const std::vector<float> sinks = {0, 3, -4, 9};
    const sd::attention_options options = {
        .causal = true, .align = sd::alignment::bottom_right, .softcap = 9.0, .sinks = sinks};
    const auto check = [&](std::size_t batch, std::size_t queries, std::size_t keys, std::size_t size) {
        const auto q = gaussians<float, 4>({batch, 4, queries, size}, 1, 2);
        const auto k = gaussians<float, 4>({batch, 2, keys, size}, 2);
        const auto v = gaussians<float, 4>({batch, 2, keys, 7}, 3);
        const auto both = sd::attention_with_diagnostics(q, k, v, options);
        CHECK(same_bits(both.output, sd::attention(q, k, v, options)));
        const auto alone = sd::attention_diagnostics(q, k, options);
        CHECK(same_bits(both.diagnostics.entropy, alone.entropy));
        CHECK(same_bits(both.diagnostics.lse, alone.lse));
        CHECK(same_bits(both.diagnostics.sink_probability, alone.sink_probability));
    };
    check(2, 9, 150, 16);
    check(1, 110, 2100, 128); // keys that are too large for a cache
}

TEST_CASE_TEMPLATE("softmax_diagnostics: the figures of each row of softmax(x / T) along any axis", T, float, double)
{
    const auto x = gaussians<T, 3>({3, 150, 4}, 1, 5);
    for (const double temperature : {1.0, 0.25, 7.0}) {
        const auto d = sd::softmax_diagnostics(x, {.axis = 1, .temperature = temperature});
        REQUIRE(d.entropy.dimension() == 2);
        for (std::size_t a = 0; a < 3; ++a) {
            for (std::size_t c = 0; c < 4; ++c) {
                std::vector<double> scores;
                for (std::size_t j = 0; j < 150; ++j) {
                    scores.push_back(
                        static_cast<double>(static_cast<T>(static_cast<double>(x(a, j, c)) / temperature)));
                }
                check_row(d, a * 4 + c, {scores, 0, false});
            }
        }
    }
    const auto last = sd::softmax_diagnostics(x);
    CHECK(last.visible_keys(2, 149) == 4);
    const xt::xarray<T> any = x;
    CHECK(same_bits(dense<T, 2>(sd::softmax_diagnostics(any, {.axis = -2}).entropy),
                    sd::softmax_diagnostics(x, {.axis = 1}).entropy));
}

TEST_CASE(
    "softmax_diagnostics: what is not a temperature or an axis is named; quotients out of range are no silent numbers")
{
    const auto x = gaussians<float, 2>({3, 5}, 1, 1);
    for (const double temperature : {0.0, -1.0, as_double(infinity_of<double>()), as_double(nan_of<double>())}) {
        CHECK(complaint_of([&] {
                  sd::softmax_diagnostics(x, {.temperature = temperature});
              }).find("scaledot: temperature was ") == 0);
    }
    CHECK(complaint_of([&] { sd::softmax_diagnostics(x, {.axis = 2}); }).find("scaledot: axis was 2") == 0);
    const auto d = sd::softmax_diagnostics(xt::xtensor<float, 1>{-1e30f, 0.f, 1.f}, {.temperature = 1e-30});
    CHECK(sd::detail::is_nan(static_cast<double>(d.entropy())));
    CHECK(d.visible_keys() == 3);
}
