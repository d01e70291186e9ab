// SPDX-License-Identifier: BSD-3-Clause
// Comma-separated files: written for the plots, read back for the recorded figures. A cell holds no comma and no quote.
#ifndef SCALEDOT_EXAMPLES_CSV_HPP
#define SCALEDOT_EXAMPLES_CSV_HPP

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace examples {

/// printf into a string: the tables and scripts are prose with figures in it.
template <class... Values>
std::string format(const char* pattern, Values... values)
{
    // The pattern is a literal at every call; the compiler cannot see that through the template.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-security"
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    const int length = std::snprintf(nullptr, 0, pattern, values...);
    std::string text(static_cast<std::size_t>(length), '\0');
    std::snprintf(text.data(), text.size() + 1, pattern, values...);
#pragma GCC diagnostic pop
    return text;
}

inline void write_file(const std::filesystem::path& path, std::string_view contents)
{
    std::ofstream file(path, std::ios::binary);
    file.write(contents.data(), static_cast<std::streamsize>(contents.size()));
    file.close();
    if (!file) {
        throw std::runtime_error("cannot write " + path.string());
    }
}

/// Collects rows and writes them in one go; numbers with nine significant digits, which is what a float needs.
class csv_writer {
public:
    explicit csv_writer(std::initializer_list<std::string_view> columns) : columns_(columns.size())
    {
        for (const std::string_view name : columns) {
            text_ += text_.empty() ? "" : ",";
            text_ += name;
        }
        text_ += '\n';
    }

    template <class... Cells>
    void row(const Cells&... cells)
    {
        if (sizeof...(cells) != columns_) {
            throw std::logic_error(format("a row of %zu cells under %zu columns", sizeof...(cells), columns_));
        }
        ((append(cells), text_ += ','), ...);
        text_.back() = '\n';
    }

    /// An empty line: gnuplot ends a curve there.
    void gap() { text_ += '\n'; }

    void save(const std::filesystem::path& path) const { write_file(path, text_); }

private:
    void append(const std::string& cell) { text_ += cell; }
    void append(const char* cell) { text_ += cell; }
    void append(std::size_t cell) { text_ += std::to_string(cell); }
    void append(double cell) { text_ += format("%.9g", cell); }

    std::size_t columns_;
    std::string text_;
};

/// A file written by csv_writer (without gaps).
class csv_table {
public:
    explicit csv_table(const std::filesystem::path& path) : path_(path.string())
    {
        std::ifstream file(path);
        if (!file) {
            throw std::runtime_error("cannot open " + path_);
        }
        for (std::string line; std::getline(file, line);) {
            lines_.push_back(split(line));
            if (lines_.back().size() != lines_.front().size()) {
                throw std::runtime_error(format("%s, line %zu: %zu cells, the header has %zu", path_.c_str(),
                                                lines_.size(), lines_.back().size(), lines_.front().size()));
            }
        }
        if (lines_.size() < 2) {
            throw std::runtime_error(path_ + " holds no rows");
        }
    }

    std::size_t rows() const { return lines_.size() - 1; }

    const std::string& text(std::size_t row, std::string_view column) const
    {
        const auto& names = lines_.front();
        const auto found = std::find(names.begin(), names.end(), column);
        if (found == names.end()) {
            throw std::runtime_error(path_ + " has no column " + std::string(column));
        }
        return lines_.at(row + 1)[static_cast<std::size_t>(found - names.begin())];
    }

    double number(std::size_t row, std::string_view column) const
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

    std::size_t index(std::size_t row, std::string_view column) const
    {
        const double value = number(row, column);
        if (!(value >= 0 && value < 1e9)) {
            throw std::runtime_error(
                format("%s, line %zu: column %s holds no index", path_.c_str(), row + 2, std::string(column).c_str()));
        }
        return static_cast<std::size_t>(value);
    }

private:
    static std::vector<std::string> split(const std::string& line)
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

    std::string path_;
    std::vector<std::vector<std::string>> lines_;
};

} // namespace examples

#endif
