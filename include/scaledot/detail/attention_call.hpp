// SPDX-License-Identifier: BSD-3-Clause
// From the arguments of attention to the driver: checks, outputs, and what a finished row writes.
#ifndef SCALEDOT_DETAIL_ATTENTION_CALL_HPP
#define SCALEDOT_DETAIL_ATTENTION_CALL_HPP

#include <scaledot/attention_options.hpp>
#include <scaledot/detail/attention_problem.hpp>
#include <scaledot/detail/attention_run.hpp>
#include <scaledot/detail/config.hpp>
#include <scaledot/detail/overlap.hpp>
#include <scaledot/detail/view.hpp>
#include <scaledot/kernel/scores.hpp>

#include <cstddef>
#include <type_traits>
#include <utility>

namespace scaledot::inline SCALEDOT_BUILD::detail {

/// Stands for an output that was not asked for.
struct no_output {};

/// The type of lse and statistics.
template <class... E>
using statistic_t = arithmetic_t<element_of<E>...>;

/// q's shape with another last axis, or without it.
template <class T>
shape_vector row_shape(const strided_view<T>& q)
{
    return without_axis(q.shape, q.rank() - 1);
}

/// Checks an array that the shape of an output is made from.
template <class E>
void require_attention_array(const char* argument, const E& array)
{
    check_attention_type<E>();
    if (array.dimension() < 2) {
        reject(text("the rank of ", argument), array.dimension(), "2 or more: [..., heads, length, head size]");
    }
}

template <class Q, class V>
auto make_attention_output(const Q& q, const V& v)
{
    require_attention_array("q", q);
    require_attention_array("v", v);
    shape_vector shape(q.shape().begin(), q.shape().end());
    shape[shape.size() - 1] = static_cast<std::size_t>(v.shape()[v.dimension() - 1]);
    return make_like<Q, element_of<Q>>(shape);
}

template <class Q, class T>
auto make_row_output(const Q& q)
{
    require_attention_array("q", q);
    constexpr std::size_t rank = rank_of<Q>;
    const shape_vector shape(q.shape().begin(), q.shape().end());
    return make_like < Q, T, rank == dynamic_rank ? rank : rank - 1 > (without_axis(shape, shape.size() - 1));
}

/// Offset of a row's element in a view [batch..., heads, queries].
template <class T>
T* row_element(const strided_view<T>& view, const attention_plan& plan, std::size_t entry, const row_place& place)
{
    const std::size_t heads = view.rank() > 1 ? plan.heads : 1;
    const std::size_t flat = (entry * heads + place.head) * plan.queries + place.query;
    return view.data + offset_of(view, flat, 0);
}

/// Throws when an output shares elements with what the options refer to.
template <class Out>
void require_apart_from_options(Out& out, const attention_options& options, const char* name = "out")
{
    const auto written = view_of(out);
    options.mask.visit([&](const auto& mask) { require_disjoint(written, mask, "mask", name); });
    const auto require_apart_from_line = [&](const auto& values, const char* argument) {
        using value = typename std::decay_t<decltype(values)>::element_type;
        const strided_view<value> line{values.data(), {values.size()}, {1}};
        require_disjoint(written, line, argument, name);
    };
    options.sinks.visit([&](const auto& sinks) { require_apart_from_line(sinks, "sinks"); });
    require_apart_from_line(options.key_lengths, "key_lengths");
}

template <class Out, class Lse, class Q, class K, class V>
void attend_into(Out& out, Lse&& lse, const Q& q, const K& k, const V& v, const attention_options& options)
{
    check_attention_type<Q>();
    check_attention_type<K>();
    check_attention_type<V>();
    check_attention_type<Out>();
    constexpr bool with_lse = !std::is_same_v<std::decay_t<Lse>, no_output>;
    input<Q> query(q, reading::later);
    input<K> key(k, reading::later);
    input<V> value(v, reading::later);
    const attention_plan plan = plan_attention(query.view(), key.view(), options);
    check_values(key.view(), value.view());

    output<std::remove_reference_t<Out>> result(out);
    shape_vector expected = query.view().shape;
    expected[expected.size() - 1] = value.view().extent(-1);
    require_shape("out", result.view().shape, expected, "[batch..., heads, queries, value size]");
    require_distinct_elements(view_of(out));
    require_apart(out, q, "q");
    require_apart(out, k, "k");
    require_apart(out, v, "v");
    require_apart_from_options(out, options);

    const head_view<element_of<Out>> rows{result.view()};
    const auto run = [&](const row_report& report) { // once all is checked
        query.read();
        key.read(options.key_lengths);
        value.read(options.key_lengths);
        run_attention(plan, query.view(), key.view(), value.view(), &rows, false, report);
    };
    if constexpr (with_lse) {
        static_assert(std::is_floating_point_v<element_of<Lse>>, "scaledot: lse needs float or double elements");
        output<std::remove_reference_t<Lse>> sums(lse);
        require_shape("lse", sums.view().shape, row_shape(query.view()), "[batch..., heads, queries]");
        require_distinct_elements(view_of(lse), "lse");
        require_apart(lse, q, "q", "lse");
        require_apart(lse, k, "k", "lse");
        require_apart(lse, v, "v", "lse");
        require_apart(lse, out, "out", "lse");
        require_apart_from_options(lse, options, "lse");
        const auto write = [&](std::size_t entry, const row_place& place, const kernel::row_total& total,
                               const kernel::score_statistics*) {
            *row_element(sums.view(), plan, entry, place) = kernel::in_range<element_of<Lse>>(kernel::lse_of(total));
        };
        run(write);
        sums.commit();
    } else {
        run(row_report());
    }
    result.commit();
}

} // namespace scaledot::inline SCALEDOT_BUILD::detail

#endif
