// SPDX-License-Identifier: BSD-3-Clause
// What the machine can do at best in this very run: multiply-adds, bytes read, bytes copied a second. Benchmarks put it
// beside their figures, since clocks and neighbours change from run to run.
#pragma once

#include "clock.hpp"

#include <scaledot/kernel/shuffle.hpp>
#include <scaledot/kernel/simd.hpp>
#include <scaledot/kernel/unroll.hpp>

#include <benchmark/benchmark.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <limits>
#include <vector>

#if defined(_OPENMP)
#include <omp.h>
#endif

namespace scaledot_benchmark {

template <class Work>
double best_seconds(Work&& work, int repetitions)
{
    double best = std::numeric_limits<double>::infinity();
    for (int i = 0; i < repetitions; ++i) {
        const double begin = now();
        work();
        best = std::min(best, now() - begin);
    }
    return best;
}

/// Calls work(thread) on that many threads at once; returns when all have.
template <class Work>
void on_threads(int threads, Work&& work)
{
#if defined(_OPENMP)
#pragma omp parallel num_threads(threads)
    work(static_cast<std::size_t>(omp_get_thread_num()));
#else
    for (int thread = 0; thread < threads; ++thread) {
        work(static_cast<std::size_t>(thread));
    }
#endif
}

/// Floating-point operations a second in T of that many cores together: twelve independent chains of multiply-adds in
/// registers on each.
template <class T>
double peak_flops(int threads = 1)
{
    using namespace scaledot;
    using vector = kernel::batch<native_architecture, T>;
    constexpr std::size_t chains = 12;
    constexpr std::size_t steps = 1'000'000;
    const auto multiply_adds = [](std::size_t) {
        const vector factor(static_cast<T>(0.999));
        const vector term(static_cast<T>(0.001));
        std::array<vector, chains> sums;
        kernel::unroll<chains>([&](auto c) { sums[c] = kernel::barrier(vector(1)); });
        for (std::size_t i = 0; i < steps; ++i) {
            kernel::unroll<chains>([&](auto c) { sums[c] = kernel::multiply_add(factor, sums[c], term); });
        }
        vector total(0);
        kernel::unroll<chains>([&](auto c) { total = total + sums[c]; });
        benchmark::DoNotOptimize(kernel::sum_of_lanes(total));
    };
    const double seconds = best_seconds([&] { on_threads(threads, multiply_adds); }, 5);
    return 2.0 * static_cast<double>(chains * vector::size * steps) * threads / seconds;
}

/// Bytes a second that so many cores together read from memory: vector loads of 256 MiB, eight accumulators, shared out
/// in contiguous parts.
inline double read_rate(int threads = 1)
{
    using namespace scaledot;
    using vector = kernel::batch<native_architecture, float>;
    constexpr std::size_t accumulators = 8;
    constexpr std::size_t step = accumulators * vector::size;
    static const std::vector<float, xsimd::aligned_allocator<float, 64>> numbers(
        (std::size_t{256} << 20) / sizeof(float), 1.0f);
    const std::size_t steps = numbers.size() / step;
    const auto sum_part = [&](std::size_t thread) {
        const std::size_t parts = static_cast<std::size_t>(threads);
        std::array<vector, accumulators> sums;
        kernel::unroll<accumulators>([&](auto c) { sums[c] = vector(0); });
        for (std::size_t i = steps * thread / parts; i < steps * (thread + 1) / parts; ++i) {
            const float* source = numbers.data() + i * step;
            kernel::unroll<accumulators>(
                [&](auto c) { sums[c] = sums[c] + vector::load_aligned(source + c * vector::size); });
        }
        vector total(0);
        kernel::unroll<accumulators>([&](auto c) { total = total + sums[c]; });
        benchmark::DoNotOptimize(kernel::sum_of_lanes(total));
    };
    const double seconds = best_seconds([&] { on_threads(threads, sum_part); }, 3);
    return static_cast<double>(numbers.size() * sizeof(float)) / seconds;
}

/// Seconds that memcpy of so many bytes takes on one core, from one array to another that both have been used: the
/// median of some calls, of several copies each where they are short.
inline double copy_seconds(std::size_t bytes)
{
    static std::vector<char> source;
    static std::vector<char> target;
    if (source.size() < bytes) {
        source.resize(bytes, 1);
        target.resize(bytes, 2);
    }
    constexpr std::size_t calls = 5;
    const std::size_t copies = std::max<std::size_t>((std::size_t{4} << 20) / bytes, 1);
    std::array<double, calls> seconds;
    for (double& each : seconds) {
        const double begin = now();
        for (std::size_t i = 0; i < copies; ++i) {
            std::memcpy(target.data(), source.data(), bytes);
            benchmark::DoNotOptimize(target.data());
            benchmark::ClobberMemory();
        }
        each = (now() - begin) / static_cast<double>(copies);
    }
    std::nth_element(seconds.begin(), seconds.begin() + calls / 2, seconds.end());
    return seconds[calls / 2];
}

} // namespace scaledot_benchmark
