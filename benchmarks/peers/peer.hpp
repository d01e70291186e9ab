// SPDX-License-Identifier: BSD-3-Clause
// What the attention benchmark asks of whoever computes attention: ours and each peer in a file of its own beside this
// one. A peer registers itself; which files are compiled is CMake's choice, by what it finds.
#pragma once

#include "../support/clock.hpp"

#include <xsimd/xsimd.hpp>

#include <cstddef>
#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace scaledot_benchmark {

/// Aligned for any vector, so that nobody loses to where malloc happened to put an array.
template <class T>
using aligned_vector = std::vector<T, xsimd::aligned_allocator<T, 64>>;
using aligned_floats = aligned_vector<float>;

struct attention_shape {
    std::size_t batch, heads, key_heads, queries, keys, size;
    bool causal; ///< only where queries = keys

    std::size_t query_elements() const { return batch * heads * queries * size; }
    std::size_t key_elements() const { return batch * key_heads * keys * size; }
    std::size_t group() const { return heads / key_heads; }

    bool operator<(const attention_shape& other) const
    {
        const auto members = [](const attention_shape& s) {
            return std::tuple(s.batch, s.heads, s.key_heads, s.queries, s.keys, s.size, s.causal);
        };
        return members(*this) < members(other);
    }
};

/// Contiguous arrays in the order [batch, heads, length, size]; the scale is 1 / sqrt(size).
template <class Element>
struct problem_of {
    attention_shape shape;
    const Element* q;
    const Element* k;
    const Element* v;
};
using attention_problem = problem_of<float>;

/// One problem with all that a contender may prepare before the clock runs: its own layout of the inputs, its output,
/// working memory, generated code. What it does to keys and values on every call of its interface is timed.
class prepared_attention {
public:
    virtual ~prepared_attention() = default;
    /// Computes it that many times; the seconds it took in all.
    virtual double run(std::size_t times) = 0;
    /// Copies the last result to [batch, heads, queries, size].
    virtual void copy_output(float* out) = 0;
};

class contender {
public:
    virtual ~contender() = default;
    /// The last part of a benchmark's name.
    virtual std::string name() const = 0;
    /// Version, and what else tells which code runs: for the report.
    virtual std::string description() const = 0;
    /// Of queries, keys and values.
    virtual std::string type() const { return "float"; }
    virtual bool supports(const attention_shape&) const { return true; }
    /// Largest difference from our float result that counts as the same; values are of order 1.
    virtual double tolerance() const { return 2e-5; }
    /// Bytes of a number among the keys and values it reads.
    virtual std::size_t cache_element_size() const { return sizeof(float); }
    virtual std::unique_ptr<prepared_attention> prepare(const attention_problem& problem, int threads) = 0;
};

/// All peers of this build.
inline std::vector<std::unique_ptr<contender>>& peers()
{
    static std::vector<std::unique_ptr<contender>> all;
    return all;
}

template <class Peer>
struct register_peer {
    template <class... Arguments>
    explicit register_peer(Arguments&&... arguments)
    {
        peers().push_back(std::make_unique<Peer>(std::forward<Arguments>(arguments)...));
    }
};

/// A computation in this process, timed as a whole.
template <class Compute>
double seconds_of(std::size_t times, Compute&& compute)
{
    const double begin = now();
    for (std::size_t i = 0; i < times; ++i) {
        compute();
    }
    return now() - begin;
}

} // namespace scaledot_benchmark
