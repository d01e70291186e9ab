// SPDX-License-Identifier: BSD-3-Clause
// Experiment 3: what 1/√d does to the softmax, on random matrices and in GPT-2.
//
//     p = softmax(QKᵀ)  against  p = softmax(QKᵀ/√d),      p_j = exp(s_j) / Σ_k exp(s_k)
//
// Shares are exponentials of scores, so scores that spread by √d = 7 differ by factors of e⁷ ≈ 1100 in their shares: a
// few keys take all, the rest get nothing. Scores that spread by 1 differ by factors of e, and the mass spreads.
//
// Training needs the gradient. It comes back through the Jacobian ∂p_i/∂s_j = p_i (δ_ij − p_j), that is diag(p) − p pᵀ.
// Of a key with a share of nearly 0, or of 1, it passes nothing on: p_i (1 − p_i) ≈ 0. The norm of the whole matrix
// vanishes only once a single key has everything. Two keys that share a row keep it near ½, and with d = 50 that is
// still common: here it is most keys that lose their gradient, and whole rows follow as d grows. Both are measured; in
// GPT-2 it is whole rows.
//
// In GPT-2 (head size 64, --scores FILE) the model's own q·k take the place of QKᵀ, and the probabilities that the
// model itself computed are what softmax(scores/8) is held against.
#include "support/csv.hpp"
#include "support/gpt2_heads.hpp"
#include "support/plot.hpp"
#include "support/program.hpp"
#include "support/results.hpp"
#include "support/text.hpp"

#include <scaledot/diagnostics.hpp>
#include <scaledot/scores.hpp>
#include <scaledot/softmax.hpp>
#include <scaledot/statistics.hpp>
#include <scaledot/verdict.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace sd = scaledot;
using namespace examples;

namespace {

// A gradient below 1 % of what equal shares would pass on counts as vanished, one of 10 % and more as alive.
constexpr double vanished = 0.01;
constexpr double alive = 0.1;

// What one draw's probabilities look like; the shares and gradients are those of the median key or row.
struct mass {
    std::vector<double> held_by_few, near_zero, effective, key_gradient, row_gradient, entropy;
    std::size_t saturated = 0, balanced = 0; // draws, by head_verdicts

