// SPDX-License-Identifier: BSD-3-Clause
// Where the rows of a softmax lie.
#ifndef SCALEDOT_DETAIL_SOFTMAX_LAYOUT_HPP
#define SCALEDOT_DETAIL_SOFTMAX_LAYOUT_HPP

#include <scaledot/detail/config.hpp>
#include <scaledot/detail/view.hpp>

#include <algorithm>
#include <cstddef>

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

} // namespace scaledot::inline SCALEDOT_BUILD::detail

#endif
