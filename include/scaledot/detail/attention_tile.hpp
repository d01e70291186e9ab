// SPDX-License-Identifier: BSD-3-Clause
// One worker's attention: a run of query rows that share a key head against a range of keys, block by block, and in a
// block a group of rows at a time. A group's scores stay in the caches; nothing grows with queries x keys.
#ifndef SCALEDOT_DETAIL_ATTENTION_TILE_HPP
#define SCALEDOT_DETAIL_ATTENTION_TILE_HPP

#include <scaledot/detail/attention_problem.hpp>
#include <scaledot/detail/config.hpp>
#include <scaledot/detail/group_weights.hpp>
#include <scaledot/detail/partial_rows.hpp>
#include <scaledot/detail/score_tile.hpp>
#include <scaledot/detail/scratch.hpp>
#include <scaledot/kernel/pack.hpp>
#include <scaledot/kernel/partial.hpp>
#include <scaledot/kernel/prefetch.hpp>
#include <scaledot/kernel/products.hpp>
#include <scaledot/kernel/tiles.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <type_traits>

namespace scaledot::inline SCALEDOT_BUILD::detail {

/// Attention of one run of rows after another; results are partial until the last chunk of keys.
template <class Arch, class T, class Q, class K, class V>
class attention_worker {
public:
    using tile = kernel::register_tile<Arch, T>;
    using key_step = kernel::step_for_t<Arch, T, Q, K>;
    using value_step = kernel::step_for_t<Arch, T, Q, V>;
    using key_element = typename key_step::element;
    using value_element = typename value_step::element;
    static constexpr std::size_t lanes = kernel::lanes<Arch, T>;

    attention_worker(const attention_plan& plan, const head_view<const Q>& q, const head_view<const K>& k,
                     const head_view<const V>& v, bool with_values, bool with_statistics, scratch& memory)
        : plan_(plan), scores_(plan, q, k, memory), v_(v), value_size_(with_values ? v.size() : 0),
          value_vectors_(value_size_ / lanes + (value_size_ % lanes != 0 ? 1 : 0)), weights_(with_statistics, memory),
          values_(must_pack_values() ? memory.take<value_element>(kernel::steps_of<value_step>(kernel::block_keys),
                                                                  padded_value_size())
                                     : nullptr)
    {
    }

    std::size_t padded_value_size() const { return value_vectors_ * lanes; }
    std::size_t rows() const { return scores_.rows(); }
    const row_places& places() const { return scores_.places(); }

    /// 2^-n with 2^n above the number of keys: as many values, times weights of 1 and this, have a sum in range.
    T careful_scale() const { return std::ldexp(T(1), -static_cast<int>(std::bit_width(plan_.keys))); }

    /// Starts a run, see score_tile::start.
    key_range start(std::size_t entry, std::size_t key_head, std::size_t begin, std::size_t end)
    {
        seen_ = scores_.start(entry, key_head, begin, end);
        return seen_;
    }

    /// Says what the next run reads, to be asked for while this one is worked on. Its keys and values are those of a
    /// head of its own.
    void announce_head(const Q* queries, std::ptrdiff_t query_stride, std::size_t rows, const K* keys,
                       std::ptrdiff_t key_stride, const V* values, std::size_t count)
    {
        upcoming_.template add<0>(queries, query_stride, rows, plan_.head_size);
        upcoming_.template add<1>(keys, key_stride, count, plan_.head_size);
        upcoming_.template add<2>(values, v_.row_stride(), count, value_size_);
    }

