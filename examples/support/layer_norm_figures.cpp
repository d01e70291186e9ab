// SPDX-License-Identifier: BSD-3-Clause
#include "layer_norm_figures.hpp"

#include "csv.hpp"

#include <scaledot/checkpoint.hpp>
#include <scaledot/detail/xtensor.hpp>
#include <scaledot/statistics.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <utility>

namespace examples {

namespace {

parameter_figures figures_of(const std::vector<float>& values, double low, double high)
{
    const auto x = xt::adapt(values);
    parameter_figures found{.all = scaledot::summarize(x)};
    if (found.all.count == 0) {
        return found;
    }
    if (!std::isfinite(found.all.minimum) || !std::isfinite(found.all.maximum)) {
        throw std::runtime_error("the checkpoint's normalisation parameters hold NaN or infinity");
    }
    const std::vector<double> at = scaledot::quantiles(x, {0.05, 0.5, 0.95});
    found.low = at[0];
    found.median = at[1];
    found.high = at[2];
    found.share = scaledot::fraction_within(x, low, high);
    found.below_one = scaledot::fraction_within(x, -std::numeric_limits<double>::infinity(), std::nextafter(1.0, 0.0));
    return found;
}

} // namespace

std::vector<bin> bins_of(const std::vector<float>& values)
{
    std::vector<bin> bins;
    if (values.empty()) {
        return bins;
    }
    const auto x = xt::adapt(values);
    const scaledot::summary all = scaledot::summarize(x);
    const double aim = std::max((all.maximum - all.minimum) / 250, 1e-6 * std::max(1.0, std::abs(all.maximum)));
    const double power = std::pow(10.0, std::floor(std::log10(aim)));
    const double width = power * (aim <= 2 * power ? 2 : aim <= 5 * power ? 5 : 10);
    const double low = std::floor(all.minimum / width) * width;
    const auto number = static_cast<std::size_t>(std::floor((all.maximum - low) / width)) + 1;
    const auto counted = scaledot::histogram(x, number, low, low + width * static_cast<double>(number));
    for (std::size_t i = 0; i < number; ++i) {
        if (counted.counts(i) > 0) {
            bins.push_back({counted.edges(i), counted.edges(i + 1), counted.counts(i)});
        }
    }
    return bins;
}

checkpoint_figures measure(const std::filesystem::path& checkpoint)
{
    checkpoint_figures figures;
    std::vector<float> gammas, betas;
    for (const auto& norm : scaledot::layer_norm_parameters(checkpoint)) {
        const std::vector<float> gamma(norm.gamma.begin(), norm.gamma.end());
        const std::vector<float> beta(norm.beta.begin(), norm.beta.end());
        figures.layers.push_back({norm.name, figures_of(gamma, 0.2, 0.4), figures_of(beta, -0.1, 0.1)});
        gammas.insert(gammas.end(), gamma.begin(), gamma.end());
        betas.insert(betas.end(), beta.begin(), beta.end());
    }
    if (gammas.empty()) {
        throw std::runtime_error("no LayerNorm or RMSNorm parameters in " + checkpoint.string());
    }
    figures.total = {"total", figures_of(gammas, 0.2, 0.4), figures_of(betas, -0.1, 0.1)};
    figures.gamma_bins = bins_of(gammas);
    figures.beta_bins = bins_of(betas);
    return figures;
}

void save_layers(const checkpoint_figures& figures, const std::filesystem::path& path)
{
    csv_writer table({"name", "parameter", "count", "mean", "sd", "minimum", "low", "median", "high", "maximum",
                      "share", "below_one"});
    const auto row = [&](const normalization_figures& norm) {
        // A tensor may be called anything; a cell may not.
        std::string name = norm.name;
        std::replace_if(
            name.begin(), name.end(), [](char c) { return c == ',' || c == '"' || c == '\n'; }, '_');
        for (const auto& [parameter, p] : {std::pair("gamma", norm.gamma), std::pair("beta", norm.beta)}) {
            table.row(name, parameter, p.all.count, p.all.mean, p.all.standard_deviation, p.all.minimum, p.low,
                      p.median, p.high, p.all.maximum, p.share, p.below_one);
        }
    };
    std::for_each(figures.layers.begin(), figures.layers.end(), row);
    row(figures.total);
    table.save(path);
}

void save_bins(const checkpoint_figures& figures, const std::filesystem::path& path)
{
    csv_writer table({"parameter", "low_edge", "high_edge", "count"});
    for (const auto& [parameter, bins] :
         {std::pair("gamma", &figures.gamma_bins), std::pair("beta", &figures.beta_bins)}) {
        for (const bin& b : *bins) {
            table.row(parameter, b.low, b.high, b.count);
        }
    }
    table.save(path);
}

checkpoint_figures read_recorded(const std::filesystem::path& layers, const std::filesystem::path& bins)
{
    checkpoint_figures figures;
    const csv_table table(layers);
    for (std::size_t i = 0; i + 1 < table.rows(); i += 2) {
        const auto read = [&](std::size_t row) {
            const auto number = [&](const char* column) { return table.number(row, column); };
            return parameter_figures{
                {table.index(row, "count"), number("mean"), number("sd"), number("minimum"), number("maximum")},
                number("low"),
                number("median"),
                number("high"),
                number("share"),
                number("below_one")};
        };
        figures.layers.push_back({table.text(i, "name"), read(i), read(i + 1)});
    }
    figures.total = figures.layers.back();
    figures.layers.pop_back();

    std::size_t in_bins = 0;
    const csv_table counts(bins);
    for (std::size_t i = 0; i < counts.rows(); ++i) {
        auto& list = counts.text(i, "parameter") == "gamma" ? figures.gamma_bins : figures.beta_bins;
        list.push_back({counts.number(i, "low_edge"), counts.number(i, "high_edge"), counts.index(i, "count")});
        in_bins += list.back().count;
    }

    for (const auto part : {&normalization_figures::gamma, &normalization_figures::beta}) {
        const parameter_figures& total = figures.total.*part;
        double count = 0, sum = 0, inside = 0, minimum = total.all.maximum, maximum = total.all.minimum;
        for (const normalization_figures& layer : figures.layers) {
            const parameter_figures& p = layer.*part;
            const auto weight = static_cast<double>(p.all.count);
            count += weight;
            sum += weight * p.all.mean;
            inside += weight * p.share;
            minimum = std::min(minimum, p.all.minimum);
            maximum = std::max(maximum, p.all.maximum);
        }
        // Nine digits were recorded.
        const auto agrees = [](double a, double b) { return std::abs(a - b) <= 1e-7 * std::max(1.0, std::abs(b)); };
        if (count != static_cast<double>(total.all.count) || !agrees(sum / count, total.all.mean) ||
            !agrees(inside / count, total.share) || minimum != total.all.minimum || maximum != total.all.maximum) {
            throw std::runtime_error(layers.string() + " is damaged: its layers do not add up to its totals");
        }
    }
    if (in_bins != figures.total.gamma.all.count + figures.total.beta.all.count) {
        throw std::runtime_error(bins.string() + " is damaged: its counts do not add up to the number of parameters");
    }
    return figures;
}

} // namespace examples
