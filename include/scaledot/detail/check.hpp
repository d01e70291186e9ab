// SPDX-License-Identifier: BSD-3-Clause
// The only place that throws: what was wrong, what it was, what it had to be. Tests of floating-point arguments look at
// bits, so that they also hold in a translation unit built with -ffast-math.
#ifndef SCALEDOT_DETAIL_CHECK_HPP
#define SCALEDOT_DETAIL_CHECK_HPP

#include <scaledot/detail/config.hpp>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <sstream>
#include <stdexcept>
#include <string>

namespace scaledot::inline SCALEDOT_BUILD::detail {

/// The parts one after another, as a stream would print them.
template <class... Parts>
std::string text(const Parts&... parts)
{
    std::ostringstream stream;
    stream.precision(17);
    (stream << ... << parts);
    return stream.str();
}

/// A shape as Python prints it: (2, 8, 16, 64).
template <class Shape>
std::string shape_text(const Shape& shape)
{
    std::ostringstream stream;
    stream << '(';
    for (std::size_t i = 0; i < shape.size(); ++i) {
        stream << (i ? ", " : "") << shape[i];
    }
    stream << (shape.size() == 1 ? ",)" : ")");
    return stream.str();
}

/// Throws Error(text(parts...)). Without exceptions it prints that to the error stream and calls std::terminate.
template <class Error, class... Parts>
[[noreturn]] void throw_error(const Parts&... parts)
{
#if defined(__cpp_exceptions)
    throw Error(text(parts...));
#else
    std::fprintf(stderr, "%s\n", text(parts...).c_str());
    std::terminate();
#endif
}

/// Throws std::invalid_argument("scaledot: <argument> was <was>, must be <must>").
template <class Was>
[[noreturn]] void reject(const std::string& argument, const Was& was, const std::string& must)
{
    throw_error<std::invalid_argument>("scaledot: ", argument, " was ", was, ", must be ", must);
}

inline bool is_nan(double x)
{
    return (std::bit_cast<std::uint64_t>(x) & 0x7fffffffffffffffu) > 0x7ff0000000000000u;
}

inline bool is_finite(double x)
{
    return (std::bit_cast<std::uint64_t>(x) & 0x7ff0000000000000u) != 0x7ff0000000000000u;
}

inline bool is_positive_infinity(double x)
{
    return std::bit_cast<std::uint64_t>(x) == 0x7ff0000000000000u;
}

inline bool is_negative_infinity(double x)
{
    return std::bit_cast<std::uint64_t>(x) == 0xfff0000000000000u;
}

/// True when the sign bit is clear or the value is zero, and it is not a NaN.
inline bool is_non_negative(double x)
{
    const auto bits = std::bit_cast<std::uint64_t>(x);
    return bits <= 0x7ff0000000000000u || bits == 0x8000000000000000u;
}

/// An axis in Python's sense (-1 is the last) as an index; throws when it is outside the rank.
inline std::size_t normalize_axis(std::ptrdiff_t axis, std::size_t rank)
{
    const auto signed_rank = static_cast<std::ptrdiff_t>(rank);
    if (axis < -signed_rank || axis >= signed_rank) {
        reject("axis", axis, text("in [", -signed_rank, ", ", signed_rank - 1, "] for an array of rank ", rank));
    }
    return static_cast<std::size_t>(axis < 0 ? axis + signed_rank : axis);
}

/// a * b; throws std::length_error naming what when the product does not fit std::size_t.
inline std::size_t checked_product(std::size_t a, std::size_t b, const char* what)
{
    std::size_t product = 0;
    if (__builtin_mul_overflow(a, b, &product)) {
        throw_error<std::length_error>("scaledot: ", what, " was ", a, " * ", b, ", must fit std::size_t");
    }
    return product;
}

/// a + b; throws std::length_error naming what when the sum does not fit std::size_t.
inline std::size_t checked_sum(std::size_t a, std::size_t b, const char* what)
{
    std::size_t sum = 0;
    if (__builtin_add_overflow(a, b, &sum)) {
        throw_error<std::length_error>("scaledot: ", what, " was ", a, " + ", b, ", must fit std::size_t");
    }
    return sum;
}

} // namespace scaledot::inline SCALEDOT_BUILD::detail

#endif
