// SPDX-License-Identifier: BSD-3-Clause
// ONNX's own test vectors of Attention, LayerNormalization, RMSNormalization, Softmax and LogSoftmax against scaledot.
// Each file holds `input.*`, `output.*` and, as metadata, the operator and its attributes (JSON).
#include <scaledot/attention.hpp>
#include <scaledot/kv_cache.hpp>
#include <scaledot/layer_norm.hpp>
#include <scaledot/rms_norm.hpp>
#include <scaledot/safetensors.hpp>
#include <scaledot/scores.hpp>
#include <scaledot/softmax.hpp>
#include <scaledot/split_heads.hpp>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <exception>
#include <filesystem>
#include <limits>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

namespace sd = scaledot;

namespace {

/// Largest difference from a recorded number, in units of its type's epsilon times the largest magnitude of its row.
/// The recorded numbers were made by NumPy in the element's own type, with sums of up to 120 terms, and are themselves
/// off by two or three of these units; a result of scaledot by less (2.6 is the largest difference of all cases).
/// ONNX's own suite allows 1e-3 relative, 8000 of them.
constexpr double tolerated_epsilons = 4.0;

template <class T>
constexpr double epsilon = static_cast<double>(std::numeric_limits<T>::epsilon());
template <>
constexpr double epsilon<xtl::half_float> = 0x1p-10;

/// One file: its tensors, and the operator's attributes.
struct onnx_case {
    explicit onnx_case(const std::filesystem::path& path)
        : file(path), attributes(nlohmann::json::parse(file.metadata().at("attributes")))
    {
    }

    template <class T>
    xt::xarray<T> read(const std::string& name) const
    {
        return file.read<T>(name);
    }

    std::ptrdiff_t axis() const { return attributes.value("axis", std::ptrdiff_t(-1)); }
    double epsilon_or(double value) const { return attributes.value("epsilon", value); }

