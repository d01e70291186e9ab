// SPDX-License-Identifier: BSD-3-Clause
// Statistics of scores (kernel/diagnostics.hpp) in the pass that turns them into weights: sums lane by lane, relative
// to the reference that attention's weights are relative to, of up to a chunk of keys.
#ifndef SCALEDOT_KERNEL_SCORE_SUMS_HPP
#define SCALEDOT_KERNEL_SCORE_SUMS_HPP

#include <scaledot/detail/config.hpp>
#include <scaledot/kernel/choice.hpp>
#include <scaledot/kernel/diagnostics.hpp>
#include <scaledot/kernel/exp.hpp>
#include <scaledot/kernel/scores.hpp>
#include <scaledot/kernel/shuffle.hpp>
#include <scaledot/kernel/simd.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>

SCALEDOT_KERNELS_BEGIN
namespace scaledot::inline SCALEDOT_BUILD::kernel {

/// The largest and the smallest score of a row, -inf and +inf for none; NaN among them may or may not be one of them.
template <class T>
struct score_extremes {
    T largest;
    T smallest;
};

template <class Arch, class T>
score_extremes<T> extremes_of(const T* scores, std::size_t count)
{
    using B = batch<Arch, T>;
    B largest(negative_infinity<T>);
    B smallest(infinity<T>);
    for (std::size_t j = 0; j < count; j += lanes<Arch, T>) {
        const B score = B::load_unaligned(scores + j);
        largest = larger(largest, score);
        smallest = smaller(smallest, score);
    }
    return {largest_lane(largest), -largest_lane(B(-smallest))};
}

/// The smallest score above -inf.
template <class Arch, class T>
T smallest_visible(const T* scores, std::size_t count)
{
    using B = batch<Arch, T>;
    using I = batch<Arch, bits_of<T>>;
    I smallest = as_bits(B(infinity<T>));
    for (std::size_t j = 0; j < count; j += lanes<Arch, T>) {
        const B score = B::load_unaligned(scores + j);
        const I other = select_bits(as_bits(score) == I(negative_infinity_bits<T>), smallest, as_bits(score));
        smallest = as_bits(smaller(from_bits<T>(smallest), from_bits<T>(other)));
    }
    return -largest_lane(B(-from_bits<T>(smallest)));
}

/// Where scores can be summed up as they are weighed: a reference beyond this is known to too few digits behind the
/// point (weights come from factor * score, the computed score is that rounded), and the squares of scores beyond
/// `lowest` might leave the range of T, as those of scores before a factor far from 1.
template <class T>
struct summable_scores {
    static constexpr T highest = sizeof(T) == 4 ? T(128) : T(0x1p30);
    static constexpr T lowest = sizeof(T) == 4 ? T(-0x1p20) : T(-0x1p200);
    static constexpr T largest_factor = T(0x1p20);
};

/// Factor of squares and cubes of weights, without which those of a saturated row's weights would vanish; those of
/// thousands of weights of 1 still fit.
template <class T>
inline constexpr int power_exponent = sizeof(T) == 4 ? 100 : 900;
template <class T>
inline constexpr T power_scale = sizeof(T) == 4 ? T(0x1p100) : T(0x1p900);

/// power_scale * x for a normal x >= 0, in an integer addition. What it makes of 0 and of subnormal numbers is below
/// power_scale times the smallest normal number.
template <class T, class Arch>
[[gnu::always_inline]] inline batch<Arch, T> times_power_scale(const batch<Arch, T>& x)
{
    using I = batch<Arch, bits_of<T>>;
    constexpr auto step =
        static_cast<bits_of<T>>(bits_of<T>(power_exponent<T>) << (std::numeric_limits<T>::digits - 1));
    return from_bits<T>(I(as_bits(x) + I(step)));
}

/// Of visible scores s = f x, with z = s - r for the row's running reference r, and w = e^z. The scores that are the
/// reference are `ties`, each of weight 1, and in no other sum of weights;
/// there is at least one, unless there are no scores.
template <class Arch, class T>
struct score_lanes {
    using B = batch<Arch, T>;

    B ties = B(0);
    B rest = B(0);    ///< sum w
    B drop = B(0);    ///< sum w z
    B squares = B(0); ///< sum w^2, times power_scale
    B cubes = B(0);   ///< sum w^3, times power_scale
    B shift = B(0);   ///< sum (x - pivot)
    B spread = B(0);  ///< sum (x - pivot)^2
};

/// Those sums, and what they are relative to.
template <class Arch, class T>
struct score_sums : score_lanes<Arch, T> {
    using typename score_lanes<Arch, T>::B;
    using score_lanes<Arch, T>::ties;
    using score_lanes<Arch, T>::rest;
    using score_lanes<Arch, T>::drop;
    using score_lanes<Arch, T>::squares;
    using score_lanes<Arch, T>::cubes;
    using score_lanes<Arch, T>::shift;
    using score_lanes<Arch, T>::spread;

