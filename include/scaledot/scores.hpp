// SPDX-License-Identifier: BSD-3-Clause
// The score matrix itself, at any of the four stages attention takes it through: for those who want to look at it.
#ifndef SCALEDOT_SCORES_HPP
#define SCALEDOT_SCORES_HPP

#include <scaledot/attention_options.hpp>
#include <scaledot/detail/config.hpp>
#include <scaledot/detail/scores_call.hpp>
#include <scaledot/detail/view.hpp>

namespace scaledot::inline SCALEDOT_BUILD {

/// out[i, j] = the score of query i and key j after a stage of attention, written to out
///
/// scaled: scale q.k.  capped: c tanh(s / c) as well.  masked: mask, causality, window and key lengths as well,
/// excluded scores -inf.  probabilities: the softmax of that, with the sink in the denominator; a row without a key is
/// 0. The scores are to the bit those attention computes with. Keys past a key length are never read: -inf in every
/// stage, probability 0.
///
/// @param out      [batch..., heads, queries, keys]; may not share memory with another argument or with what
///                 the options refer to
/// @param q, k     as for attention
/// @param stage    how far to go; options that belong to a later stage are checked, and not applied
/// @param options  see attention_options
/// @throws std::invalid_argument  as attention
///
/// Special values  as attention; a row with NaN or +inf is NaN as probabilities.
/// Accuracy        scores: one chain of multiply-adds over the head size; probabilities: softmax_max_ulp of the softmax
/// of
///                 the computed scores.
/// Determinism     as attention. Cost: queries x keys numbers per head in out, and one row of scratch per thread.
template <class Out, detail::tensor Q, detail::tensor K>
    requires detail::in_memory<Out>
void attention_scores_into(Out&& out, const Q& q, const K& k, score_stage stage, const attention_options& options = {})
{
    detail::scores_into(out, q, k, stage, options);
}

/// The scores as a new array of q's element type and kind. See attention_scores_into.
template <detail::tensor Q, detail::tensor K>
auto attention_scores(const Q& q, const K& k, score_stage stage, const attention_options& options = {})
{
    auto out = detail::make_score_output(q, k);
    attention_scores_into(out, q, k, stage, options);
    return out;
}

} // namespace scaledot::inline SCALEDOT_BUILD

#endif
