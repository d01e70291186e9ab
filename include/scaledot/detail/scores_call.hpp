// SPDX-License-Identifier: BSD-3-Clause
// From the arguments of attention_scores, key_mass and share_of_keys_below to the driver, here or in the kernels of
// scaledot::dispatch: checks, outputs, what crosses.
#ifndef SCALEDOT_DETAIL_SCORES_CALL_HPP
#define SCALEDOT_DETAIL_SCORES_CALL_HPP

#include <scaledot/attention_options.hpp>
#include <scaledot/detail/attention_call.hpp>
#include <scaledot/detail/attention_problem.hpp>
#include <scaledot/detail/compiled_calls.hpp>
#include <scaledot/detail/config.hpp>
#include <scaledot/detail/element.hpp>
#include <scaledot/detail/overlap.hpp>
#include <scaledot/detail/score_tile.hpp>
#include <scaledot/detail/scores_driver.hpp>
#include <scaledot/detail/view.hpp>

#include <cstddef>
#include <type_traits>

namespace scaledot::inline SCALEDOT_BUILD::detail {

template <class Q, class K>
auto make_score_output(const Q& q, const K& k)
{
    require_attention_array("q", q);
    require_attention_array("k", k);
    shape_vector shape(q.shape().begin(), q.shape().end());
    shape[shape.size() - 1] = static_cast<std::size_t>(k.shape()[k.dimension() - 2]);
    return make_like<Q, element_of<Q>>(shape);
}

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

/// Writes the scores of a stage with the widest kernels there are.
template <class O, class Q, class K>
void run_scores(const attention_plan& plan, const strided_view<const Q>& q, const strided_view<const K>& k,
                score_stage stage, const head_view<O>& out)
{
    if constexpr (scores_are_compiled<O, Q, K>) {
        compiled::selected_kernels().scores({compiled_plan(plan), array_of(q), array_of(k), array_of(out.view),
                                             static_cast<int>(stage), threads_of_caller()});
    } else {
        drive_scores<native_architecture>(plan, q, k, stage, out);
    }
}

/// Visits the rows of probabilities with the widest kernels there are: drive_probabilities.
template <class Q, class K, class Use>
void run_probabilities(const attention_plan& plan, const strided_view<const Q>& q, const strided_view<const K>& k,
                       const Use& use)
{
    if constexpr (attention_is_compiled<Q, K, K>) {
        const auto pass_on = [](const void* context, const compiled::probability_row& row) {
            (*static_cast<const Use*>(context))(row.entry, row_place{row.head, row.query}, row.visible,
                                                static_cast<const arithmetic_t<Q, K>*>(row.probabilities));
        };
        compiled::selected_kernels().probabilities(
            {compiled_plan(plan), array_of(q), array_of(k), {&use, pass_on}, threads_of_caller()});
    } else {
        drive_probabilities<native_architecture>(plan, q, k, use);
    }
}

template <class Out, class Q, class K>
void scores_into(Out& out, const Q& q, const K& k, score_stage stage, const attention_options& options)
{
    check_attention_type<Q>();
    check_attention_type<K>();
    check_attention_type<Out>();
    input<Q> query(q, reading::later);
    input<K> key(k, reading::later);
    const attention_plan plan = plan_attention(query.view(), key.view(), options);
    output<std::remove_reference_t<Out>> result(out);
    shape_vector expected = query.view().shape;
    expected[expected.size() - 1] = plan.keys;
    require_shape("out", result.view().shape, expected, "[batch..., heads, queries, keys]");
    require_distinct_elements(view_of(out));
    require_apart(out, q, "q");
    require_apart(out, k, "k");
    require_apart_from_options(out, options);
    query.read();
    key.read(options.key_lengths);

    run_scores(plan, query.view(), key.view(), stage, head_view<element_of<Out>>{result.view()});
    result.commit();
}

/// Calls use(plan, batch entry, place, visible keys, probabilities) for each row of attention, those of one query head
/// in order and on one thread.
template <class Q, class K, class Use>
void visit_probabilities(const Q& q, const K& k, const attention_options& options, const Use& use)
{
    check_attention_type<Q>();
    check_attention_type<K>();
    input<Q> query(q, reading::later);
    input<K> key(k, reading::later);
    const attention_plan plan = plan_attention(query.view(), key.view(), options);
    if (plan.batch == 0 || plan.heads == 0 || plan.queries == 0) {
        return;
    }
    query.read();
    key.read(options.key_lengths);
    run_probabilities(plan, query.view(), key.view(),
                      [&](std::size_t entry, const row_place& place, std::size_t visible, const auto* probabilities) {
                          use(plan, entry, place, visible, probabilities);
                      });
}

} // namespace scaledot::inline SCALEDOT_BUILD::detail

#endif