    sd::safetensors_file file;
    nlohmann::json attributes;
};

/// Checks an output of the operator against the recorded one, element by element in row-major order.
template <class T>
void check_output(const onnx_case& c, const std::string& name, const auto& actual)
{
    CAPTURE(name);
    const xt::xarray<T> expected = c.read<T>(name);
    REQUIRE(actual.size() == expected.size());
    const std::size_t row = expected.dimension() == 0 ? 1 : std::max<std::size_t>(expected.shape().back(), 1);
    std::size_t i = 0;
    double worst = 0;
    for (auto at = actual.begin(); i < expected.size(); ++at, ++i) {
        double scale = 0;
        for (std::size_t j = i - i % row; j < i - i % row + row; ++j) {
            const auto magnitude = std::abs(static_cast<double>(expected.flat(j)));
            scale = std::isfinite(magnitude) ? std::max(scale, magnitude) : scale;
        }
        const auto a = static_cast<double>(*at), e = static_cast<double>(expected.flat(i));
        if (!std::isfinite(e) || !std::isfinite(a)) {
            CHECK((a == e || (std::isnan(a) && std::isnan(e))));
        } else if (a != e) {
            worst = std::max(worst, std::abs(a - e) / (epsilon<T> * scale));
        }
    }
    CHECK(worst <= tolerated_epsilons);
}

void softmax_case(const onnx_case& c)
{
    const auto x = c.read<float>("input.input");
    check_output<float>(c, "output.output", sd::softmax(x, {.axis = c.axis()}));
}

void log_softmax_case(const onnx_case& c)
{
    const auto x = c.read<float>("input.input");
    check_output<float>(c, "output.output", sd::log_softmax(x, {.axis = c.axis()}));
}

void layer_norm_case(const onnx_case& c)
{
    const auto x = c.read<float>("input.X"), gamma = c.read<float>("input.Scale"), beta = c.read<float>("input.B");
    const auto result =
        sd::layer_norm_with_statistics(x, gamma, beta, {.axis = c.axis(), .epsilon = c.epsilon_or(1e-5)});
    check_output<float>(c, "output.Y", result.output);
    check_output<float>(c, "output.Mean", result.mean);
    check_output<float>(c, "output.InvStdDev", result.inverse_standard_deviation);
}

void rms_norm_case(const onnx_case& c)
{
    const auto x = c.read<float>("input.X"), gamma = c.read<float>("input.scale");
    check_output<float>(c, "output.Y", sd::rms_norm(x, gamma, {.axis = c.axis(), .epsilon = c.epsilon_or(1e-5)}));
}

/// ONNX's qk_matmul_output_mode, in opset 23's order: 0 scaled, 1 capped, 2 masked, 3 probabilities.
sd::score_stage stage_of(const onnx_case& c)
{
    constexpr std::array<sd::score_stage, 4> stages = {sd::score_stage::scaled, sd::score_stage::capped,
                                                       sd::score_stage::masked, sd::score_stage::probabilities};
    return stages.at(c.attributes.value("qk_matmul_output_mode", std::size_t(0)));
}

/// query, key, value and output are [batch, heads, length, size].
template <class T>
void attend(const onnx_case& c, const auto& query, const auto& key, const auto& value, auto&& output)
{
    sd::attention_options options;
    if (c.attributes.contains("scale")) {
        options.scale = c.attributes["scale"].template get<double>();
    }
    options.softcap = c.attributes.value("softcap", 0.0);
    options.causal = c.attributes.value("is_causal", 0) != 0;

    xt::xarray<bool> bool_mask;
    xt::xarray<T> additive_mask;
    if (c.file.contains("input.attn_mask")) {
        if (c.file.dtype("input.attn_mask") == "BOOL") {
            bool_mask = c.read<bool>("input.attn_mask");
            options.mask = bool_mask;
        } else {
            additive_mask = c.read<T>("input.attn_mask");
            options.mask = additive_mask;
        }
    }

    if (!c.file.contains("input.past_key")) {
        options.align = options.causal ? std::optional(sd::alignment::top_left) : std::nullopt;
        sd::attention_into(output, query, key, value, options);
        if (c.file.contains("output.qk_matmul_output")) {
            check_output<T>(c, "output.qk_matmul_output", sd::attention_scores(query, key, stage_of(c), options));
        }
        return;
    }
    const auto past_key = c.read<T>("input.past_key"), past_value = c.read<T>("input.past_value");
    if (options.causal) {
        options.query_offset = static_cast<std::ptrdiff_t>(past_key.shape(2)); // the queries come after the past
    }
    sd::kv_cache<T> cache({.batch = past_key.shape(0),
                           .heads = past_key.shape(1),
                           .key_size = past_key.shape(3),
                           .value_size = past_value.shape(3)});
    cache.append(past_key, past_value);
    cache.append(key, value);
    check_output<T>(c, "output.present_key", cache.keys());
    check_output<T>(c, "output.present_value", cache.values());
    sd::attention_into(output, query, cache, options);
    if (c.file.contains("output.qk_matmul_output")) {
        check_output<T>(c, "output.qk_matmul_output", sd::attention_scores(query, cache.keys(), stage_of(c), options));
    }
}

template <class T>
void attention_case_of(const onnx_case& c)
{
    const auto query = c.read<T>("input.Q"), key = c.read<T>("input.K"), value = c.read<T>("input.V");
    xt::xarray<T> output = xt::xarray<T>::from_shape(c.file.shape("output.Y"));
    if (query.dimension() == 3) { // packed: [batch, length, heads * size]
        const std::size_t query_heads = c.attributes.at("q_num_heads"), key_heads = c.attributes.at("kv_num_heads");
        attend<T>(c, sd::split_heads(query, query_heads), sd::split_heads(key, key_heads),
                  sd::split_heads(value, key_heads), sd::split_heads(output, query_heads));
    } else {
        attend<T>(c, query, key, value, output);
    }
    check_output<T>(c, "output.Y", output);
}

void attention_case(const onnx_case& c)
{
    if (c.file.dtype("input.Q") == "F16") {
        attention_case_of<xtl::half_float>(c);
    } else {
        attention_case_of<float>(c);
    }
}

const std::map<std::string, void (*)(const onnx_case&)> operators = {{"Attention", attention_case},
                                                                     {"LayerNormalization", layer_norm_case},
                                                                     {"RMSNormalization", rms_norm_case},
                                                                     {"Softmax", softmax_case},
                                                                     {"LogSoftmax", log_softmax_case}};

} // namespace

TEST_CASE("conformance: ONNX's recorded cases give ONNX's results")
{
    const std::filesystem::path directory = SCALEDOT_SHARED_DIR "/conformance/onnx";
    if (!std::filesystem::exists(directory)) {
        MESSAGE("skipped: " << directory.string() << " is not there");
        return;
    }
    std::vector<std::filesystem::path> files;
    for (const auto& entry : std::filesystem::directory_iterator(directory)) {
        if (entry.path().extension() == ".safetensors") {
            files.push_back(entry.path());
        }
    }
    std::sort(files.begin(), files.end());
    REQUIRE_FALSE(files.empty());
    std::map<std::string, int> ran;
    for (const std::filesystem::path& path : files) {
        const std::string file = path.filename().string();
        CAPTURE(file);
        try {
            const onnx_case c(path);
            const std::string& name = c.file.metadata().at("op");
            operators.at(name)(c);
            ++ran[name];
        } catch (const std::exception& error) {
            FAIL_CHECK(std::string(error.what()));
        }
    }
    std::string counts;
    for (const auto& [name, count] : ran) {
        counts += ", " + name + " " + std::to_string(count);
    }
    MESSAGE(files.size() << " files" << counts);
}
