// SPDX-License-Identifier: BSD-3-Clause
// Cuts attention over threads. The tree of partial results is fixed (kernel/partial.hpp), so the cut shows in no bit.
#ifndef SCALEDOT_DETAIL_ATTENTION_DRIVER_HPP
#define SCALEDOT_DETAIL_ATTENTION_DRIVER_HPP

#include <scaledot/detail/attention_problem.hpp>
#include <scaledot/detail/attention_tile.hpp>
#include <scaledot/detail/config.hpp>
#include <scaledot/detail/partial_rows.hpp>
#include <scaledot/detail/scratch.hpp>
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

/// What one thread of a call works with.
template <class Arch, class T, class Q, class K, class V>
struct attention_part {
    using worker = attention_worker<Arch, T, Q, K, V>;
    using key_element = typename worker::key_element;

    worker work;
    partial_rows<T> total;
    partial_rows<T> chunk;
    key_element* packed;

    /// `packed_elements` are those of a packed head, where the part has keys of its own.
    attention_part(const attention_plan& plan, head_view<const Q> q, head_view<const K> k, head_view<const V> v,
                   bool with_values, bool with_statistics, std::size_t packed_elements, scratch& memory)
        : work(plan, q, k, v, with_values, with_statistics, memory),
          total(run_rows<Arch, T>, work.padded_value_size(), with_statistics, memory),
          chunk(run_rows<Arch, T>, work.padded_value_size(), with_statistics, memory),
          packed(packed_elements == 0 ? nullptr : memory.take<key_element>(packed_elements, 1))
    {
    }
};

/// Where finished rows go: a reference to a callable (batch entry, place, partial row), called once for each row, from
/// several threads at once. The driver is compiled once for all of them.
template <class T>
class row_receiver {
public:
    template <class Finish>
    explicit row_receiver(const Finish& finish)
        : finish_(&finish),
          call_([](const void* callable, std::size_t entry, const row_place& place, const kernel::partial_row<T>& row) {
              (*static_cast<const Finish*>(callable))(entry, place, row);
          })
    {
    }

    void operator()(std::size_t entry, const row_place& place, const kernel::partial_row<T>& row) const
    {
        call_(finish_, entry, place, row);
    }

private:
    const void* finish_;
    void (*call_)(const void*, std::size_t, const row_place&, const kernel::partial_row<T>&);
};

template <class Arch, class T, class Q, class K, class V>
class attention_driver {
public:
    attention_driver(const attention_plan& plan, head_view<const Q> q, head_view<const K> k, head_view<const V> v,
                     bool with_values, bool with_statistics, const row_receiver<T>& finish)
        : plan_(plan), q_(q), k_(k), v_(v), with_values_(with_values), with_statistics_(with_statistics),
          finish_(finish), rows_(checked_product(plan.group(), plan.queries, "the rows of a head")),
          heads_(checked_product(plan.batch, plan.key_heads, "batch * heads")),
          runs_(blocks_of(rows_, run_rows<Arch, T>)), chunks_(blocks_of(plan.keys, kernel::chunk_keys))
    {
        const std::size_t width = plan.head_size + (with_values ? v.size() : 0);
        const double work_of_row = static_cast<double>(plan.keys) * static_cast<double>(width) + 64;
        parts_ =
            std::max<std::size_t>(part_count(checked_product(heads_, rows_, "the rows of all heads"), work_of_row), 1);
    }

    void run() const
    {
        if (rows_ == 0 || heads_ == 0) {
            return;
        }
        if (parts_ == 1 || heads_ % parts_ == 0 || heads_ >= 4 * parts_) {
            run_heads();
        } else if (runs_ >= parts_ || chunks_ <= 1) {
            run_each_head_by_rows();
        } else {
            run_each_head_by_chunks();
        }
    }

private:
    using part = attention_part<Arch, T, Q, K, V>;
    using key_element = typename part::key_element;

