// SPDX-License-Identifier: BSD-3-Clause
// Ways to memory besides whole vectors: the first lanes under a mask, and stores past the caches for results too large
// to stay there, which spare reading what they overwrite.
#ifndef SCALEDOT_KERNEL_STREAM_HPP
#define SCALEDOT_KERNEL_STREAM_HPP

#include <scaledot/detail/config.hpp>
#include <scaledot/kernel/convert.hpp>
#include <scaledot/kernel/partial_vectors.hpp>
#include <scaledot/kernel/simd.hpp>

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <type_traits>

SCALEDOT_KERNELS_BEGIN
namespace scaledot::inline SCALEDOT_BUILD::kernel {

/// Numbers of S in so many bytes as V takes, masked by instructions of their own.
template <class V, class S>
inline constexpr bool masked_access =
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__)
    sizeof(V) == 64 && (std::is_same_v<S, float> || std::is_same_v<S, double> || sizeof(S) == 2);
#else
    false;
#endif

/// The first `count` lanes from memory, the others `fill`. Nothing past source[count - 1] is read.
template <class Arch, class T, class S>
[[gnu::always_inline]] inline batch<Arch, T> load_first(const S* source, std::size_t count, S fill = S{})
{
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__)
    using V = batch<Arch, T>;
    if constexpr (masked_access<V, S> && (std::is_same_v<S, T> || (sizeof(S) == 2 && std::is_same_v<T, float>))) {
        const auto mask = static_cast<std::uint32_t>((std::uint32_t{1} << count) - 1);
        if constexpr (std::is_same_v<T, double>) {
            return V(_mm512_mask_loadu_pd(_mm512_set1_pd(fill), static_cast<__mmask8>(mask), source));
        } else if constexpr (std::is_same_v<S, float>) {
            return V(_mm512_mask_loadu_ps(_mm512_set1_ps(fill), static_cast<__mmask16>(mask), source));
        } else {
            const __m256i others = _mm256_set1_epi16(std::bit_cast<std::int16_t>(fill));
            const __m256i bits = _mm256_mask_loadu_epi16(others, static_cast<__mmask16>(mask), source);
            alignas(32) std::array<S, V::size> values;
            _mm256_store_si256(reinterpret_cast<__m256i*>(values.data()), bits);
            return load_vector<Arch, T>(values.data());
        }
    }
#endif
    return load_partial<Arch, T>(source, count, to_arithmetic<T>(fill));
}

/// Writes the first `count` lanes only.
template <class Arch, class T, class S>
[[gnu::always_inline]] inline void store_first(S* target, std::size_t count, const batch<Arch, T>& x)
{
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__)
    using V = batch<Arch, T>;
    if constexpr (masked_access<V, S> && (std::is_same_v<S, T> || (sizeof(S) == 2 && std::is_same_v<T, float>))) {
        const auto mask = static_cast<std::uint32_t>((std::uint32_t{1} << count) - 1);
        if constexpr (std::is_same_v<T, double>) {
            _mm512_mask_storeu_pd(target, static_cast<__mmask8>(mask), x.data);
        } else if constexpr (std::is_same_v<S, float>) {
            _mm512_mask_storeu_ps(target, static_cast<__mmask16>(mask), x.data);
        } else {
            alignas(32) std::array<S, V::size> values;
            store_vector<Arch, T>(values.data(), x);
            const __m256i bits = _mm256_load_si256(reinterpret_cast<const __m256i*>(values.data()));
            _mm256_mask_storeu_epi16(target, static_cast<__mmask16>(mask), bits);
        }
        return;
    }
#endif
    store_partial<Arch, T>(target, count, x);
}

/// Bytes that stream_vector writes of a vector of T as S, to which its target must be aligned.
template <class Arch, class T, class S>
inline constexpr std::size_t streamed_bytes = lanes<Arch, T> * sizeof(S);

/// Elements of y before the first at which stream_vector may write.
template <class Arch, class T, class S>
[[gnu::always_inline]] inline std::size_t elements_before_stream(const S* y)
{
    constexpr std::size_t bytes = streamed_bytes<Arch, T, S>;
    return (bytes - reinterpret_cast<std::uintptr_t>(y) % bytes) % bytes / sizeof(S);
}

/// Rounds T to storage type S and writes all lanes past the caches, where the machine can; `fence_stream` before others
/// read them.
template <class Arch, class T, class S>
[[gnu::always_inline]] inline void stream_vector(S* target, const batch<Arch, T>& x)
{
#if defined(__SSE2__)
    constexpr std::size_t bytes = streamed_bytes<Arch, T, S>;
    if constexpr (bytes == 16 || bytes == 32 || bytes == 64) {
        alignas(bytes) std::array<S, lanes<Arch, T>> values;
        store_vector<Arch, T>(values.data(), x);
#if defined(__AVX512F__)
        if constexpr (bytes == 64) {
            _mm512_stream_si512(reinterpret_cast<__m512i*>(target), _mm512_load_si512(values.data()));
            return;
        }
#endif
#if defined(__AVX__)
        if constexpr (bytes == 32) {
            _mm256_stream_si256(reinterpret_cast<__m256i*>(target),
                                _mm256_load_si256(reinterpret_cast<const __m256i*>(values.data())));
            return;
        }
#endif
        if constexpr (bytes == 16) {
            _mm_stream_si128(reinterpret_cast<__m128i*>(target),
                             _mm_load_si128(reinterpret_cast<const __m128i*>(values.data())));
            return;
        }
    }
#endif
    store_vector<Arch, T>(target, x);
}

/// Asks for the line of an element that will be written without streaming, since the others of its line belong to
/// another row: stores leave in order, and those streamed after it would wait for it.
[[gnu::always_inline]] inline void ask_to_write(const void* element)
{
    __builtin_prefetch(element, 1, 3);
}

/// Makes what was streamed visible to those who are told of it later.
inline void fence_stream()
{
#if defined(__SSE2__)
    _mm_sfence();
#endif
}

/// Inputs and outputs of more bytes than this, together, are taken not to be in a cache close enough for what is
/// written to be worth keeping there.
inline constexpr std::size_t cached_bytes = std::size_t{16} << 20;
/// Unless it is less for each thread: what its second-level cache may hold.
inline constexpr std::size_t cached_bytes_of_thread = std::size_t{2} << 20;

/// How results go to memory.
enum class store_kind { cached, streamed };

} // namespace scaledot::inline SCALEDOT_BUILD::kernel
SCALEDOT_KERNELS_END

#endif
