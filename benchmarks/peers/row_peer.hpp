// SPDX-License-Identifier: BSD-3-Clause
// What the benchmark of row operations asks of whoever computes them: ours and each peer in a file of its own beside
// this one. A peer registers itself; which files are compiled is CMake's choice, by what it finds.
#pragma once

#include "../support/clock.hpp"

#include <xsimd/xsimd.hpp>

#include <algorithm>
#include <cstddef>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace scaledot_benchmark {

/// How far from a cache line's beginning arrays begin, in bytes: 0, unless the command line asks to see what else
/// costs.
inline std::size_t& bytes_off_line()
{
    static std::size_t bytes = 0;
    return bytes;
}

/// Numbers that begin at a cache line, or bytes_off_line() after it, so that nobody loses to where malloc happened to
/// put an array.
template <class T>
class placed_numbers {
public:
    explicit placed_numbers(std::size_t count)
        : count_(count), memory_(count + line), first_(memory_.data() + bytes_off_line() / sizeof(T))
    {
    }
    placed_numbers(const float* numbers, std::size_t count) : placed_numbers(count)
    {
        std::transform(numbers, numbers + count, first_, [](float x) { return static_cast<T>(x); });
    }
    placed_numbers(const placed_numbers&) = delete;
    placed_numbers& operator=(const placed_numbers&) = delete;

    T* data() const { return first_; }
    T* begin() const { return first_; }
    T* end() const { return first_ + count_; }

private:
    static constexpr std::size_t line = 64 / sizeof(T);
    std::size_t count_;
    std::vector<T, xsimd::aligned_allocator<T, 64>> memory_;
    T* first_;
};

enum class row_operation { softmax, log_softmax, logsumexp, layer_norm, rms_norm };
enum class row_type { float32, float64, bfloat16 };

struct row_case {
    row_operation operation;
    row_type type;
    std::size_t rows, columns;
    std::size_t axis; ///< 1: along the columns; 0: down the rows, of softmax only

    std::size_t outputs() const { return operation == row_operation::logsumexp ? rows : rows * columns; }
    bool is_norm() const { return operation == row_operation::layer_norm || operation == row_operation::rms_norm; }
};

/// The norms' epsilon.
inline constexpr double row_epsilon = 1e-5;

/// Contiguous numbers that the case's type holds exactly; gamma and beta have as many as there are columns.
struct row_problem {
    row_case what;
    const float* x;
    const float* gamma;
    const float* beta;
};

/// One problem with all that a contender may prepare before the clock runs.
class prepared_rows {
public:
    virtual ~prepared_rows() = default;
    /// Computes it that many times; the seconds it took in all.
    virtual double run(std::size_t times) = 0;
    /// The last result.
    virtual void copy_output(double* out) = 0;
};

class row_contender {
public:
    virtual ~row_contender() = default;
    /// The last part of a benchmark's name.
    virtual std::string name() const = 0;
    /// Version, and what else tells which code runs: for the report.
    virtual std::string description() const = 0;
    virtual bool supports(const row_case&) const = 0;
    virtual std::unique_ptr<prepared_rows> prepare(const row_problem& problem, int threads) = 0;
};

/// All peers of this build.
inline std::vector<std::unique_ptr<row_contender>>& row_peers()
{
    static std::vector<std::unique_ptr<row_contender>> all;
    return all;
}

template <class Peer>
struct register_row_peer {
    template <class... Arguments>
    explicit register_row_peer(Arguments&&... arguments)
    {
        row_peers().push_back(std::make_unique<Peer>(std::forward<Arguments>(arguments)...));
    }
};

/// A computation in this process from arrays of T to an array of T: compute(y, x, gamma, beta).
template <class T, class Compute>
class prepared_in_process final : public prepared_rows {
public:
    prepared_in_process(const row_problem& problem, Compute compute)
        : x_(problem.x, problem.what.rows * problem.what.columns), gamma_(problem.gamma, problem.what.columns),
          beta_(problem.beta, problem.what.columns), y_(problem.what.outputs()), compute_(std::move(compute))
    {
    }

    double run(std::size_t times) override
    {
        const double begin = now();
        for (std::size_t i = 0; i < times; ++i) {
            compute_(y_.data(), x_.data(), gamma_.data(), beta_.data());
            asm volatile("" : : "r"(y_.data()) : "memory");
        }
        return now() - begin;
    }

    void copy_output(double* out) override
    {
        for (const T& y : y_) {
            if constexpr (sizeof(T) == sizeof(double)) {
                *out++ = y;
            } else {
                *out++ = static_cast<double>(static_cast<float>(y));
            }
        }
    }

private:
    placed_numbers<T> x_, gamma_, beta_, y_;
    Compute compute_;
};

template <class T, class Compute>
std::unique_ptr<prepared_rows> in_process(const row_problem& problem, Compute compute)
{
    return std::make_unique<prepared_in_process<T, Compute>>(problem, std::move(compute));
}

} // namespace scaledot_benchmark
