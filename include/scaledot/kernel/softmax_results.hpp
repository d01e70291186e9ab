// SPDX-License-Identifier: BSD-3-Clause
// What becomes of the sum of a row's weights: its inverse and probabilities, NaN.
#ifndef SCALEDOT_KERNEL_SOFTMAX_RESULTS_HPP
#define SCALEDOT_KERNEL_SOFTMAX_RESULTS_HPP

#include <scaledot/detail/config.hpp>
#include <scaledot/kernel/choice.hpp>
#include <scaledot/kernel/convert.hpp>
#include <scaledot/kernel/pair.hpp>
#include <scaledot/kernel/partial_vectors.hpp>
#include <scaledot/kernel/simd.hpp>
#include <scaledot/kernel/softmax_limits.hpp>
#include <scaledot/kernel/softmax_sums.hpp>
#include <scaledot/kernel/stream.hpp>
#include <scaledot/kernel/weights.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <type_traits>

SCALEDOT_KERNELS_BEGIN
namespace scaledot::inline SCALEDOT_BUILD::kernel {

/// 1 / sum, to twice the precision of its numbers.
template <class B>
[[gnu::always_inline]] inline pair<B> inverse_of_sum(const pair<B>& sum)
{
    const B high = barrier(quotient(B(1), barrier(B(sum.high + sum.low))));
    const auto product = two_product(high, sum.high);
    const B residual = barrier(B(barrier(B(B(1) - product.high)) - product.low)) - high * sum.low;
    return {high, high * residual};
}

/// The smaller of a and b, numbers from +0 on.
template <class T, class A>
[[gnu::always_inline]] inline xsimd::batch<T, A> smaller_positive(const xsimd::batch<T, A>& a,
                                                                  const xsimd::batch<T, A>& b)
{
#if defined(__AVX512F__)
    if constexpr (sizeof(a) == 64 && sizeof(T) == 4) {
        return _mm512_castsi512_ps(_mm512_min_epi32(_mm512_castps_si512(a.data), _mm512_castps_si512(b.data)));
    } else if constexpr (sizeof(a) == 64) {
        return _mm512_castsi512_pd(_mm512_min_epi64(_mm512_castpd_si512(a.data), _mm512_castpd_si512(b.data)));
    }
#endif
    return smaller(a, b);
}

/// x * (high + low), rounded once.
template <class B>
[[gnu::always_inline]] inline B product_with_pair(const B& x, const B& high, const B& low)
{
    if constexpr (fused<B>) {
        return multiply_add(x, high, barrier(B(x * low)));
    } else {
        const auto product = two_product(x, high);
        return product.high + barrier(B(product.low + x * low));
    }
}

/// weight * inverse, rounded once, and no more than 1. Results are kept off the subnormal numbers by a factor of 2^60
/// until the end: there low parts would be rounded, or lost where -ffast-math makes the processor flush them.
template <class B>
class scaled_inverse {
public:
    explicit scaled_inverse(const pair<B>& inverse)
        : high_(barrier(B(inverse.high * B(scale)))), low_(barrier(B(inverse.low * B(scale))))
    {
    }

    [[gnu::always_inline]] B times(const B& weight) const
    {
        const B share = smaller_positive(product_with_pair(weight, high_, low_), B(scale));
        return barrier(share) * B(1 / scale);
    }

private:
    static constexpr typename B::value_type scale = 0x1p60;

    B high_;
    B low_;
};

/// All bits set in the lanes of rows without a distribution: they hold NaN or +inf, or nothing but -inf, which makes
/// the maximum or the sum one of these. Or-ed into a result, they make it NaN.
template <class B, class T = typename B::value_type>
[[gnu::always_inline]] inline auto poison_of(const B& maximum, const B& sum)
{
    using I = typename weight_frame<B>::I;
    const I mask(exponent_mask<T>);
    const I poisoned_sum = select_bits((as_bits(barrier(sum)) & mask) == mask, I(-1), I(0));
    return select_bits((as_bits(barrier(maximum)) & mask) == mask, I(-1), poisoned_sum);
}

/// Writes value(i, count), which gives lanes i ... i + count - 1 of a row, to y + i for the whole row. Streaming stores
/// go around the caches.
template <class Arch, class T, class R, class Value>
[[gnu::always_inline]] inline void store_row(R* y, std::size_t length, bool streaming, Value&& value)
{
    constexpr std::size_t width = lanes<Arch, T>;
    std::size_t i = 0;
    if constexpr (std::is_same_v<R, T>) {
        if (const std::size_t before = elements_before_stream<Arch, T>(y); streaming && before != 0) {
            i = std::min(length, before);
            store_partial<Arch, T>(y, i, value(0, i));
        }
        for (; streaming && i + width <= length; i += width) {
            stream_vector<Arch, T>(y + i, value(i, width));
        }
    }
    for (; i + width <= length; i += width) {
        store_vector<Arch, T>(y + i, value(i, width));
    }
    if (i < length) {
        store_partial<Arch, T>(y + i, length - i, value(i, length - i));
    }
}

} // namespace scaledot::inline SCALEDOT_BUILD::kernel
SCALEDOT_KERNELS_END

#endif
