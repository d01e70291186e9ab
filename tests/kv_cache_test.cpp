// SPDX-License-Identifier: BSD-3-Clause
#include <scaledot/kv_cache.hpp>

#include <scaledot/attention.hpp>

#include "support/attention_cases.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdlib>
#include <initializer_list>
#include <limits>
#include <new>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#if __has_include(<xtensor/misc/xmanipulation.hpp>)
#include <xtensor/misc/xmanipulation.hpp>
#else
#include <xtensor/xmanipulation.hpp>
#endif

namespace sd = scaledot;
using namespace test_support;

namespace {

constexpr sd::kv_cache_options small = {.batch = 2, .heads = 3, .key_size = 4, .value_size = 5};
const auto k = gaussians<float, 4>({2, 3, 40, 4}, 1);
const auto v = gaussians<float, 4>({2, 3, 40, 5}, 2);

auto rows(const dense<float, 4>& x, std::size_t first, std::size_t last)
{
    return dense<float, 4>(xt::view(x, xt::all(), xt::all(), xt::range(first, last)));
}

/// The cache holds the first `length` of k and v, or their copies rounded to its type.
template <class T>
bool holds(const sd::kv_cache<T>& cache, std::size_t length)
{
    const dense<float, 4> keys = rows(k, 0, length);
    const dense<float, 4> values = rows(v, 0, length);
    const auto rounds_to = [](float x, T y) { return as_double(sd::kernel::to_storage<T>(x)) == as_double(y); };
    const auto stored_keys = cache.keys();
    const auto stored_values = cache.values();
    if (cache.length() != length || stored_keys.shape(2) != length || stored_values.shape(3) != 5) {
        return false;
    }
    return length == 0 ||
           (std::equal(keys.begin(), keys.end(), stored_keys.begin(), stored_keys.end(), rounds_to) &&
            std::equal(values.begin(), values.end(), stored_values.begin(), stored_values.end(), rounds_to));
}

/// The aligned allocation, counted from now, that finds no memory; none when negative.
int failing_allocation = -1;

} // namespace

void* operator new(std::size_t size, std::align_val_t alignment)
{
    const auto step = static_cast<std::size_t>(alignment);
    void* const memory = failing_allocation == 0 ? nullptr : std::aligned_alloc(step, (size + step - 1) / step * step);
    failing_allocation -= failing_allocation >= 0 ? 1 : 0;
    if (memory == nullptr) {
        throw std::bad_alloc();
    }
    return memory;
}
void operator delete(void* memory, std::align_val_t) noexcept
{
    std::free(memory);
}
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept
{
    std::free(memory);
}

TEST_CASE_TEMPLATE("kv_cache: holds what was appended, in any portions, rounded to its type", T, float, double,
                   xtl::half_float, sd::bfloat16)
{
    for (const std::size_t step : std::initializer_list<std::size_t>{1, 3, 17, 40}) {
        sd::kv_cache<T> cache(small);
        CHECK(holds(cache, 0));
        for (std::size_t first = 0; first < 40; first += step) {
            const std::size_t last = std::min<std::size_t>(first + step, 40);
            cache.append(rows(k, first, last), rows(v, first, last));
            CHECK(holds(cache, last));
        }
    }
}

TEST_CASE("kv_cache: growth at least doubles, what fits moves nothing, reserve makes room once and for all")
{
    sd::kv_cache<float> cache(small);
    CHECK(cache.capacity() == 0);
    std::size_t moves = 0;
    for (std::size_t i = 0; i < 40; ++i) {
        const std::size_t before = cache.capacity();
        const float* const data = cache.keys().data();
        cache.append(rows(k, i, i + 1), rows(v, i, i + 1));
        const bool grew = cache.capacity() != before;
        moves += grew ? 1 : 0;
        CHECK((!grew || cache.capacity() >= 2 * before));
        CHECK((grew || cache.keys().data() == data));
    }
    CHECK(moves <= 7);

    sd::kv_cache<float> reserved({.batch = 2, .heads = 3, .key_size = 4, .value_size = 5, .capacity = 10});
    CHECK(reserved.capacity() == 10);
    reserved.append(rows(k, 0, 7), rows(v, 0, 7));
    reserved.reserve(40);
    CHECK(reserved.capacity() == 40);
    CHECK(holds(reserved, 7));
    const float* const data = reserved.keys().data();
    reserved.reserve(12);
    reserved.append(rows(k, 7, 40), rows(v, 7, 40));
    CHECK(reserved.capacity() == 40);
    CHECK(reserved.keys().data() == data);
    CHECK(holds(reserved, 40));
}

