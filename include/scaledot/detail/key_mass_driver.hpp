// SPDX-License-Identifier: BSD-3-Clause
// Visits every row of probabilities of attention, a tile of rows at a time: what needs each row's denominator before it
// can look at a key.
#ifndef SCALEDOT_DETAIL_KEY_MASS_DRIVER_HPP
#define SCALEDOT_DETAIL_KEY_MASS_DRIVER_HPP

#include <scaledot/detail/attention_call.hpp>
#include <scaledot/detail/attention_problem.hpp>
#include <scaledot/detail/config.hpp>
#include <scaledot/detail/scores_driver.hpp>
#include <scaledot/detail/view.hpp>
#include <scaledot/kernel/partial.hpp>

#include <algorithm>
#include <cstddef>

namespace scaledot::inline SCALEDOT_BUILD::detail {

/// An array of q's kind, [batch..., heads, keys].
template <class Q, class T, class K>
auto make_key_output(const Q& q, const K& k)
{
    require_attention_array("q", q);
    require_attention_array("k", k);
    constexpr std::size_t rank = rank_of<Q>;
    shape_vector shape = without_axis(shape_vector(q.shape().begin(), q.shape().end()), q.dimension() - 1);
    shape[shape.size() - 1] = static_cast<std::size_t>(k.shape()[k.dimension() - 2]);
    return make_like < Q, T, rank == dynamic_rank ? rank : rank - 1 > (shape);
}

/// Calls use(plan, entry, place, visible keys, probabilities) for each row of attention, those of one query head in
/// order and on one thread.
template <class Q, class K, class Use>
void visit_probabilities(const Q& q, const K& k, const attention_options& options, const Use& use)
{
    check_attention_type<Q>();
    check_attention_type<K>();
    using Arch = native_architecture;
    using T = arithmetic_t<element_of<Q>, element_of<K>>;
    input<Q> query(q, reading::later);
    input<K> key(k, reading::later);
    const attention_plan plan = plan_attention(query.view(), key.view(), options);
    if (plan.batch == 0 || plan.heads == 0 || plan.queries == 0) {
        return;
    }
    query.read();
    key.read(options.key_lengths);

    const std::size_t heads = checked_product(plan.batch, plan.key_heads, "batch * heads");
    const std::size_t rows = checked_product(plan.group(), plan.queries, "the rows of a head");
    share_rows_of_scores(plan, query.view(), key.view(), heads, rows, [&](auto& worker, std::size_t head) {
        for (std::size_t begin = 0; begin < rows; begin += run_rows<Arch, T>) {
            worker.visit(head, begin, std::min(begin + run_rows<Arch, T>, rows), score_stage::probabilities,
                         [&](std::size_t entry, const row_place& place, T* scores) {
                             const auto excluded = std::count_if(scores, scores + plan.keys, [](T score) {
                                 return kernel::is_negative_infinity_bits(score);
                             });
                             probabilities_of_row<Arch>(scores, plan.keys, plan.sink(place.head));
                             use(plan, entry, place, plan.keys - static_cast<std::size_t>(excluded), scores);
                         });
        }
    });
}

} // namespace scaledot::inline SCALEDOT_BUILD::detail

#endif
