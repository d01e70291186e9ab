// SPDX-License-Identifier: BSD-3-Clause
// Masks on scores: what excludes a key, and what is added.
#ifndef SCALEDOT_KERNEL_MASK_HPP
#define SCALEDOT_KERNEL_MASK_HPP

#include <scaledot/detail/config.hpp>
#include <scaledot/kernel/choice.hpp>
#include <scaledot/kernel/convert.hpp>
#include <scaledot/kernel/simd.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

SCALEDOT_KERNELS_BEGIN
namespace scaledot::inline SCALEDOT_BUILD::kernel {

/// As many of a mask's bytes as a vector of T has lanes, one a lane.
template <class Arch, class T>
[[gnu::always_inline]] inline batch<Arch, bits_of<T>> widen_bytes(const bool* bytes)
{
    using I = batch<Arch, bits_of<T>>;
#if defined(__AVX512F__) // g++ 12 takes the compiler's own conversion apart
    if constexpr (sizeof(I) == 64 && sizeof(T) == 4) {
        return I(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes))));
    } else if constexpr (sizeof(I) == 64) {
        return I(_mm512_cvtepu8_epi64(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(bytes))));
    }
#endif
#if defined(__AVX2__)
    if constexpr (sizeof(I) == 32 && sizeof(T) == 4) {
        return I(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(bytes))));
    }
#endif
    vector_of_t<std::uint8_t, I::size> some;
    std::memcpy(&some, bytes, sizeof some);
    return std::bit_cast<I>(__builtin_convertvector(some, vector_of_t<bits_of<T>, I::size>));
}

/// A vector of numbers to be added to scores of type T, finite where they are finite.
template <class Arch, class T, class M>
[[gnu::always_inline]] inline batch<Arch, T> load_bias(const M* bias)
{
    if constexpr (std::is_same_v<T, float> && std::is_same_v<M, double>) {
        using D = batch<Arch, double>;
        using I = batch<Arch, std::int64_t>;
        const I infinite(exponent_mask<double>);
        const D largest(std::numeric_limits<float>::max());
        alignas(alignment_of<Arch>) std::array<float, lanes<Arch, float>> floats;
        for (std::size_t i = 0; i < floats.size(); i += D::size) {
            const D x = D::load_unaligned(bias + i);
            const D bounded = larger(smaller(x, largest), negated(largest));
            const I bits = as_bits(x);
            const I result = select_bits((bits & infinite) == infinite, bits, as_bits(bounded));
            store_vector<Arch, double>(floats.data() + i, from_bits<double>(result));
        }
        return batch<Arch, float>::load_aligned(floats.data());
    } else {
        return load_vector<Arch, T>(bias);
    }
}

/// score where kept is not 0, else -inf, whatever it was.
template <class B, class I>
[[gnu::always_inline]] inline B exclude(const B& score, const I& kept)
{
    using T = typename B::value_type;
    return from_bits<T>(select_bits(kept == I(0), I(negative_infinity_bits<T>), as_bits(score)));
}

/// Whether each lane of those bits is infinite or NaN.
template <class T, class I>
[[gnu::always_inline]] inline auto is_special(const I& bits)
{
    return (bits & I(exponent_mask<T>)) == I(exponent_mask<T>);
}

/// The sum of score and bias, but the largest number of its sign where it is infinite and neither of them is.
template <class B>
B bounded_sum(const B& score, const B& bias)
{
    using T = typename B::value_type;
    using I = std::decay_t<decltype(as_bits(score))>;
    const I sum = as_bits(barrier(B(score + bias)));
    // The bits before infinity's are those of the largest number.
    const I bounded = select_bits(is_special<T>(sum), I(sum - I(1)), sum);
    return from_bits<T>(select_bits(is_special<T>(as_bits(bias)) | is_special<T>(as_bits(score)), sum, bounded));
}

/// score + bias; -inf where bias is, whatever score is. The sum of two finite numbers stays finite, at most the largest
/// number: only -inf excludes.
template <class B>
[[gnu::always_inline]] inline B add_bias(const B& score, const B& bias)
{
    using T = typename B::value_type;
    using I = std::decay_t<decltype(as_bits(score))>;
    const I excluded(negative_infinity_bits<T>);
    const auto excludes = as_bits(bias) == excluded;
    I sum = as_bits(barrier(B(score + bias)));
    if (xsimd::any(is_special<T>(sum) & ~excludes)) [[unlikely]] {
        sum = as_bits(bounded_sum(score, bias));
    }
    return from_bits<T>(select_bits(excludes, excluded, sum));
}

/// Applies a mask row whose elements are `step` apart: false or -inf makes the score -inf, whatever it was; other
/// numbers are added to factor * score, see add_bias. Scores are there in whole vectors; what is behind the `count` of
/// the mask becomes anything.
template <class Arch, class T, class M>
void mask_row(T* scores, std::size_t count, const M* mask, std::ptrdiff_t step, [[maybe_unused]] T factor)
{
    using B = batch<Arch, T>;
    constexpr std::size_t lanes = B::size;
    const auto apply = [&](T * of_scores, const M* of_mask) __attribute__((always_inline))
    {
        const B score = B::load_unaligned(of_scores);
        if constexpr (std::is_same_v<M, bool>) {
            exclude(score, widen_bytes<Arch, T>(of_mask)).store_unaligned(of_scores);
        } else {
            add_bias(barrier(B(score * B(factor))), load_bias<Arch, T>(of_mask)).store_unaligned(of_scores);
        }
    };
    std::size_t j = 0;
    for (; step == 1 && j + lanes <= count; j += lanes) {
        apply(scores + j, mask + j);
    }
    for (; j < count; j += lanes) {
        std::array<M, lanes> some{};
        for (std::size_t k = 0; k < std::min(lanes, count - j); ++k) {
            some[k] = mask[static_cast<std::ptrdiff_t>(j + k) * step];
        }
        apply(scores + j, some.data());
    }
}

} // namespace scaledot::inline SCALEDOT_BUILD::kernel
SCALEDOT_KERNELS_END

#endif
