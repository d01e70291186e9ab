// SPDX-License-Identifier: BSD-3-Clause
// Makes safetensors files in memory, valid or not, for the tests of what reads them.
#ifndef SCALEDOT_TESTS_SUPPORT_SAFETENSORS_BYTES_HPP
#define SCALEDOT_TESTS_SUPPORT_SAFETENSORS_BYTES_HPP

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <string>
#include <vector>

namespace test_support {

using bytes = std::vector<std::byte>;

/// The values' bytes, one after another.
template <class T>
bytes raw(const std::vector<T>& values)
{
    bytes result(values.size() * sizeof(T));
    if (!values.empty()) {
        std::memcpy(result.data(), values.data(), result.size());
    }
    return result;
}

/// A file of this header, whether or not it makes sense, and these bytes of data; `length` overrides the header's own.
inline bytes file_of(const std::string& header, const bytes& data = {}, std::int64_t length = -1)
{
    const auto stated = length < 0 ? static_cast<std::uint64_t>(header.size()) : static_cast<std::uint64_t>(length);
    bytes file;
    for (int shift = 0; shift < 64; shift += 8) {
        file.push_back(static_cast<std::byte>(stated >> shift & 0xff));
    }
    for (const char c : header) {
        file.push_back(static_cast<std::byte>(c));
    }
    file.insert(file.end(), data.begin(), data.end());
    return file;
}

/// A tensor of a file to make; `shape` is JSON.
struct tensor {
    std::string name;
    std::string dtype;
    std::string shape;
    bytes data;
};

/// A valid file of these tensors, in this order.
inline bytes file_of(const std::vector<tensor>& tensors, const std::string& metadata = "")
{
    std::string header = "{";
    bytes data;
    if (!metadata.empty()) {
        header += "\"__metadata__\":" + metadata + (tensors.empty() ? "" : ",");
    }
    for (std::size_t i = 0; i < tensors.size(); ++i) {
        const tensor& t = tensors[i];
        header += (i == 0 ? "\"" : ",\"") + t.name + R"(":{"dtype":")" + t.dtype + R"(","shape":)" + t.shape +
                  R"(,"data_offsets":[)" + std::to_string(data.size()) + ",";
        data.insert(data.end(), t.data.begin(), t.data.end());
        header += std::to_string(data.size()) + "]}";
    }
    return file_of(header + "}", data);
}

/// The text of the exception that `function` throws, empty when it throws none.
template <class Exception = std::exception, class F>
std::string message_of(F&& function)
{
    try {
        function();
    } catch (const Exception& error) {
        return error.what();
    }
    return "";
}

} // namespace test_support

#endif
