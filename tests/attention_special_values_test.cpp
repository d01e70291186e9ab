// SPDX-License-Identifier: BSD-3-Clause
// NaN, infinities, zeros, rows without keys and empty arrays in attention.
#include <scaledot/attention.hpp>

#include <scaledot/diagnostics.hpp>

#include "support/attention_cases.hpp"

#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <cstddef>
#include <initializer_list>
#include <limits>
#include <string>
#include <utility>
#include <vector>

namespace sd = scaledot;
using namespace test_support;

namespace {

using counts = std::initializer_list<std::size_t>;

// 7 queries are a register tile and a rest, 40 two of those on every machine; 131 keys are a block and a rest.
constexpr std::size_t keys = 131;
constexpr std::size_t size = 5;
constexpr std::size_t value_size = 9;

template <class T>
struct problem {
    dense<T, 3> q;
    dense<T, 3> k = gaussians<T, 3>({1, keys, size}, 2);
    dense<T, 3> v = gaussians<T, 3>({1, keys, value_size}, 3);

    explicit problem(std::size_t queries) : q(gaussians<T, 3>({2, queries, size}, 1)) {}

    auto attend(const sd::attention_options& options) const { return sd::attention_with_lse(q, k, v, options); }
};

/// What may stand where nobody looks.
template <class T>
std::vector<T> poisons()
{
    return {nan_of<T>(), infinity_of<T>(), minus_infinity_of<T>(), std::numeric_limits<T>::max()};
}

template <class A>
auto row_of(const A& a, std::size_t h, std::size_t i)
{
    return std::vector<typename A::value_type>(&a(h, i, 0), &a(h, i, 0) + a.shape(2));
}

template <class T>
bool same(const std::vector<T>& a, const std::vector<T>& b)
{
    return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

/// A result must not change by a bit when every key that no query sees holds a poison, nor when its value does.
template <class T>
void check_unseen(std::size_t queries, const std::vector<std::size_t>& unseen, const sd::attention_options& options)
{
    const problem<T> clean(queries);
    const auto expected = clean.attend(options);
    for (const T poison : poisons<T>()) {
        problem<T> keys_poisoned = clean;
        problem<T> values_poisoned = clean;
        for (const std::size_t j : unseen) {
            for (std::size_t c = 0; c < size; ++c) {
                keys_poisoned.k(0, j, c) = poison;
            }
            for (std::size_t c = 0; c < value_size; c += 2) {
                values_poisoned.v(0, j, c) = poison;
            }
        }
        for (const auto& result : {keys_poisoned.attend(options), values_poisoned.attend(options)}) {
            CHECK(same_bits(result.output, expected.output));
            CHECK(same_bits(result.lse, expected.lse));
        }
    }
}

} // namespace

TEST_CASE_TEMPLATE("attention: what stands in keys and values that no query may see changes no bit", T, float, double)
{
    for (const std::size_t queries : counts{1, 7, 40}) {
        CAPTURE(queries);
        dense<bool, 1> may_attend = filled<bool, 1>({keys}, 1);
        dense<float, 1> bias = filled<float, 1>({keys}, 0.5);
        const std::vector<std::size_t> scattered = {0, 3, 17, 64, 126, 128, 130};
        for (const std::size_t j : scattered) {
            may_attend(j) = false;
            bias(j) = minus_infinity_of<float>();
        }
        check_unseen<T>(queries, scattered, {.mask = may_attend});
        check_unseen<T>(queries, scattered, {.mask = bias});
        std::vector<std::size_t> after;
        std::vector<std::size_t> outside;
        for (std::size_t j = 0; j < keys; ++j) {
            if (j >= 50 + queries) {
                after.push_back(j);
            }
            if (j < 47 || j > 52 + queries) {
                outside.push_back(j);
            }
        }
        check_unseen<T>(queries, after, {.causal = true, .query_offset = 50});
        check_unseen<T>(queries, outside, {.query_offset = 50, .window_left = 3, .window_right = 3});
        const std::vector<std::size_t> length = {50 + queries};
        check_unseen<T>(queries, after, {.key_lengths = length});
    }
}

TEST_CASE_TEMPLATE("attention: a NaN or infinite key or value reaches exactly the rows that see it", T, float, double)
{
    const std::size_t queries = 40;
    const sd::attention_options options = {.causal = true, .align = sd::alignment::top_left};
    const problem<T> clean(queries);
    const auto expected = clean.attend(options);
    for (const T poison : {nan_of<T>(), infinity_of<T>(), minus_infinity_of<T>()}) {
        const std::size_t at = 17;
        problem<T> keys_poisoned = clean;
        keys_poisoned.k(0, at, 2) = nan_of<T>();
        problem<T> values_poisoned = clean;
        values_poisoned.v(0, at, 4) = poison;
        const auto by_key = keys_poisoned.attend(options);
        const auto by_value = values_poisoned.attend(options);
        for (std::size_t h = 0; h < 2; ++h) {
            for (std::size_t i = 0; i < queries; ++i) {
                CAPTURE(i);
                if (i < at) {
                    CHECK(same(row_of(by_key.output, h, i), row_of(expected.output, h, i)));
                    CHECK(same(row_of(by_value.output, h, i), row_of(expected.output, h, i)));
                    continue;
                }
                CHECK(all_nan(row_of(by_key.output, h, i)));
                CHECK(sd::detail::is_nan(static_cast<double>(by_key.lse(h, i))));
                auto row = row_of(by_value.output, h, i);
                CHECK(!sd::detail::is_finite(static_cast<double>(row[4])));
                row[4] = expected.output(h, i, 4); // the other components know nothing of it
                CHECK(same(row, row_of(expected.output, h, i)));
                CHECK(same_bits(by_value.lse, expected.lse));
            }
        }
    }
}

TEST_CASE_TEMPLATE("attention: values near the type's largest have means in range, for the rows that see them", T,
                   float, double, sd::bfloat16)
{
    const double large = std::is_same_v<T, double> ? 0x1.5p1023 : 0x1.5p127;
    for (const std::size_t queries : counts{1, 40}) {
        auto q = filled<T, 2>({queries, 8}, 0);
        const auto k = filled<T, 2>({40, 8}, 0.5);
        auto v = filled<T, 2>({40, 5}, 3);
        const sd::attention_options options = {.causal = true, .query_offset = 0};
        const auto small = sd::attention(q, k, v, options);
        xt::view(v, xt::range(1, 40), xt::all()).fill(from_double<T>(large));
        const auto output = sd::attention(q, k, v, options);
        CHECK(std::memcmp(&output(0, 0), &small(0, 0), 5 * sizeof(T)) == 0);
        for (std::size_t i = 1; i < queries; ++i) {
            const double expected = large * (static_cast<double>(i) / static_cast<double>(i + 1));
            CHECK(std::abs(as_double(output(i, 4)) - expected) <= 0x1p-7 * expected);
        }
    }
}

TEST_CASE_TEMPLATE("attention: a NaN in a query row makes that row NaN and no other", T, float, double)
{
    const problem<T> clean(9);
    problem<T> poisoned = clean;
    poisoned.q(1, 4, 3) = nan_of<T>();
    const auto expected = clean.attend({});
    const auto result = poisoned.attend({});
    for (std::size_t h = 0; h < 2; ++h) {
        for (std::size_t i = 0; i < 9; ++i) {
            if (h == 1 && i == 4) {
                CHECK(all_nan(row_of(result.output, h, i)));
                CHECK(sd::detail::is_nan(static_cast<double>(result.lse(h, i))));
            } else {
                CHECK(same(row_of(result.output, h, i), row_of(expected.output, h, i)));
            }
        }
    }
}

TEST_CASE_TEMPLATE("attention: a row without a key is 0 with lse -inf or the sink, also when its query is NaN", T,
                   float, double)
{
    for (const std::size_t queries : counts{1, 7, 40}) {
        problem<T> p(queries);
        p.q.fill(nan_of<T>());
        const auto nobody = filled<bool, 2>({queries, keys}, 0);
        const dense<T, 1> out_of_reach = filled<T, 1>({keys}, as_double(minus_infinity_of<T>()));
        const std::vector<std::size_t> none = {0};
        for (const T first : {infinity_of<T>(), nan_of<T>(), T(7)}) {
            const std::vector<T> sinks = {first, T(-3)};
            for (const auto& options :
                 std::initializer_list<sd::attention_options>{{.mask = nobody},
                                                              {.mask = out_of_reach},
                                                              {.causal = true, .query_offset = -100},
                                                              {.query_offset = 1000, .window_left = 3},
                                                              {.key_lengths = none}}) {
                auto result = p.attend(options);
                CHECK(all_zero(result.output));
                CHECK(same_bits(result.lse, filled<T, 2>({2, queries}, as_double(minus_infinity_of<T>()))));
                auto with_sinks = options;
                with_sinks.sinks = sinks;
                result = p.attend(with_sinks);
                CHECK(all_zero(result.output));
                CHECK(std::memcmp(&result.lse(0, 0), &first, sizeof first) == 0);
                CHECK(result.lse(1, queries - 1) == T(-3));
            }
        }
    }
}

TEST_CASE_TEMPLATE("attention: a score of +inf gives NaN, a score of -inf counts as excluded", T, float, double)
{
    for (const std::size_t queries : counts{1, 7}) {
        problem<T> p(queries);
        p.q.fill(T(1));
        p.k(0, 20, 0) = minus_infinity_of<T>();
        auto mask = filled<bool, 1>({keys}, 1);
        mask(20) = false;
        CHECK(same_bits(p.attend({}).output, p.attend({.mask = mask}).output));
        p.k(0, 130, 0) = infinity_of<T>();
        CHECK(all_nan(p.attend({}).output));
        CHECK(all_nan(p.attend({}).lse));
        mask(130) = false;
        CHECK(all_finite(p.attend({.mask = mask}).output));
        // tanh brings both back
        CHECK(all_finite(p.attend({.softcap = 5}).output));
        auto bias = filled<T, 1>({keys}, 0);
        bias(4) = infinity_of<T>();
        mask.fill(true);
        CHECK(all_nan(problem<T>(queries).attend({.mask = bias}).output));
        p.k.fill(minus_infinity_of<T>());
        CHECK(all_zero(p.attend({}).output));
    }
}

TEST_CASE_TEMPLATE("attention: an additive -inf excludes a key whose score is NaN, infinite or huge", T, float, double)
{
    problem<T> p(7);
    auto bias = filled<T, 1>({keys}, 0);
    bias(9) = minus_infinity_of<T>();
    const auto expected = p.attend({.mask = bias});
    for (const T poison : poisons<T>()) {
        p.k(0, 9, 0) = poison;
        CHECK(same_bits(p.attend({.mask = bias}).output, expected.output));
    }
}

TEST_CASE_TEMPLATE("attention: a sink of NaN or +inf makes its head's rows NaN", T, float, double)
{
    const problem<T> p(8);
    const auto expected = p.attend({});
    for (const T poison : {nan_of<T>(), infinity_of<T>()}) {
        const std::vector<T> sinks = {poison, minus_infinity_of<T>()};
        const auto result = p.attend({.sinks = sinks});
        CHECK(all_nan(row_of(result.output, 0, 3)));
        CHECK(sd::detail::is_nan(static_cast<double>(result.lse(0, 7))));
        CHECK(same(row_of(result.output, 1, 3), row_of(expected.output, 1, 3)));
    }
}

TEST_CASE("attention: a finite sink beyond float leaves lse finite, at float's largest number of its sign")
{
    const auto q = filled<float, 2>({1, 1}, 1);
    for (const double sink : {1e300, -1e300}) {
        const std::vector<double> sinks = {sink};
        const double largest = std::numeric_limits<float>::max();
        for (const bool seen : {true, false}) {
            const auto mask = filled<bool, 1>({1}, seen);
            const auto result = sd::attention_with_lse(q, q, q, {.mask = mask, .sinks = sinks});
            const double expected = sink > 0 ? largest : seen ? 1 : -largest;
            CHECK(static_cast<double>(result.lse(0)) == expected);
            CHECK(result.output(0, 0) == (sink < 0 && seen ? 1.f : 0.f));
            const auto diagnostics = sd::attention_diagnostics(q, q, {.mask = mask, .sinks = sinks});
            CHECK(static_cast<double>(diagnostics.lse(0)) == expected);
        }
    }
}

TEST_CASE_TEMPLATE("attention: a finite huge negative mask does not exclude, whatever the score", T, float, double)
{
    const T lowest = std::numeric_limits<T>::lowest();
    const T root = std::sqrt(-lowest) / 300; // scores about 1e-5 of the largest number
    for (const std::size_t queries : counts{1, 7, 40}) {
        const auto q = filled<T, 2>({queries, 1}, static_cast<double>(root));
        const auto k = filled<T, 2>({keys, 1}, static_cast<double>(-root));
        const auto v = filled<T, 2>({keys, 3}, 3);
        const auto biases = filled<T, 1>({1}, static_cast<double>(lowest));
        const auto result = sd::attention_with_lse(q, k, v, {.mask = biases, .scale = 1.0});
        for (std::size_t i = 0; i < queries; ++i) {
            CHECK(std::abs(static_cast<double>(result.output(i, 0)) - 3) < 1e-5);
            CHECK(result.lse(i) == lowest);
        }
        const auto diagnostics = sd::attention_diagnostics(q, k, {.mask = biases, .scale = 1.0});
        CHECK(diagnostics.visible_keys(0) == keys);
    }
}

TEST_CASE("attention: weights that underflow leave +0, not -0")
{
    auto q = filled<float, 2>({1, 1}, 1);
    auto k = dense<float, 2>::from_shape({40, 1});
    auto v = filled<float, 2>({40, 20}, -1e-30);
    k.fill(-80);
    k(39, 0) = 0;
    xt::view(v, 39, xt::all()).fill(-0.0f);
    const auto output = sd::attention(q, k, v, {.scale = 1.0});
    CHECK(all_zero(output));
}

TEST_CASE_TEMPLATE("attention: empty arrays give empty or zero outputs", T, float, xtl::half_float)
{
    const auto shape_after = [](std::array<std::size_t, 4> q, std::array<std::size_t, 4> k, std::size_t values) {
        const auto query = filled<T, 4>(q, 1);
        const auto key = filled<T, 4>(k, 1);
        const auto value = filled<T, 4>({k[0], k[1], k[2], values}, 1);
        const auto result = sd::attention_with_lse(query, key, value);
        CHECK(result.lse.shape(2) == q[2]);
        CHECK(all_zero(result.output));
        for (const float lse : result.lse) {
            CHECK((values == 0 || sd::detail::is_negative_infinity(static_cast<double>(lse))));
        }
        return std::vector<std::size_t>(result.output.shape().begin(), result.output.shape().end());
    };
    using shape = std::vector<std::size_t>;
    CHECK(shape_after({0, 2, 3, 4}, {0, 2, 5, 4}, 6) == shape{0, 2, 3, 6});
    CHECK(shape_after({2, 0, 3, 4}, {2, 0, 5, 4}, 6) == shape{2, 0, 3, 6});
    CHECK(shape_after({2, 0, 3, 4}, {2, 2, 5, 4}, 6) == shape{2, 0, 3, 6});
    CHECK(shape_after({2, 2, 0, 4}, {2, 1, 5, 4}, 6) == shape{2, 2, 0, 6});
    CHECK(shape_after({2, 2, 3, 4}, {2, 1, 0, 4}, 6) == shape{2, 2, 3, 6});
    CHECK(shape_after({2, 2, 3, 4}, {2, 1, 5, 4}, 0) == shape{2, 2, 3, 0});
    CHECK(shape_after({2, 2, 0, 4}, {2, 1, 0, 4}, 0) == shape{2, 2, 0, 0});
    CHECK(shape_after({1, 1, 0, std::size_t{1} << 50}, {1, 1, 0, std::size_t{1} << 50}, 6) == shape{1, 1, 0, 6});
}
