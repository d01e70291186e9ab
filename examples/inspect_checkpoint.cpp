// SPDX-License-Identifier: BSD-3-Clause
// inspect_checkpoint FILE: what every LayerNorm and RMSNorm of a checkpoint does to its channels.
//
// FILE is a safetensors file, the index of a sharded checkpoint, or a directory with either. For each normalisation, in
// the order of the layers: the range of γ, the shares of channels that it shrinks (|γ| < 1), grows, turns around (γ <
// 0) and has switched off (|γ| < 1e-3), its effective gain √(mean γ²), which is the root mean square that a normalised
// input leaves with, and the channels that stand out: those whose robust z-score, the distance from the median in units
// of 1.4826 median deviations, is 8 or more. The same channels tend to stand out in layer after layer; those are what
// quantisation trips over.
#include "support/csv.hpp"
#include "support/layer_norm_figures.hpp"
#include "support/plot.hpp"
#include "support/program.hpp"
#include "support/results.hpp"
#include "support/text.hpp"

#include <scaledot/checkpoint.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <filesystem>
#include <iterator>
#include <map>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace sd = scaledot;
using namespace examples;

namespace {

// "496 (17.4), 430 (17), 314 (15.3), 48 more"
std::string outliers_text(const sd::channel_summary& channels)
{
    constexpr std::size_t most = 3;
    std::string text;
    for (std::size_t i = 0; i < std::min(most, channels.outliers.size()); ++i) {
        const sd::outlier_channel& channel = channels.outliers[i];
        text += format("%s%zu (%.3g)", i > 0 ? ", " : "", channel.index, channel.value);
    }
    return text + (channels.outliers.size() > most ? format(", %zu more", channels.outliers.size() - most) : "");
}

// A tensor may be called anything; a cell of a table may not.
std::string cell(std::string name)
{
    std::replace_if(
        name.begin(), name.end(), [](char c) { return c == ',' || c == '"' || static_cast<unsigned char>(c) < ' '; },
        '_');
    return name;
}

void print_table(const std::vector<sd::normalization_summary>& norms)
{
    std::size_t width = 13;
    for (const auto& norm : norms) {
        width = std::max(width, norm.name.size());
    }
    const int columns = static_cast<int>(width);
    std::printf("\n%-*s %6s %8s %8s %8s %7s %7s %6s %6s %6s %8s  %s\n", columns, "normalisation", "n", "γ: min",
                "median", "max", "|γ|<1", "|γ|>1", "γ<0", "dead", "gain", "sd of β", "outlier channels of γ");
    for (const auto& norm : norms) {
        const sd::channel_summary& g = norm.gamma;
        const std::string spread =
            norm.beta.finite.count > 0 ? format("%.4f", norm.beta.finite.standard_deviation) : std::string("-");
        std::printf("%-*s %6zu %7.4f %8.4f %8.4f %6.1f%% %6.1f%% %5.1f%% %5.1f%% %6.3f %8s  %s%s\n", columns,
                    cell(norm.name).c_str(), g.finite.count + g.not_finite, g.finite.minimum, g.median,
                    g.finite.maximum, 100 * g.shrinking, 100 * g.growing, 100 * g.negative, 100 * g.dead,
                    g.root_mean_square, spread.c_str(), outliers_text(g).c_str(),
                    g.not_finite > 0 ? format("  %zu NOT FINITE", g.not_finite).c_str() : "");
    }
    std::printf("\n");
}

// How many γ have each channel among their outliers: those of more than one, most first.
std::vector<std::pair<std::size_t, std::size_t>> recurring(const std::vector<sd::normalization_summary>& norms)
{
    std::map<std::size_t, std::size_t> counts;
    for (const auto& norm : norms) {
        for (const sd::outlier_channel& channel : norm.gamma.outliers) {
            ++counts[channel.index];
        }
    }
    std::vector<std::pair<std::size_t, std::size_t>> result;
    std::copy_if(counts.begin(), counts.end(), std::back_inserter(result), [](auto& c) { return c.second > 1; });
    std::stable_sort(result.begin(), result.end(), [](auto& a, auto& b) { return a.second > b.second; });
    return result;
}

void save_strip(const std::vector<sd::normalization_parameters>& parameters,
                const std::vector<sd::normalization_summary>& norms, double offset, const std::filesystem::path& output)
{
    csv_writer boxes({"layer", "name", "parameter", "minimum", "low", "median", "high", "maximum", "gain"});
    csv_writer outliers({"layer", "parameter", "channel", "value", "is_furthest"});
    for (std::size_t i = 0; i < norms.size(); ++i) {
        const auto save = [&](const char* parameter, const xt::xarray<float>& values, const sd::channel_summary& s,
                              double shift) {
            if (s.finite.count == 0) {
                return;
            }
            std::vector<float> finite;
            std::copy_if(values.begin(), values.end(), std::back_inserter(finite),
                         [](float x) { return std::isfinite(x); });
            const auto at = sd::quantiles(xt::adapt(finite), {0.05, 0.95});
            boxes.row(i, cell(norms[i].name), parameter, s.finite.minimum, at[0] + shift, s.median, at[1] + shift,
                      s.finite.maximum, s.root_mean_square);
            bool above = false; // the furthest above the median, and below, have been met
            bool below = false;
            for (const sd::outlier_channel& channel : s.outliers) {
                bool& met = channel.robust_z > 0 ? above : below;
                outliers.row(i, parameter, channel.index, channel.value, met ? 0.0 : 1.0);
                met = true;
            }
        };
        save("gamma", parameters[i].gamma, norms[i].gamma, offset);
        save("beta", parameters[i].beta, norms[i].beta, 0);
    }
    boxes.save(output / "inspect_boxes.csv");
    outliers.save(output / "inspect_outliers.csv");
}

// The part of a plot that shows the outliers of γ, by magnitude, or of β. Labels at no points would crash gnuplot 5.4.
std::string outliers_script(const std::vector<sd::normalization_summary>& norms, bool of_gamma)
{
    const bool any = std::any_of(norms.begin(), norms.end(), [&](const auto& norm) {
        const sd::channel_summary& s = of_gamma ? norm.gamma : norm.beta;
        return !s.outliers.empty();
    });
    return any ? format(R"("< grep ,%1$s, inspect_outliers.csv" using 1:(%2$s) with points pt 7 ps 0.45 lc rgb red \
       title 'outlier channels, the furthest by number', \
     "< grep ,%1$s,.*,1$ inspect_outliers.csv" using ($1+0.12):(%2$s):3 with labels left font ',8' tc rgb '#404040' \
       notitle, )",
                        of_gamma ? "gamma" : "beta", of_gamma ? "size($4)" : "$4")
               : std::string();
}

void draw_figures(const std::filesystem::path& output, const std::vector<sd::normalization_summary>& norms,
                  std::size_t gammas, std::size_t betas, const std::string& source)
{
    const std::string title = gnuplot_quoted(source);
    std::string script = format(R"(set multiplot layout 1,%d title %s noenhanced
set logscale y; set yrange [0.6:*]; set ylabel 'channels in a bin (logarithmic)'
set format y '10^{%%T}'; set style fill solid 0.75 noborder
set title '%zu γ'; set xlabel 'γ'; set arrow 1 from 1, graph 0 to 1, graph 1 nohead dt 2 lc rgb '#404040'
plot "< grep ^gamma inspect_histogram.csv" using (0.5*($2+$3)):4:($3-$2) with boxes lc rgb blue notitle
unset arrow
)",
                                betas > 0 ? 2 : 1, title.c_str(), gammas);
    if (betas > 0) {
        script += format(R"(set title '%zu β'; set xlabel 'β'; unset ylabel
plot "< grep ^beta inspect_histogram.csv" using (0.5*($2+$3)):4:($3-$2) with boxes lc rgb red notitle
)",
                         betas);
    }
    draw(output, "inspect_histograms", {1080, 460}, script + "unset multiplot");

    const std::size_t step = (norms.size() + 59) / 60; // upright names stay legible up to about sixty
    std::size_t longest = 0;
    for (const auto& norm : norms) {
        longest = std::max(longest, norm.name.size());
    }
    const double margin = 2 + 7.0 / 16 * static_cast<double>(longest);
    double lowest = 1; // of |γ|, as drawn
    double highest = 1;
    for (const auto& norm : norms) {
        for (const double end : {norm.gamma.finite.minimum, norm.gamma.finite.maximum}) {
            const double size = std::max(std::abs(end), 1e-4);
            lowest = std::min(lowest, size);
            highest = size > highest ? size : highest; // of NaN, of no finite channel: neither
        }
    }
    const int height = 330 + static_cast<int>(16 * margin);
    script = format(R"(set multiplot layout %d,1 title %s noenhanced
set xrange [-0.7:%zu-0.3]; set grid noxtics; set xtics rotate by 90 right noenhanced; set lmargin 10
set bmargin %.0f; set key top left horizontal; set boxwidth 0.5; set style fill solid 0.35 noborder
label(i, name) = int(i) %% %zu == 0 ? name : ''
size(x) = abs(x) < 1e-4 ? 1e-4 : abs(x)
set ylabel '|γ| (logarithmic)'; set logscale y; set yrange [%.3g:%.3g]; set format y '%%g'
plot "< grep ,gamma, inspect_boxes.csv" using 1:(size($5)):(size($5)):(size($7)):(size($7)):xtic(label($1, strcol(2))) \
       with candlesticks lc rgb blue title '5 … 95 %%', \
     '' using 1:(size($6)) with points pt 7 ps 0.6 lc rgb blue title 'median', \
     '' using 1:(size($9)) with lines lw 1.5 lc rgb green title 'effective gain', \
     %s1 dt 2 lc rgb '#404040' notitle
)",
                    betas > 0 ? 2 : 1, title.c_str(), norms.size(), margin, step, lowest / 1.5, 6 * highest,
                    outliers_script(norms, true).c_str());
    if (betas > 0) {
        script += format(R"(set ylabel 'β'; unset logscale y; set yrange [*:*]
set nonlinear y via asinh(20*y) inverse sinh(y)/20; set ytics (-10, -3, -1, -0.3, -0.1, 0, 0.1, 0.3, 1, 3, 10)
plot "< grep ,beta, inspect_boxes.csv" using 1:5:5:7:7:xtic(label($1, strcol(2))) with candlesticks lc rgb orange \
       title '5 … 95 %%', '' using 1:6 with points pt 7 ps 0.6 lc rgb orange title 'median', \
     %s0 dt 2 lc rgb '#404040' notitle
)",
                         outliers_script(norms, false).c_str());
    }
    draw(output, "inspect_strip", {1200, betas > 0 ? 2 * height : height}, script + "unset multiplot");
}

