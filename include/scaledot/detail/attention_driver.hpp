// SPDX-License-Identifier: BSD-3-Clause
// Cuts attention over threads. The tree of partial results is fixed (kernel/partial.hpp), so it shows in no bit which
// thread computes what.
#ifndef SCALEDOT_DETAIL_ATTENTION_DRIVER_HPP
#define SCALEDOT_DETAIL_ATTENTION_DRIVER_HPP

#include <scaledot/detail/attention_part.hpp>
#include <scaledot/detail/attention_problem.hpp>
#include <scaledot/detail/attention_tile.hpp>
#include <scaledot/detail/config.hpp>
#include <scaledot/detail/partial_rows.hpp>
#include <scaledot/detail/scratch.hpp>
#include <scaledot/detail/shared_work.hpp>
#include <scaledot/executor.hpp>
#include <scaledot/kernel/partial.hpp>

#include <algorithm>
#include <array>
#include <cstddef>

namespace scaledot::inline SCALEDOT_BUILD::detail {

constexpr std::size_t blocks_of(std::size_t count, std::size_t size)
{
    return count / size + (count % size != 0 ? 1 : 0);
}

template <class Arch, class T, class Q, class K, class V>
class attention_driver {
public:
    attention_driver(const attention_plan& plan, const head_view<const Q>& q, const head_view<const K>& k,
                     const head_view<const V>& v, bool with_values, bool with_statistics, const row_receiver<T>& finish)
        : plan_(plan), q_(q), k_(k), v_(v), with_values_(with_values), with_statistics_(with_statistics),
          finish_(finish), rows_(checked_product(plan.group(), plan.queries, "the rows of a head")),
          heads_(checked_product(plan.batch, plan.key_heads, "batch * heads")),
          chunks_(blocks_of(plan.keys, kernel::chunk_keys))
    {
        const std::size_t width = plan.head_size + (with_values ? v.size() : 0);
        const double bytes_of_head = static_cast<double>(plan.keys) * static_cast<double>(width) * sizeof(T);
        run_length_ = bytes_of_head > largest_near_head ? long_run_rows<Arch, T> : run_rows<Arch, T>;
        // Rows that share keys multiply them several times as fast as those that each read all keys; a row has to be
        // started and finished besides.
        const double shared = rows_ > tile_rows ? 4 : 1;
        const double work_of_row = static_cast<double>(plan.keys) * static_cast<double>(width) / shared + 1024;
        parts_ =
            std::max<std::size_t>(part_count(checked_product(heads_, rows_, "the rows of all heads"), work_of_row), 1);
    }

    void run() const
    {
        if (rows_ == 0 || heads_ == 0) {
            return;
        }
        // Whole heads have their keys in the cache of their core; as long as they come out even, or nearly.
        const bool even = heads_ % parts_ == 0 || rows_ <= run_length_;
        if (parts_ == 1 || heads_ >= (even ? turns_of_part / 2 : turns_of_part) * parts_) {
            run_heads();
        } else if (chunks_ <= 1 || heads_at_once() * blocks_of(rows_, group_rows<Arch, T>) >= 4 * parts_) {
            run_rows_of_heads();
        } else {
            run_chunks_of_heads();
        }
    }

private:
    using part = attention_part<Arch, T, Q, K, V>;
    using key_element = typename part::key_element;
    static constexpr std::size_t tile_rows = kernel::register_tile<Arch, T>::rows;

    /// Bytes of keys and values that second-level caches hold beside what else a run needs.
    static constexpr double largest_near_head = 1 << 20;

    /// How many times a part takes work, if there is so much: those that are done wait for one turn of another at most.
    static constexpr std::size_t turns_of_part = 8;

    /// A head's keys are packed once when several runs of `length` rows share them.
    std::size_t packed_elements(std::size_t length) const
    {
        if (rows_ <= length) {
            return 0;
        }
        return checked_product(key_blocks() * kernel::block_keys,
                               kernel::steps_of<typename part::worker::key_step>(plan_.head_size), "packed keys");
    }

    part make_part(std::size_t own_packed, scratch& memory) const
    {
        return {plan_, q_, k_, v_, with_values_, with_statistics_, own_packed, memory};
    }

