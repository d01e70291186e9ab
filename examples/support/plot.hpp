// SPDX-License-Identifier: BSD-3-Clause
// Draws a gnuplot script as SVG and as PNG.
#ifndef SCALEDOT_EXAMPLES_PLOT_HPP
#define SCALEDOT_EXAMPLES_PLOT_HPP

#include "text.hpp"

#include <filesystem>
#include <string>

namespace examples {

std::string gnuplot_quoted(const std::string& text);

struct plot_size {
    int width;
    int height;
};

/// Writes directory/name.gp, .svg and .png. The script finds its data next to it, by bare file names, and may use the
/// colours blue, red, green, orange, sky and grey.
///
/// @throws std::runtime_error  gnuplot is not installed, or did not draw the figure
void draw(const std::filesystem::path& directory, const std::string& name, plot_size size, const std::string& script);

} // namespace examples

#endif
