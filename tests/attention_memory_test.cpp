// SPDX-License-Identifier: BSD-3-Clause
// What attention reads, and how much memory it takes.
#include <scaledot/attention.hpp>
#include <scaledot/diagnostics.hpp>
#include <scaledot/scores.hpp>

#include "support/attention_cases.hpp"
#include "support/guarded_memory.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <initializer_list>
#include <new>
#include <stdexcept>
#include <vector>

#if __has_include(<xtensor/core/xmath.hpp>)
#include <xtensor/core/xmath.hpp>
#include <xtensor/misc/xmanipulation.hpp>
#include <xtensor/views/xview.hpp>
#else
#include <xtensor/xmanipulation.hpp>
#include <xtensor/xmath.hpp>
#include <xtensor/xview.hpp>
#endif

namespace sd = scaledot;
using namespace test_support;

namespace {

std::atomic<std::size_t> live_bytes = 0;
std::atomic<std::size_t> peak_bytes = 0;
std::atomic<std::size_t> allocations = 0;

/// Memory with its size in front, counted.
void* counted(std::size_t size, std::size_t alignment)
{
    const std::size_t head = std::max<std::size_t>(alignment, 64);
    void* const block = std::aligned_alloc(head, (size + head + head - 1) / head * head);
    if (block == nullptr) {
        throw std::bad_alloc();
    }
    *static_cast<std::size_t*>(block) = size;
    ++allocations;
    const std::size_t now = live_bytes += size;
    std::size_t peak = peak_bytes;
    while (now > peak && !peak_bytes.compare_exchange_weak(peak, now)) {
    }
    return static_cast<char*>(block) + head;
}

void release(void* memory, std::size_t alignment) noexcept
{
    if (memory != nullptr) {
        void* const block = static_cast<char*>(memory) - std::max<std::size_t>(alignment, 64);
        live_bytes -= *static_cast<std::size_t*>(block);
        std::free(block);
    }
}

/// The most bytes that were in use during f() beyond those before it.
template <class F>
std::size_t extra_bytes(const F& f)
{
    const std::size_t before = live_bytes;
    peak_bytes = before;
    f();
    return peak_bytes - before;
}

std::size_t extra_of_attention(std::size_t queries, std::size_t keys, std::size_t size, bool causal = false)
{
    const auto q = filled<float, 2>({queries, size}, 0.1);
    const auto k = filled<float, 2>({keys, size}, 0.1);
    auto out = filled<float, 2>({queries, size}, 0);
    return extra_bytes(
        [&] { sd::attention_into(out, q, k, k, {.causal = causal, .align = sd::alignment::bottom_right}); });
}

constexpr std::size_t mebibyte = std::size_t{1} << 20;

} // namespace

void* operator new(std::size_t size)
{
    return counted(size, 64);
}
void* operator new(std::size_t size, std::align_val_t alignment)
{
    return counted(size, static_cast<std::size_t>(alignment));
}
void operator delete(void* memory) noexcept
{
    release(memory, 64);
}
void operator delete(void* memory, std::size_t) noexcept
{
    release(memory, 64);
}
void operator delete(void* memory, std::align_val_t alignment) noexcept
{
    release(memory, static_cast<std::size_t>(alignment));
}
void operator delete(void* memory, std::size_t, std::align_val_t alignment) noexcept
{
    release(memory, static_cast<std::size_t>(alignment));
}

TEST_CASE("attention: 64 queries over 65,536 keys take one partial result per 1024 keys and little else")
{
    const std::size_t partials = 64 * 64 * (64 + 2) * sizeof(float);
    CHECK(extra_of_attention(64, 65536, 64) <= partials + mebibyte);
    thread_per_task pool(8);
    const sd::executor_scope scope(pool);
    CHECK(extra_of_attention(64, 65536, 64) <= partials + 8 * mebibyte);
}

TEST_CASE("attention: many queries take one packed copy of the keys, however many they are")
{
    const std::size_t packed = 65536 * 8 * sizeof(float);
    CHECK(extra_of_attention(1024, 65536, 8) <= packed + mebibyte);
    CHECK(extra_of_attention(1024, 65536, 8, true) <= packed + mebibyte);
    CHECK(extra_of_attention(512, 4096, 8) == extra_of_attention(4096, 4096, 8));
    thread_per_task pool(3);
    const sd::executor_scope scope(pool);
    CHECK(extra_of_attention(1024, 65536, 8) <= packed + 3 * mebibyte);
    constexpr std::size_t thread_states = 1024; // the pool's, which live for as long as their threads happen to
    CHECK(extra_of_attention(4096, 4096, 8) <= extra_of_attention(1024, 4096, 8) + thread_states);
}

