// SPDX-License-Identifier: BSD-3-Clause
// Hands the rows of an array to threads and each to the kernel that suits it.
#ifndef SCALEDOT_DETAIL_SOFTMAX_DRIVER_HPP
#define SCALEDOT_DETAIL_SOFTMAX_DRIVER_HPP

#include <scaledot/detail/config.hpp>
#include <scaledot/detail/scratch.hpp>
#include <scaledot/detail/shared_work.hpp>
#include <scaledot/detail/softmax_groups.hpp>
#include <scaledot/detail/softmax_layout.hpp>
#include <scaledot/detail/softmax_plan.hpp>
#include <scaledot/detail/softmax_tile.hpp>
#include <scaledot/detail/view.hpp>
#include <scaledot/executor.hpp>
#include <scaledot/kernel/softmax_lanes.hpp>
#include <scaledot/kernel/softmax_limits.hpp>
#include <scaledot/kernel/softmax_long.hpp>
#include <scaledot/kernel/stream.hpp>
#include <scaledot/kernel/temperature.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace scaledot::inline SCALEDOT_BUILD::detail {

/// Computes units of one call.
template <class Arch, softmax_output Output, class S, class R, class Temperature>
class softmax_worker {
    using enum softmax_output;
    using T = arithmetic_t<S, R>;
    using plan = softmax_plan<Arch, S, R>;
    static constexpr std::size_t width = kernel::lanes<Arch, T>;

public:
    softmax_worker(const softmax_layout<S, R>& layout, const plan& how, const Temperature& temperature)
        : layout_(layout), plan_(how), temperature_(temperature)
    {
    }

    void run(std::size_t begin, std::size_t end, T* scratch) const
    {
        if (plan_.kind == plan::way::lanes) {
            run_lanes(begin, end, scratch);
        } else if constexpr (!Temperature::extreme) {
            plan_.kind == plan::way::long_rows ? run_long(begin, end, scratch)
                                               : run_along(begin, end, plan_.scratch ? scratch : nullptr);
        }
        if (plan_.streaming) {
            kernel::fence_stream();
        }
    }

private:
    /// Elements, whole cache lines, from `memory` to an address in the same place of its page as x. Where it is a
    /// little behind, processors take a logit to be read for a weight just written.
    static std::size_t lines_apart(const S* x, const T* memory)
    {
        const auto apart = reinterpret_cast<std::uintptr_t>(x) - reinterpret_cast<std::uintptr_t>(memory);
        return apart % plan::page / 64 * 64 / sizeof(T);
    }

    void run_long(std::size_t begin, std::size_t end, T* scratch) const
    {
        const auto input = [&](std::size_t row) {
            return layout_.input(row / plan_.units_per_line, row % plan_.units_per_line);
        };
        T* const kept = plan_.scratch ? scratch + lines_apart(input(begin), scratch) : nullptr;
        kernel::softmax_long<Arch, Output, T, S, R, Temperature> rows(layout_.length(), temperature_, kept,
                                                                      plan_.streaming);
        for (std::size_t i = begin; i < end; ++i) {
            const S* const next = input(std::min(i + 1, end - 1));
            rows.run(input(i), layout_.output(i / plan_.units_per_line, i % plan_.units_per_line), next);
        }
    }

    void run_along(std::size_t begin, std::size_t end, T* scratch) const
    {
        softmax_groups<Arch, Output, S, R, T, Temperature> groups(layout_.length(), plan_.together, temperature_,
                                                                  scratch, plan_.streaming);
        for (std::size_t row = begin; row < end;) {
            const std::size_t line = row / plan_.units_per_line;
            const std::size_t first = row % plan_.units_per_line;
            const std::size_t count = std::min(plan_.units_per_line - first, end - row);
            groups.take(layout_.input(line, first), layout_.input_stride(), layout_.output(line, first),
                        layout_.output_stride(), count);
            row += count;
        }
        groups.finish();
    }

    void run_lanes(std::size_t begin, std::size_t end, T* scratch) const
    {
        for (std::size_t i = begin; i < end; ++i) {
            const std::size_t line = i / plan_.units_per_line;
            const std::size_t first = i % plan_.units_per_line * plan_.unit;
            const std::size_t rows = std::min(plan_.unit, layout_.rows_per_line() - first);
            const S* const x = layout_.input(line, first);
            R* const y = layout_.output(line, first);
            layout_.along() && plan_.scratch ? run_short(x, y, rows, scratch) : run_columns(x, y, rows, scratch);
        }
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
        const softmax_tile<Arch, T> tile(scratch, plan_.unit, layout_.length());
        if (plan_.scratch) {
            tile.load_columns(x, step, layout_.input_stride(), rows);
        }
        for (std::size_t row = 0; row < rows; row += width) {
            const std::size_t count = std::min(width, rows - row);
            const auto offset = static_cast<std::ptrdiff_t>(row);
            const S* const in = x + offset * layout_.input_stride();
            R* const out = y + offset * layout_.output_stride();
            if (plan_.scratch) {
                finish(tile.column(row), in, layout_.input_stride(), step, out, layout_.output_stride(), count);
            } else {
                const strided_column<Arch, T, S, R> column{in, out, step, layout_.output_step(), count};
                finish(column, in, layout_.input_stride(), step, out, layout_.output_stride(), count);
            }
        }
        if (plan_.scratch && Output != logsumexp) {
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
    const plan& plan_;
    const Temperature& temperature_;
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

/// Whether logarithms at this temperature take more care than their rows' speed is worth.
inline bool is_extreme(double temperature)
{
    return temperature < 0x1p-40 || temperature > 0x1p39;
}

/// Calls rows(temperature) with the form of a positive, finite temperature that suits its value and what it is for.
template <class T, softmax_output Output, class Rows>
void with_temperature(double temperature, Rows&& rows)
{
    if constexpr (Output != softmax_output::logarithms) {
        rows(kernel::weighing_temperature<T>(temperature));
    } else if (temperature == 1.0) {
        rows(kernel::unit_temperature<T>{});
    } else if (!is_extreme(temperature)) {
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
    const softmax_plan<Arch, S, R> plan(layout, Output,
                                        Output == softmax_output::logarithms && is_extreme(temperature));
    constexpr double operations_per_logit = 24;
    const double logits_per_unit =
        static_cast<double>(element_count(x.shape)) / static_cast<double>(std::max<std::size_t>(plan.units, 1));
    const std::size_t parts = part_count(plan.units, logits_per_unit * operations_per_logit);
    const std::size_t bytes = bytes_apart(plan.scratch * sizeof(T));
    const scratch_lease memory(checked_product(bytes, parts, "scratch memory"));
    with_temperature<T, Output>(temperature, [&]<class Temperature>(const Temperature& form) {
        const softmax_worker<Arch, Output, S, R, Temperature> worker(layout, plan, form);
        run_ranges(plan.units, parts, plan.together, [&](std::size_t part, std::size_t begin, std::size_t end) {
            worker.run(begin, end, reinterpret_cast<T*>(memory.data() + part * bytes));
        });
    });
}

} // namespace scaledot::inline SCALEDOT_BUILD::detail

#endif
