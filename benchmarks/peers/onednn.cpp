// SPDX-License-Identifier: BSD-3-Clause
// oneDNN by blocks of 128 query rows, skipping keys that a block can't see, in two forms: its matmul, softmax and
// matmul; its matmuls around our exponentials, which spare one pass over the scores. Small heads go in one batched
// call.
#include "by_rows.hpp"

#include <oneapi/dnnl/dnnl.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace scaledot_benchmark {
namespace {

using dims = dnnl::memory::dims;

const dnnl::engine& cpu()
{
    static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
    return engine;
}

/// A primitive with its memory objects for one thread, so that a call only sets pointers.
class call {
public:
    template <class Primitive>
    call(const typename Primitive::primitive_desc& description, Primitive primitive, std::array<int, 3> arguments,
         std::array<dnnl::memory::desc, 3> memories)
        : primitive_(std::move(primitive)), stream_(cpu())
    {
        for (std::size_t i = 0; i < arguments.size(); ++i) {
            if (arguments[i] != 0) {
                memories_[i] = dnnl::memory(memories[i], cpu(), nullptr);
                arguments_.emplace(arguments[i], memories_[i]);
            }
        }
        arguments_.emplace(DNNL_ARG_SCRATCHPAD, dnnl::memory(description.scratchpad_desc(), cpu()));
    }

    void operator()(const float* source, const float* weights, float* destination)
    {
        // oneDNN takes pointers to non-const also to what it only reads.
        memories_[0].set_data_handle(const_cast<float*>(source));
        if (weights) {
            memories_[1].set_data_handle(const_cast<float*>(weights));
        }
        memories_[2].set_data_handle(destination);
        primitive_.execute(stream_, arguments_);
    }

private:
    dnnl::primitive primitive_;
    dnnl::stream stream_;
    std::array<dnnl::memory, 3> memories_;
    std::unordered_map<int, dnnl::memory> arguments_;
};

dnnl::memory::dim extent(std::size_t n)
{
    return static_cast<dnnl::memory::dim>(n);
}

/// One matrix a head, its rows `stride` numbers apart, without gaps between the heads.
dnnl::memory::desc matrices(const row_block& b, std::size_t rows, std::size_t columns, std::size_t stride)
{
    return {dims{extent(b.heads), extent(rows), extent(columns)}, dnnl::memory::data_type::f32,
            dims{extent(rows * stride), extent(stride), 1}};
}

dnnl::memory::desc matrices(const row_block& b, std::size_t rows, std::size_t columns)
{
    return matrices(b, rows, columns, columns);
}

/// Keys as a matrix of columns.
dnnl::memory::desc transposed(const row_block& b, std::size_t keys)
{
    return {dims{extent(b.heads), extent(b.size), extent(keys)}, dnnl::memory::data_type::f32,
            dims{extent(keys * b.size), 1, extent(b.size)}};
}

/// c = scale a b + keep c
call matrix_product(const dnnl::memory::desc& a, const dnnl::memory::desc& b, const dnnl::memory::desc& c, float scale,
                    float keep)
{
    dnnl::post_ops steps;
    if (scale != 1.0f) {
        steps.append_eltwise(dnnl::algorithm::eltwise_linear, scale, 0.0f);
    }
    if (keep != 0.0f) {
        steps.append_sum(keep);
    }
    dnnl::primitive_attr attributes;
    attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    attributes.set_post_ops(steps);
    const dnnl::matmul::primitive_desc description(cpu(), a, b, c, attributes);
    return {description, dnnl::matmul(description), {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST}, {a, b, c}};
}

call softmax_of(const dnnl::memory::desc& scores)
{
    dnnl::primitive_attr attributes;
    attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    const dnnl::softmax_forward::primitive_desc description(
        cpu(), dnnl::prop_kind::forward_inference, dnnl::algorithm::softmax_accurate, scores, scores, 2, attributes);
    return {description, dnnl::softmax_forward(description), {DNNL_ARG_SRC, 0, DNNL_ARG_DST}, {scores, {}, scores}};
}

/// The calls for one size of block, the keys as they lie. With few rows a product takes longer to pack keys and values
/// than to multiply them, and does both best in the caches: 1024 at a time.
class block_calls {
public:
    explicit block_calls(const row_block& b)
        : scored_together_(decoding(b) ? together : b.keys),
          summed_together_(decoding(b) && b.rows == 1 ? together : b.keys),
          scores_(matrix_product(matrices(b, b.rows, b.size), transposed(b, scored_together_),
                                 matrices(b, b.rows, scored_together_, b.keys), scale_of(b), 0.0f)),
          softmax_(softmax_of(matrices(b, b.rows, b.keys))),
          output_(matrix_product(matrices(b, b.rows, summed_together_, b.keys), matrices(b, summed_together_, b.size),
                                 matrices(b, b.rows, b.size), 1.0f, summed_together_ < b.keys ? 1.0f : 0.0f))
    {
    }

