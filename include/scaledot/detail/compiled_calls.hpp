// SPDX-License-Identifier: BSD-3-Clause
// Hands calls whose kernels scaledot::dispatch has to the library, in the structs of detail/compiled.hpp.
#ifndef SCALEDOT_DETAIL_COMPILED_CALLS_HPP
#define SCALEDOT_DETAIL_COMPILED_CALLS_HPP

#include <scaledot/attention_options.hpp>
#include <scaledot/detail/attention_problem.hpp>
#include <scaledot/detail/compiled.hpp>
#include <scaledot/detail/config.hpp>
#include <scaledot/detail/element.hpp>
#include <scaledot/detail/view.hpp>
#include <scaledot/executor.hpp>

#include <concepts>
#include <cstddef>
#include <type_traits>

namespace scaledot::inline SCALEDOT_BUILD::detail {

namespace compiled = scaledot::SCALEDOT_COMPILED;

/// The program links scaledot::dispatch, which defines this macro.
#if defined(SCALEDOT_DISPATCH)
inline constexpr bool dispatching = true;
#else
inline constexpr bool dispatching = false;
#endif

template <class T>
constexpr compiled::element_type element_type_of()
{
    using enum compiled::element_type;
    if constexpr (std::same_as<T, bool>) {
        return boolean;
    } else if constexpr (std::same_as<T, float>) {
        return single_precision;
    } else if constexpr (std::same_as<T, double>) {
        return double_precision;
    } else if constexpr (std::same_as<T, xtl::half_float>) {
        return half_precision;
    } else {
        static_assert(std::same_as<T, bfloat16>);
        return brain;
    }
}

/// The view must outlive the result.
template <class T>
auto array_of(const strided_view<T>& view)
{
    using Void = std::conditional_t<std::is_const_v<T>, const void, void>;
    return compiled::array<Void>{view.data, element_type_of<std::remove_const_t<T>>(), view.rank(), view.shape.data(),
                                 view.strides.data()};
}

inline compiled::thread_source threads_of_caller()
{
    return {available_threads(), [](std::size_t tasks, void (*task)(void*, std::size_t), void* context) {
                run_parts(tasks, [&](std::size_t index) { task(context, index); });
            }};
}

template <class Number>
compiled::choice<Number> choice_of(const std::optional<Number>& option)
{
    return {option.has_value(), option.value_or(Number{})};
}

inline compiled::plan compiled_plan(const attention_plan& plan)
{
    const attention_options& options = *plan.options;
    compiled::plan result{};
    result.batch = plan.batch;
    result.heads = plan.heads;
    result.key_heads = plan.key_heads;
    result.queries = plan.queries;
    result.keys = plan.keys;
    result.head_size = plan.head_size;
    result.scale = plan.scale;
    options.mask.visit([&](const auto& mask) { result.mask = array_of(mask); });
    result.causal = options.causal;
    result.align_given = options.align.has_value();
    result.bottom_right = options.align == alignment::bottom_right;
    result.query_offset = choice_of(options.query_offset);
    result.window_left = choice_of(options.window_left);
    result.window_right = choice_of(options.window_right);
    result.key_lengths = options.key_lengths.data();
    result.key_lengths_count = options.key_lengths.size();
    result.softcap = options.softcap;
    options.sinks.visit([&](const auto& sinks) {
        result.sinks = sinks.data();
        result.sinks_type = element_type_of<typename std::decay_t<decltype(sinks)>::value_type>();
        result.sinks_count = sinks.size();
    });
    return result;
}

/// Attention of one element type, or of float queries with half or bfloat16 keys and values, into any type.
template <class Q, class K, class V>
inline constexpr bool attention_is_compiled =
    dispatching && std::same_as<K, V> && (std::same_as<Q, K> || (std::same_as<Q, float> && !std::same_as<K, double>));

/// The scores of such, into queries' or arithmetic's type.
template <class O, class Q, class K>
inline constexpr bool scores_are_compiled =
    attention_is_compiled<Q, K, K> && (std::same_as<O, Q> || std::same_as<O, arithmetic_t<Q>>);

/// Softmax into the logits' or arithmetic's type.
template <class S, class R>
inline constexpr bool softmax_is_compiled = dispatching && (std::same_as<S, R> || std::same_as<R, arithmetic_t<S>>);

} // namespace scaledot::inline SCALEDOT_BUILD::detail

#endif
