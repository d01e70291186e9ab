// SPDX-License-Identifier: BSD-3-Clause
// Runs another program without a shell, so that no file name needs quoting.
#ifndef SCALEDOT_EXAMPLES_PROCESS_HPP
#define SCALEDOT_EXAMPLES_PROCESS_HPP

#include <cerrno>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

namespace examples {

/// @return  the program's exit code, or 128 plus the signal that ended it
/// @throws std::system_error  the program cannot be started; the code says why (no_such_file_or_directory: not
/// installed)
inline int run_program(const std::vector<std::string>& words)
{
    std::vector<char*> arguments;
    for (const std::string& word : words) {
        arguments.push_back(const_cast<char*>(word.c_str())); // posix_spawn's signature; it does not write there
    }
    arguments.push_back(nullptr);
    pid_t child = 0;
    const int error = posix_spawnp(&child, arguments[0], nullptr, nullptr, arguments.data(), environ);
    if (error != 0) {
        throw std::system_error(error, std::generic_category(), "cannot start " + words.at(0));
    }
    int status = 0;
    while (waitpid(child, &status, 0) < 0) {
        if (errno != EINTR) {
            throw std::system_error(errno, std::generic_category(), "cannot wait for " + words.at(0));
        }
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

} // namespace examples

#endif
