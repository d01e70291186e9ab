// SPDX-License-Identifier: BSD-3-Clause
// What the keys receive: how much probability each gets from all queries (which may leave a cache, which is a sink),
// and how many of a query's keys get next to none. Both need a row's denominator before they can look at a key, so the
// scores are computed once more than in attention, and never stored but for a few rows.
#ifndef SCALEDOT_KEY_MASS_HPP
#define SCALEDOT_KEY_MASS_HPP

#include <scaledot/attention_options.hpp>
#include <scaledot/detail/aligned_buffer.hpp>
#include <scaledot/detail/check.hpp>
#include <scaledot/detail/config.hpp>
#include <scaledot/detail/scores_call.hpp>
#include <scaledot/kernel/partial.hpp>
#include <scaledot/kernel/simd.hpp>

#include <algorithm>
#include <cstddef>

namespace scaledot::inline SCALEDOT_BUILD {

/// The probability each key receives, summed over queries: mass[..., h, j] = sum_i p[..., h, i, j], of shape
/// [batch..., heads, keys]. A head's masses add up to the number of its queries that see a key, less what sinks take.
///
/// @param q, k     as for attention
/// @param options  see attention_options; all apply
/// @throws std::invalid_argument  as attention
///
/// Special values  a key nobody sees has 0; a query with a NaN or +inf score makes every mass of its head NaN.
/// Accuracy        probabilities to 2 ulp of the computed scores', summed in double one query
///                 after another, rounded once.
/// Determinism     the same bits for any number of threads and any batch size.
/// Cost            the scores' products and a softmax; memory of a few rows of scores a thread; threads share heads.
template <detail::tensor Q, detail::tensor K>
auto key_mass(const Q& q, const K& k, const attention_options& options = {})
{
    using T = detail::statistic_t<Q, K>;
    auto mass = detail::make_key_output<Q, T>(q, k);
    detail::aligned_buffer<double> sums(mass.size());
    std::fill_n(sums.data(), mass.size(), 0.0);
    detail::visit_probabilities(q, k, options,
                                [&](const detail::attention_plan& plan, std::size_t entry,
                                    const detail::row_place& place, std::size_t, const auto* probabilities) {
                                    double* const sum = sums.data() + (entry * plan.heads + place.head) * plan.keys;
                                    for (std::size_t j = 0; j < plan.keys; ++j) {
                                        sum[j] += static_cast<double>(probabilities[j]);
                                    }
                                });
    std::transform(sums.data(), sums.data() + mass.size(), mass.data(), [](double x) { return static_cast<T>(x); });
    return mass;
}

/// The share of a query's visible keys whose probability is below `threshold`, of shape [batch..., heads, queries]: how
/// much of the row a sparse attention could leave out.
///
/// @param threshold  between 0 and 1
/// @throws std::invalid_argument  as attention; threshold out of range
///
/// Special values  NaN for a query that sees no key, or has a NaN or +inf score.
/// Determinism, cost  as key_mass.
template <detail::tensor Q, detail::tensor K>
auto share_of_keys_below(const Q& q, const K& k, double threshold, const attention_options& options = {})
{
    using T = detail::statistic_t<Q, K>;
    if (!detail::is_non_negative(threshold) || threshold > 1) {
        detail::reject("threshold", threshold, "between 0 and 1");
    }
    auto share = detail::make_row_output<Q, T>(q);
    detail::visit_probabilities(
        q, k, options,
        [&](const detail::attention_plan& plan, std::size_t entry, const detail::row_place& place, std::size_t visible,
            const auto* probabilities) {
            const auto below = [&](auto p) { return static_cast<double>(p) < threshold; };
            const auto excluded = plan.keys - visible; // their probabilities are 0
            const auto all = static_cast<std::size_t>(std::count_if(probabilities, probabilities + plan.keys, below));
            const bool known = visible > 0 && !kernel::has_nan_bits(probabilities[0]);
            const std::size_t count = threshold > 0 ? all - excluded : all;
            share.data()[(entry * plan.heads + place.head) * plan.queries + place.query] =
                known ? static_cast<T>(static_cast<double>(count) / static_cast<double>(visible))
                      : kernel::quiet_nan<T>();
        });
    return share;
}

} // namespace scaledot::inline SCALEDOT_BUILD

#endif
