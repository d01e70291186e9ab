// SPDX-License-Identifier: BSD-3-Clause
// The index of a sharded checkpoint, model.safetensors.index.json: {"weight_map": {tensor: file, ...}, ...}. Trusts
// nothing: a file is a name in the index's own directory, never a path.
#ifndef SCALEDOT_DETAIL_SHARD_INDEX_HPP
#define SCALEDOT_DETAIL_SHARD_INDEX_HPP

#include <scaledot/detail/check.hpp>
#include <scaledot/detail/config.hpp>
#include <scaledot/detail/safetensors_header.hpp>
#include <scaledot/detail/safetensors_layout.hpp>

#include <nlohmann/json.hpp>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace scaledot::inline SCALEDOT_BUILD::detail {

/// The file of each tensor, by the tensor's name.
using shard_map = std::map<std::string, std::string, std::less<>>;

/// A name that stays in its directory. (Both separators: an index may have been written elsewhere.)
inline bool is_plain_file_name(std::string_view name)
{
    return !name.empty() && name != "." && name != ".." && name.find_first_of("/\\") == std::string_view::npos &&
           name.find('\0') == std::string_view::npos;
}

/// Receives the JSON's events one by one, so that a duplicate name is seen and nesting costs no stack.
class shard_index_reader {
public:
    shard_index_reader(const std::string& file, shard_map& map) : file_(file), map_(map) {}

    bool null() { return value("null"); }
    bool boolean(bool) { return value("a bool"); }
    bool number_integer(std::int64_t) { return value("a number"); }
    bool number_unsigned(std::uint64_t) { return value("a number"); }
    bool number_float(double, const std::string&) { return value("a number"); }
    bool binary(std::vector<std::uint8_t>&) { return value("binary data"); }
    bool start_array(std::size_t) { return value("an array") && open(); }
    bool end_array() { return close(); }
    bool end_object() { return close(); }

    bool string(std::string& shard)
    {
        if (!in_map_ || depth_ != 2) {
            return value("a string");
        }
        if (!is_plain_file_name(shard)) {
            fail(text("tensor ", printable(name_), " is in ", printable(shard),
                      ", must be in a file next to the index, named without its directory"));
        }
        map_[name_] = std::move(shard);
        return true;
    }

    bool start_object(std::size_t)
    {
        if (depth_ == 1 && is_map_key_) {
            if (std::exchange(has_map_, true)) {
                fail("the index has \"weight_map\" twice");
            }
            in_map_ = true;
            return open();
        }
        return (depth_ == 0 || value("an object")) && open();
    }

    bool key(std::string& key)
    {
        if (depth_ == 1) {
            is_map_key_ = key == "weight_map";
        } else if (in_map_ && depth_ == 2) {
            if (!map_.try_emplace(key).second) {
                fail(text("the index has the tensor ", printable(key), " twice"));
            }
            name_ = key;
        }
        return true;
    }

    bool parse_error(std::size_t position, const std::string&, const nlohmann::json::exception& error)
    {
        fail(text("the index is not valid JSON at byte ", position, ": ", printable(error.what())));
    }

    void finish() const
    {
        if (!has_map_) {
            fail("the index has no \"weight_map\"");
        }
    }

private:
    bool open()
    {
        ++depth_;
        return true;
    }

    bool close()
    {
        --depth_;
        in_map_ = in_map_ && depth_ >= 2;
        return true;
    }

    /// Anything but the objects and strings that an index is made of: of no interest outside of the map.
    bool value(const char* what) const
    {
        if (depth_ == 0) {
            fail(text("the index is ", what, ", must be an object"));
        }
        if (depth_ == 1 && is_map_key_) {
            fail(text("\"weight_map\" is ", what, ", must be an object"));
        }
        if (in_map_) {
            fail(text("tensor ", printable(name_), " is in ", what, ", must be in a file, named by a string"));
        }
        return true;
    }

    [[noreturn]] void fail(const std::string& what) const
    {
        throw_error<std::runtime_error>("scaledot: ", file_, ": ", what);
    }

    const std::string& file_;
    shard_map& map_;
    std::string name_;
    std::size_t depth_ = 0;
    bool is_map_key_ = false;
    bool has_map_ = false;
    bool in_map_ = false;
};

/// Parses the bytes of an index; `file` is its name in messages.
/// @throws std::runtime_error  naming the file, the tensor where there is one, and what was wrong
inline shard_map parse_shard_index(std::span<const std::byte> bytes, const std::string& file)
{
    if (bytes.size() > safetensors_max_header) {
        throw_error<std::runtime_error>("scaledot: ", file, ": the index has ", bytes.size(),
                                        " bytes, must have at most ", safetensors_max_header);
    }
    const std::string_view json(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    if (const std::size_t zero = json.find('\0'); zero != std::string_view::npos) {
        throw_error<std::runtime_error>("scaledot: ", file, ": the index has a zero byte at ", zero);
    }
    shard_map map;
    shard_index_reader reader(file, map);
    nlohmann::json::sax_parse(json.begin(), json.end(), &reader);
    reader.finish();
    return map;
}

} // namespace scaledot::inline SCALEDOT_BUILD::detail

#endif
