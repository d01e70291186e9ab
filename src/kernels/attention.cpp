// SPDX-License-Identifier: BSD-3-Clause
// Attention, for scaledot::dispatch.
#include "calls.hpp"

#include <scaledot/attention_options.hpp>
#include <scaledot/detail/attention_run.hpp>

#include <array>
#include <bit>
#include <cstddef>
#include <optional>
#include <span>
#include <type_traits>

namespace scaledot::inline SCALEDOT_BUILD::calls {
namespace {

using Arch = native_architecture;

template <class Number>
std::optional<Number> option_of(const compiled::choice<Number>& choice)
{
    return choice.given ? std::optional<Number>(choice.value) : std::nullopt;
}

attention_options options_of(const compiled::plan& plan)
{
    attention_options options;
    if (plan.mask.type == compiled::element_type::boolean) {
        options.mask = mask_view(view_of<const bool>(plan.mask));
    }
    with_element(plan.mask.type, [&]<class M>() { options.mask = mask_view(view_of<const M>(plan.mask)); });
    options.causal = plan.causal;
    if (plan.align_given) {
        options.align = plan.bottom_right ? alignment::bottom_right : alignment::top_left;
    }
    options.query_offset = option_of(plan.query_offset);
    options.window_left = option_of(plan.window_left);
    options.window_right = option_of(plan.window_right);
    options.key_lengths = {plan.key_lengths, plan.key_lengths_count};
    options.softcap = plan.softcap;
    if (plan.sinks_type == compiled::element_type::single_precision) {
        options.sinks = std::span(static_cast<const float*>(plan.sinks), plan.sinks_count);
    } else {
        options.sinks = std::span(static_cast<const double*>(plan.sinks), plan.sinks_count);
    }
    return options;
}

template <class O, class Q, class K>
void attend_as(const detail::attention_plan& plan, const compiled::attention_call& call)
{
    const auto report = [&](std::size_t entry, const detail::row_place& place, const kernel::row_total& total,
                            const kernel::score_statistics* statistics) {
        std::array<std::byte, sizeof(kernel::score_statistics)> bytes;
        if (statistics) {
            bytes = std::bit_cast<decltype(bytes)>(*statistics);
        }
        call.report.call(
            call.report.context,
            {entry, place.head, place.query, {total.maximum, total.sum, total.kept}, statistics ? &bytes : nullptr});
    };
    const auto k = view_of<const K>(call.k);
    const bool with_values = call.out.type != compiled::element_type::none;
    const detail::head_view<O> out{view_of<O>(call.out)};
    detail::attend<Arch>(plan, view_of<const Q>(call.q), k, with_values ? view_of<const K>(call.v) : k,
                         with_values ? &out : nullptr, call.with_statistics,
                         call.report.context ? detail::row_report(report) : detail::row_report());
}

template <class Q, class K>
void attend_with(const detail::attention_plan& plan, const compiled::attention_call& call)
{
    using T = detail::arithmetic_t<Q, K>;
    if constexpr (!std::is_same_v<Q, T>) {
        if (call.out.type == detail::element_type_of<T>()) {
            attend_as<T, Q, K>(plan, call);
            return;
        }
    }
    attend_as<Q, Q, K>(plan, call);
}

} // namespace

void attention(const compiled::attention_call& call)
{
    callers_threads threads(call.threads);
    const executor_scope scope(threads);
    const attention_options options = options_of(call.what);
    detail::attention_plan plan;
    plan.batch = call.what.batch;
    plan.heads = call.what.heads;
    plan.key_heads = call.what.key_heads;
    plan.queries = call.what.queries;
    plan.keys = call.what.keys;
    plan.head_size = call.what.head_size;
    plan.scale = call.what.scale;
    plan.options = &options;
    with_element(call.q.type, [&]<class Q>() {
        if constexpr (std::is_same_v<Q, float>) {
            if (call.k.type == compiled::element_type::half_precision) {
                attend_with<Q, xtl::half_float>(plan, call);
                return;
            }
            if (call.k.type == compiled::element_type::brain) {
                attend_with<Q, bfloat16>(plan, call);
                return;
            }
        }
        attend_with<Q, Q>(plan, call);
    });
}

} // namespace scaledot::inline SCALEDOT_BUILD::calls
