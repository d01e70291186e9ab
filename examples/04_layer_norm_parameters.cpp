// SPDX-License-Identifier: BSD-3-Clause
// Experiment 4: what GPT-2 learned to do with LayerNorm's γ and β.
//
//     y = γ (x − mean(x)) / √(var(x) + ε) + β
//
// The fraction has mean 0 and variance 1 whatever x was, so γ alone decides how large a component leaves the layer, and
// β where it is centred. Training starts from γ = 1, β = 0. Where it ended, for each of the 25 normalisations of GPT-2
// 124M (19,200 γ, 19,200 β), is read off the checkpoint here: mostly γ between 0.2 and 0.4 and β next to 0, so that
// LayerNorm mostly shrinks. The axis of counts is logarithmic, or the exceptions (γ up to 17) would not be seen.
//
// Any other safetensors checkpoint works as well (BERT, Llama, ViT, ...; RMSNorm has no β); GPT-2's figures are not
// asked of it.
#include "support/layer_norm_figures.hpp"
#include "support/plot.hpp"
#include "support/program.hpp"
#include "support/results.hpp"
#include "support/text.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <filesystem>
#include <string>
#include <string_view>

using namespace examples;

namespace {

void print_layers(const checkpoint_figures& figures)
{
    std::printf("\n%-24s %8s %8s %8s %8s %10s | %8s %8s %8s %9s\n", "normalisation", "γ: 5 %", "median", "95 %", "mean",
                "0.2 … 0.4", "β: 5 %", "median", "95 %", "|β| < 0.1");
    const auto print = [](const normalization_figures& norm) {
        const parameter_figures& g = norm.gamma;
        const parameter_figures& b = norm.beta;
        std::printf("%-24s %7.4f %8.4f %8.4f %8.4f %8.1f %%", norm.name.c_str(), g.low, g.median, g.high, g.all.mean,
                    100 * g.share);
        if (b.all.count > 0) {
            std::printf(" | %7.4f %8.4f %8.4f %7.1f %%\n", b.low, b.median, b.high, 100 * b.share);
        } else {
            std::printf(" | no β\n");
        }
    };
    std::for_each(figures.layers.begin(), figures.layers.end(), print);
    print(figures.total);
    std::printf("\n");
}

void draw_figures(const std::filesystem::path& output, const checkpoint_figures& figures, const std::string& source)
{
    const bool has_beta = figures.total.beta.all.count > 0;
    std::string script = format(R"(set multiplot layout 1,2 title %s noenhanced
set logscale y; set yrange [0.6:*]; set ylabel 'parameters in a bin (logarithmic)'
set format y '10^{%%T}'; set style fill solid 0.75 noborder
set title '%zu γ'; set xlabel 'γ'; set arrow 1 from 1, graph 0 to 1, graph 1 nohead dt 2 lc rgb '#404040'
set label 1 ' γ = 1: no change of scale' at 1, graph 0.96 tc rgb '#404040'
plot "< grep ^gamma 04_histogram.csv" using (0.5*($2+$3)):4:($3-$2) with boxes lc rgb blue notitle
unset arrow; unset label
)",
                                gnuplot_quoted(source).c_str(), figures.total.gamma.all.count);
    if (has_beta) {
        script += format(R"(set title '%zu β'; set xlabel 'β'; unset ylabel
plot "< grep ^beta 04_histogram.csv" using (0.5*($2+$3)):4:($3-$2) with boxes lc rgb red notitle
)",
                         figures.total.beta.all.count);
    }
    draw(output, "04_layer_norm_histograms", {1080, 460}, script + "unset multiplot");

    // Upright names stay legible up to about sixty. The margin below is in lines of 16 pixels, a letter takes 7.
    const std::size_t step = (figures.layers.size() + 59) / 60;
    std::size_t longest = 0;
    for (const normalization_figures& layer : figures.layers) {
        longest = std::max(longest, layer.name.size());
    }
    const double margin = 2 + 7.0 / 16 * static_cast<double>(longest);
    const int height = 260 + static_cast<int>(16 * margin);
    script = format(R"(set multiplot layout %d,1 title %s noenhanced
set xrange [-0.7:%zu-0.3]; set grid noxtics; set xtics rotate by 90 right noenhanced; set lmargin 10
set bmargin %.0f; set key center top
label(i, name) = int(i) %% %zu == 0 ? name : ''
set ylabel 'γ'; set yrange [*:*]
plot "< grep ,gamma, 04_layers.csv | grep -v ^total," using 0:8:7:9:xtic(label($0, strcol(1))) with yerrorbars \
     pt 7 ps 0.8 lw 1.5 lc rgb blue title 'γ: median, 5 … 95 %%', 1 dt 2 lc rgb '#404040' title 'γ = 1'
)",
                    has_beta ? 2 : 1, gnuplot_quoted(source).c_str(), figures.layers.size(), margin, step);
    if (has_beta) {
        script += R"(set ylabel 'β'
plot "< grep ,beta, 04_layers.csv | grep -v ^total," using 0:8:7:9:xtic(label($0, strcol(1))) with yerrorbars \
     pt 7 ps 0.8 lw 1.5 lc rgb red title 'β: median, 5 … 95 %', 0 dt 2 lc rgb '#404040' notitle
)";
    }
    draw(output, "04_layer_norm_layers", {1080, has_beta ? 2 * height : height}, script + "unset multiplot");
}