    void add(const xt::xtensor<double, 2>& probabilities, const auto& diagnostics, std::size_t few)
    {
        const sd::zone_verdict verdict = sd::head_verdicts(diagnostics).at(0);
        entropy.push_back(verdict.normalised_entropy);
        saturated += verdict.zone == sd::logit_zone::saturated ? 1 : 0;
        balanced += verdict.zone == sd::logit_zone::balanced ? 1 : 0;
        const std::size_t keys = probabilities.shape(1);
        std::vector<double> top, gradients;
        for (std::size_t i = 0; i < probabilities.shape(0); ++i) {
            std::vector<double> row(&probabilities(i, 0), &probabilities(i, 0) + keys);
            std::sort(row.begin(), row.end(), std::greater<>());
            top.push_back(0);
            for (std::size_t j = 0; j < keys; ++j) {
                top.back() += j < few ? row[j] : 0;
                gradients.push_back(row[j] * (1 - row[j]));
            }
        }
        held_by_few.push_back(sd::quantile(xt::adapt(top), 0.5));
        near_zero.push_back(sd::fraction_within(probabilities, 0, 0.01 / static_cast<double>(keys)));
        effective.push_back(sd::quantile(diagnostics.effective_keys, 0.5));
        key_gradient.push_back(sd::quantile(xt::adapt(gradients), 0.5));
        row_gradient.push_back(sd::quantile(diagnostics.jacobian_norm, 0.5));
    }
};

void random_part(results& found, const common_options& options, std::size_t tokens, std::size_t head_size)
{
    const std::size_t few = std::max<std::size_t>(1, tokens * 6 / 100);
    mass before, after;
    for (std::size_t trial = 0; trial < options.trials; ++trial) {
        std::mt19937 engine = generator(options.seed, trial);
        const auto q = gaussian(tokens, head_size, engine);
        const auto k = gaussian(tokens, head_size, engine);
        const auto unscaled = sd::attention_scores(q, k, sd::score_stage::probabilities, {.scale = 1.0});
        const auto scaled = sd::attention_scores(q, k, sd::score_stage::probabilities); // 1/√d is the default
        before.add(unscaled, sd::attention_diagnostics(q, k, {.scale = 1.0}), few);
        after.add(scaled, sd::attention_diagnostics(q, k), few);

        if (trial == 0) {
            const auto scores = sd::attention_scores(q, k, sd::score_stage::scaled, {.scale = 1.0});
            const auto log_unscaled = sd::log_softmax(scores);
            const auto log_scaled = sd::log_softmax(scores, {.temperature = std::sqrt(static_cast<double>(head_size))});
            csv_writer points({"before", "after", "negative_log_before", "negative_log_after"});
            for (std::size_t i = 0; i < scores.size(); ++i) {
                points.row(unscaled.data()[i], scaled.data()[i], -log_unscaled.data()[i], -log_scaled.data()[i]);
            }
            points.save(options.output / "03_scatter.csv");
        }
    }

    const auto n = static_cast<double>(tokens);
    const double key_limit = (1 - 1 / n) / n;
    const spread top = spread_of(before.held_by_few);
    const spread zero_before = spread_of(before.near_zero);
    const spread zero_after = spread_of(after.near_zero);
    const spread effective_before = spread_of(before.effective);
    const spread effective_after = spread_of(after.effective);
    const spread gradient_before = spread_of(before.key_gradient);
    const spread gradient_after = spread_of(after.key_gradient);
    // A few: 6 % of the keys; nearly all: 90 % of the mass; ≈ 0: a hundredth of an equal share.
    found.claim(format("before: %zu of %zu keys hold nearly all mass, > 0.9", few, tokens), text(top, "%.3f"),
                top.median > 0.9);
    found.claim("before: most of the other keys get ≈ 0 (< 0.01/n)", text(zero_before, "%.3f") + " of the keys",
                zero_before.median > 0.5);
    found.claim("after: nearly no key gets ≈ 0, < 1 %", text(zero_after, "%.4f") + " of the keys",
                zero_after.median < 0.01);
    // exp(entropy) counts the keys that matter; for Gaussian scores of spread 1 it is n/√e ≈ 0.61 n.
    found.claim("the mass spreads: effective keys from < n/10 to > n/2",
                text(effective_before, "%.1f") + " → " + text(effective_after, "%.1f"),
                effective_before.median < n / 10 && effective_after.median > n / 2);
    found.claim("the verdict on every draw: saturated before, balanced after",
                "H/ln n " + text(spread_of(before.entropy), "%.3f") + " → " + text(spread_of(after.entropy), "%.3f"),
                before.saturated == options.trials && after.balanced == options.trials);
    found.claim("before: the median key's gradient p(1−p) vanishes, < 1 %",
                text(spread{gradient_before.low / key_limit, gradient_before.median / key_limit,
                            gradient_before.high / key_limit},
                     "%.1e") +
                    " of equal shares'",
                gradient_before.median < vanished * key_limit);
    found.claim(
        "after: it does not, > 10 %",
        text(spread{gradient_after.low / key_limit, gradient_after.median / key_limit, gradient_after.high / key_limit},
             "%.2f") +
            " of equal shares'",
        gradient_after.median > alive * key_limit);
    found.not_asked(format("shown, not claimed: a whole row's Jacobian norm at d = %zu", head_size),
                    text(spread_of(before.row_gradient), "%.3f") + " → " + text(spread_of(after.row_gradient), "%.3f"));
}

void sweep_head_size(results& found, const common_options& options, std::size_t tokens)
{
    csv_writer curve(
        {"head_size", "low_before", "median_before", "high_before", "low_after", "median_after", "high_after"});
    spread last_before{}, last_after{};
    constexpr std::size_t largest = 1024;
    for (std::size_t size = 2; size <= largest; size *= 2) {
        std::vector<double> before, after;
        for (std::size_t trial = 0; trial < options.trials; ++trial) {
            std::mt19937 engine = generator(options.seed, trial);
            const auto q = gaussian(tokens, size, engine);
            const auto k = gaussian(tokens, size, engine);
            before.push_back(sd::quantile(sd::attention_diagnostics(q, k, {.scale = 1.0}).jacobian_norm, 0.5));
            after.push_back(sd::quantile(sd::attention_diagnostics(q, k).jacobian_norm, 0.5));
        }
        last_before = spread_of(before);
        last_after = spread_of(after);
        curve.row(size, last_before.low, last_before.median, last_before.high, last_after.low, last_after.median,
                  last_after.high);
    }
    curve.save(options.output / "03_head_size.csv");
    const double limit = uniform_jacobian(tokens);
    found.claim(format("before, d = %zu: the median row's Jacobian vanishes, < 1 %% of equal shares'", largest),
                text(last_before, "%.1e") + format(", %.2f %%", 100 * last_before.median / limit),
                last_before.median < vanished * limit);
    found.claim(format("after, d = %zu: it does not, > 10 %%", largest),
                text(last_after, "%.3f") + format(", %.0f %%", 100 * last_after.median / limit),
                last_after.median > alive * limit);
}

void gpt2_part(results& found, const std::vector<head_figures>& heads, const std::filesystem::path& output)
{
    const auto deviations = over_heads(heads, [](const head_figures& h) { return h.deviation; });
    const double deviation = *std::max_element(deviations.begin(), deviations.end());
    // Rounding in the model's float arithmetic alone makes 1.6e-7.
    found.claim("GPT-2: softmax(scores/8), causal, equals the model's probabilities to 3e-7",
                format("at most %.2g off", deviation), deviation <= 3e-7);

    csv_writer layers({"layer", "prompt", "entropy_before", "entropy_after"});
    std::array<std::size_t, gpt2_layers> saturated_before{}, saturated_after{};
    for (const head_figures& h : heads) {
        const double most = std::log(static_cast<double>(h.keys));
        const auto saturated = [&](const row_figures& row) {
            return sd::classify_entropy(row.entropy * most, h.keys) == sd::logit_zone::saturated ? 1 : 0;
        };
        saturated_before[h.layer] += static_cast<std::size_t>(saturated(h.before));
        saturated_after[h.layer] += static_cast<std::size_t>(saturated(h.after));
    }
    csv_writer verdicts({"layer", "saturated_before", "saturated_after"});
    constexpr double of_layer = gpt2_prompts * gpt2_heads;
    for (std::size_t layer = 0; layer < gpt2_layers; ++layer) {
        verdicts.row(layer, static_cast<double>(saturated_before[layer]) / of_layer,
                     static_cast<double>(saturated_after[layer]) / of_layer);
    }
    verdicts.save(output / "03_verdicts.csv");
    for (std::size_t prompt = 0; prompt < gpt2_prompts; ++prompt) {
        double before = 0, after = 0;
        std::vector<double> layer_before(gpt2_layers), layer_after(gpt2_layers);
        for (const head_figures& h : heads) {
            if (h.prompt == prompt) {
                layer_before[h.layer] += h.before.entropy / gpt2_heads;
                layer_after[h.layer] += h.after.entropy / gpt2_heads;
                before += h.before.entropy / (gpt2_layers * gpt2_heads);
                after += h.after.entropy / (gpt2_layers * gpt2_heads);
            }
        }
        for (std::size_t layer = 0; layer < gpt2_layers; ++layer) {
            layers.row(layer, prompt, layer_before[layer], layer_after[layer]);
        }
        const std::string measured = format("%.3f → %.3f", before, after);
        if (prompt == 0) {
            found.claim("GPT-2, prompt 0: mean normalised entropy 0.064 → 0.536", measured,
                        measured == "0.064 → 0.536");
        } else {
            // L^0.1 = 1.2 of 6 keys in effect is hardly a choice; L^(1/3) = 1.8 is one.
            found.claim(format("GPT-2, prompt %zu: mean normalised entropy from < 0.1 to > 1/3", prompt), measured,
                        before < 0.1 && after > 1.0 / 3);
        }
    }
    layers.save(output / "03_layers.csv");

    csv_writer map({"layer", "head", "entropy_before", "entropy_after"});
    for (std::size_t i = 0; i < gpt2_layers * gpt2_heads; ++i) {
        double before = 0, after = 0;
        for (std::size_t prompt = 0; prompt < gpt2_prompts; ++prompt) {
            before += heads[prompt * gpt2_layers * gpt2_heads + i].before.entropy / gpt2_prompts;
            after += heads[prompt * gpt2_layers * gpt2_heads + i].after.entropy / gpt2_prompts;
        }
        map.row(i / gpt2_heads, i % gpt2_heads, before, after);
    }
    map.save(output / "03_heads.csv");
    save_heads(heads, output / "03_heads_by_prompt.csv");

    const spread largest_before = spread_of(over_heads(heads, [](const head_figures& h) { return h.before.largest; }));
    const spread largest_after = spread_of(over_heads(heads, [](const head_figures& h) { return h.after.largest; }));
    found.claim("GPT-2: one key holds nearly all before, > 0.9 in the median head; not after",
                text(largest_before, "%.3f") + " → " + text(largest_after, "%.3f"),
                largest_before.median > 0.9 && largest_after.median < 0.9);
    const spread before = spread_of(
        over_heads(heads, [](const head_figures& h) { return h.before.jacobian / uniform_jacobian(h.keys); }));
    const spread after =
        spread_of(over_heads(heads, [](const head_figures& h) { return h.after.jacobian / uniform_jacobian(h.keys); }));
    found.claim("GPT-2, before: the median head's Jacobian vanishes, < 1 % of equal shares'", text(before, "%.1e"),
                before.median < vanished);
    found.claim("GPT-2, after: it does not, > 10 %", text(after, "%.2f"), after.median > alive);
}

void draw_figures(const std::filesystem::path& output, std::size_t tokens, std::size_t head_size, double limit)
{
    draw(output, "03_softmax_scatter", {1200, 430},
         format(R"(set multiplot layout 1,3
set title 'Shares, %1$zu × %1$zu scores, d = %2$zu'
set xlabel 'softmax(QKᵀ)'; set ylabel 'softmax(QKᵀ/√d)'; set xrange [-0.02:1.02]
plot '03_scatter.csv' skip 1 using 1:2 pt 7 ps 0.3 lc rgb blue notitle
set title 'Negative logarithms of the shares'; set autoscale x; set xrange [0:*]; set yrange [0:*]
set xlabel '−log softmax(QKᵀ)'; set ylabel '−log softmax(QKᵀ/√d)'; set key right bottom
plot '03_scatter.csv' skip 1 using 3:4 pt 7 ps 0.3 lc rgb blue notitle, \
     log(%1$zu) dt 2 lc rgb '#404040' title 'ln n: equal shares'
set title "Jacobian norm of the median row"; set logscale xy; set xrange [2:1024]; set yrange [1e-7:2]
set format y '10^{%%T}'; set xlabel 'head size d'; set ylabel '‖diag(p) − p pᵀ‖'; set key left bottom
set xtics (2, 8, 32, 128, 512); set style fill transparent solid 0.25 noborder
plot '03_head_size.csv' skip 1 using 1:2:4 with filledcurves lc rgb red notitle, \
     '' skip 1 using 1:3 with linespoints pt 7 ps 0.6 lw 1.5 lc rgb red title 'before, 5 … 95 %% of draws', \
     '' skip 1 using 1:5:7 with filledcurves lc rgb blue notitle, \
     '' skip 1 using 1:6 with linespoints pt 7 ps 0.6 lw 1.5 lc rgb blue title 'after', \
     %3$.6g dt 2 lc rgb '#404040' title 'equal shares'
unset multiplot)",
                tokens, head_size, limit));

