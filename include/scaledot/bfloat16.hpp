// SPDX-License-Identifier: BSD-3-Clause
// bfloat16: the upper half of a float (1 sign, 8 exponent, 7 fraction bits), as a storage type. Arithmetic is float's.
#ifndef SCALEDOT_BFLOAT16_HPP
#define SCALEDOT_BFLOAT16_HPP

#include <scaledot/detail/config.hpp>

#include <bit>
#include <concepts>
#include <cstdint>

namespace scaledot::inline SCALEDOT_BUILD {

/// A float rounded to 8 significant bits: the range of float, 2 to 3 decimal digits.
///
/// Conversion from float rounds to nearest, ties to even; overflow gives infinity, a NaN stays a (quiet) NaN with its
/// sign. Conversion to float is exact. double and long double round through float, so such a conversion can be off by
/// one in the last place in rare double-rounding cases.
class bfloat16 {
public:
    constexpr bfloat16() = default;

    /// Rounded to nearest, ties to even.
    explicit constexpr bfloat16(float value) : bits_(round(std::bit_cast<std::uint32_t>(value))) {}

    /// The same by way of float.
    template <class T>
        requires(std::integral<T> || std::same_as<T, double> || std::same_as<T, long double>)
    explicit constexpr bfloat16(T value) : bfloat16(static_cast<float>(value))
    {
    }

    /// The same number as a float.
    constexpr operator float() const { return std::bit_cast<float>(static_cast<std::uint32_t>(bits_) << 16); }

    /// The number with exactly these 16 bits.
    static constexpr bfloat16 from_bits(std::uint16_t bits)
    {
        bfloat16 value;
        value.bits_ = bits;
        return value;
    }

    /// Sign, 8 bits of exponent and 7 of fraction.
    constexpr std::uint16_t bits() const { return bits_; }

private:
    static constexpr std::uint16_t round(std::uint32_t bits)
    {
        if ((bits & 0x7fffffffu) > 0x7f800000u) {
            return static_cast<std::uint16_t>((bits >> 16) | 0x0040u);
        }
        return static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
    }

    std::uint16_t bits_ = 0;
};

} // namespace scaledot::inline SCALEDOT_BUILD

#endif
