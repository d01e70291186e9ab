// SPDX-License-Identifier: BSD-3-Clause
// Experiment 6: the "Goldilocks zone" of logits, spread neither too much nor too little.
//
// Take n logits from N(0, σ²) and look at their softmax as σ grows.
//
//   Too small: e^s ≈ 1 + s, all shares are alike and tokens cannot be told apart. To second order the entropy is
//       H = ln n − σ²/2;                 below σ = √(0.02 ln n) it is within 1 % of ln n: flat.
//   Too large: Σ e^s is carried by the few largest terms. In the random-energy model (Derrida 1981) that happens where
//   the
//       number of logits near the value that dominates, n exp(−σ²/2), falls below one:
//                                        σ = √(2 ln n): saturated. One key has nearly everything, the others nothing.
//   In between H/ln n ≈ 1 − σ²/(2 ln n), and the softmax both tells keys apart and passes gradients on.
//
// The boundaries are scaledot's flatness_threshold(n) and saturation_threshold(n). The transition is sharp only for
// many keys; for 50 it is a bend. Logits that are not Gaussian are judged by the entropy they were measured to have:
// classify_entropy, head_verdicts. GPT-2's heads (--scores FILE) are put on the same picture, with and without their
// 1/√64.
#include "support/csv.hpp"
#include "support/gpt2_heads.hpp"
#include "support/plot.hpp"
#include "support/program.hpp"
#include "support/results.hpp"
#include "support/text.hpp"

#include <scaledot/diagnostics.hpp>
#include <scaledot/scores.hpp>
#include <scaledot/statistics.hpp>
#include <scaledot/verdict.hpp>
#include <scaledot/zone.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <filesystem>
#include <string>
#include <vector>

namespace sd = scaledot;
using namespace examples;

