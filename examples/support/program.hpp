// SPDX-License-Identifier: BSD-3-Clause
// What the programs have in common: their options, the way they fail, repeated random draws.
#ifndef SCALEDOT_EXAMPLES_PROGRAM_HPP
#define SCALEDOT_EXAMPLES_PROGRAM_HPP

#include "command_line.hpp"
#include "text.hpp"

#include <scaledot/detail/xtensor.hpp>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <random>
#include <string>
#include <vector>

namespace examples {

/// The directory of the recorded figures.
inline const std::filesystem::path recorded_directory = SCALEDOT_SOURCE_DIR "/examples/data";

struct common_options {
    std::uint32_t seed = 1;
    std::size_t trials = 100;
    std::filesystem::path output = "output";

    void add_to(command_line& line, bool random = true);
};

/// Parses the options, makes the output directory and runs `body`, which returns the exit code.
/// Whatever goes wrong ends with one line on stderr: exit code 2, apart from 1 for a claim that does not hold.
int run(command_line& line, int argc, char** argv, const common_options& options, const std::function<int()>& body);

/// The generator of one draw: draws of different number or seed are independent of each other and of the trials asked
/// for.
std::mt19937 generator(std::uint32_t seed, std::size_t draw);

/// rows x columns numbers drawn from N(0, 1).
xt::xtensor<double, 2> gaussian(std::size_t rows, std::size_t columns, std::mt19937& engine);

/// Median and 5-95 % range.
struct spread {
    double low, median, high;
};

spread spread_of(const std::vector<double>& values);

/// "7.07 (6.80 ... 7.36)"
std::string text(const spread& s, const char* pattern);

/// √ of the mean variance. Over all draws together the variance has no bias but that of dividing by the count, which
/// the caller allows for; a mean of standard deviations would have one.
double pooled(const std::vector<double>& deviations);

/// Pearson's correlation and the slope of the least-squares line through the points (x, y).
struct line_fit {
    double correlation, slope;
};

line_fit fit_line(const std::vector<double>& x, const std::vector<double>& y);

} // namespace examples

#endif
