// SPDX-License-Identifier: BSD-3-Clause
// One worker's attention: a run of query rows that share a key head against a range of keys, block by block. Scores live
// in a scratch tile; nothing grows with queries x keys.
#ifndef SCALEDOT_DETAIL_ATTENTION_TILE_HPP
#define SCALEDOT_DETAIL_ATTENTION_TILE_HPP

#include <scaledot/detail/aligned_buffer.hpp>
#include <scaledot/detail/attention_problem.hpp>
#include <scaledot/detail/config.hpp>
#include <scaledot/kernel/partial.hpp>
#include <scaledot/kernel/products.hpp>
#include <scaledot/kernel/scores.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <optional>
#include <type_traits>

namespace scaledot::inline SCALEDOT_BUILD::detail {

/// Rows a worker takes at once: what it prepares of a block of keys and values serves all of them.
template <class Arch, class T>
inline constexpr std::size_t run_rows = 16 * kernel::register_tile<Arch, T>::rows;

/// The rows of one key head's queries, all query heads of its group one after another.
struct row_place {
    std::size_t head;
    std::size_t query;
};

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

template <class Arch, class T, class Q, class K, class V>
class attention_worker {
public:
    using tile = kernel::register_tile<Arch, T>;
    static constexpr std::size_t lanes = kernel::lanes<Arch, T>;

    attention_worker(const attention_plan& plan, head_view<const Q> q, head_view<const K> k, head_view<const V> v,
                     bool with_values, bool with_statistics)
        : plan_(plan), q_(q), k_(k), v_(v), value_size_(with_values ? v.size() : 0),
          value_vectors_((value_size_ + lanes - 1) / lanes), with_statistics_(with_statistics),
          queries_(checked_product(run_rows<Arch, T>, plan.head_size, "scratch for queries")),
          scores_(tile::rows * kernel::block_keys), block_(tile::rows, padded_value_size(), with_statistics),
          keys_(checked_product(kernel::block_keys, plan.head_size, "scratch for keys")),
          values_(must_copy_values() ? checked_product(kernel::block_keys, padded_value_size(), "scratch for values") : 0)
    {
    }

    std::size_t padded_value_size() const { return value_vectors_ * lanes; }

    /// Starts a run of rows [begin, end) of a key head's queries; returns the keys any of them may see.
    key_range start(std::size_t entry, std::size_t key_head, std::size_t begin, std::size_t end)
    {
        entry_ = entry;
        key_head_ = key_head;
        rows_ = end - begin;
        key_range seen{plan_.keys, 0};
        for (std::size_t r = 0; r < rows_; ++r) {
            const std::size_t flat = begin + r;
            places_[r] = {key_head * plan_.group() + flat / plan_.queries, flat % plan_.queries};
            visible_[r] = plan_.visible(entry, places_[r].query);
            if (visible_[r].first < visible_[r].last) {
                seen.first = std::min(seen.first, visible_[r].first);
                seen.last = std::max(seen.last, visible_[r].last);
            }
            const Q* query = q_.row(entry, places_[r].head, places_[r].query);
            for (std::size_t c = 0; c < plan_.head_size; ++c) {
                queries_.data()[r * plan_.head_size + c] = kernel::to_arithmetic<T>(query[c]);
            }
        }
        return seen;
    }

    std::size_t rows() const { return rows_; }
    const row_place& place(std::size_t r) const { return places_[r]; }

    /// Attention of the run over the keys of one chunk, into `chunk`. `packed` are the head's packed keys, or null: then
    /// each block is packed here.
    void attend_chunk(std::size_t chunk_index, const T* packed, const partial_rows<T>& chunk)
    {
        chunk.clear(rows_);
        const std::size_t chunk_begin = chunk_index * kernel::chunk_keys;
        const std::size_t chunk_end = std::min(chunk_begin + kernel::chunk_keys, plan_.valid_keys(entry_));
        for (std::size_t first = chunk_begin; first < chunk_end; first += kernel::block_keys) {
            attend_block(first, std::min(first + kernel::block_keys, chunk_end), packed, chunk);
        }
    }

    /// The scores of `count` rows of the run (at most a register tile) with one block of keys, excluded ones -inf up to
    /// the end of the block; `stage` says how far to go.
    T* scores_of_tile(std::size_t first_row, std::size_t count, std::size_t first_key, const T* packed, score_stage stage)
    {
        const key_range all{0, std::min(kernel::block_keys, plan_.keys - first_key)};
        compute_scores(first_row, count, all, packed);
        for (std::size_t r = 0; r < count; ++r) {
            transform_row(first_row + r, scores_.data() + r * kernel::block_keys, first_key, all, stage);
        }
        return scores_.data();
    }

