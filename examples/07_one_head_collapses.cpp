// SPDX-License-Identifier: BSD-3-Clause
// Experiment 7, a tutorial: one head, from flat through healthy to collapsed, as its scale grows.
//
// A head's queries and keys come from learned weights, and nothing keeps those from growing. Multiply the queries by g
// and every score is multiplied by g: the softmax runs at temperature 1/g. Here one head of 64 random queries and keys
// (scores of spread 1 at g = 1, where a head starts) is followed from g = 1/32 to g = 4096, and every figure that
// scaledot has about it is shown:
//
//   attention_diagnostics   a row's largest, smallest and mean score, their spread, the number of visible keys, the
//                           log-sum-exp, entropy, effective keys exp(H), largest share, Jacobian norm, the sink's share
//   head_verdicts           flat, balanced or saturated by the measured entropy, and the temperature that brings it
//   back recommended_temperature the same from the scores themselves headroom_of_heads       what half and bfloat16
//   have left for such scores qk_clip_factors         what QK-Clip would do
#include "support/csv.hpp"
#include "support/plot.hpp"
#include "support/program.hpp"
#include "support/results.hpp"
#include "support/text.hpp"

#include <scaledot/diagnostics.hpp>
#include <scaledot/headroom.hpp>
#include <scaledot/qk_clip.hpp>
#include <scaledot/scores.hpp>
#include <scaledot/statistics.hpp>
#include <scaledot/verdict.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace sd = scaledot;
using namespace examples;

