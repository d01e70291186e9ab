// SPDX-License-Identifier: BSD-3-Clause
// attention on the shapes that matter, ours and every peer that was found (peers/): share of the multiply-add peak of
// this run for prefill, of the memory read rate of this run for decoding. Results are checked before they are timed.
//
// Names are attention/<type>/<phase>/<batch>x<heads>:<key heads>x<queries>x<keys>x<size>/<full or causal>/<who>.
// --threads N (default 1) holds all of them to N threads; --cpu-time counts the one thread's own seconds, for a machine
// with other work to do; everything else is Google Benchmark's.
#include <scaledot/scaledot.hpp>

#include "peers/peer.hpp"
#include "support/arguments.hpp"
#include "support/machine.hpp"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <map>
#include <random>
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

template <class T>
using array = xt::xtensor<T, 4>;

sd::attention_options options_of(const attention_shape& s)
{
    sd::attention_options options;
    options.causal = s.causal;
    return options;
}

/// Ours, with queries of type Query and keys and values of type Cache.
template <class Query, class Cache>
class prepared_scaledot : public prepared_attention {
public:
    static constexpr std::size_t cache_element_size = sizeof(Cache);

    explicit prepared_scaledot(const attention_problem& problem)
        : options_(options_of(problem.shape)),
          q_(array<Query>::from_shape(
              {problem.shape.batch, problem.shape.heads, problem.shape.queries, problem.shape.size})),
          k_(array<Cache>::from_shape(
              {problem.shape.batch, problem.shape.key_heads, problem.shape.keys, problem.shape.size})),
          v_(k_), out_(q_)
    {
        const auto convert = [](auto& to, const float* from) {
            using element = typename std::decay_t<decltype(to)>::value_type;
            std::transform(from, from + to.size(), to.begin(), [](float x) { return static_cast<element>(x); });
        };
        convert(q_, problem.q);
        convert(k_, problem.k);
        convert(v_, problem.v);
    }

    double run(std::size_t times) override
    {
        return seconds_of(times, [&] {
            sd::attention_into(out_, q_, k_, v_, options_);
            benchmark::DoNotOptimize(out_.data());
        });
    }

    void copy_output(float* out) override
    {
        std::transform(out_.begin(), out_.end(), out, [](Query x) { return static_cast<float>(x); });
    }

protected:
    sd::attention_options options_;
    array<Query> q_;
    array<Cache> k_, v_;
    array<Query> out_;
};

class prepared_diagnosis final : public prepared_scaledot<float, float> {
public:
    using prepared_scaledot::prepared_scaledot;

    double run(std::size_t times) override
    {
        return seconds_of(times, [&] {
            out_ = sd::attention_with_diagnostics(q_, k_, v_, options_).output;
            benchmark::DoNotOptimize(out_.data());
        });
    }
};

/// Options that make a row's scores work, but change its result by less than the tolerance: what they cost.
struct option_data {
    explicit option_data(const attention_shape& s)
        : all_seen(xt::ones<bool>({s.queries, s.keys})), nothing_added(xt::zeros<float>({s.queries, s.keys})),
          far_sinks(s.heads, -1000.0f)
    {
    }
    xt::xtensor<bool, 2> all_seen;
    xt::xtensor<float, 2> nothing_added;
    std::vector<float> far_sinks;
};

using set_option = void (*)(sd::attention_options&, const option_data&);

template <set_option Set>
class prepared_with_option final : public prepared_scaledot<float, float> {
public:
    explicit prepared_with_option(const attention_problem& problem) : prepared_scaledot(problem), data_(problem.shape)
    {
        Set(options_, data_);
    }

private:
    option_data data_;
};

void set_bool_mask(sd::attention_options& options, const option_data& data)
{
    options.mask = data.all_seen;
}

void set_float_mask(sd::attention_options& options, const option_data& data)
{
    options.mask = data.nothing_added;
}

void set_softcap(sd::attention_options& options, const option_data&)
{
    options.softcap = 1000;
}

void set_sinks(sd::attention_options& options, const option_data& data)
{
    options.sinks = data.far_sinks;
}

