// SPDX-License-Identifier: BSD-3-Clause
// Who takes which piece of a call's work: docs/decisions/0010-threads-take-what-is-left.md.
#ifndef SCALEDOT_DETAIL_SHARED_WORK_HPP
#define SCALEDOT_DETAIL_SHARED_WORK_HPP

#include <scaledot/detail/config.hpp>
#include <scaledot/detail/function_ref.hpp>
#include <scaledot/executor.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <memory>

namespace scaledot::inline SCALEDOT_BUILD::detail {

/// Indices of pieces of work. Each part of a call owns a contiguous share of them and takes those first, from call to
/// call the same ones, whose data its core's cache may still hold; then it helps the parts that are slower, on a core
/// of another kind or a virtual one that is not there all the time.
class shared_work {
public:
    explicit shared_work(std::size_t parts) : shares_(std::clamp<std::size_t>(parts, 1, most_shares)) {}

    /// Deals out the indices below `items`, while no part is taking any.
    void deal(std::size_t items)
    {
        for (std::size_t i = 0; i < shares_; ++i) {
            const auto [begin, end] = range_of_part(items, shares_, i);
            std::construct_at(&slots_[i].used, begin, end);
        }
    }

    /// Calls use(i, end) for one index after another until none is left. Those from i + 1 to `end` are likely to be
    /// next.
    template <class Use>
    void take(std::size_t part, const Use& use)
    {
        take_several(part, 1, [&](std::size_t i, std::size_t, std::size_t end) { use(i, end); });
    }

    /// Calls use(first, last) for ranges of indices until none is left: of `most` at first, of fewer towards the end of
    /// a share, so that parts end at about the same time.
    template <class Use>
    void take_ranges(std::size_t part, std::size_t most, const Use& use)
    {
        take_several(part, most, [&](std::size_t first, std::size_t last, std::size_t) { use(first, last); });
    }

private:
    template <class Use>
    void take_several(std::size_t part, std::size_t most, const Use& use)
    {
        for (std::size_t turn = 0; turn < shares_; ++turn) {
            share& from = slots_[(part + turn) % shares_].used;
            for (;;) {
                const std::size_t next = from.next.load(std::memory_order_relaxed);
                if (next >= from.end) {
                    break;
                }
                const std::size_t count = std::clamp<std::size_t>((from.end - next) / 3, 1, most);
                const std::size_t first = from.next.fetch_add(count, std::memory_order_relaxed);
                if (first < from.end) {
                    use(first, std::min(first + count, from.end), from.end);
                }
            }
        }
    }

    static constexpr std::size_t most_shares = 64; // beyond, parts have one together

    struct alignas(128) share { // cores fetch lines in pairs
        share(std::size_t begin, std::size_t last) : next(begin), end(last) {}

        std::atomic<std::size_t> next;
        std::size_t end;
    };

    /// Room for a share, not touched before there is one.
    union slot {
        slot() {}
        share used;
    };

    std::size_t shares_;
    std::array<slot, most_shares> slots_;
};

/// Calls range(part, begin, end) for contiguous ranges that make up [0, items), one after another for each part: for up
/// to four of them, if they are not to be shorter than `shortest`.
inline void run_ranges(std::size_t items, std::size_t parts, std::size_t shortest,
                       function_ref<void(std::size_t, std::size_t, std::size_t)> range)
{
    if (parts <= 1) {
        if (parts == 1) {
            range(std::size_t{0}, std::size_t{0}, items);
        }
        return;
    }
    const std::size_t pieces = std::clamp(items / shortest, parts, 4 * parts);
    shared_work work(parts);
    work.deal(pieces);
    run_parts(parts, [&](std::size_t part) {
        work.take(part, [&](std::size_t piece, std::size_t) {
            const auto [begin, end] = range_of_part(items, pieces, piece);
            range(part, begin, end);
        });
    });
}

} // namespace scaledot::inline SCALEDOT_BUILD::detail

#endif
