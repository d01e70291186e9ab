// SPDX-License-Identifier: BSD-3-Clause
// What the programs have in common: their options, the way they fail, repeated random draws.
#ifndef SCALEDOT_EXAMPLES_PROGRAM_HPP
#define SCALEDOT_EXAMPLES_PROGRAM_HPP

#include "csv.hpp"

#include <scaledot/statistics.hpp>

#include <CLI/CLI.hpp>

#if __has_include(<xtensor/generators/xrandom.hpp>)
#include <xtensor/containers/xadapt.hpp>
#include <xtensor/containers/xtensor.hpp>
#include <xtensor/generators/xrandom.hpp>
#else
#include <xtensor/xadapt.hpp>
#include <xtensor/xrandom.hpp>
#include <xtensor/xtensor.hpp>
#endif

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <random>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

namespace examples {

/// The directory of the recorded figures.
inline const std::filesystem::path recorded_directory = SCALEDOT_SOURCE_DIR "/examples/data";

struct common_options {
    std::uint32_t seed = 1;
    std::size_t trials = 100;
    std::filesystem::path output = "output";

    void add_to(CLI::App& app, bool random = true)
    {
        app.add_option("--output", output, "directory of the CSV files and figures, made where it is missing")
            ->capture_default_str();
        if (random) {
            app.add_option("--seed", seed, "seed of the first draw")->capture_default_str();
            // 5-95 % of fewer than ten draws would be their smallest and largest.
            app.add_option("--trials", trials, "random draws, each from a seed of its own")
                ->check(CLI::Range(10, 100'000))
                ->capture_default_str();
        }
    }
};

/// Parses the options, makes the output directory and runs `body`, which returns the exit code.
/// Whatever goes wrong ends with one line on stderr: exit code 2, apart from 1 for a claim that does not hold.
template <class Body>
int run(CLI::App& app, int argc, char** argv, const common_options& options, Body&& body)
{
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        return app.exit(error) == 0 ? 0 : 2;
    }
    try {
        std::filesystem::create_directories(options.output);
        return body();
    } catch (const std::exception& error) {
        std::fprintf(stderr, "%s: %s\n", std::filesystem::path(argv[0]).filename().c_str(), error.what());
        return 2;
    }
}

/// The generator of one draw: draws of different number or seed are independent of each other and of the trials asked
/// for.
inline std::mt19937 generator(std::uint32_t seed, std::size_t draw)
{
    std::seed_seq sequence{seed, static_cast<std::uint32_t>(draw)};
    return std::mt19937(sequence);
}

/// rows x columns numbers drawn from N(0, 1).
inline xt::xtensor<double, 2> gaussian(std::size_t rows, std::size_t columns, std::mt19937& engine)
{
    const std::array<std::size_t, 2> shape = {rows, columns};
    return xt::random::randn<double>(shape, 0.0, 1.0, engine);
}

/// Median and 5-95 % range.
struct spread {
    double low, median, high;
};

inline spread spread_of(const std::vector<double>& values)
{
    const std::vector<double> at = scaledot::quantiles(xt::adapt(values), {0.05, 0.5, 0.95});
    return {at[0], at[1], at[2]};
}

/// "7.07 (6.80 ... 7.36)"
inline std::string text(const spread& s, const char* pattern)
{
    return format(pattern, s.median) + " (" + format(pattern, s.low) + " … " + format(pattern, s.high) + ")";
}

/// √ of the mean variance. Over all draws together the variance has no bias but that of dividing by the count, which
/// the caller allows for; a mean of standard deviations would have one.
inline double pooled(const std::vector<double>& deviations)
{
    double sum = 0;
    for (const double deviation : deviations) {
        sum += deviation * deviation;
    }
    return std::sqrt(sum / static_cast<double>(deviations.size()));
}

/// Pearson's correlation and the slope of the least-squares line through the points (x, y).
struct line_fit {
    double correlation, slope;
};

inline line_fit fit_line(const std::vector<double>& x, const std::vector<double>& y)
{
    const scaledot::summary of_x = scaledot::summarize(xt::adapt(x));
    const scaledot::summary of_y = scaledot::summarize(xt::adapt(y));
    double covariance = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
        covariance += (x[i] - of_x.mean) * (y[i] - of_y.mean);
    }
    covariance /= static_cast<double>(x.size());
    return {covariance / (of_x.standard_deviation * of_y.standard_deviation),
            covariance / (of_x.standard_deviation * of_x.standard_deviation)};
}

} // namespace examples

#endif
