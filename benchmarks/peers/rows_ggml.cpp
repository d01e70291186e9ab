// SPDX-License-Identifier: BSD-3-Clause
// ggml's soft_max, norm and rms_norm, from a build that the user points to; in float, gamma and beta as products and
// sums of their own, which its graphs may fuse.
#include "row_peer.hpp"

#include <ggml-cpu.h>
#include <ggml.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace scaledot_benchmark {
namespace {

struct free_context {
    void operator()(ggml_context* context) const { ggml_free(context); }
};
struct free_threads {
    void operator()(ggml_threadpool* threads) const { ggml_threadpool_free(threads); }
};

class prepared_ggml_rows final : public prepared_rows {
public:
    prepared_ggml_rows(const row_problem& problem, int threads)
    {
        ggml_cpu_init();
        const row_case& what = problem.what;
        const std::size_t numbers = 4 * what.rows * what.columns + 2 * what.columns;
        context_.reset(ggml_init({numbers * sizeof(float) + (std::size_t{1} << 20), nullptr, false}));
        ggml_context* const context = context_.get();
        ggml_tensor* const x = tensor(problem.x, what.columns, what.rows);
        if (what.operation == row_operation::softmax) {
            out_ = ggml_soft_max(context, x);
        } else if (what.operation == row_operation::layer_norm) {
            out_ = ggml_norm(context, x, static_cast<float>(row_epsilon));
        } else {
            out_ = ggml_rms_norm(context, x, static_cast<float>(row_epsilon));
        }
        if (what.is_norm()) {
            out_ = ggml_mul(context, out_, tensor(problem.gamma, what.columns, 1));
        }
        if (what.operation == row_operation::layer_norm) {
            out_ = ggml_add(context, out_, tensor(problem.beta, what.columns, 1));
        }
        graph_ = ggml_new_graph(context);
        ggml_build_forward_expand(graph_, out_);
        ggml_threadpool_params parameters = ggml_threadpool_params_default(threads);
        threads_.reset(ggml_threadpool_new(&parameters));
        plan_ = ggml_graph_plan(graph_, threads, threads_.get());
        work_.resize(plan_.work_size);
        plan_.work_data = work_.data();
    }

    double run(std::size_t times) override
    {
        const double begin = now();
        for (std::size_t i = 0; i < times; ++i) {
            if (ggml_graph_compute(graph_, &plan_) != GGML_STATUS_SUCCESS) {
                throw std::runtime_error("ggml_graph_compute failed");
            }
        }
        return now() - begin;
    }

    void copy_output(double* out) override
    {
        const float* const y = ggml_get_data_f32(out_);
        std::copy(y, y + ggml_nelements(out_), out);
    }

private:
    ggml_tensor* tensor(const float* from, std::size_t columns, std::size_t rows)
    {
        ggml_tensor* const to = ggml_new_tensor_2d(context_.get(), GGML_TYPE_F32, static_cast<std::int64_t>(columns),
                                                   static_cast<std::int64_t>(rows));
        std::copy_n(from, columns * rows, ggml_get_data_f32(to));
        return to;
    }

    std::unique_ptr<ggml_context, free_context> context_;
    std::unique_ptr<ggml_threadpool, free_threads> threads_;
    ggml_tensor* out_ = nullptr;
    ggml_cgraph* graph_ = nullptr;
    ggml_cplan plan_;
    std::vector<std::uint8_t> work_;
};

class rows_ggml final : public row_contender {
public:
    std::string name() const override { return "ggml"; }
    std::string description() const override { return std::string("ggml ") + ggml_version() + " " + ggml_commit(); }

    bool supports(const row_case& what) const override
    {
        return what.type == row_type::float32 && what.axis == 1 &&
               (what.operation == row_operation::softmax || what.is_norm());
    }

    std::unique_ptr<prepared_rows> prepare(const row_problem& problem, int threads) override
    {
        return std::make_unique<prepared_ggml_rows>(problem, threads);
    }
};

const register_row_peer<rows_ggml> registered;

} // namespace
} // namespace scaledot_benchmark
