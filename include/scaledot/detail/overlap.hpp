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
#include <cstdlib>
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

/// The rows of a view (its elements, where the last axis is not contiguous), as sorted ranges of addresses.
template <class T>
std::vector<address_range> rows_of(const strided_view<T>& view)
{
    const std::size_t inner = view.rank() > 0 && last_axis_contiguous(view) ? 1 : 0;
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

/// Each axis steps over all that the axes of smaller steps reach: then no two indices meet.
template <class T>
bool axes_nest(const strided_view<T>& view)
{
    xt::svector<std::pair<std::size_t, std::size_t>, 4> axes; // step, extent; on the stack up to rank 4
    for (std::size_t axis = 0; axis < view.rank(); ++axis) {
        if (view.shape[axis] > 1) {
            axes.push_back({static_cast<std::size_t>(std::abs(view.strides[axis])), view.shape[axis]});
        }
    }
    std::sort(axes.begin(), axes.end());
    std::size_t reach = 0;
    for (const auto& [step, extent] : axes) {
        if (step <= reach) {
            return false;
        }
        reach += step * (extent - 1);
    }
    return true;
}

/// Throws when an output has two indices for one element.
template <class T>
void require_distinct_elements(const strided_view<T>& out, const char* name = "out")
{
    if (element_count(out.shape) == 0) {
        return;
    }
    for (std::size_t axis = 0; axis < out.rank(); ++axis) {
        if (out.shape[axis] > 1 && out.strides[axis] == 0) {
            reject(text("the stride of axis ", axis, " of ", name), 0, "other than 0: each element is written once");
        }
    }
    if (axes_nest(out)) {
        return;
    }
    const auto rows = rows_of(out);
    const auto meet = [](const address_range& a, const address_range& b) { return b.first < a.second; };
    if (std::adjacent_find(rows.begin(), rows.end(), meet) != rows.end()) {
        reject(text("the memory of ", name), "several indices for one element",
               "one for each: elements are written once");
    }
}

/// Throws when an output shares elements with another argument.
template <class A, class B>
void require_disjoint(const strided_view<A>& out, const strided_view<B>& in, const char* argument,
                      const char* name = "out")
{
    if (overlaps(out, in)) {
        reject(text("the memory of ", name), text("shared with ", argument), "its own");
    }
}

/// The same of expressions, by the memory they live in; a lazy expression has none.
template <class Out, class In>
void require_apart(Out& out, const In& in, const char* argument, const char* name = "out")
{
    if constexpr (in_memory<const In&>) {
        require_disjoint(view_of(out), view_of(in), argument, name);
    }
}

/// Throws when the output shares elements with an input, unless both are the very same elements.
template <class A, class B>
void require_disjoint_or_identical(const strided_view<A>& out, const strided_view<B>& in, const char* argument)
{
    if (!identical(out, in) && overlaps(out, in)) {
        reject("the memory of out", text("shared in part with ", argument),
               text("its own, or exactly that of ", argument));
    }
}

/// The same of expressions, by the memory they live in; a lazy expression has none.
template <class Out, class In>
void require_apart_or_identical(Out& out, const In& in, const char* argument)
{
    if constexpr (in_memory<const In&>) {
        require_disjoint_or_identical(view_of(out), view_of(in), argument);
    }
}

} // namespace scaledot::inline SCALEDOT_BUILD::detail

#endif
