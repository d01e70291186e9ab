// SPDX-License-Identifier: BSD-3-Clause
// A program's options, each bound to a variable. CLI11 does the work, in command_line.cpp: it takes longer to compile
// than the programs themselves.
#ifndef SCALEDOT_EXAMPLES_COMMAND_LINE_HPP
#define SCALEDOT_EXAMPLES_COMMAND_LINE_HPP

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

namespace examples {

/// The values that an option takes, ends included.
struct within {
    int low, high;
};

/// The option without which another one makes no sense.
struct needs {
    std::string option;
};

/// The variables have to outlive parse(), which assigns those whose options are given. What a variable holds when it is
/// added is shown by --help as the option's default; an empty path and an empty std::optional have none to show.
class command_line {
public:
    explicit command_line(const std::string& description);
    command_line(const command_line&) = delete;
    command_line& operator=(const command_line&) = delete;
    ~command_line();

    void add(const std::string& name, std::uint32_t& value, const std::string& help);
    void add(const std::string& name, std::size_t& value, const std::string& help, within allowed);
    void add(const std::string& name, std::optional<std::uint32_t>& value, const std::string& help);
    void add(const std::string& name, std::optional<std::size_t>& value, const std::string& help, within allowed);
    void add(const std::string& name, double& value, const std::string& help);
    void add(const std::string& name, std::filesystem::path& value, const std::string& help);

    /// A flag: without a value, false unless given.
    void add(const std::string& name, bool& given, const std::string& help, const needs& other);

    /// Not an option but a word of its own, which has to be there.
    void add_required(const std::string& name, std::filesystem::path& value, const std::string& help);

    /// @return  the exit code where the program ends here: 0 after --help, 2 after a message about a wrong option
    std::optional<int> parse(int argc, char** argv);

private:
    struct parser;
    std::unique_ptr<parser> parser_;
};

} // namespace examples

#endif
