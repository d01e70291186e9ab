// SPDX-License-Identifier: BSD-3-Clause
#include <scaledot/checkpoint.hpp>

#include "support/safetensors_bytes.hpp"
#include "support/temporary_directory.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <vector>

namespace sd = scaledot;
using test_support::bytes;
using test_support::file_of;
using test_support::message_of;
using test_support::raw;
using test_support::tensor;

namespace {

/// A rank-1 tensor of two floats.
tensor vector_named(const std::string& name, float value = 1.f)
{
    return {name, "F32", "[2]", raw<float>({value, value})};
}

tensor matrix_named(const std::string& name)
{
    return {name, "F32", "[2, 2]", bytes(16)};
}

std::vector<std::string> found_in(const std::vector<tensor>& tensors)
{
    const bytes content = file_of(tensors);
    std::vector<std::string> names;
    for (const auto& norm : sd::layer_norm_parameters(sd::safetensors_file(content, "model.safetensors"))) {
        names.push_back(norm.name);
    }
    return names;
}

std::vector<std::string> found_in_vectors(const std::vector<std::string>& names)
{
    std::vector<tensor> tensors;
    for (const std::string& name : names) {
        tensors.push_back(vector_named(name));
    }
    return found_in(tensors);
}

using strings = std::vector<std::string>;

} // namespace

TEST_CASE("layer_norm_parameters: gamma and beta of a module belong together")
{
    const bytes content = file_of(
        {vector_named("h.0.ln_1.bias", 0.5f), vector_named("h.0.ln_1.weight", 2.f), vector_named("norm.weight", 3.f)});
    const auto found = sd::layer_norm_parameters(sd::safetensors_file(content, "f"));
    REQUIRE(found.size() == 2);
    CHECK(found[0].name == "h.0.ln_1");
    CHECK(found[0].gamma(1) == 2.f);
    CHECK(found[0].beta(1) == 0.5f);
    CHECK(found[1].name == "norm");
    CHECK(found[1].gamma(0) == 3.f);
    CHECK(found[1].beta.size() == 0);
}

TEST_CASE("layer_norm_parameters: layers come in their order, the final norm last")
{
    CHECK(found_in_vectors({"ln_f.weight", "h.10.ln_1.weight", "h.2.ln_2.weight", "h.2.ln_1.weight",
                            "h.0.ln_1.weight"}) == strings{"h.0.ln_1", "h.2.ln_1", "h.2.ln_2", "h.10.ln_1", "ln_f"});
    CHECK(found_in_vectors({"transformer.word_embeddings_layernorm.weight", "transformer.h.1.input_layernorm.weight",
                            "transformer.aaa_norm.weight"}) ==
          strings{"transformer.word_embeddings_layernorm", "transformer.h.1.input_layernorm", "transformer.aaa_norm"});
    CHECK(found_in_vectors({"encoder.layernorm.weight", "encoder.layers.3.norm1.weight", "embeddings.norm.weight"}) ==
          strings{"embeddings.norm", "encoder.layers.3.norm1", "encoder.layernorm"});
}

TEST_CASE("layer_norm_parameters: GPT-2 naming, with and without a prefix")
{
    CHECK(
        found_in({vector_named("transformer.h.3.ln_1.weight"), vector_named("transformer.h.3.ln_1.bias"),
                  vector_named("transformer.h.3.ln_2.weight"), vector_named("transformer.h.3.ln_2.bias"),
                  vector_named("transformer.h.3.attn.c_attn.bias"), matrix_named("transformer.h.3.attn.c_attn.weight"),
                  matrix_named("transformer.h.3.attn.bias"), vector_named("transformer.h.3.mlp.c_fc.bias"),
                  matrix_named("transformer.wte.weight"), vector_named("transformer.ln_f.weight")}) ==
        strings{"transformer.h.3.ln_1", "transformer.h.3.ln_2", "transformer.ln_f"});
    CHECK(found_in_vectors({"model/h10/ln_1/g", "model/h10/ln_1/b", "model/h9/ln_1/g", "model/ln_f/g"}) ==
          strings{"model/h9/ln_1", "model/h10/ln_1", "model/ln_f"});
}

