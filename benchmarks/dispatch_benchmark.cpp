// SPDX-License-Identifier: BSD-3-Clause
// scaledot::dispatch in a program built for the x86-64 baseline, beside the headers compiled for this machine and for
// the baseline. One thread; run it with interleaving and repetitions and compare medians.
#include "dispatch/unit.hpp"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <random>
#include <sstream>
#include <string>
#include <utility>

namespace {

template <class Container>
Container normals(const typename Container::shape_type& shape, unsigned seed)
{
    auto result = Container::from_shape(shape);
    std::mt19937 generator(seed);
    std::normal_distribution<float> law;
    std::generate(result.begin(), result.end(), [&] { return law(generator); });
    return result;
}

struct shape {
    std::size_t batch, heads, key_heads, queries, keys, size;
    bool causal;

    std::string text() const
    {
        std::ostringstream text;
        text << '[' << batch << ',' << heads;
        if (key_heads != heads) {
            text << '/' << key_heads;
        }
        text << ',' << queries << ',' << keys << ',' << size << ']' << (causal ? " causal" : "");
        return text.str();
    }
};

constexpr std::array shapes{shape{1, 12, 12, 1024, 1024, 64, false},  shape{1, 12, 12, 1024, 1024, 64, true},
                            shape{1, 12, 12, 1024, 1024, 128, false}, shape{8, 12, 12, 128, 128, 64, false},
                            shape{64, 12, 12, 32, 32, 64, false},     shape{1, 32, 8, 1, 8192, 128, false},
                            shape{1, 8, 8, 4096, 77, 40, false},      shape{1, 1, 1, 50, 50, 50, false}};

void attention(benchmark::State& state, const build& b, const shape& s, bool diagnose)
{
    const auto q = normals<tensor>({s.batch, s.heads, s.queries, s.size}, 1);
    const auto k = normals<tensor>({s.batch, s.key_heads, s.keys, s.size}, 2);
    const auto v = normals<tensor>({s.batch, s.key_heads, s.keys, s.size}, 3);
    auto out = tensor::from_shape(q.shape());
    for (auto _ : state) {
        diagnose ? b.attention_with_diagnostics(q, k, v) : b.attention(out, q, k, v, s.causal);
        benchmark::ClobberMemory();
    }
}

void on_rows(benchmark::State& state, void (*operation)(matrix&, const matrix&), std::size_t count, std::size_t length)
{
    const auto x = normals<matrix>({count, length}, 1);
    auto out = matrix::from_shape(x.shape());
    for (auto _ : state) {
        operation(out, x);
        benchmark::ClobberMemory();
    }
}

void layer_norm(benchmark::State& state, const build& b, std::size_t count, std::size_t length)
{
    const auto x = normals<matrix>({count, length}, 1);
    const auto gamma = normals<xt::xtensor<float, 1>>({length}, 2);
    auto out = matrix::from_shape(x.shape());
    for (auto _ : state) {
        b.layer_norm(out, x, gamma, gamma);
        benchmark::ClobberMemory();
    }
}

const bool registered = [] {
    for (const build* b : {&native, &dispatched, &baseline}) {
        const std::string name = b->name;
        for (const shape& s : shapes) {
            benchmark::RegisterBenchmark(("attention " + s.text() + "/" + name).c_str(), attention, *b, s, false);
        }
        benchmark::RegisterBenchmark(("diagnostics " + shapes[0].text() + "/" + name).c_str(), attention, *b, shapes[0],
                                     true);
        for (const auto& [count, length] : {std::pair<std::size_t, std::size_t>{4096, 128}, {4096, 1024}}) {
            const std::string size = std::to_string(count) + "x" + std::to_string(length) + "/" + name;
            benchmark::RegisterBenchmark(("softmax " + size).c_str(), on_rows, b->softmax, count, length);
            benchmark::RegisterBenchmark(("log_softmax " + size).c_str(), on_rows, b->log_softmax, count, length);
            benchmark::RegisterBenchmark(("layer_norm " + size).c_str(), layer_norm, *b, count, length);
        }
    }
    return true;
}();

} // namespace