    /// A head's keys are packed once when several runs of rows share them.
    std::size_t packed_elements() const
    {
        if (runs_ <= 1) {
            return 0;
        }
        const std::size_t keys = blocks_of(plan_.keys, kernel::block_keys) * kernel::block_keys;
        return checked_product(keys, kernel::steps_of<typename part::worker::key_step>(plan_.head_size), "packed keys");
    }

    part make_part(std::size_t own_packed, scratch& memory) const
    {
        return {plan_, q_, k_, v_, with_values_, with_statistics_, own_packed, memory};
    }

    std::size_t bytes_of_part(std::size_t own_packed) const
    {
        scratch counting;
        make_part(own_packed, counting);
        return counting.bytes();
    }

    /// Packs blocks first, first + step, ... of a head.
    void pack(std::size_t head, std::size_t first, std::size_t step, key_element* packed) const
    {
        const std::size_t entry = head / plan_.key_heads;
        const std::size_t valid = plan_.valid_keys(entry);
        const std::size_t blocks = blocks_of(valid, kernel::block_keys);
        using key_step = typename part::worker::key_step;
        for (std::size_t block = first; block < blocks; block += step) {
            const std::size_t begin = block * kernel::block_keys;
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
        p.work.announce(q_.row(entry, key_head * plan_.group(), 0), q_.row_stride(), rows_, k_.row(entry, key_head, 0),
                        k_.row_stride(), v_.row(entry, key_head, 0), plan_.valid_keys(entry));
    }

    key_range start(part& p, std::size_t head, std::size_t run) const
    {
        const std::size_t begin = run * run_rows<Arch, T>;
        return p.work.start(head / plan_.key_heads, head % plan_.key_heads, begin,
                            std::min(begin + run_rows<Arch, T>, rows_));
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

    /// Computes a run with `attend(carefully)`: once, and once more, with care, for the rows that need it.
    template <class Attend>
    void attend_and_finish(part& p, std::size_t head, const Attend& attend) const
    {
        attend(false);
        std::array<bool, run_rows<Arch, T>> again;
        bool any = false;
        for (std::size_t r = 0; r < p.work.rows(); ++r) {
            const auto row = p.total.row(r);
            again[r] = !trustworthy(row, p.work.padded_value_size());
            any = any || again[r];
            if (!again[r]) {
                finish_(head / plan_.key_heads, p.work.place(r), row);
            }
        }
        if (!any) {
            return;
        }
        attend(true);
        for (std::size_t r = 0; r < p.work.rows(); ++r) {
            if (again[r]) {
                auto row = p.total.row(r);
                row.value_scale = p.work.careful_scale();
                finish_(head / plan_.key_heads, p.work.place(r), row);
            }
        }
    }

    void attend_run(part& p, std::size_t head, std::size_t run, const key_element* packed) const
    {
        const key_range seen = start(p, head, run);
        const std::size_t first = seen.first / kernel::chunk_keys;
        attend_and_finish(p, head, [&](bool carefully) {
            if (seen.first >= seen.last) {
                p.total.clear(p.work.rows());
                return;
            }
            p.work.attend_chunk(first, packed, p.total, carefully);
            for (std::size_t chunk = first + 1; chunk * kernel::chunk_keys < seen.last; ++chunk) {
                p.work.attend_chunk(chunk, packed, p.chunk, carefully);
                fold(p, p.total, p.chunk);
            }
        });
    }

    /// Each part takes whole heads.
    void run_heads() const
    {
        const std::size_t own_packed = packed_elements();
        const std::size_t bytes = bytes_of_part(own_packed);
        const scratch_lease lease(checked_product(bytes, parts_, "scratch memory"));
        run_ranges(heads_, parts_, [&](std::size_t index, std::size_t begin, std::size_t end) {
            scratch memory(lease.data() + index * bytes);
            part p = make_part(own_packed, memory);
            for (std::size_t head = begin; head < end; ++head) {
                if (head + 1 < end && plan_.keys <= small_head) {
                    announce(p, head + 1);
                }
                if (p.packed) {
                    pack(head, 0, 1, p.packed);
                }
                for (std::size_t run = 0; run < runs_; ++run) {
                    attend_run(p, head, run, p.packed);
                }
            }
        });
    }

    /// All parts on one head after another, each on every so-manieth run of rows: causal rows grow longer downwards.
    void run_each_head_by_rows() const
    {
        const std::size_t bytes = bytes_of_part(0);
        scratch counting;
        counting.take<key_element>(packed_elements(), 1);
        const std::size_t shared = counting.bytes();
        const scratch_lease lease(
            checked_sum(shared, checked_product(bytes, parts_, "scratch memory"), "scratch memory"));
        auto* const packed =
            packed_elements() == 0 ? nullptr : scratch(lease.data()).template take<key_element>(packed_elements(), 1);
        for (std::size_t head = 0; head < heads_; ++head) {
            if (packed) {
                run_parts(parts_, [&](std::size_t index) { pack(head, index, parts_, packed); });
            }
            run_parts(std::min(parts_, runs_), [&](std::size_t index) {
                scratch memory(lease.data() + shared + index * bytes);
                part p = make_part(0, memory);
                for (std::size_t run = index; run < runs_; run += parts_) {
                    attend_run(p, head, run, packed);
                }
            });
        }
    }

    /// All parts on one head of few rows after another, each on some chunks of the keys. A wave of chunks is merged in
    /// order before the next begins, so that memory does not grow with the keys.
    void run_each_head_by_chunks() const
    {
        const std::size_t wave = std::min(chunks_, 4 * parts_);
        const std::size_t bytes = bytes_of_part(0);
        const std::size_t rows_at_once = std::min(rows_, run_rows<Arch, T>);
        const std::size_t value_size = with_values_ ? v_.size() : 0;
        const std::size_t padded = blocks_of(value_size, kernel::lanes<Arch, T>) * kernel::lanes<Arch, T>;
        scratch counting;
        partial_rows<T>(rows_at_once, padded, with_statistics_, counting);
        const std::size_t bytes_of_result = counting.bytes();
        const std::size_t results = checked_product(bytes_of_result, wave, "scratch memory");
        const scratch_lease lease(
            checked_sum(results, checked_product(bytes, parts_ + 1, "scratch memory"), "scratch memory"));
        const auto result = [&](std::size_t i) {
            scratch memory(lease.data() + i * bytes_of_result);
            return partial_rows<T>(rows_at_once, padded, with_statistics_, memory);
        };
        for (std::size_t item = 0; item < heads_ * runs_; ++item) {
            const std::size_t head = item / runs_;
            const std::size_t run = item % runs_;
            scratch memory(lease.data() + results + parts_ * bytes);
            part all = make_part(0, memory);
            const key_range seen = start(all, head, run);
            const std::size_t end = seen.first < seen.last ? blocks_of(seen.last, kernel::chunk_keys) : 0;
            attend_and_finish(all, head, [&](bool carefully) {
                all.total.clear(all.work.rows());
                for (std::size_t first = seen.first / kernel::chunk_keys; first < end; first += wave) {
                    const std::size_t count = std::min(wave, end - first);
                    run_parts(std::min(parts_, count), [&](std::size_t index) {
                        scratch own(lease.data() + results + index * bytes);
                        part p = make_part(0, own);
                        start(p, head, run);
                        for (std::size_t i = index; i < count; i += parts_) {
                            p.work.attend_chunk(first + i, nullptr, result(i), carefully);
                        }
                    });
                    for (std::size_t i = 0; i < count; ++i) {
                        fold(all, all.total, result(i));
                    }
                }
            });
        }
    }

    const attention_plan& plan_;
    head_view<const Q> q_;
    head_view<const K> k_;
    head_view<const V> v_;
    bool with_values_;
    bool with_statistics_;
    const row_receiver<T>& finish_;
    std::size_t rows_;
    std::size_t heads_;
    std::size_t runs_;
    std::size_t chunks_;
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
