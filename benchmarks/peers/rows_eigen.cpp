// SPDX-License-Identifier: BSD-3-Clause
// Eigen: the textbook formulas of softmax, log_softmax, logsumexp and the norms as its array expressions, row by row.
#define EIGEN_DONT_PARALLELIZE
#include "row_peer.hpp"

#include <Eigen/Core>

#include <cmath>
#include <cstddef>
#include <memory>
#include <string>

namespace scaledot_benchmark {
namespace {

template <class T>
void compute_row(row_operation operation, T* y, const T* x, const T* gamma, const T* beta, std::size_t count)
{
    using row = Eigen::Array<T, 1, Eigen::Dynamic>;
    const auto size = static_cast<Eigen::Index>(count);
    const Eigen::Map<const row> from(x, size);
    const Eigen::Map<const row> factor(gamma, size);
    const Eigen::Map<const row> summand(beta, size);
    Eigen::Map<row> to(y, operation == row_operation::logsumexp ? 1 : size);
    switch (operation) {
    case row_operation::softmax:
        to = (from - from.maxCoeff()).exp();
        to *= 1 / to.sum();
        break;
    case row_operation::log_softmax: {
        const T maximum = from.maxCoeff();
        to = from - (maximum + std::log((from - maximum).exp().sum()));
        break;
    }
    case row_operation::logsumexp: {
        const T maximum = from.maxCoeff();
        to[0] = maximum + std::log((from - maximum).exp().sum());
        break;
    }
    case row_operation::layer_norm: {
        const T mean = from.mean();
        const T inverse = 1 / std::sqrt((from - mean).square().mean() + static_cast<T>(row_epsilon));
        to = (from - mean) * inverse * factor + summand;
        break;
    }
    case row_operation::rms_norm:
        to = from * (1 / std::sqrt(from.square().mean() + static_cast<T>(row_epsilon))) * factor;
        break;
    }
}

template <class T>
std::unique_ptr<prepared_rows> prepare_eigen(const row_problem& problem)
{
    const row_case what = problem.what;
    return in_process<T>(problem, [what](T* y, const T* x, const T* gamma, const T* beta) {
        if (what.axis == 0) {
            using matrix = Eigen::Array<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
            const auto rows = static_cast<Eigen::Index>(what.rows);
            const auto columns = static_cast<Eigen::Index>(what.columns);
            const Eigen::Map<const matrix> from(x, rows, columns);
            Eigen::Map<matrix> to(y, rows, columns);
            const Eigen::Array<T, 1, Eigen::Dynamic> maximum = from.colwise().maxCoeff();
            to = (from.rowwise() - maximum).exp();
            const Eigen::Array<T, 1, Eigen::Dynamic> sum = to.colwise().sum();
            to.rowwise() /= sum;
            return;
        }
        const std::size_t step = what.outputs() / what.rows;
        for (std::size_t i = 0; i < what.rows; ++i) {
            compute_row(what.operation, y + i * step, x + i * what.columns, gamma, beta, what.columns);
        }
    });
}

class rows_eigen final : public row_contender {
public:
    std::string name() const override { return "eigen"; }

    std::string description() const override
    {
        return "Eigen " + std::to_string(EIGEN_WORLD_VERSION) + "." + std::to_string(EIGEN_MAJOR_VERSION) + "." +
               std::to_string(EIGEN_MINOR_VERSION) + ", " + Eigen::SimdInstructionSetsInUse();
    }

    bool supports(const row_case& what) const override { return what.type != row_type::bfloat16; }

    std::unique_ptr<prepared_rows> prepare(const row_problem& problem, int) override
    {
        return problem.what.type == row_type::float64 ? prepare_eigen<double>(problem) : prepare_eigen<float>(problem);
    }
};

const register_row_peer<rows_eigen> registered;

} // namespace
} // namespace scaledot_benchmark
