// SPDX-License-Identifier: BSD-3-Clause
// To the bit: a row of attention does not depend on threads, on the batch around it, or on the queries computed with
// it.
#include <scaledot/attention.hpp>

#include "support/attention_cases.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <initializer_list>
#include <thread>
#include <vector>

#if defined(_OPENMP)
#include <omp.h>
#endif

namespace sd = scaledot;
using namespace test_support;

namespace {

using counts = std::initializer_list<std::size_t>;

template <class T>
struct problem {
    dense<T, 4> q;
    dense<T, 4> k;
    dense<T, 4> v;

    problem(std::array<std::size_t, 4> q_shape, std::size_t key_heads, std::size_t keys, std::size_t value_size)
        : q(gaussians<T, 4>(q_shape, 1, 3)), k(gaussians<T, 4>({q_shape[0], key_heads, keys, q_shape[3]}, 2)),
          v(gaussians<T, 4>({q_shape[0], key_heads, keys, value_size}, 3))
    {
    }
};

/// Some of the values are infinite, some so small that their products underflow with either sign.
template <class T>
void hurt_values(dense<T, 4>& v)
{
    std::size_t n = 0;
    for (auto& x : v) {
        const std::size_t place = n++ % 97;
        x = place == 5 ? infinity_of<T>() : place < 20 ? x * T(1e-30) : x;
    }
}

template <class Result>
bool same_results(const Result& a, const Result& b)
{
    return same_bits(a.output, b.output) && same_bits(a.lse, b.lse);
}

/// Calls f() on 1, 2, 3 and 8 threads, of OpenMP and of a pool, and compares what it returns.
template <class F>
void check_threads(const F& f)
{
    const auto expected = f();
    for (const std::size_t threads : counts{1, 2, 3, 8}) {
        CAPTURE(threads);
        thread_per_task pool(threads);
        {
            const sd::executor_scope scope(pool);
            CHECK(same_results(f(), expected));
        }
#if defined(_OPENMP)
        const int before = omp_get_max_threads();
        omp_set_num_threads(static_cast<int>(threads));
        CHECK(same_results(f(), expected));
        omp_set_num_threads(before);
#endif
    }
}

template <class T>
auto query_rows(const dense<T, 4>& x, std::size_t first, std::size_t last)
{
    return dense<T, 4>(xt::view(x, xt::all(), xt::all(), xt::range(first, last), xt::all()));
}

} // namespace

TEST_CASE_TEMPLATE("attention: any number of threads gives the same bits", T, float, double, xtl::half_float,
                   sd::bfloat16)
{
    // many heads; rows of one head, and of several in turns; few rows of many keys, of one head and of several in turns
    const std::vector<problem<T>> problems = {{{3, 4, 20, 16}, 2, 200, 11},
                                              {{1, 1, 300, 16}, 1, 300, 16},
                                              {{1, 10, 70, 16}, 5, 300, 16},
                                              {{1, 3, 2, 16}, 1, 3300, 8},
                                              {{2, 5, 2, 16}, 5, 2100, 8}};
    for (const auto& p : problems) {
        check_threads([&] { return sd::attention_with_lse(p.q, p.k, p.v); });
        check_threads([&] {
            return sd::attention_with_lse(p.q, p.k, p.v,
                                          {.causal = true, .align = sd::alignment::bottom_right, .window_left = 1500});
        });
    }
}

TEST_CASE("attention: threads give the same bits with sinks, key lengths and infinite values")
{
    problem<float> p({2, 2, 3, 16}, 1, 3300, 8);
    hurt_values(p.v);
    const std::vector<float> sinks = {1, 2};
    const std::vector<std::size_t> lengths = {1025, 3300};
    check_threads([&] { return sd::attention_with_lse(p.q, p.k, p.v, {.key_lengths = lengths, .sinks = sinks}); });
}