double mean_of(const checkpoint_figures& figures, std::string_view ending)
{
    for (const normalization_figures& layer : figures.layers) {
        if (layer.name.ends_with(ending)) {
            return layer.gamma.all.mean;
        }
    }
    return std::nan("");
}

// GPT-2's own: 12 layers of two normalisations and the final one, 768 components each.
bool is_gpt2(const checkpoint_figures& figures)
{
    return figures.layers.size() == 25 && figures.total.gamma.all.count == 19'200 &&
           figures.total.beta.all.count == 19'200 && std::isfinite(mean_of(figures, "h.11.ln_2"));
}

void claim_all(results& found, const checkpoint_figures& figures)
{
    const parameter_figures& gamma = figures.total.gamma;
    const parameter_figures& beta = figures.total.beta;
    const bool asked = is_gpt2(figures);
    const auto ask = [&](const std::string& claim, const std::string& measured, bool holds) {
        if (asked) {
            found.claim(claim, measured, holds);
        } else {
            found.not_asked(claim, measured + " (not asked of this checkpoint)");
        }
    };
    // The study's own words; "mostly" is more than half, "around 0" a mean that is small against the spread and nine
    // parameters in ten within 0.1, which γ, for one, would fail.
    ask("γ is mostly in 0.2 … 0.4", format("%.1f %%", 100 * gamma.share), gamma.share > 0.5);
    ask("β is around 0: |mean| < sd / 10, |β| < 0.1 for 90 %",
        beta.all.count == 0
            ? "no β"
            : format("mean %.4f, sd %.4f, %.1f %%", beta.all.mean, beta.all.standard_deviation, 100 * beta.share),
        std::abs(beta.all.mean) < beta.all.standard_deviation / 10 && beta.share > 0.9);
    ask("LayerNorm mostly shrinks: γ < 1", format("%.1f %%", 100 * gamma.below_one), gamma.below_one > 0.5);

    // Figures of GPT-2 124M computed elsewhere, compared as far as they are printed.
    const auto reference = [&](const char* what, const char* expected, const std::string& measured) {
        ask(format("%s is %s", what, expected), measured, measured == expected);
    };
    reference("γ in [0.2, 0.4]", "76.3 %", format("%.1f %%", 100 * gamma.share));
    reference("median γ", "0.3012", format("%.4f", gamma.median));
    reference("mean γ", "0.3796", format("%.4f", gamma.all.mean));
    reference("the range of γ", "-0.00026 … 17.42", format("%.5f … %.2f", gamma.all.minimum, gamma.all.maximum));
    reference("γ < 1", "93.6 %", format("%.1f %%", 100 * gamma.below_one));
    if (beta.all.count > 0) {
        reference("mean β", "0.0075", format("%.4f", beta.all.mean));
        reference("sd of β", "0.0989", format("%.4f", beta.all.standard_deviation));
        reference("|β| < 0.1", "97.7 %", format("%.1f %%", 100 * beta.share));
        reference("the range of β", "-4.19 … 7.37", format("%.2f … %.2f", beta.all.minimum, beta.all.maximum));
    }
    if (asked) {
        reference("the exception ln_f: mean γ", "1.51", format("%.2f", mean_of(figures, "ln_f")));
        reference("the exception h.0.ln_2: mean γ", "0.87", format("%.2f", mean_of(figures, "h.0.ln_2")));
        const double first = mean_of(figures, "h.11.ln_1");
        const double second = mean_of(figures, "h.11.ln_2");
        found.claim("h.11 sits near 0.5: mean γ 0.45 … 0.55", format("%.2f and %.2f", first, second),
                    std::min(first, second) > 0.45 && std::max(first, second) < 0.55);
        double others = 0;
        for (const normalization_figures& layer : figures.layers) {
            const bool exception = layer.name.ends_with("ln_f") || layer.name.ends_with("h.0.ln_2") ||
                                   layer.name.ends_with("h.11.ln_1") || layer.name.ends_with("h.11.ln_2");
            others = exception ? others : std::max(others, layer.gamma.all.mean);
        }
        found.claim("no other normalisation has a mean γ above 0.4", format("at most %.2f", others), others <= 0.4);
    }
}

} // namespace