    draw(output, "03_gpt2_heads", {1200, 450}, R"(set multiplot layout 1,3
set xrange [-0.5:11.5]; set yrange [11.5:-0.5]; set cbrange [0:1]; set xtics 0,1,11; set ytics 0,1,11; unset grid
set palette defined (0 '#081d58', 0.25 '#225ea8', 0.5 '#41b6c4', 0.75 '#c7e9b4', 1 '#ffffd9')
set xlabel 'head'; set ylabel 'layer'; set cblabel 'entropy / ln L (0: one key, 1: all alike)'
set border 15; set size ratio 1
set title 'GPT-2 without 1/√64'
plot '03_heads.csv' skip 1 using 2:1:3 with image pixels notitle
set title 'GPT-2 as it is, with 1/√64'
plot '03_heads.csv' skip 1 using 2:1:4 with image pixels notitle
set title 'Mean over the heads of a layer, five prompts'; set border 3; set grid
set yrange [0:1]; set xtics 0,1,11; set ytics autofreq; set xlabel 'layer'; set ylabel 'entropy / ln L'
set key right top; set yrange [0:1.45]; set ytics 0,0.2,1; set ylabel 'entropy / ln L; share of heads'
plot '03_layers.csv' skip 1 using 1:3 with points pt 7 ps 0.7 lc rgb red title 'entropy without 1/√64', \
     '' skip 1 using 1:4 with points pt 7 ps 0.7 lc rgb blue title 'entropy with 1/√64', \
     '03_verdicts.csv' skip 1 using 1:2 with lines lw 1.5 dt 2 lc rgb red title 'heads saturated without 1/√64', \
     '' skip 1 using 1:3 with lines lw 1.5 dt 2 lc rgb blue title 'heads saturated with 1/√64'
unset multiplot)");
}

} // namespace

