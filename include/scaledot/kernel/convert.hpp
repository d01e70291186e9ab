// SPDX-License-Identifier: BSD-3-Clause
// Storage types to arithmetic types and back, one number or one vector at a time: half through F16C where the machine
// has it and through integer steps elsewhere, bfloat16 through a shift. Both directions round to nearest, ties to even.
#ifndef SCALEDOT_KERNEL_CONVERT_HPP
#define SCALEDOT_KERNEL_CONVERT_HPP

#include <scaledot/bfloat16.hpp>
#include <scaledot/detail/config.hpp>
#include <scaledot/detail/element.hpp>
#include <scaledot/kernel/xsimd.hpp>

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

SCALEDOT_KERNELS_BEGIN
namespace scaledot::inline SCALEDOT_BUILD::kernel {

/// Half bits to float, exactly. Works on normal floats only, so that flushed subnormals (-ffast-math) do no harm.
constexpr float half_to_float(std::uint16_t half)
{
    const std::uint32_t sign = static_cast<std::uint32_t>(half & 0x8000u) << 16;
    const std::uint32_t magnitude = half & 0x7fffu;
    if (magnitude >= 0x7c00u) {
        return std::bit_cast<float>(sign | 0x7f800000u | ((magnitude & 0x3ffu) << 13));
    }
    if (magnitude >= 0x0400u) {
        return std::bit_cast<float>(sign | ((magnitude << 13) + (112u << 23)));
    }
    const float subnormal = static_cast<float>(magnitude) * 0x1p-24f;
    return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(subnormal));
}

/// Float to half bits: nearest, ties to even; overflow gives infinity, NaN stays NaN.
constexpr std::uint16_t float_to_half(float value)
{
    const auto bits = std::bit_cast<std::uint32_t>(value);
    const std::uint32_t sign = (bits >> 16) & 0x8000u;
    const std::uint32_t magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) {
        return static_cast<std::uint16_t>(sign | 0x7e00u | ((magnitude >> 13) & 0x3ffu));
    }
    if (magnitude >= 0x477ff000u) { // 65520 and above round to infinity
        return static_cast<std::uint16_t>(sign | 0x7c00u);
    }
    if (magnitude >= 0x38800000u) { // normal halves
        const std::uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);
        return static_cast<std::uint16_t>(sign | ((rounded - (112u << 23)) >> 13));
    }
    if (magnitude < 0x33000000u) { // below half of the smallest subnormal
        return static_cast<std::uint16_t>(sign);
    }
    const std::uint32_t shift = 126u - (magnitude >> 23); // 14 … 24: a fraction of 24 bits to units of 2^-24
    const std::uint32_t fraction = (magnitude & 0x7fffffu) | 0x800000u;
    const std::uint32_t kept = fraction >> shift;
    const std::uint32_t rest = fraction & ((1u << shift) - 1u);
    const std::uint32_t middle = 1u << (shift - 1u);
    const std::uint32_t up = rest > middle || (rest == middle && (kept & 1u)) ? 1u : 0u;
    return static_cast<std::uint16_t>(sign | (kept + up));
}

template <class T, class S>
inline T to_arithmetic(S value)
{
    if constexpr (std::is_same_v<S, xtl::half_float>) {
        return static_cast<T>(half_to_float(std::bit_cast<std::uint16_t>(value)));
    } else if constexpr (std::is_same_v<S, bfloat16>) {
        return static_cast<T>(static_cast<float>(value));
    } else {
        return static_cast<T>(value);
    }
}

template <class S, class T>
inline S to_storage(T value)
{
    if constexpr (std::is_same_v<S, xtl::half_float>) {
        return std::bit_cast<xtl::half_float>(float_to_half(static_cast<float>(value)));
    } else if constexpr (std::is_same_v<S, bfloat16>) {
        return bfloat16(static_cast<float>(value));
    } else {
        return static_cast<S>(value);
    }
}

/// One storage type to another, rounding once (through float where neither is double).
template <class To, class From>
inline To convert_element(From value)
{
    return to_storage<To>(to_arithmetic<detail::arithmetic_t<From>>(value));
}

