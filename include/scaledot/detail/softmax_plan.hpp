// SPDX-License-Identifier: BSD-3-Clause
// Decides how the rows of a softmax are computed.
#ifndef SCALEDOT_DETAIL_SOFTMAX_PLAN_HPP
#define SCALEDOT_DETAIL_SOFTMAX_PLAN_HPP

#include <scaledot/detail/config.hpp>
#include <scaledot/detail/element.hpp>
#include <scaledot/detail/softmax_layout.hpp>
#include <scaledot/kernel/simd.hpp>
#include <scaledot/kernel/softmax_limits.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace scaledot::inline SCALEDOT_BUILD::detail {

using kernel::softmax_output;

/// Which way the rows of a call are computed, and in what pieces. Work is dealt out in units: rows that lie along the
/// vectors one by one, others in as many as vectors hold.
template <class Arch, class S, class R>
class softmax_plan {
    using T = arithmetic_t<S, R>;
    static constexpr std::size_t width = kernel::lanes<Arch, T>;

public:
    enum class way {
        long_rows,  ///< one after another
        along_rows, ///< several together, along the vectors
        lanes       ///< a row a lane
    };

    /// `in_lanes`: whatever else would suit them better.
    [[gnu::noinline]] softmax_plan(const softmax_layout<S, R>& layout, softmax_output output, bool in_lanes)
    {
        const std::size_t length = std::max<std::size_t>(layout.length(), 1);
        const bool weights = output == softmax_output::probabilities;
        constexpr std::size_t most = scratch_bytes / sizeof(T);
        streaming = layout.lines() * layout.rows_per_line() * length * sizeof(R) >= streaming_bytes &&
                    length * sizeof(T) >= shortest_streamed(layout, weights) &&
                    layout.input(0, 0) != static_cast<const void*>(layout.output(0, 0));
        if (!in_lanes && layout.along() && length * sizeof(T) >= (streaming ? long_bytes / 4 : long_bytes)) {
            kind = way::long_rows;
            scratch = weights && length <= most ? length + page / sizeof(T) : 0;
        } else if (!in_lanes && layout.along() && length >= shortest_along) {
            kind = way::along_rows;
            together = std::clamp<std::size_t>(near_bytes / sizeof(T) / length, 1, width);
            static_assert(width * long_bytes <= scratch_bytes);
            scratch = weights && (streaming || !std::is_same_v<R, T>) ? together * length : 0;
        } else {
            kind = way::lanes;
            const std::size_t vectors =
                layout.along() ? 1 : std::clamp<std::size_t>(most / 2 / width / length, 1, columns_at_once);
            unit = vectors * width;
            scratch = unit * length <= most ? unit * length : 0;
            if (scratch == 0 && (layout.input_stride() != 1 || layout.output_stride() != 1)) {
                unit = 1;
            }
        }
        units_per_line = (layout.rows_per_line() + unit - 1) / unit;
        units = layout.lines() * units_per_line;
    }

    static constexpr std::size_t page = 4096;

    way kind;
    std::size_t unit = 1;     ///< rows
    std::size_t together = 1; ///< units that are computed together, or had better be the same thread's
    std::size_t units_per_line;
    std::size_t units;
    std::size_t scratch; ///< elements a thread needs, 0 for none
    bool streaming;

private:
    static constexpr std::size_t scratch_bytes = std::size_t{1} << 19;
    static constexpr std::size_t streaming_bytes = std::size_t{1} << 24; // of results, which no cache would keep
    static constexpr std::size_t near_bytes = std::size_t{1} << 14; // of logits and as many results, in the first cache
    static constexpr std::size_t long_bytes = std::size_t{1} << 13;
    static constexpr std::size_t shortest_along = 2 * width;
    static constexpr std::size_t columns_at_once = 4;

    /// Bytes of the shortest rows that are streamed. Lines that two rows share are written around the stream, and what
    /// is written late is read in other vectors than it was kept in: that takes longer rows to pay.
    static std::size_t shortest_streamed(const softmax_layout<S, R>& layout, bool weights)
    {
        const auto off = reinterpret_cast<std::uintptr_t>(layout.output(0, 0)) % kernel::alignment_of<Arch> +
                         static_cast<std::size_t>(layout.output_stride()) * sizeof(R) % kernel::alignment_of<Arch>;
        if (weights) {
            return off != 0 ? long_bytes : long_bytes / 4;
        }
        return off != 0 ? long_bytes / 2 : 0;
    }
};

} // namespace scaledot::inline SCALEDOT_BUILD::detail

#endif
