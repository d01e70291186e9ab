// SPDX-License-Identifier: BSD-3-Clause
// How sharp GPT-2's softmaxes are at other temperatures than their own: its heads' (softmax(q·k / T), trained at T =
// √64 = 8) and its next-token logits' (T = 1). Computed from the model's numbers, or read back as they were recorded.
#ifndef SCALEDOT_EXAMPLES_GPT2_TEMPERATURE_HPP
#define SCALEDOT_EXAMPLES_GPT2_TEMPERATURE_HPP

#include "gpt2_heads.hpp"

#include <scaledot/statistics.hpp>

#include <cstddef>
#include <filesystem>
#include <string>
#include <vector>

namespace examples {

inline const std::filesystem::path recorded_temperatures = recorded_directory / "gpt2-temperature.csv";

/// One softmax, or the mean over 144, at one temperature. The entropy is divided by ln(number of logits).
struct sharpness {
    /// "heads", "next_token"; "model": the heads' entropy from the probabilities the model recorded; "recommended": the
    /// heads at the temperature that recommended_temperature finds for their q·k
    std::string what;
    std::size_t prompt;
    double temperature, entropy, largest;
    double logit_spread; ///< standard deviation of the logits at T = 1
};

inline double mean_of(const auto& figures)
{
    return scaledot::summarize(figures).mean;
}

/// From the q·k, probabilities and next-token logits of a file (gpt2_file.hpp).
std::vector<sharpness> measure_temperatures(const std::filesystem::path& path);

void save_temperatures(const std::vector<sharpness>& rows, const std::filesystem::path& path);

/// What save_temperatures wrote.
///
/// @throws std::runtime_error  the file is missing or damaged
std::vector<sharpness> read_temperatures(const std::filesystem::path& path);

} // namespace examples

#endif
