// SPDX-License-Identifier: BSD-3-Clause
// The pieces of the report: escaping, figures inlined as base64, what is known about this machine and build.
#ifndef SCALEDOT_EXAMPLES_HTML_HPP
#define SCALEDOT_EXAMPLES_HTML_HPP

#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace examples {

std::string escaped(std::string_view text);

/// An SVG as an image of its own: inlined as markup, the figures would share one space of ids.
std::string inlined_figure(const std::filesystem::path& svg, std::string_view caption);

/// Name and value of everything the figures could depend on.
std::vector<std::pair<std::string, std::string>> machine_and_versions();

extern const char* const report_style;

} // namespace examples

#endif
