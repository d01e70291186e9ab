// SPDX-License-Identifier: BSD-3-Clause
// Scaled dot-product attention, fused: the score matrix is never formed. The work is cut in
// detail/attention_driver.hpp, the arithmetic lives in kernel/products.hpp, kernel/scores.hpp and kernel/partial.hpp.
#ifndef SCALEDOT_ATTENTION_HPP
#define SCALEDOT_ATTENTION_HPP

#include <scaledot/attention_options.hpp>
#include <scaledot/detail/attention_call.hpp>
#include <scaledot/detail/config.hpp>
#include <scaledot/kv_cache.hpp>

#include <utility>

namespace scaledot::inline SCALEDOT_BUILD {

/// What attention_with_lse returns and merge takes.
template <class Output, class Lse>
struct attention_result {
    Output output; ///< [..., heads, queries, value size]
    Lse lse;       ///< [..., heads, queries]: ln of the sum of exponentials of the scores (and sink), base e
};

/// out[i] = sum_j p[i,j] v[j],  p[i,:] = softmax_j(mask(softcap(scale q[i].k[j]))), per batch entry and head
///
/// @param out      [batch..., heads, queries, value size], any strides; may not share memory with another
///                 argument or with what the options refer to
/// @param q        [batch..., heads, queries, head size], rank >= 2; rank 2 is one head
/// @param k        [batch..., key heads, keys, head size]; query head h reads key head h / (heads / key heads)
/// @param v        [batch..., key heads, keys, value size]
/// @param options  see attention_options
/// @throws std::invalid_argument  shapes that do not fit each other, options out of range, a causal call or window that
///                                does not say where its queries stand, shared memory; all before anything is read
///
/// Special values  a row with no key to attend to is 0; a NaN in a query row makes that row NaN, a NaN or inf in a key
///                 or value reaches only the rows that see it; a score of +inf gives NaN; a score of -inf counts as
///                 excluded. Finite values give a finite mean, also next to the type's largest number.
/// Types           float, double, half, bfloat16, each argument its own; arithmetic in double when one of q, k, v is
///                 double, else in float. Where all three are bfloat16 and the machine multiplies tiles of it (AMX, where
///                 the operating system permits it) or pairs of it fast (AVX512_BF16 without AVX512-FP16), products are
///                 made of those, subnormals count as 0, and weights are rounded to bfloat16 before they are summed.
/// Accuracy        that of the three textbook steps in the same precision: root mean square and largest error at most
///                 1.1 times theirs (tests/attention_test.cpp).
/// Determinism     bit-identical for any number of threads, any batch size and position in it, and any number of
///                 queries computed together, on one machine and build.
/// Cost            2 queries x keys x (head size + value size) operations per head; memory for one packed copy of the
///                 keys of the heads in flight and one partial result per 1024 keys; nothing grows with queries x keys,
///                 and a call that needs less than a mebibyte allocates nothing but its result. Views whose last axis
///                 is contiguous are used in place, other expressions are copied first.
/// Source          Vaswani et al. 2017; Milakov & Gimelshein 2018; Dao et al. 2022; docs/numerics.md#attention
template <class Out, detail::tensor Q, detail::tensor K, detail::tensor V>
    requires detail::in_memory<Out>
void attention_into(Out&& out, const Q& q, const K& k, const V& v, const attention_options& options = {})
{
    detail::attend_into(out, detail::no_output{}, q, k, v, options);
}

/// attention of q, k, v as a new array of q's element type and kind. See attention_into.
template <detail::tensor Q, detail::tensor K, detail::tensor V>
auto attention(const Q& q, const K& k, const V& v, const attention_options& options = {})
{
    auto out = detail::make_attention_output<Q>(q, v);
    attention_into(out, q, k, v, options);
    return out;
}

/// attention together with the log-sum-exp of each row's scores: float, or double when q, k or v is double. A row
/// without a key has the sink's logit, or -inf, the identity of merge. See attention_into.
template <detail::tensor Q, detail::tensor K, detail::tensor V>
auto attention_with_lse(const Q& q, const K& k, const V& v, const attention_options& options = {})
{
    auto out = detail::make_attention_output<Q>(q, v);
    auto lse = detail::make_row_output<Q, detail::statistic_t<Q, K, V>>(q);
    detail::attend_into(out, lse, q, k, v, options);
    return attention_result<decltype(out), decltype(lse)>{std::move(out), std::move(lse)};
}

/// The same, written to out and lse ([batch..., heads, queries], float or double, in memory of its own as out). A
/// finite number beyond lse's type, which a sink may be, becomes its largest of that sign.
template <class Out, class Lse, detail::tensor Q, detail::tensor K, detail::tensor V>
    requires(detail::in_memory<Out> && detail::in_memory<Lse>)
void attention_with_lse_into(Out&& out, Lse&& lse, const Q& q, const K& k, const V& v,
                             const attention_options& options = {})
{
    detail::attend_into(out, lse, q, k, v, options);
}

/// attention of new queries [..., heads, queries, key size] over a cache's keys and values; the axes before heads are
/// the cache's batch. See attention_into and kv_cache.
template <detail::tensor Q, class T>
auto attention(const Q& q, const kv_cache<T>& cache, const attention_options& options = {})
{
    const auto keys = detail::cached_like(q, cache, cache.keys());
    const auto values = detail::cached_like(q, cache, cache.values());
    return attention(q, keys, values, options);
}

/// attention over a cache, written to out. See attention_into.
template <class Out, detail::tensor Q, class T>
    requires detail::in_memory<Out>
void attention_into(Out&& out, const Q& q, const kv_cache<T>& cache, const attention_options& options = {})
{
    const auto keys = detail::cached_like(q, cache, cache.keys());
    const auto values = detail::cached_like(q, cache, cache.values());
    attention_into(out, q, keys, values, options);
}

/// attention over a cache together with the log-sum-exp of each row's scores. See attention_with_lse.
template <detail::tensor Q, class T>
auto attention_with_lse(const Q& q, const kv_cache<T>& cache, const attention_options& options = {})
{
    const auto keys = detail::cached_like(q, cache, cache.keys());
    const auto values = detail::cached_like(q, cache, cache.values());
    return attention_with_lse(q, keys, values, options);
}

/// attention over a cache and the log-sum-exp of each row's scores, written to out and lse.
template <class Out, class Lse, detail::tensor Q, class T>
    requires(detail::in_memory<Out> && detail::in_memory<Lse>)
void attention_with_lse_into(Out&& out, Lse&& lse, const Q& q, const kv_cache<T>& cache,
                             const attention_options& options = {})
{
    const auto keys = detail::cached_like(q, cache, cache.keys());
    const auto values = detail::cached_like(q, cache, cache.values());
    attention_with_lse_into(out, lse, q, keys, values, options);
}

} // namespace scaledot::inline SCALEDOT_BUILD

#endif
