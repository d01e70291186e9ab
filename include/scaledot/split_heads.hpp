// SPDX-License-Identifier: BSD-3-Clause
// Packed projections [..., length, heads * size] as [..., heads, length, size], without a copy, and the way back.
#ifndef SCALEDOT_SPLIT_HEADS_HPP
#define SCALEDOT_SPLIT_HEADS_HPP

#include <scaledot/detail/check.hpp>
#include <scaledot/detail/config.hpp>
#include <scaledot/detail/ownership.hpp>
#include <scaledot/detail/view.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <type_traits>

namespace scaledot::inline SCALEDOT_BUILD {

/// A view y of x with y[..., h, i, c] = x[..., i, h * size + c]: what attention reads its queries, keys and values
/// through, and what attention_into writes through to leave its output packed.
///
/// @param packed  [..., length, heads * size], rank >= 2, in memory; must outlive the view
/// @param heads   number of heads; divides the last axis
/// @return        a strided view [..., heads, length, size] of the same elements (const when packed is)
/// @throws std::invalid_argument  heads is 0 or does not divide the last axis
///
/// Temporaries that own their elements do not compile: the view would outlive them.
/// Cost  no element is read or copied.
template <detail::tensor E>
auto split_heads(E&& packed, std::size_t heads)
{
    static_assert(std::is_lvalue_reference_v<E> || !detail::owns_elements<std::decay_t<E>>,
                  "scaledot: split_heads gives a view: a temporary container would not outlive it, give it a name");
    static_assert(detail::in_memory<E>,
                  "scaledot: split_heads gives a view: evaluate the lazy expression into a container first");
    constexpr std::size_t rank = detail::rank_of<E>;
    static_assert(rank >= 2, "scaledot: split_heads needs an array of rank 2 or more: [..., length, heads * size]");
    const auto view = detail::view_of(packed);
    if (view.rank() < 2) {
        detail::reject("the rank of packed", view.rank(), "2 or more: [..., length, heads * size]");
    }
    const std::size_t width = view.extent(-1);
    if (heads == 0 || width % heads != 0) {
        detail::reject("heads", heads, detail::text("a divisor of ", width, ", the last axis of packed"));
    }
    const std::size_t size = width / heads;
    const auto step = view.stride(-1);

    using sizes =
        std::conditional_t<rank == detail::dynamic_rank, detail::shape_vector, std::array<std::size_t, rank + 1>>;
    using steps =
        std::conditional_t<rank == detail::dynamic_rank, detail::stride_vector, std::array<std::ptrdiff_t, rank + 1>>;
    auto shape = xtl::make_sequence<sizes>(view.rank() + 1);
    auto strides = xtl::make_sequence<steps>(view.rank() + 1);
    const std::size_t leading = view.rank() - 2;
    std::copy_n(view.shape.begin(), leading, shape.begin());
    std::copy_n(view.strides.begin(), leading, strides.begin());
    shape[leading] = heads;
    strides[leading] = heads == 1 ? 0 : static_cast<std::ptrdiff_t>(size) * step;
    shape[leading + 1] = view.extent(-2);
    strides[leading + 1] = view.stride(-2);
    shape[leading + 2] = size;
    strides[leading + 2] = size == 1 ? 0 : step;

    return xt::adapt(view.data, detail::element_count(shape), xt::no_ownership(), shape, strides);
}

} // namespace scaledot::inline SCALEDOT_BUILD

#endif
