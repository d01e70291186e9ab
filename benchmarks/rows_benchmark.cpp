// SPDX-License-Identifier: BSD-3-Clause
// softmax, log_softmax, logsumexp, layer_norm and rms_norm on rows x columns, ours and every peer that was found
// (peers/rows_*): time an element beside memcpy's of the same bytes in this run. Results are checked before they are
// timed: ours against plain loops in double, everybody else's against ours.
//
// Names are rows/<type>/<operation>/<rows>x<columns>/<who>; the operation softmax_axis0 runs down the columns.
// --threads N (default 1) holds all of them to N threads; --cpu-time counts the one thread's own seconds, for a machine
// with other work to do; --off-line N lets arrays begin N bytes after a cache line (0), as those of an ordinary
// allocator do, but Python's; --deviation N is the inputs' standard deviation (1; logits of a trained model have more,
// and one of them may outweigh the others), --mean N their mean (0; far from 0 sums cancel); everything else is Google
// Benchmark's.
#include <scaledot/scaledot.hpp>

#include "peers/row_peer.hpp"
#include "support/arguments.hpp"
#include "support/machine.hpp"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <iostream>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace sd = scaledot;
using namespace scaledot_benchmark;

namespace {

std::string our_version()
{
    return "scaledot " + std::to_string(SCALEDOT_VERSION_MAJOR) + "." + std::to_string(SCALEDOT_VERSION_MINOR) + "." +
           std::to_string(SCALEDOT_VERSION_PATCH);
}

std::string text_of(const row_case& what)
{
    static const std::map<row_operation, std::string> operations = {{row_operation::softmax, "softmax"},
                                                                    {row_operation::log_softmax, "log_softmax"},
                                                                    {row_operation::logsumexp, "logsumexp"},
                                                                    {row_operation::layer_norm, "layer_norm"},
                                                                    {row_operation::rms_norm, "rms_norm"}};
    static const std::map<row_type, std::string> types = {
        {row_type::float32, "float"}, {row_type::float64, "double"}, {row_type::bfloat16, "bfloat16"}};
    return "rows/" + types.at(what.type) + "/" + operations.at(what.operation) + (what.axis == 0 ? "_axis0/" : "/") +
           std::to_string(what.rows) + "x" + std::to_string(what.columns);
}

std::size_t element_size(row_type type)
{
    return type == row_type::float64 ? 8 : type == row_type::float32 ? 4 : 2;
}

template <class T>
auto matrix_at(T* data, std::size_t rows, std::size_t columns)
{
    return xt::adapt(data, rows * columns, xt::no_ownership(), std::array<std::size_t, 2>{rows, columns});
}

template <class T>
auto row_at(T* data, std::size_t columns)
{
    return xt::adapt(data, columns, xt::no_ownership(), std::array<std::size_t, 1>{columns});
}

template <class T>
std::unique_ptr<prepared_rows> prepare_scaledot(const row_problem& problem)
{
    const row_case what = problem.what;
    return in_process<T>(problem, [what](T* y, const T* x, const T* gamma, const T* beta) {
        const auto in = matrix_at(x, what.rows, what.columns);
        auto out = matrix_at(y, what.rows, what.operation == row_operation::logsumexp ? 1 : what.columns);
        switch (what.operation) {
        case row_operation::softmax:
            sd::softmax_into(out, in, {.axis = static_cast<std::ptrdiff_t>(what.axis)});
            break;
        case row_operation::log_softmax:
            sd::log_softmax_into(out, in);
            break;
        case row_operation::logsumexp: {
            const auto result = sd::logsumexp(in);
            std::transform(result.begin(), result.end(), y, [](auto lse) { return static_cast<T>(lse); });
            break;
        }
        case row_operation::layer_norm:
            sd::layer_norm_into(out, in, row_at(gamma, what.columns), row_at(beta, what.columns),
                                {.epsilon = row_epsilon});
            break;
        case row_operation::rms_norm:
            sd::rms_norm_into(out, in, row_at(gamma, what.columns), {.epsilon = row_epsilon});
            break;
        }
    });
}

class ours final : public row_contender {
public:
    std::string name() const override { return "scaledot"; }
    std::string description() const override { return our_version(); }
    bool supports(const row_case&) const override { return true; }
    std::unique_ptr<prepared_rows> prepare(const row_problem& problem, int) override
    {
        switch (problem.what.type) {
        case row_type::float64:
            return prepare_scaledot<double>(problem);
        case row_type::bfloat16:
            return prepare_scaledot<sd::bfloat16>(problem);
        default:
            return prepare_scaledot<float>(problem);
        }
    }
};

/// The formulas, in double, of the row (or, down the rows, the column) `i`.
std::vector<double> textbook(const row_problem& problem, std::size_t i)
{
    const row_case& what = problem.what;
    const std::size_t count = what.axis == 1 ? what.columns : what.rows;
    const auto size = static_cast<double>(count);
    std::vector<double> x(count);
    for (std::size_t j = 0; j < count; ++j) {
        x[j] = static_cast<double>(what.axis == 1 ? problem.x[i * what.columns + j] : problem.x[j * what.columns + i]);
    }
    const double maximum = *std::max_element(x.begin(), x.end());
    double exponentials = 0;
    double mean = 0;
    for (const double value : x) {
        exponentials += std::exp(value - maximum);
        mean += what.operation == row_operation::layer_norm ? value / size : 0;
    }
    double square = 0;
    for (const double value : x) {
        square += (value - mean) * (value - mean) / size;
    }
    const double lse = maximum + std::log(exponentials);
    if (what.operation == row_operation::logsumexp) {
        return {lse};
    }
    for (std::size_t j = 0; j < count; ++j) {
        const double normalized = (x[j] - mean) / std::sqrt(square + row_epsilon);
        switch (what.operation) {
        case row_operation::softmax:
            x[j] = std::exp(x[j] - lse);
            break;
        case row_operation::log_softmax:
            x[j] -= lse;
            break;
        case row_operation::layer_norm:
            x[j] = normalized * static_cast<double>(problem.gamma[j]) + static_cast<double>(problem.beta[j]);
            break;
        default:
            x[j] = normalized * static_cast<double>(problem.gamma[j]);
        }
    }
    return x;
}

/// The inputs' standard deviation.
int& deviation()
{
    static int value = 1;
    return value;
}

/// The inputs' mean.
int& mean()
{
    static int value = 0;
    return value;
}

/// Largest difference that counts as the same; results are below 16 times the inputs' deviation, and their mean, in
/// magnitude.
double tolerance(row_type type)
{
    return (deviation() + mean() / 16.0) * (type == row_type::float64 ? 1e-8 : type == row_type::float32 ? 1e-4 : 0.13);
}

/// Normally distributed inputs of one case, and our result for them, which is checked against the textbook.
class problem_data {
public:
    explicit problem_data(const row_case& what)
        : what_(what),
          x_(normal(what.rows * what.columns, 0, static_cast<float>(mean()), static_cast<float>(deviation()))),
          gamma_(normal(what.columns, 1, 0, 1)), beta_(normal(what.columns, 2, 0, 1))
    {
    }

