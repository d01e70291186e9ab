// SPDX-License-Identifier: BSD-3-Clause
// Who takes which piece of a call's work: docs/decisions/0010-threads-take-what-is-left.md.
#ifndef SCALEDOT_DETAIL_SHARED_WORK_HPP
#define SCALEDOT_DETAIL_SHARED_WORK_HPP

#include <scaledot/detail/config.hpp>
#include <scaledot/detail/scratch.hpp>
#include <scaledot/executor.hpp>

#include <atomic>
#include <cstddef>
#include <memory>

namespace scaledot::inline SCALEDOT_BUILD::detail {

/// Indices of pieces of work. Each part of a call owns a contiguous share of them and takes those first, from call to
/// call the same ones, whose data its core's cache may still hold; then it helps the parts that are slower, on a core
/// of another kind or a virtual one that is not there all the time.
class shared_work {
public:
    shared_work(std::size_t parts, scratch& memory) : parts_(parts), shares_(memory.take<share>(parts, 1)) {}

    /// How much memory that takes.
    static std::size_t bytes(std::size_t parts)
    {
        scratch counting;
        shared_work(parts, counting);
        return counting.bytes();
    }

    /// Deals out the indices below `items`, while no part is taking any.
    void deal(std::size_t items)
    {
        for (std::size_t part = 0; part < parts_; ++part) {
            const auto [begin, end] = range_of_part(items, parts_, part);
            std::construct_at(shares_ + part, begin, end);
        }
    }

    /// Calls use(i, end) for one index after another until none is left. Those from i + 1 to `end` are likely to be
    /// next.
    template <class Use>
    void take(std::size_t part, const Use& use) const
    {
        for (std::size_t turn = 0; turn < parts_; ++turn) {
            share& from = shares_[(part + turn) % parts_];
            while (from.next.load(std::memory_order_relaxed) < from.end) {
                const std::size_t i = from.next.fetch_add(1, std::memory_order_relaxed);
                if (i < from.end) {
                    use(i, from.end);
                }
            }
        }
    }

private:
    struct alignas(64) share {
        share(std::size_t begin, std::size_t last) : next(begin), end(last) {}

        std::atomic<std::size_t> next;
        std::size_t end;
    };

    std::size_t parts_;
    share* shares_;
};

} // namespace scaledot::inline SCALEDOT_BUILD::detail

#endif
