// SPDX-License-Identifier: BSD-3-Clause
// What becomes of the sum of a row's weights: its inverse and probabilities, its logarithm, NaN.
#ifndef SCALEDOT_KERNEL_SOFTMAX_RESULTS_HPP
#define SCALEDOT_KERNEL_SOFTMAX_RESULTS_HPP

#include <scaledot/detail/config.hpp>
#include <scaledot/kernel/convert.hpp>
#include <scaledot/kernel/logarithm.hpp>
#include <scaledot/kernel/pair.hpp>
#include <scaledot/kernel/simd.hpp>
#include <scaledot/kernel/softmax_sums.hpp>
#include <scaledot/kernel/stream.hpp>
#include <scaledot/kernel/weights.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

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

/// Numbers of more digits than T has, for what is computed once a row.
template <class T>
using wider = std::conditional_t<sizeof(T) == 4, double, long double>;

/// ln(sum / largest) keeps its digits down to here: where the largest logit outweighs the others, it is the logarithm
/// of 1 and the others' sum.
inline constexpr double least_ratio = 1.9;

/// The sums of rows in lanes over their largest weights.
template <class Arch, class T>
class sum_ratios {
    using B = batch<Arch, T>;
    using wide = wider<T>;

public:
    sum_ratios(const pair<B>& sum, const weight<B>& largest)
    {
        const lane_array<Arch, T> power(largest.power);
        const lane_array<Arch, T> excess(largest.excess);
        for (std::size_t lane = 0; lane < B::size; ++lane) {
            ones_[lane] = static_cast<wide>(power[lane]) * (1 + static_cast<wide>(excess[lane]));
        }
        ratios_ = over_largest(sum);
    }

    wide operator[](std::size_t lane) const { return ratios_[lane]; }

    pair<B> minus_logarithms() const
    {
        numbers values;
        for (std::size_t lane = 0; lane < B::size; ++lane) {
            values[lane] = std::log(ratios_[lane]);
        }
        return negative(values);
    }

    pair<B> minus_logarithms(const pair<B>& others) const
    {
        numbers values = over_largest(others);
        for (std::size_t lane = 0; lane < B::size; ++lane) {
            values[lane] = ratios_[lane] < wide(least_ratio) ? std::log1p(values[lane]) : std::log(ratios_[lane]);
        }
        return negative(values);
    }

private:
    using numbers = std::array<wide, B::size>;

    numbers over_largest(const pair<B>& sum) const
    {
        const lane_array<Arch, T> high(sum.high);
        const lane_array<Arch, T> low(sum.low);
        numbers result;
        for (std::size_t lane = 0; lane < B::size; ++lane) {
            result[lane] = (static_cast<wide>(high[lane]) + static_cast<wide>(low[lane])) / ones_[lane];
        }
        return result;
    }

    static pair<B> negative(const numbers& values)
    {
        lane_array<Arch, T> high;
        lane_array<Arch, T> low;
        for (std::size_t lane = 0; lane < B::size; ++lane) {
            high[lane] = barrier(static_cast<T>(-values[lane])); // else -ffast-math takes it for the logarithm itself
            low[lane] = static_cast<T>(-values[lane] - static_cast<wide>(high[lane]));
        }
        return {high.vector(), low.vector()};
    }

    numbers ones_;
    numbers ratios_;
};

/// The same of floats, in vectors of double.
template <class Arch>
class sum_ratios<Arch, float> {
    using B = batch<Arch, float>;
    using D = batch<Arch, double>;

public:
    sum_ratios(const pair<B>& sum, const weight<B>& largest)
    {
        const numbers power = widened(largest.power);
        const numbers excess = widened(largest.excess);
        for (std::size_t half = 0; half < 2; ++half) {
            ones_[half] = power[half] * (D(1) + excess[half]);
        }
        ratios_ = over_largest(sum);
        ratios_[0].store_aligned(each_.data());
        ratios_[1].store_aligned(each_.data() + D::size);
    }

    double operator[](std::size_t lane) const { return each_[lane]; }

    pair<B> minus_logarithms() const { return negative({logarithm(ratios_[0]), logarithm(ratios_[1])}); }

