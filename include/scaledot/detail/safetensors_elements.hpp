// SPDX-License-Identifier: BSD-3-Clause
// From the bytes of a safetensors tensor to elements of the caller's type. Rounds only from floating to floating; every
// other conversion keeps the value or throws.
#ifndef SCALEDOT_DETAIL_SAFETENSORS_ELEMENTS_HPP
#define SCALEDOT_DETAIL_SAFETENSORS_ELEMENTS_HPP

#include <scaledot/bfloat16.hpp>
#include <scaledot/detail/check.hpp>
#include <scaledot/detail/config.hpp>
#include <scaledot/detail/safetensors_layout.hpp>
#include <scaledot/detail/xtensor.hpp>

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>

namespace scaledot::inline SCALEDOT_BUILD::detail {

static_assert(std::endian::native == std::endian::little, "scaledot: safetensors are read in place, little-endian");

/// An integer of a checkpoint: a number, neither bool nor a character.
template <class T>
concept plain_integer =
    std::integral<T> && !std::same_as<T, bool> && !std::same_as<T, char> && !std::same_as<T, wchar_t> &&
    !std::same_as<T, char8_t> && !std::same_as<T, char16_t> && !std::same_as<T, char32_t>;

template <class T>
concept checkpoint_floating =
    std::same_as<T, float> || std::same_as<T, double> || std::same_as<T, xtl::half_float> || std::same_as<T, bfloat16>;

template <class T>
concept checkpoint_element = plain_integer<T> || checkpoint_floating<T> || std::same_as<T, bool>;

/// BOOL as it lies in the file: any byte may be there, and a bool made of it would be undefined.
enum class stored_bool : std::uint8_t {};

/// Significant bits of a floating type, and the exponent e of its first overflowing power of two 2^e.
template <checkpoint_floating T>
struct precision {
    static constexpr bool is_half = std::same_as<T, xtl::half_float>;
    static constexpr int digits = std::same_as<T, double> ? 53 : std::same_as<T, float> ? 24 : is_half ? 11 : 8;
    static constexpr int overflow = std::same_as<T, double> ? 1024 : is_half ? 16 : 128;
};

/// True when T has exactly this integer.
template <class T>
constexpr bool holds(auto value)
{
    if constexpr (std::same_as<T, bool>) {
        return value == 0 || value == 1;
    } else if constexpr (plain_integer<T>) {
        return std::in_range<T>(value);
    } else {
        auto magnitude = static_cast<std::uint64_t>(value);
        if (std::cmp_less(value, 0)) {
            magnitude = 0 - magnitude;
        }
        const int width = static_cast<int>(std::bit_width(magnitude));
        return magnitude == 0 ||
               (width <= precision<T>::overflow && width - std::countr_zero(magnitude) <= precision<T>::digits);
    }
}

/// The element as T; `where` makes the beginning of an error's text.
template <class T, class Stored>
T element_as(Stored stored, std::size_t index, const auto& where)
{
    if constexpr (std::same_as<Stored, stored_bool>) {
        const auto byte = static_cast<unsigned>(stored);
        if (byte > 1) {
            throw_error<std::runtime_error>(where(), "element ", index, " is the byte ", byte, ", a BOOL is 0 or 1");
        }
        return static_cast<T>(static_cast<float>(byte));
    } else if constexpr (std::integral<Stored>) {
        if (!holds<T>(stored)) {
            throw_error<std::runtime_error>(where(), "element ", index, " is ", +stored,
                                            ", which the element type asked for cannot hold");
        }
        if constexpr (checkpoint_floating<T>) {
            return static_cast<T>(static_cast<std::conditional_t<std::same_as<T, double>, double, float>>(stored));
        } else {
            return static_cast<T>(stored);
        }
    } else if constexpr (std::floating_point<Stored>) {
        return static_cast<T>(stored);
    } else {
        return static_cast<T>(static_cast<float>(stored));
    }
}

/// Fills `out` from the bytes, which may lie at any address and are exactly as many as `count` elements need.
template <class Stored, class T>
void read_elements(std::span<const std::byte> bytes, std::size_t count, T* out, const auto& where)
{
    if constexpr (!std::integral<Stored> && !std::same_as<Stored, stored_bool> && !checkpoint_floating<T>) {
        throw_error<std::runtime_error>(where(), "holds floating-point numbers, which are not read as integers");
    } else if constexpr (std::same_as<Stored, T>) {
        if (count != 0) {
            std::memcpy(out, bytes.data(), count * sizeof(T));
        }
    } else {
        for (std::size_t i = 0; i < count; ++i) {
            Stored stored;
            std::memcpy(&stored, bytes.data() + i * sizeof stored, sizeof stored);
            out[i] = element_as<T>(stored, i, where);
        }
    }
}

/// Calls function(std::type_identity<Stored>) with the C++ type of a file's element type.
auto with_stored_type(const std::string& dtype, const auto& where, auto&& function)
{
    if (dtype == "F32") {
        return function(std::type_identity<float>());
    } else if (dtype == "F64") {
        return function(std::type_identity<double>());
    } else if (dtype == "F16") {
        return function(std::type_identity<xtl::half_float>());
    } else if (dtype == "BF16") {
        return function(std::type_identity<bfloat16>());
    } else if (dtype == "BOOL") {
        return function(std::type_identity<stored_bool>());
    } else if (dtype == "I8") {
        return function(std::type_identity<std::int8_t>());
    } else if (dtype == "U8") {
        return function(std::type_identity<std::uint8_t>());
    } else if (dtype == "I16") {
        return function(std::type_identity<std::int16_t>());
    } else if (dtype == "U16") {
        return function(std::type_identity<std::uint16_t>());
    } else if (dtype == "I32") {
        return function(std::type_identity<std::int32_t>());
    } else if (dtype == "U32") {
        return function(std::type_identity<std::uint32_t>());
    } else if (dtype == "I64") {
        return function(std::type_identity<std::int64_t>());
    } else if (dtype == "U64") {
        return function(std::type_identity<std::uint64_t>());
    }
    throw_error<std::runtime_error>(where(), "has the element type ", printable(dtype),
                                    ", must be one of F64 F32 F16 BF16 I8 I16 I32 I64 U8 U16 U32 U64 BOOL to be read");
}

} // namespace scaledot::inline SCALEDOT_BUILD::detail

#endif
