// SPDX-License-Identifier: BSD-3-Clause
// The header of a safetensors file: 8 bytes little-endian length, JSON of that length, then the tensors' bytes without
// a gap. Trusts nothing: what parse_safetensors returns describes exactly the bytes it was given.
#ifndef SCALEDOT_DETAIL_SAFETENSORS_HEADER_HPP
#define SCALEDOT_DETAIL_SAFETENSORS_HEADER_HPP

#include <scaledot/detail/check.hpp>
#include <scaledot/detail/config.hpp>
#include <scaledot/detail/safetensors_layout.hpp>

#include <nlohmann/json.hpp>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace scaledot::inline SCALEDOT_BUILD::detail {

/// The reference implementation's limit: a longer header is an attack or an accident.
inline constexpr std::size_t safetensors_max_header = 100'000'000;

/// Receives the JSON's events one by one, so that a duplicate name, which a document object would swallow, is seen, and
/// so that nesting costs no stack.
class safetensors_header_reader {
public:
    safetensors_header_reader(const std::string& file, safetensors_header& header) : file_(file), header_(header) {}

    bool null() { unexpected("null"); }
    bool boolean(bool) { unexpected("a bool"); }
    bool number_integer(std::int64_t) { unexpected("a negative number"); }
    bool number_float(double, const std::string& digits) { unexpected("the number " + printable(digits)); }
    bool binary(std::vector<std::uint8_t>&) { unexpected("binary data"); }

    bool number_unsigned(std::uint64_t number)
    {
        if (place_ != place::shape && place_ != place::offsets) {
            unexpected("a number");
        }
        if (!std::in_range<std::size_t>(number)) {
            unexpected(text("the number ", number));
        }
        numbers_.push_back(static_cast<std::size_t>(number));
        return true;
    }

    bool string(std::string& value)
    {
        if (place_ == place::metadata) {
            header_.metadata[metadata_key_] = std::move(value);
        } else if (place_ == place::entry && field_ == field_dtype) {
            entry_->dtype = std::move(value);
        } else {
            unexpected("a string");
        }
        return true;
    }

    bool start_object(std::size_t)
    {
        if (place_ == place::document) {
            place_ = place::names;
        } else if (place_ == place::names && entry_ == nullptr) {
            place_ = place::metadata;
        } else if (place_ == place::names) {
            place_ = place::entry;
        } else {
            unexpected("an object");
        }
        return true;
    }

    bool key(std::string& key)
    {
        if (place_ == place::names) {
            start_name(key);
        } else if (place_ == place::metadata) {
            metadata_key_ = key;
            if (!header_.metadata.emplace(key, std::string()).second) {
                fail(text("__metadata__ has the key ", printable(key), " twice"));
            }
        } else {
            start_field(key);
        }
        return true;
    }

    bool end_object()
    {
        if (place_ == place::entry && fields_seen_ != (field_dtype | field_shape | field_offsets)) {
            fail(text(where(), " must have dtype, shape and data_offsets"));
        }
        place_ = place_ == place::names ? place::document : place::names;
        return true;
    }

    bool start_array(std::size_t)
    {
        if (place_ != place::entry || field_ == field_dtype) {
            unexpected("an array");
        }
        place_ = field_ == field_shape ? place::shape : place::offsets;
        numbers_.clear();
        return true;
    }

    bool end_array()
    {
        if (place_ == place::shape) {
            entry_->shape = numbers_;
        } else if (numbers_.size() != 2) {
            fail(text(where(), " data_offsets has ", numbers_.size(), " numbers, must have 2"));
        } else {
            entry_->begin = numbers_[0];
            entry_->end = numbers_[1];
        }
        place_ = place::entry;
        return true;
    }

    bool parse_error(std::size_t position, const std::string&, const nlohmann::json::exception& error)
    {
        fail(text("header is not valid JSON at byte ", position, ": ", printable(error.what())));
    }

private:
    enum class place { document, names, metadata, entry, shape, offsets };
    static constexpr unsigned field_dtype = 1, field_shape = 2, field_offsets = 4;

