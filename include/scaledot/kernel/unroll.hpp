// SPDX-License-Identifier: BSD-3-Clause
// Loops the compiler has to unroll, because their index names registers.
#ifndef SCALEDOT_KERNEL_UNROLL_HPP
#define SCALEDOT_KERNEL_UNROLL_HPP

#include <scaledot/detail/config.hpp>

#include <array>
#include <cstddef>
#include <type_traits>
#include <utility>

namespace scaledot::inline SCALEDOT_BUILD::kernel {

template <class Body, std::size_t... I>
[[gnu::always_inline]] inline void unroll_indices(Body& body, std::index_sequence<I...>)
{
    (body(std::integral_constant<std::size_t, I>{}), ...);
}

/// body(0), body(1), ..., body(Count - 1), the index a constant each time.
template <std::size_t Count, class Body>
[[gnu::always_inline]] inline void unroll(Body&& body)
{
    unroll_indices(body, std::make_index_sequence<Count>{});
}

template <std::size_t... I, class X>
[[gnu::always_inline]] inline std::array<X, sizeof...(I)> filled_at(const X& x, std::index_sequence<I...>)
{
    return {(static_cast<void>(I), x)...};
}

/// Count times x, without a loop: compilers that do not unroll would keep what a loop fills in memory.
template <std::size_t Count, class X>
[[gnu::always_inline]] inline std::array<X, Count> filled(const X& x)
{
    return filled_at(x, std::make_index_sequence<Count>{});
}

} // namespace scaledot::inline SCALEDOT_BUILD::kernel

#endif