    std::size_t bytes_of_part(std::size_t own_packed) const
    {
        scratch counting;
        make_part(own_packed, counting);
        return bytes_apart(counting.bytes());
    }

    std::size_t key_blocks() const { return blocks_of(plan_.keys, kernel::block_keys); }

    /// Packs a block of a head's keys, of which there may be none.
    void pack(std::size_t head, std::size_t block, key_element* packed) const
    {
        using key_step = typename part::worker::key_step;
        const std::size_t entry = head / plan_.key_heads;
        const std::size_t valid = plan_.valid_keys(entry);
        const std::size_t begin = block * kernel::block_keys;
        if (begin < valid) {
            kernel::pack_keys<key_step, T>(k_.row(entry, head % plan_.key_heads, begin), k_.row_stride(),
                                           std::min(kernel::block_keys, valid - begin), plan_.head_size,
                                           packed + begin * kernel::steps_of<key_step>(plan_.head_size));
        }
    }

    /// Heads of so few keys are over before the machine sees what is read next.
    static constexpr std::size_t small_head = 512;

    void announce(part& p, std::size_t head) const
    {
        const std::size_t entry = head / plan_.key_heads;
        const std::size_t key_head = head % plan_.key_heads;
        p.work.announce_head(q_.row(entry, key_head * plan_.group(), 0), q_.row_stride(), rows_,
                             k_.row(entry, key_head, 0), k_.row_stride(), v_.row(entry, key_head, 0),
                             plan_.valid_keys(entry));
    }

    /// Starts the run of a head's rows [begin, begin + length), or as many as there are.
    key_range start(part& p, std::size_t head, std::size_t begin, std::size_t length) const
    {
        return p.work.start(head / plan_.key_heads, head % plan_.key_heads, begin, std::min(begin + length, rows_));
    }

    static void fold(const part& p, const partial_rows<T>& total, const partial_rows<T>& chunk)
    {
        for (std::size_t r = 0; r < p.work.rows(); ++r) {
            kernel::merge<Arch>(total.row(r), chunk.row(r), p.work.padded_value_size());
        }
    }

    /// False when a row with finite weights has a result that is not: then values are not all finite, and those of
    /// excluded keys may be to blame, since 0 * inf is NaN; or finite values are so large that their sum is not.
    static bool trustworthy(const kernel::partial_row<T>& row, std::size_t size)
    {
        return kernel::has_nan_bits(*row.sum) || kernel::all_finite<Arch>(row.output, size);
    }

    /// Hands out the rows of a run whose results are in p.total. Those that are not trustworthy are computed once more
    /// by `attend_carefully()` before.
    template <class Attend>
    void finish_run(part& p, std::size_t head, const Attend& attend_carefully) const
    {
        const std::size_t rows = p.work.rows();
        const std::size_t size = p.work.padded_value_size();
        const auto finish = [&](std::size_t first, std::size_t last, T value_scale) {
            finish_({head / plan_.key_heads, p.work.places(), p.total, first, last, value_scale});
        };
        if (kernel::all_finite<Arch>(p.total.output(0), rows * size)) {
            finish(0, rows, T(1));
            return;
        }
        std::array<bool, long_run_rows<Arch, T>> again;
        bool any = false;
        for (std::size_t r = 0; r < rows; ++r) {
            again[r] = !trustworthy(p.total.row(r), size);
            any = any || again[r];
            if (!again[r]) {
                finish(r, r + 1, T(1));
            }
        }
        if (!any) {
            return;
        }
        attend_carefully();
        for (std::size_t r = 0; r < rows; ++r) {
            if (again[r]) {
                finish(r, r + 1, p.work.careful_scale());
            }
        }
    }

    /// Attention of the run that p has started over all keys it sees, into p.total.
    void attend_seen(part& p, const key_range& seen, const key_element* packed, bool carefully) const
    {
        if (seen.first >= seen.last) {
            p.total.clear(p.work.rows());
            return;
        }
        const std::size_t first = seen.first / kernel::chunk_keys;
        p.work.attend_chunk(first, packed, p.total, carefully);
        for (std::size_t chunk = first + 1; chunk * kernel::chunk_keys < seen.last; ++chunk) {
            p.work.attend_chunk(chunk, packed, p.chunk, carefully);
            fold(p, p.total, p.chunk);
        }
    }

