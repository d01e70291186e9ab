// SPDX-License-Identifier: BSD-3-Clause
// Experiment 8: QK-Clip, and its alternatives softcap and sink, on heads whose weights have grown.
//
// q = x W_q, k = x W_k. When a head's weights grow by g between them, its scores do, until its softmax sees one key and
// passes no gradient (experiment 7). Three remedies are in use:
//
//   QK-Clip   after an optimiser's step, a head whose largest score exceeds a limit τ has W_q and W_k multiplied by √γ
//             each, γ = τ / largest score (MuonClip, Kimi K2 2025; τ = 100 there). Scores below stay what they were.
//   softcap   s becomes c tanh(s / c) in every forward pass (Gemma 2; c = 50 there). No score leaves (−c, c).
//   sink      one more logit, learned or 0, takes part in the softmax and carries no value (gpt-oss 2025; softmax1):
//             a row that wants nothing need not make one key win.
//
// The figure compares the entropy that each leaves, and the gradient that each lets through to q·k: what comes back
// through the softmax is multiplied by the softcap's own derivative, 1 − tanh²(s / c).
#include "support/csv.hpp"
#include "support/plot.hpp"
#include "support/program.hpp"
#include "support/results.hpp"
#include "support/text.hpp"

#include <scaledot/diagnostics.hpp>
#include <scaledot/qk_clip.hpp>
#include <scaledot/scores.hpp>
#include <scaledot/statistics.hpp>
#include <scaledot/verdict.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <filesystem>
#include <string>
#include <vector>

namespace sd = scaledot;
using namespace examples;

namespace {

constexpr std::size_t tokens = 64;
constexpr std::size_t width = 128; // of x
constexpr std::size_t head_size = 64;
constexpr double limit = 100;
// The limit that keeps a head of 64 keys in the zone: its spread is below √(2 ln 64) = 2.9, and the largest of 64 × 64
// Gaussian scores is about 4.1 spreads up.
constexpr double limit_in_zone = 8;
constexpr double cap = 50;
constexpr double cap_in_zone = 8;

xt::xtensor<double, 2> product(const xt::xtensor<double, 2>& a, const xt::xtensor<double, 2>& b)
{
    xt::xtensor<double, 2> c = xt::zeros<double>({a.shape(0), b.shape(1)});
    for (std::size_t i = 0; i < a.shape(0); ++i) {
        double* const sums = &c(i, 0);
        for (std::size_t l = 0; l < a.shape(1); ++l) {
            const double factor = a(i, l);
            const double* const row = &b(l, 0);
            for (std::size_t j = 0; j < b.shape(1); ++j) {
                sums[j] += factor * row[j];
            }
        }
    }
    return c;
}

struct head {
    xt::xtensor<double, 2> x, w_q, w_k;
    xt::xtensor<double, 2> q{}, k{}; // x w_q and x w_k

