// SPDX-License-Identifier: BSD-3-Clause
// Cuts attention over threads. The tree of partial results is fixed (kernel/partial.hpp), so the cut shows in no bit.
#ifndef SCALEDOT_DETAIL_ATTENTION_DRIVER_HPP
#define SCALEDOT_DETAIL_ATTENTION_DRIVER_HPP

#include <scaledot/detail/attention_problem.hpp>
#include <scaledot/detail/attention_tile.hpp>
#include <scaledot/detail/config.hpp>
#include <scaledot/executor.hpp>
#include <scaledot/kernel/diagnostics.hpp>
#include <scaledot/kernel/partial.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

namespace scaledot::inline SCALEDOT_BUILD::detail {

constexpr std::size_t blocks_of(std::size_t count, std::size_t size)
{
    return count / size + (count % size != 0 ? 1 : 0);
}

/// Where finished rows go. finish(place, entry, partial row) is called once for each row.
template <class Arch, class T, class Q, class K, class V, class Finish>
class attention_driver {
public:
    // A name of its own: xtl's half among a vector's template arguments would offer half's operators to the arithmetic
    // of the vector's iterators, and make it ambiguous.
    struct worker : attention_worker<Arch, T, Q, K, V> {
        using attention_worker<Arch, T, Q, K, V>::attention_worker;
    };

    attention_driver(const attention_plan& plan, head_view<const Q> q, head_view<const K> k, head_view<const V> v,
                     bool with_values, bool with_statistics, const Finish& finish)
        : plan_(plan), k_(k), finish_(finish), rows_(checked_product(plan.group(), plan.queries, "the rows of a head")),
          runs_(blocks_of(rows_, run_rows<Arch, T>)), chunks_(blocks_of(plan.keys, kernel::chunk_keys)),
          with_statistics_(with_statistics)
    {
        const std::size_t heads = checked_product(plan.batch, plan.key_heads, "batch * heads");
        const std::size_t width = plan.head_size + (with_values ? v.size() : 0);
        const double work_of_row = static_cast<double>(plan.keys) * static_cast<double>(width) + 64;
        const std::size_t threads =
            part_count(checked_product(heads, rows_, "the rows of all heads"), std::max(work_of_row, 1.0));
        const std::size_t parts = std::max<std::size_t>(threads, 1);
        workers_.reserve(parts);
        totals_.reserve(parts);
        chunk_results_.reserve(parts);
        for (std::size_t i = 0; i < parts; ++i) {
            workers_.emplace_back(plan, q, k, v, with_values, with_statistics);
            totals_.emplace_back(run_rows<Arch, T>, workers_[i].padded_value_size(), with_statistics);
            chunk_results_.emplace_back(run_rows<Arch, T>, workers_[i].padded_value_size(), with_statistics);
        }
        whole_heads_ = parts == 1 || heads % parts == 0 || heads >= 4 * parts;
    }

    void run()
    {
        const std::size_t heads = plan_.batch * plan_.key_heads;
        if (rows_ == 0 || heads == 0) {
            return;
        }
        if (whole_heads_) {
            run_heads(heads);
            return;
        }
        for (std::size_t head = 0; head < heads; ++head) {
            if (runs_ >= workers_.size() || chunks_ <= 1) {
                run_one_head_by_rows(head);
            } else {
                run_one_head_by_chunks(head);
            }
        }
    }

private:
    /// A head's keys are packed once when several runs of rows share them.
    bool packs_head() const { return runs_ > 1; }

    aligned_buffer<T> packed_head() const
    {
        const std::size_t keys = blocks_of(plan_.keys, kernel::block_keys) * kernel::block_keys;
        return packs_head() ? aligned_buffer<T>(checked_product(keys, plan_.head_size, "packed keys"))
                            : aligned_buffer<T>();
    }

    /// Packs blocks first, first + step, ... of a head.
    void pack(std::size_t head, std::size_t first, std::size_t step, T* packed) const
    {
        const std::size_t entry = head / plan_.key_heads;
        const std::size_t valid = plan_.valid_keys(entry);
        const std::size_t blocks = blocks_of(valid, kernel::block_keys);
        for (std::size_t block = first; block < blocks; block += step) {
            const std::size_t begin = block * kernel::block_keys;
            kernel::pack_keys<Arch>(k_.row(entry, head % plan_.key_heads, begin), k_.row_stride(),
                                    std::min(kernel::block_keys, valid - begin), plan_.head_size,
                                    packed + begin * plan_.head_size);
        }
    }

    key_range start(worker& w, std::size_t head, std::size_t run) const
    {
        const std::size_t begin = run * run_rows<Arch, T>;
        return w.start(head / plan_.key_heads, head % plan_.key_heads, begin,
                       std::min(begin + run_rows<Arch, T>, rows_));
    }

    void finish(worker& w, std::size_t head, const partial_rows<T>& total) const
    {
        for (std::size_t r = 0; r < w.rows(); ++r) {
            finish_(head / plan_.key_heads, w.place(r), total.row(r));
        }
    }

