// SPDX-License-Identifier: BSD-3-Clause
// The weights of a softmax and their sum: e^(x/T) straight from x, as 2^n 2^(j/16) (1 + excess) with a common power of
// two taken out of a row. Without a rounded x - maximum there is no low part to carry; docs/numerics.md#softmax.
#ifndef SCALEDOT_KERNEL_WEIGHTS_HPP
#define SCALEDOT_KERNEL_WEIGHTS_HPP

#include <scaledot/detail/config.hpp>
#include <scaledot/kernel/choice.hpp>
#include <scaledot/kernel/exp.hpp>
#include <scaledot/kernel/pair.hpp>
#include <scaledot/kernel/simd.hpp>
#include <scaledot/kernel/sixteenths.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <type_traits>

SCALEDOT_KERNELS_BEGIN
namespace scaledot::inline SCALEDOT_BUILD::kernel {

/// Relative error of a weight, power * (1 + excess), in units u of half an ulp of 1; docs/numerics.md#softmax.
inline constexpr double weight_max_error = 0.1;
/// The error that adding up weights contributes to their sum, relative to it, in units u.
inline constexpr double weight_sum_max_error = 0.25;

template <class T>
struct weight_constants;

// errors: what rounding left of sixteenth_powers, relative. polynomial: (2^f - 1) / f on |f| <= 1/32, minimax.
template <>
struct weight_constants<float> {
    static constexpr float log2_e = 0x1.715476p+0f;
    static constexpr double log2_e_low = 0x1.4ae0cp-26;
    static constexpr float round_to_sixteenth = 0x1.8p+19f;
    static constexpr int bias = 32;        // weights are multiplied by 2^bias: those that count are normal numbers
    static constexpr float depth = 156.0f; // below 2^-depth of the largest they count as 0
    static constexpr float plain_reach = 120.0f; // depth, in base 2, of rows whose weights need no care
    static constexpr std::array polynomial = {0x1.62e430p-1f, 0x1.ebfff4p-3f, 0x1.c6ac6ap-5f};
    alignas(64) static constexpr std::array<float, 16> errors = {0,
                                                                 0x1.8d96d4p-25f,
                                                                 -0x1.9c0c22p-27f,
                                                                 0x1.964904p-25f,
                                                                 0x1.125002p-25f,
                                                                 0x1.370be4p-25f,
                                                                 -0x1.0a3550p-25f,
                                                                 -0x1.00d8acp-27f,
                                                                 0x1.26055cp-26f,
                                                                 -0x1.05cb44p-25f,
                                                                 0x1.67a1cap-28f,
                                                                 0x1.a3b5e4p-28f,
                                                                 -0x1.f9c304p-27f,
                                                                 -0x1.6961b4p-28f,
                                                                 -0x1.a5217cp-28f,
                                                                 0x1.61428ep-28f};
};

template <>
struct weight_constants<double> {
    static constexpr double log2_e = 0x1.71547652b82fep+0;
    static constexpr double log2_e_low = 0x1.777d0ffda0d24p-56;
    static constexpr double round_to_sixteenth = 0x1.8p+48;
    static constexpr int bias = 96;
    static constexpr double depth = 1090.0;
    static constexpr double plain_reach = 256.0;
    static constexpr std::array polynomial = {0x1.62e42fefa39efp-1, 0x1.ebfbdff82c594p-3,  0x1.c6b08d704a0c1p-5,
                                              0x1.3b2ab6fb09a33p-7, 0x1.5d87fe7846c8fp-10, 0x1.430a4970f3ce1p-13,
                                              0x1.ffcd7aed3c1cbp-17};
    alignas(64) static constexpr std::array<double, 16> errors = {0,
                                                                  0x1.79aa65d837b6dp-54,
                                                                  -0x1.01b15eaa59348p-55,
                                                                  0x1.68efde3a8a894p-54,
                                                                  0x1.34d754db0abb6p-55,
                                                                  0x1.59f48a72a4c6dp-55,
                                                                  0x1.690cebb7aafb0p-56,
                                                                  0x1.063e1e21c5409p-54,
                                                                  -0x1.3b3efbf5e2228p-54,
                                                                  -0x1.b32dcb94da51dp-56,
                                                                  0x1.db72fc1f0eab4p-55,
                                                                  0x1.1affc2b91ce27p-56,
                                                                  0x1.c1a7792cb3387p-55,
                                                                  0x1.36eae30af0cb3p-56,
                                                                  0x1.4a385a63d07a7p-56,
                                                                  -0x1.ff7128fd391f0p-55};
};

/// log2(e) / T as a pair, after logits were multiplied by a power of two that is 1 unless T is beyond 2^40 or 2^-40.
template <class T>
struct exponent_scale {
    T factor = 1;
    T high = 0;
    T low = 0;

