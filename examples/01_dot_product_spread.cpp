// SPDX-License-Identifier: BSD-3-Clause
// Experiment 1: dot products of random vectors are spread √d times as wide as the vectors' components.
//
// Let the rows of Q and K (tokens × d) have independent components from N(0, 1). One score is a sum of d products,
//
//     s_ij = Σ_l q_il k_jl,    E[q k] = 0,    Var[q k] = E[q²] E[k²] = 1,
//
// and the variances of independent terms add up: Var[s_ij] = d, so sd(QKᵀ) = √d. For d = 50 that is 7.07: the scores
// are seven times as large as what they are made of, which is what attention's factor 1/√d takes back.
//
// How well can one draw show that? The n² scores of a draw share their rows and columns, so they are not n² independent
// numbers. With A = QᵀQ and B = KᵀK, Σ s² = tr(AB), and the Wishart moments give Var[tr(AB)] = 2 n² d (2n + d + 1);
// hence one draw's sd(QKᵀ) scatters around √d by the relative amount ½ √(2 (2n + d + 1) / (n² d)): 2.5 % for 50 × 50.
#include "support/csv.hpp"
#include "support/plot.hpp"
#include "support/program.hpp"
#include "support/results.hpp"
#include "support/text.hpp"

#include <scaledot/scores.hpp>
#include <scaledot/statistics.hpp>

#include <cmath>
#include <cstddef>
#include <filesystem>
#include <string>
#include <vector>

namespace sd = scaledot;
using namespace examples;

namespace {

// A claim "sd ≈ expected" fails when the figure over all draws is more than five standard errors off, which a right law
// does once in a million runs, or when the law is off by more than that: 0.5 % for 200 draws of 50 × 50.
void claim_spread(results& found, const char* name, const std::vector<double>& deviations, double expected,
                  double error_of_one, double share_lost)
{
    const double measured = pooled(deviations) / expected;
    const double tolerance = 5 * error_of_one / std::sqrt(static_cast<double>(deviations.size())) + share_lost;
    found.claim(format("sd(%s) ≈ %.4g, to %.2g %%", name, expected, 100 * tolerance),
                text(spread_of(deviations), "%.3f") + format(", all draws %.4f", pooled(deviations)),
                std::abs(measured - 1) <= tolerance);
}

void draw_figure(const std::filesystem::path& output, std::size_t head_size, std::size_t trials)
{
    const double root = std::sqrt(static_cast<double>(head_size));
    draw(output, "01_dot_product_spread", {1080, 430},
         format(R"(set multiplot layout 1,2
set title 'Entries of one draw (dots) and N(0, 1), N(0, %1$zu) (lines)'
set xlabel 'value of an entry'; set ylabel 'density (logarithmic)'
set logscale y; set yrange [1e-5:1.2]; set xrange [%2$g:%3$g]; set format y '10^{%%T}'
normal(x, s) = exp(-x*x/(2*s*s)) / (s*sqrt(2*pi))
set samples 500
plot normal(x, 1) lw 2 lc rgb blue notitle, normal(x, %4$.9g) lw 2 lc rgb red notitle, \
     '01_entries.csv' skip 1 using 1:($2>0?$2:1/0) pt 7 ps 0.6 lc rgb blue title 'Q', \
     '' skip 1 using 1:($3>0?$3:1/0) pt 6 ps 0.7 lc rgb sky title 'K', \
     '' skip 1 using 1:($4>0?$4:1/0) pt 7 ps 0.6 lc rgb red title 'QKᵀ', \
     '' skip 1 using 1:($5>0?$5:1/0) pt 5 ps 0.45 lc rgb green title 'QKᵀ/√d'
unset logscale y; set format y '%%g'; set autoscale y
set title 'Standard deviation in each of %5$zu draws'
set xrange [0.4:4.7]; set yrange [0:*]; set ylabel 'standard deviation'; set xlabel ''
set xtics ('Q' 1, 'K' 2, 'QKᵀ' 3, 'QKᵀ/√d' 4); unset key
set label 1 '√%1$zu = %6$.2f' at 1.3, %4$.9g offset 0,0.8 tc rgb '#404040'
set label 2 '1' at 4.5, 1 offset 0,0.8 tc rgb '#404040'
plot '01_spread.csv' skip 1 using (1+0.4*(rand(0)-0.5)):2 pt 7 ps 0.35 lc rgb blue, \
     '' skip 1 using (2+0.4*(rand(0)-0.5)):3 pt 7 ps 0.35 lc rgb sky, \
     '' skip 1 using (3+0.4*(rand(0)-0.5)):4 pt 7 ps 0.35 lc rgb red, \
     '' skip 1 using (4+0.4*(rand(0)-0.5)):5 pt 7 ps 0.35 lc rgb green, \
     %4$.9g dt 2 lc rgb '#404040', 1 dt 2 lc rgb '#404040'
unset multiplot)",
                head_size, -4.2 * root, 4.2 * root, root, trials, root));
}

} // namespace

