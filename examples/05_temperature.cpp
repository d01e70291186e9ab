// SPDX-License-Identifier: BSD-3-Clause
// Experiment 5: attention's 1/√d is a temperature.
//
//     softmax(z / T):   T → 0 picks the largest logit,  T → ∞ makes all alike,  and in between the entropy grows with
//     T.
//
// Attention computes softmax(QKᵀ/√d), which is softmax(QKᵀ) at the temperature T = √d. The scores QKᵀ spread by √d
// (experiment 1), so what counts for how sharp the softmax is, is T/√d alone: plotted over T, every head size has a
// curve of its own; plotted over T/√d they are one. Attention sits at T/√d = 1 whatever its head size.
//
// Asked which temperature brings QKᵀ into the zone (experiment 6), scaledot's recommended_temperature answers the same:
// a fixed multiple of √d, 1/√(0.2 ln n), for every head size.
//
// GPT-2 (--scores FILE) has both: 144 heads of size 64, trained at T = 8, and next-token logits, which are sampled at
// T around 1. Of those, at high T, only the spread counts: H/ln n = 1 − (σ/T)² / (2 ln n) + ..., as for any logits.
#include "support/csv.hpp"
#include "support/gpt2_temperature.hpp"
#include "support/plot.hpp"
#include "support/program.hpp"
#include "support/results.hpp"
#include "support/text.hpp"

#include <scaledot/diagnostics.hpp>
#include <scaledot/scores.hpp>
#include <scaledot/softmax.hpp>
#include <scaledot/zone.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <filesystem>
#include <limits>
#include <string>
#include <vector>

namespace sd = scaledot;
using namespace examples;

namespace {

constexpr std::array<std::size_t, 4> head_sizes = {16, 64, 256, 1024};
// T/√d in steps of 2^¼ from 2⁻⁴ to 2⁴. The √d are powers of two, so that different head sizes meet at the same T.
constexpr int steps_per_octave = 4;
constexpr int steps = 2 * 4 * steps_per_octave + 1;

double ratio_at(int step)
{
    return std::exp2(static_cast<double>(step) / steps_per_octave - 4);
}

double largest_relative_difference(const xt::xtensor<double, 2>& a, const xt::xtensor<double, 2>& b)
{
    double largest = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
        largest = std::max(largest, std::abs(a.data()[i] - b.data()[i]) / b.data()[i]);
    }
    return largest;
}

void same_thing(results& found, const common_options& options, std::size_t tokens)
{
    constexpr double epsilon = std::numeric_limits<double>::epsilon();
    constexpr std::array<std::size_t, 3> sizes = {10, 50, 768}; // √d is not a power of two, so dividing by it rounds
    double worst = 0, worst_bound = 0, attention_worst = 0, attention_bound = 0;
    std::vector<double> temperatures;
    for (std::size_t trial = 0; trial < options.trials; ++trial) {
        const std::size_t d = sizes[trial % sizes.size()];
        const double root = std::sqrt(static_cast<double>(d));
        std::mt19937 engine = generator(options.seed, trial);
        const auto q = gaussian(tokens, d, engine);
        const auto k = gaussian(tokens, d, engine);
        const auto scores = sd::attention_scores(q, k, sd::score_stage::scaled, {.scale = 1.0});
        const xt::xtensor<double, 2> divided = scores / root;

        const auto at_temperature = sd::softmax(scores, {.temperature = root});
        const double largest_logit = std::max(-sd::summarize(divided).minimum, sd::summarize(divided).maximum);
        // Both softmaxes are within softmax_max_ulp of exact, and dividing first rounds each logit once.
        worst = std::max(worst, largest_relative_difference(at_temperature, sd::softmax(divided)));
        worst_bound = std::max(worst_bound, epsilon * (2 * sd::softmax_max_ulp + largest_logit));

        // Attention's own probabilities. Two sums of d products, rounded differently, differ by at most d + 2 units of
        // Σ|q k| ≤ |q| |k|, which for N(0, 1) is below 2 d; a logit's error counts twice, in numerator and denominator.
        const auto probabilities = sd::attention_scores(q, k, sd::score_stage::probabilities);
        attention_worst = std::max(attention_worst, largest_relative_difference(probabilities, at_temperature));
        attention_bound =
            std::max(attention_bound, epsilon * (2 * sd::softmax_max_ulp + 2 * static_cast<double>(d + 2) * 2 * root));

        // The other way round: which temperature makes the raw scores as sharp as attention is?
        const xt::xtensor<double, 1> row = xt::view(scores, 0, xt::all());
        temperatures.push_back(sd::temperature_for_entropy(row, sd::attention_diagnostics(q, k).entropy(0)) / root);
    }
    found.claim("softmax(s, T = √d) = softmax(s/√d) up to rounding",
                format("relative difference ≤ %.1e, bound %.1e", worst, worst_bound), worst <= worst_bound);
    found.claim("attention(q, k) weighs with softmax(QKᵀ, T = √d)",
                format("relative difference ≤ %.1e, bound %.1e", attention_worst, attention_bound),
                attention_worst <= attention_bound);
    // Half of a double's digits: the temperature is the solution of an equation for the entropy.
    const sd::summary t = sd::summarize(xt::adapt(temperatures));
    const double off = std::max(t.maximum - 1, 1 - t.minimum);
    found.claim("the T that gives QKᵀ attention's entropy is √d", format("T/√d = 1 to %.1e", off),
                off <= std::sqrt(epsilon));
}