/// Count lanes of T as the compiler's own vector.
template <class T, std::size_t Count>
struct vector_of {
    typedef T type __attribute__((vector_size(Count * sizeof(T))));
};
template <class T, std::size_t Count>
using vector_of_t = typename vector_of<T, Count>::type;

// g++ 12 takes the compiler's own conversions of vectors apart: where there is an instruction, it is named.

/// 16 bits each from memory, in 32.
template <std::size_t Count, class S>
[[gnu::always_inline]] inline vector_of_t<std::uint32_t, Count> load_16_bits(const S* source)
{
    using words = vector_of_t<std::uint32_t, Count>;
#if defined(__AVX512F__)
    if constexpr (Count == 16) {
        return std::bit_cast<words>(
            _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(source))));
    }
#endif
#if defined(__AVX2__)
    if constexpr (Count == 8) {
        return std::bit_cast<words>(_mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(source))));
    } else if constexpr (Count == 4) {
        return std::bit_cast<words>(_mm_cvtepu16_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(source))));
    }
#endif
    vector_of_t<std::uint16_t, Count> bits;
    std::memcpy(&bits, static_cast<const void*>(source), sizeof bits);
    return __builtin_convertvector(bits, words);
}

/// The lower halves, whose upper ones are 0.
template <std::size_t Count>
[[gnu::always_inline]] inline vector_of_t<std::uint16_t, Count> lower_halves(const vector_of_t<std::uint32_t, Count>& x)
{
    using halves = vector_of_t<std::uint16_t, Count>;
#if defined(__AVX512F__)
    if constexpr (Count == 16) {
        return std::bit_cast<halves>(_mm512_cvtepi32_epi16(std::bit_cast<__m512i>(x)));
    }
#endif
#if defined(__AVX2__)
    if constexpr (Count == 8) {
        const auto wide = std::bit_cast<__m256i>(x);
        return std::bit_cast<halves>(_mm_packus_epi32(_mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1)));
    } else if constexpr (Count == 4) {
        const auto wide = std::bit_cast<__m128i>(x);
        halves result;
        _mm_storel_epi64(reinterpret_cast<__m128i*>(&result), _mm_packus_epi32(wide, wide));
        return result;
    }
#endif
    return __builtin_convertvector(x, halves);
}

#if defined(__AVX512BW__)
/// Words 0 ... 15 of a register in the upper halves of its lanes, and the way back.
[[gnu::always_inline]] inline __m512i words_to_upper_halves(__m512i x)
{
    const __m512i word = _mm512_set_epi16(15, 15, 14, 14, 13, 13, 12, 12, 11, 11, 10, 10, 9, 9, 8, 8, 7, 7, 6, 6, 5, 5,
                                          4, 4, 3, 3, 2, 2, 1, 1, 0, 0);
    return _mm512_maskz_permutexvar_epi16(0xaaaaaaaa, word, x);
}
[[gnu::always_inline]] inline __m256i upper_halves(__m512i x)
{
    const __m512i word = _mm512_set_epi16(31, 29, 27, 25, 23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1, 31, 29, 27, 25, 23,
                                          21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1);
    return _mm512_castsi512_si256(_mm512_permutexvar_epi16(word, x));
}
#endif

template <std::size_t Count>
[[gnu::always_inline]] inline vector_of_t<float, Count> widen_bfloat16(const bfloat16* source)
{
#if defined(__AVX512BW__)
    if constexpr (Count == 16) {
        const __m256i words = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(source));
        return std::bit_cast<vector_of_t<float, Count>>(words_to_upper_halves(_mm512_castsi256_si512(words)));
    }
#endif
    return std::bit_cast<vector_of_t<float, Count>>(load_16_bits<Count>(source) << 16);
}

/// The bits of a float rounded to bfloat16, nearest, ties to even, in the upper half; the lower one is anything. NaN
/// whose upper 16 bits but the sign are all set is carried away.
template <class Bits>
[[gnu::always_inline]] inline Bits round_upper_halves(const Bits& bits)
{
    return bits + 0x7fffu + ((bits >> 16) & 1u);
}

