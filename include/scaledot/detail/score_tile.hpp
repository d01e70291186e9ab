// SPDX-License-Identifier: BSD-3-Clause
// Scores of a run of query rows that share a key head, a group of rows and a block of keys at a time: products, scale,
// softcap, mask, visibility. What attention and attention_scores have in common.
#ifndef SCALEDOT_DETAIL_SCORE_TILE_HPP
#define SCALEDOT_DETAIL_SCORE_TILE_HPP

#include <scaledot/detail/attention_problem.hpp>
#include <scaledot/detail/config.hpp>
#include <scaledot/detail/scratch.hpp>
#include <scaledot/kernel/mask.hpp>
#include <scaledot/kernel/pack.hpp>
#include <scaledot/kernel/products.hpp>
#include <scaledot/kernel/scores.hpp>
#include <scaledot/kernel/tiles.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <type_traits>
#include <utility>

namespace scaledot::inline SCALEDOT_BUILD::detail {

/// Rows whose scores with a block of keys are held at once: their tiles share what the first-level cache holds of keys
/// and values; larger tiles (kernel/tiles.hpp), what the second-level cache does, 2 % faster than half as many of them.
template <class Arch, class T>
inline constexpr std::size_t group_rows = 4 * kernel::register_tile<Arch, T>::rows;

/// Rows a worker takes at once: what it prepares of a block of keys and values serves all of them.
template <class Arch, class T>
inline constexpr std::size_t run_rows = 4 * group_rows<Arch, T>;

/// The same, and the most, of heads that are too large for the second-level cache: each block is read from further
/// away.
template <class Arch, class T>
inline constexpr std::size_t long_run_rows = 2 * run_rows<Arch, T>;

/// A row of a run: its query head and its place in it.
struct row_place {
    std::size_t head;
    std::size_t query;
};

/// Those of rows that follow each other.
struct row_places {
    row_place first;
    std::size_t queries; ///< of a head

    row_place operator[](std::size_t r) const
    {
        const std::size_t query = first.query + r;
        if (query < queries) {
            return {first.head, query};
        }
        return {first.head + query / queries, query % queries};
    }
};

template <class Arch, class T, class Q, class K>
class score_tile {
public:
    using step = kernel::step_for_t<Arch, T, Q, K>;
    using element = typename step::element;
    using tile = kernel::register_tile<Arch, T>;
    static constexpr std::size_t lanes = kernel::lanes<Arch, T>;

    /// Takes its memory from `memory`, which lays nothing out but counts where it has none.
    score_tile(const attention_plan& plan, const head_view<const Q>& q, const head_view<const K>& k, scratch& memory)
        : plan_(plan), q_(q), k_(k), steps_(kernel::steps_of<step>(plan.head_size)),
          query_elements_(steps_ * step::copies),
          packed_queries_(memory.take<element>(long_run_rows<Arch, T>, query_elements_)),
          query_columns_(kernel::multiplies_tiles<step> ? memory.take<element>(few_rows, steps_) : nullptr),
          keys_(memory.take<element>(kernel::block_keys, steps_)),
          scores_(memory.take<T>(group_rows<Arch, T>, kernel::padded_block))
    {
        const T scale = kernel::in_range<T>(plan.scale);
        negated_ = scale < 0;
        magnitude_ = negated_ ? -scale : scale;
        // -inf times a vanishing scale would not be -inf: then, too, scores are scaled before keys are excluded.
        scaled_first_ = plan.options->softcap != 0 || plan.options->mask.is_additive() ||
                        magnitude_ < std::numeric_limits<T>::min();
    }

    /// Starts a run: rows [begin, end) of a key head's queries, the query heads of its group one after another. Returns
    /// the keys any of them may see.
    key_range start(std::size_t entry, std::size_t key_head, std::size_t begin, std::size_t end)
    {
        entry_ = entry;
        key_head_ = key_head;
        rows_ = end - begin;
        key_range seen{plan_.keys, 0};
        places_ = {{key_head * plan_.group() + begin / plan_.queries, begin % plan_.queries}, plan_.queries};
        see_the_same_ = !plan_.depends_on_position();
        for (std::size_t r = 0; r < (see_the_same_ ? 1 : rows_); ++r) {
            visible_[r] = plan_.visible(entry, places_[r].query);
            if (visible_[r].first < visible_[r].last) {
                seen.first = std::min(seen.first, visible_[r].first);
                seen.last = std::max(seen.last, visible_[r].last);
            }
        }
        if constexpr (std::is_same_v<Q, element> && step::copies == 1) {
            if (!negated_ && places_.first.query + rows_ <= plan_.queries &&
                q_.row_stride() == static_cast<std::ptrdiff_t>(plan_.head_size)) {
                queries_ = query(0); // where they lie
                return seen;
            }
        }
        queries_ = packed_queries_;
        for (std::size_t r = 0; r < rows_; ++r) {
            pack_query(query(r), packed_queries_ + r * query_elements_);
        }
        if constexpr (kernel::multiplies_tiles<step>) {
            if (takes_keys_as_rows()) {
                kernel::tile_products<step>::pack_columns(queries_, rows_, steps_, query_columns_);
            }
        }
        return seen;
    }

