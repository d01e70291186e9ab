// SPDX-License-Identifier: BSD-3-Clause
// What each of GPT-2's 144 heads sees for five prompts: computed from the model's own q·k, or read back as it was
// recorded.
//
// The file holds, for prompt N, N.scores [layer, head, query, key] (q·k before scaling, head size 64, not masked) and
// N.probabilities, what the model computed from them: the causal softmax of scores / √64.
#ifndef SCALEDOT_EXAMPLES_GPT2_HEADS_HPP
#define SCALEDOT_EXAMPLES_GPT2_HEADS_HPP

#include "csv.hpp"
#include "program.hpp"

#include <scaledot/diagnostics.hpp>
#include <scaledot/safetensors.hpp>
#include <scaledot/softmax.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <filesystem>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

namespace examples {

inline constexpr std::size_t gpt2_layers = 12;
inline constexpr std::size_t gpt2_heads = 12;
inline constexpr std::size_t gpt2_prompts = 5;
inline constexpr double gpt2_root_head_size = 8; ///< √64

inline const std::filesystem::path recorded_heads = recorded_directory / "gpt2-heads.csv";

/// One softmax: the last query's row of one head. The entropy is divided by ln(number of keys).
struct row_figures {
    double entropy, largest, jacobian;
};

struct head_figures {
    std::size_t prompt, layer, head, keys;
    double logit_spread; ///< standard deviation of the row's q·k
    row_figures before, after;
    double deviation; ///< largest difference, over all queries, of our causal softmax from the model's probabilities
};

inline xt::xarray<float> gpt2_scores(const scaledot::safetensors_file& file, std::size_t prompt)
{
    xt::xarray<float> scores = file.read<float>(std::to_string(prompt) + ".scores");
    if (scores.dimension() != 4 || scores.shape(0) != gpt2_layers || scores.shape(1) != gpt2_heads ||
        scores.shape(2) != scores.shape(3) || scores.shape(3) < 2) {
        throw std::runtime_error(file.file_name() + ": the scores of a prompt must be [12, 12, L, L], L at least 2");
    }
    return scores;
}

/// The row of the last query, which sees every key: [heads of all layers, keys], times `scale`.
inline xt::xtensor<float, 2> last_rows(const xt::xarray<float>& scores, double scale)
{
    const std::size_t keys = scores.shape(3);
    xt::xtensor<float, 2> rows = xt::xtensor<float, 2>::from_shape({gpt2_layers * gpt2_heads, keys});
    for (std::size_t head = 0; head < rows.shape(0); ++head) {
        for (std::size_t key = 0; key < keys; ++key) {
            rows(head, key) = static_cast<float>(scores(head / gpt2_heads, head % gpt2_heads, keys - 1, key) * scale);
        }
    }
    return rows;
}

/// What the model computed: softmax(scores / 8) over the keys up to the query's own.
inline xt::xarray<float> causal_probabilities(const xt::xarray<float>& scores)
{
    xt::xarray<float> masked = scores;
    const std::size_t length = scores.shape(3);
    for (std::size_t row = 0; row < scores.size() / length; ++row) {
        std::fill(masked.data() + row * length + row % length + 1, masked.data() + (row + 1) * length,
                  -std::numeric_limits<float>::infinity());
    }
    return scaledot::softmax(masked, {.temperature = gpt2_root_head_size});
}

inline std::vector<head_figures> measure_heads(const scaledot::safetensors_file& file)
{
    std::vector<head_figures> heads;
    for (std::size_t prompt = 0; prompt < gpt2_prompts; ++prompt) {
        const xt::xarray<float> scores = gpt2_scores(file, prompt);
        const xt::xarray<float> ours = causal_probabilities(scores);
        const xt::xarray<float> models = file.read<float>(std::to_string(prompt) + ".probabilities");
        if (models.shape() != ours.shape()) {
            throw std::runtime_error(file.file_name() + ": probabilities and scores of a prompt must have one shape");
        }
        const std::size_t keys = scores.shape(3);
        const double uniform = std::log(static_cast<double>(keys));
        const auto before = scaledot::softmax_diagnostics(last_rows(scores, 1));
        const auto after = scaledot::softmax_diagnostics(last_rows(scores, 1 / gpt2_root_head_size));
        for (std::size_t i = 0; i < gpt2_layers * gpt2_heads; ++i) {
            double deviation = 0;
            for (std::size_t j = i * keys * keys; j < (i + 1) * keys * keys; ++j) {
                deviation = std::max(
                    deviation, std::abs(static_cast<double>(ours.data()[j]) - static_cast<double>(models.data()[j])));
            }
            const auto row = [&](const auto& d) {
                return row_figures{static_cast<double>(d.entropy(i)) / uniform,
                                   static_cast<double>(d.max_probability(i)), static_cast<double>(d.jacobian_norm(i))};
            };
            heads.push_back({prompt, i / gpt2_heads, i % gpt2_heads, keys,
                             static_cast<double>(before.logit_standard_deviation(i)), row(before), row(after),
                             deviation});
        }
    }
    return heads;
}

inline void save_heads(const std::vector<head_figures>& heads, const std::filesystem::path& path)
{
    csv_writer table({"prompt", "layer", "head", "keys", "logit_sd", "entropy_before", "entropy_after",
                      "largest_before", "largest_after", "jacobian_before", "jacobian_after", "deviation"});
    // Six digits are more than any claim asks for and keep the file small.
    const auto short_number = [](double value) { return format("%.6g", value); };
    for (const head_figures& h : heads) {
        table.row(h.prompt, h.layer, h.head, h.keys, short_number(h.logit_spread), short_number(h.before.entropy),
                  short_number(h.after.entropy), short_number(h.before.largest), short_number(h.after.largest),
                  short_number(h.before.jacobian), short_number(h.after.jacobian), format("%.2g", h.deviation));
    }
    table.save(path);
}

inline std::vector<head_figures> read_heads(const std::filesystem::path& path)
{
    const csv_table table(path);
    std::vector<head_figures> heads;
    for (std::size_t i = 0; i < table.rows(); ++i) {
        const auto number = [&](const char* column) { return table.number(i, column); };
        heads.push_back({table.index(i, "prompt"),
                         table.index(i, "layer"),
                         table.index(i, "head"),
                         table.index(i, "keys"),
                         number("logit_sd"),
                         {number("entropy_before"), number("largest_before"), number("jacobian_before")},
                         {number("entropy_after"), number("largest_after"), number("jacobian_after")},
                         number("deviation")});
        const head_figures& h = heads.back();
        if (h.prompt * gpt2_layers * gpt2_heads + h.layer * gpt2_heads + h.head != i || h.keys < 2) {
            throw std::runtime_error(format("%s, line %zu: the heads are not in their order", path.c_str(), i + 2));
        }
    }
    if (heads.size() != gpt2_prompts * gpt2_layers * gpt2_heads) {
        throw std::runtime_error(path.string() + " does not hold five prompts of 144 heads");
    }
    return heads;
}

/// The heads' figures and where they come from, in words.
struct heads_source {
    std::vector<head_figures> heads;
    std::string note;
};

inline heads_source load_heads(const std::filesystem::path& scores)
{
    if (scores.empty()) {
        return {
            read_heads(recorded_heads),
            "GPT-2's figures are recorded ones: experiment 3 computed them from the model's own q·k (144 heads, five "
            "prompts) and keeps them in examples/data. Give the q·k with --scores to compute them again."};
    }
    return {measure_heads(scaledot::safetensors_file(scores)),
            "GPT-2's figures are computed from the model's own q·k in " + scores.filename().string() +
                " (144 heads, five prompts)."};
}

/// One figure of every head, for all prompts.
template <class Figure>
std::vector<double> over_heads(const std::vector<head_figures>& heads, Figure&& figure)
{
    std::vector<double> values;
    std::transform(heads.begin(), heads.end(), std::back_inserter(values), figure);
    return values;
}

/// Norm of the Jacobian diag(p) - p pᵀ where all n keys have the share 1/n: the measure of what is left of a gradient.
inline double uniform_jacobian(std::size_t keys)
{
    const auto n = static_cast<double>(keys);
    return std::sqrt(n - 1) / n;
}

} // namespace examples

#endif