    /// Packs the keys [first, last) of the current head, a block.
    void pack_block(std::size_t first, std::size_t last, T* packed) const
    {
        kernel::pack_keys<Arch>(k_.row(entry_, key_head_, first), k_.row_stride(), last - first, plan_.head_size, packed);
    }

    /// Packs into the worker's own scratch.
    const T* pack_block(std::size_t first, std::size_t last) const
    {
        pack_block(first, last, keys_.data());
        return keys_.data();
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
        const V* source = v_.row(entry_, key_head_, first);
        if constexpr (std::is_same_v<V, T>) {
            if (!must_copy_values()) {
                rows.data = source;
                rows.stride = v_.row_stride();
            }
        }
        if (rows.data == nullptr) {
            rows.data = values_.data();
            rows.stride = static_cast<std::ptrdiff_t>(padded_value_size());
            for (std::size_t j = first; j < last; ++j, source += v_.row_stride()) {
                T* row = values_.data() + (j - first) * padded_value_size();
                for (std::size_t c = 0; c < value_size_; ++c) {
                    row[c] = kernel::to_arithmetic<T>(source[c]);
                }
                std::fill(row + value_size_, row + padded_value_size(), T(0));
            }
        }
        for (std::size_t j = 0; j < last - first && rows.finite; ++j) {
            rows.finite = kernel::all_finite<Arch>(rows.data + static_cast<std::ptrdiff_t>(j) * rows.stride, value_size_);
        }
        return rows;
    }

    void attend_block(std::size_t first, std::size_t last, const T* packed, const partial_rows<T>& chunk)
    {
        const T* keys = packed ? packed + first * plan_.head_size : nullptr;
        std::optional<value_rows> values;
        for (std::size_t row = 0; row < rows_; row += tile::rows) {
            const std::size_t count = std::min(tile::rows, rows_ - row);
            const key_range seen = visible_in_block(row, count, first, last);
            if (seen.first >= seen.last) {
                continue;
            }
            if (!keys) {
                keys = pack_block(first, last);
            }
            if (!values) {
                values = prepare_values(first, last);
            }
            attend_tile(row, count, first, seen, keys, *values, chunk);
        }
    }

    /// What the rows of a tile see of a block, relative to its first key, widened to whole vectors.
    key_range visible_in_block(std::size_t row, std::size_t count, std::size_t first, std::size_t last) const
    {
        key_range seen{kernel::block_keys, 0};
        for (std::size_t r = row; r < row + count; ++r) {
            const std::size_t from = std::max(visible_[r].first, first);
            const std::size_t to = std::min(visible_[r].last, last);
            if (from < to) {
                seen.first = std::min(seen.first, (from - first) / lanes * lanes);
                seen.last = std::max(seen.last, (to - first + lanes - 1) / lanes * lanes);
            }
        }
        return seen;
    }