    std::size_t rows() const { return rows_; }
    const row_places& places() const { return places_; }
    std::size_t entry() const { return entry_; }
    std::size_t key_head() const { return key_head_; }

    /// Packs the keys [first, last) of the head, at most a block, into scratch.
    const element* pack(std::size_t first, std::size_t last) const
    {
        kernel::pack_keys<step, T>(k_.row(entry_, key_head_, first), k_.row_stride(), last - first, plan_.head_size,
                                   keys_);
        return keys_;
    }

    /// What `count` rows from `row` on see of the keys [first, last) of a block, relative to its first key and widened
    /// to whole vectors, or to as many as are multiplied at once.
    key_range visible_in_block(std::size_t row, std::size_t count, std::size_t first, std::size_t last) const
    {
        constexpr std::size_t unit = std::max(lanes, step::depth * step::together);
        key_range seen{kernel::block_keys, 0};
        for (std::size_t r = row; r < row + (see_the_same_ ? 1 : count); ++r) {
            const std::size_t from = std::max(visible(r).first, first);
            const std::size_t to = std::min(visible(r).last, last);
            if (from < to) {
                seen.first = std::min(seen.first, (from - first) / unit * unit);
                seen.last = std::max(seen.last, (to - first + unit - 1) / unit * unit);
            }
        }
        return seen;
    }

    /// The products of `count` rows (at most a tile, or two whole ones of kernel/tiles.hpp) from `row` on with a packed
    /// panel, which starts at key `panel` of the block, into the scores of slots `slot` on. Only its first `needed`
    /// keys are asked for.
    void multiply(std::size_t row, std::size_t slot, std::size_t count, std::size_t panel, std::size_t needed,
                  const element* packed) const
    {
        const auto with_vectors = [&](const auto& multiply_with) {
            const std::size_t vectors = kernel::vectors_for<Arch, T>(needed);
            if (vectors == tile::vectors) {
                multiply_with(std::integral_constant<std::size_t, tile::vectors>{});
            } else if (vectors == tile::vectors / 2) {
                multiply_with(std::integral_constant<std::size_t, tile::vectors / 2>{});
            } else {
                multiply_with(std::integral_constant<std::size_t, 1>{});
            }
        };
        if constexpr (kernel::multiplies_tiles<step>) {
            with_vectors([&]<std::size_t Vectors>(std::integral_constant<std::size_t, Vectors>) {
                using products = kernel::tile_products<step>;
                const auto multiply =
                    count > tile::rows ? products::template score_pair<Vectors> : products::template score<Vectors>;
                multiply(queries_ + row * query_elements_, query_elements_, packed, steps_, scores(slot) + panel,
                         kernel::padded_block);
            });
        } else {
            kernel::for_each_tile<Arch, T>(count, [&](auto rows, std::size_t r) {
                with_vectors([&]<std::size_t Vectors>(std::integral_constant<std::size_t, Vectors>) {
                    kernel::score_tile<step, rows, Vectors>(queries_ + (row + r) * query_elements_, query_elements_,
                                                            packed, steps_, scores(slot + r) + panel,
                                                            kernel::padded_block);
                });
            });
        }
    }

    /// Whether a run is of so few rows, and heads of such a size, that keys are multiplied as they lie.
    bool takes_keys_as_rows() const
    {
        constexpr std::size_t at_once = std::max(step::together, kernel::transposed_at_once<element, K>);
        return rows_ <= few_rows && plan_.head_size % (step::depth * at_once) == 0;
    }

    /// The products of the whole run, of few rows, with the panel of keys that starts at key `panel` of the block and
    /// at `first_key` of the head, all of it present.
    void multiply_with_rows(std::size_t panel, std::size_t first_key) const
    {
        const K* const keys = k_.row(entry_, key_head_, first_key);
        if constexpr (kernel::multiplies_tiles<step>) {
            kernel::tile_products<step>::score_rows(query_columns_, rows_, keys, k_.row_stride(), steps_,
                                                    scores(0) + panel, kernel::padded_block);
        } else {
            kernel::for_each_tile<Arch, T>(rows_, [&](auto rows, std::size_t r) {
                if constexpr (rows <= few_rows) {
                    kernel::score_tile_of_rows<step, rows>(queries_ + r * query_elements_, query_elements_, keys,
                                                           k_.row_stride(), steps_, scores(r) + panel,
                                                           kernel::padded_block);
                }
            });
        }
    }

