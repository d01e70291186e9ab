// SPDX-License-Identifier: BSD-3-Clause
// Attention over some of the keys: output, maximum, sum. Two such partial results over neighbouring ranges of keys
// merge into one, and all of attention is a fixed tree of merges: blocks of keys into chunks, chunks into a row.
#ifndef SCALEDOT_KERNEL_PARTIAL_HPP
#define SCALEDOT_KERNEL_PARTIAL_HPP

#include <scaledot/detail/config.hpp>
#include <scaledot/kernel/diagnostics.hpp>
#include <scaledot/kernel/exp.hpp>
#include <scaledot/kernel/simd.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <limits>

SCALEDOT_KERNELS_BEGIN
namespace scaledot::inline SCALEDOT_BUILD::kernel {

/// Blocks are folded into chunks of this many keys, chunks into the row, both from left to right.
inline constexpr std::size_t chunk_keys = 1024;

template <class T>
inline bool has_nan_bits(T x)
{
    return (std::bit_cast<bits_of<T>>(x) & std::numeric_limits<bits_of<T>>::max()) > exponent_mask<T>;
}

template <class T>
inline bool is_negative_infinity_bits(T x)
{
    return std::bit_cast<bits_of<T>>(x) == negative_infinity_bits<T>;
}

/// Per row: sum_j exp(s_j - maximum) v_j (not yet divided), the maximum and sum_j exp(s_j - maximum). No key: maximum
/// -inf, sum 0, output 0. A NaN among the scores: maximum, sum and output NaN. Statistics are kept where asked for.
template <class T>
struct partial_row {
    T* output;
    T* maximum;
    T* sum;
    score_statistics* statistics;
};

template <class T>
void clear(const partial_row<T>& row, std::size_t size)
{
    std::fill_n(row.output, size, T(0));
    *row.maximum = negative_infinity<T>;
    *row.sum = T(0);
    if (row.statistics) {
        *row.statistics = score_statistics{};
    }
}

/// exp(x) of one number x <= 0, by the same steps as in vectors.
template <class Arch, class T>
T exp_of(T x)
{
    alignas(alignment_of<Arch>) std::array<T, lanes<Arch, T>> values;
    exp_negative(batch<Arch, T>(x)).store_aligned(values.data());
    return values[0];
}

/// into = into + from, keys of `into` before keys of `from`. Merging with an empty partial changes no bit.
template <class Arch, class T>
void merge(const partial_row<T>& into, const partial_row<T>& from, std::size_t size)
{
    using B = batch<Arch, T>;
    if (into.statistics) {
        merge(*into.statistics, *from.statistics);
    }
    if (is_negative_infinity_bits(*from.maximum)) {
        return;
    }
    if (is_negative_infinity_bits(*into.maximum)) {
        std::copy_n(from.output, size, into.output);
        *into.maximum = *from.maximum;
        *into.sum = *from.sum;
        return;
    }
    T maximum = *into.maximum < *from.maximum ? *from.maximum : *into.maximum;
    T kept = 1;
    T added = 1;
    if (has_nan_bits(*into.maximum) || has_nan_bits(*from.maximum)) {
        maximum = kept = added = quiet_nan<T>();
    } else {
        kept = exp_of<Arch>(*into.maximum - maximum);
        added = exp_of<Arch>(*from.maximum - maximum);
    }
    *into.maximum = maximum;
    *into.sum = std::fma(*into.sum, kept, *from.sum * added);
    for (std::size_t i = 0; i < size; i += lanes<Arch, T>) {
        const B sum =
            multiply_add(B::load_unaligned(into.output + i), B(kept), B(B::load_unaligned(from.output + i) * B(added)));
        sum.store_unaligned(into.output + i);
    }
}

} // namespace scaledot::inline SCALEDOT_BUILD::kernel
SCALEDOT_KERNELS_END

#endif
