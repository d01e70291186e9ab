// SPDX-License-Identifier: BSD-3-Clause
// Score matrices and visits of probabilities, for scaledot::dispatch.
#include "plan.hpp"

#include <scaledot/detail/element.hpp>
#include <scaledot/detail/scores_driver.hpp>

#include <cstddef>
#include <type_traits>

namespace scaledot::inline SCALEDOT_BUILD::calls {

void scores(const compiled::scores_call& call)
{
    callers_threads threads(call.threads);
    const planned_call what(call.what);
    with_query_and_key(call.q.type, call.k.type, [&]<class Q, class K>() {
        using T = detail::arithmetic_t<Q, K>;
        const auto write = [&]<class O>(const detail::head_view<O>& out) {
            detail::drive_scores<native_architecture>(what.plan, view_of<const Q>(call.q), view_of<const K>(call.k),
                                                      static_cast<score_stage>(call.stage), out);
        };
        if (call.out.type == call.q.type) {
            write(detail::head_view<Q>{view_of<Q>(call.out)});
        } else if constexpr (!std::is_same_v<Q, T>) {
            write(detail::head_view<T>{view_of<T>(call.out)});
        }
    });
}

void probabilities(const compiled::probabilities_call& call)
{
    callers_threads threads(call.threads);
    const planned_call what(call.what);
    const auto use = [&](std::size_t entry, const detail::row_place& place, std::size_t visible, const auto* row) {
        call.use.call(call.use.context, {entry, place.head, place.query, visible, row});
    };
    with_query_and_key(call.q.type, call.k.type, [&]<class Q, class K>() {
        detail::drive_probabilities<native_architecture>(what.plan, view_of<const Q>(call.q), view_of<const K>(call.k),
                                                         use);
    });
}

} // namespace scaledot::inline SCALEDOT_BUILD::calls
