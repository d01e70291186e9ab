// SPDX-License-Identifier: BSD-3-Clause
// Attention, for scaledot::dispatch.
#include "plan.hpp"

#include <scaledot/detail/attention_run.hpp>

#include <array>
#include <bit>
#include <cstddef>

namespace scaledot::inline SCALEDOT_BUILD::calls {
namespace {

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
    detail::with_widest<Q, K, K>([&]<class Arch>(Arch) {
        detail::attend<Arch>(plan, view_of<const Q>(call.q), k, with_values ? view_of<const K>(call.v) : k,
                             with_values ? &out : nullptr, call.with_statistics,
                             call.report.context ? detail::row_report(report) : detail::row_report());
    });
}

} // namespace

void attention(const compiled::attention_call& call)
{
    callers_threads threads(call.threads);
    const planned_call what(call.what);
    with_query_and_key(call.q.type, call.k.type, [&]<class Q, class K>() {
        if (call.out.type == compiled::element_type::none) {
            attend_as<Q, Q, K>(what.plan, call);
        } else {
            with_element(call.out.type, [&]<class O>() { attend_as<O, Q, K>(what.plan, call); });
        }
    });
}

} // namespace scaledot::inline SCALEDOT_BUILD::calls