TEST_CASE("layer_norm_parameters: BERT naming, old and new")
{
    CHECK(
        found_in_vectors({"bert.embeddings.LayerNorm.gamma", "bert.embeddings.LayerNorm.beta",
                          "bert.encoder.layer.0.attention.output.LayerNorm.gamma",
                          "bert.encoder.layer.0.output.LayerNorm.weight", "bert.encoder.layer.0.output.LayerNorm.bias",
                          "bert.pooler.dense.bias", "cls.predictions.transform.LayerNorm.weight"}) ==
        strings{"bert.embeddings.LayerNorm", "bert.encoder.layer.0.attention.output.LayerNorm",
                "bert.encoder.layer.0.output.LayerNorm", "cls.predictions.transform.LayerNorm"});
}

TEST_CASE("layer_norm_parameters: Llama, Mistral, Gemma and Qwen naming")
{
    CHECK(found_in_vectors({"model.norm.weight", "model.layers.0.input_layernorm.weight",
                            "model.layers.0.post_attention_layernorm.weight", "model.layers.0.self_attn.q_norm.weight",
                            "model.layers.0.self_attn.k_norm.weight", "model.layers.0.self_attn.q_proj.bias",
                            "model.layers.0.pre_feedforward_layernorm.weight"}) ==
          strings{"model.layers.0.input_layernorm", "model.layers.0.post_attention_layernorm",
                  "model.layers.0.pre_feedforward_layernorm", "model.layers.0.self_attn.k_norm",
                  "model.layers.0.self_attn.q_norm", "model.norm"});
    CHECK(found_in_vectors({"layers.0.attention_norm.weight", "layers.0.ffn_norm.weight", "norm.weight"}) ==
          strings{"layers.0.attention_norm", "layers.0.ffn_norm", "norm"});
}

TEST_CASE("layer_norm_parameters: ViT, CLIP, T5, Whisper, Flax, fused and listed modules")
{
    for (const char* module : {"blocks.0.norm1",
                               "vit.encoder.layer.0.layernorm_before",
                               "vit.layernorm",
                               "vision_model.pre_layrnorm",
                               "visual.ln_pre",
                               "text_model.encoder.layers.0.layer_norm1",
                               "encoder.block.0.layer.0.layer_norm",
                               "decoder.final_layer_norm",
                               "encoder.blocks.0.attn_ln",
                               "decoder.ln",
                               "params/encoder/LayerNorm_0",
                               "backbone.layers.0.norm",
                               "backbone.norm_f",
                               "norms.2",
                               "transformer.layers.1.0.norm",
                               "model.layers.0.hnorm",
                               "layer_normalization_3",
                               "distilbert.transformer.layer.0.sa_layer_norm",
                               "lnf",
                               "rmsnorm",
                               "block.0.RMSNorm"}) {
        CAPTURE(module);
        CHECK(found_in_vectors({module + std::string(".weight"), module + std::string(".bias")}) == strings{module});
        CHECK(found_in_vectors({module + std::string("/scale")}) == strings{module});
    }
    CHECK(found_in_vectors({"mlp.layer_norm_weight", "mlp.layer_norm_bias", "mlp.fc1_weight"}) ==
          strings{"mlp.layer_norm"});
}

TEST_CASE("layer_norm_parameters: what only looks like one is left out")
{
    CHECK(found_in({matrix_named("norm_proj.weight"), vector_named("norm_proj.bias")}).empty());
    CHECK(found_in_vectors({"bn1.weight", "bn1.bias", "layer1.0.batch_norm.weight", "BatchNorm_0/scale"}).empty());
    CHECK(found_in_vectors({"norm1.weight", "norm1.bias", "norm1.running_mean", "norm1.running_var"}).empty());
    CHECK(found_in({vector_named("norm1.weight"), {"norm1.num_batches_tracked", "I64", "[]", bytes(8)}}).empty());
    CHECK(found_in_vectors({"group_norm.weight", "conv.weight_norm.g", "InstanceNorm_0.scale"}).empty());
    CHECK(found_in_vectors({"normal.weight", "abnormality.weight", "aln.weight", "logit_scale", "weight", "norm", "",
                            ".", "norm_1", "fc.weight_g", "lnorm_bias"})
              .empty());
    CHECK(found_in({{"norm.weight", "I32", "[2]", bytes(8)}, {"ln.weight", "BOOL", "[2]", bytes(2)}}).empty());
    CHECK(found_in({{"norm.scale", "F32", "[]", bytes(4)}}).empty());
    CHECK(found_in({}).empty());
}