template <class Prepared>
class ours final : public contender {
public:
    ours(std::string name, double tolerance) : name_(std::move(name)), tolerance_(tolerance) {}

    std::string name() const override { return name_; }
    std::string description() const override { return our_version(); }
    double tolerance() const override { return tolerance_; }
    std::size_t cache_element_size() const override { return Prepared::cache_element_size; }
    std::unique_ptr<prepared_attention> prepare(const attention_problem& problem, int) override
    {
        return std::make_unique<Prepared>(problem);
    }

private:
    std::string name_;
    double tolerance_;
};

/// Throws when some elements of our result differ from the three textbook steps in double.
void check_against_textbook(const attention_problem& problem, const aligned_floats& result)
{
    const attention_shape& s = problem.shape;
    const std::size_t query_heads = s.batch * s.heads;
    for (const std::size_t head : {std::size_t{0}, query_heads / 2, query_heads - 1}) {
        for (const std::size_t i : {std::size_t{0}, s.queries / 2, s.queries - 1}) {
            const float* q = problem.q + (head * s.queries + i) * s.size;
            const float* k = problem.k + head / s.group() * s.keys * s.size;
            const float* v = problem.v + head / s.group() * s.keys * s.size;
            std::vector<double> weights(s.causal ? i + 1 : s.keys);
            for (std::size_t j = 0; j < weights.size(); ++j) {
                for (std::size_t c = 0; c < s.size; ++c) {
                    weights[j] += static_cast<double>(q[c]) * static_cast<double>(k[j * s.size + c]);
                }
                weights[j] /= std::sqrt(static_cast<double>(s.size));
            }
            const double maximum = *std::max_element(weights.begin(), weights.end());
            double sum = 0;
            for (double& weight : weights) {
                weight = std::exp(weight - maximum);
                sum += weight;
            }
            for (std::size_t c = 0; c < s.size; ++c) {
                double expected = 0;
                for (std::size_t j = 0; j < weights.size(); ++j) {
                    expected += weights[j] / sum * static_cast<double>(v[j * s.size + c]);
                }
                const auto found = static_cast<double>(result[(head * s.queries + i) * s.size + c]);
                if (!(std::abs(expected - found) < 1e-5)) {
                    throw std::runtime_error("scaledot differs from the textbook");
                }
            }
        }
    }
}

/// Normally distributed inputs of one shape and our float result for them, which is checked against the textbook.
class problem_data {
public:
    explicit problem_data(const attention_shape& shape)
        : shape_(shape), q_(normal(shape.query_elements(), 1)), k_(normal(shape.key_elements(), 2)),
          v_(normal(shape.key_elements(), 3)), expected_(shape.query_elements())
    {
        prepared_scaledot<float, float> attention(problem());
        attention.run(1);
        attention.copy_output(expected_.data());
        check_against_textbook(problem(), expected_);
    }

    attention_problem problem() const { return {shape_, q_.data(), k_.data(), v_.data()}; }

    double largest_difference(prepared_attention& attention) const
    {
        aligned_floats found(expected_.size());
        attention.copy_output(found.data());
        double largest = 0;
        for (std::size_t i = 0; i < found.size(); ++i) {
            const double difference = std::abs(static_cast<double>(found[i]) - static_cast<double>(expected_[i]));
            largest = difference <= largest ? largest : difference; // NaN counts as largest
        }
        return largest;
    }

private:
    static aligned_floats normal(std::size_t count, unsigned seed)
    {
        aligned_floats x(count);
        std::mt19937 generator(seed);
        std::normal_distribution<float> draw;
        for (float& value : x) {
            value = draw(generator);
        }
        return x;
    }

    attention_shape shape_;
    aligned_floats q_, k_, v_, expected_;
};

const problem_data& data_of(const attention_shape& shape)
{
    static std::map<attention_shape, problem_data> all;
    const auto found = all.find(shape);
    return found != all.end() ? found->second : all.emplace(shape, shape).first->second;
}

struct check_result {
    double seconds;    ///< of one run, roughly
    double difference; ///< from our float result
};