TEST_CASE_TEMPLATE("attention: a batch entry gives the same bits alone as anywhere in a batch", T, float, double)
{
    problem<T> p({5, 4, 9, 12}, 2, 150, 7);
    hurt_values(p.v);
    const auto whole = sd::attention(p.q, p.k, p.v);
    for (std::size_t b = 0; b < 5; ++b) {
        const auto entry = [b](const dense<T, 4>& x) { return dense<T, 4>(xt::view(x, xt::range(b, b + 1))); };
        CHECK(same_bits(sd::attention(entry(p.q), entry(p.k), entry(p.v)), entry(whole)));
    }
    auto repeated = p;
    xt::view(repeated.q, 4) = xt::view(p.q, 1);
    xt::view(repeated.k, 4) = xt::view(p.k, 1);
    xt::view(repeated.v, 4) = xt::view(p.v, 1);
    const auto again = sd::attention(repeated.q, repeated.k, repeated.v);
    CHECK(same_bits(dense<T, 3>(xt::view(again, 1)), dense<T, 3>(xt::view(again, 4))));
}

TEST_CASE_TEMPLATE("attention: a query gives the same bits alone as among others", T, float, double, sd::bfloat16)
{
    for (const std::size_t value_size : counts{16, 21}) {
        problem<T> p({1, 2, 130, 12}, 1, 1100, value_size);
        if constexpr (!std::is_same_v<T, sd::bfloat16>) {
            hurt_values(p.v);
        }
        const std::vector<sd::attention_options> kinds = {{},
                                                          {.causal = true, .query_offset = 970},
                                                          {.query_offset = 500, .window_left = 130, .window_right = 1},
                                                          {.softcap = 3.0}};
        for (const auto& options : kinds) {
            const auto whole = sd::attention_with_lse(p.q, p.k, p.v, options);
            for (const std::size_t count : counts{1, 5, 6, 64}) {
                for (const std::size_t first : counts{0, 7, 66}) {
                    CAPTURE(count);
                    CAPTURE(first);
                    auto moved = options;
                    if (options.query_offset) {
                        moved.query_offset = *options.query_offset + static_cast<std::ptrdiff_t>(first);
                    }
                    const auto part = sd::attention_with_lse(query_rows(p.q, first, first + count), p.k, p.v, moved);
                    CHECK(same_bits(part.output, query_rows(whole.output, first, first + count)));
                }
            }
        }
    }
}

TEST_CASE_TEMPLATE("attention: so it does where keys and values are too large for a cache, and more rows share them", T,
                   float, sd::bfloat16)
{
    for (const std::size_t value_size : counts{16, 21}) {
        const problem<T> p({1, 1, 230, 128}, 1, 2200, value_size);
        for (const bool causal : {false, true}) {
            const auto options = [&](std::size_t first) {
                return sd::attention_options{.causal = causal,
                                             .query_offset = 1970 + static_cast<std::ptrdiff_t>(first)};
            };
            const auto whole = sd::attention(p.q, p.k, p.v, options(0));
            for (const std::size_t first : counts{0, 90, 190}) {
                CAPTURE(first);
                const auto part = sd::attention(query_rows(p.q, first, first + 40), p.k, p.v, options(first));
                CHECK(same_bits(part, query_rows(whole, first, first + 40)));
            }
        }
    }
}

