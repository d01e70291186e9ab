// SPDX-License-Identifier: BSD-3-Clause
// A checkpoint in several safetensors files with an index, as if it were one file. The index's JSON is read in
// detail/shard_index.hpp.
#ifndef SCALEDOT_SAFETENSORS_SHARDS_HPP
#define SCALEDOT_SAFETENSORS_SHARDS_HPP

#include <scaledot/detail/check.hpp>
#include <scaledot/detail/config.hpp>
#include <scaledot/detail/mapped_file.hpp>
#include <scaledot/detail/shard_index.hpp>
#include <scaledot/safetensors.hpp>

#include <cstddef>
#include <filesystem>
#include <functional>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace scaledot::inline SCALEDOT_BUILD {

/// The files of a sharded checkpoint, open for reading. Can be moved, not copied; const members may run in several
/// threads at once. See safetensors_file for what is checked in each.
///
/// The index and the files must agree: every file that it names is there, has every tensor that the index says it has,
/// and no other. File names are names in the index's directory; a path is refused, wherever it leads. Symbolic links,
/// of which download caches are made, are followed.
class safetensors_shards {
public:
    /// Opens and checks the index and every file that it names.
    /// @param index  such as "model.safetensors.index.json"
    /// @throws std::runtime_error  index or a file cannot be opened, is not valid, or they do not agree; the text names
    ///                             the file, the tensor where there is one, and what was wrong
    explicit safetensors_shards(const std::filesystem::path& index) : name_(index.string())
    {
        const detail::mapped_file map(index);
        tensors_ = detail::parse_shard_index(map.bytes(), name_);
        for (const auto& [tensor, shard] : tensors_) {
            if (!shards_.contains(shard)) {
                shards_.emplace(shard, safetensors_file(index.parent_path() / shard));
            }
        }
        check();
    }

    safetensors_shards(safetensors_shards&&) = default;            ///< moves the open files
    safetensors_shards& operator=(safetensors_shards&&) = default; ///< moves the open files

    /// The tensors' names, sorted.
    std::vector<std::string> names() const
    {
        std::vector<std::string> result;
        result.reserve(tensors_.size());
        for (const auto& [tensor, shard] : tensors_) {
            result.push_back(tensor);
        }
        return result;
    }

    /// There is a tensor of that name.
    bool contains(std::string_view name) const { return tensors_.contains(name); }

    /// The tensor's shape, empty for a scalar.
    /// @throws std::invalid_argument  no tensor of that name
    const std::vector<std::size_t>& shape(std::string_view name) const { return find(name).shape(name); }

    /// The element type as the file spells it.
    /// @throws std::invalid_argument  no tensor of that name
    const std::string& dtype(std::string_view name) const { return find(name).dtype(name); }

    /// The name the index was opened under, as it appears in messages.
    const std::string& file_name() const { return name_; }

    /// The files by the names that the index gives them.
    const std::map<std::string, safetensors_file, std::less<>>& shards() const { return shards_; }

    /// As safetensors_file::read.
    template <class T>
    xt::xarray<T> read(std::string_view name) const
    {
        return find(name).template read<T>(name);
    }

private:
    const safetensors_file& find(std::string_view name) const
    {
        const auto found = tensors_.find(name);
        if (found == tensors_.end()) {
            detail::reject("name", detail::printable(name),
                           detail::text("one of the ", tensors_.size(), " tensors of ", name_));
        }
        return shards_.find(found->second)->second;
    }

    void check() const
    {
        const auto fail = [&](const auto&... what) {
            detail::throw_error<std::runtime_error>("scaledot: ", name_, ": ", what...);
        };
        for (const auto& [tensor, shard] : tensors_) {
            if (!shards_.find(shard)->second.contains(tensor)) {
                fail("tensor ", detail::printable(tensor), " must be in ", detail::printable(shard),
                     ", which does not have it");
            }
        }
        for (const auto& [shard, file] : shards_) {
            for (const std::string& tensor : file.names()) {
                const auto listed = tensors_.find(tensor);
                if (listed == tensors_.end()) {
                    fail("tensor ", detail::printable(tensor), " of ", detail::printable(shard),
                         " is not in the index");
                } else if (listed->second != shard) {
                    fail("tensor ", detail::printable(tensor), " is in ", detail::printable(shard), " and in ",
                         detail::printable(listed->second));
                }
            }
        }
    }

    std::string name_;
    detail::shard_map tensors_;
    std::map<std::string, safetensors_file, std::less<>> shards_;
};

} // namespace scaledot::inline SCALEDOT_BUILD

#endif