namespace {

/// Entropy over ln n, largest share and Jacobian norm over that of equal shares, over draws of n Gaussian logits.
struct zone_point {
    double deviation;
    spread entropy, largest, jacobian;
    double mean_entropy, mean_jacobian;
};

// One row of N(0, 1) per draw. Every σ stretches the same rows, so that the curves over σ are smooth.
xt::xtensor<double, 2> draw_rows(const common_options& options, std::size_t keys)
{
    xt::xtensor<double, 2> rows = xt::xtensor<double, 2>::from_shape({options.trials, keys});
    for (std::size_t trial = 0; trial < options.trials; ++trial) {
        std::mt19937 engine = generator(options.seed, trial);
        const auto row = gaussian(1, keys, engine);
        std::copy(row.begin(), row.end(), &rows(trial, 0));
    }
    return rows;
}

zone_point measure(const xt::xtensor<double, 2>& rows, double deviation)
{
    const xt::xtensor<double, 2> logits = rows * deviation;
    const auto figures = sd::softmax_diagnostics(logits);
    const std::size_t keys = rows.shape(1);
    const auto over = [](const auto& values, double unit) {
        const auto at = sd::quantiles(values, {0.05, 0.5, 0.95});
        return spread{at[0] / unit, at[1] / unit, at[2] / unit};
    };
    return {deviation,
            over(figures.entropy, std::log(static_cast<double>(keys))),
            over(figures.max_probability, 1),
            over(figures.jacobian_norm, uniform_jacobian(keys)),
            sd::summarize(figures.entropy).mean / std::log(static_cast<double>(keys)),
            sd::summarize(figures.jacobian_norm).mean / uniform_jacobian(keys)};
}

std::vector<zone_point> measure_curve(const xt::xtensor<double, 2>& rows, const std::filesystem::path& path)
{
    std::vector<zone_point> points;
    csv_writer curve({"sd", "entropy_low", "entropy", "entropy_high", "largest_low", "largest", "largest_high",
                      "jacobian_low", "jacobian", "jacobian_high", "jacobian_mean"});
    for (int step = 0; step <= 80; ++step) {
        const zone_point p = measure(rows, std::pow(10.0, -2 + step / 20.0)); // σ from 0.01 to 100
        curve.row(p.deviation, p.entropy.low, p.entropy.median, p.entropy.high, p.largest.low, p.largest.median,
                  p.largest.high, p.jacobian.low, p.jacobian.median, p.jacobian.high, p.mean_jacobian);
        points.push_back(p);
    }
    curve.save(path);
    return points;
}

// Where the study's matrices stand: QKᵀ as it is, divided by √d, and divided by √d once more.
void claim_matrices(results& found, const common_options& options, std::size_t keys, std::size_t head_size)
{
    const auto d = static_cast<double>(head_size);
    const auto ask = [&](const char* what, double scale, sd::logit_zone expected) {
        std::vector<double> deviations, entropies;
        std::size_t agree = 0;
        for (std::size_t trial = 0; trial < options.trials; ++trial) {
            std::mt19937 engine = generator(options.seed, trial);
            const auto q = gaussian(keys, head_size, engine);
            const auto k = gaussian(keys, head_size, engine);
            const auto scores = sd::attention_scores(q, k, sd::score_stage::scaled, {.scale = scale});
            deviations.push_back(sd::summarize(scores).standard_deviation);
            const auto verdict = sd::head_verdicts(sd::attention_diagnostics(q, k, {.scale = scale})).at(0);
            entropies.push_back(verdict.normalised_entropy);
            agree += verdict.zone == expected && sd::classify_logits(deviations.back(), keys) == expected ? 1 : 0;
        }
        // Nineteen draws in twenty: the 5 … 95 % range, one-sided.
        found.claim(format("%s of %zu × %zu is %s, by spread and by entropy", what, keys, head_size,
                           std::string(to_string(expected)).c_str()),
                    "sd " + text(spread_of(deviations), "%.3g") + "; H/ln n " + text(spread_of(entropies), "%.3f") +
                        format("; %zu of %zu draws", agree, options.trials),
                    20 * agree >= 19 * options.trials);
    };
    ask("QKᵀ", 1, sd::logit_zone::saturated);
    ask("QKᵀ/√d", 1 / std::sqrt(d), sd::logit_zone::balanced);
    ask("QKᵀ/d, scaled once too often,", 1 / d, sd::logit_zone::flat);
}

void claim_zone(results& found, const xt::xtensor<double, 2>& rows, const std::vector<zone_point>& curve)
{
    const std::size_t keys = rows.shape(1);
    const double logarithm = std::log(static_cast<double>(keys));
    const double flat = sd::flatness_threshold(keys);
    const double saturated = sd::saturation_threshold(keys);

    const zone_point at_flat = measure(rows, flat);
    // 1 % is the second-order figure of N(0, σ²); a draw's own variance scatters by √(2/n).
    const double scatter =
        3 * std::sqrt(2.0 / static_cast<double>(keys)) / std::sqrt(static_cast<double>(rows.shape(0)));
    const double missing = 100 * (1 - at_flat.entropy.median);
    found.claim(format("at σ = √(0.02 ln n) = %.2f the softmax is uniform but for 1 %% (± 10 %% and sampling)", flat),
                format("1 − H/ln n = %.2f %%", missing), std::abs(missing - 1) <= 0.1 + scatter);

    double off = 0;
    for (const zone_point& p : curve) {
        if (p.deviation <= saturated / 2) {
            off = std::max(off, std::abs(p.entropy.median - (1 - p.deviation * p.deviation / (2 * logarithm))));
        }
    }
    // Half way up the formula has come down to 0.75; a twentieth off is a fifth of that way.
    found.claim("from there to half of √(2 ln n), H/ln n = 1 − σ²/(2 ln n) to 0.05", format("at most %.3f off", off),
                off <= 0.05);

    const zone_point at_saturated = measure(rows, saturated);
    // saturation_entropy is that mean by quadrature, interpolated to 0.001; H/ln n lies in [0, 1], so that its standard
    // deviation is at most a half.
    const double five_errors = 2.5 / std::sqrt(static_cast<double>(rows.shape(0))) + 0.001;
    found.claim(format("at σ = √(2 ln n) = %.2f the mean of H/ln n is saturation_entropy(n) = %.3f, to %.2f", saturated,
                       sd::saturation_entropy(keys), five_errors),
                format("%.3f; median ", at_saturated.mean_entropy) + text(at_saturated.entropy, "%.2f"),
                std::abs(at_saturated.mean_entropy - sd::saturation_entropy(keys)) <= five_errors);
    const zone_point at_centre = measure(rows, sd::zone_centre(keys));
    // The next term of the expansion is of fourth order in σ: a hundredth for 48 keys, less for more.
    found.claim(
        format("in the middle, σ = √(0.2 ln n) = %.2f, a tenth of ln n is missing, to 0.015", sd::zone_centre(keys)),
        format("1 − H/ln n = %.3f", 1 - at_centre.mean_entropy),
        std::abs(at_centre.mean_entropy - sd::zone_centre_entropy) <= 0.015);
    // Beyond, the model has Σ p² = 1 − √(2 ln n)/σ on average: a half at twice the threshold, which takes one dominant
    // key.
    const zone_point beyond = measure(rows, 2 * saturated);
    found.claim("at twice that, one key outweighs all the others: largest share > 0.5", text(beyond.largest, "%.2f"),
                beyond.largest.median > 0.5);

    double lowest_inside = 1e9;
    const zone_point* peak = &curve.front();
    for (const zone_point& p : curve) {
        if (p.deviation >= flat && p.deviation <= saturated) {
            lowest_inside = std::min(lowest_inside, p.jacobian.low);
        }
        peak = p.mean_jacobian > peak->mean_jacobian ? &p : peak;
    }
    // Equal shares are what an untrained head starts from; a gradient of that size is one to learn with.
    found.claim("inside the zone 95 % of rows pass on at least 80 % of equal shares' gradient",
                format("at least %.0f %%", 100 * lowest_inside), lowest_inside >= 0.8);
    found.claim("the gradient is largest at the zone's upper end: within a factor 2 of √(2 ln n)",
                format("mean norm %.2f of equal shares' at σ = %.2f", peak->mean_jacobian, peak->deviation),
                peak->deviation > saturated / 2 && peak->deviation < saturated * 2);
    found.claim("far above, it vanishes: σ = 100, median < 1 % of equal shares'", text(curve.back().jacobian, "%.1e"),
                curve.back().jacobian.median < 0.01);
}

// Returns what to conclude.
std::string claim_gpt2(results& found, const std::vector<head_figures>& heads, const std::filesystem::path& output)
{
    csv_writer points({"sd_before", "entropy_before", "largest_before", "jacobian_before", "sd_after", "entropy_after",
                       "largest_after", "jacobian_after", "zone_after"});
    std::size_t saturated_before = 0, balanced_after = 0, flat_after = 0;
    std::size_t saturated_before_by_entropy = 0, balanced_after_by_entropy = 0, sharper = 0, differ = 0;
    for (const head_figures& h : heads) {
        const double scaled = h.logit_spread / gpt2_root_head_size;
        const double unit = uniform_jacobian(h.keys);
        saturated_before += sd::classify_logits(h.logit_spread, h.keys) == sd::logit_zone::saturated ? 1 : 0;
        balanced_after += sd::classify_logits(scaled, h.keys) == sd::logit_zone::balanced ? 1 : 0;
        flat_after += sd::classify_logits(scaled, h.keys) == sd::logit_zone::flat ? 1 : 0;
        const double most = std::log(static_cast<double>(h.keys));
        const sd::logit_zone by_spread = sd::classify_logits(scaled, h.keys);
        const sd::logit_zone by_entropy = sd::classify_entropy(h.after.entropy * most, h.keys);
        saturated_before_by_entropy +=
            sd::classify_entropy(h.before.entropy * most, h.keys) == sd::logit_zone::saturated ? 1 : 0;
        balanced_after_by_entropy += by_entropy == sd::logit_zone::balanced ? 1 : 0;
        differ += by_entropy != by_spread ? 1 : 0;
        sharper += by_entropy > by_spread ? 1 : 0;
        points.row(h.logit_spread, h.before.entropy, h.before.largest, h.before.jacobian / unit, scaled,
                   h.after.entropy, h.after.largest, h.after.jacobian / unit,
                   static_cast<double>(static_cast<int>(by_entropy)));
    }
    points.save(output / "06_gpt2.csv");
    const auto all = static_cast<double>(heads.size());
    found.claim("GPT-2 without 1/√64: nearly all heads are saturated, > 90 %",
                format("%zu of %zu, %.0f %%", saturated_before, heads.size(),
                       100 * static_cast<double>(saturated_before) / all),
                static_cast<double>(saturated_before) > 0.9 * all);
    found.claim("GPT-2 as it is: most heads are in the zone, > 50 %",
                format("%zu, %.0f %%; %zu flat, %zu saturated", balanced_after,
                       100 * static_cast<double>(balanced_after) / all, flat_after,
                       heads.size() - balanced_after - flat_after),
                static_cast<double>(balanced_after) > 0.5 * all);
    // Trained logits are not Gaussian: where one key stands apart, the spread is moderate and the entropy small. In
    // GPT-2 that key is the first token in 210 heads of these 235.
    found.claim("GPT-2 by measured entropy: without 1/√64 nearly all heads are saturated, > 90 %",
                format("%zu of %zu", saturated_before_by_entropy, heads.size()),
                static_cast<double>(saturated_before_by_entropy) > 0.9 * all);
    found.claim("with it, where the verdicts differ, the entropy is the stricter one, > 90 %",
                format("%zu of %zu; balanced by entropy: %zu", sharper, differ, balanced_after_by_entropy),
                static_cast<double>(sharper) > 0.9 * static_cast<double>(differ));
    return format("Without its factor %.0f %% of GPT-2's heads would be saturated; with it %.0f %% are inside by the "
                  "spread of their scores and %.0f %% by their entropy, because many rest on one key.",
                  100 * static_cast<double>(saturated_before) / all, 100 * static_cast<double>(balanced_after) / all,
                  100 * static_cast<double>(balanced_after_by_entropy) / all);
}

void draw_figures(const std::filesystem::path& output, std::size_t keys)
{
    const auto zone = [](std::size_t n) {
        return format(R"(flat = %.6g; saturated = %.6g; dim = %.6g
set object 1 rectangle from flat, graph 0 to saturated, graph 1 behind fc rgb '#e6f4ea' fs solid noborder
)",
                      sd::flatness_threshold(n), sd::saturation_threshold(n), sd::saturation_entropy(n));
    };
    draw(
        output, "06_goldilocks_zone", {1200, 450},
        format("set multiplot layout 1,2 title 'Softmax of %zu Gaussian logits; green: the zone'\n", keys) +
            zone(keys) +
            R"(set logscale x; set xlabel 'standard deviation σ of the logits'; set format x '%g'; set xrange [0.01:100]
set style fill transparent solid 0.25 noborder; set yrange [-0.13:1.5]; set ytics 0,0.2,1
set ylabel 'entropy / ln n, largest share'
set label 1 'flat' at sqrt(0.01*flat), graph 0.04 center front tc rgb '#404040'
set label 2 'balanced' at sqrt(flat*saturated), graph 0.04 center front tc rgb '#404040'
set label 3 'saturated' at sqrt(100*saturated), graph 0.04 center front tc rgb '#404040'
set key left top; set arrow 1 from 1, 0 to 1, 1.02 nohead dt 2 lc rgb '#404040' front
set label 4 "QKᵀ/√d" at 1, 1.06 center front tc rgb '#404040'
plot '06_curve.csv' skip 1 using 1:2:4 with filledcurves lc rgb blue notitle, \
     '' skip 1 using 1:3 with lines lw 2 lc rgb blue title 'entropy / ln n', \
     '' skip 1 using 1:5:7 with filledcurves lc rgb red notitle, \
     '' skip 1 using 1:6 with lines lw 2 lc rgb red title 'largest share (bands: 5 … 95 % of draws)', \
     dim dt 2 lc rgb blue title 'saturated by entropy below this'
unset arrow; unset label 4; set ylabel 'Jacobian norm / that of equal shares'; set yrange [-0.4:4.2]; set ytics 0,1,4
plot '06_curve.csv' skip 1 using 1:8:10 with filledcurves lc rgb green notitle, \
     '' skip 1 using 1:9 with lines lw 2 lc rgb green title 'gradient that passes: median, 5 … 95 %', \
     '' skip 1 using 1:11 with lines dt 2 lw 1.5 lc rgb green title 'mean', 1 dt 3 lc rgb '#404040' notitle
unset multiplot)");