/// Google Benchmark calls anew to find the number of iterations and for each repetition: the last one prepared is kept,
/// and each contender is checked once a shape.
std::pair<prepared_attention&, check_result> prepare(const std::string& name, contender& who,
                                                     const attention_shape& shape, int threads)
{
    static std::string prepared_name;
    static std::unique_ptr<prepared_attention> prepared;
    static std::map<std::string, check_result> checked;
    if (prepared_name != name) {
        prepared_name.clear();
        prepared.reset();
        const problem_data& data = data_of(shape);
        prepared = who.prepare(data.problem(), threads);
        prepared->run(1);
        if (!checked.contains(name)) {
            const double difference = data.largest_difference(*prepared);
            if (!(difference <= who.tolerance())) {
                throw std::runtime_error("differs from scaledot by " + std::to_string(difference));
            }
            checked[name] = {prepared->run(1), difference};
        }
        prepared_name = name;
    }
    return {*prepared, checked[name]};
}

struct case_to_measure {
    std::string name;
    contender* who;
    attention_shape shape;
    double (*peak)(int threads);
};

void measure(benchmark::State& state, const case_to_measure& c, int threads)
{
    const bool decoding = c.shape.queries == 1;
    const auto best_of_machine = [&] { return decoding ? read_rate(threads) : c.peak(threads); };
    try {
        const auto [attention, checked] = prepare(c.name, *c.who, c.shape, threads);
        const double before = best_of_machine();
        const auto batch = std::clamp<benchmark::IterationCount>(
            static_cast<benchmark::IterationCount>(1e-3 / checked.seconds), 1, state.max_iterations);
        while (state.KeepRunningBatch(batch)) {
            state.SetIterationTime(attention.run(static_cast<std::size_t>(batch)));
        }
        const double best = (before + best_of_machine()) / 2;

        const attention_shape& s = c.shape;
        const double pairs =
            s.causal ? 0.5 * static_cast<double>(s.queries * (s.queries + 1)) : static_cast<double>(s.queries * s.keys);
        const double operations = 4 * pairs * static_cast<double>(s.batch * s.heads * s.size);
        const double bytes = 2 * static_cast<double>(s.key_elements() * c.who->cache_element_size());
        const auto per_second = benchmark::Counter::kIsIterationInvariantRate;
        if (decoding) {
            state.counters["bytes"] = benchmark::Counter(bytes, per_second);
            state.counters["of_read_rate"] = benchmark::Counter(bytes / best, per_second);
            state.counters["read_rate"] = best;
        } else {
            state.counters["flops"] = benchmark::Counter(operations, per_second);
            state.counters["of_peak"] = benchmark::Counter(operations / best, per_second);
            state.counters["peak"] = best;
        }
        state.counters["difference"] = checked.difference;
    } catch (const std::exception& error) {
        state.SkipWithError(error.what());
    }
}

std::vector<attention_shape> all_shapes()
{
    return {
        {1, 12, 12, 1024, 1024, 64, false},  {1, 12, 12, 1024, 1024, 64, true},  {1, 12, 12, 1024, 1024, 128, false},
        {1, 12, 12, 1024, 1024, 128, true},  {1, 12, 12, 4096, 4096, 64, false}, {1, 12, 12, 4096, 4096, 64, true},
        {1, 12, 12, 4096, 4096, 128, false}, {1, 12, 12, 4096, 4096, 128, true}, {1, 32, 8, 2048, 2048, 128, true},
        {1, 32, 8, 1, 8192, 128, false},     {1, 32, 32, 1, 8192, 128, false},   {8, 12, 12, 128, 128, 64, false},
        {64, 12, 12, 32, 32, 64, false},     {1, 8, 8, 4096, 77, 40, false},     {1, 1, 1, 50, 50, 50, false},
    };
}

bool decodes(const attention_shape& s)
{
    return s.queries == 1;
}

/// The shapes on which other element types are measured too.
bool is_typed_prefill(const attention_shape& s)
{
    const bool equal_heads = s.batch == 1 && s.heads == 12 && s.key_heads == 12;
    return equal_heads && !s.causal && ((s.queries == 1024 && s.size == 64) || (s.queries == 4096 && s.size == 128));
}

/// The shapes on which diagnostics and options are measured too.
bool is_compared(const attention_shape& s)
{
    return s.batch == 1 && s.heads == 12 && s.queries == 1024 && s.size == 64;
}

