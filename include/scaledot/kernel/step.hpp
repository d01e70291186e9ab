// SPDX-License-Identifier: BSD-3-Clause
// One step of a matrix product: a broadcast element times a vector of elements, added to sums. Elements are numbers of
// the arithmetic type, or pairs of bfloat16 where the machine multiplies those.
#ifndef SCALEDOT_KERNEL_STEP_HPP
#define SCALEDOT_KERNEL_STEP_HPP

#include <scaledot/bfloat16.hpp>
#include <scaledot/detail/config.hpp>
#include <scaledot/kernel/simd.hpp>

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

SCALEDOT_KERNELS_BEGIN
namespace scaledot::inline SCALEDOT_BUILD::kernel {

/// a * b + c on numbers of T, rounded once where the machine can. The right factor may lie in memory as another type,
/// S, that is widened as it is read.
template <class Arch, class T, class S = T>
struct number_step {
    using arch = Arch;
    using element = T;
    using right_element = S;
    using vector = batch<Arch, T>;
    using sum = batch<Arch, T>;
    static constexpr std::size_t lanes = kernel::lanes<Arch, T>;
    /// Terms of a sum in one step.
    static constexpr std::size_t depth = 1;
    /// Steps that are taken together: rows have a multiple of it, rounded up with zeros.
    static constexpr std::size_t together = 1;
    /// How often an element of a left factor lies in memory, side by side (spread_row): SSE2 has no instruction that
    /// broadcasts from memory.
    static constexpr std::size_t copies = sizeof(vector) == 16 && !fused<vector> ? lanes : 1;

    [[gnu::always_inline]] static vector load(const S* x) { return load_vector<Arch, T>(x); }
    [[gnu::always_inline]] static vector broadcast(const T* x) { return vector(*x); }
    /// broadcast of an element that lies `copies` times at x.
    [[gnu::always_inline]] static vector load_left(const T* x)
    {
        return copies == 1 ? broadcast(x) : vector::load_unaligned(x);
    }
    [[gnu::always_inline]] static sum multiply_add(const vector& a, const vector& b, const sum& c)
    {
        return kernel::multiply_add(a, b, c);
    }
    /// b, or 0 where its term is excluded.
    [[gnu::always_inline]] static vector without(const vector& b, const bool* excluded)
    {
        return *excluded ? vector(T(0)) : b;
    }
    /// Writes the weights of keys j ... j + lanes - 1 of a row; returns them as they were written.
    [[gnu::always_inline]] static sum store_weights(T* row, std::size_t j, const sum& weights)
    {
        weights.store_unaligned(row + j);
        return weights;
    }
    /// Multiplies the first `count` weights of a row.
    static void scale_weights(T* row, std::size_t count, T factor)
    {
        for (std::size_t j = 0; j < count; ++j) {
            row[j] *= factor;
        }
    }
};

#if defined(__AVX512BF16__)
/// a0 * b0 + a1 * b1 + c on pairs of bfloat16, accumulated in float as vdpbf16ps does: subnormals count as 0.
template <class Arch>
struct bfloat16_step {
    using arch = Arch;
    using element = std::uint32_t;
    using right_element = element;
    using vector = batch<Arch, element>;
    using sum = batch<Arch, float>;
    static constexpr std::size_t lanes = kernel::lanes<Arch, float>;
    static constexpr std::size_t depth = 2;
    static constexpr std::size_t together = 1;
    static constexpr std::size_t copies = 1;

    [[gnu::always_inline]] static vector load(const element* x) { return vector::load_unaligned(x); }
    // From a vector register: clang 16's optimiser does not end on one from memory that meets vdpbf16ps.
    [[gnu::always_inline]] static vector broadcast(const element* x)
    {
        return vector(_mm512_broadcastd_epi32(_mm_cvtsi32_si128(static_cast<int>(*x))));
    }
    [[gnu::always_inline]] static vector load_left(const element* x) { return broadcast(x); }
    [[gnu::always_inline]] static sum multiply_add(const vector& a, const vector& b, const sum& c)
    {
        // Reinterpreted, as no call may return a __m512bh: without optimisation, clang 16 loses one that outlives its
        // basic block, and sanitizers put a block's end between any two calls.
        const __m512i x = a.data, y = b.data;
        return sum(_mm512_dpbf16_ps(c.data, reinterpret_cast<__m512bh>(x), reinterpret_cast<__m512bh>(y)));
    }
    [[gnu::always_inline]] static vector without(const vector& b, const bool* excluded)
    {
        return b & vector((excluded[0] ? 0 : 0xffffu) | (excluded[1] ? 0 : 0xffff0000u));
    }
    [[gnu::always_inline]] static sum store_weights(element* row, std::size_t j, const sum& weights)
    {
        const auto rounded = _mm512_cvtneps_pbh(weights.data);
        std::memcpy(row + j / depth, &rounded, sizeof rounded);
        return std::bit_cast<sum>(_mm512_slli_epi32(_mm512_cvtepu16_epi32(std::bit_cast<__m256i>(rounded)), 16));
    }
    /// pairs[i] = (low[i], high[i]) for two vectors of pairs.
    [[gnu::always_inline]] static void store_pairs(const bfloat16* low, const bfloat16* high, element* pairs)
    {
        alignas(64) static constexpr auto places = [] {
            std::array<std::uint16_t, 2 * depth * lanes> result{};
            for (std::uint16_t i = 0; i < result.size(); ++i) {
                result[i] = static_cast<std::uint16_t>(i / depth + i % depth * depth * lanes);
            }
            return result;
        }();
        const __m512i a = _mm512_loadu_si512(low);
        const __m512i b = _mm512_loadu_si512(high);
        for (std::size_t v = 0; v < 2; ++v) {
            const __m512i from = _mm512_load_si512(places.data() + v * depth * lanes);
            _mm512_storeu_si512(pairs + v * lanes, _mm512_permutex2var_epi16(a, from, b));
        }
    }
    static void scale_weights(element* row, std::size_t count, float factor)
    {
        for (std::size_t i = 0; i < count / depth; ++i) {
            auto pair = std::bit_cast<std::array<bfloat16, depth>>(row[i]);
            for (bfloat16& weight : pair) {
                weight = bfloat16(static_cast<float>(weight) * factor);
            }
            row[i] = std::bit_cast<element>(pair);
        }
    }
};

/// Pairs that are multiplied a tile at a time (kernel/tiles.hpp), which fixes the order of a sum's terms.
template <class Arch>
struct bfloat16_tile_step : bfloat16_step<Arch> {
    static constexpr std::size_t together = 16;
};
#endif

template <class Step>
inline constexpr bool multiplies_tiles = Step::together > 1;

/// How attention multiplies: A, B and the arithmetic type decide.
template <class Arch, class T, class A, class B>
struct step_for {
    using type = number_step<Arch, T>;
};
#if defined(__AVX512BF16__)
template <class Arch>
    requires(Arch::product == bfloat16_product::pairs && sizeof(batch<Arch, float>) == 64)
struct step_for<Arch, float, bfloat16, bfloat16> {
    using type = bfloat16_step<Arch>;
};
template <class Arch>
    requires(Arch::product == bfloat16_product::tiles && sizeof(batch<Arch, float>) == 64)
struct step_for<Arch, float, bfloat16, bfloat16> {
    using type = bfloat16_tile_step<Arch>;
};
#endif
template <class Arch, class T, class A, class B>
using step_for_t = typename step_for<Arch, T, A, B>::type;

} // namespace scaledot::inline SCALEDOT_BUILD::kernel
SCALEDOT_KERNELS_END

#endif
