// SPDX-License-Identifier: BSD-3-Clause
// One worker's attention: a run of query rows that share a key head against a range of keys, block by block. Scores
// live in a scratch tile; nothing grows with queries x keys.
#ifndef SCALEDOT_DETAIL_ATTENTION_TILE_HPP
#define SCALEDOT_DETAIL_ATTENTION_TILE_HPP

#include <scaledot/detail/aligned_buffer.hpp>
#include <scaledot/detail/attention_problem.hpp>
#include <scaledot/detail/config.hpp>
#include <scaledot/detail/score_tile.hpp>
#include <scaledot/kernel/partial.hpp>
#include <scaledot/kernel/products.hpp>
#include <scaledot/kernel/scores.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <optional>
#include <type_traits>

namespace scaledot::inline SCALEDOT_BUILD::detail {

/// Partial results (kernel/partial.hpp) of several rows.
template <class T>
class partial_rows {
public:
    partial_rows(std::size_t rows, std::size_t size, bool with_statistics)
        : size_(size), output_(checked_product(rows, size, "a partial result")), maxima_(rows), sums_(rows)
    {
        if (with_statistics) {
            statistics_.emplace(rows);
        }
    }

    kernel::partial_row<T> row(std::size_t r) const
    {
        return {output_.data() + r * size_, maxima_.data() + r, sums_.data() + r,
                statistics_ ? statistics_->data() + r : nullptr};
    }

    void clear(std::size_t rows) const
    {
        for (std::size_t r = 0; r < rows; ++r) {
            kernel::clear(row(r), size_);
        }
    }

private:
    std::size_t size_;
    aligned_buffer<T> output_;
    aligned_buffer<T> maxima_;
    aligned_buffer<T> sums_;
    std::optional<aligned_buffer<kernel::score_statistics>> statistics_;
};

/// Attention of one run of rows after another; results are partial until the last chunk of keys.
template <class Arch, class T, class Q, class K, class V>
class attention_worker {
public:
    using tile = kernel::register_tile<Arch, T>;
    static constexpr std::size_t lanes = kernel::lanes<Arch, T>;

    attention_worker(const attention_plan& plan, head_view<const Q> q, head_view<const K> k, head_view<const V> v,
                     bool with_values, bool with_statistics)
        : plan_(plan), scores_(plan, q, k), v_(v), value_size_(with_values ? v.size() : 0),
          value_vectors_(value_size_ / lanes + (value_size_ % lanes != 0 ? 1 : 0)), with_statistics_(with_statistics),
          block_(tile::rows, padded_value_size(), with_statistics),
          values_(must_copy_values() ? checked_product(kernel::block_keys, padded_value_size(), "scratch for values")
                                     : 0)
    {
    }

    std::size_t padded_value_size() const { return value_vectors_ * lanes; }
    std::size_t rows() const { return scores_.rows(); }
    const row_place& place(std::size_t r) const { return scores_.place(r); }

    /// Starts a run, see score_tile::start.
    key_range start(std::size_t entry, std::size_t key_head, std::size_t begin, std::size_t end)
    {
        return scores_.start(entry, key_head, begin, end);
    }

    /// Attention of the run over the keys of one chunk, into `chunk`. `packed` are the head's packed keys, or null:
    /// then each block is packed here.
    void attend_chunk(std::size_t chunk_index, const T* packed, const partial_rows<T>& chunk)
    {
        chunk.clear(rows());
        const std::size_t begin = chunk_index * kernel::chunk_keys;
        const std::size_t end = std::min(begin + kernel::chunk_keys, plan_.valid_keys(scores_.entry()));
        for (std::size_t first = begin; first < end; first += kernel::block_keys) {
            attend_block(first, std::min(first + kernel::block_keys, end), packed, chunk);
        }
    }

private:
    bool must_copy_values() const { return !std::is_same_v<V, T> || value_size_ % lanes != 0; }

    /// Values of a block as rows of T, whole vectors wide, in place where the memory is that already.
    struct value_rows {
        const T* data = nullptr;
        std::ptrdiff_t stride = 0;
        bool finite = true;
    };

