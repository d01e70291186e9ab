// SPDX-License-Identifier: BSD-3-Clause
// Writes score matrices: register tiles of rows against blocks of keys, rows shared out over threads.
#ifndef SCALEDOT_DETAIL_SCORES_DRIVER_HPP
#define SCALEDOT_DETAIL_SCORES_DRIVER_HPP

#include <scaledot/detail/attention_driver.hpp>
#include <scaledot/detail/attention_problem.hpp>
#include <scaledot/detail/config.hpp>
#include <scaledot/detail/score_tile.hpp>
#include <scaledot/detail/scratch.hpp>
#include <scaledot/detail/shared_work.hpp>
#include <scaledot/detail/view.hpp>
#include <scaledot/executor.hpp>
#include <scaledot/kernel/partial.hpp>
#include <scaledot/kernel/softmax.hpp>

#include <algorithm>
#include <cstddef>

namespace scaledot::inline SCALEDOT_BUILD::detail {

/// The softmax of a row of scores and its sink, in place; the sink's own share is dropped. row[keys] is scratch.
template <class Arch, class T>
void probabilities_of_row(T* row, std::size_t keys, double sink)
{
    const bool nothing = std::all_of(row, row + keys, [](T score) { return kernel::is_negative_infinity_bits(score); });
    if (nothing) {
        std::fill_n(row, keys, T(0));
        return;
    }
    const bool with_sink = !is_negative_infinity(sink);
    if (with_sink) {
        row[keys] = kernel::in_range<T>(sink);
    }
    const kernel::softmax_rows<T, T> rows(row, row, keys + (with_sink ? 1 : 0));
    kernel::softmax_along<Arch, T, T, T>(rows, kernel::exponent_scale<T>(1.0)).probabilities(nullptr, false);
}

/// One worker's share of a score matrix.
template <class Arch, class T, class Q, class K>
class scores_worker {
public:
    scores_worker(const attention_plan& plan, const head_view<const Q>& q, const head_view<const K>& k, scratch& memory)
        : plan_(plan), tile_(plan, q, k, memory),
          rows_(memory.take<T>(tile_rows, checked_sum(plan.keys, 1, "a row of scores")))
    {
    }

    /// Calls use(batch entry, place, scores) for rows [begin, end) of a key head's queries, at most run_rows. There are
    /// plan.keys scores of the stage (of probabilities: the masked ones), which may be overwritten, and room for a
    /// sink's.
    template <class Use>
    void visit(std::size_t head, std::size_t begin, std::size_t end, score_stage stage, const Use& use)
    {
        const std::size_t entry = head / plan_.key_heads;
        tile_.start(entry, head % plan_.key_heads, begin, end);
        const std::size_t stride = plan_.keys + 1;
        for (std::size_t row = 0; row < tile_.rows(); row += tile_rows) {
            const std::size_t count = std::min(tile_rows, tile_.rows() - row);
            fill_rows(row, count, entry, stage);
            for (std::size_t r = 0; r < count; ++r) {
                use(entry, tile_.places()[row + r], rows_ + r * stride);
            }
        }
    }

    /// Writes them.
    template <class O>
    void write(std::size_t head, std::size_t begin, std::size_t end, score_stage stage, const head_view<O>& out)
    {
        visit(head, begin, end, stage, [&](std::size_t entry, const row_place& place, T* scores) {
            if (stage == score_stage::probabilities) {
                probabilities_of_row<Arch>(scores, plan_.keys, plan_.sink(place.head));
            }
            std::transform(scores, scores + plan_.keys, out.row(entry, place.head, place.query),
                           [](T score) { return kernel::to_storage<O>(score); });
        });
    }

private:
    using tile = kernel::register_tile<Arch, T>;
    static constexpr std::size_t tile_rows = tile::rows;
    static constexpr std::size_t lanes = kernel::lanes<Arch, T>;

