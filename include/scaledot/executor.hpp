// SPDX-License-Identifier: BSD-3-Clause
// Who runs the library's parallel work: OpenMP when the compiler has it, the calling thread otherwise, or the caller's
// own thread pool for the lifetime of an executor_scope.
#ifndef SCALEDOT_EXECUTOR_HPP
#define SCALEDOT_EXECUTOR_HPP

#include <scaledot/detail/config.hpp>
#include <scaledot/detail/function_ref.hpp>

#include <algorithm>
#include <cstddef>

#if defined(_OPENMP)
#include <omp.h>
#endif

namespace scaledot::inline SCALEDOT_BUILD {

/// A source of threads: derive from it to run the library's work on a pool of your own. Results do not depend on it:
/// they are bit-identical for any number of threads.
class executor {
public:
    virtual ~executor() = default;

    /// The number of tasks that can make progress at once; work is cut into at most that many.
    virtual std::size_t concurrency() const = 0;

    /// Calls task(context, i) once for each i in [0, tasks), in any order and on any threads, and returns when all
    /// calls have returned. Tasks never throw.
    virtual void run(std::size_t tasks, void (*task)(void* context, std::size_t index), void* context) = 0;
};

namespace detail {

inline executor*& current_executor()
{
    thread_local executor* current = nullptr;
    return current;
}

inline std::size_t available_threads()
{
    if (const executor* custom = current_executor()) {
        return std::max<std::size_t>(custom->concurrency(), 1);
    }
#if defined(_OPENMP)
    return omp_in_parallel() ? 1 : static_cast<std::size_t>(std::max(omp_get_max_threads(), 1));
#else
    return 1;
#endif
}

/// Calls part(i) for i in [0, parts) on the current executor. `part` must not throw.
inline void run_parts(std::size_t parts, function_ref<void(std::size_t)> part)
{
    if (parts <= 1) {
        if (parts == 1) {
            part(std::size_t{0});
        }
        return;
    }
    if (executor* custom = current_executor()) {
        custom->run(
            parts, [](void* context, std::size_t index) { (*static_cast<decltype(part)*>(context))(index); }, &part);
        return;
    }
#if defined(_OPENMP)
// On all threads, also where parts are fewer: libgomp ends the threads that a smaller team leaves over, and starts them
// again for the next larger one.
#pragma omp parallel for schedule(static, 1)
    for (std::ptrdiff_t i = 0; i < static_cast<std::ptrdiff_t>(parts); ++i) {
        part(static_cast<std::size_t>(i));
    }
#else
    for (std::size_t i = 0; i < parts; ++i) {
        part(i);
    }
#endif
}

/// How many parts `items` units of work are cut into: as many as there are threads, but none smaller than
/// `operations_per_part` operations (a few microseconds), below which a thread costs more than it brings.
inline std::size_t part_count(std::size_t items, double operations_per_item)
{
    constexpr double operations_per_part = 65536;
    const double worthwhile = static_cast<double>(items) * operations_per_item / operations_per_part;
    if (items <= 1 || worthwhile < 2) {
        return items == 0 ? 0 : 1;
    }
    const std::size_t threads = std::min(items, available_threads());
    return worthwhile < static_cast<double>(threads) ? static_cast<std::size_t>(worthwhile) : threads;
}

struct index_range {
    std::size_t begin;
    std::size_t end;
};

/// What part `part` has of a static partition of [0, items) into contiguous ranges.
inline index_range range_of_part(std::size_t items, std::size_t parts, std::size_t part)
{
    const std::size_t share = items / parts;
    const std::size_t longer = items % parts;
    const std::size_t begin = part * share + std::min(part, longer);
    return {begin, begin + share + (part < longer ? 1 : 0)};
}

} // namespace detail

/// Makes `pool` the executor of every scaledot call on this thread until the scope ends. Scopes nest.
class executor_scope {
public:
    /// @param pool  must outlive the scope
    explicit executor_scope(executor& pool) : previous_(detail::current_executor())
    {
        detail::current_executor() = &pool;
    }
    ~executor_scope() { detail::current_executor() = previous_; }
    executor_scope(const executor_scope&) = delete;
    executor_scope& operator=(const executor_scope&) = delete;

private:
    executor* previous_;
};

} // namespace scaledot::inline SCALEDOT_BUILD

#endif
