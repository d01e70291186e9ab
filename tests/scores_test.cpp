// SPDX-License-Identifier: BSD-3-Clause
#include <scaledot/scores.hpp>

#include <scaledot/attention.hpp>
#include <scaledot/softmax.hpp>

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
#include <type_traits>
#include <vector>

namespace sd = scaledot;
using namespace test_support;
using sd::score_stage;

namespace {

constexpr std::size_t queries = 9;
constexpr std::size_t keys = 141;
constexpr std::array stages = {score_stage::scaled, score_stage::capped, score_stage::masked,
                               score_stage::probabilities};

template <class T>
struct problem {
    dense<T, 4> q = gaussians<T, 4>({2, 4, queries, 6}, 1, 3);
    dense<T, 4> k = gaussians<T, 4>({2, 2, keys, 6}, 2);
};

/// The largest error of a stage against the oracle. Scores: relative to the largest sum |q||k| there can be (|q| <= 15,
/// |k| <= 5, six of them); probabilities: relative to the score's error, as exp makes it.
template <class T>
double worst_error(const problem<T>& p, score_stage stage, const sd::attention_options& options,
                   const plain_mask& mask = {})
{
    const auto computed = sd::attention_scores(p.q, p.k, stage, options);
    const attention_oracle oracle(plain(p.q), plain(p.k), plain(p.k), options, mask);
    double worst = 0;
    for (std::size_t b = 0; b < 2; ++b) {
        for (std::size_t h = 0; h < 4; ++h) {
            for (std::size_t i = 0; i < queries; ++i) {
                const auto exact = oracle.row(b, h, i);
                for (std::size_t j = 0; j < keys; ++j) {
                    const double score = as_double(computed(b, h, i, j));
                    const bool valid = j < exact.scaled.size();
                    const bool excluded =
                        !valid || (stage != score_stage::scaled && stage != score_stage::capped && !exact.seen[j]);
                    if (excluded) {
                        const bool right =
                            stage == score_stage::probabilities ? score == 0 : sd::detail::is_negative_infinity(score);
                        worst = right ? worst : 1e300;
                        continue;
                    }
                    const long double target = stage == score_stage::scaled   ? exact.scaled[j]
                                               : stage == score_stage::capped ? exact.capped[j]
                                               : stage == score_stage::masked ? exact.masked[j]
                                                                              : exact.probabilities[j];
                    worst = std::max(worst, std::abs(score - static_cast<double>(target)));
                }
            }
        }
    }
    return worst;
}

template <class T>
void check_stages(const sd::attention_options& options, const plain_mask& mask = {})
{
    const problem<T> p;
    // half a unit of the largest partial sum, for each of 6 steps, the scaling, a cap's few and a bias
    const double bound = 6 * 15 * 5 * 12 * static_cast<double>(std::numeric_limits<T>::epsilon()) / 2;
    for (const auto stage : stages) {
        CAPTURE(static_cast<int>(stage));
        CHECK(worst_error(p, stage, options, mask) <= bound);
    }
}

} // namespace

TEST_CASE_TEMPLATE("attention_scores: every stage with every option follows the definition", T, float, double)
{
    const problem<T> p;
    auto may_attend = filled<bool, 2>({queries, keys}, 1);
    auto bias = gaussians<float, 3>({4, queries, keys}, 9);
    for (std::size_t n = 0; n < may_attend.size(); n += 5) {
        may_attend.data()[n] = false;
        bias.data()[3 * n] = minus_infinity_of<float>();
    }
    const std::vector<std::size_t> lengths = {130, 17};
    const std::vector<double> sinks = {0, 3, -4, 9};
    check_stages<T>({});
    check_stages<T>({.scale = -0.3, .softcap = 2.0, .sinks = sinks});
    check_stages<T>({.mask = may_attend}, plain_mask_of(may_attend, p.q, p.k));
    check_stages<T>({.mask = bias, .causal = true, .align = sd::alignment::bottom_right, .softcap = 5.0},
                    plain_mask_of(bias, p.q, p.k));
    check_stages<T>({.align = sd::alignment::bottom_right,
                     .window_left = 5,
                     .window_right = 2,
                     .key_lengths = lengths,
                     .sinks = sinks});
    check_stages<T>({.query_offset = -4, .window_right = 3});
}