TEST_CASE("kv_cache: reset forgets the keys and keeps the memory")
{
    sd::kv_cache<float> cache(small);
    cache.append(rows(k, 5, 40), rows(v, 5, 40));
    const float* const data = cache.values().data();
    const std::size_t capacity = cache.capacity();
    cache.reset();
    CHECK(holds(cache, 0));
    CHECK(cache.capacity() == capacity);
    cache.append(rows(k, 0, 20), rows(v, 0, 20));
    CHECK(holds(cache, 20));
    CHECK(cache.values().data() == data);
}

TEST_CASE("kv_cache: rank 3 where batch is 1, rank 2 where heads is 1 as well; any array, also lazy")
{
    const auto key = gaussians<float, 2>({6, 4}, 1);
    const auto value = gaussians<float, 2>({6, 5}, 2);
    sd::kv_cache<float> cache({.batch = 1, .heads = 1, .key_size = 4, .value_size = 5});
    cache.append(key, value);
    cache.append(xt::view(key, xt::newaxis(), xt::all()), xt::view(value, xt::newaxis(), xt::all()));
    cache.append(xt::view(key, xt::newaxis(), xt::newaxis(), xt::all()),
                 xt::view(value, xt::newaxis(), xt::newaxis(), xt::all()));
    cache.append(xt::xarray<double>(key), value + 0.f);
    const dense<float, 2> sideways = xt::transpose(key);
    cache.append(xt::transpose(sideways), xt::view(value, xt::range(0, 6)));
    REQUIRE(cache.length() == 30);
    for (std::size_t part = 0; part < 5; ++part) {
        CHECK(same_bits(dense<float, 2>(xt::view(cache.keys(), 0, 0, xt::range(6 * part, 6 * part + 6))), key));
        CHECK(same_bits(dense<float, 2>(xt::view(cache.values(), 0, 0, xt::range(6 * part, 6 * part + 6))), value));
    }
    sd::kv_cache<float> heads({.batch = 1, .heads = 2, .key_size = 4, .value_size = 0});
    heads.append(gaussians<float, 3>({2, 6, 4}, 1), filled<float, 3>({2, 6, 0}, 0));
    CHECK(heads.length() == 6);
    CHECK(heads.values().size() == 0);
}

TEST_CASE("kv_cache: nothing appended is nothing changed; empty batches and heads are fine")
{
    sd::kv_cache<float> cache(small);
    cache.append(rows(k, 0, 0), rows(v, 0, 0));
    CHECK(holds(cache, 0));
    cache.append(rows(k, 0, 9), rows(v, 0, 9));
    cache.append(rows(k, 0, 0), rows(v, 0, 0));
    CHECK(holds(cache, 9));
    sd::kv_cache<float> none({.batch = 0, .heads = 3, .key_size = 4, .value_size = 5});
    none.append(filled<float, 4>({0, 3, 7, 4}, 0), filled<float, 4>({0, 3, 7, 5}, 0));
    CHECK(none.length() == 7);
    CHECK(sd::attention(filled<float, 4>({0, 3, 2, 4}, 0), none).size() == 0);
}

