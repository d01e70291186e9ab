// SPDX-License-Identifier: BSD-3-Clause
// Arrays in memory: a pointer, a shape, strides; and copies of them.
#ifndef SCALEDOT_DETAIL_STRIDED_VIEW_HPP
#define SCALEDOT_DETAIL_STRIDED_VIEW_HPP

#include <scaledot/detail/check.hpp>
#include <scaledot/detail/config.hpp>
#include <scaledot/detail/xtensor.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdlib>

namespace scaledot::inline SCALEDOT_BUILD::detail {

using shape_vector = xt::dynamic_shape<std::size_t>;
using stride_vector = xt::dynamic_shape<std::ptrdiff_t>;

/// Elements in memory the library does not own. Strides count elements and may be negative, or 0 along broadcast axes.
template <class T>
struct strided_view {
    T* data = nullptr;
    shape_vector shape;
    stride_vector strides;

    std::size_t rank() const { return shape.size(); }
    std::size_t extent(std::ptrdiff_t axis) const { return shape[index(axis)]; }
    std::ptrdiff_t stride(std::ptrdiff_t axis) const { return strides[index(axis)]; }

private:
    std::size_t index(std::ptrdiff_t axis) const
    {
        return static_cast<std::size_t>(axis < 0 ? axis + static_cast<std::ptrdiff_t>(rank()) : axis);
    }
};

/// Number of elements of a shape; throws std::length_error when it does not fit std::size_t.
template <class Shape>
std::size_t element_count(const Shape& shape)
{
    std::size_t count = 1;
    for (const auto extent : shape) {
        if (extent == 0) {
            return 0;
        }
    }
    for (const auto extent : shape) {
        count = checked_product(count, static_cast<std::size_t>(extent), "the number of elements");
    }
    return count;
}

/// A shape with one axis left out.
inline shape_vector without_axis(const shape_vector& shape, std::size_t axis)
{
    shape_vector rest;
    for (std::size_t i = 0; i < shape.size(); ++i) {
        if (i != axis) {
            rest.push_back(shape[i]);
        }
    }
    return rest;
}

/// The last axis can be walked with stride 1.
template <class T>
bool last_axis_contiguous(const strided_view<T>& view)
{
    return view.rank() == 0 || view.extent(-1) <= 1 || view.stride(-1) == 1;
}

/// Walks the offsets of a view's leading axes (all but the last `inner`) in row-major order.
template <class T>
std::ptrdiff_t offset_of(const strided_view<T>& view, std::size_t flat, std::size_t inner)
{
    std::ptrdiff_t offset = 0;
    for (std::size_t axis = view.rank() - inner; axis-- > 0;) {
        const std::size_t extent = view.shape[axis];
        offset += static_cast<std::ptrdiff_t>(flat % extent) * view.strides[axis];
        flat /= extent;
    }
    return offset;
}

/// Copies an array to another place of the same shape, which it does not overlap.
template <class T>
void copy_elements(const strided_view<const T>& source, const strided_view<T>& target)
{
    if (element_count(source.shape) == 0) {
        return;
    }
    const std::size_t inner = std::min<std::size_t>(source.rank(), 2);
    const std::size_t columns = inner > 0 ? source.extent(-1) : 1;
    const std::size_t rows = inner > 1 ? source.extent(-2) : 1;
    const auto row_step = [&](const auto& view) { return inner > 1 ? view.stride(-2) : 0; };
    const auto column_step = [&](const auto& view) { return inner > 0 ? view.stride(-1) : 0; };
    const std::ptrdiff_t source_row = row_step(source);
    const std::ptrdiff_t source_column = column_step(source);
    const std::ptrdiff_t target_row = row_step(target);
    const std::ptrdiff_t target_column = column_step(target);
    // Columns that are contiguous are taken several at a time: lines of memory are then used up while they are near.
    constexpr std::size_t together = 16;
    const bool down = std::abs(source_row) < std::abs(source_column) || std::abs(target_row) < std::abs(target_column);
    const std::size_t planes = element_count(source.shape) / (rows * columns);
    for (std::size_t plane = 0; plane < planes; ++plane) {
        const T* const from = source.data + offset_of(source, plane, inner);
        T* const to = target.data + offset_of(target, plane, inner);
        const auto move = [&](std::size_t row, std::size_t column) __attribute__((always_inline))
        {
            const auto i = static_cast<std::ptrdiff_t>(row);
            const auto j = static_cast<std::ptrdiff_t>(column);
            to[i * target_row + j * target_column] = from[i * source_row + j * source_column];
        };
        for (std::size_t first = 0; first < rows; first += together) {
            const std::size_t last = std::min(first + together, rows);
            if (down) {
                for (std::size_t column = 0; column < columns; ++column) {
                    for (std::size_t row = first; row < last; ++row) {
                        move(row, column);
                    }
                }
            } else {
                for (std::size_t row = first; row < last; ++row) {
                    for (std::size_t column = 0; column < columns; ++column) {
                        move(row, column);
                    }
                }
            }
        }
    }
}

} // namespace scaledot::inline SCALEDOT_BUILD::detail

#endif
