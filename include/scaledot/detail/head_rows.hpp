// SPDX-License-Identifier: BSD-3-Clause
// Figures of rows, [..., heads, queries], taken head by head.
#ifndef SCALEDOT_DETAIL_HEAD_ROWS_HPP
#define SCALEDOT_DETAIL_HEAD_ROWS_HPP

#include <scaledot/detail/config.hpp>

#include <cstddef>
#include <sstream>
#include <string>

namespace scaledot::inline SCALEDOT_BUILD::detail {

/// How figures of shape [..., heads, queries] divide: `heads` counts those of every batch entry, one after another in
/// memory; `distinct_heads` those of one entry.
struct head_rows {
    std::size_t heads = 1;
    std::size_t distinct_heads = 1;
    std::size_t queries = 1;
};

template <class Figure>
head_rows head_rows_of(const Figure& figure)
{
    head_rows result;
    const auto& shape = figure.shape();
    const std::size_t rank = shape.size();
    for (std::size_t i = 0; i + 1 < rank; ++i) {
        result.heads *= static_cast<std::size_t>(shape[i]);
    }
    result.distinct_heads = rank > 1 ? static_cast<std::size_t>(shape[rank - 2]) : 1;
    result.queries = rank > 0 ? static_cast<std::size_t>(shape[rank - 1]) : 1;
    return result;
}

/// A number in a sentence: three digits.
inline std::string short_number(double value)
{
    std::ostringstream stream;
    stream.precision(3);
    stream << value;
    return stream.str();
}

} // namespace scaledot::inline SCALEDOT_BUILD::detail

#endif