    void attend_run(part& p, std::size_t head, const key_range& seen, const key_element* packed) const
    {
        attend_seen(p, seen, packed, false);
        finish_run(p, head, [&] { attend_seen(p, seen, packed, true); });
    }

    /// Each part takes whole heads.
    void run_heads() const
    {
        const std::size_t own_packed = packed_elements(run_length_);
        const std::size_t bytes = bytes_of_part(own_packed);
        const scratch_lease lease(checked_product(bytes, parts_, "scratch memory"));
        shared_work work(parts_);
        work.deal(heads_);
        run_parts(parts_, [&](std::size_t index) {
            scratch memory(lease.data() + index * bytes);
            part p = make_part(own_packed, memory);
            work.take(index, [&](std::size_t head, std::size_t end) {
                if (head + 1 < end && plan_.keys <= small_head) {
                    announce(p, head + 1);
                }
                for (std::size_t block = 0; p.packed && block < key_blocks(); ++block) {
                    pack(head, block, p.packed);
                }
                for (std::size_t row = 0; row < rows_; row += run_length_) {
                    attend_run(p, head, start(p, head, row, run_length_), p.packed);
                }
            });
        });
    }

    /// How many heads all parts work on together: one for each part, or more if their packed keys fit some megabytes.
    std::size_t heads_at_once() const
    {
        constexpr std::size_t enough = std::size_t{4} << 20;
        const std::size_t bytes = packed_elements(group_rows<Arch, T>) * sizeof(key_element);
        const std::size_t most = std::max(parts_, bytes == 0 ? heads_ : enough / bytes);
        return blocks_of(heads_, blocks_of(heads_, most)); // the last heads are then no fewer than others
    }

    /// All parts on the runs of several heads: their keys are packed first, then shared.
    void run_rows_of_heads() const
    {
        const std::size_t together = heads_at_once();
        // Enough runs for all turns, if groups of rows are not to be cut.
        const std::size_t groups = blocks_of(together * rows_ / (turns_of_part * parts_) + 1, group_rows<Arch, T>);
        const std::size_t length = std::min(groups * group_rows<Arch, T>, run_length_);
        const std::size_t elements = packed_elements(length);
        // A run takes several pieces of a head, but for the last runs; or all rows, with keys of its own.
        const std::size_t piece = elements == 0 ? length : group_rows<Arch, T>;
        const std::size_t pieces = blocks_of(rows_, piece);
        const std::size_t parts = std::min(parts_, together * pieces);
        const std::size_t bytes = bytes_of_part(0);
        scratch counting;
        counting.take<key_element>(together, elements);
        const std::size_t shared = counting.bytes();
        const scratch_lease lease(
            checked_sum(shared, checked_product(bytes, parts, "scratch memory"), "scratch memory"));
        scratch common(lease.data());
        shared_work work(parts);
        auto* const all_packed = elements == 0 ? nullptr : common.take<key_element>(together, elements);
        for (std::size_t first = 0; first < heads_; first += together) {
            const std::size_t heads = std::min(together, heads_ - first);
            const auto packed = [&](std::size_t head) {
                return all_packed ? all_packed + (head - first) * elements : nullptr;
            };
            if (all_packed) {
                work.deal(heads * key_blocks());
                run_parts(parts, [&](std::size_t index) {
                    work.take(index, [&](std::size_t i, std::size_t) {
                        pack(first + i / key_blocks(), i % key_blocks(), packed(first + i / key_blocks()));
                    });
                });
            }
            work.deal(heads * pieces);
            run_parts(parts, [&](std::size_t index) {
                scratch memory(lease.data() + shared + index * bytes);
                part p = make_part(0, memory);
                // One head after another, whose keys stay in the caches; from its last rows to the first, since causal
                // rows see more keys downwards and the last turns are best short.
                work.take_ranges(index, length / piece, [&](std::size_t i, std::size_t end) {
                    while (i < end) {
                        const std::size_t head = first + i / pieces;
                        const std::size_t count = std::min(end - i, pieces - i % pieces);
                        const std::size_t begin = (pieces - i % pieces - count) * piece;
                        attend_run(p, head, start(p, head, begin, count * piece), packed(head));
                        i += count;
                    }
                });
            });
        }
    }

