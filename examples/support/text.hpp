// SPDX-License-Identifier: BSD-3-Clause
// Text: printf into a string, files written and read whole.
#ifndef SCALEDOT_EXAMPLES_TEXT_HPP
#define SCALEDOT_EXAMPLES_TEXT_HPP

#include <filesystem>
#include <string>
#include <string_view>

namespace examples {

/// printf into a string: the tables and scripts are prose with figures in it. Not declared as a format to the compiler,
/// for which operands by number (%1$zu) are an extension.
std::string format(const char* pattern, ...);

/// @throws std::runtime_error  the file cannot be written
void write_file(const std::filesystem::path& path, std::string_view contents);

/// @throws std::runtime_error  the file cannot be opened
std::string read_file(const std::filesystem::path& path);

} // namespace examples

#endif