TEST_CASE("layer_norm_parameters: half and bfloat16 parameters become float")
{
    const bytes content = file_of({{"ln.weight", "F16", "[1]", raw<std::uint16_t>({0x3c00})},
                                   {"ln.bias", "BF16", "[1]", raw<std::uint16_t>({0xbfc0})}});
    const auto found = sd::layer_norm_parameters(sd::safetensors_file(content, "f"));
    REQUIRE(found.size() == 1);
    CHECK(found[0].gamma(0) == 1.f);
    CHECK(found[0].beta(0) == -1.5f);
}

TEST_CASE("layer_norm_parameters: parts that do not fit together are an error that names them")
{
    const auto complaint = [](const std::vector<tensor>& tensors) {
        return message_of<std::runtime_error>([&] { found_in(tensors); });
    };
    CHECK(
        complaint({vector_named("ln.weight"), {"ln.bias", "F32", "[3]", bytes(12)}}) ==
        "scaledot: model.safetensors: tensor \"ln.bias\" has shape (3,) of \"F32\", must have shape (2,) of a floating "
        "type as \"ln.weight\"");
    CHECK(complaint({vector_named("ln.weight"), {"ln.bias", "F32", "[2, 1]", bytes(8)}}).find("(2, 1)") !=
          std::string::npos);
    CHECK(complaint({vector_named("ln.weight"), {"ln.bias", "I32", "[2]", bytes(8)}}).find("\"I32\"") !=
          std::string::npos);
    CHECK(complaint({vector_named("ln.weight"), vector_named("ln.gamma")}) ==
          "scaledot: model.safetensors: tensors \"ln.gamma\" and \"ln.weight\" are both gamma of one normalisation");
    CHECK(complaint({{"ln.weight", "F8_E4M3", "[2]", bytes(2)}}).find("\"F8_E4M3\"") != std::string::npos);
}

TEST_CASE("layer_norm_parameters: T5's file, with what is around its norms")
{
    CHECK(found_in({matrix_named("shared.weight"),
                    matrix_named("encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"),
                    matrix_named("encoder.block.0.layer.0.SelfAttention.q.weight"),
                    vector_named("encoder.block.0.layer.0.layer_norm.weight"),
                    vector_named("encoder.block.0.layer.1.layer_norm.weight"),
                    matrix_named("encoder.block.0.layer.1.DenseReluDense.wi_0.weight"),
                    vector_named("encoder.final_layer_norm.weight"),
                    vector_named("decoder.block.0.layer.2.layer_norm.weight"),
                    vector_named("decoder.final_layer_norm.weight"), matrix_named("lm_head.weight")}) ==
          strings{"decoder.block.0.layer.2.layer_norm", "decoder.final_layer_norm",
                  "encoder.block.0.layer.0.layer_norm", "encoder.block.0.layer.1.layer_norm",
                  "encoder.final_layer_norm"});
}

TEST_CASE("layer_norm_parameters: ViT's files, without LayerScale, whose parameter is called gamma as well")
{
    CHECK(
        found_in({vector_named("vit.embeddings.cls_token"), vector_named("vit.encoder.layer.0.layernorm_before.weight"),
                  vector_named("vit.encoder.layer.0.layernorm_before.bias"),
                  vector_named("vit.encoder.layer.0.layernorm_after.weight"),
                  vector_named("vit.encoder.layer.0.attention.attention.query.bias"),
                  vector_named("vit.layernorm.weight"), vector_named("classifier.bias")}) ==
        strings{"vit.encoder.layer.0.layernorm_after", "vit.encoder.layer.0.layernorm_before", "vit.layernorm"});
    CHECK(found_in_vectors({"blocks.0.norm1.weight", "blocks.0.ls1.gamma", "blocks.0.norm2.weight",
                            "blocks.10.ls2.gamma", "stages.0.blocks.0.gamma", "blocks.0.layer_scale1.lambda1",
                            "fc_norm.weight"}) == strings{"blocks.0.norm1", "blocks.0.norm2", "fc_norm"});
}