    /// Attention of the run over the keys of one chunk, into `chunk`. `packed` are the head's packed keys, or null:
    /// then each block is packed here. `carefully` skips the values of excluded keys, for values that are not all
    /// finite, and scales the others by careful_scale(), for values so large that sums of them would not be.
    void attend_chunk(std::size_t chunk_index, const key_element* packed, const partial_rows<T>& chunk, bool carefully)
    {
        [[maybe_unused]] const kernel::needed_registers<key_step> registers{};
        chunk.clear_sums(rows());
        has_output_.fill(carefully);
        if (carefully) {
            chunk.clear_output(0, rows());
        }
        weights_.start(rows());
        const std::size_t begin = chunk_index * kernel::chunk_keys;
        const std::size_t end = std::min(begin + kernel::chunk_keys, plan_.valid_keys(scores_.entry()));
        for (std::size_t first = begin; first < end; first += kernel::block_keys) {
            attend_block(first, std::min(first + kernel::block_keys, end), packed, chunk, carefully);
        }
        for (std::size_t row = 0; row < rows(); row += tile::rows) {
            if (!has_output_[row / tile::rows]) {
                chunk.clear_output(row, std::min(tile::rows, rows() - row));
            }
        }
        if constexpr (kernel::multiplies_tiles<value_step>) {
            kernel::tile_products<value_step>::finish(chunk.output(0), rows() * padded_value_size());
        }
        weights_.finish(rows(), scores_.factor(), chunk);
    }

private:
    static constexpr std::size_t tiles = group_rows<Arch, T> / tile::rows;

    /// Values can be widened as they are read, which pays where few rows read them.
    static constexpr bool widens_values = value_step::depth == 1 && !std::is_same_v<V, T>;

    /// Values are multiplied where they lie if they are numbers of T, whole vectors wide.
    bool must_pack_values() const
    {
        return value_size_ != 0 && (!std::is_same_v<V, value_element> || value_size_ % lanes != 0);
    }

    /// A block of keys and values, prepared for all groups of the run as soon as one of them needs it.
    struct block {
        std::size_t first;
        std::size_t last;
        const key_element* keys;
        const value_element* values = nullptr;
        const V* stored_values = nullptr; ///< instead of values, where few rows read them
        std::ptrdiff_t value_stride = 0;
    };

    void prepare_values(block& b, bool carefully)
    {
        if (value_size_ == 0 || b.values || b.stored_values) {
            return;
        }
        const V* source = v_.row(scores_.entry(), scores_.key_head(), b.first);
        if constexpr (std::is_same_v<V, value_element>) {
            if (!must_pack_values()) {
                b.values = source;
                b.value_stride = v_.row_stride();
                return;
            }
        }
        if constexpr (widens_values) {
            if (rows() <= group_rows<Arch, T> && value_size_ % lanes == 0) {
                b.stored_values = source;
                b.value_stride = v_.row_stride();
                return;
            }
        }
        if constexpr (kernel::multiplies_tiles<value_step>) {
            if (rows() <= tile::rows && !carefully) {
                b.stored_values = source;
                b.value_stride = v_.row_stride();
                return;
            }
        }
        kernel::pack_values<value_step>(source, v_.row_stride(), b.last - b.first, value_size_, padded_value_size(),
                                        values_);
        b.values = values_;
        b.value_stride = static_cast<std::ptrdiff_t>(padded_value_size());
    }

    /// Says which block of a head with these packed keys is read next: the one behind this, or the first of another
    /// run.
    void announce_block(std::size_t first, const key_element* packed)
    {
        const std::size_t steps = kernel::steps_of<key_step>(plan_.head_size);
        const std::size_t count = std::min(kernel::block_keys, plan_.valid_keys(scores_.entry()) - first);
        upcoming_.template add<1>(packed + first * steps, static_cast<std::ptrdiff_t>(steps), count, steps);
        upcoming_.template add<2>(v_.row(scores_.entry(), scores_.key_head(), first), v_.row_stride(), count,
                                  value_size_);
    }

    void attend_block(std::size_t first, std::size_t last, const key_element* packed, const partial_rows<T>& chunk,
                      bool carefully)
    {
        const std::size_t steps = kernel::steps_of<key_step>(plan_.head_size);
        block b{first, last, packed ? packed + first * steps : nullptr};
        if (packed && rows() > run_rows<Arch, T>) {
            announce_block(last < seen_.last ? last : seen_.first / kernel::block_keys * kernel::block_keys, packed);
        }
        for (std::size_t row = 0; row < rows(); row += group_rows<Arch, T>) {
            attend_group(row, std::min(group_rows<Arch, T>, rows() - row), b, chunk, carefully);
        }
    }

