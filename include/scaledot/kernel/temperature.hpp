// SPDX-License-Identifier: BSD-3-Clause
// (x - maximum) / T without losing what a subtraction and a division round away, for every positive finite T.
#ifndef SCALEDOT_KERNEL_TEMPERATURE_HPP
#define SCALEDOT_KERNEL_TEMPERATURE_HPP

#include <scaledot/detail/config.hpp>
#include <scaledot/kernel/pair.hpp>
#include <scaledot/kernel/simd.hpp>

#include <algorithm>
#include <cmath>
#include <limits>

SCALEDOT_KERNELS_BEGIN
namespace scaledot::inline SCALEDOT_BUILD::kernel {

/// T = 1: the difference as high + low.
struct unit_temperature {
    double value = 1.0;

    template <class B>
    [[gnu::always_inline]] pair<B> scaled(const B& x, const B& maximum) const
    {
        // two_difference, where the maximum's own part comes out as -inf when it is the type's largest number and the
        // difference was rounded to even beyond it: the true part is that number again.
        const B difference = barrier(B(x - maximum));
        const B of_maximum =
            larger(barrier(B(difference - x)), B(std::numeric_limits<typename B::value_type>::lowest()));
        const B of_x = barrier(B(difference - of_maximum));
        const B rest = barrier(B(barrier(B(-maximum)) - of_maximum));
        return {difference, barrier(B(barrier(B(x - of_x)) + rest))};
    }
};

/// Any other T. 1/T is cut into powers of two and a rest in [1, 2] that is kept as a pair. The first power leaves 2^60
/// to the last, so that no difference overflows and no product's error is lost unless (x - maximum) / T itself
/// overflows; what underflows on the way is at most 2^-80 in the result. A first power above 1 waits for the
/// difference, which may be tiny.
template <class T>
class positive_temperature {
public:
    double value;

    explicit positive_temperature(double temperature) : value(temperature)
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
