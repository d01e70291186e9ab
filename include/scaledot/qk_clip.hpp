// SPDX-License-Identifier: BSD-3-Clause
// QK-Clip: how much to shrink a head's query and key weights when its largest logit has grown past a limit.
#ifndef SCALEDOT_QK_CLIP_HPP
#define SCALEDOT_QK_CLIP_HPP

#include <scaledot/detail/check.hpp>
#include <scaledot/detail/config.hpp>
#include <scaledot/detail/head_rows.hpp>

#include <algorithm>
#include <cstddef>
#include <vector>

namespace scaledot::inline SCALEDOT_BUILD {

/// gamma = min(1, limit / max_logit): the factor on a head's logits that brings the largest down to the limit.
///
/// A logit is a product of a query and a key, so MuonClip multiplies the head's rows of W_q and of W_k, after an
/// optimiser's step, by sqrt(gamma) each (in general gamma^a and gamma^(1-a)). Where several query heads share a key
/// head, or a part of the key that all heads share (the rotary part of multi-head latent attention), W_k must not be
/// touched by one of them: there W_q takes all of gamma.
///
/// @param max_logit  the head's largest scaled score (attention_diagnostics' max_logit, its maximum over queries
///                   and batch) before any softcap; 0, negative or -infinity (no visible key) needs no clipping
/// @param limit      positive and finite; 100 in the source
/// @return           at most 1
/// @throws std::invalid_argument  max_logit NaN or +infinity, limit not positive and finite
///
/// Accuracy  one division: gamma * max_logit is the limit to 1 ulp.
/// Source    Kimi Team, Kimi K2: Open agentic intelligence, 2025 (MuonClip, section 2.1)
inline double qk_clip_factor(double max_logit, double limit)
{
    if (detail::is_nan(max_logit) || detail::is_positive_infinity(max_logit)) {
        detail::reject("max_logit", max_logit, "finite, or -infinity for a head without visible keys");
    }
    if (!detail::is_non_negative(limit) || !detail::is_finite(limit) || limit == 0) {
        detail::reject("limit", limit, "positive and finite");
    }
    return max_logit <= limit ? 1 : limit / max_logit;
}

/// qk_clip_factor of each head, with its largest logit over all batch entries and queries: weights are shared by them.
///
/// @param diagnostics  of attention_diagnostics, [batch..., heads, queries]; [queries] is one head
/// @param limit        as of qk_clip_factor
/// @return             one factor per head
/// @throws std::invalid_argument  as qk_clip_factor; a head with a NaN or infinite logit has max_logit NaN
template <class Diagnostics>
std::vector<double> qk_clip_factors(const Diagnostics& diagnostics, double limit)
{
    const auto& max_logit = diagnostics.max_logit;
    const detail::head_rows size = detail::head_rows_of(max_logit);
    std::vector<double> factors(size.distinct_heads, 1.0);
    for (std::size_t row = 0; row < size.heads * size.queries; ++row) {
        double& factor = factors[row / size.queries % size.distinct_heads];
        factor = std::min(factor, qk_clip_factor(static_cast<double>(max_logit.data()[row]), limit));
    }
    return factors;
}

} // namespace scaledot::inline SCALEDOT_BUILD

#endif
