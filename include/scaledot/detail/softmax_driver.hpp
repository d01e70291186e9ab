// SPDX-License-Identifier: BSD-3-Clause
// Cuts an array into blocks of rows for kernel/softmax.hpp and hands them to threads.
#ifndef SCALEDOT_DETAIL_SOFTMAX_DRIVER_HPP
#define SCALEDOT_DETAIL_SOFTMAX_DRIVER_HPP

#include <scaledot/detail/config.hpp>
#include <scaledot/detail/view.hpp>
#include <scaledot/executor.hpp>
#include <scaledot/kernel/softmax.hpp>
#include <scaledot/kernel/softmax_limits.hpp>

#include <algorithm>
#include <cstddef>

namespace scaledot::inline SCALEDOT_BUILD::detail {

/// The rows of x along one axis as blocks: a contiguous row each when the axis is the innermost, otherwise as many
/// neighbouring rows as a vector has lanes, side by side along the innermost axis.
template <class S, class R>
class softmax_blocks {
public:
    /// `y` has x's shape, or x's shape without the axis (logsumexp).
    softmax_blocks(strided_view<const S> x, strided_view<R> y, std::size_t axis, std::size_t lanes) : x_(x), y_(y)
    {
        block_.length = x.shape[axis];
        block_.input_step = x.strides[axis];
        block_.output_step = y.rank() == x.rank() ? y.strides[axis] : 0;
        remove(x_, axis);
        if (y.rank() == x.rank()) {
            remove(y_, axis);
        }
        // axes of extent 1 say nothing; without them the row's axis may turn out to be the innermost
        for (std::size_t i = x_.rank(); i-- > 0;) {
            innermost_ = innermost_ && (i < axis || x_.shape[i] == 1);
        }
        for (std::size_t i = x_.rank(); i-- > 0;) {
            if (x_.shape[i] == 1) {
                remove(x_, i);
                remove(y_, i);
            }
        }
        block_.along = block_.length <= 1 || (innermost_ && block_.input_step == 1 && (block_.output_step & ~1) == 0);
        side_by_side_ = x_.rank() > 0 && !innermost_ && !block_.along && x_.stride(-1) == 1 && y_.stride(-1) == 1;
        lanes_ = side_by_side_ ? lanes : 1;
        const std::size_t inner = side_by_side_ ? x_.extent(-1) : 1;
        per_line_ = (inner + lanes_ - 1) / lanes_;
        const std::size_t lines = element_count(x_.shape) / std::max<std::size_t>(inner, 1);
        count_ = lines * per_line_;
    }

    std::size_t count() const { return count_; }
    std::size_t length() const { return block_.length; }

    /// Calls work(x pointer, y pointer, block) for the blocks in [begin, end).
    template <class Work>
    void run(std::size_t begin, std::size_t end, Work&& work) const
    {
        for (std::size_t i = begin; i < end; ++i) {
            const std::size_t line = i / per_line_;
            const std::size_t first = i % per_line_ * lanes_;
            const std::size_t inner = side_by_side_ ? 1 : 0;
            kernel::softmax_block block = block_;
            block.rows = side_by_side_ ? std::min(lanes_, x_.extent(-1) - first) : 1;
            // Rows of no logits may have no memory to point into.
            const auto at = [&](const auto& view) {
                return view.data ? view.data + offset_of(view, line, inner) + first : nullptr;
            };
            work(at(x_), at(y_), block);
        }
    }

private:
    template <class T>
    static void remove(strided_view<T>& view, std::size_t axis)
    {
        shape_vector shape;
        stride_vector strides;
        for (std::size_t i = 0; i < view.rank(); ++i) {
            if (i != axis) {
                shape.push_back(view.shape[i]);
                strides.push_back(view.strides[i]);
            }
        }
        view.shape = shape;
        view.strides = strides;
    }

    strided_view<const S> x_;
    strided_view<R> y_;
    kernel::softmax_block block_{};
    bool innermost_ = true;
    bool side_by_side_ = false;
    std::size_t lanes_ = 1;
    std::size_t per_line_ = 1;
    std::size_t count_ = 0;
};

/// Runs work(x pointer, y pointer, block) over all blocks, in parallel.
template <class S, class R, class Work>
void run_softmax_blocks(const softmax_blocks<S, R>& blocks, Work&& work)
{
    constexpr double operations_per_logit = 64;
    const std::size_t parts = part_count(blocks.count(), static_cast<double>(blocks.length()) * operations_per_logit);
    run_ranges(blocks.count(), parts,
               [&](std::size_t, std::size_t begin, std::size_t end) { blocks.run(begin, end, work); });
}

/// Calls rows(temperature) with the form of temperature that suits its value: unit or any positive one.
template <class T, class Rows>
void with_temperature(double temperature, Rows&& rows)
{
    if (temperature == 1.0) {
        rows(kernel::unit_temperature{});
    } else {
        rows(kernel::positive_temperature<T>(temperature));
    }
}

inline bool is_limit(double temperature)
{
    return temperature == 0.0 || is_positive_infinity(temperature);
}

template <class Arch, class S, class R>
void run_softmax(const strided_view<const S>& x, const strided_view<R>& y, std::size_t axis, double temperature,
                 kernel::softmax_result kind)
{
    using T = arithmetic_t<S, R>;
    const softmax_blocks<S, R> blocks(x, y, axis, kernel::lanes<Arch, T>);
    if (is_limit(temperature)) {
        run_softmax_blocks(blocks, [&](const S* in, R* out, const kernel::softmax_block& block) {
            for (std::size_t row = 0; row < block.rows; ++row) {
                kernel::softmax_limit_row<T>(in + row, out + row, block.length, block.along ? 1 : block.input_step,
                                             block.along ? 1 : block.output_step, temperature == 0.0, kind);
            }
        });
        return;
    }
    with_temperature<T>(temperature, [&](const auto& form) {
        run_softmax_blocks(blocks, [&](const S* in, R* out, const kernel::softmax_block& block) {
            if (kind == kernel::softmax_result::probabilities) {
                kernel::softmax_rows<Arch, T>(in, out, block, form);
            } else {
                kernel::log_softmax_rows<Arch, T>(in, out, block, form);
            }
        });
    });
}

template <class Arch, class S, class R>
void run_logsumexp(const strided_view<const S>& x, const strided_view<R>& y, std::size_t axis, double temperature)
{
    using T = arithmetic_t<S, R>;
    const softmax_blocks<S, R> blocks(x, y, axis, kernel::lanes<Arch, T>);
    if (is_limit(temperature)) {
        run_softmax_blocks(blocks, [&](const S* in, R* out, const kernel::softmax_block& block) {
            for (std::size_t row = 0; row < block.rows; ++row) {
                out[row] = kernel::to_storage<R>(kernel::logsumexp_limit<T>(
                    in + row, block.length, block.along ? 1 : block.input_step, temperature == 0.0));
            }
        });
        return;
    }
    with_temperature<T>(temperature, [&](const auto& form) {
        run_softmax_blocks(blocks, [&](const S* in, R* out, const kernel::softmax_block& block) {
            kernel::logsumexp_rows<Arch, T>(in, out, block, form);
        });
    });
}

} // namespace scaledot::inline SCALEDOT_BUILD::detail

#endif
