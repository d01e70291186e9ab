// SPDX-License-Identifier: BSD-3-Clause
// Any bytes either are refused with an exception of ours or are a file whose every tensor can be read; and likewise an
// index of shards that names files of its own directory only.
#include <scaledot/checkpoint.hpp>
#include <scaledot/safetensors.hpp>
#include <scaledot/safetensors_shards.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

namespace sd = scaledot;

namespace {

/// Reads a tensor as T, or is told why not.
template <class T>
void read(const sd::safetensors_file& file, const std::string& name)
{
    try {
        const xt::xarray<T> elements = file.read<T>(name);
        if (elements.dimension() != file.shape(name).size()) {
            std::abort();
        }
    } catch (const std::runtime_error& error) {
        if (std::string(error.what()).rfind("scaledot: fuzz: tensor ", 0) != 0) {
            std::abort();
        }
    }
}

void open_and_read(std::span<const std::uint8_t> bytes)
{
    try {
        const sd::safetensors_file file(std::as_bytes(bytes), "fuzz");
        for (const std::string& name : file.names()) {
            read<float>(file, name);
            read<double>(file, name);
            read<xtl::half_float>(file, name);
            read<sd::bfloat16>(file, name);
            read<bool>(file, name);
            read<std::int8_t>(file, name);
            read<std::uint64_t>(file, name);
        }
        sd::summarize_normalizations(sd::layer_norm_parameters(file));
    } catch (const std::runtime_error& error) {
        if (std::string(error.what()).rfind("scaledot: fuzz: ", 0) != 0) {
            std::abort();
        }
    }
}

void read_index(std::span<const std::uint8_t> bytes)
{
    try {
        for (const auto& [tensor, shard] : sd::detail::parse_shard_index(std::as_bytes(bytes), "fuzz")) {
            if (shard.empty() || shard == "." || shard == ".." || std::filesystem::path(shard).has_parent_path()) {
                std::abort();
            }
        }
    } catch (const std::runtime_error& error) {
        if (std::string(error.what()).rfind("scaledot: fuzz: ", 0) != 0) {
            std::abort();
        }
    }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size)
{
    const std::span input(data, size);
    open_and_read(input);
    read_index(input);
    // The same input as header, line feed, data, with the header's right length in front: this gets a fuzzer that
    // starts from nothing past the first eight bytes.
    const auto header_size = static_cast<std::uint64_t>(std::find(input.begin(), input.end(), '\n') - input.begin());
    std::vector<std::uint8_t> framed;
    for (int shift = 0; shift < 64; shift += 8) {
        framed.push_back(static_cast<std::uint8_t>(header_size >> shift & 0xff));
    }
    framed.insert(framed.end(), data, data + header_size);
    if (header_size < size) {
        framed.insert(framed.end(), data + header_size + 1, data + size);
    }
    open_and_read(framed);
    return 0;
}