    row_problem problem() const { return {what_, x_.data(), gamma_.data(), beta_.data()}; }

    double largest_difference(prepared_rows& rows) const
    {
        const std::vector<double> expected = our_result();
        std::vector<double> found(expected.size());
        rows.copy_output(found.data());
        double largest = 0;
        for (std::size_t i = 0; i < found.size(); ++i) {
            const double difference = std::abs(found[i] - expected[i]);
            largest = difference <= largest ? largest : difference; // NaN counts as largest
        }
        return largest;
    }

private:
    std::vector<double> our_result() const
    {
        std::vector<double> result(what_.outputs());
        const auto rows = ours().prepare(problem(), 1);
        rows->run(1);
        rows->copy_output(result.data());
        for (const std::size_t i : {std::size_t{0}, what_.rows / 2, what_.rows - 1}) {
            const std::vector<double> exact = textbook(problem(), i);
            const std::size_t step = what_.outputs() / what_.rows;
            for (std::size_t j = 0; j < exact.size(); ++j) {
                const double found = result[what_.axis == 1 ? i * step + j : j * what_.columns + i];
                if (!(std::abs(exact[j] - found) <= tolerance(what_.type))) {
                    throw std::runtime_error("scaledot differs from the textbook");
                }
            }
        }
        return result;
    }

    /// From a million numbers over and over: large arrays are made anew whenever another case was measured between.
    std::vector<float> normal(std::size_t count, std::size_t first, float centre, float standard_deviation) const
    {
        static const std::vector<float> numbers = [] {
            std::vector<float> some(1'000'003);
            std::mt19937 generator(1);
            std::normal_distribution<float> draw;
            std::generate(some.begin(), some.end(), [&] { return draw(generator); });
            return some;
        }();
        std::vector<float> x(count);
        std::size_t at = first;
        for (float& value : x) {
            const float number = centre + standard_deviation * numbers[at];
            value = what_.type == row_type::bfloat16 ? static_cast<float>(sd::bfloat16(number)) : number;
            at = at + 1 == numbers.size() ? 0 : at + 1;
        }
        return x;
    }

