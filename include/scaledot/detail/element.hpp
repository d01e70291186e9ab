// SPDX-License-Identifier: BSD-3-Clause
// Which element types scaledot computes with: float, double, and half and bfloat16 as storage of float arithmetic.
#ifndef SCALEDOT_DETAIL_ELEMENT_HPP
#define SCALEDOT_DETAIL_ELEMENT_HPP

#include <scaledot/bfloat16.hpp>
#include <scaledot/detail/config.hpp>
#include <scaledot/detail/half.hpp>

#include <concepts>
#include <type_traits>

namespace scaledot::inline SCALEDOT_BUILD::detail {

template <class T>
concept element =
    std::same_as<T, float> || std::same_as<T, double> || std::same_as<T, xtl::half_float> || std::same_as<T, bfloat16>;

/// The type arithmetic on the given element types is done in: double as soon as one of them is double, else float.
template <element... T>
using arithmetic_t = std::conditional_t<(std::same_as<T, double> || ...), double, float>;

} // namespace scaledot::inline SCALEDOT_BUILD::detail

#endif
