// SPDX-License-Identifier: BSD-3-Clause
// Cuts an array into groups of rows for kernel/softmax.hpp and hands them to threads.
#ifndef SCALEDOT_DETAIL_SOFTMAX_DRIVER_HPP
#define SCALEDOT_DETAIL_SOFTMAX_DRIVER_HPP

#include <scaledot/detail/config.hpp>
#include <scaledot/detail/scratch.hpp>
#include <scaledot/detail/shared_work.hpp>
#include <scaledot/detail/softmax_tile.hpp>
#include <scaledot/detail/view.hpp>
#include <scaledot/executor.hpp>
#include <scaledot/kernel/narrow_weights.hpp>
#include <scaledot/kernel/softmax.hpp>
#include <scaledot/kernel/softmax_lanes.hpp>
#include <scaledot/kernel/softmax_limits.hpp>
#include <scaledot/kernel/softmax_long.hpp>
#include <scaledot/kernel/softmax_narrow.hpp>
#include <scaledot/kernel/softmax_rows.hpp>
#include <scaledot/kernel/stream.hpp>
#include <scaledot/kernel/temperature.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace scaledot::inline SCALEDOT_BUILD::detail {

/// The rows of x along one axis, as equally spaced rows on lines: rows along the innermost axis lie `stride` apart,
/// rows along another axis side by side.
template <class S, class R>
class softmax_layout {
public:
    /// `y` has x's shape, or x's shape without the axis (logsumexp).
    softmax_layout(strided_view<const S> x, strided_view<R> y, std::size_t axis) : x_(x), y_(y)
    {
        length_ = x.shape[axis];
        input_step_ = x.strides[axis];
        output_step_ = y.rank() == x.rank() ? y.strides[axis] : 1;
        remove(x_, axis);
        if (y.rank() == x.rank()) {
            remove(y_, axis);
        }
        // Axes of extent 1 say nothing, and axes that are one behind the other in both arrays are one.
        for (std::size_t i = x_.rank(); i-- > 0;) {
            if (x_.shape[i] == 1) {
                remove(x_, i);
                remove(y_, i);
            } else if (i + 1 < x_.rank() && is_one_axis(x_, i) && is_one_axis(y_, i)) {
                x_.shape[i + 1] *= x_.shape[i];
                y_.shape[i + 1] *= y_.shape[i];
                remove(x_, i);
                remove(y_, i);
            }
        }
        along_ = length_ <= 1 || (input_step_ == 1 && output_step_ == 1);
    }

    std::size_t length() const { return length_; }
    bool along() const { return along_; }
    std::ptrdiff_t input_step() const { return input_step_; }
    std::ptrdiff_t output_step() const { return output_step_; }
    std::ptrdiff_t input_stride() const { return x_.rank() == 0 ? 0 : x_.stride(-1); }
    std::ptrdiff_t output_stride() const { return y_.rank() == 0 ? 0 : y_.stride(-1); }
    std::size_t rows_per_line() const { return x_.rank() == 0 ? 1 : x_.extent(-1); }
    std::size_t lines() const { return element_count(x_.shape) / std::max<std::size_t>(rows_per_line(), 1); }

    const S* input(std::size_t line, std::size_t row) const { return at(x_, line, row); }
    R* output(std::size_t line, std::size_t row) const { return at(y_, line, row); }

private:
    template <class T>
    static void remove(strided_view<T>& view, std::size_t axis)
    {
        view.shape = without_axis(view.shape, axis);
        stride_vector strides;
        for (std::size_t i = 0; i < view.strides.size(); ++i) {
            if (i != axis) {
                strides.push_back(view.strides[i]);
            }
        }
        view.strides = strides;
    }

    template <class T>
    static bool is_one_axis(const strided_view<T>& view, std::size_t axis)
    {
        return view.strides[axis] == view.strides[axis + 1] * static_cast<std::ptrdiff_t>(view.shape[axis + 1]);
    }

    /// Rows of no logits may have no memory to point into.
    template <class T>
    static T* at(const strided_view<T>& view, std::size_t line, std::size_t row)
    {
        if (view.data == nullptr || view.rank() == 0) {
            return view.data;
        }
        return view.data + offset_of(view, line, 1) + static_cast<std::ptrdiff_t>(row) * view.stride(-1);
    }

    strided_view<const S> x_;
    strided_view<R> y_;
    std::size_t length_;
    std::ptrdiff_t input_step_;
    std::ptrdiff_t output_step_;
    bool along_;
};

using kernel::softmax_output;

