// SPDX-License-Identifier: BSD-3-Clause
// Runs another program without a shell, so that no file name needs quoting.
#ifndef SCALEDOT_EXAMPLES_PROCESS_HPP
#define SCALEDOT_EXAMPLES_PROCESS_HPP

#include <string>
#include <vector>

namespace examples {

/// @return  the program's exit code, or 128 plus the signal that ended it
/// @throws std::system_error  the program cannot be started; the code says why (no_such_file_or_directory: not
/// installed)
int run_program(const std::vector<std::string>& words);

} // namespace examples

#endif
