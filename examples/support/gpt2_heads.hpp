// SPDX-License-Identifier: BSD-3-Clause
// What each of GPT-2's 144 heads sees for five prompts: computed from the model's own q·k, or read back as it was
// recorded.
#ifndef SCALEDOT_EXAMPLES_GPT2_HEADS_HPP
#define SCALEDOT_EXAMPLES_GPT2_HEADS_HPP

#include "gpt2_file.hpp"
#include "program.hpp"

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <iterator>
#include <string>
#include <vector>

namespace examples {

inline const std::filesystem::path recorded_heads = recorded_directory / "gpt2-heads.csv";

/// One softmax: the last query's row of one head. The entropy is divided by ln(number of keys).
struct row_figures {
    double entropy, largest, jacobian;
};

struct head_figures {
    std::size_t prompt, layer, head, keys;
    double logit_spread; ///< standard deviation of the row's q·k
    row_figures before, after;
    double deviation; ///< largest difference, over all queries, of our causal softmax from the model's probabilities
};

/// From the q·k and probabilities of a file (gpt2_file.hpp).
std::vector<head_figures> measure_heads(const std::filesystem::path& path);

void save_heads(const std::vector<head_figures>& heads, const std::filesystem::path& path);

/// What save_heads wrote.
///
/// @throws std::runtime_error  the file is missing or damaged
std::vector<head_figures> read_heads(const std::filesystem::path& path);

/// The heads' figures and where they come from, in words.
struct heads_source {
    std::vector<head_figures> heads;
    std::string note;
};

/// Measured where a file of q·k is given; without one, as they were recorded.
heads_source load_heads(const std::filesystem::path& scores);

/// One figure of every head, for all prompts.
template <class Figure>
std::vector<double> over_heads(const std::vector<head_figures>& heads, Figure&& figure)
{
    std::vector<double> values;
    std::transform(heads.begin(), heads.end(), std::back_inserter(values), figure);
    return values;
}

/// Norm of the Jacobian diag(p) - p pᵀ where all n keys have the share 1/n: the measure of what is left of a gradient.
double uniform_jacobian(std::size_t keys);

} // namespace examples

#endif