namespace {

constexpr std::size_t tokens = 64;
constexpr std::size_t head_size = 64;
constexpr double root = 8;         // √64
constexpr double clip_limit = 100; // QK-Clip's
constexpr int first_step = -10;    // g = 2^(step/2), from 1/32 to 4096
constexpr int last_step = 24;

double factor_at(int step)
{
    return std::exp2(step / 2.0);
}

/// Everything about the head at one scale. Figures of rows are those of the median row, with 5 … 95 % where drawn.
struct snapshot {
    double factor;
    double max, min, mean, deviation, lse; // max and min over the head, the others of the median row
    std::size_t visible;
    spread entropy, effective, largest, jacobian; // entropy over ln n, Jacobian norm over that of equal shares
    double sink;
    sd::zone_verdict verdict;
    double temperature;                    // by the scores themselves
    double entropy_at_spreads_temperature; // mean over ln n, after the way back; NaN where there is none
    double entropy_at_temperature;
    sd::precision_headroom half, bfloat16;
    double clip;
};

double mean_normalised(const auto& entropy)
{
    return sd::summarize(entropy).mean / std::log(static_cast<double>(tokens));
}

snapshot look_at(const xt::xtensor<double, 2>& q, const xt::xtensor<double, 2>& k, double factor)
{
    const xt::xtensor<double, 2> grown = q * factor;
    const auto figures = sd::attention_diagnostics(grown, k); // scale 1/√64 is the default
    const std::array<double, 1> sink = {0.0};
    const auto with_sink = sd::attention_diagnostics(grown, k, {.sinks = sink});
    const double n = static_cast<double>(tokens);
    const auto over = [](const auto& values, double unit) {
        const auto at = sd::quantiles(values, {0.05, 0.5, 0.95});
        return spread{at[0] / unit, at[1] / unit, at[2] / unit};
    };
    snapshot s{};
    s.factor = factor;
    s.max = sd::summarize(figures.max_logit).maximum;
    s.min = sd::summarize(figures.min_logit).minimum;
    s.mean = sd::quantile(figures.logit_mean, 0.5);
    s.deviation = sd::quantile(figures.logit_standard_deviation, 0.5);
    s.lse = sd::quantile(figures.lse, 0.5);
    s.visible = figures.visible_keys(0);
    s.entropy = over(figures.entropy, std::log(n));
    s.effective = over(figures.effective_keys, 1);
    s.largest = over(figures.max_probability, 1);
    s.jacobian = over(figures.jacobian_norm, std::sqrt(n - 1) / n);
    s.sink = sd::quantile(with_sink.sink_probability, 0.5);
    s.verdict = sd::head_verdicts(figures).at(0);
    s.temperature = sd::recommended_temperature(sd::attention_scores(grown, k, sd::score_stage::scaled));
    const auto entropy_at = [&](double temperature) {
        return mean_normalised(sd::attention_diagnostics(grown, k, {.scale = 1 / (root * temperature)}).entropy);
    };
    s.entropy_at_temperature = entropy_at(s.temperature);
    s.entropy_at_spreads_temperature = s.verdict.temperature ? entropy_at(*s.verdict.temperature) : std::nan("");
    s.half = sd::headroom_of_heads<xtl::half_float>(figures, 1 / root).at(0);
    s.bfloat16 = sd::headroom_of_heads<sd::bfloat16>(figures, 1 / root).at(0);
    s.clip = sd::qk_clip_factors(figures, clip_limit).at(0);
    return s;
}

std::vector<snapshot> follow(std::uint32_t seed, std::size_t draw)
{
    std::mt19937 engine = generator(seed, draw);
    const auto q = gaussian(tokens, head_size, engine);
    const auto k = gaussian(tokens, head_size, engine);
    std::vector<snapshot> life;
    for (int step = first_step; step <= last_step; ++step) {
        life.push_back(look_at(q, k, factor_at(step)));
    }
    return life;
}

const snapshot& at_step(const std::vector<snapshot>& life, int step)
{
    return life[static_cast<std::size_t>(step - first_step)];
}

void print(const std::vector<snapshot>& life)
{
    std::printf("\n%9s %9s %9s %7s %9s %5s %8s %7s %7s %8s %9s %6s %5s %5s %9s %7s  %s\n", "g", "max", "min", "mean",
                "sd", "keys", "lse", "H/ln n", "exp(H)", "largest", "Jacobian", "sink", "half", "bf16", "T back",
                "clip", "verdict");
    for (std::size_t i = 0; i < life.size(); i += 2) {
        const snapshot& s = life[i];
        std::printf("%9.4g %9.4g %9.4g %7.2g %9.4g %5zu %8.4g %7.3f %7.2f %8.4f %9.2e %6.3f %5d %5d %9.4g %7.4g  %s\n",
                    s.factor, s.max, s.min, s.mean, s.deviation, s.visible, s.lse, s.entropy.median, s.effective.median,
                    s.largest.median, s.jacobian.median, s.sink, s.half.significant_bits, s.bfloat16.significant_bits,
                    s.temperature, s.clip, std::string(to_string(*s.verdict.zone)).c_str());
    }
    std::printf("\n");
}

void save(const std::vector<snapshot>& life, const std::filesystem::path& path)
{
    csv_writer table({"factor",        "max",           "minus_min",      "sd",
                      "lse",           "entropy_low",   "entropy",        "entropy_high",
                      "effective_low", "effective",     "effective_high", "largest_low",
                      "largest",       "largest_high",  "sink",           "jacobian_low",
                      "jacobian",      "jacobian_high", "half_bits",      "bfloat16_bits",
                      "half_room",     "temperature",   "clip",           "mean_entropy",
                      "entropy_back",  "zone"});
    for (const snapshot& s : life) {
        table.row(s.factor, s.max, -s.min, s.deviation, s.lse, s.entropy.low, s.entropy.median, s.entropy.high,
                  s.effective.low, s.effective.median, s.effective.high, s.largest.low, s.largest.median,
                  s.largest.high, s.sink, s.jacobian.low, s.jacobian.median, s.jacobian.high,
                  static_cast<double>(s.half.significant_bits), static_cast<double>(s.bfloat16.significant_bits),
                  s.half.room, s.temperature, s.clip, s.verdict.normalised_entropy, s.entropy_at_temperature,
                  static_cast<double>(static_cast<int>(*s.verdict.zone)));
    }
    table.save(path);
}

// The g at which the head's mean entropy falls through `level`, linear in ln g between two snapshots.
double crossing(const std::vector<snapshot>& life, double level)
{
    for (std::size_t i = 1; i < life.size(); ++i) {
        const double before = life[i - 1].verdict.normalised_entropy;
        const double after = life[i].verdict.normalised_entropy;
        if (before > level && after <= level) {
            return life[i - 1].factor *
                   std::pow(life[i].factor / life[i - 1].factor, (before - level) / (before - after));
        }
    }
    return std::nan("");
}

void claim_all(results& found, const std::vector<std::vector<snapshot>>& lives)
{
    const std::size_t n = tokens;
    const auto over_lives = [&](auto&& figure) {
        std::vector<double> values;
        std::transform(lives.begin(), lives.end(), std::back_inserter(values), figure);
        return values;
    };
    const auto all = [&](auto&& condition) { return std::all_of(lives.begin(), lives.end(), condition); };
    found.claim(
        "g = 1: every head is balanced; H/ln n",
        text(spread_of(over_lives([](const auto& life) { return at_step(life, 0).verdict.normalised_entropy; })),
             "%.3f"),
        all([](const auto& life) { return at_step(life, 0).verdict.zone == sd::logit_zone::balanced; }));
    // The scores' spread is g up to the few percent by which one head's differs from √d (experiment 1); what one head's
    // entropy scatters about the mean of Gaussian logits comes on top.
    const auto turn = [&](const char* what, double level, double expected) {
        const spread s = spread_of(over_lives([&](const auto& life) { return crossing(life, level); }));
        found.claim(format("%s at g = %.2f, to 10 %%", what, expected), text(s, "%.3g"),
                    std::abs(s.median / expected - 1) <= 0.1);
    };
    turn("below σ = √(0.02 ln n) the head is flat: it turns balanced", sd::flatness_entropy, sd::flatness_threshold(n));
    turn("the head turns saturated at σ = √(2 ln n):", sd::saturation_entropy(n), sd::saturation_threshold(n));
    // Nine octaves above the start every row has one key; a row's second key trails by g times a gap of order 1/4.
    const auto gone = over_lives([](const auto& life) { return at_step(life, 18).jacobian.median; });
    found.claim("g = 512: collapsed, the median row passes < 10⁻⁶ of equal shares' gradient",
                text(spread_of(gone), "%.1e"), spread_of(gone).median < 1e-6);
    const auto keys = over_lives([](const auto& life) { return at_step(life, 18).effective.median; });
    found.claim("g = 512: of 64 keys one is left in effect", text(spread_of(keys), "%.3f"), spread_of(keys).high < 1.1);

    double by_logits = 0;
    double by_spread = 0;
    bool always = true;
    for (const auto& life : lives) {
        for (const snapshot& s : life) {
            if (s.verdict.zone != sd::logit_zone::balanced) {
                by_logits = std::max(by_logits, std::abs(s.entropy_at_temperature - sd::zone_centre_entropy));
                by_spread = std::max(by_spread, std::abs(s.entropy_at_spreads_temperature - sd::zone_centre_entropy));
                always = always && s.verdict.temperature.has_value();
            }
        }
    }
    // The scores reach diagnostics and recommendation through different scales, rounded differently.
    found.claim("recommended_temperature brings every one back: mean H/ln n = 0.9 to 10⁻⁹",
                format("%.1e off", by_logits), by_logits <= 1e-9);
    found.claim("the verdict's temperature, from the spread alone, to 0.02", format("%.3f off", by_spread),
                always && by_spread <= 0.02);

    bool bit_by_bit = true;
    for (const auto& life : lives) {
        for (int step = first_step; step + 2 <= last_step; ++step) { // g doubles every two steps
            const snapshot& s = at_step(life, step);
            const int now = s.half.significant_bits;
            const int then = at_step(life, step + 2).half.significant_bits;
            bit_by_bit = bit_by_bit && (s.half.max_score < 1 ? then == now : then == std::max(0, now - 1));
        }
    }
    found.claim("half: each doubling of g costs a bit, from a largest score of 1 on",
                bit_by_bit ? "always" : "not always", bit_by_bit);
    const auto overflow = over_lives([](const auto& life) {
        const auto first = std::find_if(life.begin(), life.end(), [](const snapshot& s) { return s.half.overflows; });
        return first == life.end() ? std::nan("") : first->factor;
    });
    // The largest of 4096 scores is near √(2 ln 4096) = 4.1 of their spread, so q·k near 33 g.
    found.claim("half: q·k before the scale overflows between g = 1000 and 4096", text(spread_of(overflow), "%.4g"),
                spread_of(overflow).low >= 1000 && spread_of(overflow).high <= 4096);
    double clipped = 0;
    for (const auto& life : lives) {
        for (const snapshot& s : life) {
            clipped = std::max(clipped, std::abs(s.clip * std::max(s.max, clip_limit) / clip_limit - 1));
        }
    }
    found.claim(format("QK-Clip's factor takes the largest score to %.0f, and is 1 below", clip_limit),
                format("%.1e off", clipped), clipped <= 1e-15);
}

void draw_figure(const std::filesystem::path& output)
{
    draw(output, "07_one_head", {1440, 700},
         format(R"(set multiplot layout 2,4 title '64 queries and keys, head size 64; green: the zone by spread'
flat = %.6g; saturated = %.6g
set object 1 rectangle from flat, graph 0 to saturated, graph 1 behind fc rgb '#e6f4ea' fs solid noborder
set logscale x 2; set xrange [%.6g:%.6g]; set xtics ('1/32' 0.03125, '1/4' 0.25, '1' 1, '4' 4, '16' 16, '64' 64, '256' 256, '1024' 1024)
set xlabel 'g, what the queries have grown by'; set style fill transparent solid 0.25 noborder; file = '07_head.csv'
set title 'Scores'; set logscale y; set yrange [0.02:5e4]; set format y '10^{%%T}'; set key left top
plot file skip 1 using 1:2 with lines lw 2 lc rgb red title 'largest', '' skip 1 using 1:3 with lines lw 2 dt 2 lc rgb blue \
       title '−smallest', '' skip 1 using 1:4 with lines lw 2 lc rgb green title 'standard deviation', \
     '' skip 1 using 1:5 with lines lw 2 dt 3 lc rgb orange title 'log-sum-exp'
unset logscale y; set format y '%%g'; set yrange [0:1.3]; set ytics 0,0.2,1; set key right top
set title 'Entropy / ln n'
array name[3] = ['flat', 'balanced', 'saturated']; array colour[3] = [orange, green, red]
plot file skip 1 using 1:6:8 with filledcurves lc rgb grey title 'rows, 5 … 95 %%', \
     for [z=0:2] '' skip 1 using ($26==z?$1:1/0):24 with points pt 7 ps 0.7 lc rgb colour[z+1] title name[z+1], \
     %.4f dt 2 lc rgb orange notitle, %.4f dt 2 lc rgb red notitle
set title 'Effective keys exp(H)'; set logscale y 2; set yrange [0.8:100]; set ytics (1, 2, 4, 8, 16, 32, 64)
plot file skip 1 using 1:9:11 with filledcurves lc rgb blue notitle, \
     '' skip 1 using 1:10 with lines lw 2 lc rgb blue title 'median row, 5 … 95 %%'
unset logscale y; set title 'Shares'; set yrange [0:1.3]; set ytics 0,0.2,1
plot file skip 1 using 1:12:14 with filledcurves lc rgb red notitle, \
     '' skip 1 using 1:13 with lines lw 2 lc rgb red title 'largest key, 5 … 95 %% of rows', \
     '' skip 1 using 1:15 with lines lw 2 lc rgb sky title 'a sink of logit 0'
set title 'Gradient: Jacobian norm / equal shares'''; set logscale y; set yrange [1e-9:100]; set ytics autofreq; set format y '10^{%%T}'
plot file skip 1 using 1:($16>1e-9?$16:1e-9):18 with filledcurves lc rgb green notitle, \
     '' skip 1 using 1:17 with lines lw 2 lc rgb green title 'median row, 5 … 95 %%', 1 dt 3 lc rgb '#404040' notitle
unset logscale y; set format y '%%g'; set title 'Significant bits left to a weight'; set yrange [-0.5:14]; set ytics 0,2,12
plot file skip 1 using 1:19 with steps lw 2 lc rgb blue title 'half', '' skip 1 using 1:20 with steps lw 2 lc rgb orange \
       title 'bfloat16', '' skip 1 using ($21<1?$1:1/0):19 with points pt 2 ps 1.3 lw 2 lc rgb red title 'half: q·k overflows'
set title 'The way back'; set logscale y; set yrange [0.005:3e4]; set ytics autofreq; set format y '10^{%%T}'; set key left top
plot file skip 1 using 1:22 with lines lw 2 lc rgb blue title 'recommended temperature', \
     '' skip 1 using 1:23 with lines lw 2 lc rgb red title 'QK-Clip factor, limit 100'
unset logscale y; set format y '%%g'; set title 'Entropy / ln n at that temperature'; set yrange [0:1.3]; set ytics 0,0.2,1
set key right top
plot file skip 1 using 1:24 with lines lw 2 dt 2 lc rgb grey title 'as it is', \
     '' skip 1 using 1:25 with lines lw 2 lc rgb blue title 'brought back'
unset multiplot)",
                sd::flatness_threshold(tokens), sd::saturation_threshold(tokens), factor_at(first_step),
                factor_at(last_step), sd::flatness_entropy, sd::saturation_entropy(tokens)));
}

} // namespace