TEST_CASE("layer_norm_parameters: Mamba's files, with and without a norm in the mixer")
{
    CHECK(
        found_in({vector_named("backbone.embeddings.weight"), vector_named("backbone.layers.0.mixer.D"),
                  matrix_named("backbone.layers.0.mixer.A_log"), vector_named("backbone.layers.0.mixer.conv1d.bias"),
                  vector_named("backbone.layers.0.mixer.dt_proj.bias"), vector_named("backbone.layers.0.mixer.dt_bias"),
                  vector_named("backbone.layers.0.mixer.norm.weight"), vector_named("backbone.layers.0.norm.weight"),
                  vector_named("backbone.layers.10.norm.weight"), vector_named("backbone.norm_f.weight"),
                  vector_named("model.layers.0.mamba.dt_layernorm.weight"),
                  vector_named("model.layers.0.mamba.b_layernorm.weight")}) ==
        strings{"backbone.layers.0.mixer.norm", "backbone.layers.0.norm", "backbone.layers.10.norm", "backbone.norm_f",
                "model.layers.0.mamba.b_layernorm", "model.layers.0.mamba.dt_layernorm"});
}

TEST_CASE("layer_norm_parameters: of a sharded checkpoint, also where gamma and beta are in two files")
{
    const test_support::temporary_directory directory;
    directory.write("model-00001-of-00002.safetensors",
                    file_of({vector_named("h.0.ln_1.weight", 2.f), vector_named("h.0.ln_1.bias", 0.5f),
                             vector_named("h.1.ln_1.weight", 3.f)}));
    directory.write("model-00002-of-00002.safetensors",
                    file_of({vector_named("h.1.ln_1.bias", 0.25f), vector_named("ln_f.weight", 4.f)}));
    const auto index = directory.write("model.safetensors.index.json", R"({"weight_map": {
        "h.0.ln_1.weight": "model-00001-of-00002.safetensors", "h.0.ln_1.bias": "model-00001-of-00002.safetensors",
        "h.1.ln_1.weight": "model-00001-of-00002.safetensors", "h.1.ln_1.bias": "model-00002-of-00002.safetensors",
        "ln_f.weight": "model-00002-of-00002.safetensors"}})");
    for (const std::filesystem::path& path : {index, directory.path()}) {
        const auto found = sd::layer_norm_parameters(path);
        REQUIRE(found.size() == 3);
        CHECK(found[1].name == "h.1.ln_1");
        CHECK(found[1].gamma(0) == 3.f);
        CHECK(found[1].beta(1) == 0.25f);
        CHECK(found[2].name == "ln_f");
    }
    CHECK(sd::layer_norm_parameters(sd::safetensors_shards(index)).size() == 3);
    CHECK(sd::layer_norm_parameters(directory.path() / "model-00002-of-00002.safetensors").size() == 1);
    std::filesystem::remove(index);
    directory.write("model.safetensors", file_of({vector_named("ln_f.weight")}));
    CHECK(sd::layer_norm_parameters(directory.path()).size() == 1);
    std::filesystem::remove(directory.path() / "model.safetensors");
    CHECK(message_of<std::runtime_error>([&] {
              sd::layer_norm_parameters(directory.path());
          }).ends_with("model.safetensors: cannot open: No such file or directory"));
}