    /// The tiles of a group of rows and what they see of a block.
    struct group_tiles {
        std::size_t count = 0;
        std::array<std::size_t, tiles> rows;
        std::array<key_range, tiles> seen;
        key_range all{kernel::block_keys, 0};
    };

    group_tiles look(std::size_t row, std::size_t count, const block& b) const
    {
        group_tiles group;
        for (std::size_t slot = 0; slot < count; slot += tile::rows) {
            const std::size_t rows = std::min(tile::rows, count - slot);
            const key_range seen = scores_.visible_in_block(row + slot, rows, b.first, b.last);
            group.rows[group.count] = rows;
            group.seen[group.count++] = seen;
            group.all.first = std::min(group.all.first, seen.first);
            group.all.last = std::max(group.all.last, seen.last);
        }
        return group;
    }

    void attend_group(std::size_t row, std::size_t count, block& b, const partial_rows<T>& chunk, bool carefully)
    {
        const group_tiles group = look(row, count, b);
        if (group.all.first >= group.all.last) {
            return;
        }
        if (!b.keys && rows() > group_rows<Arch, T>) {
            b.keys = scores_.pack(b.first, b.last);
        }
        multiply(row, group, b);
        prepare_values(b, carefully);
        weigh(row, count, group, b, chunk, carefully);
        if (value_size_ == 0) {
            return;
        }
        for (std::size_t t = 0; t < group.count; ++t) {
            if (group.seen[t].first < group.seen[t].last) {
                if constexpr (kernel::multiplies_tiles<value_step>) {
                    if (!carefully && take_same_values(row, t, group)) {
                        add_values_of_pair(row, t, group, b, chunk);
                        has_output_[row / tile::rows + t++] = true;
                        has_output_[row / tile::rows + t] = true;
                        upcoming_.template ask<2 * lines_at_once>();
                        continue;
                    }
                }
                add_values(row, t, group, b, chunk, carefully);
                has_output_[row / tile::rows + t] = true;
                upcoming_.template ask<lines_at_once>();
            }
        }
    }

    /// Products of a group with a block of keys. Of a tile's queries and a panel's keys, the larger stays in the
    /// first-level cache while the others pass.
    void multiply(std::size_t row, const group_tiles& group, const block& b)
    {
        constexpr bool queries_are_larger = tile::rows * key_step::copies > tile::width;
        const auto all_panels = [&](std::size_t first_tile, std::size_t last_tile, const key_range& seen) {
            for (std::size_t panel = seen.first / tile::width * tile::width; panel < seen.last; panel += tile::width) {
                multiply(row, group, first_tile, last_tile, panel, b);
            }
        };
        if (!queries_are_larger || !b.keys) {
            all_panels(0, group.count, group.all);
            return;
        }
        for (std::size_t t = 0; t < group.count; ++t) {
            all_panels(t, t + 1, group.seen[t]);
        }
    }