/// bfloat16's bits of floats: nearest, ties to even, NaN stays (quiet) NaN.
template <std::size_t Count>
[[gnu::always_inline]] inline vector_of_t<std::uint16_t, Count> round_to_bfloat16(const vector_of_t<float, Count>& x)
{
    using bits = vector_of_t<std::uint32_t, Count>;
    const bits all = std::bit_cast<bits>(x);
#if defined(__AVX512BW__) && defined(__AVX512DQ__)
    if constexpr (Count == 16) {
        constexpr int nan_of_any_kind = 0x81;
        const __mmask16 nan = _mm512_fpclass_ps_mask(std::bit_cast<__m512>(x), nan_of_any_kind);
        const __m512i unrounded = std::bit_cast<__m512i>(all);
        const __mmask16 odd = _mm512_test_epi32_mask(unrounded, _mm512_set1_epi32(0x10000));
        const __m512i below = std::bit_cast<__m512i>(all + 0x7fffu);
        const __m512i rounded = _mm512_mask_add_epi32(below, odd, below, _mm512_set1_epi32(1));
        const __m512i result = _mm512_mask_or_epi32(rounded, nan, unrounded, _mm512_set1_epi32(0x400000));
        return std::bit_cast<vector_of_t<std::uint16_t, Count>>(upper_halves(result));
    }
#endif
    const bits rounded = round_upper_halves(all) >> 16;
    const bits quiet = (all >> 16) | 0x40u;
    const bits nan = std::bit_cast<bits>((all & 0x7fffffffu) > 0x7f800000u);
    const bits result = (rounded & ~nan) | (quiet & nan);
    return lower_halves<Count>(result);
}

/// Whether there are instructions for as many lanes of a storage type of 16 bits.
template <class S, std::size_t Count>
inline constexpr bool converts_vectors = Count >= 4 && std::is_same_v<S, bfloat16>;
#if defined(__F16C__)
template <std::size_t Count>
inline constexpr bool converts_vectors<xtl::half_float, Count> = Count >= 4;
#endif

/// Floats from such a type.
template <std::size_t Count, class S>
[[gnu::always_inline]] inline vector_of_t<float, Count> widen_16_bits(const S* source)
{
    if constexpr (std::is_same_v<S, bfloat16>) {
        return widen_bfloat16<Count>(source);
    }
#if defined(__F16C__)
#if defined(__AVX512F__)
    else if constexpr (Count == 16) {
        return std::bit_cast<vector_of_t<float, Count>>(
            _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(source))));
    }
#endif
    else if constexpr (Count == 8) {
        return std::bit_cast<vector_of_t<float, Count>>(
            _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(source))));
    } else {
        return std::bit_cast<vector_of_t<float, Count>>(
            _mm_cvtph_ps(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(source))));
    }
#endif
}

/// The way back, to nearest, ties to even.
template <std::size_t Count, class S>
[[gnu::always_inline]] inline void narrow_16_bits(S* target, const vector_of_t<float, Count>& x)
{
    if constexpr (std::is_same_v<S, bfloat16>) {
        const auto bits = round_to_bfloat16<Count>(x);
        std::memcpy(static_cast<void*>(target), &bits, sizeof bits);
    }
#if defined(__F16C__)
#if defined(__AVX512F__)
    else if constexpr (Count == 16) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(target),
                            _mm512_cvtps_ph(std::bit_cast<__m512>(x), _MM_FROUND_TO_NEAREST_INT));
    }
#endif
    else if constexpr (Count == 8) {
        _mm_storeu_si128(reinterpret_cast<__m128i*>(target),
                         _mm256_cvtps_ph(std::bit_cast<__m256>(x), _MM_FROUND_TO_NEAREST_INT));
    } else {
        _mm_storel_epi64(reinterpret_cast<__m128i*>(target),
                         _mm_cvtps_ph(std::bit_cast<__m128>(x), _MM_FROUND_TO_NEAREST_INT));
    }
