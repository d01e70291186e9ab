// SPDX-License-Identifier: BSD-3-Clause
// xtl::half_float. Up to xtl 0.7 its header has a function that throws, which does not compile without exceptions:
// nothing calls it, so there it is read with `throw` taken out, after what it includes.
#ifndef SCALEDOT_DETAIL_HALF_HPP
#define SCALEDOT_DETAIL_HALF_HPP

#include <xtl/xtl_config.hpp>

#if !defined(__cpp_exceptions) && XTL_VERSION_MAJOR == 0 && XTL_VERSION_MINOR < 8
#include <algorithm>
#include <cfenv>
#include <climits>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <istream>
#include <limits>
#include <ostream>
#include <stdexcept>
#include <type_traits>
#include <utility>
#if defined(__F16C__)
#include <immintrin.h>
#endif
#include <xtl/xtype_traits.hpp>

#if defined(__clang__)
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wkeyword-macro"
#endif
#define throw (void)
#include <xtl/xhalf_float.hpp>
#undef throw
#if defined(__clang__)
#pragma clang diagnostic pop
#endif
#else
#include <xtl/xhalf_float.hpp>
#endif

#endif
