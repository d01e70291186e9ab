// SPDX-License-Identifier: BSD-3-Clause
// Scores of a run of query rows that share a key head, a register tile of rows and a block of keys at a time: products,
// softcap, mask, visibility. What attention and attention_scores have in common, to the bit.
#ifndef SCALEDOT_DETAIL_SCORE_TILE_HPP
#define SCALEDOT_DETAIL_SCORE_TILE_HPP

#include <scaledot/detail/aligned_buffer.hpp>
#include <scaledot/detail/attention_problem.hpp>
#include <scaledot/detail/config.hpp>
#include <scaledot/kernel/products.hpp>
#include <scaledot/kernel/scores.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <limits>
#include <utility>

namespace scaledot::inline SCALEDOT_BUILD::detail {

/// Rows a worker takes at once: what it prepares of a block of keys and values serves all of them.
template <class Arch, class T>
inline constexpr std::size_t run_rows = 16 * kernel::register_tile<Arch, T>::rows;

/// A row of a run: its query head and its place in it.
struct row_place {
    std::size_t head;
    std::size_t query;
};

template <class Arch, class T, class Q, class K>
class score_tile {
public:
    using tile = kernel::register_tile<Arch, T>;
    static constexpr std::size_t lanes = kernel::lanes<Arch, T>;

    score_tile(const attention_plan& plan, head_view<const Q> q, head_view<const K> k)
        : plan_(plan), q_(q), k_(k),
          queries_(checked_product(run_rows<Arch, T>, plan.head_size, "scratch for queries")),
          scores_(tile::rows * kernel::block_keys),
          keys_(checked_product(kernel::block_keys, plan.head_size, "scratch for keys"))
    {
    }

    /// Starts a run: rows [begin, end) of a key head's queries, the query heads of its group one after another. Returns
    /// the keys any of them may see.
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
    std::size_t entry() const { return entry_; }
    std::size_t key_head() const { return key_head_; }

    /// Packs the keys [first, last) of the head, a block, into scratch.
    const T* pack_block(std::size_t first, std::size_t last) const
    {
        kernel::pack_keys<Arch>(k_.row(entry_, key_head_, first), k_.row_stride(), last - first, plan_.head_size,
                                keys_.data());
        return keys_.data();
    }

    /// What `count` rows from `row` on see of the keys [first, last) of a block, relative to its first key and widened
    /// to whole vectors.
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

    /// Computes the scores of `count` rows (at most a tile) with the part `seen` (whole vectors) of a block of packed
    /// keys that starts at `first_key`, up to a stage. Excluded scores are -inf from `masked` on.
    void compute(std::size_t row, std::size_t count, std::size_t first_key, const key_range& seen, const T* keys,
                 score_stage stage)
    {
        multiply(row, count, seen, keys);
        for (std::size_t r = 0; r < count; ++r) {
            transform(row + r, scores(r), first_key, seen, stage);
        }
    }

    /// The computed scores of a row of the tile, from the block's first key on.
    T* scores(std::size_t r) const { return scores_.data() + r * kernel::block_keys; }

private:
    /// scale * q.k with the panels that `seen` touches.
    void multiply(std::size_t row, std::size_t count, const key_range& seen, const T* keys)
    {
        const T scale = kernel::in_range<T>(plan_.scale);
        const std::size_t size = plan_.head_size;
        const T* queries = queries_.data() + row * size;
        for (std::size_t panel = seen.first / tile::width * tile::width; panel < seen.last; panel += tile::width) {
            const T* packed = keys + panel * size;
            if (count == tile::rows) {
                kernel::score_tile<Arch, tile::rows>(queries, size, packed, size, scale, scores(0) + panel,
                                                     kernel::block_keys);
                continue;
            }
            for (std::size_t r = 0; r < count; ++r) {
                kernel::score_tile<Arch, 1>(queries + r * size, size, packed, size, scale, scores(r) + panel,
                                            kernel::block_keys);
            }
        }
    }

    /// Softcap, mask and visibility on the part `seen` of a row.
    void transform(std::size_t r, T* row, std::size_t first_key, const key_range& seen, score_stage stage) const
    {
        const attention_options& options = *plan_.options;
        T* begin = row + seen.first;
        const std::size_t width = seen.last - seen.first;
        if (stage != score_stage::scaled && options.softcap != 0) {
            const T cap = std::max(kernel::in_range<T>(options.softcap), std::numeric_limits<T>::min());
            kernel::softcap_row<Arch>(begin, width, cap);
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
        const auto relative = [&](std::size_t key) { return key > begin_key ? key - begin_key : 0; };
        kernel::restrict_row(begin, width, relative(visible_[r].first), relative(visible_[r].last));
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
    std::size_t entry_ = 0;
    std::size_t key_head_ = 0;
    std::size_t rows_ = 0;
    std::array<row_place, run_rows<Arch, T>> places_;
    std::array<key_range, run_rows<Arch, T>> visible_;
    aligned_buffer<T> queries_;
    aligned_buffer<T> scores_;
    aligned_buffer<T> keys_;
};

} // namespace scaledot::inline SCALEDOT_BUILD::detail

#endif
