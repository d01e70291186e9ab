// SPDX-License-Identifier: BSD-3-Clause
// Prefetching of rows that are about to be read in an order the machine's own prefetching does not follow: keys that
// are transposed are touched column by column, values of many components in several passes.
#ifndef SCALEDOT_KERNEL_PREFETCH_HPP
#define SCALEDOT_KERNEL_PREFETCH_HPP

#include <scaledot/detail/config.hpp>
#include <scaledot/kernel/unroll.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>

namespace scaledot::inline SCALEDOT_BUILD::kernel {

inline constexpr std::size_t cache_line = 64;

/// What lies `count` rows further on, in bytes.
template <class S>
[[gnu::always_inline]] inline std::uintptr_t bytes_of_rows(std::ptrdiff_t stride, std::size_t count)
{
    return static_cast<std::uintptr_t>(stride) * sizeof(S) * count;
}

/// Asks for what lies `bytes` further on. The machine's own prefetching follows rows that are read in the order they
/// lie in memory, but it starts anew in each page, and that takes it a while. Nothing is read: places past the end of
/// an array do no harm.
template <class S>
[[gnu::always_inline]] inline void ask_ahead(const S* place, std::uintptr_t bytes)
{
    __builtin_prefetch(reinterpret_cast<const void*>(reinterpret_cast<std::uintptr_t>(place) + bytes), 0, 2);
}

/// Asks for so many bytes that lie `distance` bytes further on, into the first-level cache: for rows that are read in
/// order, which the machine's own prefetching follows late. Places past the end of an array do no harm.
template <std::size_t Bytes, class S>
[[gnu::always_inline]] inline void ask_for_bytes(const S* place, std::size_t distance)
{
    const auto ahead = reinterpret_cast<std::uintptr_t>(place) + distance;
    for (std::size_t line = 0; line < Bytes; line += cache_line) {
        __builtin_prefetch(reinterpret_cast<const void*>(ahead + line));
    }
}

/// How far ahead rows are asked for that are read once, in order.
inline constexpr std::size_t rows_ahead = 24;

/// Asks for rows a few lines at a time, in the order they lie in memory, into the second-level cache. Nothing is read:
/// rows past the end of an array do no harm.
template <class S>
class row_prefetcher {
public:
    /// From row `first` on; rows of `size` elements, `stride` apart. Those that follow each other are one.
    row_prefetcher(const S* rows, std::size_t first, std::ptrdiff_t stride, std::size_t size)
        : stride_(static_cast<std::uintptr_t>(stride) * sizeof(S)),
          row_(reinterpret_cast<std::uintptr_t>(rows) + first * stride_),
          bytes_(size * sizeof(S) == stride_ ? std::numeric_limits<std::size_t>::max() : size * sizeof(S))
    {
    }

    void ask(std::size_t bytes)
    {
        while (bytes > 0 && bytes_ > 0) {
            const std::size_t now = std::min(bytes, bytes_ - done_);
            for (std::size_t i = 0; i < now; i += cache_line) {
                ask_for_line(i);
            }
            bytes -= now;
            advance(now);
        }
    }

    /// For some lines, whose number is known.
    template <std::size_t Lines>
    [[gnu::always_inline]] void ask()
    {
        if (Lines * cache_line > bytes_ - done_) {
            ask(Lines * cache_line);
            return;
        }
        unroll<Lines>([&](auto i) __attribute__((always_inline)) { ask_for_line(i * cache_line); });
        advance(Lines * cache_line);
    }

private:
    [[gnu::always_inline]] void ask_for_line(std::size_t i) const
    {
        __builtin_prefetch(reinterpret_cast<const void*>(row_ + done_ + i), 0, 2);
    }

    [[gnu::always_inline]] void advance(std::size_t bytes)
    {
        done_ += bytes;
        if (done_ == bytes_) {
            done_ = 0;
            row_ += stride_;
        }
    }

    std::uintptr_t stride_;
    std::uintptr_t row_;
    std::size_t bytes_;
    std::size_t done_ = 0;
};

/// Arrays of rows to ask for, a little of each at a time between pieces of work: a burst would only wait for itself.
template <std::size_t Arrays>
class prefetch_queue {
public:
    template <std::size_t I, class S>
    void add(const S* rows, std::ptrdiff_t stride, std::size_t count, std::size_t size)
    {
        const std::size_t bytes = count * size * sizeof(S);
        entries_[I] = {{reinterpret_cast<const std::byte*>(rows), 0, stride * static_cast<std::ptrdiff_t>(sizeof(S)),
                        size * sizeof(S)},
                       bytes};
        longest_ = std::max(longest_, bytes);
    }

    /// Asks for up to so many lines of each.
    template <std::size_t Lines>
    void ask()
    {
        if (longest_ == 0) {
            return;
        }
        longest_ -= std::min(longest_, Lines * cache_line);
        for (entry& e : entries_) {
            e.template ask<Lines>();
        }
    }

private:
    struct entry {
        row_prefetcher<std::byte> rows{nullptr, 0, 0, 0};
        std::size_t left = 0;

        template <std::size_t Lines>
        void ask()
        {
            if (left < Lines * cache_line) {
                rows.ask(left);
                left = 0;
                return;
            }
            rows.template ask<Lines>();
            left -= Lines * cache_line;
        }
    };
    std::array<entry, Arrays> entries_;
    std::size_t longest_ = 0;
};

} // namespace scaledot::inline SCALEDOT_BUILD::kernel

#endif
