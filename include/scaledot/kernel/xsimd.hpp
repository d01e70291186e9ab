// SPDX-License-Identifier: BSD-3-Clause
// xsimd, without the false alarms of g++ 12: its AVX-512 intrinsics start from registers that are undefined on purpose,
// and -Wuninitialized reports them in whatever includes them (GCC bug 105593).
#ifndef SCALEDOT_KERNEL_XSIMD_HPP
#define SCALEDOT_KERNEL_XSIMD_HPP

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

#include <xsimd/xsimd.hpp>

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

#endif