    static void fold(worker& w, const partial_rows<T>& total, const partial_rows<T>& chunk)
    {
        for (std::size_t r = 0; r < w.rows(); ++r) {
            kernel::merge<Arch>(total.row(r), chunk.row(r), w.padded_value_size());
        }
    }

    void attend_run(std::size_t part, std::size_t head, std::size_t run, const T* packed)
    {
        worker& w = workers_[part];
        const key_range seen = start(w, head, run);
        totals_[part].clear(w.rows());
        for (std::size_t chunk = seen.first / kernel::chunk_keys; chunk * kernel::chunk_keys < seen.last; ++chunk) {
            w.attend_chunk(chunk, packed, chunk_results_[part]);
            fold(w, totals_[part], chunk_results_[part]);
        }
        finish(w, head, totals_[part]);
    }

    /// Each worker takes whole heads.
    void run_heads(std::size_t heads)
    {
        std::vector<aligned_buffer<T>> packed;
        for (std::size_t i = 0; i < workers_.size(); ++i) {
            packed.push_back(packed_head());
        }
        run_ranges(heads, workers_.size(), [&](std::size_t part, std::size_t begin, std::size_t end) {
            for (std::size_t head = begin; head < end; ++head) {
                if (packs_head()) {
                    pack(head, 0, 1, packed[part].data());
                }
                for (std::size_t run = 0; run < runs_; ++run) {
                    attend_run(part, head, run, packed[part].data());
                }
            }
        });
    }

    /// All workers on one head, each on every so-manieth run of rows: causal rows grow longer downwards.
    void run_one_head_by_rows(std::size_t head)
    {
        const std::size_t parts = workers_.size();
        const auto packed = packed_head();
        if (packs_head()) {
            run_parts(parts, [&](std::size_t part) { pack(head, part, parts, packed.data()); });
        }
        run_parts(std::min(parts, runs_), [&](std::size_t part) {
            for (std::size_t run = part; run < runs_; run += parts) {
                attend_run(part, head, run, packed.data());
            }
        });
    }

    /// All workers on one head of few rows, each on some chunks of the keys. A wave of chunks is merged in order before
    /// the next begins, so that memory does not grow with the keys.
    void run_one_head_by_chunks(std::size_t head)
    {
        const std::size_t parts = workers_.size();
        const std::size_t wave = std::min(chunks_, 4 * parts);
        std::vector<partial_rows<T>> results;
        results.reserve(wave);
        for (std::size_t i = 0; i < wave; ++i) {
            results.emplace_back(std::min(rows_, run_rows<Arch, T>), workers_[0].padded_value_size(), with_statistics_);
        }
        for (std::size_t run = 0; run < runs_; ++run) {
            const key_range seen = start(workers_[0], head, run);
            const std::size_t end = seen.first < seen.last ? blocks_of(seen.last, kernel::chunk_keys) : 0;
            totals_[0].clear(workers_[0].rows());
            for (std::size_t first = seen.first / kernel::chunk_keys; first < end; first += wave) {
                const std::size_t count = std::min(wave, end - first);
                run_parts(std::min(parts, count), [&](std::size_t part) {
                    start(workers_[part], head, run);
                    for (std::size_t i = part; i < count; i += parts) {
                        workers_[part].attend_chunk(first + i, nullptr, results[i]);
                    }
                });
                for (std::size_t i = 0; i < count; ++i) {
                    fold(workers_[0], totals_[0], results[i]);
                }
            }
            finish(workers_[0], head, totals_[0]);
        }
    }

    const attention_plan& plan_;
    head_view<const K> k_;
    const Finish& finish_;
    std::size_t rows_;
    std::size_t runs_;
    std::size_t chunks_;
    bool with_statistics_;
    bool whole_heads_;
    std::vector<worker> workers_;
    std::vector<partial_rows<T>> totals_;
    std::vector<partial_rows<T>> chunk_results_;
};

/// Writes a finished row: output / sum and its lse, with the sink in both.
template <class Arch, class T, class O>
double finish_row(const kernel::partial_row<T>& row, double sink, std::size_t size, O* output)
{
    const bool no_key = kernel::is_negative_infinity_bits(*row.maximum);
    const bool no_sink = is_negative_infinity(sink);
    if (no_key) {
        std::fill_n(output, size, kernel::to_storage<O>(T(0)));
        return sink;
    }
    double maximum = static_cast<double>(*row.maximum);
    double sum = static_cast<double>(*row.sum);
    double kept = 1;
    if (is_nan(maximum) || is_nan(sink) || is_positive_infinity(sink)) {
        maximum = sum = kept = kernel::quiet_nan<double>();
    } else if (!no_sink) {
        const double largest = std::max(maximum, sink);
        kept = std::exp(maximum - largest);
        sum = sum * kept + std::exp(sink - largest);
        maximum = largest;
    }
    const T factor = static_cast<T>(kept);
    const T divisor = static_cast<T>(sum);
    for (std::size_t c = 0; c < size; ++c) {
        const T value = no_sink ? row.output[c] : row.output[c] * factor;
        output[c] = kernel::to_storage<O>(value / divisor);
    }
    return is_nan(maximum) ? maximum : maximum + std::log(sum);
}

} // namespace scaledot::inline SCALEDOT_BUILD::detail

#endif
