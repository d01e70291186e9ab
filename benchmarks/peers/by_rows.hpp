// SPDX-License-Identifier: BSD-3-Clause
// The strongest hand-made form of the three textbook steps around someone else's matrix product: per 128 query rows
// scores = scale Q K^T, weights = exp(scores - maximum), output = weights V, rows divided by their sum at the end. Keys
// that a block of rows can't see are not multiplied; a decoding group's queries are the rows of one block; blocks are
// shared among threads, each product runs on one.
#pragma once

#include "peer.hpp"

#include <scaledot/kernel/exp.hpp>
#include <scaledot/kernel/partial_vectors.hpp>
#include <scaledot/kernel/shuffle.hpp>
#include <scaledot/kernel/simd.hpp>

#include <omp.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <utility>
#include <vector>

namespace scaledot_benchmark {

/// A block of query rows of one head and the keys it sees; or several small heads whole. Rows are contiguous and follow
/// one another, heads as well.
template <class Element>
struct block_of {
    std::size_t heads;
    std::size_t rows;
    std::size_t keys; ///< visible to the last row
    std::size_t size;
    const Element* q; ///< [heads, rows, size]
    const Element* k; ///< [heads, keys, size]
    const Element* v; ///< [heads, keys, size]
    float* scores;    ///< [heads, rows, keys]
    float* out;       ///< [heads, rows, size]

    /// A row's weights lie where its scores lay.
    Element* weights() const { return reinterpret_cast<Element*>(scores); }
    std::size_t weight_stride() const { return keys * (sizeof(float) / sizeof(Element)); }
};
using row_block = block_of<float>;

/// Replaces scores by exp(score - maximum) as Element, returns their sum; those from `visible` on become 0.
template <class Element>
float exponentiate_row(float* scores, std::size_t visible, std::size_t keys)
{
    using arch = scaledot::native_architecture;
    using vector = scaledot::kernel::batch<arch, float>;
    constexpr std::size_t lanes = vector::size;
    namespace kernel = scaledot::kernel;
    const auto load = [&](std::size_t j) {
        return j + lanes <= visible
                   ? vector::load_unaligned(scores + j)
                   : kernel::load_partial<arch, float>(scores + j, visible - j, kernel::negative_infinity<float>);
    };
    vector maximum_0(kernel::negative_infinity<float>);
    vector maximum_1 = maximum_0;
    std::size_t j = 0;
    for (; j + 2 * lanes <= visible; j += 2 * lanes) {
        maximum_0 = kernel::larger(maximum_0, vector::load_unaligned(scores + j));
        maximum_1 = kernel::larger(maximum_1, vector::load_unaligned(scores + j + lanes));
    }
    for (; j < visible; j += lanes) {
        maximum_0 = kernel::larger(maximum_0, load(j));
    }
    const vector maximum(kernel::largest_lane(kernel::larger(maximum_0, maximum_1)));
    vector sum(0);
    j = 0;
    auto* const weights = reinterpret_cast<Element*>(scores);
    for (; j + lanes <= visible; j += lanes) {
        const vector weight = kernel::exp_negative(vector(vector::load_unaligned(scores + j) - maximum));
        kernel::store_vector<arch, float>(weights + j, weight);
        sum = sum + weight;
    }
    if (j < visible) {
        const vector weight = kernel::exp_negative(vector(load(j) - maximum));
        kernel::store_partial<arch, float>(weights + j, visible - j, weight);
        sum = sum + weight;
    }
    std::fill(weights + visible, weights + keys, Element(0.0f));
    return kernel::sum_of_lanes(sum);
}

/// How a problem is cut into row blocks.
template <class Element>
class row_blocks {
public:
    static constexpr std::size_t rows_per_block = 128;

    row_blocks(const problem_of<Element>& problem, int threads) : problem_(problem)
    {
        const attention_shape& s = problem.shape;
        // The queries of a decoding group read the same keys: they are the rows of one block.
        const bool decoding = s.queries == 1;
        heads_ = s.batch * (decoding ? s.key_heads : s.heads);
        queries_ = decoding ? s.group() : s.queries;
        group_ = decoding ? 1 : s.group();
        blocks_ = (queries_ + rows_per_block - 1) / rows_per_block;
        constexpr std::size_t small_head = 128 * 128;
        if (queries_ * s.keys <= small_head && group_ == 1 && !s.causal) {
            constexpr std::size_t scores_in_cache = 65536;
            const std::size_t share = std::max<std::size_t>(heads_ / static_cast<std::size_t>(threads), 1);
            heads_together_ = std::clamp<std::size_t>(scores_in_cache / (queries_ * s.keys), 1, share);
        }
    }