TEST_CASE_TEMPLATE("attention_scores: probabilities without a sink are the softmax of the masked scores", T, float,
                   double)
{
    const problem<T> p;
    const auto masked = sd::attention_scores(p.q, p.k, score_stage::masked, {.causal = true, .query_offset = 3});
    CHECK(same_bits(sd::attention_scores(p.q, p.k, score_stage::probabilities, {.causal = true, .query_offset = 3}),
                    sd::softmax(masked)));
}

TEST_CASE("attention_scores: options of a later stage are not applied, but checked")
{
    const problem<float> p;
    const auto nobody = filled<bool, 1>({keys}, 0);
    const auto plain_scores = sd::attention_scores(p.q, p.k, score_stage::scaled);
    CHECK(
        same_bits(sd::attention_scores(p.q, p.k, score_stage::scaled, {.mask = nobody, .softcap = 3.0}), plain_scores));
    CHECK(same_bits(sd::attention_scores(p.q, p.k, score_stage::capped, {.mask = nobody}), plain_scores));
    CHECK(complaint_of([&] {
              sd::attention_scores(p.q, p.k, score_stage::scaled, {.softcap = -3.0});
          }).find("scaledot: softcap was -3") == 0);
    CHECK(complaint_of([&] {
              sd::attention_scores(p.q, p.k, score_stage::scaled, {.causal = true});
          }).find("scaledot: align was absent") == 0);
}

TEST_CASE(
    "attention_scores: probabilities sum to 1 with the sink; a row without a key is 0; NaN and +inf make a row NaN")
{
    problem<double> p;
    p.q(0, 1, 2, 3) = nan_of<double>();
    p.q(0, 1, 3, 0) = infinity_of<double>();
    const std::vector<double> sinks = {0, 3, -4, 9};
    auto mask = filled<bool, 2>({queries, keys}, 1);
    xt::view(mask, 8).fill(false);
    const auto probabilities =
        sd::attention_scores(p.q, p.k, score_stage::probabilities, {.mask = mask, .sinks = sinks});
    const attention_oracle oracle(plain(p.q), plain(p.k), plain(p.k), {.sinks = sinks});
    for (std::size_t h = 0; h < 4; ++h) {
        for (std::size_t i = 0; i < queries; ++i) {
            const std::vector<double> row(&probabilities(0, h, i, 0), &probabilities(0, h, i, 0) + keys);
            if (i == 8) {
                CHECK(all_zero(row));
            } else if (h == 1 && (i == 2 || i == 3)) {
                CHECK(all_nan(row));
            } else {
                double sum = 0;
                for (const double x : row) {
                    sum += x;
                }
                CHECK(std::abs(sum + static_cast<double>(oracle.row(0, h, i).sink_probability) - 1) <= 1e-12);
            }
        }
    }
}

TEST_CASE("attention_scores: a score is to the bit that of one query and one key alone, in every stage but the last")
{
    const problem<float> p;
    for (const auto stage : {score_stage::scaled, score_stage::capped, score_stage::masked}) {
        const auto whole = sd::attention_scores(p.q, p.k, stage, {.softcap = 4.0});
        for (std::size_t i = 0; i < queries; i += 4) {
            for (std::size_t j = 0; j < keys; j += 10) {
                const dense<float, 2> query = xt::view(p.q, 1, 2, xt::range(i, i + 1));
                const dense<float, 2> key = xt::view(p.k, 1, 1, xt::range(j, j + 1));
                const float alone = sd::attention_scores(query, key, stage, {.softcap = 4.0})(0, 0);
                CHECK(std::memcmp(&alone, &whole(1, 2, i, j), sizeof alone) == 0);
            }
        }
    }
}