    draw(output, "06_gpt2_zone", {1200, 450},
         "set multiplot layout 1,2 title \"GPT-2's 144 heads for five prompts on the zone of 6 keys\"\n" + zone(6) +
             R"(set logscale x; set xlabel "standard deviation of a head's logits"; set format x '%g'
set xrange [0.1:100]
set style fill transparent solid 0.25 noborder; set yrange [0:1.2]; set ytics 0,0.2,1
set ylabel 'entropy / ln L'; set key right top
plot '06_curve_6.csv' skip 1 using 1:2:4 with filledcurves lc rgb grey notitle, \
     '' skip 1 using 1:3 with lines lw 1.5 lc rgb grey title '6 Gaussian logits, 5 … 95 %', \
     '06_gpt2.csv' skip 1 using 1:2 pt 7 ps 0.35 lc rgb red title 'without 1/√64', \
     '' skip 1 using ($9==1?$5:1/0):6 pt 7 ps 0.35 lc rgb blue title 'with 1/√64, balanced by entropy', \
     '' skip 1 using ($9==2?$5:1/0):6 pt 7 ps 0.35 lc rgb orange title 'with 1/√64, saturated by entropy', \
     dim dt 2 lc rgb '#404040' notitle
set ylabel 'Jacobian norm / that of equal shares'; set yrange [0:1.9]; set ytics 0,0.5,1.5
plot '06_curve_6.csv' skip 1 using 1:8:10 with filledcurves lc rgb grey notitle, \
     '' skip 1 using 1:9 with lines lw 1.5 lc rgb grey title '6 Gaussian logits, 5 … 95 %', \
     '06_gpt2.csv' skip 1 using 1:4 pt 7 ps 0.35 lc rgb red title 'without 1/√64', \
     '' skip 1 using ($9==1?$5:1/0):8 pt 7 ps 0.35 lc rgb blue notitle, \
     '' skip 1 using ($9==2?$5:1/0):8 pt 7 ps 0.35 lc rgb orange notitle
unset multiplot)");
}

} // namespace

