// SPDX-License-Identifier: BSD-3-Clause
// GPT-2's own numbers for five prompts, out of gpt2-attention.safetensors.
//
// The file holds, for prompt N, N.scores [layer, head, query, key] (q·k before scaling, head size 64, not masked);
// N.probabilities, what the model computed from them: the causal softmax of scores / √64; and N.logits, those of the
// next token.
#ifndef SCALEDOT_EXAMPLES_GPT2_FILE_HPP
#define SCALEDOT_EXAMPLES_GPT2_FILE_HPP

#include <scaledot/detail/xtensor.hpp>

#include <cstddef>
#include <filesystem>
#include <memory>

namespace examples {

inline constexpr std::size_t gpt2_layers = 12;
inline constexpr std::size_t gpt2_heads = 12;
inline constexpr std::size_t gpt2_prompts = 5;
inline constexpr double gpt2_root_head_size = 8; ///< √64

class gpt2_file {
public:
    explicit gpt2_file(const std::filesystem::path& path);
    gpt2_file(const gpt2_file&) = delete;
    gpt2_file& operator=(const gpt2_file&) = delete;
    ~gpt2_file();

    /// @throws std::runtime_error  they are not [12, 12, L, L]
    xt::xarray<float> scores(std::size_t prompt) const;
    xt::xarray<float> probabilities(std::size_t prompt) const; ///< likewise

    xt::xarray<float> logits(std::size_t prompt) const;

private:
    struct opened;
    std::unique_ptr<const opened> file_;
};

/// The row of the last query, which sees every key: [heads of all layers, keys], times `scale`.
xt::xtensor<float, 2> last_rows(const xt::xarray<float>& scores, double scale);

} // namespace examples

#endif
