// SPDX-License-Identifier: BSD-3-Clause
// Runs attention's driver, or rows of given logits, for their statistics and writes the figures where they belong.
#ifndef SCALEDOT_DETAIL_DIAGNOSTICS_CALL_HPP
#define SCALEDOT_DETAIL_DIAGNOSTICS_CALL_HPP

#include <scaledot/detail/attention_call.hpp>
#include <scaledot/detail/config.hpp>
#include <scaledot/detail/overlap.hpp>
#include <scaledot/detail/shared_work.hpp>
#include <scaledot/executor.hpp>
#include <scaledot/kernel/diagnostics.hpp>
#include <scaledot/kernel/scores.hpp>
#include <scaledot/softmax.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <type_traits>

namespace scaledot::inline SCALEDOT_BUILD::detail {

/// An empty set of diagnostics of the given shape.
template <template <class, class> class Diagnostics, class E, class T, std::size_t Rank>
auto make_figures(const shape_vector& shape)
{
    using figures = container_like<E, T, Rank>;
    using counts = container_like<E, std::size_t, Rank>;
    const auto make = [&] { return make_like<E, T, Rank>(shape); };
    return Diagnostics<figures, counts>{make(), make(), make(), make(), make_like<E, std::size_t, Rank>(shape),
                                        make(), make(), make(), make(), make(),
                                        make()};
}

template <template <class, class> class Diagnostics, class Q, class... Others>
auto make_diagnostics(const Q& q)
{
    (check_attention_type<Others>(), ...);
    require_attention_array("q", q);
    constexpr std::size_t rank = rank_of<Q>;
    const shape_vector shape(q.shape().begin(), q.shape().end());
    return make_figures < Diagnostics, Q, statistic_t<Q, Others...>,
           rank == dynamic_rank ? rank : rank - 1 > (without_axis(shape, shape.size() - 1));
}

/// Writes a row's figures at a flat index.
template <class Diagnostics>
void write_figures(Diagnostics& diagnostics, std::size_t row, const kernel::score_statistics& keys, double sink)
{
    using T = typename std::decay_t<decltype(diagnostics.entropy)>::value_type;
    const double nan = kernel::quiet_nan<double>();
    const bool known = !keys.invalid && keys.count > 0;
    const kernel::row_figures figures = kernel::figures_of_row(keys, sink);
    const auto put = [row](auto& target, double value) { target.data()[row] = static_cast<T>(value); };
    put(diagnostics.max_logit, keys.invalid ? nan : keys.maximum);
    put(diagnostics.min_logit, keys.invalid ? nan : keys.minimum);
    put(diagnostics.logit_mean, known ? keys.mean : nan);
    put(diagnostics.logit_standard_deviation, known ? std::sqrt(keys.deviation / keys.count) : nan);
    diagnostics.visible_keys.data()[row] = static_cast<std::size_t>(keys.count);
    put(diagnostics.lse, kernel::in_range<T>(figures.lse));
    put(diagnostics.entropy, figures.entropy);
    put(diagnostics.effective_keys, figures.effective_keys);
    put(diagnostics.max_probability, figures.max_probability);
    put(diagnostics.jacobian_norm, figures.jacobian_norm);
    put(diagnostics.sink_probability, figures.sink_probability);
}

/// Attention's diagnostics; `out` is attention's output, or no_output, when v is not looked at.
template <class Out, class Diagnostics, class Q, class K, class V>
void diagnose_into(Out&& out, Diagnostics& diagnostics, const Q& q, const K& k, const V& v,
                   const attention_options& options)
{
    constexpr bool with_values = !std::is_same_v<std::decay_t<Out>, no_output>;
    input<Q> query(q, reading::later);
    input<K> key(k, reading::later);
    const attention_plan plan = plan_attention(query.view(), key.view(), options);
    const auto write = [&](std::size_t entry, const row_place& place, const kernel::row_total&,
                           const kernel::score_statistics* statistics) {
        const std::size_t flat = (entry * plan.heads + place.head) * plan.queries + place.query;
        write_figures(diagnostics, flat, *statistics, plan.sink(place.head));
    };
    if constexpr (with_values) {
        input<V> value(v, reading::later);
        check_values(key.view(), value.view());
        query.read();
        key.read(options.key_lengths);
        value.read(options.key_lengths);
        const head_view<element_of<Out>> rows{view_of(out)};
        run_attention(plan, query.view(), key.view(), value.view(), &rows, true, write);
    } else {
        query.read();
        key.read(options.key_lengths);
        const head_view<element_of<Q>>* const no_rows = nullptr;
        run_attention(plan, query.view(), key.view(), key.view(), no_rows, true, write);
    }
}

/// logit / temperature in T; NaN where a finite logit's quotient leaves the range of T, and its row has no figures.
template <class T>
T tempered(T logit, double temperature)
{
    if (temperature == 1.0 || !is_finite(static_cast<double>(logit))) {
        return logit;
    }
    const double quotient = static_cast<double>(logit) / temperature;
    const bool fits = is_finite(quotient) && std::abs(quotient) <= static_cast<double>(std::numeric_limits<T>::max());
    return fits ? static_cast<T>(quotient) : kernel::quiet_nan<T>();
}

/// The statistics of one row of logits divided by a temperature, in blocks as attention's.
template <class Arch, class T, class S>
kernel::score_statistics statistics_of_row(const S* logits, std::size_t length, std::ptrdiff_t step, double temperature)
{
    kernel::score_statistics all;
    alignas(64) std::array<T, kernel::block_keys> block;
    for (std::size_t first = 0; first < length; first += block.size()) {
        const std::size_t count = std::min(block.size(), length - first);
        for (std::size_t j = 0; j < count; ++j) {
            const S logit = logits[static_cast<std::ptrdiff_t>(first + j) * step];
            block[j] = tempered(kernel::to_arithmetic<T>(logit), temperature);
        }
        kernel::merge(all, kernel::statistics_of_block<Arch>(block.data(), count));
    }
    return all;
}

template <template <class, class> class Diagnostics, class E>
auto diagnose_rows(const E& logits, const softmax_options& options)
{
    using T = arithmetic_t<element_of<E>>;
    constexpr std::size_t rank = rank_of<E>;
    const input<E> in(logits);
    const std::size_t axis = check_softmax(in.view(), options);
    if (options.temperature == 0 || !is_finite(options.temperature)) {
        reject("temperature", options.temperature, "positive and finite");
    }
    strided_view<const element_of<E>> rows = in.view();
    const std::size_t length = rows.shape[axis];
    const std::ptrdiff_t step = rows.strides[axis];
    rows.shape = without_axis(rows.shape, axis);
    stride_vector strides;
    for (std::size_t i = 0; i < in.view().rank(); ++i) {
        if (i != axis) {
            strides.push_back(in.view().strides[i]);
        }
    }
    rows.strides = strides;

    constexpr std::size_t rank_of_figures = rank == dynamic_rank ? rank : rank - 1;
    auto diagnostics = make_figures<Diagnostics, E, T, rank_of_figures>(rows.shape);
    const std::size_t count = element_count(rows.shape);
    const std::size_t parts = part_count(count, 64.0 * static_cast<double>(length) + 64.0);
    run_ranges(count, parts, 1, [&](std::size_t, std::size_t begin, std::size_t end) {
        for (std::size_t row = begin; row < end; ++row) {
            const auto statistics = statistics_of_row<native_architecture, T>(rows.data + offset_of(rows, row, 0),
                                                                              length, step, options.temperature);
            write_figures(diagnostics, row, statistics, kernel::negative_infinity<double>);
        }
    });
    return diagnostics;
}

} // namespace scaledot::inline SCALEDOT_BUILD::detail

#endif
