// SPDX-License-Identifier: BSD-3-Clause
// What the machine can do at best in this very run: multiply-adds a second, bytes copied a second. Benchmarks put it
// beside their figures, since clocks and neighbours change from run to run.
#pragma once

#include <scaledot/kernel/simd.hpp>
#include <scaledot/kernel/unroll.hpp>

#include <benchmark/benchmark.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <limits>
#include <vector>

namespace scaledot_benchmark {

template <class Work>
double best_seconds(Work&& work, int repetitions)
{
    double best = std::numeric_limits<double>::infinity();
    for (int i = 0; i < repetitions; ++i) {
        const auto begin = std::chrono::steady_clock::now();
        work();
        best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
    }
    return best;
}

/// Floating-point operations a second of one core in T: twelve independent chains of multiply-adds in registers.
template <class T>
double peak_flops()
{
    using namespace scaledot;
    using vector = kernel::batch<native_architecture, T>;
    constexpr std::size_t chains = 12;
    constexpr std::size_t steps = 2'000'000;
    const double seconds = best_seconds(
        [] {
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
        },
        5);
    return 2.0 * static_cast<double>(chains * vector::size * steps) / seconds;
}

/// Bytes a second that memcpy reads and writes together, on one core, for arrays of this many bytes each.
inline double copy_rate(std::size_t bytes)
{
    std::vector<char> source(bytes, 1);
    std::vector<char> target(bytes, 2);
    const double seconds = best_seconds([&] { std::memcpy(target.data(), source.data(), bytes); }, 10);
    return 2.0 * static_cast<double>(bytes) / seconds;
}

} // namespace scaledot_benchmark