// GPT-2's own: its final normalisation has 768 channels, of which these stand out most.
void ask_gpt2(results& found, const std::vector<sd::normalization_summary>& norms)
{
    const sd::channel_summary& last = norms.back().gamma;
    if (norms.size() != 25 || last.finite.count != 768 || !norms.back().name.ends_with("ln_f")) {
        return;
    }
    std::string channels;
    for (std::size_t i = 0; i < std::min<std::size_t>(4, last.outliers.size()); ++i) {
        channels += format("%s%zu", i > 0 ? ", " : "", last.outliers[i].index);
    }
    found.claim("GPT-2: of ln_f's channels 496, 430, 314 and 36 stand out most",
                format("%s; %zu in all", channels.c_str(), last.outliers.size()), channels == "496, 430, 314, 36");
    found.claim("GPT-2: ln_f amplifies, its gain is the only one above 1", format("%.3f", last.root_mean_square),
                std::all_of(norms.begin(), norms.end() - 1, [](auto& n) { return n.gamma.root_mean_square < 1; }) &&
                    last.root_mean_square > 1);
}

} // namespace

int main(int argc, char** argv)
{
    command_line line("What every LayerNorm and RMSNorm of a checkpoint does to its channels");
    common_options options;
    std::filesystem::path file;
    sd::channel_options channels;
    options.add_to(line, false);
    line.add_required("FILE", file,
                      "a safetensors file, the index of a sharded checkpoint, or a directory with either");
    line.add("--gamma-offset", channels.offset, "added to every γ: 1 for models that store γ − 1 (Gemma)");
    line.add("--outlier-from", channels.outlier_from, "robust z-score of an outlier channel");

    return run(line, argc, argv, options, [&] {
        results found("inspect_checkpoint", "The normalisations of a checkpoint");
        const auto parameters = sd::layer_norm_parameters(file);
        if (parameters.empty()) {
            throw std::runtime_error("no LayerNorm or RMSNorm parameters in " + file.string());
        }
        const auto norms = sd::summarize_normalizations(parameters, channels);
        std::vector<float> gammas, betas;
        for (const auto& norm : parameters) {
            for (const float g : norm.gamma) {
                gammas.push_back(g + static_cast<float>(channels.offset));
            }
            betas.insert(betas.end(), norm.beta.begin(), norm.beta.end());
        }
        const auto drop = [](std::vector<float>& values) {
            return std::erase_if(values, [](float value) { return !std::isfinite(value); });
        };
        const std::size_t dropped = drop(gammas) + drop(betas);
        if (gammas.empty()) {
            throw std::runtime_error("no finite γ in " + file.string());
        }
        found.note(format("%s: %zu normalisations, %zu γ, %zu β%s.", file.filename().c_str(), norms.size(),
                          gammas.size(), betas.size(),
                          dropped > 0 ? format("; %zu are not finite", dropped).c_str() : ""));
        print_table(norms);
        const auto channels_again = recurring(norms);
        std::string again;
        for (std::size_t i = 0; i < std::min<std::size_t>(8, channels_again.size()); ++i) {
            again += format("%s%zu (%zu)", i > 0 ? ", " : "", channels_again[i].first, channels_again[i].second);
        }
        found.note(again.empty() ? std::string("No channel stands out in more than one γ.")
                                 : "Channels that stand out in several γ (in how many): " + again + ".");
        ask_gpt2(found, norms);

        csv_writer histogram({"parameter", "low_edge", "high_edge", "count"});
        for (const auto& [parameter, values] : {std::pair("gamma", &gammas), std::pair("beta", &betas)}) {
            for (const bin& b : bins_of(*values)) {
                histogram.row(parameter, b.low, b.high, b.count);
            }
        }
        histogram.save(options.output / "inspect_histogram.csv");
        save_strip(parameters, norms, channels.offset, options.output);
        draw_figures(options.output, norms, gammas.size(), betas.size(), file.filename().string());
        found.figure("inspect_histograms", "All γ and all β, counted in bins; the axis of counts is logarithmic.");
        found.figure("inspect_strip",
                     "Normalisation by normalisation: range, effective gain, outlier channels by number.");
        found.conclude(format("%.1f %% of the γ shrink their channel.",
                              100 * sd::summarize_channels(xt::adapt(gammas)).shrinking));
        return found.finish(options.output);
    });
}