TEST_CASE("summarize_normalizations: gamma and beta, layer by layer; an offset is gamma's alone")
{
    const bytes content = file_of({vector_named("h.0.ln_1.weight", -0.5f),
                                   vector_named("h.0.ln_1.bias", 2.f),
                                   {"ln_f.weight", "F32", "[4]", raw<float>({1, 1, 1, 3})}});
    const auto norms = sd::layer_norm_parameters(sd::safetensors_file(content, "f"));
    const auto found = sd::summarize_normalizations(norms);
    REQUIRE(found.size() == 2);
    CHECK(found[0].name == "h.0.ln_1");
    CHECK(found[0].gamma.negative == 1);
    CHECK(found[0].gamma.root_mean_square == 0.5);
    CHECK(found[0].beta.growing == 1);
    CHECK(found[1].beta.finite.count == 0);
    REQUIRE(found[1].gamma.outliers.size() == 1);
    CHECK(found[1].gamma.outliers[0].index == 3);
    CHECK(found[1].gamma.root_mean_square == doctest::Approx(std::sqrt(3.0)).epsilon(1e-15));
    const auto shifted = sd::summarize_normalizations(norms, {.offset = 1});
    CHECK(shifted[0].gamma.finite.mean == 0.5);
    CHECK(shifted[0].beta.finite.mean == 2);
}

TEST_CASE("summarize_normalizations: the outlier channels of GPT-2, and ln_f's above all")
{
    const std::filesystem::path path = SCALEDOT_SHARED_DIR "/data/gpt2-layernorm.safetensors";
    if (!std::filesystem::exists(path)) {
        MESSAGE("skipped: " << path.string() << " is not there");
        return;
    }
    // computed in Python by sorting: median, median deviation, and the channels furthest from the median
    const auto found = sd::summarize_normalizations(sd::layer_norm_parameters(path));
    const sd::channel_summary& last = found.back().gamma;
    REQUIRE(last.outliers.size() == 52);
    const std::vector<std::size_t> channels = {496, 430, 314, 36, 374, 442};
    const std::vector<double> z = {128.8, 125.5, 112.0, 100.0, 87.4, 87.2};
    for (std::size_t i = 0; i < channels.size(); ++i) {
        CHECK(last.outliers[i].index == channels[i]);
        CHECK(std::abs(last.outliers[i].robust_z - z[i]) <= 0.05);
    }
    CHECK(std::abs(last.median - 1.251) <= 5e-4);
    CHECK(std::abs(last.median_deviation - 0.0846) <= 5e-5);
    CHECK(std::abs(last.root_mean_square - 2.051) <= 5e-4);
    REQUIRE(found[13].name == "h.6.ln_2");
    CHECK(found[13].gamma.outliers.size() == 16);
    CHECK(found[13].gamma.outliers.front().index == 138);
    CHECK(std::abs(found[13].gamma.outliers.front().robust_z - 94.4) <= 0.05);
}

TEST_CASE("layer_norm_parameters: GPT-2's figures are those of the study")
{
    const std::filesystem::path path = SCALEDOT_SHARED_DIR "/data/gpt2-layernorm.safetensors";
    if (!std::filesystem::exists(path)) {
        MESSAGE("skipped: " << path.string() << " is not there");
        return;
    }
    const auto norms = sd::layer_norm_parameters(sd::safetensors_file(path));
    REQUIRE(norms.size() == 25);
    CHECK(norms.front().name == "h.0.ln_1");
    CHECK(norms[5].name == "h.2.ln_2");
    CHECK(norms[23].name == "h.11.ln_2");
    CHECK(norms.back().name == "ln_f");
    std::vector<float> gammas;
    std::size_t inside = 0, small_betas = 0;
    for (const auto& norm : norms) {
        REQUIRE(norm.gamma.size() == 768);
        REQUIRE(norm.beta.size() == 768);
        gammas.insert(gammas.end(), norm.gamma.begin(), norm.gamma.end());
        inside += static_cast<std::size_t>(
            std::count_if(norm.gamma.begin(), norm.gamma.end(), [](float g) { return g >= 0.2f && g <= 0.4f; }));
        small_betas += static_cast<std::size_t>(
            std::count_if(norm.beta.begin(), norm.beta.end(), [](float b) { return b > -0.1f && b < 0.1f; }));
    }
    std::sort(gammas.begin(), gammas.end());
    CHECK(static_cast<double>(inside) / 19200 == doctest::Approx(0.76286).epsilon(1e-4));
    CHECK(static_cast<double>(small_betas) / 19200 == doctest::Approx(0.977).epsilon(1e-3));
    CHECK((gammas[9599] + gammas[9600]) / 2 == doctest::Approx(0.3012).epsilon(1e-4));
}
