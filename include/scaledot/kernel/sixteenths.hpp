// SPDX-License-Identifier: BSD-3-Clause
// Tables of sixteen numbers, looked up for each lane, and multiplication by powers of two: 2^n for n in sixteenths.
#ifndef SCALEDOT_KERNEL_SIXTEENTHS_HPP
#define SCALEDOT_KERNEL_SIXTEENTHS_HPP

#include <scaledot/detail/config.hpp>
#include <scaledot/kernel/simd.hpp>

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>

SCALEDOT_KERNELS_BEGIN
namespace scaledot::inline SCALEDOT_BUILD::kernel {

/// 2^(j/16), rounded, as bits less what adding j to the lowest bits of the exponent and the highest of the fraction
/// puts there.
template <class T>
inline constexpr std::array<bits_of<T>, 16> sixteenth_bits;
template <>
alignas(64) inline constexpr std::array<std::int32_t, 16> sixteenth_bits<float> = {
    0x3f800000, 0x3f7daac3, 0x3f7b95c2, 0x3f79c3d3, 0x3f7837f0, 0x3f76f532, 0x3f75fed7, 0x3f75583f,
    0x3f7504f3, 0x3f7508a4, 0x3f75672a, 0x3f76248c, 0x3f7744fd, 0x3f78ccdf, 0x3f7ac0c7, 0x3f7d257d};
template <>
alignas(64) inline constexpr std::array<std::int64_t, 16> sixteenth_bits<double> = {
    0x3ff0000000000000, 0x3fefb5586cf9890f, 0x3fef72b83c7d517b, 0x3fef387a6e756238,
    0x3fef06fe0a31b715, 0x3feedea64c123422, 0x3feebfdad5362a27, 0x3feeab07dd485429,
    0x3feea09e667f3bcd, 0x3feea11473eb0187, 0x3feeace5422aa0db, 0x3feec49182a3f090,
    0x3feee89f995ad3ad, 0x3fef199bdd85529c, 0x3fef5818dcfba487, 0x3fefa4afa2a490da};

/// The same as numbers.
template <class T>
alignas(64) inline constexpr auto sixteenth_powers = [] {
    std::array<T, 16> powers{};
    for (std::size_t j = 0; j < 16; ++j) {
        powers[j] = std::bit_cast<T>(sixteenth_bits<T>[j] + (bits_of<T>(j) << (std::numeric_limits<T>::digits - 5)));
    }
    return powers;
}();

/// Whether the machine multiplies by 2^floor(n) in one instruction.
#if defined(__AVX512F__)
template <class B>
inline constexpr bool has_scaling = sizeof(B) == 64;

/// x * 2^floor(n), rounded once.
template <class T, class A>
    requires has_scaling<xsimd::batch<T, A>>
[[gnu::always_inline]] inline xsimd::batch<T, A> scaled_by_power(const xsimd::batch<T, A>& x,
                                                                 const xsimd::batch<T, A>& n)
{
    if constexpr (sizeof(T) == 4) {
        return _mm512_scalef_ps(x.data, n.data);
    } else {
        return _mm512_scalef_pd(x.data, n.data);
    }
}

#else
template <class B>
inline constexpr bool has_scaling = false;
#endif

/// table[index mod 16] for each lane: in registers where the machine picks lanes by an index, else from memory.
template <class T, class E, class A>
[[gnu::always_inline]] inline xsimd::batch<E, A> sixteenth(const std::array<E, 16>& table,
                                                           const xsimd::batch<bits_of<T>, A>& index)
{
#if defined(__AVX512F__)
    if constexpr (sizeof(index) == 64 && sizeof(E) == 4) {
        return std::bit_cast<xsimd::batch<E, A>>(_mm512_permutexvar_epi32(index.data, _mm512_load_si512(table.data())));
    } else if constexpr (sizeof(index) == 64) {
        return std::bit_cast<xsimd::batch<E, A>>(_mm512_permutex2var_epi64(_mm512_load_si512(table.data()), index.data,
                                                                           _mm512_load_si512(table.data() + 8)));
    }
#endif
#if defined(__AVX2__)
    if constexpr (sizeof(index) == 32 && sizeof(E) == 4) {
        const auto half = [&](std::size_t begin) {
            return _mm256_castsi256_ps(_mm256_permutevar8x32_epi32(
                _mm256_load_si256(reinterpret_cast<const __m256i*>(table.data() + begin)), index.data));
        };
        return std::bit_cast<xsimd::batch<E, A>>(
            _mm256_blendv_ps(half(0), half(8), _mm256_castsi256_ps(_mm256_slli_epi32(index.data, 28))));
    }
#endif
    constexpr std::size_t count = xsimd::batch<E, A>::size;
    alignas(A::alignment()) std::array<bits_of<T>, count> at;
    index.store_aligned(at.data());
    alignas(A::alignment()) std::array<E, count> found;
    for (std::size_t i = 0; i < count; ++i) {
        found[i] = table[static_cast<std::size_t>(at[i] & 15)];
    }
    return xsimd::batch<E, A>::load_aligned(found.data());
}

} // namespace scaledot::inline SCALEDOT_BUILD::kernel
SCALEDOT_KERNELS_END

#endif