TEST_CASE("kv_cache: an append that is refused, or finds no memory, leaves the cache as it was")
{
    sd::kv_cache<float> cache(small);
    cache.append(rows(k, 0, 9), rows(v, 0, 9));
    const auto refuses = [&](const auto& key, const auto& value, const std::string& words) {
        const std::string said = complaint_of([&] { cache.append(key, value); });
        CHECK(said.find("scaledot: " + words) == 0);
        CHECK(holds(cache, 9));
    };
    refuses(filled<float, 4>({2, 3, 1, 3}, 0), rows(v, 0, 1),
            "the shape of k was (2, 3, 1, 3), must be (2, 3, length, 4)");
    refuses(filled<float, 4>({2, 2, 1, 4}, 0), rows(v, 0, 1),
            "the shape of k was (2, 2, 1, 4), must be (2, 3, length, 4)");
    refuses(rows(k, 0, 1), filled<float, 4>({1, 3, 1, 5}, 0),
            "the shape of v was (1, 3, 1, 5), must be (2, 3, length, 5)");
    refuses(rows(k, 0, 2), rows(v, 0, 3), "the length of v was 3, must be 2, that of k");
    refuses(filled<float, 2>({1, 4}, 0), filled<float, 2>({1, 5}, 0),
            "the shape of k was (1, 4), must be (2, 3, length, 4)");
    refuses(filled<float, 5>({1, 2, 3, 1, 4}, 0), rows(v, 0, 1), "the rank of k was 5, must be");
    refuses(filled<float, 1>({4}, 0), rows(v, 0, 1), "the rank of k was 1, must be");

    for (const int allocation : {0, 1}) { // the keys' and the values'
        failing_allocation = allocation;
        CHECK_THROWS_AS(cache.append(rows(k, 9, 40), rows(v, 9, 40)), std::bad_alloc);
        CHECK(failing_allocation < 0);
        CHECK(holds(cache, 9));
        failing_allocation = allocation;
        CHECK_THROWS_AS(cache.reserve(100), std::bad_alloc);
        CHECK(holds(cache, 9));
    }
    CHECK_THROWS_AS(cache.reserve(std::numeric_limits<std::size_t>::max() / 2), std::length_error);
    CHECK(holds(cache, 9));
    cache.append(rows(k, 9, 40), rows(v, 9, 40));
    CHECK(holds(cache, 40));
    CHECK(complaint_of([] {
              sd::kv_cache<float>({.key_size = 0, .value_size = 4});
          }).find("scaledot: key_size was 0, must be 1 or more") == 0);
    const auto endless = [] {
        sd::kv_cache<float>(
            {.batch = std::size_t{1} << 40, .heads = std::size_t{1} << 40, .key_size = 1, .capacity = 1});
    };
    CHECK_THROWS_AS(endless(), std::length_error);
}

TEST_CASE("kv_cache: a cache may be given its own keys and values")
{
    sd::kv_cache<float> cache(small);
    cache.append(rows(k, 0, 9), rows(v, 0, 9));
    for (int i = 0; i < 3; ++i) {
        const std::size_t length = cache.length();
        cache.append(cache.keys(), cache.values());
        REQUIRE(cache.length() == 2 * length);
        const dense<float, 4> keys = cache.keys();
        const dense<float, 4> values = cache.values();
        CHECK(same_bits(rows(keys, length, 2 * length), rows(keys, 0, length)));
        CHECK(same_bits(rows(values, length, 2 * length), rows(values, 0, length)));
    }
}

TEST_CASE("kv_cache: its own keys and values may be appended after a reset, in any order")
{
    const auto check = [](const auto& rearranged) {
        sd::kv_cache<float> cache({.batch = 2, .heads = 3, .key_size = 4, .value_size = 4});
        cache.append(rows(k, 0, 9), rows(k, 9, 18));
        const auto keys = cache.keys();
        const auto values = cache.values();
        const dense<float, 4> expected_keys = rearranged(keys);
        const dense<float, 4> expected_values = rearranged(values);
        cache.reset();
        SUBCASE("keys as keys")
        {
            cache.append(rearranged(keys), rearranged(values));
            CHECK(same_bits(dense<float, 4>(cache.keys()), expected_keys));
            CHECK(same_bits(dense<float, 4>(cache.values()), expected_values));
        }
        SUBCASE("keys as values")
        {
            cache.append(rearranged(values), rearranged(keys));
            CHECK(same_bits(dense<float, 4>(cache.keys()), expected_values));
            CHECK(same_bits(dense<float, 4>(cache.values()), expected_keys));
        }
        CHECK(cache.capacity() == 9);
    };
    SUBCASE("all")
    {
        check([](const auto& x) { return xt::view(x, xt::all(), xt::all(), xt::all()); });
    }
    SUBCASE("the last six")
    {
        check([](const auto& x) { return xt::view(x, xt::all(), xt::all(), xt::range(3, 9)); });
    }
    SUBCASE("backwards")
    {
        check([](const auto& x) { return xt::flip(x, 2); });
    }
    SUBCASE("other heads")
    {
        check([](const auto& x) { return xt::flip(x, 1); });
    }
}

