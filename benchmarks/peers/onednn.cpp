// SPDX-License-Identifier: BSD-3-Clause
// oneDNN by blocks of 128 query rows, skipping keys that a block can't see, in two forms: its matmul, softmax and
// matmul; its matmuls around our exponentials, which spare one pass over the scores. Small heads go in one batched
// call.
#include "by_rows.hpp"

#include <oneapi/dnnl/dnnl.hpp>

#include <array>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>

namespace scaledot_benchmark {
namespace {

using dims = dnnl::memory::dims;
using tag = dnnl::memory::format_tag;

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

dnnl::memory::desc matrices(const row_block& b, std::size_t rows, std::size_t columns, tag order)
{
    const auto dimension = [](std::size_t n) { return static_cast<dnnl::memory::dim>(n); };
    return {dims{dimension(b.heads), dimension(rows), dimension(columns)}, dnnl::memory::data_type::f32, order};
}

call matrix_product(const dnnl::memory::desc& a, const dnnl::memory::desc& b, const dnnl::memory::desc& c, float scale)
{
    dnnl::primitive_attr attributes;
    attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    if (scale != 1.0f) {
        dnnl::post_ops scaling;
        scaling.append_eltwise(dnnl::algorithm::eltwise_linear, scale, 0.0f);
        attributes.set_post_ops(scaling);
    }
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

/// The calls for one size of block. Keys are the product's second matrix transposed, in place.
struct block_calls {
    explicit block_calls(const row_block& b)
        : scores(matrix_product(matrices(b, b.rows, b.size, tag::abc), matrices(b, b.size, b.keys, tag::acb),
                                matrices(b, b.rows, b.keys, tag::abc), scale_of(b))),
          softmax(softmax_of(matrices(b, b.rows, b.keys, tag::abc))),
          output(matrix_product(matrices(b, b.rows, b.keys, tag::abc), matrices(b, b.keys, b.size, tag::abc),
                                matrices(b, b.rows, b.size, tag::abc), 1.0f))
    {
    }

    call scores, softmax, output;
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

    void scores(const row_block& b) { calls(b).scores(b.q, b.k, b.scores); }
    void output(const row_block& b) { calls(b).output(b.scores, b.v, b.out); }

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
    void softmax(const row_block& b) { calls(b).softmax(b.scores, nullptr, b.scores); }
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
