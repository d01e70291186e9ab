// SPDX-License-Identifier: BSD-3-Clause
// Natural logarithms of vectors of double, for what softmax of float needs once a row: 2 atanh(t) = ln((1 + t) / (1 -
// t)) by its series, without tables.
#ifndef SCALEDOT_KERNEL_LOGARITHM_HPP
#define SCALEDOT_KERNEL_LOGARITHM_HPP

#include <scaledot/detail/config.hpp>
#include <scaledot/kernel/convert.hpp>
#include <scaledot/kernel/simd.hpp>

#include <bit>
#include <cstddef>
#include <cstdint>

SCALEDOT_KERNELS_BEGIN
namespace scaledot::inline SCALEDOT_BUILD::kernel {

/// Relative error of the functions below. Found by tests/kernel_logarithm_test.cpp: 2^-42.5.
inline constexpr double logarithm_max_error = 0x1p-42;

/// ln((1 + t) / (1 - t)) for |t| <= 1/3: 2t (1 + t^2 / 3 + t^4 / 5 + ... + t^22 / 23).
template <class D>
[[gnu::always_inline]] inline D twice_atanh(const D& t)
{
    const D square = t * t;
    D sum(1.0 / 23);
    for (int n = 21; n > 0; n -= 2) {
        sum = multiply_add(sum, square, D(1.0 / n));
    }
    return (t + t) * sum;
}

/// ln(1 + x) for 0 <= x <= 1.
template <class D>
[[gnu::always_inline]] inline D logarithm_of_1_plus(const D& x)
{
    return twice_atanh(quotient(x, D(D(2) + x)));
}

/// ln(x) for x >= 1, as k ln 2 + ln(m) with m from 2^-1/2 to 2^1/2. Whatever x else is, some number.
template <class D>
[[gnu::always_inline]] inline D logarithm(const D& x)
{
    using U = vector_of_t<std::uint64_t, D::size>;
    constexpr auto inverse_root = std::bit_cast<std::uint64_t>(0.70710678118654752);
    constexpr auto magic = std::bit_cast<std::uint64_t>(0x1p52);
    const U bits = std::bit_cast<U>(x);
    const U k = (bits - inverse_root) >> 52;
    const D m = std::bit_cast<D>(bits - (k << 52));
    const D exponent = barrier(std::bit_cast<D>(k | magic)) - D(0x1p52);
    return multiply_add(exponent, D(0.69314718055994531), twice_atanh(quotient(D(m - D(1)), D(m + D(1)))));
}

} // namespace scaledot::inline SCALEDOT_BUILD::kernel
SCALEDOT_KERNELS_END

#endif