    value_rows prepare_values(std::size_t first, std::size_t last)
    {
        value_rows rows;
        if (value_size_ == 0) {
            return rows;
        }
        const V* source = v_.row(scores_.entry(), scores_.key_head(), first);
        if constexpr (std::is_same_v<V, T>) {
            if (!must_copy_values()) {
                rows.data = source;
                rows.stride = v_.row_stride();
            }
        }
        if (rows.data == nullptr) {
            rows.data = values_.data();
            rows.stride = static_cast<std::ptrdiff_t>(padded_value_size());
            for (std::size_t j = 0; j < last - first; ++j, source += v_.row_stride()) {
                T* row = values_.data() + j * padded_value_size();
                for (std::size_t c = 0; c < value_size_; ++c) {
                    row[c] = kernel::to_arithmetic<T>(source[c]);
                }
                std::fill(row + value_size_, row + padded_value_size(), T(0));
            }
        }
        for (std::size_t j = 0; j < last - first && rows.finite; ++j) {
            rows.finite =
                kernel::all_finite<Arch>(rows.data + static_cast<std::ptrdiff_t>(j) * rows.stride, value_size_);
        }
        return rows;
    }

    void attend_block(std::size_t first, std::size_t last, const T* packed, const partial_rows<T>& chunk)
    {
        const T* keys = packed ? packed + first * plan_.head_size : nullptr;
        std::optional<value_rows> values;
        for (std::size_t row = 0; row < rows(); row += tile::rows) {
            const std::size_t count = std::min(tile::rows, rows() - row);
            const key_range seen = scores_.visible_in_block(row, count, first, last);
            if (seen.first >= seen.last) {
                continue;
            }
            if (!keys) {
                keys = scores_.pack_block(first, last);
            }
            if (!values) {
                values = prepare_values(first, last);
            }
            scores_.compute(row, count, first, seen, keys, score_stage::masked);
            attend_tile(count, seen, std::min(seen.last, last - first) - seen.first, *values);
            for (std::size_t r = 0; r < count; ++r) {
                kernel::merge<Arch>(chunk.row(row + r), block_.row(r), padded_value_size());
            }
        }
    }

    /// Turns the scores of a tile into weights, and those and the values into the block's partial results. `present` of
    /// the keys in `seen` exist; the others are lanes of the last vector.
    void attend_tile(std::size_t count, const key_range& seen, std::size_t present, const value_rows& values)
    {
        std::array<std::array<bool, kernel::block_keys>, tile::rows> excluded;
        const std::size_t width = seen.last - seen.first;
        for (std::size_t r = 0; r < count; ++r) {
            T* scores = scores_.scores(r) + seen.first;
            const auto part = block_.row(r);
            if (with_statistics_) {
                *part.statistics = kernel::statistics_of_block<Arch>(scores, width);
            }
            if (!values.finite) {
                std::transform(scores, scores + width, excluded[r].begin(),
                               [](T score) { return kernel::is_negative_infinity_bits(score); });
            }
            const auto weighted = kernel::weigh_row<Arch>(scores, width);
            *part.maximum = weighted.maximum;
            *part.sum = weighted.sum;
        }
        const T* first_value = values.data + static_cast<std::ptrdiff_t>(seen.first) * values.stride;
        const auto weights = [&](std::size_t r) { return scores_.scores(r) + seen.first; };
        if (value_size_ == 0) {
            return;
        }
        if (values.finite && count == tile::rows) {
            kernel::value_rows<Arch, tile::rows>(weights(0), kernel::block_keys, first_value, values.stride, present,
                                                 value_vectors_, block_.row(0).output, padded_value_size());
            return;
        }
        for (std::size_t r = 0; r < count; ++r) {
            T* output = block_.row(r).output;
            if (values.finite) {
                kernel::value_rows<Arch, 1>(weights(r), kernel::block_keys, first_value, values.stride, present,
                                            value_vectors_, output, padded_value_size());
            } else {
                kernel::value_row_selected<Arch>(weights(r), excluded[r].data(), first_value, values.stride, present,
                                                 value_vectors_, output);
            }
        }
    }

    const attention_plan& plan_;
    score_tile<Arch, T, Q, K> scores_;
    head_view<const V> v_;
    std::size_t value_size_;
    std::size_t value_vectors_;
    bool with_statistics_;
    partial_rows<T> block_;
    aligned_buffer<T> values_;
};

} // namespace scaledot::inline SCALEDOT_BUILD::detail

#endif