int main(int argc, char** argv)
{
    command_line line("Experiment 4: GPT-2's LayerNorm parameters");
    common_options options;
    std::filesystem::path checkpoint;
    bool record = false;
    options.add_to(line, false);
    line.add("--checkpoint", checkpoint,
             "any safetensors file, sharded or not, with LayerNorm or RMSNorm parameters; without it, the recorded "
             "figures of GPT-2 are shown");
    line.add("--record", record, "keep the checkpoint's figures as the recorded ones", needs{"--checkpoint"});

    return run(line, argc, argv, options, [&] {
        results found("04_layer_norm_parameters", "Experiment 4: the γ and β of GPT-2's LayerNorm");
        const auto recorded_layers = recorded_directory / "gpt2-layernorm-layers.csv";
        const auto recorded_bins = recorded_directory / "gpt2-layernorm-histogram.csv";
        const bool real = !checkpoint.empty();
        const checkpoint_figures figures = real ? measure(checkpoint) : read_recorded(recorded_layers, recorded_bins);

        const parameter_figures& gamma = figures.total.gamma;
        found.note(
            real ? "Computed from " + checkpoint.filename().string() + "."
                 : "These are recorded figures: this program computed them from GPT-2's real parameters and keeps them "
                   "in examples/data. To fetch the parameters (150 KB) and compute them again: "
                   "scripts/fetch-gpt2-layernorm, then run this with --checkpoint and the file it wrote.");
        found.note(format("%zu normalisations, %zu γ, %zu β.", figures.layers.size(), gamma.all.count,
                          figures.total.beta.all.count));
        print_layers(figures);
        claim_all(found, figures);

        save_layers(figures, options.output / "04_layers.csv");
        save_bins(figures, options.output / "04_histogram.csv");
        if (record) {
            save_layers(figures, recorded_layers);
            save_bins(figures, recorded_bins);
        }
        draw_figures(options.output, figures, real ? checkpoint.filename().string() : "GPT-2 124M (recorded)");
        found.figure("04_layer_norm_histograms",
                     "All γ and all β, counted in bins; the axis of counts is logarithmic.");
        found.figure("04_layer_norm_layers", "Normalisation by normalisation: median and 5 … 95 % range.");
        found.conclude(
            is_gpt2(figures)
                ? format("Half of GPT-2's γ are below %.2f and %.1f %% are below 1, while β stays next to 0: after "
                         "standardising, LayerNorm mostly shrinks what it passes on and leaves it centred. The "
                         "exceptions are the final normalisation, which amplifies before the vocabulary is read "
                         "off, and the second one of the first layer, most of whose γ exceed 1.",
                         gamma.median, 100 * gamma.below_one)
                : format("In this checkpoint the median γ is %.3g and %.1f %% are below 1. The study's claims "
                         "are about GPT-2 and were not asked of it.",
                         gamma.median, 100 * gamma.below_one));
        return found.finish(options.output);
    });
}
