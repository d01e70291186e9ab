// SPDX-License-Identifier: BSD-3-Clause
// From products to scores: softcap, mask, and which keys a query may see. Works on one row of one block of keys.
#ifndef SCALEDOT_KERNEL_SCORES_HPP
#define SCALEDOT_KERNEL_SCORES_HPP

#include <scaledot/detail/config.hpp>
#include <scaledot/kernel/exp.hpp>
#include <scaledot/kernel/simd.hpp>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>

SCALEDOT_KERNELS_BEGIN
namespace scaledot::inline SCALEDOT_BUILD::kernel {

/// x as T, where finite numbers stay finite: beyond T's range they become its largest number of their sign.
template <class T, class S>
T in_range(S x)
{
    if constexpr (std::is_same_v<T, float> && std::is_same_v<S, double>) {
        const bool finite = (std::bit_cast<std::int64_t>(x) & exponent_mask<double>) != exponent_mask<double>;
        constexpr double largest = std::numeric_limits<float>::max();
        return static_cast<float>(!finite || (x <= largest && x >= -largest) ? x : x > 0 ? largest : -largest);
    } else {
        return to_arithmetic<T>(x);
    }
}

/// scores = cap tanh(scores / cap); `count` is a multiple of the lanes, cap > 0. tanh(x) is x to all digits for x below
/// the square root of epsilon: those scores are left alone, the quotient might be subnormal.
template <class Arch, class T>
void softcap_row(T* scores, std::size_t count, T cap)
{
    using B = batch<Arch, T>;
    const B unchanged(cap * (sizeof(T) == 8 ? T(0x1p-27) : T(0x1p-13)));
    for (std::size_t j = 0; j < count; j += lanes<Arch, T>) {
        const B score = B::load_unaligned(scores + j);
        const B capped = B(cap) * hyperbolic_tangent(quotient(score, B(cap)));
        B(xsimd::select(xsimd::abs(score) < unchanged, score, capped)).store_unaligned(scores + j);
    }
}

/// Applies a mask row whose elements are `step` apart: false or -inf makes the score -inf, whatever it was; other
/// numbers are added. The sum of two finite numbers stays finite, at most the largest number: only -inf excludes.
template <class T, class M>
void mask_row(T* scores, std::size_t count, const M* mask, std::ptrdiff_t step)
{
    for (std::size_t j = 0; j < count; ++j, mask += step) {
        if constexpr (std::is_same_v<M, bool>) {
            scores[j] = *mask ? scores[j] : negative_infinity<T>;
        } else {
            using I = bits_of<T>;
            const T bias = in_range<T>(*mask);
            const auto bias_bits = std::bit_cast<I>(bias);
            const auto score_bits = std::bit_cast<I>(scores[j]);
#if defined(__FAST_MATH__) // infinities must be hidden there; elsewhere barriers would keep the loop from vectors
            const T sum = barrier(barrier(scores[j]) + barrier(bias));
#else
            const T sum = scores[j] + bias;
#endif
            const auto sum_bits = std::bit_cast<I>(sum);
            const auto finite = [](I bits) { return (bits & exponent_mask<T>) == exponent_mask<T> ? I(0) : I(1); };
            const I overflow = (I(1) - finite(sum_bits)) & finite(bias_bits) & finite(score_bits);
            const I bounded = sum_bits - overflow; // the bits before infinity's are those of the largest number
            scores[j] = std::bit_cast<T>(bias_bits == negative_infinity_bits<T> ? bias_bits : bounded);
        }
    }
}

/// Excludes what lies before `first` and from `last` on.
template <class T>
void restrict_row(T* scores, std::size_t count, std::size_t first, std::size_t last)
{
    std::fill(scores, scores + std::min(first, count), negative_infinity<T>);
    if (last < count) {
        std::fill(scores + last, scores + count, negative_infinity<T>);
    }
}

template <class T>
struct weighted_row {
    T maximum;
    T sum;
};

/// Replaces scores by weights exp(score - maximum) and adds them up; `count` is a multiple of the lanes. Excluded
/// scores weigh +0. Only excluded scores: maximum -inf, sum 0. NaN or +inf among them: both NaN, as every weight.
template <class Arch, class T>
weighted_row<T> weigh_row(T* scores, std::size_t count)
{
    using B = batch<Arch, T>;
    B largest(negative_infinity<T>);
    for (std::size_t j = 0; j < count; j += lanes<Arch, T>) {
        largest = larger(largest, B::load_unaligned(scores + j));
    }
    const T maximum = largest_lane(largest);
    const bool empty = std::bit_cast<bits_of<T>>(maximum) == negative_infinity_bits<T>;
    const B reference(empty ? T(0) : maximum + T(0));
    B sums(0);
    for (std::size_t j = 0; j < count; j += lanes<Arch, T>) {
        const B weight = exp_negative(barrier(B(B::load_unaligned(scores + j) - reference)));
        sums = sums + weight;
        weight.store_unaligned(scores + j);
    }
    const T sum = sum_of_lanes(sums);
    const bool invalid = (std::bit_cast<bits_of<T>>(sum) & exponent_mask<T>) == exponent_mask<T>;
    if (invalid) {
        std::fill_n(scores, count, quiet_nan<T>());
        return {quiet_nan<T>(), quiet_nan<T>()};
    }
    return {empty ? maximum : maximum + T(0), sum};
}

} // namespace scaledot::inline SCALEDOT_BUILD::kernel
SCALEDOT_KERNELS_END

#endif