    row_case what_;
    std::vector<float> x_, gamma_, beta_;
};

struct case_to_measure {
    std::string name;
    row_contender* who;
    row_case what;
};

/// Google Benchmark calls anew to find the number of iterations and for each repetition: the last one prepared is kept,
/// and each contender is checked once a case.
prepared_rows& prepare(const case_to_measure& c, int threads)
{
    static std::string prepared_name;
    static std::string data_name;
    static std::unique_ptr<prepared_rows> prepared;
    static std::unique_ptr<problem_data> data;
    static std::set<std::string> checked;
    if (prepared_name != c.name) {
        prepared_name.clear();
        prepared.reset();
        if (data_name != text_of(c.what)) {
            data.reset();
            data = std::make_unique<problem_data>(c.what);
            data_name = text_of(c.what);
        }
        prepared = c.who->prepare(data->problem(), threads);
        prepared->run(1);
        if (!checked.contains(c.name)) {
            const double difference = data->largest_difference(*prepared);
            if (!(difference <= tolerance(c.what.type))) {
                throw std::runtime_error("differs from scaledot by " + std::to_string(difference));
            }
            checked.insert(c.name);
        }
        prepared_name = c.name;
    }
    return *prepared;
}

void measure(benchmark::State& state, const case_to_measure& c, int threads)
{
    try {
        prepared_rows& rows = prepare(c, threads);
        const auto elements = static_cast<double>(c.what.rows * c.what.columns);
        const std::size_t bytes = c.what.rows * c.what.columns * element_size(c.what.type);
        const double before = copy_seconds(bytes);
        const auto batch = std::clamp<benchmark::IterationCount>(
            static_cast<benchmark::IterationCount>(1e-3 / (elements * 1e-9)), 1, state.max_iterations);
        while (state.KeepRunningBatch(batch)) {
            state.SetIterationTime(rows.run(static_cast<std::size_t>(batch)));
        }
        state.counters["elements"] = elements;
        state.counters["memcpy_seconds"] = (before + copy_seconds(bytes)) / 2;
    } catch (const std::exception& error) {
        state.SkipWithError(error.what());
    }
}

std::vector<row_case> all_row_cases()
{
    using enum row_operation;
    std::vector<row_case> cases;
    using shapes = std::vector<std::array<std::size_t, 2>>;
    const shapes of_softmax = {{65536, 8}, {16384, 64}, {4096, 128}, {4096, 1024}, {1024, 32768}, {8, 131072}};
    const shapes of_norms = {{4096, 768}, {4096, 4096}, {512, 16384}, {64, 768}, {4096, 8}, {256, 128}};
    for (const row_type type : {row_type::float32, row_type::float64, row_type::bfloat16}) {
        for (const row_operation operation : {softmax, log_softmax, logsumexp, layer_norm, rms_norm}) {
            const bool norm = operation == layer_norm || operation == rms_norm;
            for (const auto& [rows, columns] : norm ? of_norms : of_softmax) {
                cases.push_back({operation, type, rows, columns, 1});
            }
        }
        cases.push_back({softmax, type, 1024, 1024, 0});
    }
    return cases;
}

} // namespace

int main(int argc, char** argv)
{
    const int threads = take_threads_and_clock(argc, argv);
    const int off_line = take_number(argc, argv, "--off-line", 0, 0);
    if (off_line >= 64 || off_line % 8 != 0) {
        std::cerr << "--off-line takes a multiple of 8 below 64\n";
        return 2;
    }
    bytes_off_line() = static_cast<std::size_t>(off_line);
    deviation() = take_number(argc, argv, "--deviation", 1, 1);
    mean() = take_number(argc, argv, "--mean", 0, 0);
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv)) {
        return 2;
    }
    ours us;
    std::vector<row_contender*> everyone{&us};
    for (const auto& peer : row_peers()) {
        everyone.push_back(peer.get());
    }
    std::vector<case_to_measure> cases;
    for (const row_case& what : all_row_cases()) {
        for (row_contender* const who : everyone) {
            if (who->supports(what)) {
                cases.push_back({text_of(what) + "/" + who->name(), who, what});
            }
        }
    }
    for (const case_to_measure& c : cases) {
        benchmark::RegisterBenchmark(c.name.c_str(),
                                     [&c, threads](benchmark::State& state) { measure(state, c, threads); })
            ->UseManualTime()
            ->Unit(benchmark::kMicrosecond);
    }
    benchmark::AddCustomContext("threads", std::to_string(threads));
    benchmark::AddCustomContext("bytes off a cache line", std::to_string(off_line));
    benchmark::AddCustomContext("standard deviation", std::to_string(deviation()));
    benchmark::AddCustomContext("mean", std::to_string(mean()));
    benchmark::AddCustomContext("seconds", in_cpu_time() ? "of the thread" : "of the clock");
    benchmark::AddCustomContext("compiler", SCALEDOT_BENCHMARK_COMPILER);
    for (const row_contender* who : everyone) {
        benchmark::AddCustomContext("peer/" + who->name(), who->description());
    }
    benchmark::RunSpecifiedBenchmarks();
    benchmark::Shutdown();
}