int main(int argc, char** argv)
{
    command_line line("Experiment 3: softmax before and after scaling by 1/√d");
    common_options options;
    std::size_t tokens = 50;
    std::size_t head_size = 50;
    std::filesystem::path scores;
    bool record = false;
    options.add_to(line);
    line.add("--tokens", tokens, "rows of Q and of K", within{2, 1024});
    line.add("--head-size", head_size, "columns of Q and of K", within{1, 4096});
    line.add("--scores", scores,
             "GPT-2's q·k and probabilities (gpt2-attention.safetensors); without it, the recorded figures are shown");
    line.add("--record", record, "keep GPT-2's figures as the recorded ones", needs{"--scores"});

    return run(line, argc, argv, options, [&] {
        results found("03_softmax_before_and_after_scaling", "Experiment 3: softmax before and after scaling");
        const heads_source gpt2 = load_heads(scores);
        found.note(format(
            "%zu draws of Q and K, %zu × %zu; median and 5 … 95 %% over the draws (GPT-2: over heads and prompts).",
            options.trials, tokens, head_size));
        found.note(gpt2.note);
        if (record) {
            save_heads(gpt2.heads, recorded_heads);
        }
        random_part(found, options, tokens, head_size);
        sweep_head_size(found, options, tokens);
        gpt2_part(found, gpt2.heads, options.output);

        draw_figures(options.output, tokens, head_size, uniform_jacobian(tokens));
        found.figure("03_softmax_scatter",
                     "Random matrices: the same scores with and without 1/√d; right, what a row's "
                     "gradient does as heads grow.");
        found.figure("03_gpt2_heads", "GPT-2's 144 heads: entropy of the last query's row, mean over five prompts.");
        found.conclude(
            "Without 1/√d a few keys hold all the mass and the median key gets neither share nor gradient; with it "
            "the mass spreads and every key can learn. On 50 × 50 random matrices whole rows still pass a gradient "
            "on, through the two or three keys that win; they stop doing so as heads grow. In GPT-2 half of the "
            "heads would be dead without the factor.");
        return found.finish(options.output);
    });
}