void one_curve(results& found, const common_options& options, std::size_t tokens)
{
    // bands[d][step]: spread over the draws of the mean entropy of a draw's rows, over ln n.
    std::array<std::array<spread, steps>, head_sizes.size()> bands{};
    const double uniform = std::log(static_cast<double>(tokens));
    csv_writer curve({"head_size", "temperature", "ratio", "low", "median", "high"});
    csv_writer recommended({"head_size", "temperature", "ratio", "entropy"});
    double expected_off = 0;
    std::string ratios;
    for (std::size_t s = 0; s < head_sizes.size(); ++s) {
        const double root = std::sqrt(static_cast<double>(head_sizes[s]));
        std::array<std::vector<double>, steps> entropies;
        std::vector<double> back;
        for (std::size_t trial = 0; trial < options.trials; ++trial) {
            std::mt19937 engine = generator(options.seed, trial * head_sizes.size() + s);
            const auto q = gaussian(tokens, head_sizes[s], engine);
            const auto k = gaussian(tokens, head_sizes[s], engine);
            const auto scores = sd::attention_scores(q, k, sd::score_stage::scaled, {.scale = 1.0});
            back.push_back(sd::recommended_temperature(scores) / root);
            for (int step = 0; step < steps; ++step) {
                const auto rows = sd::softmax_diagnostics(scores, {.temperature = ratio_at(step) * root});
                entropies[static_cast<std::size_t>(step)].push_back(mean_of(rows.entropy) / uniform);
            }
        }
        for (int step = 0; step < steps; ++step) {
            const spread band = spread_of(entropies[static_cast<std::size_t>(step)]);
            bands[s][static_cast<std::size_t>(step)] = band;
            curve.row(head_sizes[s], ratio_at(step) * root, ratio_at(step), band.low, band.median, band.high);
        }
        curve.gap();
        curve.gap();
        const spread ratio = spread_of(back);
        recommended.row(head_sizes[s], ratio.median * root, ratio.median, sd::zone_centre_entropy);
        ratios += format("%s%.3f", s > 0 ? ", " : "", ratio.median);
        expected_off = std::max(expected_off, std::abs(ratio.median * sd::zone_centre(tokens) - 1));
    }
    curve.save(options.output / "05_curves.csv");
    recommended.save(options.output / "05_recommended.csv");
    // √(0.2 ln n) is right to second order in σ; the next term makes the temperature a few percent too high.
    found.claim(format("recommended_temperature(QKᵀ) = √d / √(0.2 ln n) = %.3f √d for every head size, to 10 %%",
                       1 / sd::zone_centre(tokens)),
                ratios + " √d", expected_off <= 0.1);

    // Over T/√d: the medians of two head sizes may differ by no more than single draws do; over T they do.
    double apart = 0, in_bands = 0;
    for (std::size_t step = 0; step < steps; ++step) {
        for (const auto& a : bands) {
            for (const auto& b : bands) {
                const double difference = std::abs(a[step].median - b[step].median);
                apart = std::max(apart, difference);
                in_bands = std::max(in_bands, difference / (b[step].high - b[step].low));
            }
        }
    }
    double apart_over_t = 0;
    for (std::size_t s = 1; s < head_sizes.size(); ++s) {
        for (std::size_t step = 0; step + steps_per_octave < steps; ++step) { // √d doubles from one size to the next
            apart_over_t =
                std::max(apart_over_t, std::abs(bands[s][step].median - bands[s - 1][step + steps_per_octave].median));
        }
    }
    found.claim("over T/√d all head sizes have one curve, closer than draws of one size (5 … 95 %)",
                format("at most %.3f apart, %.2f of a band", apart, in_bands), in_bands < 1);
    // Five times is beyond what the draws do: over T/√d no two sizes are a whole band apart.
    found.claim("over T they have not: neighbours 5 times as far apart", format("at most %.3f apart", apart_over_t),
                apart_over_t > 5 * apart);
}

