// SPDX-License-Identifier: BSD-3-Clause
// Scratch memory of one call: laid out in two passes (count, then hand out), taken from the heap only where it is large
// or the calling thread's own is in use.
#ifndef SCALEDOT_DETAIL_SCRATCH_HPP
#define SCALEDOT_DETAIL_SCRATCH_HPP

#include <scaledot/detail/aligned_buffer.hpp>
#include <scaledot/detail/check.hpp>
#include <scaledot/detail/config.hpp>

#include <cstddef>
#include <utility>

namespace scaledot::inline SCALEDOT_BUILD::detail {

/// Hands out arrays one after another, each on cache lines of its own. Without memory it only counts.
class scratch {
public:
    static constexpr std::size_t line = 64; // bytes of the cache

    explicit scratch(std::byte* memory = nullptr) : memory_(memory) {}

    /// rows * columns uninitialised elements; null while counting.
    template <class E>
    E* take(std::size_t rows, std::size_t columns)
    {
        const std::size_t begin = bytes_;
        const std::size_t size =
            checked_product(checked_product(rows, columns, "scratch memory"), sizeof(E), "scratch memory");
        bytes_ = checked_sum(begin, checked_sum(size, line - 1, "scratch memory") / line * line, "scratch memory");
        return memory_ ? reinterpret_cast<E*>(memory_ + begin) : nullptr;
    }

    std::size_t bytes() const { return bytes_; }

private:
    std::byte* memory_;
    std::size_t bytes_ = 0;
};

/// How far apart the memory of two threads begins that need so many bytes each: with a page between them, since what a
/// core fetches ahead of a thread, up to the end of a page, it takes from the other.
inline std::size_t bytes_apart(std::size_t bytes)
{
    constexpr std::size_t line = scratch::line;
    constexpr std::size_t page = 4096;
    return checked_sum(bytes, line - 1 + page, "scratch memory") / line * line;
}

/// Memory for one call. Small calls share a buffer that each thread keeps, so that they allocate nothing; a call within
/// a call (a task that the caller's executor runs meanwhile) finds it in use and has its own.
class scratch_lease {
public:
    explicit scratch_lease(std::size_t bytes)
    {
        kept_buffer& kept = of_thread();
        if (bytes > kept_bytes || kept.in_use) {
            own_ = aligned_buffer<std::byte>(bytes);
            data_ = own_.data();
            return;
        }
        if (kept.memory.data() == nullptr) {
            kept.memory = aligned_buffer<std::byte>(kept_bytes);
        }
        kept.in_use = true;
        borrowed_from_ = &kept;
        data_ = kept.memory.data();
    }
    ~scratch_lease()
    {
        if (borrowed_from_) {
            borrowed_from_->in_use = false;
        }
    }
    scratch_lease(const scratch_lease&) = delete;
    scratch_lease& operator=(const scratch_lease&) = delete;

    /// The memory, also for the threads that work for the one that called.
    std::byte* data() const { return data_; }

private:
    static constexpr std::size_t kept_bytes = std::size_t{1} << 20;

    struct kept_buffer {
        aligned_buffer<std::byte> memory;
        bool in_use = false;
    };
    static kept_buffer& of_thread()
    {
        thread_local kept_buffer kept;
        return kept;
    }

    kept_buffer* borrowed_from_ = nullptr;
    aligned_buffer<std::byte> own_;
    std::byte* data_;
};

} // namespace scaledot::inline SCALEDOT_BUILD::detail

#endif