TEST_CASE_TEMPLATE("attention: queries that are NaN, of either sign, and keys that are not finite give the same bits "
                   "alone, among others and on any number of threads",
                   T, float, double)
{
    problem<T> p({1, 2, 70, 16}, 1, 1100, 16);
    p.q(0, 0, 3, 1) = nan_of<T>();
    p.q(0, 1, 69, 15) = std::copysign(nan_of<T>(), T(-1));
    p.k(0, 0, 1090, 2) = infinity_of<T>();
    p.k(0, 0, 1099, 0) = nan_of<T>();
    const sd::attention_options options{.causal = true, .query_offset = 1029};
    const auto whole = sd::attention_with_lse(p.q, p.k, p.v, options);
    for (std::size_t query = 0; query < 70; ++query) {
        CAPTURE(query);
        auto moved = options;
        moved.query_offset = 1029 + static_cast<std::ptrdiff_t>(query);
        const auto alone = sd::attention_with_lse(query_rows(p.q, query, query + 1), p.k, p.v, moved);
        CHECK(same_bits(alone.output, query_rows(whole.output, query, query + 1)));
        CHECK(
            same_bits(alone.lse, dense<T, 3>(xt::view(whole.lse, xt::all(), xt::all(), xt::range(query, query + 1)))));
    }
    check_threads([&] { return sd::attention_with_lse(p.q, p.k, p.v, options); });
}

TEST_CASE_TEMPLATE("attention: decode over a growing cache gives the bits of prefill", T, float, sd::bfloat16)
{
    const std::size_t length = 300;
    problem<T> p({1, 4, length, 16}, 2, length, 10);
    if constexpr (std::is_same_v<T, float>) {
        for (std::size_t c = 0; c < 10; c += 3) {
            p.v(0, 1, 200, c) = infinity_of<T>(); // what later keys hold shows in no earlier row
        }
    }
    const auto prefill = sd::attention(p.q, p.k, p.v, {.causal = true});
    sd::kv_cache<T> cache({.batch = 1, .heads = 2, .key_size = 16, .value_size = 10});
    std::size_t step = 1;
    for (std::size_t first = 0; first < length; first += step) {
        step = first < 20 || first > 120 ? 1 : 37;
        const std::size_t last = std::min(first + step, length);
        cache.append(query_rows(p.k, first, last), query_rows(p.v, first, last));
        const auto q = query_rows(p.q, first, last);
        CAPTURE(first);
        CHECK(same_bits(sd::attention(q, cache, {.causal = true, .align = sd::alignment::bottom_right}),
                        query_rows(prefill, first, last)));
        step = last - first;
    }
}

TEST_CASE("attention: grouped heads give the bits of their keys repeated")
{
    const problem<float> p({2, 6, 9, 12}, 2, 150, 7);
    auto k = dense<float, 4>::from_shape({2, 6, 150, 12});
    auto v = dense<float, 4>::from_shape({2, 6, 150, 7});
    for (std::size_t h = 0; h < 6; ++h) {
        xt::view(k, xt::all(), h) = xt::view(p.k, xt::all(), h / 3);
        xt::view(v, xt::all(), h) = xt::view(p.v, xt::all(), h / 3);
    }
    CHECK(same_results(sd::attention_with_lse(p.q, k, v), sd::attention_with_lse(p.q, p.k, p.v)));
}

TEST_CASE("attention: calls from many threads at once give the bits of calls one after another")
{
    constexpr std::size_t callers = 6;
    std::vector<problem<float>> problems;
    for (std::size_t i = 0; i < callers; ++i) {
        problems.emplace_back(std::array<std::size_t, 4>{1, 2, 3 + 20 * i, 16}, 2, 200 + 900 * (i % 2), 8 + i);
    }
    const auto solve = [](const problem<float>& p) {
        return sd::attention_with_lse(p.q, p.k, p.v, {.causal = true, .align = sd::alignment::bottom_right});
    };
    using solution = decltype(solve(problems[0]));
    std::vector<solution> expected, found(callers);
    for (const auto& p : problems) {
        expected.push_back(solve(p));
    }
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < callers; ++i) {
        threads.emplace_back([&, i] {
            for (int repeat = 0; repeat < 5; ++repeat) {
                found[i] = solve(problems[i]);
            }
        });
    }
    for (auto& thread : threads) {
        thread.join();
    }
    for (std::size_t i = 0; i < callers; ++i) {
        CHECK(same_results(found[i], expected[i]));
    }
}