    pair<B> minus_logarithms(const pair<B>& others) const
    {
        numbers values = over_largest(others);
        for (std::size_t half = 0; half < 2; ++half) {
            values[half] = xsimd::select(ratios_[half] < D(least_ratio), logarithm_of_1_plus(values[half]),
                                         logarithm(ratios_[half]));
        }
        return negative(values);
    }

private:
    using numbers = std::array<D, 2>;

    static numbers widened(const B& x)
    {
        const lane_array<Arch, float> values(x);
        return {load_vector<Arch, double>(values.data()), load_vector<Arch, double>(values.data() + D::size)};
    }

    numbers over_largest(const pair<B>& sum) const
    {
        const numbers high = widened(sum.high);
        const numbers low = widened(sum.low);
        return {quotient(D(high[0] + low[0]), ones_[0]), quotient(D(high[1] + low[1]), ones_[1])};
    }

    static pair<B> negative(const numbers& values)
    {
        lane_array<Arch, float> high;
        lane_array<Arch, float> low;
        for (std::size_t half = 0; half < 2; ++half) {
            const D value = barrier(D(-values[half]));
            store_vector<Arch, double>(high.data() + half * D::size, value);
            const D rest = value - barrier(load_vector<Arch, double>(high.data() + half * D::size));
            store_vector<Arch, double>(low.data() + half * D::size, rest);
        }
        return {high.vector(), low.vector()};
    }

    numbers ones_;
    numbers ratios_;
    alignas(alignment_of<Arch>) std::array<double, B::size> each_;
};

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

/// weight * inverse, rounded once, and no more than 1. In rows that are not plain, results are kept off the subnormal
/// numbers by a factor of 2^60 until the end: there low parts would be rounded, or lost where -ffast-math makes the
/// processor flush them.
template <class B, bool Plain>
class scaled_inverse {
public:
    explicit scaled_inverse(const pair<B>& inverse)
        : high_(barrier(B(inverse.high * B(scale)))), low_(barrier(B(inverse.low * B(scale))))
    {
    }

    [[gnu::always_inline]] B times(const B& weight) const
    {
        B share;
        if constexpr (fused<B>) {
            share = multiply_add(weight, high_, barrier(B(weight * low_)));
        } else {
            const auto product = two_product(weight, high_);
            share = product.high + barrier(B(product.low + weight * low_));
        }
        share = smaller_positive(share, B(scale));
        if constexpr (Plain) {
            return share;
        } else {
            return barrier(share) * B(1 / scale);
        }
    }

private:
    static constexpr typename B::value_type scale = Plain ? 1 : 0x1p60;

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

/// The logarithms of the sums of rows in lanes over their largest weights, negative, as pairs. others(wanted) gives the
/// sums without the maximum of the lanes that are wanted.
template <class Arch, class T, class Others>
pair<batch<Arch, T>> minus_logarithms(std::size_t rows, const pair<batch<Arch, T>>& sum,
                                      const weight<batch<Arch, T>>& largest, Others&& others)
{
    using wide = wider<T>;
    const sum_ratios<Arch, T> ratios(sum, largest);
    std::array<bool, lanes<Arch, T>> wanted{};
    bool any = false;
    for (std::size_t lane = 0; lane < rows; ++lane) {
        wanted[lane] = ratios[lane] < wide(least_ratio);
        any |= wanted[lane];
    }
    return any ? ratios.minus_logarithms(others(std::as_const(wanted))) : ratios.minus_logarithms();
}

/// One logsumexp a lane: maximum / T minus the negative logarithm. Rows without a distribution are the caller's.
template <class Arch, class T, class R>
void store_logsumexp(R* y, std::ptrdiff_t step, std::size_t rows, const batch<Arch, T>& maximum, double temperature,
                     const pair<batch<Arch, T>>& minus_logarithm)
{
    using wide = wider<T>;
    const lane_array<Arch, T> maxima(maximum);
    const lane_array<Arch, T> high(minus_logarithm.high);
    const lane_array<Arch, T> low(minus_logarithm.low);
    for (std::size_t lane = 0; lane < rows; ++lane) {
        const wide scaled = static_cast<wide>(maxima[lane]) / static_cast<wide>(temperature);
        const wide sum = scaled - (static_cast<wide>(high[lane]) + static_cast<wide>(low[lane]));
        y[static_cast<std::ptrdiff_t>(lane) * step] = to_storage<R>(static_cast<T>(sum));
    }
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
