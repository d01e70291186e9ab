// SPDX-License-Identifier: BSD-3-Clause
#include "csv.hpp"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <stdexcept>
#include <system_error>

namespace examples {

namespace {

std::vector<std::string> split(const std::string& line)
{
    std::vector<std::string> cells(1);
    for (const char c : line) {
        if (c == ',') {
            cells.emplace_back();
        } else if (c != '\r') {
            cells.back() += c;
        }
    }
    return cells;
}

} // namespace

csv_writer::csv_writer(std::initializer_list<std::string_view> columns) : columns_(columns.size())
{
    for (const std::string_view name : columns) {
        text_ += text_.empty() ? "" : ",";
        text_ += name;
    }
    text_ += '\n';
}

void csv_writer::append(const std::string& cell)
{
    text_ += cell;
    text_ += ',';
}

void csv_writer::append(const char* cell)
{
    append(std::string(cell));
}

void csv_writer::append(std::size_t cell)
{
    append(std::to_string(cell));
}

void csv_writer::append(double cell)
{
    append(format("%.9g", cell));
}

void csv_writer::end_row(std::size_t cells)
{
    if (cells != columns_) {
        throw std::logic_error(format("a row of %zu cells under %zu columns", cells, columns_));
    }
    text_.back() = '\n';
}

void csv_writer::gap()
{
    text_ += '\n';
}

void csv_writer::save(const std::filesystem::path& path) const
{
    write_file(path, text_);
}

csv_table::csv_table(const std::filesystem::path& path) : path_(path.string())
{
    std::ifstream file(path);
    if (!file) {
        throw std::runtime_error("cannot open " + path_);
    }
    for (std::string line; std::getline(file, line);) {
        lines_.push_back(split(line));
        if (lines_.back().size() != lines_.front().size()) {
            throw std::runtime_error(format("%s, line %zu: %zu cells, the header has %zu", path_.c_str(), lines_.size(),
                                            lines_.back().size(), lines_.front().size()));
        }
    }
    if (lines_.size() < 2) {
        throw std::runtime_error(path_ + " holds no rows");
    }
}

const std::string& csv_table::text(std::size_t row, std::string_view column) const
{
    const auto& names = lines_.front();
    const auto found = std::find(names.begin(), names.end(), column);
    if (found == names.end()) {
        throw std::runtime_error(path_ + " has no column " + std::string(column));
    }
    return lines_.at(row + 1)[static_cast<std::size_t>(found - names.begin())];
}

double csv_table::number(std::size_t row, std::string_view column) const
{
    const std::string& cell = text(row, column);
    double value = 0;
    const auto [end, error] = std::from_chars(cell.data(), cell.data() + cell.size(), value);
    if (error != std::errc() || end != cell.data() + cell.size()) {
        throw std::runtime_error(format("%s, line %zu: '%s' in column %s is not a number", path_.c_str(), row + 2,
                                        cell.c_str(), std::string(column).c_str()));
    }
    return value;
}

std::size_t csv_table::index(std::size_t row, std::string_view column) const
{
    const double value = number(row, column);
    if (!(value >= 0 && value < 1e9)) {
        throw std::runtime_error(
            format("%s, line %zu: column %s holds no index", path_.c_str(), row + 2, std::string(column).c_str()));
    }
    return static_cast<std::size_t>(value);
}

} // namespace examples
