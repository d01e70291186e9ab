// SPDX-License-Identifier: BSD-3-Clause
// Tensors of a safetensors file, memory-mapped and validated. The header's JSON is read in
// detail/safetensors_header.hpp, elements are converted in detail/safetensors_elements.hpp.
#ifndef SCALEDOT_SAFETENSORS_HPP
#define SCALEDOT_SAFETENSORS_HPP

#include <scaledot/detail/check.hpp>
#include <scaledot/detail/config.hpp>
#include <scaledot/detail/mapped_file.hpp>
#include <scaledot/detail/safetensors_elements.hpp>
#include <scaledot/detail/safetensors_header.hpp>
#include <scaledot/detail/xtensor.hpp>

#include <cstddef>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace scaledot::inline SCALEDOT_BUILD {

/// A safetensors file, open for reading. Can be moved, not copied; const members may run in several threads at once.
///
/// Everything is checked on opening: a header of at most 100 MB that is one JSON object without duplicate names, and
/// tensors that have the size their shape and type ask for and cover the rest of the file without overlap or hole. What
/// was opened can therefore be read without a further check of offsets.
/// The file must not be truncated by another process while it is open (the operating system answers with SIGBUS).
class safetensors_file {
public:
    /// Opens, maps and checks a file.
    /// @throws std::runtime_error  the file cannot be opened or mapped, or is not a valid safetensors file; the text
    ///                             names the file, the tensor where there is one, and what was wrong
    explicit safetensors_file(const std::filesystem::path& path) : map_(path), name_(path.string())
    {
        open(map_.bytes());
    }

    /// The same for the bytes of a whole file that are in memory already. They must outlive this object.
    safetensors_file(std::span<const std::byte> bytes, std::string name) : name_(std::move(name)) { open(bytes); }

    /// The tensors' names, sorted.
    std::vector<std::string> names() const
    {
        std::vector<std::string> result;
        result.reserve(header_.tensors.size());
        for (const auto& [name, entry] : header_.tensors) {
            result.push_back(name);
        }
        return result;
    }

    /// There is a tensor of that name.
    bool contains(std::string_view name) const { return header_.tensors.contains(name); }

    /// The tensor's shape, empty for a scalar.
    /// @throws std::invalid_argument  no tensor of that name
    const std::vector<std::size_t>& shape(std::string_view name) const { return find(name).shape; }

    /// The element type as the file spells it, such as "F32" or "BF16"; types this library cannot read included.
    /// @throws std::invalid_argument  no tensor of that name
    const std::string& dtype(std::string_view name) const { return find(name).dtype; }

    /// The header's `__metadata__`, empty where there is none.
    const std::map<std::string, std::string>& metadata() const { return header_.metadata; }

    /// The name the file was opened under, as it appears in messages.
    const std::string& file_name() const { return name_; }

    /// A tensor's elements as T: float, double, xtl::half_float, bfloat16, bool or an integer type.
    ///
    /// F64, F32, F16 and BF16 become any floating T as that type converts: exact when T is wider, otherwise rounded to
    /// nearest (from F64 to half_float and bfloat16 by way of float), overflow giving infinity. I8 ... I64, U8 ... U64
    /// and BOOL become any T that holds the value exactly, so an integer file never loses a bit.
    ///
    /// @throws std::invalid_argument  no tensor of that name
    /// @throws std::runtime_error     a floating tensor read as integers; an integer that T cannot hold; a BOOL
    ///                                other than 0 and 1; an element type that is none of the above (F8_E4M3, ...)
    /// Cost  one pass over the tensor; no allocation but the result.
    template <class T>
    xt::xarray<T> read(std::string_view name) const
    {
        static_assert(
            detail::checkpoint_element<T>,
            "scaledot: a tensor is read as float, double, xtl::half_float, scaledot::bfloat16, bool or an integer");
        const detail::safetensors_entry& entry = find(name);
        const auto where = [&] { return detail::text("scaledot: ", name_, ": tensor ", detail::printable(name), " "); };
        return detail::with_stored_type(entry.dtype, where, [&]<class Stored>(std::type_identity<Stored>) {
            xt::xarray<T> result = xt::xarray<T>::from_shape(entry.shape);
            detail::read_elements<Stored>(data_.subspan(entry.begin, entry.end - entry.begin), result.size(),
                                          result.data(), where);
            return result;
        });
    }

private:
    void open(std::span<const std::byte> bytes)
    {
        header_ = detail::parse_safetensors(bytes, name_);
        data_ = bytes.subspan(header_.data_start);
    }

    const detail::safetensors_entry& find(std::string_view name) const
    {
        const auto found = header_.tensors.find(name);
        if (found == header_.tensors.end()) {
            detail::reject("name", detail::printable(name),
                           detail::text("one of the ", header_.tensors.size(), " tensors of ", name_));
        }
        return found->second;
    }

    detail::mapped_file map_;
    std::string name_;
    detail::safetensors_header header_;
    std::span<const std::byte> data_;
};

} // namespace scaledot::inline SCALEDOT_BUILD

#endif
