// SPDX-License-Identifier: BSD-3-Clause
// The partial results of a run of rows, side by side in scratch memory.
#ifndef SCALEDOT_DETAIL_PARTIAL_ROWS_HPP
#define SCALEDOT_DETAIL_PARTIAL_ROWS_HPP

#include <scaledot/detail/config.hpp>
#include <scaledot/detail/scratch.hpp>
#include <scaledot/kernel/diagnostics.hpp>
#include <scaledot/kernel/partial.hpp>

#include <algorithm>
#include <cstddef>

namespace scaledot::inline SCALEDOT_BUILD::detail {

/// Partial results (kernel/partial.hpp) of several rows.
template <class T>
class partial_rows {
public:
    /// Maxima and sums of rows are handled in whole vectors.
    static constexpr std::size_t longest_vector = 64 / sizeof(T);

    partial_rows(std::size_t rows, std::size_t size, bool with_statistics, scratch& memory)
        : size_(size), output_(memory.take<T>(rows, size)), maxima_(memory.take<T>(rows + longest_vector, 1)),
          sums_(memory.take<T>(rows + longest_vector, 1)),
          statistics_(with_statistics ? memory.take<kernel::score_statistics>(rows, 1) : nullptr)
    {
    }

    kernel::partial_row<T> row(std::size_t r) const
    {
        return {output_ + r * size_, maxima_ + r, sums_ + r, statistics_ ? statistics_ + r : nullptr};
    }

    /// That of row r; outputs follow each other, as maxima and sums do.
    T* output(std::size_t r) const { return output_ + r * size_; }
    T* maxima() const { return maxima_; }
    T* sums() const { return sums_; }

    /// The first `rows` as if they had seen no key.
    void clear(std::size_t rows) const
    {
        clear_output(0, rows);
        clear_sums(rows);
    }

    void clear_output(std::size_t first, std::size_t rows) const
    {
        std::fill_n(output_ + first * size_, rows * size_, T(0));
    }

    /// All but the outputs.
    void clear_sums(std::size_t rows) const
    {
        std::fill_n(maxima_, rows, kernel::negative_infinity<T>);
        std::fill_n(sums_, rows, T(0));
        if (statistics_) {
            std::fill_n(statistics_, rows, kernel::score_statistics{});
        }
    }

private:
    std::size_t size_;
    T* output_;
    T* maxima_;
    T* sums_;
    kernel::score_statistics* statistics_;
};

} // namespace scaledot::inline SCALEDOT_BUILD::detail

#endif
