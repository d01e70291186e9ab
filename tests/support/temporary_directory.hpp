// SPDX-License-Identifier: BSD-3-Clause
// A directory for the length of a test.
#ifndef SCALEDOT_TESTS_SUPPORT_TEMPORARY_DIRECTORY_HPP
#define SCALEDOT_TESTS_SUPPORT_TEMPORARY_DIRECTORY_HPP

#include "safetensors_bytes.hpp"

#include <stdlib.h>

#include <cstddef>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>

namespace test_support {

class temporary_directory {
public:
    temporary_directory()
    {
        std::string pattern = (std::filesystem::temp_directory_path() / "scaledot_test_XXXXXX").string();
        if (::mkdtemp(pattern.data()) == nullptr) {
            throw std::runtime_error("cannot make " + pattern);
        }
        path_ = pattern;
    }
    temporary_directory(const temporary_directory&) = delete;
    temporary_directory& operator=(const temporary_directory&) = delete;
    ~temporary_directory() { std::filesystem::remove_all(path_); }

    const std::filesystem::path& path() const { return path_; }

    std::filesystem::path write(const std::string& name, const bytes& content) const
    {
        const std::filesystem::path file = path_ / name;
        std::ofstream(file, std::ios::binary)
            .write(reinterpret_cast<const char*>(content.data()), static_cast<std::streamsize>(content.size()));
        return file;
    }

    std::filesystem::path write(const std::string& name, const std::string& content) const
    {
        const auto* first = reinterpret_cast<const std::byte*>(content.data());
        return write(name, bytes(first, first + content.size()));
    }

private:
    std::filesystem::path path_;
};

} // namespace test_support

#endif
