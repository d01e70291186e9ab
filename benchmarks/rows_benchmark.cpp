// SPDX-License-Identifier: BSD-3-Clause
// softmax, log_softmax, logsumexp, layer_norm and rms_norm on rows x columns, one core: time an element, and the rate
// of bytes read and written against memcpy's of the same bytes in this run. Results are checked before they are timed.
#include <scaledot/scaledot.hpp>

#include "support/machine.hpp"

#include <benchmark/benchmark.h>

#include <array>
#include <cmath>
#include <functional>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

namespace sd = scaledot;

namespace {

using matrix = xt::xtensor<float, 2>;

struct operation {
    std::string name;
    std::function<void(matrix&, const matrix&)> run;
    std::function<double(const matrix&)> first_element; ///< y(0, 0) in double, from plain loops
};

double sum_of_exponentials(const matrix& x, double maximum)
{
    double sum = 0;
    for (std::size_t j = 0; j < x.shape(1); ++j) {
        sum += std::exp(static_cast<double>(x(0, j)) - maximum);
    }
    return sum;
}

double log_probability(const matrix& x)
{
    double maximum = static_cast<double>(x(0, 0));
    for (std::size_t j = 1; j < x.shape(1); ++j) {
        maximum = std::max(maximum, static_cast<double>(x(0, j)));
    }
    return static_cast<double>(x(0, 0)) - maximum - std::log(sum_of_exponentials(x, maximum));
}

double normalised(const matrix& x, bool centred)
{
    const auto columns = static_cast<double>(x.shape(1));
    double mean = 0;
    for (std::size_t j = 0; centred && j < x.shape(1); ++j) {
        mean += static_cast<double>(x(0, j)) / columns;
    }
    double square = 0;
    for (std::size_t j = 0; j < x.shape(1); ++j) {
        square += std::pow(static_cast<double>(x(0, j)) - mean, 2) / columns;
    }
    return (static_cast<double>(x(0, 0)) - mean) / std::sqrt(square + 1e-5);
}

void run(benchmark::State& state, const operation& op, std::size_t rows, std::size_t columns)
{
    matrix x = matrix::from_shape({rows, columns});
    matrix y = matrix::from_shape({rows, columns});
    std::mt19937 generator(1);
    std::normal_distribution<float> draw;
    for (float& value : x) {
        value = draw(generator);
    }
    op.run(y, x);
    const double expected = op.first_element(x);
    if (!(std::abs(expected - static_cast<double>(y(0, 0))) <= 1e-5 * std::max(1.0, std::abs(expected)))) {
        throw std::runtime_error(op.name + " differs from plain loops");
    }
    for (auto _ : state) {
        op.run(y, x);
        benchmark::DoNotOptimize(y.data());
    }
    const auto elements = static_cast<double>(x.size());
    const double bytes = 2 * sizeof(float) * elements;
    const double memcpy_rate = scaledot_benchmark::copy_rate(x.size() * sizeof(float));
    const auto per_iteration = benchmark::Counter::kIsIterationInvariantRate;
    state.counters["elements"] = benchmark::Counter(elements, per_iteration);
    state.counters["bytes"] = benchmark::Counter(bytes, per_iteration);
    state.counters["of_memcpy"] = benchmark::Counter(bytes / memcpy_rate, per_iteration);
}

} // namespace

int main(int argc, char** argv)
{
    const auto gamma_of = [](const matrix& x) { return xt::xtensor<float, 1>(xt::ones<float>({x.shape(1)})); };
    const std::vector<operation> operations = {
        {"softmax", [](matrix& y, const matrix& x) { sd::softmax_into(y, x); },
         [](const matrix& x) { return std::exp(log_probability(x)); }},
        {"log_softmax", [](matrix& y, const matrix& x) { sd::log_softmax_into(y, x); }, log_probability},
        {"layer_norm", [&](matrix& y, const matrix& x) { sd::layer_norm_into(y, x, gamma_of(x), gamma_of(x)); },
         [](const matrix& x) { return normalised(x, true) + 1; }},
        {"rms_norm", [&](matrix& y, const matrix& x) { sd::rms_norm_into(y, x, gamma_of(x), {.epsilon = 1e-5}); },
         [](const matrix& x) { return normalised(x, false); }},
    };
    const std::vector<std::array<std::size_t, 2>> shapes = {{65536, 8},   {16384, 64},   {4096, 128}, {4096, 768},
                                                            {4096, 1024}, {1024, 32768}, {8, 131072}};
    for (const operation& op : operations) {
        for (const auto& [rows, columns] : shapes) {
            const std::string name = op.name + "/" + std::to_string(rows) + "x" + std::to_string(columns);
            benchmark::RegisterBenchmark(name.c_str(), [&op, rows = rows, columns = columns](benchmark::State& state) {
                run(state, op, rows, columns);
            })->Unit(benchmark::kMicrosecond);
        }
    }
    benchmark::Initialize(&argc, argv);
    benchmark::RunSpecifiedBenchmarks();
    benchmark::Shutdown();
}