template <class Prepared>
contender& add_ours(const std::string& name, double tolerance)
{
    static std::vector<std::unique_ptr<contender>> all;
    return *all.emplace_back(std::make_unique<ours<Prepared>>(name, tolerance));
}

std::vector<case_to_measure> all_cases()
{
    std::vector<case_to_measure> cases;
    const auto add = [&](const std::string& type, contender& who, double (*peak)(int),
                         const std::function<bool(const attention_shape&)>& wanted) {
        for (const attention_shape& s : all_shapes()) {
            if (wanted(s) && who.supports(s)) {
                const auto text = [](std::size_t n) { return std::to_string(n); };
                const std::string name = "attention/" + type + (decodes(s) ? "/decode/" : "/prefill/") + text(s.batch) +
                                         "x" + text(s.heads) + ":" + text(s.key_heads) + "x" + text(s.queries) + "x" +
                                         text(s.keys) + "x" + text(s.size) + (s.causal ? "/causal/" : "/full/") +
                                         who.name();
                cases.push_back({name, &who, s, peak});
            }
        }
    };
    using half = xtl::half_float;
    using sd::bfloat16;
    const auto everywhere = [](const attention_shape&) { return true; };
    // Tolerances of the narrow types: their inputs and outputs are rounded to 11 and 8 bits.
    add("float", add_ours<prepared_scaledot<float, float>>("scaledot", 0), peak_flops<float>, everywhere);
    add("float", add_ours<prepared_diagnosis>("scaledot_diagnostics", 0), peak_flops<float>, is_compared);
    add("float", add_ours<prepared_with_option<set_bool_mask>>("scaledot_bool_mask", 1e-3), peak_flops<float>,
        is_compared);
    add("float", add_ours<prepared_with_option<set_float_mask>>("scaledot_float_mask", 1e-3), peak_flops<float>,
        is_compared);
    add("float", add_ours<prepared_with_option<set_softcap>>("scaledot_softcap", 1e-3), peak_flops<float>, is_compared);
    add("float", add_ours<prepared_with_option<set_sinks>>("scaledot_sinks", 1e-3), peak_flops<float>, is_compared);
    add("double", add_ours<prepared_scaledot<double, double>>("scaledot", 1e-5), peak_flops<double>, is_typed_prefill);
    add("half", add_ours<prepared_scaledot<half, half>>("scaledot", 1e-2), peak_flops<float>, is_typed_prefill);
    add("bfloat16", add_ours<prepared_scaledot<bfloat16, bfloat16>>("scaledot", 1e-1), peak_flops<float>, everywhere);
    add("half_cache", add_ours<prepared_scaledot<float, half>>("scaledot", 1e-2), peak_flops<float>, decodes);
    add("bfloat16_cache", add_ours<prepared_scaledot<float, bfloat16>>("scaledot", 1e-1), peak_flops<float>, decodes);
    for (const auto& peer : peers()) {
        add(peer->type(), *peer, peak_flops<float>, everywhere);
    }
    return cases;
}

} // namespace

int main(int argc, char** argv)
{
    const int threads = take_threads_and_clock(argc, argv);
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv)) {
        return 2;
    }
    const std::vector<case_to_measure> cases = all_cases();
    for (const case_to_measure& c : cases) {
        benchmark::RegisterBenchmark(c.name.c_str(),
                                     [&c, threads](benchmark::State& state) { measure(state, c, threads); })
            ->UseManualTime()
            ->Unit(benchmark::kMillisecond);
    }
    benchmark::AddCustomContext("threads", std::to_string(threads));
    benchmark::AddCustomContext("seconds", in_cpu_time() ? "of the thread" : "of the clock");
    benchmark::AddCustomContext("compiler", SCALEDOT_BENCHMARK_COMPILER);
    benchmark::AddCustomContext("peer/scaledot", our_version());
    for (const auto& peer : peers()) {
        if (peer->type() == "float") { // those of other types are the same programs
            benchmark::AddCustomContext("peer/" + peer->name(), peer->description());
        }
    }
    benchmark::RunSpecifiedBenchmarks();
    benchmark::Shutdown();
}
