// SPDX-License-Identifier: BSD-3-Clause
// What comparisons of vectors choose: the larger or the smaller of two numbers, lanes that count or are 0.
#ifndef SCALEDOT_KERNEL_CHOICE_HPP
#define SCALEDOT_KERNEL_CHOICE_HPP

#include <scaledot/detail/config.hpp>
#include <scaledot/kernel/simd.hpp>

#include <bit>
#include <type_traits>

SCALEDOT_KERNELS_BEGIN
namespace scaledot::inline SCALEDOT_BUILD::kernel {

/// All bits of a lane where the comparison holds, else none.
template <class T, class A>
[[gnu::always_inline]] inline xsimd::batch<bits_of<T>, A> bits_where(const xsimd::batch_bool<T, A>& which)
{
    using B = xsimd::batch<T, A>;
    using I = xsimd::batch<bits_of<T>, A>;
    if constexpr (sizeof(which) == sizeof(I)) {
        return std::bit_cast<I>(which);
    } else {
        return as_bits(B(xsimd::select(which, from_bits<T>(I(-1)), B(T(0)))));
    }
}

/// counts + 1 where the comparison holds.
template <class T, class A>
[[gnu::always_inline]] inline xsimd::batch<bits_of<T>, A> count_where(const xsimd::batch_bool<T, A>& which,
                                                                      const xsimd::batch<bits_of<T>, A>& counts)
{
#if defined(__AVX512F__)
    using I = xsimd::batch<bits_of<T>, A>;
    if constexpr (sizeof(counts) == 64 && sizeof(T) == 4) {
        return _mm512_mask_add_epi32(counts.data, which.data, counts.data, I(1).data);
    } else if constexpr (sizeof(counts) == 64) {
        return _mm512_mask_add_epi64(counts.data, which.data, counts.data, I(1).data);
    }
#endif
    return counts - bits_where<T>(which);
}

/// x, or 0 where the comparison holds.
template <class T, class A>
[[gnu::always_inline]] inline xsimd::batch<T, A> zero_where(const xsimd::batch_bool<T, A>& which,
                                                            const xsimd::batch<T, A>& x)
{
    if constexpr (sizeof(x) == 64) {
        return xsimd::select(which, xsimd::batch<T, A>(T(0)), x);
    } else {
        return from_bits<T>(as_bits(x) & ~bits_where<T>(which));
    }
}

// Three operations of xsimd's are written out for 512 bits: some builds leave xsimd's as functions of their own, where
// SCALEDOT_KERNELS_BEGIN does not reach the false alarms. Two of them are for all widths: xsimd's give the first or the
// second argument for NaN as its versions go, and NaN itself on Arm.

/// The larger of a and b, b where either is NaN.
template <class T, class A>
[[gnu::always_inline]] inline xsimd::batch<T, A> larger(const xsimd::batch<T, A>& a, const xsimd::batch<T, A>& b)
{
#if defined(__AVX512F__)
    if constexpr (sizeof(a) == 64 && std::is_same_v<T, float>) {
        return _mm512_max_ps(a.data, b.data);
    } else if constexpr (sizeof(a) == 64) {
        return _mm512_max_pd(a.data, b.data);
    }
#endif
#if defined(__AVX__)
    if constexpr (sizeof(a) == 32 && std::is_same_v<T, float>) {
        return _mm256_max_ps(a.data, b.data);
    } else if constexpr (sizeof(a) == 32) {
        return _mm256_max_pd(a.data, b.data);
    }
#endif
#if defined(__SSE2__)
    if constexpr (sizeof(a) == 16 && std::is_same_v<T, float>) {
        return _mm_max_ps(a.data, b.data);
    } else if constexpr (sizeof(a) == 16) {
        return _mm_max_pd(a.data, b.data);
    }
#endif
    return xsimd::select(a > b, a, b);
}

/// The smaller of a and b, b where either is NaN.
template <class T, class A>
[[gnu::always_inline]] inline xsimd::batch<T, A> smaller(const xsimd::batch<T, A>& a, const xsimd::batch<T, A>& b)
{
#if defined(__AVX512F__)
    if constexpr (sizeof(a) == 64 && std::is_same_v<T, float>) {
        return _mm512_min_ps(a.data, b.data);
    } else if constexpr (sizeof(a) == 64) {
        return _mm512_min_pd(a.data, b.data);
    }
#endif
#if defined(__AVX__)
    if constexpr (sizeof(a) == 32 && std::is_same_v<T, float>) {
        return _mm256_min_ps(a.data, b.data);
    } else if constexpr (sizeof(a) == 32) {
        return _mm256_min_pd(a.data, b.data);
    }
#endif
#if defined(__SSE2__)
    if constexpr (sizeof(a) == 16 && std::is_same_v<T, float>) {
        return _mm_min_ps(a.data, b.data);
    } else if constexpr (sizeof(a) == 16) {
        return _mm_min_pd(a.data, b.data);
    }
#endif
    return xsimd::select(a < b, a, b);
}

/// The larger of |x| and a, a number from 0 on; a where x is NaN.
template <class T, class A>
[[gnu::always_inline]] inline xsimd::batch<T, A> larger_magnitude(const xsimd::batch<T, A>& x,
                                                                  const xsimd::batch<T, A>& a)
{
#if defined(__AVX512DQ__)
    constexpr int largest_magnitude = 3 | 2 << 2; // of two, as a positive number
    if constexpr (sizeof(x) == 64 && sizeof(T) == 4) {
        return _mm512_range_ps(x.data, a.data, largest_magnitude);
    } else if constexpr (sizeof(x) == 64) {
        return _mm512_range_pd(x.data, a.data, largest_magnitude);
    }
#endif
    return larger(xsimd::abs(x), a);
}

/// The smaller of |x| and a, a number from 0 on; a where x is NaN.
template <class T, class A>
[[gnu::always_inline]] inline xsimd::batch<T, A> smaller_magnitude(const xsimd::batch<T, A>& x,
                                                                   const xsimd::batch<T, A>& a)
{
#if defined(__AVX512DQ__)
    constexpr int smallest_magnitude = 2 | 2 << 2;
    if constexpr (sizeof(x) == 64 && sizeof(T) == 4) {
        return _mm512_range_ps(x.data, a.data, smallest_magnitude);
    } else if constexpr (sizeof(x) == 64) {
        return _mm512_range_pd(x.data, a.data, smallest_magnitude);
    }
#endif
    return smaller(xsimd::abs(x), a);
}

} // namespace scaledot::inline SCALEDOT_BUILD::kernel
SCALEDOT_KERNELS_END

#endif
