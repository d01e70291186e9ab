// SPDX-License-Identifier: BSD-3-Clause
// The rows a formula does not reach: temperature 0 and infinity, and logsumexp of rows with NaN or infinities. Rare, so
// one number at a time; all tests look at bits and hold under -ffast-math.
#ifndef SCALEDOT_KERNEL_SOFTMAX_LIMITS_HPP
#define SCALEDOT_KERNEL_SOFTMAX_LIMITS_HPP

#include <scaledot/detail/config.hpp>
#include <scaledot/kernel/convert.hpp>
#include <scaledot/kernel/simd.hpp>

#include <bit>
#include <cmath>
#include <cstddef>

SCALEDOT_KERNELS_BEGIN
namespace scaledot::inline SCALEDOT_BUILD::kernel {

/// What a softmax writes for each logit, or one number for each row.
enum class softmax_output { probabilities, logarithms, logsumexp };

/// What decides a row's limit: NaN, +inf, how many logits are above -inf, the maximum and how often it occurs.
template <class T>
struct limit_census {
    bool has_nan = false;
    bool has_infinity = false;
    std::size_t finite = 0;
    std::size_t largest = 0;
    T maximum = 0;
};

template <class T, class S>
limit_census<T> take_census(const S* x, std::size_t length, std::ptrdiff_t step)
{
    limit_census<T> census;
    for (std::size_t i = 0; i < length; ++i) {
        const T value = to_arithmetic<T>(x[static_cast<std::ptrdiff_t>(i) * step]);
        const auto bits = std::bit_cast<bits_of<T>>(value);
        if (bits == negative_infinity_bits<T>) {
            continue;
        }
        if ((bits & exponent_mask<T>) == exponent_mask<T>) {
            (bits == exponent_mask<T> ? census.has_infinity : census.has_nan) = true;
            continue;
        }
        if (census.finite++ == 0 || value > census.maximum) {
            census.maximum = value;
            census.largest = 0;
        }
        census.largest += value == census.maximum ? 1 : 0;
    }
    return census;
}

/// softmax (or its logarithm) of one row at T = 0 (equal shares for all maxima) or T = inf (for all logits above -inf).
template <class T, class S, class R>
void softmax_limit_row(const S* x, R* y, std::size_t length, std::ptrdiff_t input_step, std::ptrdiff_t output_step,
                       bool cold, softmax_output output)
{
    const auto census = take_census<T>(x, length, input_step);
    const bool poisoned = census.has_nan || census.has_infinity || census.finite == 0;
    const std::size_t sharing = poisoned ? 1 : cold ? census.largest : census.finite;
    const bool logarithm = output == softmax_output::logarithms;
    const auto sharers = static_cast<double>(sharing);
    const double ln_share = sharing == 1 ? 0.0 : -std::log(sharers); // not -0
    const T share = static_cast<T>(logarithm ? ln_share : 1.0 / sharers);
    for (std::size_t i = 0; i < length; ++i) {
        const T value = to_arithmetic<T>(x[static_cast<std::ptrdiff_t>(i) * input_step]);
        const bool shares =
            cold ? value == census.maximum : std::bit_cast<bits_of<T>>(value) != negative_infinity_bits<T>;
        const T result = poisoned ? quiet_nan<T>() : shares ? share : logarithm ? negative_infinity<T> : T(0);
        y[static_cast<std::ptrdiff_t>(i) * output_step] = to_storage<R>(result);
    }
}

/// logsumexp of one row at T = 0 (the sign of the maximum decides) or T = inf (ln of the number of logits above -inf).
template <class T, class S>
T logsumexp_limit(const S* x, std::size_t length, std::ptrdiff_t step, bool cold)
{
    const auto census = take_census<T>(x, length, step);
    if (census.has_nan) {
        return quiet_nan<T>();
    }
    if (census.has_infinity || (census.finite > 0 && cold && census.maximum > 0)) {
        return infinity<T>;
    }
    if (census.finite == 0 || (cold && census.maximum < 0)) {
        return negative_infinity<T>;
    }
    return static_cast<T>(std::log(static_cast<double>(cold ? census.largest : census.finite)));
}

/// logsumexp of a row with NaN (NaN), else with +inf (+inf), else of -inf only (-inf).
template <class T, class S>
T logsumexp_of_poisoned(const S* x, std::size_t length, std::ptrdiff_t step)
{
    const auto census = take_census<T>(x, length, step);
    return census.has_nan ? quiet_nan<T>() : census.has_infinity ? infinity<T> : negative_infinity<T>;
}

} // namespace scaledot::inline SCALEDOT_BUILD::kernel
SCALEDOT_KERNELS_END

#endif