    std::size_t tasks() const { return (heads_ + heads_together_ - 1) / heads_together_ * blocks_; }
    std::size_t largest_scores() const
    {
        return heads_together_ * std::min(rows_per_block, queries_) * problem_.shape.keys;
    }

    /// The block of a task, and its first row.
    std::pair<block_of<Element>, std::size_t> block(std::size_t task, float* scores, float* out) const
    {
        const attention_shape& s = problem_.shape;
        const std::size_t head = task / blocks_ * heads_together_;
        // The longest causal blocks first, so that none is left over at the end.
        const std::size_t first = (blocks_ - 1 - task % blocks_) * rows_per_block;
        const std::size_t rows = std::min(rows_per_block, queries_ - first);
        const std::size_t keys_at = head / group_ * s.keys * s.size;
        const std::size_t rows_at = (head * queries_ + first) * s.size;
        return {{std::min(heads_together_, heads_ - head), rows, s.causal ? first + rows : s.keys, s.size,
                 problem_.q + rows_at, problem_.k + keys_at, problem_.v + keys_at, scores, out + rows_at},
                first};
    }

private:
    problem_of<Element> problem_;
    std::size_t heads_, queries_, group_, blocks_;
    std::size_t heads_together_ = 1;
};

/// Attention by row blocks, to floats. Product has
///     void scores(const block_of<Element>&)   scores = q k^T / sqrt(size)
///     void output(const block_of<Element>&)   out = weights v
/// and, if it does not leave the exponentials to us,
///     void softmax(const block_of<Element>&)
/// all callable from several threads at once.
template <class Product, class Element = float>
class attention_by_rows : public prepared_attention {
public:
    template <class... Arguments>
    attention_by_rows(const problem_of<Element>& problem, int threads, Arguments&&... arguments)
        : causal_(problem.shape.causal), threads_(threads), blocks_(problem, threads),
          product_(std::forward<Arguments>(arguments)...),
          scores_(blocks_.largest_scores() * static_cast<std::size_t>(threads)), out_(problem.shape.query_elements())
    {
    }

    double run(std::size_t times) override
    {
        return seconds_of(times, [&] { compute(); });
    }

    void copy_output(float* out) override { std::copy(out_.begin(), out_.end(), out); }

private:
    void compute()
    {
        const auto tasks = static_cast<std::ptrdiff_t>(blocks_.tasks());
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads_)
        for (std::ptrdiff_t task = 0; task < tasks; ++task) {
            const auto thread = static_cast<std::size_t>(omp_get_thread_num());
            const auto [block, first] = blocks_.block(static_cast<std::size_t>(task),
                                                      scores_.data() + thread * blocks_.largest_scores(), out_.data());
            attend(block, first);
        }
    }

    void attend(const block_of<Element>& block, std::size_t first)
    {
        const std::size_t rows = block.heads * block.rows;
        const auto visible = [&](std::size_t row) { return causal_ ? first + row + 1 : block.keys; };
        product_.scores(block);
        if constexpr (requires { product_.softmax(block); }) {
            for (std::size_t i = 0; i < rows; ++i) {
                std::fill(block.scores + i * block.keys + visible(i), block.scores + (i + 1) * block.keys,
                          -std::numeric_limits<float>::infinity());
            }
            product_.softmax(block);
            product_.output(block);
        } else {
            thread_local std::vector<float> factors;
            factors.resize(rows);
            for (std::size_t i = 0; i < rows; ++i) {
                factors[i] = 1.0f / exponentiate_row<Element>(block.scores + i * block.keys, visible(i), block.keys);
            }
            product_.output(block);
            for (std::size_t i = 0; i < rows; ++i) {
                for (std::size_t c = 0; c < block.size; ++c) {
                    block.out[i * block.size + c] *= factors[i];
                }
            }
        }
    }

    bool causal_;
    int threads_;
    row_blocks<Element> blocks_;
    Product product_;
    aligned_floats scores_;
    aligned_floats out_;
};

/// scale of the scores
template <class Element>
float scale_of(const block_of<Element>& block)
{
    return 1.0f / std::sqrt(static_cast<float>(block.size));
}

} // namespace scaledot_benchmark