    void fill_rows(std::size_t row, std::size_t count, std::size_t entry, score_stage stage)
    {
        const std::size_t valid = plan_.valid_keys(entry);
        const std::size_t stride = plan_.keys + 1;
        for (std::size_t first = 0; first < plan_.keys; first += kernel::block_keys) {
            const std::size_t width = std::min(kernel::block_keys, plan_.keys - first);
            const std::size_t present = first < valid ? std::min(width, valid - first) : 0;
            if (present > 0) {
                const auto* packed = tile_.pack(first, first + present);
                for (std::size_t panel = 0; panel < present; panel += tile::width) {
                    tile_.multiply(row, 0, count, panel, present - panel,
                                   packed + panel * kernel::steps_of<typename decltype(tile_)::step>(plan_.head_size));
                }
            }
            for (std::size_t r = 0; r < count; ++r) {
                T* target = rows_ + r * stride + first;
                if (present > 0) {
                    tile_.finish(row + r, r, first, {0, blocks_of(present, lanes) * lanes}, stage);
                    std::copy_n(tile_.scores(r), present, target);
                }
                std::fill(target + present, target + width, kernel::negative_infinity<T>);
            }
        }
    }

    const attention_plan& plan_;
    score_tile<Arch, T, Q, K> tile_;
    T* rows_;
};

/// Calls work(worker, item) for each of `items`, which are shared out over threads; each thread has a worker of its
/// own. An item is some `rows` rows of scores.
template <class Arch, class Q, class K, class Work>
void share_rows_of_scores(const attention_plan& plan, const strided_view<const Q>& q, const strided_view<const K>& k,
                          std::size_t items, std::size_t rows, const Work& work)
{
    using worker = scores_worker<Arch, arithmetic_t<Q, K>, Q, K>;
    const double operations =
        static_cast<double>(rows) * static_cast<double>(plan.keys) * static_cast<double>(plan.head_size);
    const std::size_t parts = part_count(items, operations);
    const head_view<const Q> queries{q};
    const head_view<const K> key_rows{k};
    const auto make_worker = [&](scratch& memory) { return worker(plan, queries, key_rows, memory); };
    scratch counting;
    make_worker(counting);
    const std::size_t bytes = bytes_apart(counting.bytes());
    const scratch_lease lease(checked_product(bytes, parts, "scratch memory"));
    shared_work shared(parts);
    shared.deal(items);
    run_parts(parts, [&](std::size_t part) {
        scratch memory(lease.data() + part * bytes);
        worker w = make_worker(memory);
        shared.take(part, [&](std::size_t item, std::size_t) { work(w, item); });
    });
}

/// Writes the scores of a stage with the kernels of Arch.
template <class Arch, class O, class Q, class K>
void drive_scores(const attention_plan& plan, const strided_view<const Q>& q, const strided_view<const K>& k,
                  score_stage stage, const head_view<O>& out)
{
    constexpr std::size_t rows = run_rows<Arch, arithmetic_t<Q, K>>;
    const std::size_t rows_of_head = checked_product(plan.group(), plan.queries, "the rows of a head");
    const std::size_t runs = blocks_of(rows_of_head, rows);
    const std::size_t items =
        checked_product(checked_product(plan.batch, plan.key_heads, "batch * heads"), runs, "runs");
    share_rows_of_scores<Arch>(plan, q, k, items, rows, [&](auto& worker, std::size_t item) {
        const std::size_t begin = item % runs * rows;
        worker.write(item / runs, begin, std::min(begin + rows, rows_of_head), stage, out);
    });
}

/// Calls use(batch entry, place, visible keys, probabilities) for each row of attention, those of one query head in
/// order and on one thread, with the kernels of Arch.
template <class Arch, class Q, class K, class Use>
void drive_probabilities(const attention_plan& plan, const strided_view<const Q>& q, const strided_view<const K>& k,
                         const Use& use)
{
    using T = arithmetic_t<Q, K>;
    const std::size_t heads = checked_product(plan.batch, plan.key_heads, "batch * heads");
    const std::size_t rows = checked_product(plan.group(), plan.queries, "the rows of a head");
    share_rows_of_scores<Arch>(plan, q, k, heads, rows, [&](auto& worker, std::size_t head) {
        for (std::size_t begin = 0; begin < rows; begin += run_rows<Arch, T>) {
            worker.visit(head, begin, std::min(begin + run_rows<Arch, T>, rows), score_stage::probabilities,
                         [&](std::size_t entry, const row_place& place, T* scores) {
                             const auto excluded = std::count_if(scores, scores + plan.keys, [](T score) {
                                 return kernel::is_negative_infinity_bits(score);
                             });
                             probabilities_of_row<Arch>(scores, plan.keys, plan.sink(place.head));
                             use(entry, place, plan.keys - static_cast<std::size_t>(excluded), scores);
                         });
        }
    });
}

} // namespace scaledot::inline SCALEDOT_BUILD::detail

#endif
