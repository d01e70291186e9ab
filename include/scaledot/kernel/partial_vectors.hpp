// SPDX-License-Identifier: BSD-3-Clause
// Vectors of which only the first lanes count: rows seldom end where a vector does.
#ifndef SCALEDOT_KERNEL_PARTIAL_VECTORS_HPP
#define SCALEDOT_KERNEL_PARTIAL_VECTORS_HPP

#include <scaledot/detail/config.hpp>
#include <scaledot/kernel/convert.hpp>
#include <scaledot/kernel/simd.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <type_traits>

SCALEDOT_KERNELS_BEGIN
namespace scaledot::inline SCALEDOT_BUILD::kernel {

/// The first `count` lanes from memory, the others `fill`. Nothing past source[count - 1] is read.
template <class Arch, class T, class S>
[[gnu::always_inline]] inline batch<Arch, T> load_partial(const S* source, std::size_t count, T fill)
{
#if defined(__AVX512F__)
    if constexpr (sizeof(batch<Arch, T>) == 64 && std::is_same_v<S, float> && std::is_same_v<T, float>) {
        return _mm512_mask_loadu_ps(batch<Arch, T>(fill).data, static_cast<__mmask16>((1u << count) - 1), source);
    } else if constexpr (sizeof(batch<Arch, T>) == 64 && std::is_same_v<S, double>) {
        return _mm512_mask_loadu_pd(batch<Arch, T>(fill).data, static_cast<__mmask8>((1u << count) - 1), source);
    }
#endif
    alignas(alignment_of<Arch>) std::array<T, lanes<Arch, T>> values;
    values.fill(fill);
    for (std::size_t i = 0; i < count; ++i) {
        values[i] = to_arithmetic<T>(source[i]);
    }
    return batch<Arch, T>::load_aligned(values.data());
}

/// Writes the first `count` lanes only.
template <class Arch, class T, class S>
[[gnu::always_inline]] inline void store_partial(S* target, std::size_t count, const batch<Arch, T>& x)
{
#if defined(__AVX512F__)
    if constexpr (sizeof(x) == 64 && std::is_same_v<S, float> && std::is_same_v<T, float>) {
        _mm512_mask_storeu_ps(target, static_cast<__mmask16>((1u << count) - 1), x.data);
        return;
    } else if constexpr (sizeof(x) == 64 && std::is_same_v<S, double> && std::is_same_v<T, double>) {
        _mm512_mask_storeu_pd(target, static_cast<__mmask8>((1u << count) - 1), x.data);
        return;
    }
#endif
    alignas(alignment_of<Arch>) std::array<S, lanes<Arch, T>> values;
    store_vector<Arch, T>(values.data(), x);
    std::memcpy(static_cast<void*>(target), values.data(), count * sizeof(S));
}

/// The first `count` lanes of numbers at `source`, which has any, the others source[0].
template <class Arch, class T, class S>
[[gnu::always_inline]] inline batch<Arch, T> load_some(const S* source, std::size_t count)
{
    return count == lanes<Arch, T> ? load_vector<Arch, T>(source)
                                   : load_partial<Arch, T>(source, count, to_arithmetic<T>(source[0]));
}

/// Writes the first `count` lanes, most often all of them.
template <class Arch, class T, class S>
[[gnu::always_inline]] inline void store_some(S* target, std::size_t count, const batch<Arch, T>& x)
{
    count == lanes<Arch, T> ? store_vector<Arch, T>(target, x) : store_partial<Arch, T>(target, count, x);
}

/// x in the first `count` lanes, 0 in the others.
template <class T, class A>
[[gnu::always_inline]] inline xsimd::batch<T, A> first_lanes(const xsimd::batch<T, A>& x, std::size_t count)
{
    constexpr std::size_t width = xsimd::batch<T, A>::size;
    static constexpr auto ones_and_zeros = [] {
        std::array<bits_of<T>, 2 * width> bits{};
        std::fill_n(bits.begin(), width, bits_of<T>(-1));
        return bits;
    }();
    using I = xsimd::batch<bits_of<T>, A>;
    return from_bits<T>(I(as_bits(x) & I::load_unaligned(ones_and_zeros.data() + width - count)));
}

} // namespace scaledot::inline SCALEDOT_BUILD::kernel
SCALEDOT_KERNELS_END

#endif