int main(int argc, char** argv)
{
    command_line line("Experiment 6: the zone in which a softmax can learn");
    common_options options{.trials = 1000};
    std::size_t keys = 50;
    std::size_t head_size = 50;
    std::filesystem::path scores;
    options.add_to(line);
    // With few keys there is no transition to speak of: for 16, the entropy at √(2 ln n) is still above half of ln n.
    line.add("--keys", keys, "logits of a softmax", within{48, 4096});
    line.add("--head-size", head_size, "columns of Q and of K", within{1, 4096});
    line.add("--scores", scores,
             "GPT-2's q·k (gpt2-attention.safetensors); without it, the recorded figures are shown");

    return run(line, argc, argv, options, [&] {
        results found("06_goldilocks_zone", "Experiment 6: the Goldilocks zone");
        const heads_source gpt2 = load_heads(scores);
        found.note(format("%zu draws of %zu logits; median and 5 … 95 %% over the draws.", options.trials, keys));
        found.note(gpt2.note);

        const auto rows = draw_rows(options, keys);
        const auto curve = measure_curve(rows, options.output / "06_curve.csv");
        measure_curve(draw_rows(options, 6), options.output / "06_curve_6.csv");
        claim_matrices(found, options, keys, head_size);
        claim_zone(found, rows, curve);
        const std::string of_gpt2 = claim_gpt2(found, gpt2.heads, options.output);

        draw_figures(options.output, keys);
        found.figure("06_goldilocks_zone", "Entropy, largest share and gradient against the spread of the logits.");
        found.figure("06_gpt2_zone", "GPT-2's heads on the same axes: each dot is a head's last query for one prompt.");
        found.conclude(format(
            "Between σ = %.2f and σ = %.2f a softmax of %zu logits tells keys apart and still passes gradients on; "
            "below it sees no difference, above it sees one key. Scores divided by √d stand at σ = 1, inside; "
            "without the factor, or with it twice, they fall out on either side. %s",
            sd::flatness_threshold(keys), sd::saturation_threshold(keys), keys, of_gpt2.c_str()));
        return found.finish(options.output);
    });
}
