// SPDX-License-Identifier: BSD-3-Clause
// Whether an output shares elements with an input: exactly, also for interleaved views of one buffer.
#ifndef SCALEDOT_DETAIL_OVERLAP_HPP
#define SCALEDOT_DETAIL_OVERLAP_HPP

#include <scaledot/detail/check.hpp>
#include <scaledot/detail/config.hpp>
#include <scaledot/detail/view.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace scaledot::inline SCALEDOT_BUILD::detail {

using address_range = std::pair<std::uintptr_t, std::uintptr_t>;

/// From the first byte of a view to the one past its last; empty views give an empty range.
template <class T>
address_range extent_of(const strided_view<T>& view)
{
    if (element_count(view.shape) == 0) {
        return {0, 0};
    }
    auto low = reinterpret_cast<std::uintptr_t>(view.data);
    auto high = low;
    for (std::size_t axis = 0; axis < view.rank(); ++axis) {
        const auto span = static_cast<std::uintptr_t>(static_cast<std::ptrdiff_t>(view.shape[axis] - 1) *
                                                      view.strides[axis] * static_cast<std::ptrdiff_t>(sizeof(T)));
        (view.strides[axis] < 0 ? low : high) += span;
    }
    return {low, high + sizeof(T)};
}

/// The rows of a view whose last axis is contiguous, as sorted ranges of addresses.
template <class T>
std::vector<address_range> rows_of(const strided_view<T>& view)
{
    const std::size_t inner = view.rank() == 0 ? 0 : 1;
    const std::size_t length = inner ? view.extent(-1) : 1;
    const std::size_t rows = element_count(view.shape) / std::max<std::size_t>(length, 1);
    std::vector<address_range> ranges;
    ranges.reserve(rows);
    for (std::size_t row = 0; row < rows; ++row) {
        const auto begin = reinterpret_cast<std::uintptr_t>(view.data + offset_of(view, row, inner));
        ranges.emplace_back(begin, begin + length * sizeof(T));
    }
    std::sort(ranges.begin(), ranges.end());
    return ranges;
}

template <class A, class B>
bool overlaps(const strided_view<A>& a, const strided_view<B>& b)
{
    const auto extent_a = extent_of(a);
    const auto extent_b = extent_of(b);
    if (extent_a.second <= extent_b.first || extent_b.second <= extent_a.first) {
        return false;
    }
    const auto rows_a = rows_of(a);
    const auto rows_b = rows_of(b);
    for (auto i = rows_a.begin(), j = rows_b.begin(); i != rows_a.end() && j != rows_b.end();) {
        if (i->second <= j->first) {
            ++i;
        } else if (j->second <= i->first) {
            ++j;
        } else {
            return true;
        }
    }
    return false;
}

/// The same elements in the same order.
template <class A, class B>
bool identical(const strided_view<A>& a, const strided_view<B>& b)
{
    return static_cast<const void*>(a.data) == static_cast<const void*>(b.data) && sizeof(A) == sizeof(B) &&
           std::equal(a.shape.begin(), a.shape.end(), b.shape.begin(), b.shape.end()) &&
           std::equal(a.strides.begin(), a.strides.end(), b.strides.begin(), b.strides.end());
}

/// Throws when the output has two indices for one element.
template <class T>
void require_distinct_elements(const strided_view<T>& out)
{
    for (std::size_t axis = 0; axis < out.rank(); ++axis) {
        if (out.shape[axis] > 1 && out.strides[axis] == 0 && element_count(out.shape) > 0) {
            reject(text("the stride of axis ", axis, " of out"), 0, "other than 0: each element is written once");
        }
    }
}

/// Throws when the output shares elements with an input.
template <class A, class B>
void require_disjoint(const strided_view<A>& out, const strided_view<B>& in, const char* argument)
{
    if (overlaps(out, in)) {
        reject("the memory of out", text("shared with ", argument), "its own");
    }
}

/// Throws when the output shares elements with an input, unless both are the very same elements.
template <class A, class B>
void require_disjoint_or_identical(const strided_view<A>& out, const strided_view<B>& in, const char* argument)
{
    if (!identical(out, in) && overlaps(out, in)) {
        reject("the memory of out", text("shared in part with ", argument), text("its own, or exactly that of ", argument));
    }
}

} // namespace scaledot::inline SCALEDOT_BUILD::detail

#endif
