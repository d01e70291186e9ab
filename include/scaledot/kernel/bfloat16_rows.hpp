// SPDX-License-Identifier: BSD-3-Clause
// The pass of kernel/norm_rows.hpp that writes a row, from bfloat16 to bfloat16. Two neighbours share 32 bits; those at
// even places and those at odd ones become a vector of floats each by a shift or a mask, and come back as they went,
// where neighbours in one vector would take shuffles both ways. gamma and beta are put in that order once a call.
#ifndef SCALEDOT_KERNEL_BFLOAT16_ROWS_HPP
#define SCALEDOT_KERNEL_BFLOAT16_ROWS_HPP

#include <scaledot/bfloat16.hpp>
#include <scaledot/detail/config.hpp>
#include <scaledot/kernel/convert.hpp>
#include <scaledot/kernel/norm.hpp>
#include <scaledot/kernel/partial_vectors.hpp>
#include <scaledot/kernel/shuffle.hpp>
#include <scaledot/kernel/simd.hpp>
#include <scaledot/kernel/unroll.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

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
        std::array<bfloat16, size> some{};
#if defined(__AVX512BW__)
        if constexpr (size == 32) {
            const __m512i bits = _mm512_maskz_loadu_epi16(first_mask(count), source);
            std::memcpy(static_cast<void*>(some.data()), &bits, sizeof bits);
            return bfloat16_pairs(some.data());
        }
#endif
        copy_few(some.data(), source, count);
        return bfloat16_pairs(some.data());
    }

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

    /// In the upper half; the lower one is anything.
    [[gnu::always_inline]] static U rounded(const F& x)
    {
        const U bits = std::bit_cast<U>(x);
        return bits + 0x7fffu + ((bits >> 16) & 1u);
    }

    U bits_;
};

/// x, or the NaN that arithmetic makes where x is NaN.
template <class F>
[[gnu::always_inline]] inline F with_plain_nan(const F& x)
{
    using I = std::decay_t<decltype(as_bits(x))>;
    const I bits = as_bits(x);
    const auto is_nan = (bits & I(0x7fffffff)) > I(exponent_mask<float>);
    return from_bits<float>(select_bits(is_nan, I(std::bit_cast<std::int32_t>(quiet_nan<float>())), bits));
}

/// gamma or beta, or `absent_value` for all of it, as bfloat16_pairs has it: of as many neighbours the ones at even
/// places first. `target` has room for whole pairs of vectors.
template <class Arch, class P>
void order_as_pairs(float* target, const P* parameter, std::size_t count, float absent_value)
{
    using F = batch<Arch, float>;
    constexpr std::size_t step = 2 * F::size;
    if constexpr (std::is_same_v<P, absent>) {
        std::fill_n(target, (count + step - 1) / step * step, absent_value);
    } else {
        const auto order = [](float* to, const P* from) __attribute__((always_inline))
        {
            const F a = with_plain_nan(load_vector<Arch, float>(from));
            const F b = with_plain_nan(load_vector<Arch, float>(from + F::size));
            F(shuffles::every_other<F::size, 0>::apply(a.data, b.data)).store_aligned(to);
            F(shuffles::every_other<F::size, 1>::apply(a.data, b.data)).store_aligned(to + F::size);
        };
        std::size_t i = 0;
        for (; i + step <= count; i += step) {
            order(target + i, parameter + i);
        }
        if (i < count) {
            std::array<P, step> last{};
            std::copy_n(parameter + i, count - i, last.begin());
            order(target + i, last.data());
        }
    }
}

/// row_output of kernel/norm_rows.hpp for rows of bfloat16, which are not streamed: arithmetic takes longer than
/// memory. y may be x itself.
template <class Arch, bool Centred>
class bfloat16_output {
    using F = batch<Arch, float>;
    using pairs = bfloat16_pairs<Arch>;

public:
    static constexpr std::size_t step_size = pairs::size;

    /// gamma and beta are ordered as pairs; beta is read with Centred only.
    template <class Normalizations>
    [[gnu::always_inline]] bfloat16_output(bfloat16* y, const bfloat16* x, const float* gamma, const float* beta,
                                           std::size_t count, const Normalizations& n, std::size_t row)
        : y_(y), x_(x), gamma_(gamma), beta_(beta), count_(count), mean_(n.mean[row]), offset_(n.offset[row]),
          inverse_(n.inverse[row])
    {
    }

    [[gnu::always_inline]] bool has_step() const { return i_ + step_size <= count_; }

    [[gnu::always_inline]] void step()
    {
        result(pairs(x_ + i_)).store(y_ + i_);
        i_ += step_size;
    }

    [[gnu::always_inline]] void finish()
    {
        while (has_step()) {
            step();
        }
        if (i_ < count_) {
            result(pairs::first(x_ + i_, count_ - i_)).store_first(y_ + i_, count_ - i_);
        }
    }

private:
    [[gnu::always_inline]] pairs result(const pairs& x) const
    {
        return pairs(result(x.even(), i_), result(x.odd(), i_ + F::size));
    }

    [[gnu::always_inline]] F result(const F& x, std::size_t parameter) const
    {
        const F gamma = F::load_aligned(gamma_ + parameter);
        if constexpr (Centred) {
            const F z = multiply_add(barrier(F(x - mean_)), inverse_, offset_);
            return multiply_add(barrier(z), gamma, F::load_aligned(beta_ + parameter));
        } else {
            return x * barrier(F(inverse_ * gamma));
        }
    }

    bfloat16* y_;
    const bfloat16* x_;
    const float* gamma_;
    const float* beta_;
    std::size_t count_;
    std::size_t i_ = 0;
    F mean_;
    F offset_;
    F inverse_;
};

} // namespace scaledot::inline SCALEDOT_BUILD::kernel
SCALEDOT_KERNELS_END

#endif
