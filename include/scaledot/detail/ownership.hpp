// SPDX-License-Identifier: BSD-3-Clause
// Whether an expression dies with its elements: containers do, views and adaptors of something else do not.
#ifndef SCALEDOT_DETAIL_OWNERSHIP_HPP
#define SCALEDOT_DETAIL_OWNERSHIP_HPP

#include <scaledot/detail/config.hpp>
#include <scaledot/detail/xtensor.hpp>

#include <cstddef>
#include <type_traits>

namespace scaledot::inline SCALEDOT_BUILD::detail {

/// True for containers; views and adaptors own what they were given by value.
template <class E>
inline constexpr bool owns_elements = true;

/// A buffer that was given to an adaptor: by reference, or as a pointer that others free.
template <class Buffer>
inline constexpr bool owns_buffer = true;
template <class Buffer>
inline constexpr bool owns_buffer<Buffer&> = false;
template <class Pointer, class Allocator>
inline constexpr bool owns_buffer<xt::xbuffer_adaptor<Pointer, xt::no_ownership, Allocator>> = false;

template <class Buffer, xt::layout_type L, class Shape, class Tag>
inline constexpr bool owns_elements<xt::xarray_adaptor<Buffer, L, Shape, Tag>> = owns_buffer<Buffer>;
template <class Buffer, std::size_t N, xt::layout_type L, class Tag>
inline constexpr bool owns_elements<xt::xtensor_adaptor<Buffer, N, L, Tag>> = owns_buffer<Buffer>;

/// A closure that a view holds: a reference to something with a name, or an expression of its own.
template <class Closure>
inline constexpr bool owns_closure = owns_elements<std::remove_const_t<Closure>>;
template <class Closure>
inline constexpr bool owns_closure<Closure&> = false;

template <class Closure, class... Slices>
inline constexpr bool owns_elements<xt::xview<Closure, Slices...>> = owns_closure<Closure>;
template <class Closure, class Shape, xt::layout_type L, class Storage>
inline constexpr bool owns_elements<xt::xstrided_view<Closure, Shape, L, Storage>> = owns_closure<Closure>;

} // namespace scaledot::inline SCALEDOT_BUILD::detail

#endif
