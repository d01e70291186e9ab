// SPDX-License-Identifier: BSD-3-Clause
// Plain xtensor: the textbook formulas of softmax, log_softmax, logsumexp and the norms as its user writes them, row by
// row: its reducers with broadcasts over a whole matrix are slower.
#include "row_peer.hpp"

#include <scaledot/detail/xtensor.hpp>

#include <array>
#include <cmath>
#include <cstddef>
#include <memory>
#include <string>

#if __has_include(<xtensor/core/xmath.hpp>)
#include <xtensor/containers/xadapt.hpp>
#include <xtensor/core/xmath.hpp>
#include <xtensor/core/xtensor_config.hpp>
#else
#include <xtensor/xadapt.hpp>
#include <xtensor/xmath.hpp>
#include <xtensor/xtensor_config.hpp>
#endif

namespace scaledot_benchmark {
namespace {

template <class T>
auto row_at(T* data, std::size_t count)
{
    return xt::adapt(data, count, xt::no_ownership(), std::array<std::size_t, 1>{count});
}

template <class T>
void compute_row(row_operation operation, T* y, const T* x, const T* gamma, const T* beta, std::size_t count)
{
    const auto from = row_at(x, count);
    auto to = row_at(y, operation == row_operation::logsumexp ? 1 : count);
    switch (operation) {
    case row_operation::softmax: {
        const T maximum = xt::amax(from)();
        xt::noalias(to) = xt::exp(from - maximum);
        to *= 1 / xt::sum(to)();
        break;
    }
    case row_operation::log_softmax: {
        const T maximum = xt::amax(from)();
        const T sum = xt::sum(xt::exp(from - maximum))();
        xt::noalias(to) = from - (maximum + std::log(sum));
        break;
    }
    case row_operation::logsumexp: {
        const T maximum = xt::amax(from)();
        const T sum = xt::sum(xt::exp(from - maximum))();
        y[0] = maximum + std::log(sum);
        break;
    }
    case row_operation::layer_norm: {
        const T mean = xt::sum(from)() / static_cast<T>(count);
        const T square = xt::sum(xt::square(from - mean))() / static_cast<T>(count);
        const T inverse = 1 / std::sqrt(square + static_cast<T>(row_epsilon));
        xt::noalias(to) = (from - mean) * inverse * row_at(gamma, count) + row_at(beta, count);
        break;
    }
    case row_operation::rms_norm: {
        const T square = xt::sum(xt::square(from))() / static_cast<T>(count);
        const T inverse = 1 / std::sqrt(square + static_cast<T>(row_epsilon));
        xt::noalias(to) = from * inverse * row_at(gamma, count);
        break;
    }
    }
}

template <class T>
std::unique_ptr<prepared_rows> prepare_xtensor(const row_problem& problem)
{
    const row_case what = problem.what;
    return in_process<T>(problem, [what](T* y, const T* x, const T* gamma, const T* beta) {
        const std::size_t step = what.outputs() / what.rows;
        for (std::size_t i = 0; i < what.rows; ++i) {
            compute_row(what.operation, y + i * step, x + i * what.columns, gamma, beta, what.columns);
        }
    });
}

class rows_xtensor final : public row_contender {
public:
    std::string name() const override { return "xtensor"; }

    std::string description() const override
    {
        return "xtensor " + std::to_string(XTENSOR_VERSION_MAJOR) + "." + std::to_string(XTENSOR_VERSION_MINOR) + "." +
               std::to_string(XTENSOR_VERSION_PATCH);
    }

    bool supports(const row_case& what) const override { return what.axis == 1 && what.type != row_type::bfloat16; }

    std::unique_ptr<prepared_rows> prepare(const row_problem& problem, int) override
    {
        return problem.what.type == row_type::float64 ? prepare_xtensor<double>(problem)
                                                      : prepare_xtensor<float>(problem);
    }
};

const register_row_peer<rows_xtensor> registered;

} // namespace
} // namespace scaledot_benchmark
