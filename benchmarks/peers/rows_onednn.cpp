// SPDX-License-Identifier: BSD-3-Clause
// oneDNN's softmax (accurate), log-softmax and layer normalisation; its gamma and beta are float whatever the type.
#include "row_peer.hpp"

#include <scaledot/bfloat16.hpp>

#include <oneapi/dnnl/dnnl.hpp>

#include <cstddef>
#include <memory>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace scaledot_benchmark {
namespace {

const dnnl::engine& cpu()
{
    static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
    return engine;
}

dnnl::memory::desc array_of(dnnl::memory::dims shape, dnnl::memory::data_type type)
{
    const auto tag = shape.size() == 1 ? dnnl::memory::format_tag::a : dnnl::memory::format_tag::ab;
    return {std::move(shape), type, tag};
}

dnnl::primitive primitive_of(const row_case& what, const dnnl::memory::desc& array)
{
    constexpr auto inference = dnnl::prop_kind::forward_inference;
    if (what.operation == row_operation::layer_norm) {
        const auto flags = dnnl::normalization_flags::use_scale | dnnl::normalization_flags::use_shift;
        return dnnl::layer_normalization_forward(
            {cpu(), inference, array, array, static_cast<float>(row_epsilon), flags});
    }
    const auto algorithm =
        what.operation == row_operation::softmax ? dnnl::algorithm::softmax_accurate : dnnl::algorithm::softmax_log;
    return dnnl::softmax_forward({cpu(), inference, algorithm, array, array, static_cast<int>(what.axis)});
}

template <class T>
std::unique_ptr<prepared_rows> prepare_onednn(const row_problem& problem, dnnl::memory::data_type type)
{
    const auto extent = [](std::size_t n) { return static_cast<dnnl::memory::dim>(n); };
    const row_case what = problem.what;
    const auto array = array_of({extent(what.rows), extent(what.columns)}, type);
    const auto parameter = array_of({extent(what.columns)}, dnnl::memory::data_type::f32);
    const dnnl::memory source(array, cpu(), nullptr);
    const dnnl::memory target(array, cpu(), nullptr);
    std::unordered_map<int, dnnl::memory> arguments{{DNNL_ARG_SRC, source}, {DNNL_ARG_DST, target}};
    auto gamma = std::make_shared<placed_numbers<float>>(problem.gamma, what.columns);
    auto beta = std::make_shared<placed_numbers<float>>(problem.beta, what.columns);
    if (what.is_norm()) {
        arguments.emplace(DNNL_ARG_SCALE, dnnl::memory(parameter, cpu(), gamma->data()));
        arguments.emplace(DNNL_ARG_SHIFT, dnnl::memory(parameter, cpu(), beta->data()));
    }
    return in_process<T>(problem, [source, target, arguments, gamma, beta, primitive = primitive_of(what, array),
                                   stream = dnnl::stream(cpu())](T* y, const T* x, const T*, const T*) mutable {
        source.set_data_handle(const_cast<T*>(x)); // which takes pointers to non-const also to what it only reads
        target.set_data_handle(y);
        primitive.execute(stream, arguments);
    });
}

class rows_onednn final : public row_contender {
public:
    std::string name() const override { return "onednn"; }

    std::string description() const override
    {
        const dnnl_version_t* version = dnnl_version();
        return "oneDNN " + std::to_string(version->major) + "." + std::to_string(version->minor) + "." +
               std::to_string(version->patch) + ", instruction set " +
               std::to_string(static_cast<int>(dnnl::get_effective_cpu_isa()));
    }

    bool supports(const row_case& what) const override
    {
        return what.type != row_type::float64 && what.operation != row_operation::logsumexp &&
               what.operation != row_operation::rms_norm;
    }

    std::unique_ptr<prepared_rows> prepare(const row_problem& problem, int) override
    {
        return problem.what.type == row_type::bfloat16
                   ? prepare_onednn<scaledot::bfloat16>(problem, dnnl::memory::data_type::bf16)
                   : prepare_onednn<float>(problem, dnnl::memory::data_type::f32);
    }
};

const register_row_peer<rows_onednn> registered;

} // namespace
} // namespace scaledot_benchmark