TEST_CASE("kv_cache: a copy is independent, a cache moved from is empty and can be used again")
{
    sd::kv_cache<float> cache(small);
    cache.append(rows(k, 0, 9), rows(v, 0, 9));
    sd::kv_cache<float> copy = cache;
    copy.append(rows(k, 9, 12), rows(v, 9, 12));
    CHECK(holds(copy, 12));
    CHECK(holds(cache, 9));
    const sd::kv_cache<float> moved = std::move(copy);
    CHECK(holds(moved, 12));
    CHECK(holds(copy, 0));
    copy.append(rows(k, 0, 2), rows(v, 0, 2));
    CHECK(holds(copy, 2));
    cache = moved;
    CHECK(holds(cache, 12));
}

TEST_CASE("attention over a cache is attention over its keys and values, whatever the cache stores")
{
    const auto check = [](auto storage) {
        using T = decltype(storage);
        sd::kv_cache<T> cache(small);
        cache.reserve(64); // room between the heads
        cache.append(k, v);
        const auto q = gaussians<float, 4>({2, 6, 5, 4}, 3);
        const auto keys = cache.keys();
        const auto values = cache.values();
        const auto expected =
            sd::attention_with_lse(q, keys, values, {.causal = true, .align = sd::alignment::bottom_right});
        const auto result = sd::attention_with_lse(q, cache, {.causal = true, .align = sd::alignment::bottom_right});
        CHECK(same_bits(result.output, expected.output));
        CHECK(same_bits(result.lse, expected.lse));
        static_assert(std::is_same_v<decltype(result.lse(0)),
                                     const std::conditional_t<std::is_same_v<T, double>, double, float>&>);
        auto out = dense<float, 4>::from_shape({2, 6, 5, 5});
        sd::attention_into(out, q, cache, {.causal = true, .align = sd::alignment::bottom_right});
        CHECK(same_bits(out, expected.output));
        out.fill(0);
        auto lse = dense<double, 3>::from_shape({2, 6, 5});
        sd::attention_with_lse_into(out, lse, q, cache, {.causal = true, .align = sd::alignment::bottom_right});
        CHECK(same_bits(out, expected.output));
        CHECK(xt::allclose(lse, expected.lse, 1e-6, 1e-6));
        auto same = expected.lse;
        same.fill(0);
        sd::attention_with_lse_into(xt::view(out, xt::all()), same, q, cache,
                                    {.causal = true, .align = sd::alignment::bottom_right});
        CHECK(same_bits(same, expected.lse));
        // leading axes of q are the cache's batch, however they are cut
        const auto q5 = gaussians<float, 5>({1, 2, 6, 5, 4}, 3);
        const auto of_five = sd::attention(q5, cache);
        CHECK(std::equal(of_five.begin(), of_five.end(), sd::attention(q, cache).begin()));
        const xt::xarray<float> any = q;
        CHECK(same_bits(dense<float, 4>(sd::attention(any, cache)), sd::attention(q, cache)));
    };
    check(float{});
    check(double{});
    check(xtl::half_float{});
    check(sd::bfloat16{});
}

TEST_CASE("attention over a cache of one sequence takes queries of rank 2 and 3; an empty cache gives zeros")
{
    sd::kv_cache<float> cache({.batch = 1, .heads = 1, .key_size = 4, .value_size = 5});
    const auto q = gaussians<float, 2>({3, 4}, 3);
    CHECK(all_zero(sd::attention(q, cache)));
    const auto key = gaussians<float, 2>({6, 4}, 1);
    const auto value = gaussians<float, 2>({6, 5}, 2);
    cache.append(key, value);
    CHECK(same_bits(sd::attention(q, cache), sd::attention(q, key, value)));
    const dense<float, 3> q3 = xt::view(q, xt::newaxis(), xt::all());
    const auto of_three = sd::attention(q3, cache);
    CHECK(same_bits(dense<float, 2>(xt::view(of_three, 0)), sd::attention(q, key, value)));
}
