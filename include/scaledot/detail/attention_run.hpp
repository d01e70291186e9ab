// SPDX-License-Identifier: BSD-3-Clause
// Runs attention on views, here or in the kernels of scaledot::dispatch: writes the output and reports each row.
#ifndef SCALEDOT_DETAIL_ATTENTION_RUN_HPP
#define SCALEDOT_DETAIL_ATTENTION_RUN_HPP

#include <scaledot/detail/attention_driver.hpp>
#include <scaledot/detail/attention_problem.hpp>
#include <scaledot/detail/compiled_calls.hpp>
#include <scaledot/detail/config.hpp>
#include <scaledot/detail/function_ref.hpp>
#include <scaledot/detail/tile_permission.hpp>
#include <scaledot/kernel/partial.hpp>
#include <scaledot/kernel/prefetch.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <type_traits>

namespace scaledot::inline SCALEDOT_BUILD::detail {

/// Who is told of finished rows, if anybody: of each once, from several threads at once. Statistics may be null.
using row_report =
    function_ref<void(std::size_t entry, const row_place&, const kernel::row_total&, const kernel::score_statistics*)>;

/// Attention with the kernels of Arch. Without `out`, v is not looked at and rows have no total.
template <class Arch, class O, class Q, class K, class V>
void attend(const attention_plan& plan, const strided_view<const Q>& q, const strided_view<const K>& k,
            const strided_view<const V>& v, const head_view<O>* out, bool with_statistics, const row_report& report)
{
    using T = arithmetic_t<Q, K, V>;
    const std::size_t size = v.extent(-1);
    const std::ptrdiff_t stride = out ? out->row_stride() : 0;
    const bool with_sinks = !plan.options->sinks.empty();
    const auto total_of = [=, &plan](const finished_rows<T>& rows, std::size_t r) {
        const double sink = with_sinks ? plan.sink(rows.places[r].head) : kernel::negative_infinity<double>;
        return kernel::total_of(rows.results.maxima()[r], rows.results.sums()[r], sink);
    };
    const auto write = [=](const finished_rows<T>& rows) {
        kernel::row_factors<T, long_run_rows<Arch, T>> factors;
        const bool usual = !with_sinks && kernel::find_factors<Arch>(rows.results.maxima() + rows.first,
                                                                     rows.results.sums() + rows.first,
                                                                     rows.last - rows.first, rows.value_scale, factors);
        const row_places places = rows.places;
        O* output = nullptr;
        for (std::size_t r = rows.first; r < rows.last; ++r) {
            const row_place place = places[r];
            output = output && place.query > 0 ? output + stride : out->row(rows.entry, place.head, place.query);
            kernel::row_factor<T> factor;
            if (usual) {
                factor = factors[r - rows.first];
            } else {
                const kernel::row_total total = total_of(rows, r);
                if (kernel::has_nan_bits(total.kept)) { // of a sign that depends on the way it was come to
                    std::fill_n(output, size, kernel::to_storage<O>(kernel::barrier(kernel::quiet_nan<T>())));
                    continue;
                }
                factor = kernel::factor_of(total, rows.value_scale);
            }
            // Rows are finished in bursts, too short for the machine to see what is written next.
            kernel::write_row<Arch>(rows.results.output(r), factor, size, output,
                                    kernel::bytes_of_rows<O>(stride, kernel::rows_ahead));
        }
    };
    const auto finish = [=, &report](const finished_rows<T>& rows) {
        if (out) {
            write(rows);
        }
        for (std::size_t r = rows.first; report && r < rows.last; ++r) {
            report(rows.entry, rows.places[r], out ? total_of(rows, r) : kernel::row_total{},
                   rows.results.row(r).statistics);
        }
    };
    drive_attention<Arch, T, Q, K, V>(plan, {q}, {k}, {v}, out != nullptr, with_statistics, finish);
}

template <class O, class Q, class K, class V>
void attend_compiled(const attention_plan& plan, const strided_view<const Q>& q, const strided_view<const K>& k,
                     const strided_view<const V>& v, const head_view<O>* out, bool with_statistics,
                     const row_report& report)
{
    const auto pass_on = [](const void* context, const compiled::row_report& row) {
        const auto& [maximum, sum, kept] = row.total;
        kernel::score_statistics statistics;
        if (row.statistics) {
            statistics = std::bit_cast<kernel::score_statistics>(*row.statistics);
        }
        (*static_cast<const row_report*>(context))(row.entry, {row.head, row.query}, {maximum, sum, kept},
                                                   row.statistics ? &statistics : nullptr);
    };
    compiled::selected_kernels().attention({compiled_plan(plan),
                                            array_of(q),
                                            array_of(k),
                                            array_of(v),
                                            out ? array_of(out->view) : compiled::array<void>{},
                                            with_statistics,
                                            {report ? &report : nullptr, pass_on},
                                            threads_of_caller()});
}

/// Calls use(Arch()) with the widest kernels there are in this build for arguments of these types.
template <class Q, class K, class V, class Use>
void with_widest(const Use& use)
{
#if defined(SCALEDOT_MULTIPLIES_TILES)
    if constexpr (std::is_same_v<Q, bfloat16> && std::is_same_v<K, bfloat16> && std::is_same_v<V, bfloat16>) {
        if (tiles_are_permitted()) {
            return use(tile_architecture());
        }
    }
#endif
    use(native_architecture());
}

/// Attention with the widest kernels there are.
template <class O, class Q, class K, class V>
void run_attention(const attention_plan& plan, const strided_view<const Q>& q, const strided_view<const K>& k,
                   const strided_view<const V>& v, const head_view<O>* out, bool with_statistics,
                   const row_report& report)
{
    if constexpr (attention_is_compiled<Q, K, V>) {
        attend_compiled(plan, q, k, v, out, with_statistics, report);
    } else {
        with_widest<Q, K, V>([&]<class Arch>(Arch) { attend<Arch>(plan, q, k, v, out, with_statistics, report); });
    }
}

} // namespace scaledot::inline SCALEDOT_BUILD::detail

#endif
