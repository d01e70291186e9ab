// SPDX-License-Identifier: BSD-3-Clause
// The vectors kernels are written with: xsimd's batches on our own architecture tag, loads that widen storage types,
// and the barrier that keeps compensated steps alive under -ffast-math. The one file that knows how xsimd's versions
// differ.
#ifndef SCALEDOT_KERNEL_SIMD_HPP
#define SCALEDOT_KERNEL_SIMD_HPP

#include <scaledot/detail/config.hpp>
#include <scaledot/detail/element.hpp>
#include <scaledot/kernel/convert.hpp>
#include <scaledot/kernel/xsimd.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>

SCALEDOT_KERNELS_BEGIN
namespace scaledot::inline SCALEDOT_BUILD {

/// What bfloat16 is multiplied as: floats, pairs, or tiles of pairs.
enum class bfloat16_product { widened, pairs, tiles };

/// An instruction set to compute with: xsimd's architecture, and how bfloat16 is multiplied, of which xsimd 8 knows
/// nothing.
template <class Simd, bfloat16_product Product>
struct architecture {
    using simd = Simd;
    static constexpr bfloat16_product product = Product;
};

#if defined(SCALEDOT_MULTIPLIES_PAIRS)
using native_architecture = architecture<xsimd::default_arch, bfloat16_product::pairs>;
#else
using native_architecture = architecture<xsimd::default_arch, bfloat16_product::widened>;
#endif

/// For attention on bfloat16 alone, where the system permits it (detail::tiles_are_permitted).
using tile_architecture = architecture<xsimd::default_arch, bfloat16_product::tiles>;

namespace kernel {

/// A vector of T on Arch.
template <class Arch, class T>
using batch = xsimd::batch<T, typename Arch::simd>;

template <class Arch, class T>
inline constexpr std::size_t lanes = batch<Arch, T>::size;

template <class T>
using bits_of = std::conditional_t<sizeof(T) == 8, std::int64_t, std::int32_t>;

template <class Arch>
inline constexpr std::size_t alignment_of = Arch::simd::alignment();

/// Hides a value from the optimiser without costing an instruction: what depends on it is computed as written, also
/// under -ffast-math, which would otherwise simplify (a + b) - a to b and fold tests for infinities and NaN.
template <class T, class A>
[[gnu::always_inline]] inline xsimd::batch<T, A> barrier(xsimd::batch<T, A> x)
{
#if defined(__x86_64__) || defined(__i386__)
#if defined(__AVX512F__)
    asm("" : "+v"(x.data));
#else
    asm("" : "+x"(x.data));
#endif
#elif defined(__ARM_NEON)
    asm("" : "+w"(x.data));
#endif
    return x;
}

template <class T>
    requires std::is_floating_point_v<T>
[[gnu::always_inline]] inline T barrier(T x)
{
#if defined(__SSE2__)
    asm("" : "+x"(x));
#elif defined(__ARM_NEON)
    asm("" : "+w"(x));
#else
    asm("" : "+m"(x));
#endif
    return x;
}

template <class T, class A>
[[gnu::always_inline]] inline xsimd::batch<bits_of<T>, A> as_bits(const xsimd::batch<T, A>& x)
{
#if XSIMD_VERSION_MAJOR >= 9
    return xsimd::bitwise_cast<bits_of<T>>(x);
#else
    return xsimd::bitwise_cast<xsimd::batch<bits_of<T>, A>>(x);
#endif
}

template <class T, class A>
[[gnu::always_inline]] inline xsimd::batch<T, A> from_bits(const xsimd::batch<bits_of<T>, A>& x)
{
#if XSIMD_VERSION_MAJOR >= 9
    return xsimd::bitwise_cast<T>(x);
#else
    return xsimd::bitwise_cast<xsimd::batch<T, A>>(x);
#endif
}

/// a where the comparison of bit patterns holds, b elsewhere.
template <class I, class A>
[[gnu::always_inline]] inline xsimd::batch<I, A> select_bits(const xsimd::batch_bool<I, A>& which,
                                                             const xsimd::batch<I, A>& a, const xsimd::batch<I, A>& b)
{
#if XSIMD_VERSION_MAJOR < 9 && defined(__AVX512BW__)
    // The overload for AVX-512BW has a branch for bytes that does not compile without optimisation.
    if constexpr (std::is_base_of_v<xsimd::avx512bw, A>) {
        return xsimd::kernel::select(which, a, b, xsimd::avx512dq{});
    } else {
        return xsimd::select(which, a, b);
    }
#else
    return xsimd::select(which, a, b);
#endif
}

/// x * 2^Count of bit patterns.
template <int Count, class I, class A>
[[gnu::always_inline]] inline xsimd::batch<I, A> shift_left(const xsimd::batch<I, A>& x)
{
#if defined(__AVX512F__)
    if constexpr (sizeof(x) == 64 && sizeof(I) == 4) {
        return _mm512_slli_epi32(x.data, Count);
    } else if constexpr (sizeof(x) == 64) {
        return _mm512_slli_epi64(x.data, Count);
    }
#endif
    return x << Count;
}

/// The bits of +infinity: the exponent of T all ones. x is infinite or NaN exactly when its bits contain them.
template <class T>
inline constexpr bits_of<T> exponent_mask =
    static_cast<bits_of<T>>(sizeof(T) == 8 ? std::int64_t{0x7ff0000000000000} : std::int64_t{0x7f800000});

/// Products and sums of V round once: the machine has fused multiply-add, or V has 512 bits.
template <class V>
inline constexpr bool fused =
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
    true;
#else
    sizeof(V) == 64;
#endif

/// a * b + c. xsimd 8 does not fuse it on 512-bit vectors, and says so nowhere.
template <class T, class A>
[[gnu::always_inline]] inline xsimd::batch<T, A> multiply_add(const xsimd::batch<T, A>& a, const xsimd::batch<T, A>& b,
                                                              const xsimd::batch<T, A>& c)
{
#if defined(__AVX512F__)
    if constexpr (sizeof(a) == 64 && std::is_same_v<T, float>) {
        return _mm512_fmadd_ps(a.data, b.data, c.data);
    } else if constexpr (sizeof(a) == 64) {
        return _mm512_fmadd_pd(a.data, b.data, c.data);
    }
#endif
#if defined(__FMA__)
    if constexpr (sizeof(a) == 32 && std::is_same_v<T, float>) {
        return _mm256_fmadd_ps(a.data, b.data, c.data);
    } else if constexpr (sizeof(a) == 32) {
        return _mm256_fmadd_pd(a.data, b.data, c.data);
    }
#endif
    return xsimd::fma(a, b, c);
}

/// -x, which compilers make part of a fused multiply-add; xsimd 8's is a subtraction on 512 bits.
template <class T, class A>
[[gnu::always_inline]] inline xsimd::batch<T, A> negated(const xsimd::batch<T, A>& x)
{
    return xsimd::batch<T, A>(-x.data);
}

/// c - a * b
template <class V>
[[gnu::always_inline]] inline V negative_multiply_add(const V& a, const V& b, const V& c)
{
    return multiply_add(negated(a), b, c);
}

/// a / b. With -ffast-math compilers divide floats by an estimate of 1/b, good to as few as 12 bits: there the quotient
/// is corrected by what it leaves of a, but for infinite ones, which leave NaN.
template <class T, class A>
[[gnu::always_inline]] inline xsimd::batch<T, A> quotient(const xsimd::batch<T, A>& a, const xsimd::batch<T, A>& b)
{
#if defined(__FAST_MATH__)
    using V = xsimd::batch<T, A>;
    using I = xsimd::batch<bits_of<T>, A>;
    const V estimate = barrier(V(a / b));
    const V rest = barrier(negative_multiply_add(estimate, b, a));
    const V corrected = barrier(V(estimate + rest / b));
    const I exponent = as_bits(corrected) & I(exponent_mask<T>);
    return from_bits<T>(select_bits(exponent == I(exponent_mask<T>), as_bits(estimate), as_bits(corrected)));
#else
    return a / b;
#endif
}

/// Lanes of storage type S from memory, widened to T. No alignment is asked for.
template <class Arch, class T, class S>
[[gnu::always_inline]] inline batch<Arch, T> load_vector(const S* source)
{
    if constexpr (std::is_same_v<S, T>) {
        return batch<Arch, T>::load_unaligned(source);
    } else {
        return widen<batch<Arch, T>>(source);
    }
}

/// Rounds T to storage type S and writes all lanes.
template <class Arch, class T, class S>
[[gnu::always_inline]] inline void store_vector(S* target, const batch<Arch, T>& x)
{
    if constexpr (std::is_same_v<S, T>) {
        x.store_unaligned(target);
    } else {
        narrow(target, x);
    }
}

/// Floats as two vectors of double, the lower lanes first.
template <class A>
[[gnu::always_inline]] inline std::array<xsimd::batch<double, A>, 2> widen_halves(const xsimd::batch<float, A>& x)
{
    using D = xsimd::batch<double, A>;
#if defined(__AVX512F__)
    if constexpr (sizeof(D) == 64) {
        return {D(_mm512_cvtps_pd(_mm512_castps512_ps256(x.data))),
                D(_mm512_cvtps_pd(_mm512_extractf32x8_ps(x.data, 1)))};
    }
#endif
#if defined(__AVX__)
    if constexpr (sizeof(D) == 32) {
        return {D(_mm256_cvtps_pd(_mm256_castps256_ps128(x.data))),
                D(_mm256_cvtps_pd(_mm256_extractf128_ps(x.data, 1)))};
    }
#endif
    alignas(A::alignment()) std::array<double, 2 * D::size> wide;
    alignas(A::alignment()) std::array<float, 2 * D::size> values;
    x.store_aligned(values.data());
    std::copy(values.begin(), values.end(), wide.begin());
    return {D::load_aligned(wide.data()), D::load_aligned(wide.data() + D::size)};
}

/// The way back, each number rounded once.
template <class A>
[[gnu::always_inline]] inline xsimd::batch<float, A> narrow_halves(const std::array<xsimd::batch<double, A>, 2>& x)
{
    using D = xsimd::batch<double, A>;
    alignas(A::alignment()) std::array<float, 2 * D::size> values;
    narrow(values.data(), x[0]);
    narrow(values.data() + D::size, x[1]);
    return xsimd::batch<float, A>::load_aligned(values.data());
}

/// The quiet NaN of T, by its bits: -ffast-math may assume numeric_limits' away.
template <class T>
inline T quiet_nan()
{
    if constexpr (sizeof(T) == 8) {
        return std::bit_cast<T>(std::uint64_t{0x7ff8000000000000u});
    } else {
        return std::bit_cast<T>(std::uint32_t{0x7fc00000u});
    }
}

template <class T>
inline constexpr bits_of<T> negative_infinity_bits =
    static_cast<bits_of<T>>(exponent_mask<T> | std::numeric_limits<bits_of<T>>::min());

template <class T>
inline constexpr T infinity = std::bit_cast<T>(exponent_mask<T>);

template <class T>
inline constexpr T negative_infinity = std::bit_cast<T>(negative_infinity_bits<T>);

} // namespace kernel
} // namespace scaledot::inline SCALEDOT_BUILD
SCALEDOT_KERNELS_END

#endif