void gpt2_part(results& found, const std::vector<sharpness>& rows)
{
    const auto at = [&](const char* what, std::size_t prompt, double temperature) {
        const auto row = std::find_if(rows.begin(), rows.end(), [&](const sharpness& s) {
            return s.what == what && s.prompt == prompt && s.temperature == temperature;
        });
        if (row == rows.end()) {
            throw std::runtime_error(
                format("GPT-2's figures hold no %s of prompt %zu at T = %g", what, prompt, temperature));
        }
        return *row;
    };
    double off = 0, cold = 0, hot = 1, law = 0, missed = 0, least = 1e300;
    std::string heads_text, tokens_text, back_text;
    const double tokens = std::log(50257.0);
    for (std::size_t prompt = 0; prompt < gpt2_prompts; ++prompt) {
        const double own = at("heads", prompt, gpt2_root_head_size).entropy;
        off = std::max(off, std::abs(own - at("model", prompt, gpt2_root_head_size).entropy));
        heads_text += format("%s%.3f", prompt > 0 ? ", " : "", own);
        tokens_text += format("%s%.0f", prompt > 0 ? ", " : "", std::exp(tokens * at("next_token", prompt, 1).entropy));
        cold = std::max(cold, at("next_token", prompt, 1.0 / 16).entropy);
        hot = std::min(hot, at("next_token", prompt, 16).entropy);
        const auto back = std::find_if(rows.begin(), rows.end(), [&](const sharpness& s) {
            return s.what == "recommended" && s.prompt == prompt;
        });
        if (back == rows.end()) {
            throw std::runtime_error(format("GPT-2's figures hold no recommended temperature of prompt %zu", prompt));
        }
        least = std::min(least, back->temperature);
        missed = std::max(missed, std::abs(back->entropy - sd::zone_centre_entropy));
        back_text += format("%s%.1f", prompt > 0 ? ", " : "", back->temperature);
        for (const double t : {4.0, 8.0, 16.0, 32.0, 64.0}) {
            const sharpness s = at("next_token", prompt, t);
            const double ratio = s.logit_spread / t;
            law = std::max(law, std::abs(s.entropy - (1 - ratio * ratio / (2 * tokens))));
        }
    }
    // 3e-7 in each share moves a row's entropy by at most Σ 3e-7 |1 + ln p|, some 1e-5 of ln L.
    found.claim("GPT-2: heads at T = √64 are as sharp as the model's own, to 2e-5",
                format("entropy / ln L %s, %.1g off", heads_text.c_str(), off), off <= 2e-5);
    // Nine digits of the entropies are recorded, and diagnostics of float logits are float's.
    found.claim("GPT-2: the T that brings q·k to the middle of the zone is above √64; its heads choose more sharply",
                back_text + format("; H/ln L = 0.9 to %.1g", missed), least > gpt2_root_head_size && missed <= 1e-5);
    // Ties keep the cold end above 0: two equal logits alone are ln 2 / ln 50257 = 0.064.
    found.claim(
        "GPT-2: T takes next-token logits from one token (< 0.1) to all (> 0.99)",
        format("%.3f at T = 1/16, %.4f at T = 16; tokens in effect at T = 1: %s", cold, hot, tokens_text.c_str()),
        cold < 0.1 && hot > 0.99);
    // The next term is (σ/T)³ skewness / (3 ln n): 0.02 at σ/T = 1.13 for a skewness of ½.
    found.claim("GPT-2: from T = 4 on only σ/T counts: H/ln n = 1 − (σ/T)²/(2 ln n), to 0.02",
                format("at most %.3f off", law), law <= 0.02);
}