int main(int argc, char** argv)
{
    command_line line("Experiment 1: the standard deviation of QKᵀ is √d times that of Q and K");
    common_options options{.trials = 200};
    std::size_t tokens = 50;
    std::size_t head_size = 50;
    options.add_to(line);
    line.add("--tokens", tokens, "rows of Q and of K", within{2, 2048});
    line.add("--head-size", head_size, "columns of Q and of K", within{1, 4096});

    return run(line, argc, argv, options, [&] {
        results found("01_dot_product_spread", "Experiment 1: how wide dot products spread");
        std::vector<double> of_q, of_k, of_scores, of_scaled;
        csv_writer spreads({"draw", "sd_q", "sd_k", "sd_qk", "sd_qk_scaled"});
        csv_writer entries({"value", "density_q", "density_k", "density_qk", "density_qk_scaled"});

        for (std::size_t trial = 0; trial < options.trials; ++trial) {
            std::mt19937 engine = generator(options.seed, trial);
            const auto q = gaussian(tokens, head_size, engine);
            const auto k = gaussian(tokens, head_size, engine);
            // QKᵀ itself, and QKᵀ/√d as attention computes it: 1/√d is the default scale.
            const auto scores = sd::attention_scores(q, k, sd::score_stage::scaled, {.scale = 1.0});
            const auto scaled = sd::attention_scores(q, k, sd::score_stage::scaled);

            of_q.push_back(sd::summarize(q).standard_deviation);
            of_k.push_back(sd::summarize(k).standard_deviation);
            of_scores.push_back(sd::summarize(scores).standard_deviation);
            of_scaled.push_back(sd::summarize(scaled).standard_deviation);
            spreads.row(trial, of_q.back(), of_k.back(), of_scores.back(), of_scaled.back());

            if (trial == 0) {
                const double edge = 4.2 * std::sqrt(static_cast<double>(head_size));
                constexpr std::size_t bins = 84;
                const auto hq = sd::histogram(q, bins, -edge, edge);
                const auto hk = sd::histogram(k, bins, -edge, edge);
                const auto hs = sd::histogram(scores, bins, -edge, edge);
                const auto ha = sd::histogram(scaled, bins, -edge, edge);
                const double width = 2 * edge / bins;
                for (std::size_t i = 0; i < bins; ++i) {
                    const auto density = [&](const sd::histogram_result& h, std::size_t all) {
                        return static_cast<double>(h.counts(i)) / (width * static_cast<double>(all));
                    };
                    entries.row(hq.edges(i) + width / 2, density(hq, q.size()), density(hk, k.size()),
                                density(hs, scores.size()), density(ha, scaled.size()));
                }
            }
        }

        const auto n = static_cast<double>(tokens);
        const auto d = static_cast<double>(head_size);
        // Of m independent N(0, 1) numbers the standard deviation scatters by 1/√(2m).
        const double error_of_input = 1 / std::sqrt(2 * n * d);
        const double error_of_scores = std::sqrt(2 * (2 * n + d + 1) / (n * n * d)) / 2;
        found.note(format("%zu draws of Q and K, %zu × %zu; median and 5 … 95 %% over the draws.", options.trials,
                          tokens, head_size));
        claim_spread(found, "Q", of_q, 1, error_of_input, 1 / (n * d));
        claim_spread(found, "K", of_k, 1, error_of_input, 1 / (n * d));
        claim_spread(found, "QKᵀ", of_scores, std::sqrt(d), error_of_scores, 1 / (n * n));
        claim_spread(found, "QKᵀ/√d", of_scaled, 1, error_of_scores, 1 / (n * n));

        spreads.save(options.output / "01_spread.csv");
        entries.save(options.output / "01_entries.csv");
        draw_figure(options.output, head_size, options.trials);
        found.figure("01_dot_product_spread",
                     "Left: the entries of one draw. Right: their standard deviation, draw by draw.");
        found.conclude(format("Components of spread 1 make scores of spread √%zu = %.2f, because a score adds up %zu "
                              "products. Dividing by √d brings the spread back to 1. One draw alone shows this to "
                              "within some %.1f %%.",
                              head_size, std::sqrt(d), head_size, 100 * error_of_scores));
        return found.finish(options.output);
    });
}
