// SPDX-License-Identifier: BSD-3-Clause
#include "gpt2_heads.hpp"

#include "csv.hpp"
#include "gpt2_file.hpp"

#include <scaledot/diagnostics.hpp>
#include <scaledot/softmax.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

namespace examples {

namespace {

// What the model computed: softmax(scores / 8) over the keys up to the query's own.
xt::xarray<float> causal_probabilities(const xt::xarray<float>& scores)
{
    xt::xarray<float> masked = scores;
    const std::size_t length = scores.shape(3);
    for (std::size_t row = 0; row < scores.size() / length; ++row) {
        std::fill(masked.data() + row * length + row % length + 1, masked.data() + (row + 1) * length,
                  -std::numeric_limits<float>::infinity());
    }
    return scaledot::softmax(masked, {.temperature = gpt2_root_head_size});
}

} // namespace

std::vector<head_figures> measure_heads(const std::filesystem::path& path)
{
    const gpt2_file file(path);
    std::vector<head_figures> heads;
    for (std::size_t prompt = 0; prompt < gpt2_prompts; ++prompt) {
        const xt::xarray<float> scores = file.scores(prompt);
        const xt::xarray<float> ours = causal_probabilities(scores);
        const xt::xarray<float> models = file.probabilities(prompt);
        if (models.shape() != ours.shape()) {
            throw std::runtime_error(path.string() + ": probabilities and scores of a prompt must have one shape");
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

void save_heads(const std::vector<head_figures>& heads, const std::filesystem::path& path)
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

std::vector<head_figures> read_heads(const std::filesystem::path& path)
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

heads_source load_heads(const std::filesystem::path& scores)
{
    if (scores.empty()) {
        return {
            read_heads(recorded_heads),
            "GPT-2's figures are recorded ones: experiment 3 computed them from the model's own q·k (144 heads, five "
            "prompts) and keeps them in examples/data. Give the q·k with --scores to compute them again."};
    }
    return {measure_heads(scores), "GPT-2's figures are computed from the model's own q·k in " +
                                       scores.filename().string() + " (144 heads, five prompts)."};
}

double uniform_jacobian(std::size_t keys)
{
    const auto n = static_cast<double>(keys);
    return std::sqrt(n - 1) / n;
}

} // namespace examples
