// SPDX-License-Identifier: BSD-3-Clause
// A checked call of attention, made again of the struct it crossed in.
#pragma once

#include "calls.hpp"

#include <scaledot/attention_options.hpp>
#include <scaledot/detail/attention_problem.hpp>

#include <optional>
#include <span>
#include <type_traits>

namespace scaledot::inline SCALEDOT_BUILD::calls {

template <class Number>
std::optional<Number> option_of(const compiled::choice<Number>& choice)
{
    return choice.given ? std::optional<Number>(choice.value) : std::nullopt;
}

inline attention_options options_of(const compiled::plan& plan)
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

/// The plan of a call, with the options it refers to.
struct planned_call {
    explicit planned_call(const compiled::plan& what)
        : options(options_of(what)),
          plan{what.batch, what.heads, what.key_heads, what.queries, what.keys, what.head_size, what.scale, &options}
    {
    }
    planned_call(const planned_call&) = delete;
    planned_call& operator=(const planned_call&) = delete;

    attention_options options;
    detail::attention_plan plan;
};

/// Calls use.operator()<Q, K>() for the element types of queries and keys: detail::attention_is_compiled says which.
template <class Use>
void with_query_and_key(compiled::element_type query, compiled::element_type key, const Use& use)
{
    with_element(query, [&]<class Q>() {
        if constexpr (std::is_same_v<Q, float>) {
            if (key == compiled::element_type::half_precision) {
                use.template operator()<Q, xtl::half_float>();
                return;
            }
            if (key == compiled::element_type::brain) {
                use.template operator()<Q, bfloat16>();
                return;
            }
        }
        use.template operator()<Q, Q>();
    });
}

} // namespace scaledot::inline SCALEDOT_BUILD::calls
