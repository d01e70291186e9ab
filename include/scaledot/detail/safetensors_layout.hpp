// SPDX-License-Identifier: BSD-3-Clause
// What a safetensors file holds and where, and the check that its tensors cover its bytes exactly once.
#ifndef SCALEDOT_DETAIL_SAFETENSORS_LAYOUT_HPP
#define SCALEDOT_DETAIL_SAFETENSORS_LAYOUT_HPP

#include <scaledot/detail/check.hpp>
#include <scaledot/detail/config.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <functional>
#include <limits>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace scaledot::inline SCALEDOT_BUILD::detail {

struct safetensors_entry {
    std::string dtype;
    std::vector<std::size_t> shape;
    std::size_t begin = 0; ///< offsets into the bytes behind the header
    std::size_t end = 0;
};

struct safetensors_header {
    std::map<std::string, safetensors_entry, std::less<>> tensors;
    std::map<std::string, std::string> metadata;
    std::size_t data_start = 0; ///< offset of the first tensor's bytes in the file
};

/// Text of a hostile file made fit for a message: in quotes, control characters escaped, cut when long.
inline std::string printable(std::string_view name)
{
    constexpr std::size_t longest = 120;
    constexpr const char* digits = "0123456789abcdef";
    std::string result = "\"";
    for (const char c : name.substr(0, longest)) {
        const auto code = static_cast<unsigned char>(c);
        if (code < 0x20 || code == 0x7f) {
            result += "\\x";
            result += digits[code >> 4];
            result += digits[code & 15];
        } else {
            result += c;
        }
    }
    return result + (name.size() > longest ? "...\"" : "\"");
}

/// A shape for a message, cut when its rank is a hostile file's.
inline std::string short_shape_text(const std::vector<std::size_t>& shape)
{
    constexpr std::size_t longest = 16;
    return shape.size() <= longest ? shape_text(shape) : text("of rank ", shape.size());
}

/// Bits of one element of the format's types, 0 for a type that is not known.
inline std::size_t safetensors_bits(std::string_view dtype)
{
    constexpr std::array<std::pair<std::string_view, std::size_t>, 20> known = {{
        {"BOOL", 8},    {"U8", 8},      {"I8", 8},      {"U16", 16},    {"I16", 16},    {"U32", 32}, {"I32", 32},
        {"U64", 64},    {"I64", 64},    {"F16", 16},    {"BF16", 16},   {"F32", 32},    {"F64", 64}, {"C64", 64},
        {"F8_E4M3", 8}, {"F8_E5M2", 8}, {"F8_E8M0", 8}, {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"F4", 4},
    }};
    const auto* found = std::find_if(known.begin(), known.end(), [&](const auto& type) { return type.first == dtype; });
    return found == known.end() ? 0 : found->second;
}

/// Bytes of a tensor by its shape and type. Zeros count as ones in the check for overflow: the strides of an empty
/// array are products of its other extents, and must not overflow either.
inline std::size_t safetensors_size(const safetensors_entry& entry, std::size_t bits, const std::string& where)
{
    std::size_t extents = bits;
    bool is_empty = false;
    for (const std::size_t extent : entry.shape) {
        is_empty = is_empty || extent == 0;
        if (__builtin_mul_overflow(extents, std::max<std::size_t>(extent, 1), &extents) ||
            extents > static_cast<std::size_t>(std::numeric_limits<std::ptrdiff_t>::max())) {
            throw_error<std::runtime_error>(where, "shape ", short_shape_text(entry.shape), " overflows");
        }
    }
    if (!is_empty && extents % 8 != 0) {
        throw_error<std::runtime_error>(where, "shape ", short_shape_text(entry.shape), " of ", printable(entry.dtype),
                                        " does not fill whole bytes");
    }
    return is_empty ? 0 : extents / 8;
}

/// Checks that one tensor lies within data_size bytes and has the size its shape asks for.
inline void validate_entry(const safetensors_entry& entry, std::size_t data_size, const std::string& where)
{
    const auto offsets = [&] { return text("data_offsets [", entry.begin, ", ", entry.end, "]"); };
    if (entry.begin > entry.end) {
        throw_error<std::runtime_error>(where, offsets(), " end before they begin");
    }
    if (entry.end > data_size) {
        throw_error<std::runtime_error>(where, offsets(), " reach past the file's ", data_size, " bytes of data");
    }
    const std::size_t bits = safetensors_bits(entry.dtype);
    const std::size_t size = safetensors_size(entry, bits == 0 ? 8 : bits, where);
    if (bits != 0 && size != entry.end - entry.begin) {
        throw_error<std::runtime_error>(where, "shape ", short_shape_text(entry.shape), " of ", entry.dtype, " needs ",
                                        size, " bytes, ", offsets(), " hold ", entry.end - entry.begin);
    }
}

/// Checks every tensor, and that together they cover data_size bytes exactly once.
/// @throws std::runtime_error  naming the file, the tensor where there is one, and what was wrong
inline void validate_layout(const safetensors_header& header, std::size_t data_size, const std::string& file)
{
    using named_entry = std::pair<const std::string, safetensors_entry>;
    std::vector<const named_entry*> in_order;
    in_order.reserve(header.tensors.size());
    for (const named_entry& named : header.tensors) {
        validate_entry(named.second, data_size, "scaledot: " + file + ": tensor " + printable(named.first) + ": ");
        in_order.push_back(&named);
    }
    std::sort(in_order.begin(), in_order.end(), [](const named_entry* a, const named_entry* b) {
        return std::pair(a->second.begin, a->second.end) < std::pair(b->second.begin, b->second.end);
    });
    std::size_t covered = 0;
    for (const named_entry* named : in_order) {
        const std::size_t begin = named->second.begin;
        if (begin != covered) {
            throw_error<std::runtime_error>("scaledot: ", file, ": tensor ", printable(named->first),
                                            ": data_offsets begin at ", begin, ", must begin at ", covered,
                                            " where the tensor before it ends (",
                                            begin < covered ? "overlap)" : "hole)");
        }
        covered = named->second.end;
    }
    if (covered != data_size) {
        throw_error<std::runtime_error>("scaledot: ", file, ": has ", data_size,
                                        " bytes of data, the tensors cover only ", covered);
    }
}

} // namespace scaledot::inline SCALEDOT_BUILD::detail

#endif
