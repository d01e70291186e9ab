// SPDX-License-Identifier: BSD-3-Clause
// A whole file as read-only memory (POSIX mmap): pages are read when they are touched, and shared between processes.
#ifndef SCALEDOT_DETAIL_MAPPED_FILE_HPP
#define SCALEDOT_DETAIL_MAPPED_FILE_HPP

#include <scaledot/detail/check.hpp>
#include <scaledot/detail/config.hpp>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <filesystem>
#include <limits>
#include <span>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>

namespace scaledot::inline SCALEDOT_BUILD::detail {

/// Maps a regular file for as long as the object lives. The bytes stay at one address when the object is moved.
class mapped_file {
public:
    /// An empty span of bytes, of no file.
    mapped_file() = default;

    explicit mapped_file(const std::filesystem::path& path)
    {
        // O_NONBLOCK only matters for what is no regular file: opening a pipe must fail below, not wait for a writer.
        const descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
        if (file.number < 0) {
            fail(path, "cannot open", errno);
        }
        struct stat status = {};
        if (::fstat(file.number, &status) != 0) {
            fail(path, "cannot examine", errno);
        }
        if (S_ISDIR(status.st_mode)) {
            fail(path, "cannot read", EISDIR);
        }
        if (!S_ISREG(status.st_mode)) {
            throw_error<std::runtime_error>("scaledot: ", path.string(), ": is not a regular file");
        }
        if (std::cmp_greater(status.st_size, std::numeric_limits<std::ptrdiff_t>::max())) {
            fail(path, "cannot map", EFBIG);
        }
        size_ = static_cast<std::size_t>(status.st_size);
        if (size_ == 0) {
            return; // mmap refuses a length of zero
        }
        void* address = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.number, 0);
        if (address == MAP_FAILED) {
            fail(path, "cannot map", errno);
        }
        data_ = static_cast<const std::byte*>(address);
    }

    mapped_file(mapped_file&& other) noexcept
        : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0))
    {
    }

    mapped_file& operator=(mapped_file&& other) noexcept
    {
        std::swap(data_, other.data_);
        std::swap(size_, other.size_);
        return *this;
    }

    ~mapped_file()
    {
        if (data_ != nullptr) {
            ::munmap(const_cast<std::byte*>(data_), size_);
        }
    }

    std::span<const std::byte> bytes() const { return {data_, size_}; }

private:
    struct descriptor {
        explicit descriptor(int opened) : number(opened) {}
        descriptor(const descriptor&) = delete;
        descriptor& operator=(const descriptor&) = delete;
        ~descriptor()
        {
            if (number >= 0) {
                ::close(number);
            }
        }
        int number;
    };

    [[noreturn]] static void fail(const std::filesystem::path& path, const char* what, int error)
    {
        throw_error<std::runtime_error>("scaledot: ", path.string(), ": ", what, ": ",
                                        std::generic_category().message(error));
    }

    const std::byte* data_ = nullptr;
    std::size_t size_ = 0;
};

} // namespace scaledot::inline SCALEDOT_BUILD::detail

#endif
