// SPDX-License-Identifier: BSD-3-Clause
// Experiment 2: sd(QKᵀ) follows √n as the vectors grow from 2 to 100 components.
//
// Experiment 1 derives sd(QKᵀ) = √n for components from N(0, 1). Here the length n of the vectors runs from 2 to 100,
// and three things are asked of the measured curve:
//   - where it lies: the largest relative deviation from √n;
//   - its shape: the correlation with √n, which does not see a wrong factor;
//   - its law: the exponent a of sd = c nᵃ, the slope of ln sd over ln n, which does not see a wrong factor either but
//     tells √n from any other power.
// One draw with m tokens scatters by the relative amount ½ √(2 (2m + n + 1) / (m² n)) (experiment 1).
#include "support/csv.hpp"
#include "support/plot.hpp"
#include "support/program.hpp"
#include "support/results.hpp"
#include "support/text.hpp"

#include <scaledot/scores.hpp>
#include <scaledot/statistics.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <filesystem>
#include <string>
#include <vector>

namespace sd = scaledot;
using namespace examples;

namespace {

double error_of_one_draw(double tokens, double size)
{
    return std::sqrt(2 * (2 * tokens + size + 1) / (tokens * tokens * size)) / 2;
}

void draw_figure(const std::filesystem::path& output, std::size_t tokens, std::size_t trials)
{
    draw(output, "02_square_root_law", {1080, 430},
         format(R"(set multiplot layout 1,2
set title 'Spread of QKᵀ, %1$zu tokens, %2$zu draws'
set xlabel 'n, components of a vector'; set ylabel 'sd(QKᵀ)'; set key left top
set yrange [0:*]
set style fill transparent solid 0.25 noborder
plot '02_curve.csv' skip 1 using 1:3:5 with filledcurves lc rgb blue title '5 … 95 %% of the draws', \
     '' skip 1 using 1:4 with points pt 7 ps 0.5 lc rgb blue title 'median', \
     sqrt(x) lw 2 lc rgb red title '√n'
set title 'Relative deviation from √n'
set ylabel 'sd(QKᵀ) / √n − 1, in %%'; set key right top; set autoscale y
plot '02_curve.csv' skip 1 using 1:(100*($3/$2-1)):(100*($5/$2-1)) with filledcurves lc rgb blue \
       title '5 … 95 %% of the draws', \
     '' skip 1 using 1:(100*($6/$2-1)) with points pt 7 ps 0.5 lc rgb blue title 'all draws together', \
     '' skip 1 using 1:(100*$7) with lines dt 2 lw 1.5 lc rgb '#404040' title 'five standard errors', \
     '' skip 1 using 1:(-100*$7) with lines dt 2 lw 1.5 lc rgb '#404040' notitle, \
     0 lw 1.5 lc rgb red notitle
unset multiplot)",
                tokens, trials));
}

} // namespace

