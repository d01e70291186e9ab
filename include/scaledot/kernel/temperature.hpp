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
        return two_difference(x, maximum);
    }
};

/// Any other T. A power of two near T is taken out of x before the subtraction when T is large (the difference cannot
/// overflow then) and after it when T is small (the difference cannot vanish); what is left of 1/T is a pair.
template <class T>
class positive_temperature {
public:
    double value;

    explicit positive_temperature(double temperature) : value(temperature)
    {
        constexpr int limit = std::numeric_limits<T>::max_exponent - 2;
        int exponent = 0;
        std::frexp(temperature, &exponent);
        const int power = std::clamp(exponent - 1, -limit, limit);
        before_ = static_cast<T>(std::ldexp(1.0, power > 0 ? -power : 0));
        after_ = static_cast<T>(std::ldexp(1.0, power < 0 ? -power : 0));
        // Beyond the clamp every difference but 0 is past exp's range (T small) or counts as 0 (T large).
        const double rest = std::ldexp(temperature, -power);
        const double largest = std::ldexp(1.0, limit / 2);
        const double inverse = std::clamp(1.0 / rest, 1.0 / largest, largest);
        inverse_high_ = static_cast<T>(inverse);
        inverse_low_ = sizeof(T) == 4 ? static_cast<T>(inverse - static_cast<double>(inverse_high_))
                                      : static_cast<T>(std::fma(-inverse, rest, 1.0) * inverse);
        if (inverse * rest < 0.5 || inverse * rest > 2.0) {
            inverse_low_ = 0; // clamped: not the inverse any more
        }
    }

    template <class B>
    [[gnu::always_inline]] pair<B> scaled(const B& x, const B& maximum) const
    {
        const auto difference = two_difference(barrier(B(x * B(before_))), barrier(B(maximum * B(before_))));
        const B high = barrier(B(difference.high * B(after_)));
        const B low = barrier(B(difference.low * B(after_)));
        const auto product = two_product(high, B(inverse_high_));
        return {product.high, multiply_add(high, B(inverse_low_), multiply_add(low, B(inverse_high_), product.low))};
    }

private:
    T before_;
    T after_;
    T inverse_high_;
    T inverse_low_;
};

} // namespace scaledot::inline SCALEDOT_BUILD::kernel
SCALEDOT_KERNELS_END

#endif
