// SPDX-License-Identifier: BSD-3-Clause
// softmax, log_softmax and logsumexp of logits in memory: one row along the lanes of a vector, or as many rows as there
// are lanes side by side. Three passes: maximum; weights exp((x - maximum) / T) and their sum; result.
#ifndef SCALEDOT_KERNEL_SOFTMAX_HPP
#define SCALEDOT_KERNEL_SOFTMAX_HPP

#include <scaledot/detail/config.hpp>
#include <scaledot/kernel/exp.hpp>
#include <scaledot/kernel/pair.hpp>
#include <scaledot/kernel/shuffle.hpp>
#include <scaledot/kernel/simd.hpp>
#include <scaledot/kernel/softmax_limits.hpp>
#include <scaledot/kernel/temperature.hpp>

#include <array>
#include <cmath>
#include <cstddef>
#include <type_traits>

SCALEDOT_KERNELS_BEGIN
namespace scaledot::inline SCALEDOT_BUILD::kernel {

/// How a block of logits lies in memory. Along: one row of `length` contiguous logits, cut into vectors. Across: `rows`
/// neighbouring rows, one a lane; the logits of a row are `input_step` (in the output, `output_step`) elements apart.
struct softmax_block {
    bool along;
    std::size_t length;
    std::size_t rows;
    std::ptrdiff_t input_step;
    std::ptrdiff_t output_step;

    /// Calls step(input offset, output offset, lanes in use) for each vector of the block.
    template <std::size_t Lanes, class Step>
    [[gnu::always_inline]] void for_each(Step&& step) const
    {
        if (along) {
            std::size_t i = 0;
            for (; i + Lanes <= length; i += Lanes) {
                step(static_cast<std::ptrdiff_t>(i), static_cast<std::ptrdiff_t>(i), Lanes);
            }
            if (i < length) {
                step(static_cast<std::ptrdiff_t>(i), static_cast<std::ptrdiff_t>(i), length - i);
            }
        } else {
            for (std::size_t i = 0; i < length; ++i) {
                step(static_cast<std::ptrdiff_t>(i) * input_step, static_cast<std::ptrdiff_t>(i) * output_step, rows);
            }
        }
    }
};

/// One number a lane.
template <class Arch, class T>
struct alignas(alignment_of<Arch>) lane_array : std::array<T, lanes<Arch, T>> {
    lane_array() = default;
    explicit lane_array(const batch<Arch, T>& x) { x.store_aligned(this->data()); }
    batch<Arch, T> vector() const { return batch<Arch, T>::load_aligned(this->data()); }
};

/// Loads and stores of a block's vectors; lanes not in use hold -inf, which weighs nothing anywhere.
template <class Arch, class T, class S>
[[gnu::always_inline]] inline batch<Arch, T> load_logits(const S* x, std::size_t count)
{
    return count == lanes<Arch, T> ? load_vector<Arch, T>(x) : load_partial<Arch, T>(x, count, negative_infinity<T>);
}

template <class Arch, class T, class S>
[[gnu::always_inline]] inline void store_results(S* y, std::size_t count, const batch<Arch, T>& value)
{
    if (count == lanes<Arch, T>) {
        store_vector<Arch, T>(y, value);
    } else {
        store_partial<Arch, T>(y, count, value);
    }
}

/// What the first pass finds of each lane's row. A poisoned row holds NaN or +inf, or nothing but -inf.
template <class Arch, class T>
struct softmax_maxima {
    lane_array<Arch, T> maximum;
    std::array<bool, lanes<Arch, T>> poisoned;