/// Groups of rows of one call, in the form their kernel takes them.
template <class Arch, softmax_output Output, class S, class R, class Temperature>
class softmax_worker {
    using enum softmax_output;
    using T = arithmetic_t<S, R>;
    using narrow = kernel::narrow_rows<Arch, T>;
    using any_rows = kernel::softmax_along<Arch, T, S>;
    static constexpr std::size_t width = kernel::lanes<Arch, T>;

public:
    softmax_worker(const softmax_layout<S, R>& layout, const Temperature& temperature)
        : layout_(layout), temperature_(temperature), narrow_(temperature.scale)
    {
        const std::size_t length = std::max<std::size_t>(layout.length(), 1);
        constexpr std::size_t most = scratch_bytes / sizeof(T);
        streaming_ = layout.lines() * layout.rows_per_line() * length * sizeof(R) >= streaming_bytes &&
                     length * sizeof(T) >= shortest_streamed() &&
                     layout.input(0, 0) != static_cast<const void*>(layout.output(0, 0));
        if (is_long()) {
            group_ = 1;
            scratch_ = Output == probabilities && length <= most ? length + page / sizeof(T) : 0;
        } else if (layout.along() && length >= shortest_along) {
            group_ = std::clamp<std::size_t>(near_bytes / sizeof(T) / length, 1, width);
            const bool keeps = Output == probabilities && (streaming_ || !std::is_same_v<R, T>);
            scratch_ = keeps && group_ * length <= most ? group_ * length : 0;
        } else {
            const std::size_t vectors =
                layout.along() ? 1 : std::clamp<std::size_t>(most / 2 / width / length, 1, columns_at_once);
            group_ = vectors * width;
            scratch_ = group_ * length <= most ? group_ * length : 0;
            if (scratch_ == 0 && (layout.input_stride() != 1 || layout.output_stride() != 1)) {
                group_ = 1;
            }
        }
        per_line_ = (layout.rows_per_line() + group_ - 1) / group_;
    }

    std::size_t groups() const { return layout_.lines() * per_line_; }
    std::size_t scratch_elements() const { return scratch_; }

    void run(std::size_t begin, std::size_t end, T* scratch) const
    {
        if (is_long()) {
            run_long(begin, end, scratch);
            return;
        }
        bool expect_others = false;
        for (std::size_t i = begin; i < end; ++i) {
            const std::size_t line = i / per_line_;
            const std::size_t first = i % per_line_ * group_;
            const std::size_t rows = std::min(group_, layout_.rows_per_line() - first);
            const S* const x = layout_.input(line, first);
            R* const y = layout_.output(line, first);
            if (!layout_.along()) {
                run_columns(x, y, rows, scratch);
            } else if (layout_.length() < shortest_along) {
                run_short(x, y, rows, scratch);
            } else {
                const bool another = i + 1 < end && first + 2 * rows <= layout_.rows_per_line();
                run_along(x, another ? layout_.input(line, first + rows) : x, y, rows, scratch, expect_others);
            }
        }
        if (streaming_) {
            kernel::fence_stream();
        }
    }

private:
    static constexpr std::size_t scratch_bytes = std::size_t{1} << 19;
    static constexpr std::size_t page = 4096;
    static constexpr std::size_t streaming_bytes = std::size_t{1} << 24; // of results, which no cache would keep
    static constexpr std::size_t near_bytes = std::size_t{1} << 14; // of logits and as many results, in the first cache
    static constexpr std::size_t long_bytes = std::size_t{1} << 13;
    static constexpr std::size_t shortest_along = 2 * width;
    static constexpr std::size_t columns_at_once = 4;

    /// Bytes of the shortest rows that are streamed. Lines that two rows share are written around the stream, and what
    /// is written late is read in other vectors than it was kept in: that takes longer rows to pay.
    std::size_t shortest_streamed() const
    {
        const auto off = reinterpret_cast<std::uintptr_t>(layout_.output(0, 0)) % kernel::alignment_of<Arch> +
                         static_cast<std::size_t>(layout_.output_stride()) * sizeof(R) % kernel::alignment_of<Arch>;
        if (Output == probabilities) {
            return off != 0 ? long_bytes : long_bytes / 4;
        }
        return off != 0 ? long_bytes / 2 : 0;
    }

    bool is_long() const
    {
        return layout_.along() && layout_.length() * sizeof(T) >= (streaming_ ? long_bytes / 4 : long_bytes);
    }

    /// Elements, whole cache lines, from `memory` to an address in the same place of its page as x. Where it is a
    /// little behind, processors take a logit to be read for a weight just written.
    static std::size_t lines_apart(const S* x, const T* memory)
    {
        const auto apart = reinterpret_cast<std::uintptr_t>(x) - reinterpret_cast<std::uintptr_t>(memory);
        return apart % page / 64 * 64 / sizeof(T);
    }

