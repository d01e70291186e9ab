// SPDX-License-Identifier: BSD-3-Clause
// The instantiations of attention that several tests share: compiled once for all, in attention_instances.cpp, since
// they take far longer than the tests. Every program of tests/CMakeLists.txt that uses them is compiled as if it began
// with this header.
#pragma once

#include <scaledot/detail/attention_driver.hpp>
#include <scaledot/detail/element.hpp>

#include <xtl/xhalf_float.hpp>

#ifndef SCALEDOT_ATTENTION_INSTANCE
#define SCALEDOT_ATTENTION_INSTANCE extern template
#endif

#define SCALEDOT_ATTENTION_OF(T, Q, K, V) SCALEDOT_ATTENTION_ON(native_architecture, T, Q, K, V)
#define SCALEDOT_ATTENTION_ON(Arch, T, Q, K, V)                                                                        \
    SCALEDOT_ATTENTION_INSTANCE void drive_attention<Arch, T, Q, K, V>(                                                \
        const attention_plan&, const head_view<const Q>&, const head_view<const K>&, const head_view<const V>&, bool,  \
        bool, const row_receiver<T>&)

namespace scaledot::inline SCALEDOT_BUILD::detail {

SCALEDOT_ATTENTION_OF(float, float, float, float);
SCALEDOT_ATTENTION_OF(double, double, double, double);
SCALEDOT_ATTENTION_OF(float, bfloat16, bfloat16, bfloat16);
#if defined(SCALEDOT_MULTIPLIES_TILES)
SCALEDOT_ATTENTION_ON(tile_architecture, float, bfloat16, bfloat16, bfloat16);
#endif
SCALEDOT_ATTENTION_OF(float, xtl::half_float, xtl::half_float, xtl::half_float);
SCALEDOT_ATTENTION_OF(float, float, bfloat16, bfloat16);
SCALEDOT_ATTENTION_OF(float, float, xtl::half_float, xtl::half_float);

} // namespace scaledot::inline SCALEDOT_BUILD::detail