TEST_CASE("attention: diagnostics add statistics per row in flight, nothing per score")
{
    const auto q = filled<float, 2>({512, 8}, 0.1);
    const auto k = filled<float, 2>({16384, 8}, 0.1);
    const std::size_t figures = 512 * 11 * sizeof(double);
    CHECK(extra_bytes([&] { sd::attention_diagnostics(q, k); }) <= 16384 * 8 * sizeof(float) + figures + mebibyte);
}

TEST_CASE_TEMPLATE("attention: keys and values past a key length are never read, nor anything past an array's end", T,
                   float, double, xtl::half_float, sd::bfloat16)
{
    // few queries are not worth packing a head's keys for, 120 are
    for (const std::size_t queries : std::initializer_list<std::size_t>{1, 7, 120}) {
        for (const std::size_t size : std::initializer_list<std::size_t>{5, 32}) {
            for (const std::size_t valid : std::initializer_list<std::size_t>{0, 1, 15, 100, 128, 1027}) {
                CAPTURE(queries);
                CAPTURE(size);
                CAPTURE(valid);
                const std::size_t keys = valid + 1100;
                const guarded_memory<T> q(queries * size, 0), k(valid * size, 1100 * size),
                    v(valid * size, 1100 * size), out(queries * size, 0);
                std::fill_n(q.data(), queries * size, from_double<T>(0.5));
                std::fill_n(k.data(), valid * size, from_double<T>(0.25));
                std::fill_n(v.data(), valid * size, from_double<T>(3));
                const auto view = [&](T* data, std::size_t rows) {
                    return xt::adapt(data, rows * size, xt::no_ownership(), std::array<std::size_t, 2>{rows, size});
                };
                const auto query = view(q.data(), queries);
                const auto key = view(k.data(), keys);
                const auto value = view(v.data(), keys);
                const std::vector<std::size_t> lengths = {valid};
                sd::attention_into(view(out.data(), queries), query, key, value, {.key_lengths = lengths});
                const double expected = valid == 0 ? 0 : 3;
                // the sum of equal weights and the sum of the values they weigh differ by rounding only
                CHECK(std::all_of(out.data(), out.data() + queries * size,
                                  [&](T x) { return std::abs(as_double(x) - expected) <= 1e-5; }));
                const auto scores = sd::attention_scores(query, key, sd::score_stage::scaled, {.key_lengths = lengths});
                CHECK(sd::detail::is_negative_infinity(as_double(scores(queries - 1, valid))));
                const auto diagnostics = sd::attention_diagnostics(query, key, {.key_lengths = lengths});
                CHECK(diagnostics.visible_keys(queries - 1) == valid);
            }
        }
    }
}

TEST_CASE_TEMPLATE("attention: nor where keys and values are copied first, their last axis not being contiguous", T,
                   float, double, xtl::half_float, sd::bfloat16)
{
    constexpr std::size_t size = 5;
    constexpr std::size_t valid = 7;
    constexpr std::size_t keys = valid + 1100;
    // every other element of a row counts: the last valid one is the last but one in memory
    const guarded_memory<T> k(valid * 2 * size, 1100 * 2 * size), v(valid * 2 * size, 1100 * 2 * size);
    std::fill_n(k.data(), valid * 2 * size, from_double<T>(0.25));
    std::fill_n(v.data(), valid * 2 * size, from_double<T>(3));
    const auto view = [&](T* data) {
        return xt::adapt(data, keys * size, xt::no_ownership(), std::array<std::size_t, 2>{keys, size},
                         std::array<std::ptrdiff_t, 2>{2 * size, 2});
    };
    const auto key = view(k.data());
    const auto value = view(v.data());
    const std::vector<std::size_t> lengths = {valid};
    const auto q = filled<T, 2>({3, size}, 0.5);
    const auto out = sd::attention(q, key, value, {.key_lengths = lengths});
    CHECK(std::all_of(out.begin(), out.end(), [](T x) { return std::abs(as_double(x) - 3) <= 1e-5; }));
    const auto scores = sd::attention_scores(q, key, sd::score_stage::scaled, {.key_lengths = lengths});
    CHECK(sd::detail::is_negative_infinity(as_double(scores(2, valid))));
    CHECK(sd::attention_diagnostics(q, key, {.key_lengths = lengths}).visible_keys(2) == valid);
    const auto both = sd::attention_with_diagnostics(q, key, value, {.key_lengths = lengths});
    CHECK(same_bits(both.output, out));
}

