// SPDX-License-Identifier: BSD-3-Clause
// How checkpoints call the parameters of LayerNorm and RMSNorm, and the order in which a reader expects the layers.
#ifndef SCALEDOT_DETAIL_NORMALIZATION_NAMES_HPP
#define SCALEDOT_DETAIL_NORMALIZATION_NAMES_HPP

#include <scaledot/detail/config.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace scaledot::inline SCALEDOT_BUILD::detail {

inline bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

inline bool is_number(std::string_view text)
{
    return std::all_of(text.begin(), text.end(), is_digit);
}

/// "h.3.ln_1" -> h, 3, ln_1; TensorFlow and Flax write '/' where PyTorch writes '.'.
inline std::vector<std::string_view> path_components(std::string_view path)
{
    std::vector<std::string_view> components;
    for (std::size_t end = path.find_first_of("./"); end != std::string_view::npos; end = path.find_first_of("./")) {
        components.push_back(path.substr(0, end));
        path.remove_prefix(end + 1);
    }
    components.push_back(path);
    return components;
}

/// "post_attention_LayerNorm2" -> post, attention, layernorm.
inline std::vector<std::string> lower_case_words(std::string_view component)
{
    std::vector<std::string> words(1);
    for (const char c : component) {
        if (c >= 'A' && c <= 'Z') {
            words.back() += static_cast<char>(c - 'A' + 'a');
        } else if (c >= 'a' && c <= 'z') {
            words.back() += c;
        } else if (!words.back().empty()) {
            words.emplace_back();
        }
    }
    return words;
}

/// ln_1, norm2, q_norm, LayerNorm, layernorm_before, final_layer_norm, pre_layrnorm, input_layernorm, ...
/// but no batch, group, instance, spectral or weight normalisation.
inline bool is_normalization(std::string_view component)
{
    constexpr std::array<std::string_view, 5> others = {"batch", "group", "instance", "spectral", "weight"};
    constexpr std::array<std::string_view, 5> spellings = {"ln", "lnf", "norms", "normalization", "layernormalization"};
    bool found = false;
    for (const std::string& word : lower_case_words(component)) {
        for (const std::string_view other : others) {
            if (word == other || (word.starts_with(other) && word.substr(other.size()).starts_with("norm"))) {
                return false;
            }
        }
        found =
            found || word.ends_with("norm") || std::find(spellings.begin(), spellings.end(), word) != spellings.end();
    }
    return found;
}

enum class parameter_role { none, gamma, beta, batch_statistics };

/// What a last component such as "weight" says; `none` when it is no name of a parameter.
inline parameter_role role_of(std::string_view last)
{
    constexpr std::array<std::string_view, 5> gammas = {"weight", "gamma", "scale", "g", "w"};
    constexpr std::array<std::string_view, 4> betas = {"bias", "beta", "offset", "b"};
    constexpr std::array<std::string_view, 5> statistics = {"running_mean", "running_var", "num_batches_tracked",
                                                            "moving_mean", "moving_variance"};
    const auto is_in = [&](const auto& names) { return std::find(names.begin(), names.end(), last) != names.end(); };
    return is_in(gammas)       ? parameter_role::gamma
           : is_in(betas)      ? parameter_role::beta
           : is_in(statistics) ? parameter_role::batch_statistics
                               : parameter_role::none;
}

struct normalization_name {
    std::string_view module; ///< a prefix of the tensor's name
    parameter_role role = parameter_role::none;
};

/// Takes a tensor's name apart; the role is `none` when the name is not that of a normalisation's parameter.
inline normalization_name parse_normalization_name(std::string_view tensor)
{
    const std::vector<std::string_view> components = path_components(tensor);
    const std::string_view last = components.back();
    if (const parameter_role role = role_of(last); role != parameter_role::none) {
        // the module's own name, also for the elements of a list: norms.0.weight
        const auto own = std::find_if_not(components.rbegin() + 1, components.rend(), is_number);
        if (own == components.rend() || !is_normalization(*own)) {
            return {};
        }
        return {tensor.substr(0, tensor.size() - last.size() - 1), role};
    }
    const std::size_t underscore = last.rfind('_'); // layer_norm_weight, as a fused layer names it
    if (underscore == std::string_view::npos || !is_normalization(last.substr(0, underscore))) {
        return {};
    }
    return {tensor.substr(0, tensor.size() - last.size() + underscore), role_of(last.substr(underscore + 1))};
}

/// A text whose plain order is the order of the layers: numbers by value, and, outside of numbered layers, what belongs
/// to the embeddings first and a model's own (final) normalisation after the parts of the model.
inline std::string layer_order_key(std::string_view module)
{
    const std::vector<std::string_view> components = path_components(module);
    std::string key;
    bool is_in_layer = false;
    for (std::size_t i = 0; i < components.size(); ++i) {
        const std::string_view component = components[i];
        const bool is_own_name = i + 1 == components.size();
        const std::vector<std::string> words = lower_case_words(component);
        const bool comes_first = std::any_of(words.begin(), words.end(), [&](const std::string& word) {
            return word.starts_with("emb") || (is_own_name && word == "pre");
        });
        key += '\x01'; // below any character of a name, so that a module sorts before what lies within it
        key += is_in_layer ? '1' : comes_first ? '0' : is_own_name ? '2' : '1';
        for (std::size_t at = 0; at < component.size();) {
            const auto stop =
                std::find_if_not(component.begin() + static_cast<std::ptrdiff_t>(at), component.end(), is_digit);
            std::string_view digits = component.substr(at, static_cast<std::size_t>(stop - component.begin()) - at);
            at += digits.size();
            if (digits.empty()) {
                key += component[at++];
                continue;
            }
            digits.remove_prefix(std::min(digits.find_first_not_of('0'), digits.size() - 1));
            const std::string length = std::to_string(digits.size());
            key.append(20 - length.size(), '0').append(length).append(digits);
        }
        is_in_layer = is_in_layer || (!component.empty() && is_digit(component.back()));
    }
    return key;
}

} // namespace scaledot::inline SCALEDOT_BUILD::detail

#endif
