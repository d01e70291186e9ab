// SPDX-License-Identifier: BSD-3-Clause
// Eigen: its matrix product by blocks of 128 query rows, skipping keys that a block can't see.
#define EIGEN_DONT_PARALLELIZE
#include "by_rows.hpp"

#include <Eigen/Core>

#include <algorithm>
#include <cstddef>
#include <memory>
#include <string>

namespace scaledot_benchmark {
namespace {

struct eigen_product {
    using matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
    using input = Eigen::Map<const matrix>;
    using matrix_output = Eigen::Map<matrix>;
    using row_input = Eigen::Map<const Eigen::RowVectorXf>;
    using row_output = Eigen::Map<Eigen::RowVectorXf>;

    /// Keys multiplied at once: with few rows, in blocks that stay in the caches while they are packed.
    static Eigen::Index keys_together(Eigen::Index rows, Eigen::Index keys)
    {
        return rows <= 16 ? std::min<Eigen::Index>(keys, 256) : keys;
    }

    static void scores(const row_block& b)
    {
        const auto rows = static_cast<Eigen::Index>(b.rows);
        const auto keys = static_cast<Eigen::Index>(b.keys);
        const auto size = static_cast<Eigen::Index>(b.size);
        for (std::size_t h = 0; h < b.heads; ++h) {
            const float* q = b.q + h * b.rows * b.size;
            const input k(b.k + h * b.keys * b.size, keys, size);
            float* scores = b.scores + h * b.rows * b.keys;
            if (rows == 1) {
                row_output(scores, keys).noalias() = scale_of(b) * row_input(q, size) * k.transpose();
                continue;
            }
            matrix_output all(scores, rows, keys);
            const Eigen::Index together = keys_together(rows, keys);
            for (Eigen::Index j = 0; j < keys; j += together) {
                const Eigen::Index count = std::min(together, keys - j);
                all.middleCols(j, count).noalias() =
                    scale_of(b) * input(q, rows, size) * k.middleRows(j, count).transpose();
            }
        }
    }

    static void output(const row_block& b)
    {
        const auto rows = static_cast<Eigen::Index>(b.rows);
        const auto keys = static_cast<Eigen::Index>(b.keys);
        const auto size = static_cast<Eigen::Index>(b.size);
        for (std::size_t h = 0; h < b.heads; ++h) {
            const input v(b.v + h * b.keys * b.size, keys, size);
            const float* weights = b.scores + h * b.rows * b.keys;
            float* out = b.out + h * b.rows * b.size;
            if (rows == 1) {
                row_output(out, size).noalias() = row_input(weights, keys) * v;
                continue;
            }
            matrix_output sum(out, rows, size);
            sum.setZero();
            const input all(weights, rows, keys);
            const Eigen::Index together = keys_together(rows, keys);
            for (Eigen::Index j = 0; j < keys; j += together) {
                const Eigen::Index count = std::min(together, keys - j);
                sum.noalias() += all.middleCols(j, count) * v.middleRows(j, count);
            }
        }
    }
};

class eigen final : public contender {
public:
    std::string name() const override { return "eigen"; }

    std::string description() const override
    {
        return "Eigen " + std::to_string(EIGEN_WORLD_VERSION) + "." + std::to_string(EIGEN_MAJOR_VERSION) + "." +
               std::to_string(EIGEN_MINOR_VERSION) + ", " + Eigen::SimdInstructionSetsInUse();
    }

    std::unique_ptr<prepared_attention> prepare(const attention_problem& problem, int threads) override
    {
        return std::make_unique<attention_by_rows<eigen_product>>(problem, threads);
    }
};

const register_peer<eigen> registered;

} // namespace
} // namespace scaledot_benchmark