#endif
}

#if defined(__AVX__)
template <std::size_t Count>
[[gnu::always_inline]] inline vector_of_t<double, Count> widen_floats(const vector_of_t<float, Count>& x)
{
    using doubles = vector_of_t<double, Count>;
#if defined(__AVX512F__)
    if constexpr (Count == 8) {
        return std::bit_cast<doubles>(_mm512_cvtps_pd(std::bit_cast<__m256>(x)));
    }
#endif
    if constexpr (Count == 4) {
        return std::bit_cast<doubles>(_mm256_cvtps_pd(std::bit_cast<__m128>(x)));
    }
}

template <std::size_t Count>
[[gnu::always_inline]] inline vector_of_t<float, Count> narrow_doubles(const vector_of_t<double, Count>& x)
{
    using floats = vector_of_t<float, Count>;
#if defined(__AVX512F__)
    if constexpr (Count == 8) {
        return std::bit_cast<floats>(_mm512_cvtpd_ps(std::bit_cast<__m512d>(x)));
    }
#endif
    if constexpr (Count == 4) {
        return std::bit_cast<floats>(_mm256_cvtpd_ps(std::bit_cast<__m256d>(x)));
    }
}
#endif

/// A vector of another element type from memory, lane by lane where the machine has no instruction for it.
template <class Batch, class S>
[[gnu::always_inline]] inline Batch widen(const S* source)
{
    using T = typename Batch::value_type;
    constexpr std::size_t count = Batch::size;
    if constexpr (converts_vectors<S, count> && std::is_same_v<T, float>) {
        return std::bit_cast<Batch>(widen_16_bits<count>(source));
    }
#if defined(__AVX__)
    if constexpr (converts_vectors<S, count> && std::is_same_v<T, double>) {
        return std::bit_cast<Batch>(widen_floats<count>(widen_16_bits<count>(source)));
    }
    if constexpr (std::is_same_v<S, float> && std::is_same_v<T, double>) {
        vector_of_t<float, count> floats;
        std::memcpy(&floats, source, sizeof floats);
        return std::bit_cast<Batch>(widen_floats<count>(floats));
    }
#endif
    alignas(Batch::arch_type::alignment()) std::array<T, count> values;
    for (std::size_t i = 0; i < count; ++i) {
        values[i] = to_arithmetic<T>(source[i]);
    }
    return Batch::load_aligned(values.data());
}

/// A vector rounded to another element type, to memory; from double to 16 bits by way of float.
template <class S, class Batch>
[[gnu::always_inline]] inline void narrow(S* target, const Batch& x)
{
    using T = typename Batch::value_type;
    constexpr std::size_t count = Batch::size;
    if constexpr (converts_vectors<S, count> && std::is_same_v<T, float>) {
        narrow_16_bits<count>(target, std::bit_cast<vector_of_t<float, count>>(x));
        return;
    }
#if defined(__AVX__)
    if constexpr (converts_vectors<S, count> && std::is_same_v<T, double>) {
        narrow_16_bits<count>(target, narrow_doubles<count>(std::bit_cast<vector_of_t<double, count>>(x)));
        return;
    }
    if constexpr (std::is_same_v<S, float> && std::is_same_v<T, double>) {
        const auto floats = narrow_doubles<count>(std::bit_cast<vector_of_t<double, count>>(x));
        std::memcpy(target, &floats, sizeof floats);
        return;
    }
#endif
    alignas(Batch::arch_type::alignment()) std::array<T, count> values;
    x.store_aligned(values.data());
    std::array<S, count> rounded;
    for (std::size_t i = 0; i < count; ++i) {
        rounded[i] = to_storage<S>(values[i]);
    }
    asm("" : "+m"(rounded)); // g++ 12 would take what is widened again for x itself
    std::memcpy(static_cast<void*>(target), rounded.data(), sizeof rounded);
}

} // namespace scaledot::inline SCALEDOT_BUILD::kernel
SCALEDOT_KERNELS_END

#endif
