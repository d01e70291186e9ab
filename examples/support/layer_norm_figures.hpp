// SPDX-License-Identifier: BSD-3-Clause
// The figures of a checkpoint's LayerNorm parameters: computed from the checkpoint, or read back as they were recorded.
#ifndef SCALEDOT_EXAMPLES_LAYER_NORM_FIGURES_HPP
#define SCALEDOT_EXAMPLES_LAYER_NORM_FIGURES_HPP

#include <scaledot/statistics.hpp>

#include <cstddef>
#include <filesystem>
#include <string>
#include <vector>

namespace examples {

/// One set of parameters. `share` is what lies in [0.2, 0.4] for a gamma, in [-0.1, 0.1] for a beta; count 0 where the
/// normalisation has no beta.
struct parameter_figures {
    scaledot::summary all;
    double low = 0, median = 0, high = 0; ///< quantiles at 5, 50 and 95 %
    double share = 0;
    double below_one = 0;
};

struct normalization_figures {
    std::string name;
    parameter_figures gamma, beta;
};

struct bin {
    double low, high;
    std::size_t count;
};

struct checkpoint_figures {
    std::vector<normalization_figures> layers;
    normalization_figures total;
    std::vector<bin> gamma_bins, beta_bins; ///< those with at least one parameter
};

/// At most about 250 bins whose width is 1, 2 or 5 times a power of ten and whose edges are multiples of it.
std::vector<bin> bins_of(const std::vector<float>& values);

/// @throws std::runtime_error  there are no such parameters, or some are NaN or infinite
checkpoint_figures measure(const std::filesystem::path& checkpoint);

void save_layers(const checkpoint_figures& figures, const std::filesystem::path& path);
void save_bins(const checkpoint_figures& figures, const std::filesystem::path& path);

/// What save_layers and save_bins wrote for GPT-2.
///
/// @throws std::runtime_error  a file is missing or damaged: the layers' counts, means and extremes and the bins'
///                             counts have to add up to the totals
checkpoint_figures read_recorded(const std::filesystem::path& layers, const std::filesystem::path& bins);

} // namespace examples

#endif