    /// Products of some tiles with a panel of keys, which is packed here where no other group shares it.
    void multiply(std::size_t row, const group_tiles& group, std::size_t first_tile, std::size_t last_tile,
                  std::size_t panel, const block& b)
    {
        const std::size_t first_key = b.first + panel;
        if (!b.keys && scores_.takes_keys_as_rows() && first_key + tile::width <= b.last) {
            scores_.multiply_with_rows(panel, first_key);
            return;
        }
        const key_element* const packed = b.keys ? b.keys + panel * kernel::steps_of<key_step>(plan_.head_size)
                                                 : scores_.pack(first_key, std::min(first_key + tile::width, b.last));
        const auto sees_panel = [&](std::size_t t) {
            return panel < group.seen[t].last && panel + tile::width > group.seen[t].first;
        };
        for (std::size_t t = first_tile; t < last_tile; ++t) {
            if constexpr (kernel::multiplies_tiles<key_step>) {
                if (t + 1 < last_tile && group.rows[t + 1] == tile::rows && sees_panel(t) && sees_panel(t + 1)) {
                    scores_.multiply(row + t * tile::rows, t * tile::rows, 2 * tile::rows, panel,
                                     std::max(group.seen[t].last, group.seen[t + 1].last) - panel, packed);
                    upcoming_.template ask<2 * lines_at_once>();
                    ++t;
                    continue;
                }
            }
            if (sees_panel(t)) {
                scores_.multiply(row + t * tile::rows, t * tile::rows, group.rows[t], panel, group.seen[t].last - panel,
                                 packed);
                upcoming_.template ask<lines_at_once>();
            }
        }
    }

    /// Turns the scores of a group into weights relative to its rows' maxima, which it raises.
    void weigh(std::size_t row, std::size_t count, const group_tiles& group, const block& b,
               const partial_rows<T>& chunk, bool carefully)
    {
        const T factor = scores_.factor();
        const auto for_each_tile = [&](const auto& use) {
            for (std::size_t t = 0; t < group.count; ++t) {
                const key_range& seen = group.seen[t];
                const std::size_t slot = t * tile::rows;
                use(slot, group.rows[t], seen, scores_.scores(slot) + seen.first,
                    seen.first < seen.last ? seen.last - seen.first : 0);
            }
        };
        for_each_tile(
            [&](std::size_t slot, std::size_t rows, const key_range& seen, const T* scores, std::size_t width) {
                if (width > 0) {
                    scores_.transform(row + slot, slot, rows, b.first, seen);
                }
                weights_.look_at(slot, rows, scores, width, carefully);
            });
        weights_.raise(row, count, factor, chunk);
        for_each_tile([&](std::size_t slot, std::size_t rows, const key_range&, T* scores, std::size_t width) {
            weights_.weigh(row, slot, rows, scores, width, factor, chunk);
            for (std::size_t r = 0; carefully && r < rows; ++r) {
                auto* const weights = reinterpret_cast<value_element*>(scores + r * kernel::padded_block);
                value_step::scale_weights(weights, width, careful_scale());
            }
        });
    }

    /// Adds the weighted values to the rows of one tile.
    void add_values(std::size_t row, std::size_t t, const group_tiles& group, const block& b,
                    const partial_rows<T>& chunk, bool carefully)
    {
        if constexpr (widens_values) {
            if (b.stored_values) {
                add_values<kernel::number_step<Arch, T, V>>(row, t, group, b, b.stored_values, chunk, carefully);
                return;
            }
        }
        if constexpr (kernel::multiplies_tiles<value_step>) {
            if (b.stored_values) {
                add_stored_values(t, group, b, chunk);
                return;
            }
        }
        add_values<value_step>(row, t, group, b, b.values, chunk, carefully);
    }

    /// Whether a tile and the next are whole, and the same is added to both.
    bool take_same_values(std::size_t row, std::size_t t, const group_tiles& group) const
    {
        const bool* const has_output = has_output_.data() + row / tile::rows;
        return t + 1 < group.count && group.rows[t + 1] == tile::rows && has_output[t] == has_output[t + 1] &&
               group.seen[t].first == group.seen[t + 1].first && group.seen[t].last == group.seen[t + 1].last;
    }

    /// add_values of a tile and the next.
    void add_values_of_pair(std::size_t row, std::size_t t, const group_tiles& group, const block& b,
                            const partial_rows<T>& chunk)
    {
        const key_range& seen = group.seen[t];
        const std::size_t slot = t * tile::rows;
        kernel::tile_products<value_step>::add_values_of_pair(
            weights(slot, seen), kernel::padded_block,
            b.values + static_cast<std::ptrdiff_t>(seen.first / value_step::depth) * b.value_stride, b.value_stride,
            kernel::steps_of<value_step>(std::min(seen.last, b.last - b.first) - seen.first),
            has_output_[row / tile::rows + t] ? weights_.kept(slot) : nullptr, value_vectors_,
            chunk.row(row + slot).output, padded_value_size());
    }