    void scale_weights(double factor)
    {
        w_q *= factor;
        w_k *= factor;
        q = product(x, w_q);
        k = product(x, w_k);
    }
};

// A head whose scores have spread g: of weights from N(0, g / width), so that q and k have variance g each.
head grown_head(const common_options& options, std::size_t draw, double g)
{
    std::mt19937 engine = generator(options.seed, draw);
    head h{gaussian(tokens, width, engine), gaussian(width, head_size, engine), gaussian(width, head_size, engine)};
    h.scale_weights(std::sqrt(g / static_cast<double>(width)));
    return h;
}

// What the optimiser would do after its step.
head clipped(head h, double to)
{
    const double gamma = sd::qk_clip_factors(sd::attention_diagnostics(h.q, h.k), to).at(0);
    h.scale_weights(std::sqrt(gamma));
    return h;
}

/// Mean over the rows of a head.
struct figures {
    double entropy;  // over ln of the number of keys, sink included
    double gradient; // Frobenius norm of the derivative of the shares by the scores, over that of equal shares
    double largest;  // score, before any softcap
    sd::logit_zone zone;
};

figures measure(const head& h, const sd::attention_options& options)
{
    const auto rows = sd::attention_diagnostics(h.q, h.k, options);
    const sd::zone_verdict verdict = sd::head_verdicts(rows).at(0);
    double gradient = sd::summarize(rows.jacobian_norm).mean;
    if (options.softcap > 0) {
        // Columns of the Jacobian times 1 − tanh²: ‖J D‖² = Σ_j d_j² p_j² (1 − 2 p_j + Σ p²), row by row.
        const auto p = sd::attention_scores(h.q, h.k, sd::score_stage::probabilities, options);
        const auto capped = sd::attention_scores(h.q, h.k, sd::score_stage::capped, options);
        gradient = 0;
        for (std::size_t i = 0; i < tokens; ++i) {
            double squares = 0;
            double norm = 0;
            for (std::size_t j = 0; j < tokens; ++j) {
                squares += p(i, j) * p(i, j);
            }
            for (std::size_t j = 0; j < tokens; ++j) {
                const double slope = 1 - std::pow(capped(i, j) / options.softcap, 2);
                norm += std::pow(slope * p(i, j), 2) * (1 - 2 * p(i, j) + squares);
            }
            gradient += std::sqrt(std::max(norm, 0.0)) / static_cast<double>(tokens);
        }
    }
    const double n = static_cast<double>(tokens);
    const auto scores = sd::attention_scores(h.q, h.k, sd::score_stage::scaled);
    return {verdict.normalised_entropy, gradient / (std::sqrt(n - 1) / n), sd::summarize(scores).maximum,
            *verdict.zone};
}

enum remedy : std::size_t { nothing, clip, clip_in_zone, softcap, softcap_in_zone, with_sink, remedies };

constexpr std::size_t steps = 29; // g = 2^(step/2), from 1/4 to 4096

double growth_at(std::size_t step)
{
    return std::exp2(static_cast<double>(step) / 2 - 2);
}

constexpr std::size_t step_of_64 = 16;

std::array<figures, remedies> try_all(const common_options& options, std::size_t draw, double g)
{
    const std::array<double, 1> sink = {0.0};
    const head h = grown_head(options, draw, g);
    return {measure(h, {}),
            measure(clipped(h, limit), {}),
            measure(clipped(h, limit_in_zone), {}),
            measure(h, {.softcap = cap}),
            measure(h, {.softcap = cap_in_zone}),
            measure(h, {.sinks = sink})};
}

using lives = std::array<std::vector<std::array<figures, steps>>, remedies>; // [remedy][draw][step]

spread over_draws(const lives& all, remedy which, std::size_t step, double figures::*figure)
{
    std::vector<double> values;
    for (const auto& life : all[which]) {
        values.push_back(life[step].*figure);
    }
    return spread_of(values);
}

void save(const lives& all, const std::filesystem::path& path)
{
    csv_writer table({"g", "entropy_low", "entropy", "entropy_high", "gradient_low", "gradient", "gradient_high"});
    for (std::size_t i = 0; i < remedies; ++i) {
        for (std::size_t step = 0; step < steps; ++step) {
            const spread e = over_draws(all, static_cast<remedy>(i), step, &figures::entropy);
            const spread g = over_draws(all, static_cast<remedy>(i), step, &figures::gradient);
            table.row(growth_at(step), e.low, e.median, e.high, g.low, g.median, g.high);
        }
        table.gap();
        table.gap();
    }
    table.save(path);
}

void claim_all(results& found, const lives& all)
{
    double above = 0;
    bool untouched = true;
    for (std::size_t draw = 0; draw < all[clip].size(); ++draw) {
        for (std::size_t step = 0; step < steps; ++step) {
            const figures& before = all[nothing][draw][step];
            const figures& after = all[clip][draw][step];
            if (before.largest > limit) {
                above = std::max(above, std::abs(after.largest / limit - 1));
            } else {
                untouched = untouched && after.largest == before.largest && after.entropy == before.entropy;
            }
        }
    }
    // Weights, products and scores are rounded on the way: a few hundred roundings of 1e-16 each.
    found.claim("QK-Clip on the weights: a largest score above 100 becomes 100, to 10⁻¹²", format("%.1e off", above),
                above <= 1e-12);
    found.claim("QK-Clip: a head below the limit keeps every bit", untouched ? "always" : "not always", untouched);

    const auto entropy = [&](remedy which) { return over_draws(all, which, step_of_64, &figures::entropy); };
    const auto gradient = [&](remedy which) { return over_draws(all, which, step_of_64, &figures::gradient); };
    const auto zones = [&](remedy which, sd::logit_zone zone) {
        return static_cast<std::size_t>(std::count_if(all[which].begin(), all[which].end(),
                                                      [&](const auto& life) { return life[step_of_64].zone == zone; }));
    };
    const std::size_t draws = all[nothing].size();
    const auto ask_zone = [&](const char* what, remedy which, sd::logit_zone zone) {
        const std::size_t agree = zones(which, zone);
        found.claim(format("g = 64, %s: %s", what, std::string(to_string(zone)).c_str()),
                    text(entropy(which), "%.3f") + format(" of ln n; %zu of %zu heads", agree, draws), agree == draws);
    };
    ask_zone("nothing done", nothing, sd::logit_zone::saturated);
    ask_zone("QK-Clip, limit 100, bounds the scores but not the entropy", clip, sd::logit_zone::saturated);
    ask_zone("QK-Clip, limit 8", clip_in_zone, sd::logit_zone::balanced);
    ask_zone("a sink of logit 0 does not help a head that grows", with_sink, sd::logit_zone::saturated);
    // Beyond the cap, tanh leaves the order of the scores but not their distance: half of the keys end near c.
    found.claim("g = 64: softcap 8 leaves more than half of ln n", text(entropy(softcap_in_zone), "%.3f"),
                entropy(softcap_in_zone).median > 0.5);
    found.claim("g = 64: and less gradient to q·k than QK-Clip, limit 8, by a factor of more than 10",
                text(gradient(softcap_in_zone), "%.2g") + " against " + text(gradient(clip_in_zone), "%.2g"),
                gradient(softcap_in_zone).median < gradient(clip_in_zone).median / 10);
}

// Four query heads that share a key head: one of them has grown. Its W_q takes all of γ, W_k stays, and so do the
// others.
void claim_grouped(results& found, const common_options& options)
{
    constexpr std::size_t heads = 4;
    const std::array<double, heads> growth = {1, 1, 64, 1};
    const head shared = grown_head(options, 0, 1);
    xt::xtensor<double, 3> q = xt::xtensor<double, 3>::from_shape({heads, tokens, head_size});
    for (std::size_t h = 0; h < heads; ++h) {
        const xt::xtensor<double, 2> own = grown_head(options, h + 1, 1).q * growth[h];
        std::copy(own.begin(), own.end(), &q(h, 0, 0));
    }
    xt::xtensor<double, 3> keys = xt::xtensor<double, 3>::from_shape({1, tokens, head_size});
    std::copy(shared.k.begin(), shared.k.end(), keys.begin());

    const auto factors = sd::qk_clip_factors(sd::attention_diagnostics(q, keys), limit);
    for (std::size_t h = 0; h < heads; ++h) {
        for (double* element = &q(h, 0, 0); element != &q(h, 0, 0) + tokens * head_size; ++element) {
            *element *= factors[h];
        }
    }
    const auto after = sd::qk_clip_factors(sd::attention_diagnostics(q, keys), limit * (1 + 1e-12));
    found.claim("grouped heads: only the one that grew is clipped, by its queries alone",
                format("γ = %.3g, %.3g, %.3g, %.3g", factors[0], factors[1], factors[2], factors[3]),
                factors[0] == 1 && factors[1] == 1 && factors[2] < 1 && factors[3] == 1 &&
                    std::count(after.begin(), after.end(), 1.0) == heads);
}

void draw_figure(const std::filesystem::path& output)
{
    draw(output, "08_qk_clip", {1200, 480},
         R"(set multiplot layout 1,2 title "What each remedy leaves of a head of 64 keys"
set logscale x 2; set xrange [0.25:4096]; set xtics ('1/4' 0.25, '1' 1, '4' 4, '16' 16, '64' 64, '256' 256, '1024' 1024)
set xlabel "g: spread of the head's scores"; set style fill transparent solid 0.2 noborder; file = '08_qk_clip.csv'
array name[6] = ['nothing', 'QK-Clip, limit 100', 'QK-Clip, limit 8', 'softcap 50', 'softcap 8', 'sink of logit 0 (as nothing)']
array colour[6] = ['#404040', blue, sky, red, orange, green]; array dash[6] = [1, 1, 1, 2, 2, 3]
set title 'Entropy / ln n'; set yrange [0:1.5]; set ytics 0,0.2,1; set key top right
plot for [i=1:6] file skip 1 index i-1 using 1:2:4 with filledcurves lc rgb colour[i] notitle, \
     for [i=1:6] '' skip 1 index i-1 using 1:3 with lines lw 2 dt dash[i] lc rgb colour[i] title name[i]
set title 'Gradient that reaches q·k / that of equal shares'; set logscale y; set yrange [1e-6:300]; set format y '10^{%T}'
set ytics autofreq; unset key; low(x) = x > 1e-6 ? x : 1e-6
plot for [i=1:6] file skip 1 index i-1 using 1:(low($5)):(low($7)) with filledcurves lc rgb colour[i] notitle, \
     for [i=1:6] '' skip 1 index i-1 using 1:(low($6)) with lines lw 2 dt dash[i] lc rgb colour[i] notitle
unset multiplot)");
}

} // namespace