TEST_CASE("attention: nothing is read before all shapes are checked, also not what is copied first")
{
    const guarded_memory<float> nothing(0, 64);
    const auto columns = xt::adapt(nothing.data(), 20, xt::no_ownership(), std::array<std::size_t, 2>{4, 5},
                                   std::array<std::ptrdiff_t, 2>{1, 4});
    const auto fitting = filled<float, 2>({4, 5}, 1);
    const auto narrow = filled<float, 2>({4, 3}, 1);
    auto wide = filled<float, 2>({4, 9}, 0);
    CHECK_THROWS_AS(sd::attention(columns, narrow, fitting), std::invalid_argument);
    CHECK_THROWS_AS(sd::attention(narrow, columns, fitting), std::invalid_argument);
    CHECK_THROWS_AS(sd::attention(fitting, fitting, xt::transpose(columns)), std::invalid_argument);
    CHECK_THROWS_AS(sd::attention_into(wide, columns, columns, columns), std::invalid_argument);
    auto lse = filled<float, 1>({9}, 0);
    auto out = fitting;
    CHECK_THROWS_AS(sd::attention_with_lse_into(out, lse, columns, columns, columns), std::invalid_argument);
    CHECK_THROWS_AS(sd::attention(columns, columns, columns, {.softcap = -1}), std::invalid_argument);
    CHECK_THROWS_AS(sd::attention_scores(columns, narrow, sd::score_stage::scaled), std::invalid_argument);
    CHECK_THROWS_AS(sd::attention_scores_into(wide, columns, columns, sd::score_stage::scaled), std::invalid_argument);
    CHECK_THROWS_AS(sd::attention_diagnostics(columns, narrow), std::invalid_argument);
    CHECK_THROWS_AS(sd::attention_with_diagnostics(columns, columns, narrow, {.scale = 1.0, .softcap = -1}),
                    std::invalid_argument);
}

TEST_CASE("attention: of lazy expressions and other layouts only the valid keys of each batch entry are read")
{
    constexpr float poison = 12345;
    const auto q = gaussians<float, 5>({3, 2, 4, 3, 8}, 1);
    auto k = gaussians<float, 5>({3, 2, 2, 9, 8}, 2);
    auto v = gaussians<float, 5>({3, 2, 2, 9, 6}, 3);
    const std::vector<std::size_t> lengths = {4, 0, 9, 1, 7, 3};
    for (std::size_t entry = 0; entry < 6; ++entry) {
        xt::view(k, entry / 2, entry % 2, xt::all(), xt::range(lengths[entry], 9)).fill(poison);
        xt::view(v, entry / 2, entry % 2, xt::all(), xt::range(lengths[entry], 9)).fill(poison);
    }
    const sd::attention_options options{.key_lengths = lengths};
    const auto expected = sd::attention_with_lse(q, k, v, options);

    std::size_t poison_read = 0;
    const auto watch = [&](float x) {
        poison_read += x == poison ? 1 : 0;
        return x;
    };
    const auto key = xt::make_lambda_xfunction(watch, k);
    const auto value = xt::make_lambda_xfunction(watch, v);
    const auto lazy = sd::attention_with_lse(q, key, value, options);
    CHECK(same_bits(lazy.output, expected.output));
    CHECK(same_bits(lazy.lse, expected.lse));
    CHECK(same_bits(sd::attention_with_diagnostics(q, key, value, options).output, expected.output));
    CHECK(same_bits(sd::attention_scores(q, key, sd::score_stage::masked, options),
                    sd::attention_scores(q, k, sd::score_stage::masked, options)));
    CHECK(poison_read == 0);

    const xt::xarray<float> stored_k = xt::transpose(k, {4, 3, 1, 0, 2}); // [size, keys, batch 2, batch 3, heads]
    const xt::xarray<float> stored_v = xt::transpose(v, {4, 3, 1, 0, 2});
    const std::vector<std::size_t> back = {3, 2, 4, 1, 0};
    const auto other = sd::attention_with_lse(q, xt::transpose(stored_k, back), xt::transpose(stored_v, back), options);
    CHECK(same_bits(other.output, expected.output));
    CHECK(same_bits(other.lse, expected.lse));
}

TEST_CASE("attention: checks that pass allocate nothing")
{
    const auto q = filled<float, 4>({2, 4, 0, 8}, 1);
    const auto k = filled<float, 4>({2, 2, 5, 8}, 1);
    const auto v = filled<float, 4>({2, 2, 5, 6}, 1);
    auto out = filled<float, 4>({2, 4, 0, 6}, 1);
    auto lse = filled<float, 3>({2, 4, 0}, 1);
    const auto mask = filled<float, 2>({1, 5}, 0);
    const std::vector<double> sinks(4);
    const std::vector<std::size_t> lengths = {3, 5};
    const sd::attention_options options{.mask = mask,
                                        .causal = true,
                                        .align = sd::alignment::bottom_right,
                                        .window_left = 7,
                                        .key_lengths = lengths,
                                        .sinks = sinks};
    const std::size_t before = allocations;
    sd::attention_with_lse_into(out, lse, q, k, v, options);
    CHECK(allocations == before);

    auto queries = filled<float, 4>({2, 4, 3, 6}, 1);
    const std::size_t before_elements = allocations;
    sd::detail::require_distinct_elements(sd::detail::view_of(queries));
    sd::detail::require_apart(queries, k, "k");
    sd::detail::require_apart_from_options(queries, options);
    CHECK(allocations == before_elements);
}