    /// All bits set in the lanes of poisoned rows: or-ed into a result, they make it NaN.
    batch<Arch, bits_of<T>> poison() const
    {
        alignas(alignment_of<Arch>) std::array<bits_of<T>, lanes<Arch, T>> bits;
        for (std::size_t lane = 0; lane < lanes<Arch, T>; ++lane) {
            bits[lane] = poisoned[lane] ? bits_of<T>(-1) : bits_of<T>(0);
        }
        return batch<Arch, bits_of<T>>::load_aligned(bits.data());
    }
};

template <class Arch, class T, class S>
softmax_maxima<Arch, T> softmax_find_maxima(const S* x, const softmax_block& block)
{
    using B = batch<Arch, T>;
    using I = batch<Arch, bits_of<T>>;
    B maximum(negative_infinity<T>);
    I invalid(0);
    block.for_each<lanes<Arch, T>>([&](std::ptrdiff_t in, std::ptrdiff_t, std::size_t count) {
        const B value = load_logits<Arch, T>(x + in, count);
        const I bits = as_bits(value);
        // not finite, and not -inf: all exponent bits set, and not all of -inf's
        const I exponent = bits & I(exponent_mask<T>);
        invalid =
            select_bits(exponent == I(exponent_mask<T>), I(invalid | (bits ^ I(negative_infinity_bits<T>))), invalid);
        maximum = larger(maximum, value);
    });
    alignas(alignment_of<Arch>) std::array<bits_of<T>, lanes<Arch, T>> invalid_bits;
    invalid.store_aligned(invalid_bits.data());

    softmax_maxima<Arch, T> result{lane_array<Arch, T>(maximum), {}};
    if (block.along) {
        const T largest = largest_lane(maximum);
        bits_of<T> any = 0;
        for (const auto bits : invalid_bits) {
            any |= bits;
        }
        result.maximum.fill(largest);
        invalid_bits.fill(any);
    }
    for (std::size_t lane = 0; lane < lanes<Arch, T>; ++lane) {
        const auto bits = std::bit_cast<bits_of<T>>(result.maximum[lane]);
        result.poisoned[lane] = invalid_bits[lane] != 0 || bits == negative_infinity_bits<T>;
    }
    return result;
}

/// The sum of a row's weights: `largest` logits equal the maximum and weigh 1 each; the others weigh `rest` together.
template <class Arch, class T>
struct softmax_sums {
    std::array<std::size_t, lanes<Arch, T>> largest;
    std::array<pair<T>, lanes<Arch, T>> rest;
};

/// Second pass. `weight_of(x)` gives a vector of weights, as pairs; `keep(out, count, weights)` may store them.
template <class Arch, class T, class S, class Weight, class Keep>
softmax_sums<Arch, T> softmax_add_weights(const S* x, const softmax_block& block, const batch<Arch, T>& maximum,
                                          Weight&& weight_of, Keep&& keep)
{
    using B = batch<Arch, T>;
    using I = batch<Arch, bits_of<T>>;
    pair<B> rest{B(0), B(0)};
    I largest(0);
    block.for_each<lanes<Arch, T>>([&](std::ptrdiff_t in, std::ptrdiff_t out, std::size_t count) {
        const B value = load_logits<Arch, T>(x + in, count);
        const pair<B> weight = weight_of(value);
        const auto is_largest = value == maximum;
        accumulate(rest, B(xsimd::select(is_largest, B(0), weight.high)));
        rest.low = rest.low + B(xsimd::select(is_largest, B(0), weight.low));
        largest = largest + as_bits(B(xsimd::select(is_largest, from_bits<T>(I(1)), B(0))));
        keep(out, count, weight.high);
    });
    alignas(alignment_of<Arch>) std::array<bits_of<T>, lanes<Arch, T>> counts;
    largest.store_aligned(counts.data());
    const lane_array<Arch, T> high(rest.high);
    const lane_array<Arch, T> low(rest.low);

    softmax_sums<Arch, T> sums;
    std::size_t all = 0;
    for (std::size_t lane = 0; lane < lanes<Arch, T>; ++lane) {
        sums.largest[lane] = static_cast<std::size_t>(counts[lane]);
        sums.rest[lane] = fast_two_sum(high[lane], low[lane]);
        all += sums.largest[lane];
    }
    if (block.along) {
        sums.largest.fill(all);
        sums.rest.fill(reduce(rest));
    }
    return sums;
}

/// 1 / (largest + rest), to twice the precision of T.
template <class T>
pair<T> inverse_of_sum(std::size_t largest, const pair<T>& rest)
{
    if constexpr (sizeof(T) == 4) {
        const double inverse = 1.0 / (static_cast<double>(largest) + (static_cast<double>(rest.high) + rest.low));
        const T high = barrier(static_cast<T>(inverse));
        return {high, static_cast<T>(inverse - static_cast<double>(high))};
    } else {
        const auto sum = two_sum(static_cast<T>(largest), rest.high);
        const T low = sum.low + rest.low;
        const T high = barrier(T(1) / barrier(sum.high + low));
        const auto product = two_product(high, sum.high);
        const T residual = barrier(barrier(T(1) - product.high) - product.low) - high * barrier(sum.low + rest.low);
        return {high, high * residual};
    }
}

/// Numbers of more digits than T has, for what is computed once a row.
template <class T>
using wider = std::conditional_t<sizeof(T) == 4, double, long double>;

/// ln(largest + rest) as log1p of the sum without one maximum, which keeps all digits when the rest is small.
template <class T>
pair<T> logarithm_of_sum(std::size_t largest, const pair<T>& rest)
{
    using wide = wider<T>;
    const wide others = static_cast<wide>(largest - 1) + (static_cast<wide>(rest.high) + static_cast<wide>(rest.low));
    const wide logarithm = std::log1p(others);
    const T high = barrier(static_cast<T>(logarithm)); // else -ffast-math takes it for the logarithm itself
    return {high, static_cast<T>(logarithm - static_cast<wide>(high))};
}

/// weight * inverse, rounded once, with the inverse of a sum. Factors of 2^60 keep the low parts of small weights out
/// of the subnormal numbers, which would round them, or lose them where -ffast-math makes the processor flush these.
template <class B>
class scaled_inverse {
public:
    explicit scaled_inverse(const pair<B>& inverse)
        : high_(barrier(B(inverse.high * B(0x1p60)))), low_(barrier(B(inverse.low * B(0x1p60))))
    {
    }

