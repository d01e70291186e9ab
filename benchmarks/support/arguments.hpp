// SPDX-License-Identifier: BSD-3-Clause
// Arguments of the benchmarks beside Google Benchmark's own: --threads N and --cpu-time.
#pragma once

#include "clock.hpp"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <iostream>
#include <string>
#include <string_view>
#include <utility>

#if defined(_OPENMP)
#include <omp.h>
#endif

namespace scaledot_benchmark {

/// Takes a flag out of the arguments; whether it was there.
inline bool take_flag(int& argc, char** argv, std::string_view flag)
{
    char** const end = std::remove_if(argv + 1, argv + argc, [&](const char* argument) { return argument == flag; });
    const int kept = static_cast<int>(end - argv);
    return kept != std::exchange(argc, kept);
}

/// Takes `name N` or `name=N` out of the arguments: a number from `least` on, which is `number` where it is not given.
inline int take_number(int& argc, char** argv, const std::string& name, int number, int least)
{
    int kept = 1;
    for (int i = 1; i < argc; ++i) {
        const std::string_view argument = argv[i];
        if (argument != name && !argument.starts_with(name + "=")) {
            argv[kept++] = argv[i];
            continue;
        }
        const std::string_view value = argument != name ? argument.substr(name.size() + 1)
                                       : i + 1 < argc   ? argv[++i]
                                                        : "";
        const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
        if (error != std::errc() || end != value.data() + value.size() || number < least) {
            std::cerr << name << " takes a number from " << least << " on\n";
            std::exit(2);
        }
    }
    argc = kept;
    return number;
}

inline void hold_to_threads(int threads)
{
#if defined(_OPENMP)
    omp_set_dynamic(0);
    omp_set_num_threads(threads);
#else
    if (threads != 1) {
        std::cerr << "built without OpenMP: one thread only\n";
        std::exit(2);
    }
#endif
}

/// Both, for what is measured from here on; the number of threads.
inline int take_threads_and_clock(int& argc, char** argv)
{
    const int threads = take_number(argc, argv, "--threads", 1, 1);
    hold_to_threads(threads);
    in_cpu_time() = take_flag(argc, argv, "--cpu-time");
    if (in_cpu_time() && threads != 1) {
        std::cerr << "--cpu-time is for one thread\n";
        std::exit(2);
    }
    return threads;
}

} // namespace scaledot_benchmark