    /// From products to scores but for factor(), of `count` rows: nothing but exclusion, where no other option asks for
    /// more.
    void transform(std::size_t row, std::size_t slot, std::size_t count, std::size_t first_key,
                   const key_range& seen) const
    {
        const bool scaled_by_mask = plan_.options->mask.is_additive() && plan_.options->softcap == 0;
        for (std::size_t r = 0; scaled_first_ && !scaled_by_mask && r < count; ++r) {
            scale(slot + r, seen, score_stage::masked);
        }
        for (std::size_t r = 0; plan_.options->mask && r < count; ++r) {
            mask(row + r, slot + r, first_key, seen, scaled_by_mask ? magnitude_ : T(1));
        }
        restrict(row, slot, count, first_key, seen);
    }

    /// What the scores that transform leaves are to be multiplied by.
    T factor() const { return scaled_first_ ? T(1) : magnitude_; }

    /// From products to the scores of a stage, all of them present keys of the block.
    void finish(std::size_t row, std::size_t slot, std::size_t first_key, const key_range& seen,
                score_stage stage) const
    {
        scale(slot, seen, stage);
        if (stage != score_stage::scaled && stage != score_stage::capped) {
            mask(row, slot, first_key, seen, T(1));
            restrict(row, slot, 1, first_key, seen);
        }
    }

    /// The computed scores of a slot, from the block's first key on.
    T* scores(std::size_t slot) const { return scores_ + slot * kernel::padded_block; }

private:
    static constexpr std::size_t few_rows = kernel::multiplies_tiles<step> ? tile::rows : 4;

    const Q* query(std::size_t r) const
    {
        const row_place place = places_[r];
        return q_.row(entry_, place.head, place.query);
    }

    void pack_query(const Q* query, element* packed) const
    {
        element* const row = packed + query_elements_ - steps_;
        kernel::pack_row<step>(query, plan_.head_size, negated_, row);
        if constexpr (step::copies > 1) {
            kernel::spread_row<step>(row, steps_, packed);
        }
    }

    void scale(std::size_t slot, const key_range& seen, score_stage stage) const
    {
        T* begin = scores(slot) + seen.first;
        const std::size_t width = seen.last - seen.first;
        kernel::scale_row<Arch>(begin, width, magnitude_);
        const double softcap = plan_.options->softcap;
        if (stage != score_stage::scaled && softcap != 0) {
            const T cap = std::max(kernel::in_range<T>(softcap), std::numeric_limits<T>::min());
            kernel::softcap_row<Arch>(begin, width, cap);
        }
    }

    /// Numbers are added to factor times the scores.
    void mask(std::size_t row, std::size_t slot, std::size_t first_key, const key_range& seen, T factor) const
    {
        const std::size_t begin_key = first_key + seen.first;
        const std::size_t valid = plan_.valid_keys(entry_);
        const std::size_t present = begin_key < valid ? std::min(seen.last - seen.first, valid - begin_key) : 0;
        plan_.options->mask.visit([&](const auto& view) {
            const auto place = mask_place(view, places_[row], begin_key);
            kernel::mask_row<Arch>(scores(slot) + seen.first, present, place.first, place.second, factor);
        });
    }

    bool sees_all(std::size_t row, std::size_t first_key, const key_range& keys) const
    {
        const std::size_t last = std::min(visible(row).last, plan_.valid_keys(entry_));
        return visible(row).first <= first_key + keys.first && first_key + keys.last <= last;
    }

    const key_range& visible(std::size_t row) const { return visible_[see_the_same_ ? 0 : row]; }

    /// Excludes the keys that `count` rows may not see, and the lanes past the last key.
    void restrict(std::size_t row, std::size_t slot, std::size_t count, std::size_t first_key,
                  const key_range& seen) const
    {
        const std::size_t begin_key = first_key + seen.first;
        const auto relative = [&](std::size_t key) { return key > begin_key ? key - begin_key : 0; };
        const std::size_t at_once = see_the_same_ ? count : 1;
        for (std::size_t r = 0; r < count; r += at_once) {
            if (!sees_all(row + r, first_key, seen)) {
                const std::size_t last = std::min(visible(row + r).last, plan_.valid_keys(entry_));
                kernel::restrict_rows<Arch>(scores(slot + r) + seen.first, kernel::padded_block, at_once,
                                            seen.last - seen.first, relative(visible(row + r).first), relative(last));
            }
        }
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
    const head_view<const Q>& q_;
    const head_view<const K>& k_;
    std::size_t steps_;
    bool negated_;
    bool scaled_first_;
    T magnitude_;
    std::size_t entry_ = 0;
    std::size_t key_head_ = 0;
    std::size_t rows_ = 0;
    row_places places_{};
    std::array<key_range, long_run_rows<Arch, T>> visible_; ///< to each row, or to all, those of the first
    bool see_the_same_ = false;                             ///< all rows of the run do
    std::size_t query_elements_;                            ///< of a query
    element* packed_queries_;
    element* query_columns_;           ///< those of a run of few rows, for tiles
    const element* queries_ = nullptr; ///< those of the run
    element* keys_;
    T* scores_;
};

} // namespace scaledot::inline SCALEDOT_BUILD::detail

#endif