    void scores(const row_block& b)
    {
        for (std::size_t j = 0; j < b.keys; j += scored_together_) {
            scores_(b.q, b.k + j * b.size, b.scores + j);
        }
    }

    void softmax(const row_block& b) { softmax_(b.scores, nullptr, b.scores); }

    void output(const row_block& b)
    {
        if (summed_together_ < b.keys) {
            std::fill(b.out, b.out + b.rows * b.size, 0.0f);
        }
        for (std::size_t j = 0; j < b.keys; j += summed_together_) {
            output_(b.scores + j, b.v + j * b.size, b.out);
        }
    }

private:
    static constexpr std::size_t together = 1024;
    static bool decoding(const row_block& b) { return b.heads == 1 && b.rows <= 16 && b.keys % together == 0; }

    std::size_t scored_together_, summed_together_;
    call scores_, softmax_, output_;
};

class onednn_product {
public:
    onednn_product(const attention_problem& problem, int threads)
    {
        // Each block is one thread's work: its primitives are planned for one.
        omp_set_num_threads(1);
        const row_blocks blocks(problem, threads);
        calls_.resize(static_cast<std::size_t>(threads));
        for (auto& calls : calls_) {
            for (std::size_t task = 0; task < blocks.tasks(); ++task) {
                const row_block block = blocks.block(task, nullptr, nullptr).first;
                if (!calls.contains(key_of(block))) {
                    calls.emplace(key_of(block), block_calls(block));
                }
            }
        }
        omp_set_num_threads(threads);
    }

    void scores(const row_block& b) { calls(b).scores(b); }
    void output(const row_block& b) { calls(b).output(b); }

protected:
    block_calls& calls(const row_block& b)
    {
        return calls_[static_cast<std::size_t>(omp_get_thread_num())].at(key_of(b));
    }

private:
    using key = std::array<std::size_t, 3>;
    static key key_of(const row_block& b) { return {b.heads, b.rows, b.keys}; }

    std::vector<std::map<key, block_calls>> calls_;
};

class onednn_product_and_softmax : public onednn_product {
public:
    using onednn_product::onednn_product;
    void softmax(const row_block& b) { calls(b).softmax(b); }
};

template <class Product>
class onednn final : public contender {
public:
    explicit onednn(std::string name) : name_(std::move(name)) {}

    std::string name() const override { return name_; }

    std::string description() const override
    {
        const dnnl_version_t* version = dnnl_version();
        return "oneDNN " + std::to_string(version->major) + "." + std::to_string(version->minor) + "." +
               std::to_string(version->patch) + ", instruction set " +
               std::to_string(static_cast<int>(dnnl::get_effective_cpu_isa()));
    }

    std::unique_ptr<prepared_attention> prepare(const attention_problem& problem, int threads) override
    {
        return std::make_unique<attention_by_rows<Product>>(problem, threads, problem, threads);
    }

private:
    std::string name_;
};

const register_peer<onednn<onednn_product_and_softmax>> registered_whole("onednn");
const register_peer<onednn<onednn_product>> registered_products("onednn_products");

} // namespace
} // namespace scaledot_benchmark
