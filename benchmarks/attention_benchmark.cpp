// SPDX-License-Identifier: BSD-3-Clause
// attention on the shapes that matter, one core: share of the multiply-add peak of this run for prefill, bytes of keys
// and values a second for decoding. Each shape is checked against plain loops on some rows before it is timed.
#include <scaledot/scaledot.hpp>

#include "support/machine.hpp"

#include <benchmark/benchmark.h>

#include <cmath>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

namespace sd = scaledot;

namespace {

/// The multiply-add peak of this run, measured once.
double float_peak()
{
    static const double peak = scaledot_benchmark::peak_flops<float>();
    return peak;
}

struct shape {
    std::size_t batch, heads, key_heads, queries, keys, size;
    bool causal;
};

using array = xt::xtensor<float, 4>;

array normal(std::size_t batch, std::size_t heads, std::size_t length, std::size_t size, unsigned seed)
{
    array x = array::from_shape({batch, heads, length, size});
    std::mt19937 generator(seed);
    std::normal_distribution<float> draw;
    for (float& value : x) {
        value = draw(generator);
    }
    return x;
}

/// Throws when the last query of the last head differs from the three textbook steps.
void verify(const shape& s, const array& q, const array& k, const array& v, const array& y)
{
    const std::size_t b = s.batch - 1;
    const std::size_t h = s.heads - 1;
    const std::size_t g = s.key_heads - 1;
    const std::size_t i = s.queries - 1;
    std::vector<double> scores(s.keys);
    double maximum = -std::numeric_limits<double>::infinity();
    for (std::size_t j = 0; j < s.keys; ++j) {
        for (std::size_t c = 0; c < s.size; ++c) {
            scores[j] += static_cast<double>(q(b, h, i, c)) * static_cast<double>(k(b, g, j, c));
        }
        scores[j] /= std::sqrt(static_cast<double>(s.size));
        maximum = std::max(maximum, scores[j]);
    }
    double sum = 0;
    for (double& score : scores) {
        score = std::exp(score - maximum);
        sum += score;
    }
    for (std::size_t c = 0; c < s.size; ++c) {
        double expected = 0;
        for (std::size_t j = 0; j < s.keys; ++j) {
            expected += scores[j] / sum * static_cast<double>(v(b, g, j, c));
        }
        if (!(std::abs(expected - static_cast<double>(y(b, h, i, c))) < 1e-5)) {
            throw std::runtime_error("attention differs from the textbook");
        }
    }
}

void run(benchmark::State& state, const shape& s)
{
    const array q = normal(s.batch, s.heads, s.queries, s.size, 1);
    const array k = normal(s.batch, s.key_heads, s.keys, s.size, 2);
    const array v = normal(s.batch, s.key_heads, s.keys, s.size, 3);
    array y = array::from_shape({s.batch, s.heads, s.queries, s.size});
    sd::attention_options options;
    options.causal = s.causal;
    options.align = sd::alignment::bottom_right;
    sd::attention_into(y, q, k, v, options);
    verify(s, q, k, v, y);
    for (auto _ : state) {
        sd::attention_into(y, q, k, v, options);
        benchmark::DoNotOptimize(y.data());
    }
    const double share_visible = s.causal ? 0.5 : 1.0;
    const double operations =
        share_visible * 4.0 * static_cast<double>(s.batch * s.heads * s.queries) * static_cast<double>(s.keys * s.size);
    const double bytes = 2.0 * sizeof(float) * static_cast<double>(s.batch * s.key_heads * s.keys * s.size);
    const auto rate = [&](double amount) {
        return benchmark::Counter(amount, benchmark::Counter::kIsIterationInvariantRate);
    };
    state.counters["flops"] = rate(operations);
    state.counters["of_peak"] = rate(operations / float_peak());
    state.counters["bytes"] = rate(bytes);
}

} // namespace

int main(int argc, char** argv)
{
    const std::vector<shape> shapes = {
        {1, 12, 12, 1024, 1024, 64, false},  {1, 12, 12, 1024, 1024, 64, true},  {1, 12, 12, 1024, 1024, 128, false},
        {1, 12, 12, 1024, 1024, 128, true},  {1, 12, 12, 4096, 4096, 64, false}, {1, 12, 12, 4096, 4096, 64, true},
        {1, 12, 12, 4096, 4096, 128, false}, {1, 12, 12, 4096, 4096, 128, true}, {1, 32, 8, 2048, 2048, 128, true},
        {1, 32, 8, 1, 8192, 128, false},     {1, 32, 32, 1, 8192, 128, false},   {8, 12, 12, 128, 128, 64, false},
        {64, 12, 12, 32, 32, 64, false},     {1, 8, 8, 4096, 77, 40, false},     {1, 1, 1, 50, 50, 50, false},
    };
    for (const shape& s : shapes) {
        std::string name = "attention/" + std::to_string(s.batch) + "x" + std::to_string(s.heads) + ":" +
                           std::to_string(s.key_heads) + "x" + std::to_string(s.queries) + "x" +
                           std::to_string(s.keys) + "x" + std::to_string(s.size) + (s.causal ? "/causal" : "");
        benchmark::RegisterBenchmark(name.c_str(), [s](benchmark::State& state) {
            run(state, s);
        })->Unit(benchmark::kMillisecond);
    }
    benchmark::Initialize(&argc, argv);
    benchmark::AddCustomContext("peak of this run, float, one core, GFLOP/s", std::to_string(float_peak() / 1e9));
    benchmark::RunSpecifiedBenchmarks();
    benchmark::Shutdown();
}
