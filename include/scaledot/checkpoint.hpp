// SPDX-License-Identifier: BSD-3-Clause
// Finds the LayerNorm and RMSNorm parameters of a checkpoint, whatever they are called, and sums up what they do. The
// naming schemes are in detail/normalization_names.hpp, the figures of one parameter in channels.hpp.
#ifndef SCALEDOT_CHECKPOINT_HPP
#define SCALEDOT_CHECKPOINT_HPP

#include <scaledot/channels.hpp>
#include <scaledot/detail/check.hpp>
#include <scaledot/detail/config.hpp>
#include <scaledot/detail/normalization_names.hpp>
#include <scaledot/detail/xtensor.hpp>
#include <scaledot/safetensors.hpp>
#include <scaledot/safetensors_shards.hpp>

#include <filesystem>
#include <map>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace scaledot::inline SCALEDOT_BUILD {

/// The learned weight and bias of one normalisation, as the checkpoint stores them.
struct normalization_parameters {
    std::string name;        ///< the module: "h.3.ln_1", "model.layers.0.input_layernorm"
    xt::xarray<float> gamma; ///< the weight, rank 1
    xt::xarray<float> beta;  ///< the bias, rank 1; size 0 where there is none (RMSNorm)
};

namespace detail {

struct normalization_tensors {
    std::string gamma;
    std::string beta;
    bool is_batch_normalization = false;
};

inline bool holds_floating_point(const std::string& dtype)
{
    return dtype.starts_with('F') || dtype.starts_with("BF");
}

/// The tensors of each normalisation, by module, whether or not there is a gamma.
template <class File>
std::map<std::string, normalization_tensors> normalization_modules(const File& file)
{
    std::map<std::string, normalization_tensors> modules;
    for (const std::string& name : file.names()) {
        const auto [module, role] = parse_normalization_name(name);
        if (role == parameter_role::none) {
            continue;
        }
        normalization_tensors& found = modules[std::string(module)];
        if (role == parameter_role::batch_statistics) {
            found.is_batch_normalization = true;
            continue;
        }
        if (role == parameter_role::gamma &&
            (file.shape(name).size() != 1 || !holds_floating_point(file.dtype(name)))) {
            continue; // a matrix: a linear layer that has "norm" in its name
        }
        std::string& slot = role == parameter_role::gamma ? found.gamma : found.beta;
        if (!slot.empty()) {
            throw_error<std::runtime_error>("scaledot: ", file.file_name(), ": tensors ", printable(slot), " and ",
                                            printable(name), " are both ",
                                            role == parameter_role::gamma ? "gamma" : "beta", " of one normalisation");
        }
        slot = name;
    }
    return modules;
}

template <class File>
xt::xarray<float> read_beta(const File& file, const normalization_tensors& tensors)
{
    if (tensors.beta.empty()) {
        return xt::xarray<float>::from_shape({0});
    }
    const auto& shape = file.shape(tensors.beta);
    const auto& must = file.shape(tensors.gamma);
    if (shape != must || !holds_floating_point(file.dtype(tensors.beta))) {
        throw_error<std::runtime_error>("scaledot: ", file.file_name(), ": tensor ", printable(tensors.beta),
                                        " has shape ", short_shape_text(shape), " of ",
                                        printable(file.dtype(tensors.beta)), ", must have shape ",
                                        short_shape_text(must), " of a floating type as ", printable(tensors.gamma));
    }
    return file.template read<float>(tensors.beta);
}

/// `File` is safetensors_file or safetensors_shards.
template <class File>
std::vector<normalization_parameters> read_normalizations(const File& file)
{
    std::map<std::pair<std::string, std::string>, normalization_tensors> in_order;
    for (auto& [module, tensors] : normalization_modules(file)) {
        if (!tensors.gamma.empty() && !tensors.is_batch_normalization) {
            in_order.emplace(std::pair(layer_order_key(module), module), tensors);
        }
    }
    std::vector<normalization_parameters> result;
    result.reserve(in_order.size());
    for (const auto& [key, tensors] : in_order) {
        normalization_parameters found;
        found.name = key.second;
        found.gamma = file.template read<float>(tensors.gamma);
        found.beta = read_beta(file, tensors);
        result.push_back(std::move(found));
    }
    return result;
}

} // namespace detail

/// gamma and beta of every LayerNorm and RMSNorm of a checkpoint.
///
/// Recognises GPT-2 (h.3.ln_1.weight), BERT (embeddings.LayerNorm.gamma), Llama and Mistral (input_layernorm,
/// model.norm, q_norm), ViT (norm1, layernorm_before), T5 (layer_norm), CLIP (pre_layrnorm), TensorFlow and Flax
/// (ln_1/g, LayerNorm_0/scale), fused layers (layer_norm_weight) and their like: a rank-1 floating tensor called
/// weight, gamma or scale in a module whose name has "norm" or "ln" as a word. Batch normalisation, told by its name or
/// its running statistics, is left out; so are group, instance, spectral and weight normalisation. A normalisation that
/// hides behind a bare index ("neck.1.weight") is not found. Gemma stores gamma - 1 under Llama's names, which no
/// reader of names can tell.
///
/// @return  one entry per normalisation in the order of the layers: h.2 before h.10, the embeddings' first, the model's
///          final one (ln_f, model.norm) last; empty when the file has none
/// @throws std::runtime_error  a beta whose shape is not gamma's or whose type is not floating; two gammas or two
///                             betas in one module; whatever safetensors_file::read throws
inline std::vector<normalization_parameters> layer_norm_parameters(const safetensors_file& file)
{
    return detail::read_normalizations(file);
}

/// The same of a checkpoint in several files.
inline std::vector<normalization_parameters> layer_norm_parameters(const safetensors_shards& shards)
{
    return detail::read_normalizations(shards);
}

/// The same of a path: a safetensors file; an index, which ends in ".json"; or a directory with a
/// "model.safetensors.index.json" or a "model.safetensors" in it.
///
/// @throws std::runtime_error  what opening the file throws
inline std::vector<normalization_parameters> layer_norm_parameters(const std::filesystem::path& path)
{
    std::error_code unknown; // then opening the file says what is wrong
    if (std::filesystem::is_directory(path, unknown)) {
        const std::filesystem::path index = path / "model.safetensors.index.json";
        return layer_norm_parameters(std::filesystem::exists(index, unknown) ? index : path / "model.safetensors");
    }
    if (path.extension() == ".json") {
        return layer_norm_parameters(safetensors_shards(path));
    }
    return layer_norm_parameters(safetensors_file(path));
}

/// What one normalisation does to its channels.
struct normalization_summary {
    std::string name;      ///< as in normalization_parameters
    channel_summary gamma; ///< its root_mean_square is the effective gain
    channel_summary beta;  ///< of no channels where there is no bias
};

/// summarize_channels of every gamma and beta, layer by layer; the offset is gamma's alone.
///
/// @throws std::invalid_argument  as summarize_channels
inline std::vector<normalization_summary> summarize_normalizations(const std::vector<normalization_parameters>& norms,
                                                                   const channel_options& options = {})
{
    channel_options of_beta = options;
    of_beta.offset = 0;
    std::vector<normalization_summary> result;
    result.reserve(norms.size());
    for (const normalization_parameters& norm : norms) {
        result.push_back({norm.name, summarize_channels(norm.gamma, options), summarize_channels(norm.beta, of_beta)});
    }
    return result;
}

} // namespace scaledot::inline SCALEDOT_BUILD

#endif