int main(int argc, char** argv)
{
    command_line line("Experiment 2: sd(QKᵀ) follows √n");
    common_options options{.trials = 100};
    std::size_t tokens = 50;
    std::size_t largest = 100;
    options.add_to(line);
    line.add("--tokens", tokens, "rows of Q and of K", within{2, 1024});
    line.add("--largest", largest, "the largest n; the smallest is 2", within{10, 1024});

    return run(line, argc, argv, options, [&] {
        results found("02_square_root_law", "Experiment 2: the square-root law");
        const auto m = static_cast<double>(tokens);
        std::vector<double> sizes, roots, log_sizes;
        for (std::size_t size = 2; size <= largest; ++size) {
            sizes.push_back(static_cast<double>(size));
            roots.push_back(std::sqrt(sizes.back()));
            log_sizes.push_back(std::log(sizes.back()));
        }

        // by_size[n][draw]; each draw is a curve over n of its own, as if it were the only one.
        std::vector<std::vector<double>> by_size(sizes.size());
        std::vector<double> correlations, exponents;
        for (std::size_t trial = 0; trial < options.trials; ++trial) {
            std::mt19937 engine = generator(options.seed, trial);
            std::vector<double> curve, log_curve;
            for (std::size_t i = 0; i < sizes.size(); ++i) {
                const auto q = gaussian(tokens, i + 2, engine);
                const auto k = gaussian(tokens, i + 2, engine);
                const auto scores = sd::attention_scores(q, k, sd::score_stage::scaled, {.scale = 1.0});
                curve.push_back(sd::summarize(scores).standard_deviation);
                // A logarithm of something that scatters by the relative amount e averages e² too low (to second order,
                // for a root of a mean of squares); more so at small n, which would pass for a larger exponent.
                log_curve.push_back(std::log(curve.back()) + std::pow(error_of_one_draw(m, sizes[i]), 2));
                by_size[i].push_back(curve.back());
            }
            correlations.push_back(fit_line(roots, curve).correlation);
            exponents.push_back(fit_line(log_sizes, log_curve).slope);
        }

        const double draws = std::sqrt(static_cast<double>(options.trials));
        double largest_deviation = 0;
        double at_size = 0;
        double largest_in_errors = 0;
        csv_writer curve({"n", "sqrt_n", "low", "median", "high", "all_draws", "five_standard_errors"});
        for (std::size_t i = 0; i < sizes.size(); ++i) {
            const spread s = spread_of(by_size[i]);
            const double together = pooled(by_size[i]);
            const double deviation = std::abs(together / roots[i] - 1);
            // 1/m² is what dividing the sum of squares by the count, not the count less one, takes off the variance.
            const double error = error_of_one_draw(m, sizes[i]) / draws + 1 / (5 * m * m);
            largest_in_errors = std::max(largest_in_errors, deviation / error);
            if (deviation > largest_deviation) {
                largest_deviation = deviation;
                at_size = sizes[i];
            }
            curve.row(sizes[i], roots[i], s.low, s.median, s.high, together, 5 * error);
        }
        csv_writer fits({"draw", "correlation", "exponent"});
        for (std::size_t trial = 0; trial < options.trials; ++trial) {
            fits.row(trial, correlations[trial], exponents[trial]);
        }

        found.note(format("%zu draws of Q and K, %zu × n, n = 2 … %zu; median and 5 … 95 %% over the draws.",
                          options.trials, tokens, largest));
        // The largest of a hundred errors passes five standard errors once in ten thousand runs.
        found.claim("sd(QKᵀ) = √n at every n, to five standard errors",
                    format("at most %.2f %% off (n = %.0f), %.1f standard errors", 100 * largest_deviation, at_size,
                           largest_in_errors),
                    largest_in_errors <= 5);
        // "Almost perfectly" is taken to mean that √n explains 98 % of a single draw's variation: r ≥ 0.99.
        const spread r = spread_of(correlations);
        found.claim("a single draw follows √n almost perfectly: correlation ≥ 0.99", text(r, "%.4f"), r.median >= 0.99);
        // Judged by the draws' own scatter; half that error would still tell 0.5 from 0.51 for the default sizes.
        const sd::summary a = sd::summarize(xt::adapt(exponents));
        const double error = a.standard_deviation / draws;
        found.claim("the exponent of n is ½, to five standard errors",
                    text(spread_of(exponents), "%.3f") + format(", mean %.4f ± %.4f", a.mean, error),
                    std::abs(a.mean - 0.5) <= 5 * error);

        curve.save(options.output / "02_curve.csv");
        fits.save(options.output / "02_fits.csv");
        draw_figure(options.output, tokens, options.trials);
        found.figure("02_square_root_law",
                     "Left: the measured spread on √n. Right: what is left after dividing by √n.");
        found.conclude(
            format("The spread of the scores is √n for every n tried: no draw needs another exponent or factor "
                   "than chance explains. A single draw follows with correlation %.3f, all of them together "
                   "within %.1f %%. So one factor, 1/√n, serves every head size.",
                   r.median, 100 * largest_deviation));
        return found.finish(options.output);
    });
}