    /// The same of the only tile of a run, with values as they are stored.
    void add_stored_values(std::size_t t, const group_tiles& group, const block& b, const partial_rows<T>& chunk)
    {
        const key_range& seen = group.seen[t];
        kernel::tile_products<value_step>::add_stored_values(
            group.rows[t], weights(0, seen), kernel::padded_block,
            b.stored_values + static_cast<std::ptrdiff_t>(seen.first) * b.value_stride, b.value_stride,
            std::min(seen.last, b.last - b.first) - seen.first, has_output_[0] ? weights_.kept(0) : nullptr,
            value_size_, value_vectors_, chunk.row(0).output, padded_value_size());
    }

    template <class Step>
    void add_values(std::size_t row, std::size_t t, const group_tiles& group, const block& b,
                    const typename Step::right_element* of_block, const partial_rows<T>& chunk, bool carefully)
    {
        const key_range& seen = group.seen[t];
        const std::size_t steps = kernel::steps_of<Step>(std::min(seen.last, b.last - b.first) - seen.first);
        const bool fresh = !has_output_[row / tile::rows + t];
        const auto* const values = of_block + static_cast<std::ptrdiff_t>(seen.first / Step::depth) * b.value_stride;
        const std::size_t slot = t * tile::rows;
        T* const output = chunk.row(row + slot).output;
        const std::size_t size = padded_value_size();
        if constexpr (kernel::multiplies_tiles<Step>) {
            using products = kernel::tile_products<Step>;
            if (!carefully) {
                products::add_values(group.rows[t], weights(slot, seen), kernel::padded_block, values, b.value_stride,
                                     steps, fresh ? nullptr : weights_.kept(slot), value_vectors_, output, size);
                return;
            }
            for (std::size_t r = 0; r < group.rows[t]; ++r) {
                products::add_selected_values(weights(slot + r, seen), weights_.excluded(slot + r), values,
                                              b.value_stride, steps, *weights_.kept(slot + r), value_vectors_,
                                              output + r * size);
            }
        } else {
            if (!carefully) {
                kernel::for_each_tile<Arch, T>(group.rows[t], [&](auto rows, std::size_t r) {
                    kernel::value_rows<Step, rows>(weights(slot + r, seen), kernel::padded_block, values,
                                                   b.value_stride, steps, fresh ? nullptr : weights_.kept(slot + r),
                                                   value_vectors_, output + r * size, size);
                });
                return;
            }
            for (std::size_t r = 0; r < group.rows[t]; ++r) {
                kernel::value_row_selected<Step>(weights(slot + r, seen), weights_.excluded(slot + r), values,
                                                 b.value_stride, steps, *weights_.kept(slot + r), value_vectors_,
                                                 output + r * size);
            }
        }
    }

    const value_element* weights(std::size_t slot, const key_range& seen) const
    {
        return reinterpret_cast<const value_element*>(scores_.scores(slot) + seen.first);
    }

    /// Of each argument, between two tiles: a head of as many keys as queries is there before its turn.
    static constexpr std::size_t lines_at_once = 16;

    const attention_plan& plan_;
    score_tile<Arch, T, Q, K> scores_;
    const head_view<const V>& v_;
    std::size_t value_size_;
    std::size_t value_vectors_;
    group_weights<Arch, T, value_step> weights_;
    value_element* values_;
    kernel::prefetch_queue<3> upcoming_; ///< queries, keys and values
    key_range seen_{0, 0};               ///< what the run sees
    std::array<bool, long_run_rows<Arch, T> / tile::rows>
        has_output_; ///< of each tile: whether keys of the chunk were added
};

} // namespace scaledot::inline SCALEDOT_BUILD::detail

#endif