    explicit exponent_scale(double temperature)
    {
        using C = weight_constants<T>;
        constexpr int moderate = 40;
        constexpr int limit = std::numeric_limits<T>::max_exponent - 2;
        int exponent = 0;
        std::frexp(temperature, &exponent);
        const int power = std::abs(exponent) <= moderate ? 0 : std::clamp(-exponent, -limit, limit);
        factor = static_cast<T>(std::ldexp(1.0, power));
        // What the clamps cut off makes every difference of logits either 0 or beyond any weight.
        const double rest = std::clamp(std::ldexp(temperature, power), 0x1p-60, 0x1p60);
        if constexpr (sizeof(T) == 4) {
            const double scale = weight_constants<double>::log2_e / rest;
            high = barrier(static_cast<T>(scale));
            low = static_cast<T>(scale - static_cast<double>(high));
        } else {
            high = barrier(C::log2_e / rest);
            const auto product = two_product(high, rest);
            low = (barrier(barrier(C::log2_e - product.high) - product.low) + C::log2_e_low) / rest;
        }
    }
};

/// power * (1 + excess), |excess| < 0.022.
template <class B>
struct weight {
    B power;
    B excess;

    /// Rounded once. -ffast-math would factor the power out.
    [[gnu::always_inline]] B value() const { return multiply_add(excess, barrier(power), power); }
};

/// What the weights of a row are relative to, one row a lane: x - shift is exact for all x that weigh something. A
/// plain row has logits neither very large nor far apart.
template <class B>
struct weight_frame {
    using T = typename B::value_type;
    using I = std::decay_t<decltype(as_bits(std::declval<B>()))>;

    B shift;
    B smallest; ///< of x - shift, times the scale's factor; it and what is below weigh nothing
    B round;    ///< rounds to sixteenths and raises exponents by as much as brings the largest weight to 2^bias
    B plain;    ///< 1 where the row is plain, else 0
};

/// Of rows with these maxima; `lowest` is the smallest logit where that is below 0.
template <class B, class T = typename B::value_type>
[[gnu::always_inline]] inline weight_frame<B> frame_of(const B& maximum, const B& lowest,
                                                       const exponent_scale<T>& scale)
{
    using C = weight_constants<T>;
    constexpr T round = exp_constants<T>::round_to_integer;
    // Logits that weigh something are within depth of the maximum: at least half and at most twice a maximum beyond.
    constexpr T exact_reach = 2 * C::depth + 2;
    const B high(scale.high);
    const B unshifted = barrier(B(barrier(B(maximum * B(scale.factor))) * high));
    weight_frame<B> frame;
    frame.shift = xsimd::select(xsimd::abs(unshifted) <= B(exact_reach), B(0), maximum);
    const B top = barrier(B(barrier(B(barrier(B(maximum - frame.shift)) * B(scale.factor))) * high));
    const B n = barrier(B(barrier(B(top + B(round))) - B(round)));
    frame.round = barrier(B(B(C::round_to_sixteenth + C::bias) - n));
    frame.smallest = quotient(B(n - B(C::depth)), high);
    // Of a row without logits below 0 the smallest is not known: it may be 0.
    const B least(scale.factor == T(1) ? -exact_reach : exact_reach);
    const B reach(C::plain_reach);
    frame.plain =
        xsimd::select((unshifted >= least) & (unshifted <= reach) & (B(lowest * high) >= B(top - reach)), B(1), B(0));
    return frame;
}

/// Weighs logits: e^(x/T) in units of a power of two that frame and bias decide. Plain rows take fewer steps; the bits
/// are the same.
template <class B, bool Plain>
class weigher {
    using T = typename B::value_type;
    using C = weight_constants<T>;
    using I = typename weight_frame<B>::I;

public:
    weigher(const weight_frame<B>& frame, const exponent_scale<T>& scale)
        : shift_(frame.shift), smallest_(frame.smallest), round_(frame.round), factor_(scale.factor), high_(scale.high),
          low_(scale.low)
    {
    }