int main(int argc, char** argv)
{
    command_line line("Experiment 8: QK-Clip, softcap and sinks on heads that have grown");
    common_options options{.trials = 20};
    options.add_to(line);
    return run(line, argc, argv, options, [&] {
        results found("08_qk_clip", "Experiment 8: QK-Clip, softcap and sinks");
        found.note(format("%zu heads of %zu tokens, head size %zu, weights applied to inputs of width %zu; median and "
                          "5 … 95 %% over the heads of the mean over their rows.",
                          options.trials, tokens, head_size, width));

        lives all;
        for (std::size_t draw = 0; draw < options.trials; ++draw) {
            std::array<std::array<figures, steps>, remedies> life;
            for (std::size_t step = 0; step < steps; ++step) {
                const auto tried = try_all(options, draw, growth_at(step));
                for (std::size_t i = 0; i < remedies; ++i) {
                    life[i][step] = tried[i];
                }
            }
            for (std::size_t i = 0; i < remedies; ++i) {
                all[i].push_back(life[i]);
            }
        }
        save(all, options.output / "08_qk_clip.csv");
        claim_all(found, all);
        claim_grouped(found, options);

        draw_figure(options.output);
        found.figure("08_qk_clip",
                     "Entropy left, and gradient let through, as the head grows; bands: 5 … 95 % of heads.");
        found.conclude(
            "QK-Clip with its usual limit of 100 bounds the scores, and with them what a low-precision format has to "
            "hold, "
            "but a head of 64 keys is saturated long before; a limit of 8 would keep it in the zone. A softcap keeps "
            "the "
            "entropy up, because many scores end at the cap alike, and lets little gradient through to those. A sink "
            "at 0 "
            "is "
            "drowned by scores that grow; it answers another need, that of a row which has nothing to attend to.");
        return found.finish(options.output);
    });
}
