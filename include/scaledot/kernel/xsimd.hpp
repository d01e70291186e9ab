// SPDX-License-Identifier: BSD-3-Clause
// xsimd, and a pair of macros around our kernels against false alarms of g++ 12: its AVX-512 intrinsics start from
// registers that are undefined on purpose, and -Wuninitialized reports them wherever they are inlined (GCC bug 105593).
#ifndef SCALEDOT_KERNEL_XSIMD_HPP
#define SCALEDOT_KERNEL_XSIMD_HPP

#include <xsimd/xsimd.hpp>

#if defined(__GNUC__) && !defined(__clang__)
#define SCALEDOT_KERNELS_BEGIN                                                                                         \
    _Pragma("GCC diagnostic push") _Pragma("GCC diagnostic ignored \"-Wuninitialized\"")                               \
        _Pragma("GCC diagnostic ignored \"-Wmaybe-uninitialized\"")
#define SCALEDOT_KERNELS_END _Pragma("GCC diagnostic pop")
#else
#define SCALEDOT_KERNELS_BEGIN
#define SCALEDOT_KERNELS_END
#endif

#endif