    void run_long(std::size_t begin, std::size_t end, T* scratch) const
    {
        const auto input = [&](std::size_t row) { return layout_.input(row / per_line_, row % per_line_); };
        T* const kept = scratch_ ? scratch + lines_apart(input(begin), scratch) : nullptr;
        kernel::softmax_long<Arch, Output, T, S, R, Temperature> rows(layout_.length(), temperature_, kept, streaming_);
        for (std::size_t i = begin; i < end; ++i) {
            const S* const next = input(std::min(i + 1, end - 1));
            rows.run(input(i), layout_.output(i / per_line_, i % per_line_), next);
        }
        if (streaming_) {
            kernel::fence_stream();
        }
    }

    /// Narrow rows apart from others. `expect_others`: the group before had no narrow row. Then the largest logits are
    /// looked at first, which are needed for others, and which most often tell that this one has none, either.
    [[gnu::noinline]] void run_along(const S* x, const S* next, R* y, std::size_t count, T* scratch,
                                     bool& expect_others) const
    {
        const auto rows_at = [&](std::uint32_t places) {
            return kernel::rows_of_logits<S>(x, next, layout_.input_stride(), layout_.length(), places);
        };
        std::uint32_t others = (std::uint32_t{1} << count) - 1;
        if constexpr (narrow::exist) {
            if (expect_others && count == width) {
                any_rows group(rows_at(others), temperature_.scale);
                if (group.all_beyond(narrow_.limit())) {
                    run_any(group, y, scratch);
                    return;
                }
            }
            std::uint32_t found = 0;
            for (std::size_t row = 0; row < count; ++row) {
                const S* const logits = x + static_cast<std::ptrdiff_t>(row) * layout_.input_stride();
                found |= static_cast<std::uint32_t>(narrow_.contain(logits, layout_.length())) << row;
            }
            if (found != 0) {
                run_narrow(rows_at(found), y, scratch);
            }
            expect_others = found == 0;
            others &= ~found;
        }
        if (others != 0) {
            any_rows group(rows_at(others), temperature_.scale);
            run_any(group, y, scratch);
        }
    }

    void run_narrow(const kernel::rows_of_logits<S>& rows, R* y, T* scratch) const
    {
        const kernel::softmax_narrow<Arch, T, S> group(temperature_.scale);
        if constexpr (Output == probabilities) {
            group.probabilities(rows, y, layout_.output_stride(), kept_weights(y, scratch), streaming_);
        } else if constexpr (Output == logarithms) {
            group.logarithms(rows, temperature_, y, layout_.output_stride(), streaming_);
        } else {
            group.logsumexp(rows, temperature_.value, y, layout_.output_stride());
        }
    }

    void run_any(any_rows& group, R* y, T* scratch) const
    {
        if constexpr (Output == probabilities) {
            group.probabilities(y, layout_.output_stride(), kept_weights(y, scratch), streaming_);
        } else if constexpr (Output == logarithms) {
            group.logarithms(temperature_, y, layout_.output_stride(), streaming_);
        } else {
            group.logsumexp(temperature_.value, y, layout_.output_stride());
        }
    }

    /// In scratch memory if there is some, else in y if that can hold them.
    kernel::kept_weights<T> kept_weights(R* y, T* scratch) const
    {
        if (scratch_) {
            return {scratch, static_cast<std::ptrdiff_t>(layout_.length())};
        }
        if constexpr (std::is_same_v<R, T>) {
            return {y, layout_.output_stride()};
        }
        return {};
    }

    void run_short(const S* x, R* y, std::size_t rows, T* scratch) const
    {
        const softmax_tile<Arch, T> tile(scratch, width, layout_.length());
        tile.load_rows(x, layout_.input_stride(), rows);
        finish(tile.column(0), x, layout_.input_stride(), 1, y, layout_.output_stride(), rows);
        if (Output != logsumexp) {
            tile.store_rows(y, layout_.output_stride(), rows);
        }
    }

    void run_columns(const S* x, R* y, std::size_t rows, T* scratch) const
    {
        const std::ptrdiff_t step = layout_.input_step();
        const softmax_tile<Arch, T> tile(scratch, group_, layout_.length());
        if (scratch_) {
            tile.load_columns(x, step, layout_.input_stride(), rows);
        }
        for (std::size_t row = 0; row < rows; row += width) {
            const std::size_t count = std::min(width, rows - row);
            const auto offset = static_cast<std::ptrdiff_t>(row);
            const S* const in = x + offset * layout_.input_stride();
            R* const out = y + offset * layout_.output_stride();
            if (scratch_) {
                finish(tile.column(row), in, layout_.input_stride(), step, out, layout_.output_stride(), count);
            } else {
                const strided_column<Arch, T, S, R> column{in, out, step, layout_.output_step(), count};
                finish(column, in, layout_.input_stride(), step, out, layout_.output_stride(), count);
            }
        }
        if (scratch_ && Output != logsumexp) {
            tile.store_columns(y, layout_.output_step(), layout_.output_stride(), rows);
        }
    }