    [[gnu::always_inline]] B times(const B& weight) const
    {
        if constexpr (fused<B>) {
            return barrier(multiply_add(weight, high_, barrier(B(weight * low_)))) * B(0x1p-60);
        } else {
            const B scaled = barrier(B(weight * B(0x1p60)));
            const auto product = two_product(scaled, high_);
            const B low = barrier(B(product.low + barrier(B(scaled * low_))));
            return barrier(barrier(B(product.high + low)) * B(0x1p-60)) * B(0x1p-60);
        }
    }

private:
    B high_;
    B low_;
};

/// softmax of a block at a temperature that is positive and finite. y may be x.
template <class Arch, class T, class Temperature, class S, class R>
void softmax_rows(const S* x, R* y, const softmax_block& block, const Temperature& temperature)
{
    using B = batch<Arch, T>;
    constexpr std::size_t count_of_lanes = lanes<Arch, T>;
    const auto maxima = softmax_find_maxima<Arch, T>(x, block);
    const B maximum = maxima.maximum.vector();
    const auto weight_of = [&](const B& value) {
        const auto z = temperature.scaled(value, maximum);
        return exp_wide(z.high, z.low);
    };
    // Weights wait in the output for their sum. A storage type would round them, so they are computed again there.
    constexpr bool keeps_weights = std::is_same_v<R, T>;
    const auto sums = softmax_add_weights<Arch, T>(x, block, maximum, weight_of,
                                                   [&](std::ptrdiff_t out, std::size_t count, const B& weight) {
                                                       if constexpr (keeps_weights) {
                                                           store_results<Arch, T>(y + out, count, weight);
                                                       }
                                                   });
    lane_array<Arch, T> high;
    lane_array<Arch, T> low;
    for (std::size_t lane = 0; lane < count_of_lanes; ++lane) {
        const auto of_lane = inverse_of_sum(sums.largest[lane], sums.rest[lane]);
        high[lane] = of_lane.high;
        low[lane] = of_lane.low;
    }
    const scaled_inverse<B> inverse({high.vector(), low.vector()});
    const auto poison = maxima.poison();
    block.for_each<count_of_lanes>([&](std::ptrdiff_t in, std::ptrdiff_t out, std::size_t count) {
        B weight;
        if constexpr (keeps_weights) {
            weight = load_logits<Arch, T>(y + out, count);
        } else {
            weight = weight_of(load_logits<Arch, T>(x + in, count)).high;
        }
        const B share = inverse.times(weight);
        store_results<Arch, T>(y + out, count, from_bits<T>(as_bits(share) | poison));
    });
}

/// log_softmax of a block at a temperature that is positive and finite. y may be x.
template <class Arch, class T, class Temperature, class S, class R>
void log_softmax_rows(const S* x, R* y, const softmax_block& block, const Temperature& temperature)
{
    using B = batch<Arch, T>;
    constexpr std::size_t count_of_lanes = lanes<Arch, T>;
    const auto maxima = softmax_find_maxima<Arch, T>(x, block);
    const B maximum = maxima.maximum.vector();
    const auto sums = softmax_add_weights<Arch, T>(
        x, block, maximum,
        [&](const B& value) {
            const auto z = temperature.scaled(value, maximum);
            return exp_wide(z.high, z.low);
        },
        [](std::ptrdiff_t, std::size_t, const B&) {});
    lane_array<Arch, T> high;
    lane_array<Arch, T> low;
    for (std::size_t lane = 0; lane < count_of_lanes; ++lane) {
        const auto logarithm = logarithm_of_sum(sums.largest[lane], sums.rest[lane]);
        high[lane] = -logarithm.high;
        low[lane] = -logarithm.low;
    }
    const B minus_high = high.vector();
    const B minus_low = low.vector();
    const auto poison = maxima.poison();
    block.for_each<count_of_lanes>([&](std::ptrdiff_t in, std::ptrdiff_t out, std::size_t count) {
        const auto z = temperature.scaled(load_logits<Arch, T>(x + in, count), maximum);
        const auto sum = two_sum(z.high, minus_high);
        const B value = barrier(sum.high + barrier(sum.low + barrier(z.low + minus_low)));
        // -inf minus anything is -inf; the errors of that subtraction are NaN
        const B result = xsimd::select(barrier(z.high) < B(std::numeric_limits<T>::lowest()), z.high, value);
        store_results<Arch, T>(y + out, count, from_bits<T>(as_bits(result) | poison));
    });
}

/// ln sum exp(x / T) of a block's rows at a temperature that is positive and finite; one result a row.
template <class Arch, class T, class Temperature, class S, class R>
void logsumexp_rows(const S* x, R* y, const softmax_block& block, const Temperature& temperature)
{
    using B = batch<Arch, T>;
    const auto maxima = softmax_find_maxima<Arch, T>(x, block);
    const B maximum = maxima.maximum.vector();
    const auto sums = softmax_add_weights<Arch, T>(
        x, block, maximum,
        [&](const B& value) {
            const auto z = temperature.scaled(value, maximum);
            return exp_wide(z.high, z.low);
        },
        [](std::ptrdiff_t, std::size_t, const B&) {});
    for (std::size_t row = 0; row < (block.along ? 1 : block.rows); ++row) {
        if (maxima.poisoned[row]) {
            y[row] = to_storage<R>(logsumexp_of_poisoned<T>(x + row, block.length, block.along ? 1 : block.input_step));
            continue;
        }
        const auto logarithm = logarithm_of_sum(sums.largest[row], sums.rest[row]);
        using wide = wider<T>;
        const wide scaled = static_cast<wide>(maxima.maximum[row]) / static_cast<wide>(temperature.value);
        const wide sum = scaled + (static_cast<wide>(logarithm.high) + static_cast<wide>(logarithm.low));
        y[row] = to_storage<R>(static_cast<std::conditional_t<sizeof(R) == 8, double, float>>(sum));
    }
}

} // namespace scaledot::inline SCALEDOT_BUILD::kernel
SCALEDOT_KERNELS_END

#endif