    /// All parts on the chunks of keys of heads that have few rows. A wave of chunks is merged in order before the next
    /// begins, so that memory does not grow with the keys.
    void run_chunks_of_heads() const
    {
        const std::size_t runs = blocks_of(rows_, run_length_);
        const std::size_t all = checked_product(heads_ * runs, chunks_, "the chunks of all heads");
        const std::size_t wave = std::min(all, 4 * parts_);
        const std::size_t bytes = bytes_of_part(0);
        const std::size_t rows_at_once = std::min(rows_, run_length_);
        const std::size_t value_size = with_values_ ? v_.size() : 0;
        const std::size_t padded = blocks_of(value_size, kernel::lanes<Arch, T>) * kernel::lanes<Arch, T>;
        scratch counting;
        partial_rows<T>(rows_at_once, padded, with_statistics_, counting);
        const std::size_t bytes_of_result = counting.bytes();
        const std::size_t results = checked_product(bytes_of_result, wave, "scratch memory");
        const scratch_lease lease(
            checked_sum(results, checked_product(bytes, parts_ + 1, "scratch memory"), "scratch memory"));
        shared_work work(parts_);
        const auto result = [&](std::size_t i) {
            scratch memory(lease.data() + i * bytes_of_result);
            return partial_rows<T>(rows_at_once, padded, with_statistics_, memory);
        };
        const auto start_run = [&](part& p, std::size_t run) {
            return start(p, run / runs, run % runs * run_length_, run_length_);
        };
        const auto sees = [](const key_range& seen, std::size_t chunk) {
            return seen.first < seen.last && chunk * kernel::chunk_keys < seen.last &&
                   seen.first < (chunk + 1) * kernel::chunk_keys;
        };
        scratch memory(lease.data() + results + parts_ * bytes);
        part merged = make_part(0, memory);
        key_range seen{0, 0};
        for (std::size_t begin = 0; begin < all; begin += wave) {
            const std::size_t count = std::min(wave, all - begin);
            work.deal(count);
            run_parts(std::min(parts_, count), [&](std::size_t index) {
                scratch own(lease.data() + results + index * bytes);
                part p = make_part(0, own);
                work.take(index, [&](std::size_t i, std::size_t) {
                    const std::size_t chunk = (begin + i) % chunks_;
                    if (sees(start_run(p, (begin + i) / chunks_), chunk)) {
                        p.work.attend_chunk(chunk, nullptr, result(i), false);
                    }
                });
            });
            for (std::size_t i = 0; i < count; ++i) {
                const std::size_t run = (begin + i) / chunks_;
                const std::size_t chunk = (begin + i) % chunks_;
                if (i == 0 || chunk == 0) {
                    seen = start_run(merged, run);
                }
                if (chunk == 0) {
                    merged.total.clear(merged.work.rows());
                }
                if (sees(seen, chunk)) {
                    fold(merged, merged.total, result(i));
                }
                if (chunk + 1 == chunks_) {
                    finish_run(merged, run / runs, [&] { attend_seen(merged, seen, nullptr, true); });
                }
            }
        }
    }

    const attention_plan& plan_;
    const head_view<const Q>& q_;
    const head_view<const K>& k_;
    const head_view<const V>& v_;
    bool with_values_;
    bool with_statistics_;
    const row_receiver<T>& finish_;
    std::size_t rows_;
    std::size_t heads_;
    std::size_t chunks_;
    std::size_t run_length_; ///< rows
    std::size_t parts_;
};

/// Runs attention in T; without values there is no output, and v is not looked at.
template <class Arch, class T, class Q, class K, class V>
void drive_attention(const attention_plan& plan, const head_view<const Q>& q, const head_view<const K>& k,
                     const head_view<const V>& v, bool with_values, bool with_statistics, const row_receiver<T>& finish)
{
    if (plan.batch == 0 || plan.heads == 0 || plan.queries == 0) {
        return; // before scratch of whatever size an empty array claims to have
    }
    attention_driver<Arch, T, Q, K, V>(plan, q, k, v, with_values, with_statistics, finish).run();
}

} // namespace scaledot::inline SCALEDOT_BUILD::detail

#endif