    template <class Column>
    void finish(const Column& column, const S* x, std::ptrdiff_t input_stride, std::ptrdiff_t input_step, R* y,
                std::ptrdiff_t output_stride, std::size_t rows) const
    {
        kernel::softmax_lanes<Arch, T, Column> lanes(column, layout_.length(), temperature_.scale);
        if constexpr (Output == probabilities) {
            lanes.probabilities();
        } else if constexpr (Output == logarithms) {
            lanes.logarithms(temperature_);
        } else {
            lanes.logsumexp(temperature_.value, y, output_stride, rows, [&](std::size_t row) {
                return kernel::logsumexp_of_poisoned<T>(x + static_cast<std::ptrdiff_t>(row) * input_stride,
                                                        layout_.length(), input_step);
            });
        }
    }

    const softmax_layout<S, R>& layout_;
    const Temperature& temperature_;
    narrow narrow_;
    std::size_t group_;
    std::size_t scratch_;
    std::size_t per_line_;
    bool streaming_;
};

inline bool is_limit(double temperature)
{
    return temperature == 0.0 || is_positive_infinity(temperature);
}

/// The rows at temperature 0 and infinity, one after another.
template <softmax_output Output, class S, class R>
void run_limits(const softmax_layout<S, R>& layout, bool cold)
{
    using T = arithmetic_t<S, R>;
    const std::size_t per_line = layout.rows_per_line();
    const std::size_t rows = layout.lines() * per_line;
    const std::size_t parts = part_count(rows, static_cast<double>(layout.length()) * 8);
    run_ranges(rows, parts, 1, [&](std::size_t, std::size_t begin, std::size_t end) {
        for (std::size_t row = begin; row < end; ++row) {
            const S* const x = layout.input(row / per_line, row % per_line);
            R* const y = layout.output(row / per_line, row % per_line);
            if constexpr (Output == softmax_output::logsumexp) {
                *y = kernel::to_storage<R>(kernel::logsumexp_limit<T>(x, layout.length(), layout.input_step(), cold));
            } else {
                kernel::softmax_limit_row<T>(x, y, layout.length(), layout.input_step(), layout.output_step(), cold,
                                             Output);
            }
        }
    });
}

/// Calls rows(temperature) with the form of a positive, finite temperature that suits its value and what it is for.
template <class T, softmax_output Output, class Rows>
void with_temperature(double temperature, Rows&& rows)
{
    if constexpr (Output != softmax_output::logarithms) {
        rows(kernel::weighing_temperature<T>(temperature));
    } else if (temperature == 1.0) {
        rows(kernel::unit_temperature<T>{});
    } else if (temperature >= 0x1p-40 && temperature <= 0x1p39) {
        rows(kernel::moderate_temperature<T>(temperature));
    } else {
        rows(kernel::positive_temperature<T>(temperature));
    }
}

/// The softmax of x along an axis, or its logarithms, or logsumexp, with the kernels of Arch.
template <class Arch, softmax_output Output, class S, class R>
void drive_softmax(const strided_view<const S>& x, const strided_view<R>& y, std::size_t axis, double temperature)
{
    using T = arithmetic_t<S, R>;
    const softmax_layout<S, R> layout(x, y, axis);
    // Without logits, and for the share of a single one, the temperature does not matter.
    const bool is_trivial = layout.length() == 0 || (layout.length() == 1 && Output != softmax_output::logsumexp);
    if (is_limit(temperature) || is_trivial) {
        run_limits<Output>(layout, temperature == 0.0);
        return;
    }
    with_temperature<T, Output>(temperature, [&]<class Temperature>(const Temperature& form) {
        const softmax_worker<Arch, Output, S, R, Temperature> worker(layout, form);
        constexpr double operations_per_logit = 24;
        const double rows_per_group = static_cast<double>(layout.lines() * layout.rows_per_line()) /
                                      static_cast<double>(std::max<std::size_t>(worker.groups(), 1));
        const std::size_t parts =
            part_count(worker.groups(), rows_per_group * static_cast<double>(layout.length()) * operations_per_logit);
        const std::size_t bytes = bytes_apart(worker.scratch_elements() * sizeof(T));
        const scratch_lease memory(checked_product(bytes, parts, "scratch memory"));
        run_ranges(worker.groups(), parts, 1, [&](std::size_t part, std::size_t begin, std::size_t end) {
            worker.run(begin, end, reinterpret_cast<T*>(memory.data() + part * bytes));
        });
    });
}

} // namespace scaledot::inline SCALEDOT_BUILD::detail

#endif