    [[gnu::always_inline]] weight<B> operator()(const B& x) const
    {
        B z = x;
        if constexpr (!Plain) {
            const B distance = barrier(B(barrier(B(x - shift_)) * factor_));
            z = larger(smallest_, distance);
#if defined(__FAST_MATH__)
            z = exp_steps::keep_nan(distance, z);
#endif
        }
        B shifted;
        B f;
        if constexpr (fused<B>) {
            shifted = barrier(multiply_add(z, high_, round_));
            f = multiply_add(z, low_, barrier(multiply_add(z, high_, barrier(B(round_ - shifted)))));
        } else {
            const auto product = two_product(z, high_);
            shifted = barrier(B(product.high + round_));
            f = barrier(B(product.high + barrier(B(round_ - shifted)))) + barrier(B(product.low + z * low_));
        }
        const I index = as_bits(shifted);
        constexpr auto& c = C::polynomial;
        B q(c.back());
        for (std::size_t i = c.size() - 1; i-- > 0;) {
            q = multiply_add(q, f, B(c[i]));
        }
        const B excess = multiply_add(q, f, sixteenth<T>(C::errors, index));
        I power = sixteenth<T>(sixteenth_bits<T>, index) + shift_left<exp_constants<T>::fraction_bits - 4>(index);
        if constexpr (!Plain) {
            power = as_bits(B(xsimd::select(barrier(z) == smallest_, B(0), from_bits<T>(power))));
        }
        return {from_bits<T>(power), excess};
    }

private:
    B shift_;
    B smallest_;
    B round_;
    B factor_;
    B high_;
    B low_;
};

/// The sum of at most `most` weights a lane, as powers and as excesses, whose sum is small beside it. add() reads the
/// excess by its register: else g++ 12 writes it to memory at each step, where nothing reads it.
template <class B>
class weight_sum {
public:
    static constexpr std::size_t most = 8;

    [[gnu::always_inline]] void add(const weight<B>& w)
    {
        const B sum = barrier(B(powers_ + w.power));
        const B rest = barrier(B(w.power - barrier(B(sum - powers_))));
        powers_ = sum;
        excesses_ = excesses_ + barrier(multiply_add(w.power, B(w.excess.data), rest));
    }

    [[gnu::always_inline]] pair<B> total() const { return fast_two_sum(barrier(B(powers_ - B(start))), excesses_); }

private:
    using T = typename B::value_type;
    /// Above any weight, so that additions leave their error in the sum's own digits.
    static constexpr T start = std::bit_cast<T>(static_cast<bits_of<T>>(
        exp_constants<T>::one + (bits_of<T>{weight_constants<T>::bias + 1} << exp_constants<T>::fraction_bits)));

    B powers_ = B(start);
    B excesses_ = B(T(0));
};

} // namespace scaledot::inline SCALEDOT_BUILD::kernel
SCALEDOT_KERNELS_END

#endif