    T pivot = 0; ///< the mean x of the first block, so that the squares of no more than a few blocks cancel
    T smallest = infinity<T>;
    std::size_t count = 0;

    /// The reference rises by `rise`, kept = e^-rise.
    void raise(T rise, T kept)
    {
        if (count == 0 || kept == T(1)) {
            return;
        }
        const B factor(kept);
        const B all = rest + ties;
        drop = factor * B(negative_multiply_add(B(rise), all, drop));
        rest = factor * all;
        const B scaled_ties = ties * B(power_scale<T>);
        squares = factor * B(factor * B(squares + scaled_ties));
        cubes = factor * B(factor * B(factor * B(cubes + scaled_ties)));
        ties = B(0);
    }

    score_statistics statistics(T factor, T reference) const
    {
        score_statistics result;
        if (count == 0) {
            return result;
        }
        const auto sum = [](const B& lanes) { return static_cast<double>(sum_of_lanes(lanes)); };
        const double n = static_cast<double>(count);
        const double others = sum(ties) - 1; // maxima beyond the one left out
        const double f = static_cast<double>(factor);
        const double moved = sum(shift);
        result.count = n;
        result.maximum = static_cast<double>(reference);
        result.minimum = static_cast<double>(smallest);
        result.mean = f * (static_cast<double>(pivot) + moved / n);
        result.deviation = f * f * std::max(sum(spread) - moved * (moved / n), 0.0);
        result.rest = others + sum(rest);
        result.drop = -sum(drop);
        result.squares = others + sum(squares) / power_scale<T>;
        result.cubes = others + sum(cubes) / power_scale<T>;
        return result;
    }
};

/// What a block of scores is to the statistics of its row.
template <class T>
struct block_extent {
    T largest;  ///< before factor, as weigh_row sees scores
    T smallest; ///< the smallest visible one
};

/// weigh_row, with the scores added to `sums`; the reference and the extent are finite and within summable_scores.
/// AllVisible: no score is -inf. HoldsReference: the reference is factor * largest.
template <class Step, bool AllVisible, bool HoldsReference, class T>
typename Step::sum weigh_row_into(score_sums<typename Step::arch, T>& sums, T* scores, std::size_t count, T factor,
                                  T reference, const block_extent<T>& extent, typename Step::sum total)
{
    using B = typename Step::sum;
    using I = batch<typename Step::arch, bits_of<T>>;
    const auto visible = [](const B& score, const B& x) __attribute__((always_inline))
    {
        if constexpr (AllVisible) {
            return x;
        } else {
            return from_bits<T>(select_bits(as_bits(score) == I(negative_infinity_bits<T>), I(0), as_bits(x)));
        }
    };
    const B minus_reference(-reference);
    const B top = multiply_add(B(extent.largest), B(factor), minus_reference);
    if (sums.count == 0) {
        B mean(0);
        B present(0);
        for (std::size_t j = 0; j < count; j += Step::lanes) {
            const B score = B::load_unaligned(scores + j);
            mean = mean + visible(score, score);
            present = present + visible(score, B(1));
        }
        sums.pivot = sum_of_lanes(mean) / sum_of_lanes(present);
    }
    const B pivot(sums.pivot);
    B present(0);
    score_lanes<typename Step::arch, T> s = sums;
    auto* const weights = reinterpret_cast<typename Step::element*>(scores);
    for (std::size_t j = 0; j < count; j += Step::lanes) {
        const B score = B::load_unaligned(scores + j);
        const B unseen = barrier(multiply_add(score, B(factor), minus_reference));
        const B weight = exp_negative(unseen);
        total = total + Step::store_weights(weights, j, weight);
        const B z = visible(score, unseen);
        B other = weight;
        if constexpr (HoldsReference) {
            const auto is_top = unseen == top;
            other = xsimd::select(is_top, B(0), weight);
            s.ties = s.ties + xsimd::select(is_top, B(1), B(0));
        }
        s.rest = s.rest + other;
        s.drop = multiply_add(other, z, s.drop);
        const B square = times_power_scale<T, typename Step::arch>(other) * other;
        s.squares = s.squares + square;
        s.cubes = multiply_add(square, other, s.cubes);
        const B deviation = visible(score, score - pivot);
        s.shift = s.shift + deviation;
        s.spread = multiply_add(deviation, deviation, s.spread);
        if constexpr (!AllVisible) {
            present = present + visible(score, B(1));
        }
    }
    static_cast<score_lanes<typename Step::arch, T>&>(sums) = s;
    sums.smallest = std::min(sums.smallest, factor * extent.smallest);
    sums.count += AllVisible ? count : static_cast<std::size_t>(sum_of_lanes(present));
    return total;
}

} // namespace scaledot::inline SCALEDOT_BUILD::kernel
SCALEDOT_KERNELS_END

#endif
