// SPDX-License-Identifier: BSD-3-Clause
// Neighbours of bfloat16, two in 32 bits. Those at even places and those at odd ones become a vector of floats each by
// a shift or a mask, and come back as they went, where neighbours in one vector would take shuffles both ways.
#ifndef SCALEDOT_KERNEL_BFLOAT16_PAIRS_HPP
#define SCALEDOT_KERNEL_BFLOAT16_PAIRS_HPP

#include <scaledot/bfloat16.hpp>
#include <scaledot/detail/config.hpp>
#include <scaledot/kernel/convert.hpp>
#include <scaledot/kernel/simd.hpp>
#include <scaledot/kernel/unroll.hpp>

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

SCALEDOT_KERNELS_BEGIN
namespace scaledot::inline SCALEDOT_BUILD::kernel {

/// As many neighbours as two vectors have floats.
template <class Arch>
class bfloat16_pairs {
    using F = batch<Arch, float>;
    using U = vector_of_t<std::uint32_t, F::size>;

public:
    static constexpr std::size_t size = 2 * F::size;

    [[gnu::always_inline]] explicit bfloat16_pairs(const bfloat16* source)
    {
        std::memcpy(&bits_, static_cast<const void*>(source), sizeof bits_);
    }

    /// Numbers rounded to nearest, ties to even. NaN must not have all its bits set, as it never has that arithmetic
    /// makes.
    [[gnu::always_inline]] bfloat16_pairs(const F& even, const F& odd)
        : bits_((rounded(even) >> 16) | (rounded(odd) & upper))
    {
    }

    /// The first `count` from memory, the others 0. Nothing past source[count - 1] is read.
    [[gnu::always_inline]] static bfloat16_pairs first(const bfloat16* source, std::size_t count)
    {
#if defined(__AVX512BW__)
        if constexpr (size == 32) {
            return bfloat16_pairs(std::bit_cast<U>(_mm512_maskz_loadu_epi16(first_mask(count), source)));
        }
#endif
        std::array<bfloat16, size> some{};
        copy_few(some.data(), source, count);
        return bfloat16_pairs(some.data());
    }

    /// Two neighbours each.
    [[gnu::always_inline]] const U& bits() const { return bits_; }

    [[gnu::always_inline]] F even() const { return std::bit_cast<F>(bits_ << 16); }
    [[gnu::always_inline]] F odd() const { return std::bit_cast<F>(bits_ & upper); }

    [[gnu::always_inline]] void store(bfloat16* target) const
    {
        std::memcpy(static_cast<void*>(target), &bits_, sizeof bits_);
    }

    /// Writes the first `count` only.
    [[gnu::always_inline]] void store_first(bfloat16* target, std::size_t count) const
    {
#if defined(__AVX512BW__)
        if constexpr (size == 32) {
            _mm512_mask_storeu_epi16(target, first_mask(count), std::bit_cast<__m512i>(bits_));
            return;
        }
#endif
        std::array<bfloat16, size> all;
        store(all.data());
        copy_few(target, all.data(), count);
    }

private:
    [[gnu::always_inline]] explicit bfloat16_pairs(const U& bits) : bits_(bits) {}

    static constexpr std::uint32_t upper = 0xffff0000u;

    /// `count`: less than 32.
    static std::uint32_t first_mask(std::size_t count) { return (std::uint32_t{1} << count) - 1; }

    /// Less than `size`, in moves of a half, a quarter, ... of them.
    [[gnu::always_inline]] static void copy_few(bfloat16* target, const bfloat16* source, std::size_t count)
    {
        unroll<std::bit_width(size) - 1>([&](auto i) __attribute__((always_inline)) {
            constexpr std::size_t part = size >> (i + 1);
            if (count & part) {
                std::memcpy(static_cast<void*>(target), static_cast<const void*>(source), part * sizeof(bfloat16));
                target += part;
                source += part;
            }
        });
    }

    [[gnu::always_inline]] static U rounded(const F& x) { return round_upper_halves(std::bit_cast<U>(x)); }

    U bits_;
};

} // namespace scaledot::inline SCALEDOT_BUILD::kernel
SCALEDOT_KERNELS_END

#endif
