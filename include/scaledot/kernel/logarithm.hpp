// SPDX-License-Identifier: BSD-3-Clause
// Natural logarithms of vectors of double, for what softmax needs once a row: 2 atanh(t) = ln((1 + t) / (1 - t)) by its
// series, without tables. Of numbers, to the digits that float needs; of pairs, to those that double needs.
#ifndef SCALEDOT_KERNEL_LOGARITHM_HPP
#define SCALEDOT_KERNEL_LOGARITHM_HPP

#include <scaledot/detail/config.hpp>
#include <scaledot/kernel/convert.hpp>
#include <scaledot/kernel/pair.hpp>
#include <scaledot/kernel/simd.hpp>
#include <scaledot/kernel/unroll.hpp>

#include <bit>
#include <cstddef>
#include <cstdint>

SCALEDOT_KERNELS_BEGIN
namespace scaledot::inline SCALEDOT_BUILD::kernel {

/// Relative error of logarithms of quotients of numbers. Found by tests/kernel_logarithm_test.cpp: 2^-42.5.
inline constexpr double logarithm_max_error = 0x1p-42;
/// The same of pairs, of quotients from 1.9 up, and of 1 + quotients up to 0.9. Found: 0.0115 and 0.125 times 2^-53.
inline constexpr double pair_logarithm_max_error = 0.04 * 0x1p-53;
inline constexpr double pair_logarithm_of_1_plus_max_error = 0.25 * 0x1p-53;

/// 1 / 3 + x / 5 + x^2 / 7 + ... + x^n / Last, Last = 2n + 3.
template <int Last, class D>
[[gnu::always_inline]] inline D atanh_series(const D& x)
{
    D sum(1.0 / Last);
    unroll<(Last - 3) / 2>([&](auto i) __attribute__((always_inline)) {
        sum = multiply_add(sum, x, D(1.0 / (Last - 2 - 2 * static_cast<int>(i))));
    });
    return sum;
}

/// ln((1 + t) / (1 - t)) + k ln 2 for |t| <= 1/3.
template <class D>
[[gnu::always_inline]] inline D twice_atanh(const D& t, const D& k)
{
    const D square = t * t;
    const D twice = t + t;
    const D rest = multiply_add(D(twice * square), atanh_series<23>(square), twice);
    return multiply_add(k, D(0.69314718055994531), rest);
}

template <class D>
[[gnu::always_inline]] inline pair<D> twice_atanh(const pair<D>& t, const D& k)
{
    const D twice = t.high + t.high;
    const D square = barrier(multiply_add(t.high, t.high, D(twice * t.low)));
    const D rest = barrier(D(twice * D(square * atanh_series<35>(square))));
    // ln 2 in two parts, the first of which times k is exact
    const auto sum = two_sum(barrier(D(k * D(0x1.62e42fefa38p-1))), twice);
    return fast_two_sum(sum.high,
                        barrier(D(D(sum.low + multiply_add(k, D(0x1.ef35793c7673p-45), D(t.low + t.low))) + rest)));
}

/// A number of at least 1 as m 2^k with m from 2^-1/2 to 2^1/2.
template <class D>
struct binary_logarithm {
    D exponent; ///< k
    D power;    ///< 2^-k

    [[gnu::always_inline]] explicit binary_logarithm(const D& x)
    {
        using U = vector_of_t<std::uint64_t, D::size>;
        constexpr auto inverse_root = std::bit_cast<std::uint64_t>(0.70710678118654752);
        constexpr auto magic = std::bit_cast<std::uint64_t>(0x1p52);
        constexpr auto one = std::bit_cast<std::uint64_t>(1.0);
        const U k = (std::bit_cast<U>(x) - inverse_root) >> 52;
        exponent = barrier(std::bit_cast<D>(k | magic)) - D(0x1p52);
        power = std::bit_cast<D>(one - (k << 52));
    }
};

/// a / b.
template <class D>
[[gnu::always_inline]] inline pair<D> quotient(const pair<D>& a, const pair<D>& b)
{
    const D high = barrier(quotient(a.high, b.high));
    const auto product = two_product(high, b.high);
    const D rest = barrier(D(barrier(D(a.high - product.high)) - product.low)) + (a.low - high * b.low);
    return fast_two_sum(high, quotient(barrier(rest), b.high));
}

/// a + b.
template <class D>
[[gnu::always_inline]] inline pair<D> sum_of(const pair<D>& a, const pair<D>& b)
{
    const auto sum = two_sum(a.high, b.high);
    return fast_two_sum(sum.high, barrier(D(sum.low + barrier(D(a.low + b.low)))));
}
template <class D>
[[gnu::always_inline]] inline D sum_of(const D& a, const D& b)
{
    return a + b;
}

/// a * factor, a power of two or its negative.
template <class D>
[[gnu::always_inline]] inline pair<D> scaled(const pair<D>& a, const D& factor)
{
    return {barrier(D(a.high * factor)), barrier(D(a.low * factor))};
}
template <class D>
[[gnu::always_inline]] inline D scaled(const D& a, const D& factor)
{
    return a * factor;
}

template <class Mask, class D>
[[gnu::always_inline]] inline pair<D> select(const Mask& mask, const pair<D>& a, const pair<D>& b)
{
    return {xsimd::select(mask, a.high, b.high), xsimd::select(mask, a.low, b.low)};
}
template <class Mask, class T, class A>
[[gnu::always_inline]] inline xsimd::batch<T, A> select(const Mask& mask, const xsimd::batch<T, A>& a,
                                                        const xsimd::batch<T, A>& b)
{
    return xsimd::select(mask, a, b);
}

/// What logarithms of vectors of double, or of pairs of these, are made of: ln((1 + t) / (1 - t)) + k ln 2,
/// t = numerator / denominator.
template <class D, class Number>
struct logarithm_terms {
    Number numerator;
    Number denominator;
    D k;

    [[gnu::always_inline]] Number logarithm() const { return twice_atanh(quotient(numerator, denominator), k); }
};

/// Of ln(a / b), where `ratio` is a / b to some digits, 1 at least. Whatever it else is, some number.
template <class D, class Number>
[[gnu::always_inline]] inline logarithm_terms<D, Number> terms_of_quotient(const Number& a, const Number& b,
                                                                           const D& ratio)
{
    const binary_logarithm<D> scale(ratio);
    const Number m = scaled(a, scale.power);
    return {sum_of(m, scaled(b, D(-1))), sum_of(m, b), scale.exponent};
}

/// Of ln(1 + a / b), 0 <= a / b <= 1.
template <class D, class Number>
[[gnu::always_inline]] inline logarithm_terms<D, Number> terms_of_1_plus_quotient(const Number& a, const Number& b)
{
    return {a, sum_of(scaled(b, D(2)), a), D(0)};
}

} // namespace scaledot::inline SCALEDOT_BUILD::kernel
SCALEDOT_KERNELS_END

#endif
