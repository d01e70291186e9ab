// SPDX-License-Identifier: BSD-3-Clause
// Comma-separated files: written for the plots, read back for the recorded figures. A cell holds no comma and no quote.
#ifndef SCALEDOT_EXAMPLES_CSV_HPP
#define SCALEDOT_EXAMPLES_CSV_HPP

#include "text.hpp"

#include <cstddef>
#include <filesystem>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

namespace examples {

/// Collects rows and writes them in one go; numbers with nine significant digits, which is what a float needs.
class csv_writer {
public:
    explicit csv_writer(std::initializer_list<std::string_view> columns);

    /// @throws std::logic_error  not as many cells as columns
    template <class... Cells>
    void row(const Cells&... cells)
    {
        (append(cells), ...);
        end_row(sizeof...(cells));
    }

    /// An empty line: gnuplot ends a curve there.
    void gap();

    void save(const std::filesystem::path& path) const;

private:
    void append(const std::string& cell);
    void append(const char* cell);
    void append(std::size_t cell);
    void append(double cell);
    void end_row(std::size_t cells);

    std::size_t columns_;
    std::string text_;
};

/// A file written by csv_writer (without gaps). Whatever is wrong with it is a std::runtime_error that names the line.
class csv_table {
public:
    explicit csv_table(const std::filesystem::path& path);

    std::size_t rows() const { return lines_.size() - 1; }

    const std::string& text(std::size_t row, std::string_view column) const;
    double number(std::size_t row, std::string_view column) const;
    std::size_t index(std::size_t row, std::string_view column) const;

private:
    std::string path_;
    std::vector<std::vector<std::string>> lines_;
};

} // namespace examples

#endif
