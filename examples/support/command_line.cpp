// SPDX-License-Identifier: BSD-3-Clause
#include "command_line.hpp"

#include <CLI/CLI.hpp>

namespace examples {

struct command_line::parser : CLI::App {
    using CLI::App::App;
};

command_line::command_line(const std::string& description) : parser_(std::make_unique<parser>(description)) {}

command_line::~command_line() = default;

void command_line::add(const std::string& name, std::uint32_t& value, const std::string& help)
{
    parser_->add_option(name, value, help)->capture_default_str();
}

void command_line::add(const std::string& name, std::size_t& value, const std::string& help, within allowed)
{
    parser_->add_option(name, value, help)->check(CLI::Range(allowed.low, allowed.high))->capture_default_str();
}

void command_line::add(const std::string& name, std::optional<std::uint32_t>& value, const std::string& help)
{
    parser_->add_option(name, value, help);
}

void command_line::add(const std::string& name, std::optional<std::size_t>& value, const std::string& help,
                       within allowed)
{
    parser_->add_option(name, value, help)->check(CLI::Range(allowed.low, allowed.high));
}

void command_line::add(const std::string& name, double& value, const std::string& help)
{
    parser_->add_option(name, value, help)->capture_default_str();
}

void command_line::add(const std::string& name, std::filesystem::path& value, const std::string& help)
{
    CLI::Option* option = parser_->add_option(name, value, help);
    if (!value.empty()) {
        option->capture_default_str();
    }
}

void command_line::add(const std::string& name, bool& given, const std::string& help, const needs& other)
{
    parser_->add_flag(name, given, help)->needs(parser_->get_option(other.option));
}

void command_line::add_required(const std::string& name, std::filesystem::path& value, const std::string& help)
{
    parser_->add_option(name, value, help)->required();
}

std::optional<int> command_line::parse(int argc, char** argv)
{
    try {
        parser_->parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        return parser_->exit(error) == 0 ? 0 : 2;
    }
    return std::nullopt;
}

} // namespace examples
