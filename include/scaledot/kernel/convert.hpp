// SPDX-License-Identifier: BSD-3-Clause
// Storage types to arithmetic types and back, one number or one vector at a time: half through F16C where the machine
// has it and through integer steps elsewhere (kernel/half.hpp), bfloat16 through a shift. Both directions round to
// nearest, ties to even.
#ifndef SCALEDOT_KERNEL_CONVERT_HPP
#define SCALEDOT_KERNEL_CONVERT_HPP

#include <scaledot/bfloat16.hpp>
#include <scaledot/detail/config.hpp>
#include <scaledot/detail/element.hpp>
#include <scaledot/kernel/half.hpp>
#include <scaledot/kernel/xsimd.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

SCALEDOT_KERNELS_BEGIN
namespace scaledot::inline SCALEDOT_BUILD::kernel {

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

/// Half or bfloat16.
template <class S>
inline constexpr bool has_16_bits = std::is_same_v<S, bfloat16> || std::is_same_v<S, xtl::half_float>;

/// Floats from such a type.
template <std::size_t Count, class S>
[[gnu::always_inline]] inline vector_of_t<float, Count> widen_16_bits(const S* source)
{
    if constexpr (std::is_same_v<S, bfloat16>) {
        return widen_bfloat16<Count>(source);
    } else {
#if defined(__F16C__)
#if defined(__AVX512F__)
        if constexpr (Count == 16) {
            return std::bit_cast<vector_of_t<float, Count>>(
                _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(source))));
        }
#endif
        if constexpr (Count == 8) {
            return std::bit_cast<vector_of_t<float, Count>>(
                _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(source))));
        } else if constexpr (Count == 4) {
            return std::bit_cast<vector_of_t<float, Count>>(
                _mm_cvtph_ps(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(source))));
        }
#endif
        return halves_to_floats<Count>(load_16_bits<Count>(source));
    }
}

/// The way back, to nearest, ties to even.
template <std::size_t Count, class S>
[[gnu::always_inline]] inline void narrow_16_bits(S* target, const vector_of_t<float, Count>& x)
{
    const auto store = [&](const auto& bits) __attribute__((always_inline))
    {
        std::memcpy(static_cast<void*>(target), &bits, sizeof bits);
    };
    if constexpr (std::is_same_v<S, bfloat16>) {
        store(round_to_bfloat16<Count>(x));
        return;
    }
#if defined(__F16C__)
#if defined(__AVX512F__)
    if constexpr (Count == 16) {
        store(_mm512_cvtps_ph(std::bit_cast<__m512>(x), _MM_FROUND_TO_NEAREST_INT));
        return;
    }
#endif
    if constexpr (Count == 8) {
        store(_mm256_cvtps_ph(std::bit_cast<__m256>(x), _MM_FROUND_TO_NEAREST_INT));
        return;
    } else if constexpr (Count == 4) {
        _mm_storel_epi64(reinterpret_cast<__m128i*>(target),
                         _mm_cvtps_ph(std::bit_cast<__m128>(x), _MM_FROUND_TO_NEAREST_INT));
        return;
    }
#endif
    store(lower_halves<Count>(floats_to_halves<Count>(x)));
}

template <std::size_t Count>
[[gnu::always_inline]] inline vector_of_t<double, Count> widen_floats(const vector_of_t<float, Count>& x)
{
    using doubles = vector_of_t<double, Count>;
#if defined(__AVX512F__)
    if constexpr (Count == 8) {
        return std::bit_cast<doubles>(_mm512_cvtps_pd(std::bit_cast<__m256>(x)));
    }
#endif
#if defined(__AVX__)
    if constexpr (Count == 4) {
        return std::bit_cast<doubles>(_mm256_cvtps_pd(std::bit_cast<__m128>(x)));
    }
#endif
    return __builtin_convertvector(x, doubles);
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
#if defined(__AVX__)
    if constexpr (Count == 4) {
        return std::bit_cast<floats>(_mm256_cvtpd_ps(std::bit_cast<__m256d>(x)));
    }
#endif
    floats result = __builtin_convertvector(x, floats);
    asm("" : "+m"(result)); // g++ 12 would take what is widened again for x itself
    return result;
}