void draw_figure(const std::filesystem::path& output, std::size_t tokens)
{
    draw(output, "05_temperature", {1200, 430},
         format(R"(set multiplot layout 1,3
set logscale x 2; set yrange [0:1.02]; set ylabel 'entropy / ln n'; set key right bottom; set format x '%%g'
set style fill transparent solid 0.25 noborder
array colour[4] = [blue, red, green, orange]; array size[4] = [16, 64, 256, 1024]
set title 'Over T: each head size its own curve (n = %zu)'; set xlabel 'temperature T'; set xtics 0.25,8,512
plot for [i=1:4] '05_curves.csv' skip 1 index i-1 using 2:4:6 with filledcurves lc rgb colour[i] notitle, \
     for [i=1:4] '' skip 1 index i-1 using 2:5 with lines lw 2 lc rgb colour[i] title sprintf('d = %%d', size[i]), \
     '05_recommended.csv' skip 1 using 2:4 with points pt 7 ps 0.9 lc rgb '#404040' title 'recommended'
set title 'Over T/√d: one curve'; set xlabel 'T/√d'; set xtics 0.0625,4,16
set arrow 1 from 1, graph 0 to 1, graph 1 nohead dt 2 lc rgb '#404040'
set label 1 'attention ' at 1, graph 0.97 right tc rgb '#404040'
plot for [i=1:4] '05_curves.csv' skip 1 index i-1 using 3:4:6 with filledcurves lc rgb colour[i] notitle, \
     for [i=1:4] '' skip 1 index i-1 using 3:5 with lines lw 2 lc rgb colour[i] title sprintf('d = %%d', size[i]), \
     '05_recommended.csv' skip 1 using 3:4 with points pt 7 ps 0.9 lc rgb '#404040' title 'recommended'
set title 'GPT-2, five prompts'; set xlabel 'temperature T'; set xtics 0.0625,4,64; set xrange [0.0625:64]; set key left top
set arrow 1 from 8, graph 0 to 8, graph 1 nohead dt 2 lc rgb blue
set label 1 ' T = √64' at 8, graph 0.05 left tc rgb blue
set label 2 "next-token\nlogits" at 0.075, 0.65 tc rgb red; set label 3 "heads:\nq·k" at 13, 0.6 tc rgb blue
plot for [p=0:4] sprintf("< grep '^heads,%%d,' 05_gpt2.csv", p) using 3:4 with lines lw 1.5 lc rgb blue notitle, \
     for [p=0:4] sprintf("< grep '^next_token,%%d,' 05_gpt2.csv", p) using 3:4 with lines lw 1.5 lc rgb red notitle, \
     "< grep '^recommended,' 05_gpt2.csv" using 3:4 with points pt 7 ps 0.9 lc rgb '#404040' title 'recommended'
unset multiplot)",
                tokens));
}

} // namespace

int main(int argc, char** argv)
{
    command_line line("Experiment 5: 1/√d is a temperature");
    common_options options{.trials = 40};
    std::size_t tokens = 50;
    std::filesystem::path scores;
    bool record = false;
    options.add_to(line);
    line.add("--tokens", tokens, "rows of Q and of K", within{2, 512});
    line.add("--scores", scores,
             "GPT-2's q·k and next-token logits (gpt2-attention.safetensors); without it, the recorded figures are "
             "shown");
    line.add("--record", record, "keep GPT-2's figures as the recorded ones", needs{"--scores"});

    return run(line, argc, argv, options, [&] {
        results found("05_temperature", "Experiment 5: temperature");
        const bool real = !scores.empty();
        const auto gpt2 = real ? measure_temperatures(scores) : read_temperatures(recorded_temperatures);
        found.note(
            format("%zu draws of Q and K, %zu tokens, head sizes 16, 64, 256 and 1024.", options.trials, tokens));
        found.note(real
                       ? "GPT-2's figures are computed from the model's own q·k and next-token logits in " +
                             scores.filename().string() + "."
                       : "GPT-2's figures are recorded ones: this program computed them from the model's own q·k and "
                         "next-token logits and keeps them in examples/data. Give the numbers with --scores to compute "
                         "them again.");
        if (record) {
            save_temperatures(gpt2, recorded_temperatures);
        }
        save_temperatures(gpt2, options.output / "05_gpt2.csv");
        same_thing(found, options, tokens);
        one_curve(found, options, tokens);
        gpt2_part(found, gpt2);

        draw_figure(options.output, tokens);
        found.figure("05_temperature", "Entropy against temperature; bands are 5 … 95 % of the draws.");
        found.conclude(
            "Dividing the scores by √d and running the softmax at temperature √d are the same thing. Only T/√d "
            "decides how sharp attention is, so the factor keeps every head size at the same point of one curve. "
            "The knob that makes a sampled text bolder or safer and the 1/√d inside each head are one operation.");
        return found.finish(options.output);
    });
}
