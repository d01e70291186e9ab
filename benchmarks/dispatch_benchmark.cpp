// SPDX-License-Identifier: BSD-3-Clause
// scaledot::dispatch in a program built for the x86-64 baseline, beside the headers compiled for this machine and for
// the baseline: all three in turns on the same arrays, call by call. Time is that of the headers compiled for this
// machine; counters say how fast each is in relation to it.
#include "dispatch/unit.hpp"
#include "support/clock.hpp"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <random>
#include <sstream>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

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

constexpr std::array<const build*, 3> builds{&native, &dispatched, &baseline};

/// Times `run` with each build in turns, on the same arrays, and relates the others' medians to the first one's.
template <class Run>
void compare(benchmark::State& state, const Run& run)
{
    std::array<std::vector<double>, builds.size()> seconds;
    std::size_t first = 0;
    for (auto _ : state) {
        for (std::size_t i = 0; i < builds.size(); ++i) {
            const std::size_t which = (first + i) % builds.size();
            const double begin = scaledot_benchmark::now();
            run(*builds[which]);
            benchmark::ClobberMemory();
            seconds[which].push_back(scaledot_benchmark::now() - begin);
        }
        ++first;
        state.SetIterationTime(seconds[0].back());
    }
    std::array<double, builds.size()> medians;
    for (std::size_t which = 0; which < builds.size(); ++which) {
        auto& sorted = seconds[which];
        const auto middle = sorted.begin() + static_cast<std::ptrdiff_t>(sorted.size() / 2);
        std::nth_element(sorted.begin(), middle, sorted.end());
        medians[which] = *middle;
        state.counters[builds[which]->name] = medians[0] / medians[which];
    }
}

void attention(benchmark::State& state, const shape& s, bool diagnose)
{
    const auto q = normals<tensor>({s.batch, s.heads, s.queries, s.size}, 1);
    const auto k = normals<tensor>({s.batch, s.key_heads, s.keys, s.size}, 2);
    const auto v = normals<tensor>({s.batch, s.key_heads, s.keys, s.size}, 3);
    auto out = tensor::from_shape(q.shape());
    compare(state, [&](const build& b) {
        diagnose ? b.attention_with_diagnostics(q, k, v) : b.attention(out, q, k, v, s.causal);
    });
}

template <class Operation>
void on_rows(benchmark::State& state, std::size_t count, std::size_t length, const Operation& operation)
{
    const auto x = normals<matrix>({count, length}, 1);
    const auto gamma = normals<xt::xtensor<float, 1>>({length}, 2);
    auto out = matrix::from_shape(x.shape());
    compare(state, [&](const build& b) { operation(b, out, x, gamma); });
}

template <class... Arguments>
void add(const std::string& name, Arguments&&... arguments)
{
    benchmark::RegisterBenchmark(name.c_str(), std::forward<Arguments>(arguments)...)
        ->UseManualTime()
        ->Unit(benchmark::kMillisecond);
}

const bool registered = [] {
    for (const shape& s : shapes) {
        add("attention " + s.text(), attention, s, false);
    }
    add("diagnostics " + shapes[0].text(), attention, shapes[0], true);
    using parameters = xt::xtensor<float, 1>;
    for (const auto& [count, length] : {std::pair<std::size_t, std::size_t>{4096, 128}, {4096, 1024}}) {
        const std::string size = std::to_string(count) + "x" + std::to_string(length);
        const auto add_rows = [&, rows = count, columns = length](const char* name, const auto& operation) {
            add(name + size, on_rows<std::decay_t<decltype(operation)>>, rows, columns, operation);
        };
        add_rows("softmax ",
                 [](const build& b, matrix& out, const matrix& x, const parameters&) { b.softmax(out, x); });
        add_rows("log_softmax ",
                 [](const build& b, matrix& out, const matrix& x, const parameters&) { b.log_softmax(out, x); });
        add_rows("layer_norm ", [](const build& b, matrix& out, const matrix& x, const parameters& gamma) {
            b.layer_norm(out, x, gamma, gamma);
        });
    }
    return true;
}();

} // namespace
