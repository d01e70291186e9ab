// SPDX-License-Identifier: BSD-3-Clause
// What a row of scores says about itself, kept online: sums that leave the maximum out (they would cancel just where a
// softmax saturates), merged over blocks of keys like the attention itself.
#ifndef SCALEDOT_KERNEL_DIAGNOSTICS_HPP
#define SCALEDOT_KERNEL_DIAGNOSTICS_HPP

#include <scaledot/detail/config.hpp>
#include <scaledot/kernel/choice.hpp>
#include <scaledot/kernel/exp.hpp>
#include <scaledot/kernel/partial_vectors.hpp>
#include <scaledot/kernel/products.hpp>
#include <scaledot/kernel/shuffle.hpp>
#include <scaledot/kernel/simd.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>

SCALEDOT_KERNELS_BEGIN
namespace scaledot::inline SCALEDOT_BUILD::kernel {

/// Of the visible scores s_j (those above -inf), with w_j = exp(s_j - maximum); primes leave one maximum out.
struct alignas(8) score_statistics { // also where double is aligned to less: its size is part of compiled::row_report
    double maximum = negative_infinity<double>;
    double minimum = infinity<double>;
    double count = 0;     ///< number of visible scores
    double mean = 0;      ///< of the visible scores
    double deviation = 0; ///< sum of (s - mean)^2
    double rest = 0;      ///< sum' w
    double drop = 0;      ///< sum w (maximum - s)
    double squares = 0;   ///< sum' w^2
    double cubes = 0;     ///< sum' w^3
    bool invalid = false; ///< a score is NaN or +inf
};

/// into + from; an empty one changes nothing.
inline void merge(score_statistics& into, const score_statistics& from)
{
    if (from.invalid || into.invalid) {
        into.invalid = true;
        into.count += from.count;
        return;
    }
    if (from.count == 0) {
        return;
    }
    if (into.count == 0) {
        into = from;
        return;
    }
    const double shift = from.mean - into.mean;
    const double count = into.count + from.count;
    into.deviation += from.deviation + shift * shift * (into.count / count) * from.count;
    into.mean += shift * (from.count / count);
    into.count = count;
    into.minimum = into.minimum < from.minimum ? into.minimum : from.minimum;

    const bool from_leads = from.maximum > into.maximum;
    const score_statistics& high = from_leads ? from : into;
    const score_statistics& low = from_leads ? into : from;
    const double fall = high.maximum - low.maximum;
    const double factor = std::exp(-fall);
    const double weights = factor * (low.rest + 1);
    const double drop = high.drop + (factor == 0 ? 0 : factor * low.drop + fall * weights); // fall may be infinite
    const double squares = high.squares + factor * factor * (low.squares + 1);
    const double cubes = high.cubes + factor * factor * factor * (low.cubes + 1);
    into.rest = high.rest + weights;
    into.drop = drop;
    into.squares = squares;
    into.cubes = cubes;
    into.maximum = high.maximum;
}

/// Weights are multiplied by this before they are squared: in float the squares of a saturated row's weights would
/// underflow; those of thousands of weights below 1 still fit. (Cubes matter beside squares only for weights near 1.)
template <class T>
inline constexpr double square_scale = sizeof(T) == 4 ? 0x1p56 : 1.0;

inline bool has_finite_bits(double x)
{
    return (std::bit_cast<std::int64_t>(x) & exponent_mask<double>) != exponent_mask<double>;
}

/// Mean and deviation in double, of scores so far apart that sums in T lose the digits of the mean, or leave the range
/// of T. (Beyond 1e154, where the squares leave double's, the deviation is +inf.)
template <class T>
void wide_moments(score_statistics& result, const T* scores, std::size_t count)
{
    const auto for_each_visible = [&](auto&& use) {
        for (std::size_t j = 0; j < count; ++j) {
            if (std::bit_cast<bits_of<T>>(scores[j]) != negative_infinity_bits<T>) {
                use(static_cast<double>(scores[j]));
            }
        }
    };
    result.mean = 0;
    result.deviation = 0;
    for_each_visible([&](double score) { result.mean += score / result.count; });
    for_each_visible([&](double score) { result.deviation += (score - result.mean) * (score - result.mean); });
}

/// The statistics of one block of scores; excluded ones are -inf.
template <class Arch, class T>
score_statistics statistics_of_block(const T* scores, std::size_t count)
{
    using B = batch<Arch, T>;
    using I = batch<Arch, bits_of<T>>;
    score_statistics result;
    T maximum = negative_infinity<T>;
    for (std::size_t j = 0; j < count; ++j) {
        const auto bits = std::bit_cast<bits_of<T>>(scores[j]);
        if (bits == negative_infinity_bits<T>) {
            continue;
        }
        result.invalid = result.invalid || (bits & exponent_mask<T>) == exponent_mask<T>;
        maximum = result.count == 0 || scores[j] > maximum ? scores[j] : maximum;
        result.count += 1;
    }
    if (result.invalid || result.count == 0) {
        return result;
    }

    // Calls use(score, fall, visible) with fall = maximum - score, at most the largest finite number, 0 where excluded.
    const auto for_each_fall = [&](auto&& use) {
        for (std::size_t j = 0; j < count; j += lanes<Arch, T>) {
            const B score = count - j >= lanes<Arch, T>
                                ? B::load_unaligned(scores + j)
                                : load_partial<Arch, T>(scores + j, count - j, negative_infinity<T>);
            const I visible = select_bits(as_bits(score) == I(negative_infinity_bits<T>), I(0), I(-1));
            const B fall = smaller(barrier(B(maximum) - score), B(std::numeric_limits<T>::max()));
            use(score, from_bits<T>(I(as_bits(fall) & visible)), visible);
        }
    };
    B smallest(maximum);
    B falls(0);
    B ties(0);
    B rest(0);
    B drop(0);
    B squares(0);
    B cubes(0);
    for_each_fall([&](const B& score, const B& fall, const I& visible) {
        const B weight = from_bits<T>(I(as_bits(exp_negative(B(-fall))) & visible));
        const auto is_largest = fall == B(0);
        const B other = xsimd::select(is_largest, B(0), weight);
        const B scaled = other * B(static_cast<T>(square_scale<T>));
        smallest = smaller(smallest, from_bits<T>(select_bits(visible != I(0), as_bits(score), as_bits(B(maximum)))));
        falls = falls + fall;
        ties = ties + (weight - other);
        rest = rest + other;
        drop = multiply_add(weight, fall, drop);
        squares = multiply_add(scaled, scaled, squares);
        cubes = multiply_add(other * other, other, cubes);
    });
    const double mean_fall = static_cast<double>(sum_of_lanes(falls)) / result.count;
    B deviation(0);
    for_each_fall([&](const B&, const B& fall, const I& visible) {
        const B difference = from_bits<T>(I(as_bits(B(fall - B(static_cast<T>(mean_fall)))) & visible));
        deviation = multiply_add(difference, difference, deviation);
    });
    const double others = static_cast<double>(sum_of_lanes(ties)) - 1; // maxima beyond the one left out
    result.maximum = static_cast<double>(maximum);
    result.minimum = -static_cast<double>(largest_lane(B(-smallest)));
    result.mean = result.maximum - mean_fall;
    result.deviation = static_cast<double>(sum_of_lanes(deviation));
    constexpr double far_apart = 256;
    if (!has_finite_bits(result.mean) || !has_finite_bits(result.deviation) ||
        result.maximum - result.minimum > far_apart) {
        wide_moments(result, scores, count);
    }
    result.rest = others + static_cast<double>(sum_of_lanes(rest));
    result.drop = static_cast<double>(sum_of_lanes(drop));
    result.squares = others + static_cast<double>(sum_of_lanes(squares)) / (square_scale<T> * square_scale<T>);
    result.cubes = others + static_cast<double>(sum_of_lanes(cubes));
    return result;
}

/// The same of factor * scores; `count` is at most that of a block of keys.
template <class Arch, class T>
score_statistics statistics_of_scaled_block(const T* scores, std::size_t count, T factor)
{
    alignas(alignment_of<Arch>) std::array<T, block_keys> scaled;
    std::transform(scores, scores + count, scaled.begin(), [factor](T score) { return score * factor; });
    return statistics_of_block<Arch>(scaled.data(), count);
}

/// The figures of one row, from its statistics and the sink's logit (-inf: none).
struct row_figures {
    double lse;
    double entropy;          ///< nats, over keys and sink
    double effective_keys;   ///< exp(entropy); 0 where there is neither key nor sink
    double max_probability;  ///< over keys
    double jacobian_norm;    ///< Frobenius norm of diag(p) - p p^T, over keys and sink
    double sink_probability; ///< 0 without a sink
};

inline row_figures figures_of_row(const score_statistics& keys, double sink)
{
    score_statistics all = keys;
    const bool has_sink = std::bit_cast<std::int64_t>(sink) != negative_infinity_bits<double>;
    if (has_sink) {
        score_statistics part;
        part.maximum = part.minimum = part.mean = sink;
        part.count = 1;
        part.invalid = (std::bit_cast<std::int64_t>(sink) & exponent_mask<double>) == exponent_mask<double>;
        merge(all, part);
    }
    if (keys.count == 0 && !all.invalid) {
        return {sink, 0, has_sink ? 1.0 : 0.0, 0, 0, has_sink ? 1.0 : 0.0};
    }
    if (all.invalid) {
        const double nan = quiet_nan<double>();
        return {nan, nan, nan, nan, nan, nan};
    }
    const double sum = 1 + all.rest;
    const double lse = all.maximum + std::log1p(all.rest);
    const double entropy = std::log1p(all.rest) + all.drop / sum;
    const double largest = 1 / sum;
    const double others = all.rest / sum;
    const double squares = all.squares / (sum * sum);
    const double cubes = all.cubes / (sum * sum * sum);
    const double norm_squared =
        largest * largest * (others * others + 2 * squares) + squares - 2 * cubes + squares * squares;
    return {lse,
            entropy,
            std::exp(entropy),
            std::exp(keys.maximum - all.maximum) / sum,
            std::sqrt(norm_squared > 0 ? norm_squared : 0),
            has_sink ? std::exp(sink - all.maximum) / sum : 0};
}

} // namespace scaledot::inline SCALEDOT_BUILD::kernel
SCALEDOT_KERNELS_END

#endif