TEST_CASE("attention_scores: one score is the lse attention reports for that key alone, to the bit")
{
    const problem<float> p;
    const auto bias = gaussians<float, 1>({keys}, 4);
    const auto masked =
        sd::attention_scores(p.q, p.k, score_stage::masked, {.mask = bias, .scale = 0.3, .softcap = 4.0});
    for (std::size_t j = 0; j < keys; j += 7) {
        auto only = filled<float, 1>({keys}, as_double(minus_infinity_of<float>()));
        only(j) = bias(j);
        const auto result = sd::attention_with_lse(p.q, p.k, p.k, {.mask = only, .scale = 0.3, .softcap = 4.0});
        CHECK(same_bits(result.lse, dense<float, 3>(xt::view(masked, xt::all(), xt::all(), xt::all(), j))));
    }
}

TEST_CASE("attention_scores: any number of threads gives the same bits")
{
    const auto q = gaussians<float, 3>({3, 200, 16}, 1);
    for (const auto stage : stages) {
        const auto expected = sd::attention_scores(q, q, stage, {.causal = true});
        for (const std::size_t threads : std::initializer_list<std::size_t>{2, 3, 8}) {
            thread_per_task pool(threads);
            const sd::executor_scope scope(pool);
            CHECK(same_bits(sd::attention_scores(q, q, stage, {.causal = true}), expected));
        }
    }
}

TEST_CASE_TEMPLATE("attention_scores: storage types are rounded at the end, into any array", T, xtl::half_float,
                   sd::bfloat16)
{
    const problem<T> p;
    for (const auto stage : stages) {
        const auto stored = sd::attention_scores(p.q, p.k, stage);
        static_assert(std::is_same_v<decltype(stored), const xt::xtensor<T, 4>>);
        auto exact = filled<float, 4>({2, 5, 20, 150}, 99);
        auto part = xt::view(exact, xt::all(), xt::range(1, 5), xt::range(2, 2 + queries), xt::range(4, 4 + keys));
        sd::attention_scores_into(part, p.q, p.k, stage);
        CHECK(std::equal(stored.begin(), stored.end(), part.begin(), [](T narrow, float wide) {
            return as_double(narrow) == as_double(sd::kernel::to_storage<T>(wide));
        }));
        CHECK(std::count(exact.begin(), exact.end(), 99.f) ==
              2 * 5 * 20 * 150 - static_cast<std::ptrdiff_t>(stored.size()));
    }
}

TEST_CASE("attention_scores: empty arrays, shapes that do not fit, shared memory")
{
    CHECK(sd::attention_scores(filled<float, 3>({2, 0, 4}, 0), filled<float, 3>({2, 5, 4}, 0), score_stage::masked)
              .shape(2) == 5);
    CHECK(
        sd::attention_scores(filled<float, 3>({2, 3, 4}, 0), filled<float, 3>({2, 0, 4}, 0), score_stage::probabilities)
            .size() == 0);
    CHECK(sd::attention_scores(filled<float, 3>({0, 3, 4}, 0), filled<float, 3>({0, 5, 4}, 0), score_stage::scaled)
              .size() == 0);
    const auto q = gaussians<float, 2>({4, 4}, 1);
    auto out = gaussians<float, 2>({4, 5}, 1);
    CHECK(complaint_of([&] {
              sd::attention_scores_into(out, q, q, score_stage::scaled);
          }).find("scaledot: the shape of out was (4, 5), must be (4, 4)") == 0);
    auto square = q;
    CHECK(complaint_of([&] {
              sd::attention_scores_into(square, square, q, score_stage::scaled);
          }).find("scaledot: the memory of out was shared with q") == 0);
    CHECK(complaint_of([&] {
              sd::attention_scores_into(square, q, square, score_stage::scaled);
          }).find("scaledot: the memory of out was shared with k") == 0);
    const xt::xarray<float> line = xt::zeros<float>({4});
    CHECK(complaint_of([&] {
              sd::attention_scores(line, line, score_stage::scaled);
          }).find("scaledot: the rank of q was 1") == 0);
}
