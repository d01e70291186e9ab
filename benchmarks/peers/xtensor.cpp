// SPDX-License-Identifier: BSD-3-Clause
// Plain xtensor: the formula as its user writes it without a BLAS, one query after the other.
#include "peer.hpp"

#include <scaledot/detail/xtensor.hpp>

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>

#if __has_include(<xtensor/core/xmath.hpp>)
#include <xtensor/core/xmath.hpp>
#include <xtensor/core/xtensor_config.hpp>
#include <xtensor/views/xview.hpp>
#else
#include <xtensor/xmath.hpp>
#include <xtensor/xtensor_config.hpp>
#include <xtensor/xview.hpp>
#endif

namespace scaledot_benchmark {
namespace {

using matrix = xt::xtensor<float, 2>;
using row = xt::xtensor<float, 1>;

matrix head_of(const float* data, std::size_t head, std::size_t length, std::size_t size)
{
    matrix x = matrix::from_shape({length, size});
    std::copy_n(data + head * length * size, length * size, x.data());
    return x;
}

class prepared_xtensor final : public prepared_attention {
public:
    prepared_xtensor(const attention_problem& problem, int threads) : shape_(problem.shape), threads_(threads)
    {
        for (std::size_t h = 0; h < shape_.batch * shape_.heads; ++h) {
            q_.push_back(head_of(problem.q, h, shape_.queries, shape_.size));
            out_.push_back(matrix::from_shape({shape_.queries, shape_.size}));
        }
        for (std::size_t h = 0; h < shape_.batch * shape_.key_heads; ++h) {
            transposed_k_.push_back(xt::transpose(head_of(problem.k, h, shape_.keys, shape_.size)));
            v_.push_back(head_of(problem.v, h, shape_.keys, shape_.size));
        }
    }

    double run(std::size_t times) override
    {
        return seconds_of(times, [&] { compute(); });
    }

    void copy_output(float* out) override
    {
        for (const matrix& head : out_) {
            out = std::copy(head.begin(), head.end(), out);
        }
    }

private:
    void compute()
    {
        const auto tasks = static_cast<std::ptrdiff_t>(q_.size() * shape_.queries);
#if defined(_OPENMP)
#pragma omp parallel for schedule(dynamic, 16) num_threads(threads_)
#endif
        for (std::ptrdiff_t task = 0; task < tasks; ++task) {
            const std::size_t head = static_cast<std::size_t>(task) / shape_.queries;
            const std::size_t i = static_cast<std::size_t>(task) % shape_.queries;
            attend(head, i, shape_.causal ? i + 1 : shape_.keys);
        }
    }

    // Sums of rows times numbers: xtensor runs these along contiguous memory, its reducers with broadcasts it does not.
    void attend(std::size_t head, std::size_t i, std::size_t visible)
    {
        const float scale = 1.0f / std::sqrt(static_cast<float>(shape_.size));
        const matrix& transposed_keys = transposed_k_[head / shape_.group()];
        const matrix& values = v_[head / shape_.group()];
        row weights = xt::zeros<float>({visible});
        for (std::size_t c = 0; c < shape_.size; ++c) {
            xt::noalias(weights) += scale * q_[head](i, c) * xt::view(transposed_keys, c, xt::range(0, visible));
        }
        const float maximum = xt::amax(weights)();
        weights = xt::exp(weights - maximum);
        const float sum = xt::sum(weights)();
        row out = xt::zeros<float>({shape_.size});
        for (std::size_t j = 0; j < visible; ++j) {
            xt::noalias(out) += weights(j) * xt::view(values, j, xt::all());
        }
        xt::view(out_[head], i, xt::all()) = out / sum;
    }

    attention_shape shape_;
    int threads_;
    std::vector<matrix> q_, transposed_k_, v_, out_;
};

class xtensor final : public contender {
public:
    std::string name() const override { return "xtensor"; }

    std::string description() const override
    {
        return "xtensor " + std::to_string(XTENSOR_VERSION_MAJOR) + "." + std::to_string(XTENSOR_VERSION_MINOR) + "." +
               std::to_string(XTENSOR_VERSION_PATCH);
    }

    // The long ones would take minutes a round and tell nothing that the short ones don't.
    bool supports(const attention_shape& s) const override { return s.queries * s.keys <= 1024 * 1024; }

    std::unique_ptr<prepared_attention> prepare(const attention_problem& problem, int threads) override
    {
        return std::make_unique<prepared_xtensor>(problem, threads);
    }
};

const register_peer<xtensor> registered;

} // namespace
} // namespace scaledot_benchmark
