// SPDX-License-Identifier: BSD-3-Clause
// oneDNN by blocks of 128 query rows, skipping keys that a block can't see, in two forms: its matmul, softmax and
// matmul; its matmuls around our exponentials, which spare one pass over the scores, also with inputs and weights in
// bfloat16. Small heads go in one batched call.
#include "by_rows.hpp"

#include <oneapi/dnnl/dnnl.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <map>
#include <memory>
#include <string>
#include <type_traits>
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

    void operator()(const void* source, const void* weights, void* destination)
    {
        // oneDNN takes pointers to non-const also to what it only reads.
        memories_[0].set_data_handle(const_cast<void*>(source));
        if (weights) {
            memories_[1].set_data_handle(const_cast<void*>(weights));
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

template <class Element>
constexpr dnnl::memory::data_type type_of =
    std::is_same_v<Element, float> ? dnnl::memory::data_type::f32 : dnnl::memory::data_type::bf16;

/// One matrix a head, its rows `stride` numbers apart, without gaps between the heads.
template <class T>
dnnl::memory::desc matrices(std::size_t heads, std::size_t rows, std::size_t columns, std::size_t stride)
{
    return {dims{extent(heads), extent(rows), extent(columns)}, type_of<T>,
            dims{extent(rows * stride), extent(stride), 1}};
}

template <class T>
dnnl::memory::desc matrices(std::size_t heads, std::size_t rows, std::size_t columns)
{
    return matrices<T>(heads, rows, columns, columns);
}

/// Keys as a matrix of columns.
template <class Element>
dnnl::memory::desc transposed(const block_of<Element>& b, std::size_t keys)
{
    return {dims{extent(b.heads), extent(b.size), extent(keys)}, type_of<Element>,
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
template <class Element>
class product_calls {
public:
    explicit product_calls(const block_of<Element>& b)
        : scored_together_(decoding(b) ? together : b.keys),
          summed_together_(decoding(b) && b.rows == 1 ? together : b.keys),
          scores_(matrix_product(matrices<Element>(b.heads, b.rows, b.size), transposed(b, scored_together_),
                                 matrices<float>(b.heads, b.rows, scored_together_, b.keys), scale_of(b), 0.0f)),
          output_(matrix_product(matrices<Element>(b.heads, b.rows, summed_together_, b.weight_stride()),
                                 matrices<Element>(b.heads, summed_together_, b.size),
                                 matrices<float>(b.heads, b.rows, b.size), 1.0f,
                                 summed_together_ < b.keys ? 1.0f : 0.0f))
    {
    }

    void scores(const block_of<Element>& b)
    {
        for (std::size_t j = 0; j < b.keys; j += scored_together_) {
            scores_(b.q, b.k + j * b.size, b.scores + j);
        }
    }

    void output(const block_of<Element>& b)
    {
        if (summed_together_ < b.keys) {
            std::fill(b.out, b.out + b.rows * b.size, 0.0f);
        }
        for (std::size_t j = 0; j < b.keys; j += summed_together_) {
            output_(b.weights() + j, b.v + j * b.size, b.out);
        }
    }

private:
    static constexpr std::size_t together = 1024;
    static bool decoding(const block_of<Element>& b) { return b.heads == 1 && b.rows <= 16 && b.keys % together == 0; }

    std::size_t scored_together_, summed_together_;
    call scores_, output_;
};

class all_calls : public product_calls<float> {
public:
    explicit all_calls(const row_block& b)
        : product_calls(b), softmax_(softmax_of(matrices<float>(b.heads, b.rows, b.keys)))
    {
    }

    void softmax(const row_block& b) { softmax_(b.scores, nullptr, b.scores); }

private:
    call softmax_;
};

/// Calls for every size of block that a problem has.
template <class Calls, class Element>
class onednn_steps {
public:
    onednn_steps(const problem_of<Element>& problem, int threads)
    {
        // Each block is one thread's work: its primitives are planned for one.
        omp_set_num_threads(1);
        const row_blocks<Element> blocks(problem, threads);
        calls_.resize(static_cast<std::size_t>(threads));
        for (auto& calls : calls_) {
            for (std::size_t task = 0; task < blocks.tasks(); ++task) {
                const block_of<Element> block = blocks.block(task, nullptr, nullptr).first;
                if (!calls.contains(key_of(block))) {
                    calls.emplace(key_of(block), Calls(block));
                }
            }
        }
        omp_set_num_threads(threads);
    }

    void scores(const block_of<Element>& b) { calls(b).scores(b); }
    void output(const block_of<Element>& b) { calls(b).output(b); }
    void softmax(const block_of<Element>& b)
        requires requires(Calls calls) { calls.softmax(b); }
    {
        calls(b).softmax(b);
    }

private:
    using key = std::array<std::size_t, 3>;
    static key key_of(const block_of<Element>& b) { return {b.heads, b.rows, b.keys}; }
    Calls& calls(const block_of<Element>& b)
    {
        return calls_[static_cast<std::size_t>(omp_get_thread_num())].at(key_of(b));
    }

    std::vector<std::map<key, Calls>> calls_;
};

template <class Calls, class Element>
using onednn_attention = attention_by_rows<onednn_steps<Calls, Element>, Element>;

/// Inputs in bfloat16, and attention of them.
class in_bfloat16 final : public prepared_attention {
    using element = scaledot::bfloat16;
    using elements = aligned_vector<element>;

public:
    in_bfloat16(const attention_problem& problem, int threads)
        : q_(rounded(problem.q, problem.shape.query_elements())), k_(rounded(problem.k, problem.shape.key_elements())),
          v_(rounded(problem.v, problem.shape.key_elements())),
          attention_(problem_of<element>{problem.shape, q_.data(), k_.data(), v_.data()}, threads,
                     problem_of<element>{problem.shape, q_.data(), k_.data(), v_.data()}, threads)
    {
    }

    double run(std::size_t times) override { return attention_.run(times); }
    void copy_output(float* out) override { attention_.copy_output(out); }

private:
    static elements rounded(const float* x, std::size_t count)
    {
        elements result(count);
        std::transform(x, x + count, result.begin(), [](float value) { return element(value); });
        return result;
    }

    elements q_, k_, v_;
    onednn_attention<product_calls<element>, element> attention_;
};

std::string version_and_instructions()
{
    const dnnl_version_t* version = dnnl_version();
    return "oneDNN " + std::to_string(version->major) + "." + std::to_string(version->minor) + "." +
           std::to_string(version->patch) + ", instruction set " +
           std::to_string(static_cast<int>(dnnl::get_effective_cpu_isa()));
}

template <class Calls>
class onednn final : public contender {
public:
    explicit onednn(std::string name) : name_(std::move(name)) {}

    std::string name() const override { return name_; }
    std::string description() const override { return version_and_instructions(); }
    std::unique_ptr<prepared_attention> prepare(const attention_problem& problem, int threads) override
    {
        return std::make_unique<onednn_attention<Calls, float>>(problem, threads, problem, threads);
    }

private:
    std::string name_;
};

class bfloat16_onednn final : public contender {
public:
    std::string name() const override { return "onednn_products"; }
    std::string description() const override { return version_and_instructions(); }
    std::string type() const override { return "bfloat16"; }
    double tolerance() const override { return 1e-1; }
    std::size_t cache_element_size() const override { return sizeof(scaledot::bfloat16); }
    std::unique_ptr<prepared_attention> prepare(const attention_problem& problem, int threads) override
    {
        return std::make_unique<in_bfloat16>(problem, threads);
    }
};

const register_peer<onednn<all_calls>> registered_whole("onednn");
const register_peer<onednn<product_calls<float>>> registered_products("onednn_products");
const register_peer<bfloat16_onednn> registered_in_bfloat16;

} // namespace
} // namespace scaledot_benchmark
