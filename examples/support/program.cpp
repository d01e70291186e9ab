// SPDX-License-Identifier: BSD-3-Clause
#include "program.hpp"

#include <scaledot/statistics.hpp>

#if __has_include(<xtensor/generators/xrandom.hpp>)
#include <xtensor/containers/xadapt.hpp>
#include <xtensor/generators/xrandom.hpp>
#else
#include <xtensor/xadapt.hpp>
#include <xtensor/xrandom.hpp>
#endif

#include <array>
#include <cmath>
#include <cstdio>
#include <exception>
#include <optional>

namespace examples {

void common_options::add_to(command_line& line, bool random)
{
    line.add("--output", output, "directory of the CSV files and figures, made where it is missing");
    if (random) {
        line.add("--seed", seed, "seed of the first draw");
        // 5-95 % of fewer than ten draws would be their smallest and largest.
        line.add("--trials", trials, "random draws, each from a seed of its own", within{10, 100'000});
    }
}

int run(command_line& line, int argc, char** argv, const common_options& options, const std::function<int()>& body)
{
    if (const std::optional<int> code = line.parse(argc, argv)) {
        return *code;
    }
    try {
        std::filesystem::create_directories(options.output);
        return body();
    } catch (const std::exception& error) {
        std::fprintf(stderr, "%s: %s\n", std::filesystem::path(argv[0]).filename().c_str(), error.what());
        return 2;
    }
}

std::mt19937 generator(std::uint32_t seed, std::size_t draw)
{
    std::seed_seq sequence{seed, static_cast<std::uint32_t>(draw)};
    return std::mt19937(sequence);
}

xt::xtensor<double, 2> gaussian(std::size_t rows, std::size_t columns, std::mt19937& engine)
{
    const std::array<std::size_t, 2> shape = {rows, columns};
    return xt::random::randn<double>(shape, 0.0, 1.0, engine);
}

spread spread_of(const std::vector<double>& values)
{
    const std::vector<double> at = scaledot::quantiles(xt::adapt(values), {0.05, 0.5, 0.95});
    return {at[0], at[1], at[2]};
}

std::string text(const spread& s, const char* pattern)
{
    return format(pattern, s.median) + " (" + format(pattern, s.low) + " … " + format(pattern, s.high) + ")";
}

double pooled(const std::vector<double>& deviations)
{
    double sum = 0;
    for (const double deviation : deviations) {
        sum += deviation * deviation;
    }
    return std::sqrt(sum / static_cast<double>(deviations.size()));
}

line_fit fit_line(const std::vector<double>& x, const std::vector<double>& y)
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
