// SPDX-License-Identifier: BSD-3-Clause
// ggml's flash_attn_ext, from a build that the user points to: queries in float, keys and values in float or, as its
// models keep them, in half; causality through its mask of halves.
#include "peer.hpp"

#include <ggml-cpu.h>
#include <ggml.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace scaledot_benchmark {
namespace {

struct free_context {
    void operator()(ggml_context* context) const { ggml_free(context); }
};
struct free_threads {
    void operator()(ggml_threadpool* threads) const { ggml_threadpool_free(threads); }
};

class prepared_ggml final : public prepared_attention {
public:
    prepared_ggml(const attention_problem& problem, int threads, ggml_type cache_type) : shape_(problem.shape)
    {
        const attention_shape& s = shape_;
        ggml_cpu_init();
        const std::size_t mask_elements = s.causal ? s.queries * s.keys : 0;
        const std::size_t numbers = 2 * (s.query_elements() + s.key_elements()) + mask_elements;
        context_.reset(ggml_init({numbers * sizeof(float) + (std::size_t{1} << 20), nullptr, false}));

        ggml_tensor* q = tensor(problem.q, s.heads, s.queries, GGML_TYPE_F32);
        ggml_tensor* k = tensor(problem.k, s.key_heads, s.keys, cache_type);
        ggml_tensor* v = tensor(problem.v, s.key_heads, s.keys, cache_type);
        ggml_tensor* mask = s.causal ? causal_mask() : nullptr;
        out_ = ggml_flash_attn_ext(context_.get(), q, k, v, mask, 1.0f / std::sqrt(static_cast<float>(s.size)), 0, 0);
        graph_ = ggml_new_graph(context_.get());
        ggml_build_forward_expand(graph_, out_);

        ggml_threadpool_params parameters = ggml_threadpool_params_default(threads);
        threads_.reset(ggml_threadpool_new(&parameters));
        plan_ = ggml_graph_plan(graph_, threads, threads_.get());
        work_.resize(plan_.work_size);
        plan_.work_data = work_.data();
    }

    double run(std::size_t times) override
    {
        return seconds_of(times, [&] {
            if (ggml_graph_compute(graph_, &plan_) != GGML_STATUS_SUCCESS) {
                throw std::runtime_error("ggml_graph_compute failed");
            }
        });
    }

    /// Its result is [batch, queries, heads, size].
    void copy_output(float* out) override
    {
        const attention_shape& s = shape_;
        const float* from = ggml_get_data_f32(out_);
        for (std::size_t b = 0; b < s.batch; ++b) {
            for (std::size_t i = 0; i < s.queries; ++i) {
                for (std::size_t h = 0; h < s.heads; ++h) {
                    std::copy_n(from, s.size, out + ((b * s.heads + h) * s.queries + i) * s.size);
                    from += s.size;
                }
            }
        }
    }

private:
    ggml_tensor* tensor(const float* from, std::size_t heads, std::size_t length, ggml_type type)
    {
        const auto extent = [](std::size_t n) { return static_cast<std::int64_t>(n); };
        ggml_tensor* to = ggml_new_tensor_4d(context_.get(), type, extent(shape_.size), extent(length), extent(heads),
                                             extent(shape_.batch));
        const std::int64_t count = ggml_nelements(to);
        if (type == GGML_TYPE_F16) {
            ggml_fp32_to_fp16_row(from, static_cast<ggml_fp16_t*>(ggml_get_data(to)), count);
        } else {
            std::copy_n(from, count, ggml_get_data_f32(to));
        }
        return to;
    }

    ggml_tensor* causal_mask()
    {
        const auto length = static_cast<std::int64_t>(shape_.queries);
        ggml_tensor* mask = ggml_new_tensor_2d(context_.get(), GGML_TYPE_F16, length, length);
        auto* numbers = static_cast<ggml_fp16_t*>(ggml_get_data(mask));
        const ggml_fp16_t excluded = ggml_fp32_to_fp16(-std::numeric_limits<float>::infinity());
        const ggml_fp16_t visible = ggml_fp32_to_fp16(0.0f);
        for (std::int64_t i = 0; i < length; ++i) {
            std::fill_n(numbers + i * length, i + 1, visible);
            std::fill_n(numbers + i * length + i + 1, length - i - 1, excluded);
        }
        return mask;
    }

    attention_shape shape_;
    std::unique_ptr<ggml_context, free_context> context_;
    std::unique_ptr<ggml_threadpool, free_threads> threads_;
    ggml_tensor* out_;
    ggml_cgraph* graph_;
    ggml_cplan plan_;
    std::vector<std::uint8_t> work_;
};

class ggml final : public contender {
public:
    ggml(std::string name, ggml_type cache_type, double tolerance)
        : name_(std::move(name)), cache_type_(cache_type), tolerance_(tolerance)
    {
    }

    std::string name() const override { return name_; }
    std::string description() const override { return std::string("ggml ") + ggml_version() + " " + ggml_commit(); }
    double tolerance() const override { return tolerance_; }
    std::size_t cache_element_size() const override { return ggml_type_size(cache_type_); }
    std::unique_ptr<prepared_attention> prepare(const attention_problem& problem, int threads) override
    {
        return std::make_unique<prepared_ggml>(problem, threads, cache_type_);
    }

private:
    std::string name_;
    ggml_type cache_type_;
    double tolerance_;
};

const register_peer<ggml> registered_float("ggml", GGML_TYPE_F32, 2e-5);
// Keys and values rounded to 11 bits, and it accumulates values in half.
const register_peer<ggml> registered_half("ggml_half_cache", GGML_TYPE_F16, 1e-2);

} // namespace
} // namespace scaledot_benchmark
