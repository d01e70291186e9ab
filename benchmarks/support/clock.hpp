// SPDX-License-Identifier: BSD-3-Clause
// The clock of the benchmarks: seconds that passed, or those that the calling thread computed.
#pragma once

#include <time.h>

namespace scaledot_benchmark {

/// Whether `now` counts the calling thread's own seconds: for one thread on a machine where others preempt it.
inline bool& in_cpu_time()
{
    static bool value = false;
    return value;
}

/// Seconds since some moment.
inline double now()
{
    timespec time{};
    clock_gettime(in_cpu_time() ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &time);
    return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

} // namespace scaledot_benchmark
