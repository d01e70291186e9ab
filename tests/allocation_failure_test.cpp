// SPDX-License-Identifier: BSD-3-Clause
// What is left when memory runs out, at any allocation of any operation: outputs untouched, nothing leaked, and the
// same call right once there is memory again.
#include <scaledot/attention.hpp>
#include <scaledot/diagnostics.hpp>
#include <scaledot/key_mass.hpp>
#include <scaledot/layer_norm.hpp>
#include <scaledot/merge.hpp>
#include <scaledot/rms_norm.hpp>
#include <scaledot/scores.hpp>
#include <scaledot/softmax.hpp>
#include <scaledot/statistics.hpp>

#include "support/attention_cases.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <new>

#if __has_include(<xtensor/views/xview.hpp>)
#include <xtensor/views/xview.hpp>
#else
#include <xtensor/xview.hpp>
#endif

namespace sd = scaledot;
using namespace test_support;

namespace {

std::atomic<std::ptrdiff_t> live = 0;
/// Allocations that still succeed; no end of them when negative.
std::atomic<std::ptrdiff_t> left = -1;

void* allocate(std::size_t size, std::size_t alignment)
{
    void* const memory =
        left == 0 ? nullptr
                  : std::aligned_alloc(alignment, std::max(alignment, (size + alignment - 1) / alignment * alignment));
    if (memory == nullptr) {
        throw std::bad_alloc();
    }
    left -= left > 0 ? 1 : 0;
    ++live;
    return memory;
}

void release(void* memory) noexcept
{
    live -= memory == nullptr ? 0 : 1;
    std::free(memory);
}

/// Calls operate() with one more allocation each time until it succeeds; returns how often it failed.
template <class Operate, class Untouched>
std::size_t fail_everywhere(const Operate& operate, const Untouched& untouched)
{
    for (std::size_t allocations = 0; allocations < 1000; ++allocations) {
        const std::ptrdiff_t before = live;
        left = static_cast<std::ptrdiff_t>(allocations);
        bool failed = false;
        try {
            operate();
        } catch (const std::bad_alloc&) {
            failed = true;
        }
        left = -1;
        if (!failed) {
            return allocations;
        }
        const std::ptrdiff_t after = live;
        CAPTURE(allocations);
        CHECK(after == before);
        CHECK(untouched());
    }
    FAIL("never succeeds");
    return 0;
}

constexpr float sentinel = 12345;

/// An operation that writes to an output of the caller's, and what it writes when nothing fails.
template <std::size_t Rank, class Operate>
std::size_t check_output(dense<float, Rank> out, const Operate& operate)
{
    std::fill(out.begin(), out.end(), sentinel);
    auto expected = out;
    operate(expected);
    const std::size_t failures =
        fail_everywhere([&] { operate(out); },
                        [&] { return std::all_of(out.begin(), out.end(), [](float x) { return x == sentinel; }); });
    CHECK(same_bits(out, expected));
    return failures;
}

/// An operation that returns a new container.
template <class Operate>
std::size_t check_result(const Operate& operate)
{
    operate(); // what threads keep for later calls is not lost
    return fail_everywhere(operate, [] { return true; });
}

const auto q = gaussians<float, 4>({2, 4, 40, 24}, 1);
const auto k = gaussians<float, 4>({2, 2, 300, 24}, 2);
const auto v = gaussians<float, 4>({2, 2, 300, 20}, 3);
const auto x = gaussians<float, 3>({3, 50, 70}, 4);

} // namespace

[[gnu::noinline]] void* operator new(std::size_t size)
{
    return allocate(size, alignof(std::max_align_t));
}
[[gnu::noinline]] void* operator new(std::size_t size, std::align_val_t alignment)
{
    return allocate(size, static_cast<std::size_t>(alignment));
}
[[gnu::noinline]] void operator delete(void* memory) noexcept
{
    release(memory);
}
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept
{
    release(memory);
}
[[gnu::noinline]] void operator delete(void* memory, std::align_val_t) noexcept
{
    release(memory);
}
[[gnu::noinline]] void operator delete(void* memory, std::size_t, std::align_val_t) noexcept
{
    release(memory);
}

TEST_CASE("without memory: attention leaves its output alone")
{
    // More scratch memory than a thread keeps, lazy arguments and outputs in another order are copied: all may fail.
    const auto large_q = gaussians<float, 4>({1, 1, 300, 64}, 5);
    const auto large_k = gaussians<float, 4>({1, 1, 5000, 64}, 6);
    auto out = dense<float, 4>::from_shape({1, 1, 300, 64});
    CHECK(check_output(out, [&](auto& target) { sd::attention_into(target, large_q, large_k, large_k); }) >= 1);

    auto small = dense<float, 4>::from_shape({2, 4, 40, 20});
    CHECK(check_output(small, [&](auto& target) { sd::attention_into(target, q * 1.0f, k + 0.0f, v); }) >= 2);
    auto wide = dense<float, 4>::from_shape({2, 4, 40, 40});
    CHECK(check_output(wide, [&](auto& target) {
              auto every_other = xt::view(target, xt::all(), xt::all(), xt::all(), xt::range(0, 40, 2));
              sd::attention_into(every_other, q, k, v);
          }) >= 1);

    auto lse = dense<float, 3>::from_shape({2, 4, 40});
    auto output = dense<float, 4>::from_shape({2, 4, 40, 20});
    check_output(lse, [&](auto& target) { sd::attention_with_lse_into(output, target, q * 1.0f, k, v); });
}

TEST_CASE("without memory: what returns containers returns none, and leaks nothing")
{
    CHECK(check_result([] { sd::attention(q, k, v); }) >= 1);
    CHECK(check_result([] { sd::attention_with_lse(q, k, v); }) >= 2);
    CHECK(check_result([] { sd::attention_with_diagnostics(q, k, v); }) >= 12);
    CHECK(check_result([] { sd::attention_scores(q, k, sd::score_stage::probabilities); }) >= 1);
    CHECK(check_result([] { sd::key_mass(q, k); }) >= 2);
    CHECK(check_result([] { sd::softmax_diagnostics(x); }) >= 11);
    const auto part = sd::attention_with_lse(q, k, v);
    CHECK(check_result([&] { sd::merge(part, part); }) >= 2);
    CHECK(check_result([] { sd::layer_norm_with_statistics(x); }) >= 3);
    CHECK(check_result([] { sd::quantiles(x, {0.1, 0.5}); }) >= 2);
}

TEST_CASE("without memory: row operations leave their output alone")
{
    auto out = dense<float, 3>::from_shape({3, 50, 70});
    for (const std::ptrdiff_t axis : {-1, 0, 1}) {
        check_output(out, [&](auto& target) { sd::softmax_into(target, x * 1.0f, {.axis = axis}); });
        check_output(out, [&](auto& target) { sd::log_softmax_into(target, x * 1.0f, {.axis = axis}); });
    }
    CHECK(check_output(out, [&](auto& target) { sd::layer_norm_into(target, x * 1.0f); }) >= 1);
    CHECK(check_output(out, [&](auto& target) { sd::rms_norm_into(target, x * 1.0f); }) >= 1);
    auto sums = dense<float, 2>::from_shape({3, 50});
    CHECK(check_output(sums, [&](auto& target) { sd::logsumexp_into(target, x * 1.0f); }) >= 1);
}