int main(int argc, char** argv)
{
    command_line line("Experiment 7: one head, from healthy to collapsed as its scale grows");
    common_options options{.trials = 20};
    options.add_to(line);
    return run(line, argc, argv, options, [&] {
        results found("07_one_head_collapses", "Experiment 7: one head collapses");
        std::vector<std::vector<snapshot>> lives;
        for (std::size_t trial = 0; trial < options.trials; ++trial) {
            lives.push_back(follow(options.seed, trial));
        }
        const std::vector<snapshot>& head = lives.front();
        found.note(format("The table and the figure follow one head; the claims are about %zu. Median and 5 … 95 %%.",
                          options.trials));
        print(head);
        for (const int step : {-10, 0, 6, 18}) {
            const snapshot& s = at_step(head, step);
            found.note(format("g = %g: ", s.factor) + to_string(s.verdict) + ".");
        }
        for (const int step : {0, 6, 24}) {
            const snapshot& s = at_step(head, step);
            found.note(format("g = %g: ", s.factor) + to_string(s.half) + "; " + to_string(s.bfloat16) + ".");
        }
        claim_all(found, lives);
        save(head, options.output / "07_head.csv");
        draw_figure(options.output);
        found.figure("07_one_head", "Every figure of one head as its queries grow.");
        found.conclude("A head is healthy while its scores spread by about 1. As it grows, the largest score says so "
                       "first, then the "
                       "entropy falls, the effective keys go to one, and the gradient that could undo it vanishes; "
                       "half runs out of "
                       "bits long before it overflows. One number, the temperature, brings it back from anywhere.");
        return found.finish(options.output);
    });
}
