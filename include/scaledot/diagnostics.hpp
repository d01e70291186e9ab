// SPDX-License-Identifier: BSD-3-Clause
// What attention's numbers are doing, row by row, without forming the score matrix: spread of the logits, entropy,
// saturation, and how much gradient the softmax lets through. The arithmetic lives in kernel/diagnostics.hpp.
#ifndef SCALEDOT_DIAGNOSTICS_HPP
#define SCALEDOT_DIAGNOSTICS_HPP

#include <scaledot/attention_options.hpp>
#include <scaledot/detail/config.hpp>
#include <scaledot/detail/diagnostics_call.hpp>
#include <scaledot/softmax.hpp>

#include <utility>

namespace scaledot::inline SCALEDOT_BUILD {

/// One figure per softmax row. Logits are the scores a softmax sees (scaled, capped, masked); excluded keys (-inf)
/// count nowhere. Entropy, effective_keys and jacobian_norm are over keys and sink; the other probabilities'
/// denominators contain the sink as well.
///
/// A row without a key: max_logit -inf, min_logit +inf, mean and standard deviation NaN, entropy, probability and norm
/// 0. A row with a NaN or +inf logit: all NaN but visible_keys.
template <class Figures, class Counts>
struct logit_diagnostics {
    Figures max_logit;                ///< the largest logit
    Figures min_logit;                ///< the smallest logit above -inf
    Figures logit_mean;               ///< over the visible keys
    Figures logit_standard_deviation; ///< divides by the number of visible keys
    Counts visible_keys;              ///< keys that are not excluded
    Figures lse;                      ///< ln of the sum of exponentials, with the sink
    Figures entropy;                  ///< -sum p ln p, in nats
    Figures effective_keys;           ///< exp(entropy)
    Figures max_probability;          ///< the largest share of a key
    Figures jacobian_norm;            ///< Frobenius norm of diag(p) - p p^T: what the softmax passes of a gradient
    Figures sink_probability;         ///< the sink's share, 0 without one
};

/// What attention_with_diagnostics returns.
template <class Output, class Diagnostics>
struct diagnosed_attention {
    Output output;           ///< as of attention
    Diagnostics diagnostics; ///< a logit_diagnostics
};

/// The figures of every query row of attention(q, k, ., options), each [batch..., heads, queries].
///
/// With w_j = exp(s_j - m), primes leaving one maximum out, p = w / Z and p_1 = 1 / Z:
/// entropy = log1p(sum' w) + sum w (m - s) / Z,
/// jacobian_norm^2 = p_1^2 q^2 + 2 p_1^2 S_2 + S_2 - 2 S_3 + S_2^2 with q = sum' p, S_2 = sum' p^2, S_3 = sum' p^3.
///
/// @param q, k     as for attention
/// @param options  see attention_options; all apply
/// @throws std::invalid_argument  as attention
///
/// Accuracy        the sums leave the maximum out, so that nothing cancels where a softmax saturates: about
///                 1e-5 relative in float against the exact figures of the computed scores.
/// Determinism     as attention. Cost: in the pass that weighs the scores, which are never stored: with values a
///                 tenth to a quarter more than attention alone at head size 64, half of that at 128 or decoding; a
///                 second look at rows whose maximum is beyond 128 (float), where scores have too few digits behind
///                 the point. Memory as attention.
/// Source          docs/numerics.md#diagnostics
template <detail::tensor Q, detail::tensor K>
auto attention_diagnostics(const Q& q, const K& k, const attention_options& options = {})
{
    auto diagnostics = detail::make_diagnostics<logit_diagnostics, Q, K>(q);
    detail::diagnose_into(detail::no_output{}, diagnostics, q, k, k, options);
    return diagnostics;
}

/// attention and its diagnostics in one pass: output as attention's to the bit, diagnostics as attention_diagnostics'.
template <detail::tensor Q, detail::tensor K, detail::tensor V>
auto attention_with_diagnostics(const Q& q, const K& k, const V& v, const attention_options& options = {})
{
    auto output = detail::make_attention_output<Q>(q, v);
    auto diagnostics = detail::make_diagnostics<logit_diagnostics, Q, K, V>(q);
    detail::diagnose_into(output, diagnostics, q, k, v, options);
    return diagnosed_attention<decltype(output), decltype(diagnostics)>{std::move(output), std::move(diagnostics)};
}

/// The same figures for the rows of an array of logits, of softmax(x / T) along an axis: each figure has x's shape
/// without the axis. Logit figures are those of x / T.
///
/// @param logits   any rank >= 1
/// @param options  axis, and a temperature that is positive and finite; a quotient out of the type's range makes
///                 its row NaN
/// @throws std::invalid_argument  axis outside the rank, temperature out of range
template <detail::tensor E>
auto softmax_diagnostics(const E& logits, const softmax_options& options = {})
{
    detail::check_softmax_types<E>();
    return detail::diagnose_rows<logit_diagnostics>(logits, options);
}

} // namespace scaledot::inline SCALEDOT_BUILD

#endif