    void attend_tile(std::size_t row, std::size_t count, std::size_t first_key, const key_range& seen, const T* keys,
                     const value_rows& values, const partial_rows<T>& chunk)
    {
        compute_scores(row, count, seen, keys);
        std::array<std::array<bool, kernel::block_keys>, tile::rows> excluded;
        const std::size_t width = seen.last - seen.first;
        const std::size_t present = std::min(seen.last, plan_.valid_keys(entry_) - first_key) - seen.first;
        for (std::size_t r = 0; r < count; ++r) {
            T* scores = scores_.data() + r * kernel::block_keys + seen.first;
            transform_row(row + r, scores_.data() + r * kernel::block_keys, first_key, seen, score_stage::masked);
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
        if (value_size_ != 0) {
            const T* weights = scores_.data() + seen.first;
            const T* first_value = values.data + static_cast<std::ptrdiff_t>(seen.first) * values.stride;
            multiply_values(weights, count, excluded, first_value, values, present);
        }
        for (std::size_t r = 0; r < count; ++r) {
            kernel::merge<Arch>(chunk.row(row + r), block_.row(r), padded_value_size());
        }
    }

    template <class Excluded>
    void multiply_values(const T* weights, std::size_t count, const Excluded& excluded, const T* first_value,
                         const value_rows& values, std::size_t present)
    {
        T* output = block_.row(0).output;
        if (!values.finite) {
            for (std::size_t r = 0; r < count; ++r) {
                kernel::value_row_selected<Arch>(weights + r * kernel::block_keys, excluded[r].data(), first_value,
                                                 values.stride, present, value_vectors_, block_.row(r).output);
            }
        } else if (count == tile::rows) {
            kernel::value_rows<Arch, tile::rows>(weights, kernel::block_keys, first_value, values.stride, present,
                                                 value_vectors_, output, padded_value_size());
        } else {
            for (std::size_t r = 0; r < count; ++r) {
                kernel::value_rows<Arch, 1>(weights + r * kernel::block_keys, kernel::block_keys, first_value,
                                            values.stride, present, value_vectors_, block_.row(r).output,
                                            padded_value_size());
            }
        }
    }

    /// scale * q.k of some rows with the panels of a block that `seen` touches.
    void compute_scores(std::size_t row, std::size_t count, const key_range& seen, const T* keys)
    {
        const T scale = static_cast<T>(plan_.scale);
        const T* queries = queries_.data() + row * plan_.head_size;
        for (std::size_t panel = seen.first / tile::width * tile::width; panel < seen.last; panel += tile::width) {
            const T* packed = keys + panel * plan_.head_size;
            T* scores = scores_.data() + panel;
            if (count == tile::rows) {
                kernel::score_tile<Arch, tile::rows>(queries, plan_.head_size, packed, plan_.head_size, scale, scores,
                                                     kernel::block_keys);
            } else {
                for (std::size_t r = 0; r < count; ++r) {
                    kernel::score_tile<Arch, 1>(queries + r * plan_.head_size, plan_.head_size, packed, plan_.head_size,
                                                scale, scores + r * kernel::block_keys, kernel::block_keys);
                }
            }
        }
    }

    /// Softcap, mask and visibility on the part `seen` of a row of block scores.
    void transform_row(std::size_t r, T* scores, std::size_t first_key, const key_range& seen, score_stage stage) const
    {
        const attention_options& options = *plan_.options;
        T* begin = scores + seen.first;
        const std::size_t width = seen.last - seen.first;
        if (stage != score_stage::scaled && options.softcap != 0) {
            kernel::softcap_row<Arch>(begin, (width + lanes - 1) / lanes * lanes, static_cast<T>(options.softcap));
        }
        const std::size_t begin_key = first_key + seen.first;
        const std::size_t valid = plan_.valid_keys(entry_);
        const std::size_t present = begin_key < valid ? std::min(width, valid - begin_key) : 0;
        std::fill(begin + present, begin + width, kernel::negative_infinity<T>);
        if (stage == score_stage::scaled || stage == score_stage::capped) {
            return;
        }
        options.mask.visit([&](const auto& mask) {
            const auto place = mask_place(mask, places_[r], begin_key);
            kernel::mask_row(begin, present, place.first, place.second);
        });
        const key_range& range = visible_[r];
        const auto relative = [&](std::size_t key) { return key > begin_key ? key - begin_key : 0; };
        kernel::restrict_row(begin, width, relative(range.first), relative(range.last));
    }

    /// Where a mask's element for a row and a key lies, and the step to the next key's.
    template <class M>
    std::pair<const M*, std::ptrdiff_t> mask_place(const strided_view<const M>& mask, const row_place& place,
                                                   std::size_t key) const
    {
        const auto along = [&](std::size_t from_last, std::size_t index) {
            if (from_last > mask.rank()) {
                return std::ptrdiff_t{0};
            }
            const std::size_t axis = mask.rank() - from_last;
            return mask.shape[axis] == 1 ? 0 : static_cast<std::ptrdiff_t>(index) * mask.strides[axis];
        };
        std::ptrdiff_t offset = along(1, key) + along(2, place.query) + along(3, place.head);
        std::size_t flat = entry_;
        for (std::size_t from_last = 4; from_last <= q_.view.rank(); ++from_last) {
            const std::size_t extent = q_.view.shape[q_.view.rank() - from_last];
            offset += along(from_last, flat % extent);
            flat /= extent;
        }
        return {mask.data + offset, along(1, 1)};
    }

    const attention_plan& plan_;
    head_view<const Q> q_;
    head_view<const K> k_;
    head_view<const V> v_;
    std::size_t value_size_;
    std::size_t value_vectors_;
    bool with_statistics_;
    std::size_t entry_ = 0;
    std::size_t key_head_ = 0;
    std::size_t rows_ = 0;
    std::array<row_place, run_rows<Arch, T>> places_;
    std::array<key_range, run_rows<Arch, T>> visible_;
    aligned_buffer<T> queries_;
    aligned_buffer<T> scores_;
    partial_rows<T> block_;
    aligned_buffer<T> keys_;
    aligned_buffer<T> values_;
};

} // namespace scaledot::inline SCALEDOT_BUILD::detail

#endif
