// SPDX-License-Identifier: BSD-3-Clause
#include "gpt2_temperature.hpp"

#include "csv.hpp"
#include "gpt2_file.hpp"

#include <scaledot/diagnostics.hpp>
#include <scaledot/zone.hpp>

#include <cmath>

namespace examples {

namespace {

// Σ −p ln p of the last query's rows in the model's own probabilities, over ln L, averaged over the heads.
double model_entropy(const xt::xarray<float>& probabilities)
{
    const std::size_t keys = probabilities.shape(3);
    double sum = 0;
    for (std::size_t head = 0; head < gpt2_layers * gpt2_heads; ++head) {
        for (std::size_t key = 0; key < keys; ++key) {
            const double p = probabilities.data()[(head + 1) * keys * keys - keys + key];
            sum -= p > 0 ? p * std::log(p) : 0;
        }
    }
    return sum / static_cast<double>(gpt2_layers * gpt2_heads) / std::log(static_cast<double>(keys));
}

} // namespace

std::vector<sharpness> measure_temperatures(const std::filesystem::path& path)
{
    const gpt2_file file(path);
    std::vector<sharpness> rows;
    for (std::size_t prompt = 0; prompt < gpt2_prompts; ++prompt) {
        const xt::xarray<float> scores = file.scores(prompt);
        const xt::xarray<float> logits = file.logits(prompt);
        const double of_keys = std::log(static_cast<double>(scores.shape(3)));
        const double of_tokens = std::log(static_cast<double>(logits.size()));
        const xt::xtensor<float, 2> heads = last_rows(scores, 1);
        const double head_spread = mean_of(scaledot::softmax_diagnostics(heads).logit_standard_deviation);
        const double token_spread = scaledot::summarize(logits).standard_deviation;
        for (int k = -8; k <= 12; ++k) {
            const double t = std::exp2(k / 2.0); // 1/16 … 64, with 1 and 8 among them
            const auto of_heads = scaledot::softmax_diagnostics(heads, {.temperature = t});
            const auto of_logits = scaledot::softmax_diagnostics(logits, {.temperature = t});
            rows.push_back({"heads", prompt, t, mean_of(of_heads.entropy) / of_keys, mean_of(of_heads.max_probability),
                            head_spread});
            rows.push_back({"next_token", prompt, t, mean_of(of_logits.entropy) / of_tokens,
                            mean_of(of_logits.max_probability), token_spread});
        }
        const double recommended = scaledot::recommended_temperature(heads);
        const auto back = scaledot::softmax_diagnostics(heads, {.temperature = recommended});
        rows.push_back({"recommended", prompt, recommended, mean_of(back.entropy) / of_keys,
                        mean_of(back.max_probability), head_spread});
        const double entropy = model_entropy(file.probabilities(prompt));
        rows.push_back({"model", prompt, gpt2_root_head_size, entropy, 0, head_spread});
    }
    return rows;
}

void save_temperatures(const std::vector<sharpness>& rows, const std::filesystem::path& path)
{
    csv_writer table({"what", "prompt", "temperature", "entropy", "largest", "logit_sd"});
    for (const sharpness& s : rows) {
        table.row(s.what, s.prompt, s.temperature, s.entropy, format("%.5g", s.largest),
                  format("%.6g", s.logit_spread));
    }
    table.save(path);
}

std::vector<sharpness> read_temperatures(const std::filesystem::path& path)
{
    const csv_table table(path);
    std::vector<sharpness> rows;
    for (std::size_t i = 0; i < table.rows(); ++i) {
        const auto number = [&](const char* column) { return table.number(i, column); };
        rows.push_back({table.text(i, "what"), table.index(i, "prompt"), number("temperature"), number("entropy"),
                        number("largest"), number("logit_sd")});
    }
    return rows;
}

} // namespace examples