    void start_name(const std::string& name)
    {
        bool inserted = false;
        if (name == "__metadata__") {
            inserted = !std::exchange(has_metadata_, true);
            entry_ = nullptr;
        } else {
            const auto [position, is_new] = header_.tensors.try_emplace(name);
            inserted = is_new;
            entry_ = &position->second;
        }
        name_ = name;
        fields_seen_ = 0;
        if (!inserted) {
            fail(text("header has the name ", printable(name), " twice"));
        }
    }

    void start_field(const std::string& key)
    {
        field_ = key == "dtype"          ? field_dtype
                 : key == "shape"        ? field_shape
                 : key == "data_offsets" ? field_offsets
                                         : 0;
        if (field_ == 0) {
            fail(text(where(), " has the key ", printable(key), ", must have dtype, shape and data_offsets only"));
        }
        if ((fields_seen_ & field_) != 0) {
            fail(text(where(), " has the key ", printable(key), " twice"));
        }
        fields_seen_ |= field_;
    }

    std::string where() const { return text("tensor ", printable(name_)); }

    [[noreturn]] void unexpected(const std::string& what) const
    {
        switch (place_) {
        case place::document:
            fail(text("header is ", what, ", must be an object"));
        case place::names:
            fail(text(entry_ ? where() : "__metadata__", " is ", what, ", must be an object"));
        case place::metadata:
            fail(text("__metadata__ ", printable(metadata_key_), " is ", what, ", must be a string"));
        case place::entry:
            fail(text(where(),
                      field_ == field_dtype   ? " dtype"
                      : field_ == field_shape ? " shape"
                                              : " data_offsets",
                      " is ", what, ", must be ", field_ == field_dtype ? "a string" : "an array"));
        case place::shape:
        case place::offsets:
            break;
        }
        fail(text(where(), place_ == place::shape ? " shape" : " data_offsets", " holds ", what,
                  ", must hold integers from 0 to 2^", std::numeric_limits<std::size_t>::digits, " - 1"));
    }

    [[noreturn]] void fail(const std::string& what) const
    {
        throw_error<std::runtime_error>("scaledot: ", file_, ": ", what);
    }

    const std::string& file_;
    safetensors_header& header_;
    place place_ = place::document;
    bool has_metadata_ = false;
    safetensors_entry* entry_ = nullptr;
    std::string name_;
    std::string metadata_key_;
    unsigned field_ = 0;
    unsigned fields_seen_ = 0;
    std::vector<std::size_t> numbers_;
};

/// Parses and validates the bytes of a whole file; `file` is its name in messages.
/// @throws std::runtime_error  naming the file, the tensor where there is one, and what was wrong
inline safetensors_header parse_safetensors(std::span<const std::byte> bytes, const std::string& file)
{
    const auto fail = [&](const auto&... what) { throw_error<std::runtime_error>("scaledot: ", file, ": ", what...); };
    std::uint64_t length = 0;
    if (bytes.size() < sizeof length) {
        fail("has ", bytes.size(), " bytes, a safetensors file has at least 8");
    }
    for (std::size_t i = sizeof length; i-- > 0;) {
        length = length << 8 | std::to_integer<std::uint64_t>(bytes[i]);
    }
    if (length > safetensors_max_header) {
        fail("header length is ", length, ", must be at most ", safetensors_max_header);
    }
    if (length > bytes.size() - sizeof length) {
        fail("header length is ", length, ", the file has only ", bytes.size() - sizeof length, " bytes after it");
    }
    const auto* first = reinterpret_cast<const char*>(bytes.data()) + sizeof length;
    const std::string_view json(first, static_cast<std::size_t>(length));
    // The parser would skip a byte order mark, take a zero byte for the end, and allow any white space at either end;
    // the format asks for '{' first and allows spaces last.
    const std::size_t last = json.find_last_not_of(' ');
    if (last == std::string_view::npos || json.front() != '{' || json[last] != '}') {
        fail("header must begin with '{' and end with '}' and spaces only");
    }
    if (const std::size_t zero = json.find('\0'); zero != std::string_view::npos) {
        fail("header has a zero byte at ", zero);
    }
    safetensors_header header;
    header.data_start = sizeof length + json.size();
    safetensors_header_reader reader(file, header);
    nlohmann::json::sax_parse(json.begin(), json.end(), &reader);
    validate_layout(header, bytes.size() - header.data_start, file);
    return header;
}

} // namespace scaledot::inline SCALEDOT_BUILD::detail

#endif
