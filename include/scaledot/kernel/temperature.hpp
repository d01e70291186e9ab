// SPDX-License-Identifier: BSD-3-Clause
// (x - maximum) / T without losing what a subtraction and a division round away, for every positive finite T.
#ifndef SCALEDOT_KERNEL_TEMPERATURE_HPP
#define SCALEDOT_KERNEL_TEMPERATURE_HPP

#include <scaledot/detail/config.hpp>
#include <scaledot/kernel/pair.hpp>
#include <scaledot/kernel/simd.hpp>
#include <scaledot/kernel/weights.hpp>

#include <algorithm>
#include <cmath>
#include <limits>

SCALEDOT_KERNELS_BEGIN
namespace scaledot::inline SCALEDOT_BUILD::kernel {

/// 1 / x to twice the precision of T.
template <class T>
pair<T> inverse_of(double x)
{
    const double inverse = 1.0 / x;
    const T high = barrier(static_cast<T>(inverse));
    if constexpr (sizeof(T) == 4) {
        return {high, static_cast<T>(inverse - static_cast<double>(high))};
    } else {
        const auto product = two_product(inverse, x);
        return {high, barrier(barrier(1.0 - product.high) - product.low) * inverse};
    }
}

/// -inf where x is -inf or overflowed to it, result elsewhere: errors of sums with an infinity are NaN.
template <class B>
[[gnu::always_inline]] inline B keep_negative_infinity(const B& x, const B& result)
{
    return xsimd::select(barrier(x) < B(std::numeric_limits<typename B::value_type>::lowest()), x, result);
}

/// What weights and their sums need of any T; the others below make logarithms as well.
template <class T>
struct weighing_temperature {
    static constexpr bool extreme = false;
    double value;
    exponent_scale<T> scale;

    explicit weighing_temperature(double temperature) : value(temperature), scale(temperature) {}
};

/// T = 1.
template <class T>
struct unit_temperature {
    static constexpr bool extreme = false;
    double value = 1.0;
    exponent_scale<T> scale{1.0};

    /// The logarithm of a share: (x - maximum) / T + addend, both parts <= 0.
    template <class B>
    [[gnu::always_inline]] B logarithm(const B& x, const B& maximum, const pair<B>& addend) const
    {
        return barrier(B(x - maximum)) + addend.high;
    }
};

/// T from 2^-40 to 2^40, by its inverse as a pair. Powers of two give the bits that T = 1 gives for x / T.
template <class T>
class moderate_temperature {
public:
    static constexpr bool extreme = false;
    double value;
    exponent_scale<T> scale;

    explicit moderate_temperature(double temperature)
        : value(temperature), scale(temperature), inverse_(inverse_of<T>(temperature / 2))
    {
    }

    template <class B>
    [[gnu::always_inline]] B logarithm(const B& x, const B& maximum, const pair<B>& addend) const
    {
        // Halves, for differences that would overflow where their quotient by T does not.
        const B difference = barrier(multiply_add(x, B(T(0.5)), barrier(B(maximum * B(T(-0.5))))));
        const B low = barrier(multiply_add(difference, B(inverse_.low), addend.low));
        const B rest = barrier(B(low + addend.high));
        B result;
        if constexpr (fused<B>) {
            result = multiply_add(difference, B(inverse_.high), rest);
        } else {
            constexpr T away = 0x1p-32; // from where splitting overflows
            const auto product = two_product(B(difference * B(away)), B(inverse_.high * B(1 / away)));
            const auto sum = two_sum(product.high, rest);
            result = barrier(B(sum.high + barrier(B(sum.low + product.low))));
        }
        return keep_negative_infinity(B(difference * B(inverse_.high)), result);
    }

private:
    pair<T> inverse_;
};

/// Any other T. 1/T is cut into powers of two and a rest in [1, 2] that is kept as a pair. The first power leaves 2^60
/// to the last, so that no difference overflows and no product's error is lost unless (x - maximum) / T itself
/// overflows; what underflows on the way is at most 2^-80 in the result. A first power above 1 waits for the
/// difference, which may be tiny.
template <class T>
class positive_temperature {
public:
    static constexpr bool extreme = true; ///< so rare that its rows are computed one way only
    double value;
    exponent_scale<T> scale;

    explicit positive_temperature(double temperature) : value(temperature), scale(temperature)
    {
        constexpr int limit = std::numeric_limits<T>::max_exponent - 2;
        int exponent = 0;
        std::frexp(temperature, &exponent);
        const int power = std::clamp(-exponent - last_power, -limit, limit);
        before_ = static_cast<T>(std::ldexp(1.0, std::min(power, 0)));
        after_ = static_cast<T>(std::ldexp(1.0, std::max(power, 0)));
        // Beyond the clamps every difference but 0 overflows (T small) or is below 2^-60 and counts as 0 (T large).
        const double rest = std::ldexp(temperature, power + last_power);
        const double inverse = 1.0 / rest;
        const double nearest = std::clamp(inverse, std::ldexp(1.0, -limit), 0x1p100);
        inverse_high_ = barrier(static_cast<T>(nearest));
        if (nearest == inverse) {
            if constexpr (sizeof(T) == 4) {
                inverse_low_ = static_cast<T>(inverse - static_cast<double>(inverse_high_));
            } else {
                const auto product = two_product(inverse, rest);
                inverse_low_ = barrier(barrier(1.0 - product.high) - product.low) * inverse;
            }
        }
    }

    template <class B>
    [[gnu::always_inline]] B logarithm(const B& x, const B& maximum, const pair<B>& addend) const
    {
        const auto z = scaled(x, maximum);
        const auto sum = two_sum(z.high, addend.high);
        return keep_negative_infinity(z.high, B(barrier(sum.high + barrier(sum.low + barrier(z.low + addend.low)))));
    }

    /// (x - maximum) / T
    template <class B>
    [[gnu::always_inline]] pair<B> scaled(const B& x, const B& maximum) const
    {
        const auto difference = two_difference(barrier(B(x * B(before_))), barrier(B(maximum * B(before_))));
        const B high = barrier(B(difference.high * B(after_)));
        const B low = barrier(B(difference.low * B(after_)));
        const auto product = two_product(high, B(inverse_high_));
        const B rest = multiply_add(high, B(inverse_low_), multiply_add(low, B(inverse_high_), product.low));
        return {barrier(B(product.high * B(last_factor))), barrier(B(rest * B(last_factor)))};
    }

private:
    static constexpr int last_power = 60;
    static constexpr T last_factor = 0x1p60;

    T before_;
    T after_;
    T inverse_high_;
    T inverse_low_ = 0;
};

} // namespace scaledot::inline SCALEDOT_BUILD::kernel
SCALEDOT_KERNELS_END

#endif