/// A float for each lane of a vector of doubles, from memory of float or 16 bits. Of halves four are converted at once.
template <std::size_t Count, class S>
[[gnu::always_inline]] inline vector_of_t<float, Count> load_floats(const S* source)
{
    static_assert(has_16_bits<S> || std::is_same_v<S, float>);
    if constexpr (!has_16_bits<S>) {
        vector_of_t<float, Count> floats;
        std::memcpy(&floats, source, sizeof floats);
        return floats;
    } else if constexpr (Count >= 4) {
        return widen_16_bits<Count>(source);
    } else if constexpr (std::is_same_v<S, bfloat16>) {
        const vector_of_t<float, Count> two{to_arithmetic<float>(source[0]), to_arithmetic<float>(source[1])};
        return two;
    } else {
        std::uint32_t both;
        std::memcpy(&both, static_cast<const void*>(source), sizeof both);
        const auto padded = std::bit_cast<std::array<S, 4>>(std::uint64_t{both}); // in a register
        const auto four = widen_16_bits<4>(padded.data());
        const vector_of_t<float, Count> two{four[0], four[1]};
        return two;
    }
}

/// The way back.
template <std::size_t Count, class S>
[[gnu::always_inline]] inline void store_floats(S* target, const vector_of_t<float, Count>& x)
{
    static_assert(has_16_bits<S> || std::is_same_v<S, float>);
    if constexpr (!has_16_bits<S>) {
        std::memcpy(target, &x, sizeof x);
    } else if constexpr (Count >= 4) {
        narrow_16_bits<Count>(target, x);
    } else if constexpr (std::is_same_v<S, bfloat16>) {
        for (std::size_t i = 0; i < Count; ++i) {
            target[i] = to_storage<S>(x[i]);
        }
    } else {
        std::array<S, 4> padded;
        narrow_16_bits<4>(padded.data(), vector_of_t<float, 4>{x[0], x[1], 0, 0});
        std::copy_n(padded.data(), Count, target);
    }
}

/// A vector from memory of another element type, number by number where it is not one of ours or the wider one.
template <class Batch, class S>
[[gnu::always_inline]] inline Batch widen(const S* source)
{
    using T = typename Batch::value_type;
    constexpr std::size_t count = Batch::size;
    if constexpr (std::is_same_v<T, float> && has_16_bits<S>) {
        return std::bit_cast<Batch>(widen_16_bits<count>(source));
    } else if constexpr (std::is_same_v<T, double> && (has_16_bits<S> || std::is_same_v<S, float>)) {
        return std::bit_cast<Batch>(widen_floats<count>(load_floats<count>(source)));
    } else {
        alignas(Batch::arch_type::alignment()) std::array<T, count> values;
        for (std::size_t i = 0; i < count; ++i) {
            values[i] = to_arithmetic<T>(source[i]);
        }
        return Batch::load_aligned(values.data());
    }
}

/// A vector rounded to another element type, to memory; from double to 16 bits by way of float.
template <class S, class Batch>
[[gnu::always_inline]] inline void narrow(S* target, const Batch& x)
{
    using T = typename Batch::value_type;
    constexpr std::size_t count = Batch::size;
    if constexpr (std::is_same_v<T, float> && has_16_bits<S>) {
        narrow_16_bits<count>(target, std::bit_cast<vector_of_t<T, count>>(x));
    } else if constexpr (std::is_same_v<T, double> && (has_16_bits<S> || std::is_same_v<S, float>)) {
        store_floats<count>(target, narrow_doubles<count>(std::bit_cast<vector_of_t<T, count>>(x)));
    } else {
        alignas(Batch::arch_type::alignment()) std::array<T, count> values;
        x.store_aligned(values.data());
        for (std::size_t i = 0; i < count; ++i) {
            target[i] = to_storage<S>(values[i]);
        }
    }
}

} // namespace scaledot::inline SCALEDOT_BUILD::kernel
SCALEDOT_KERNELS_END

#endif
