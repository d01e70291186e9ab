// SPDX-License-Identifier: BSD-3-Clause
// Leave to use AMX's tile registers, which add 8 KiB to the state of a thread.
#ifndef SCALEDOT_DETAIL_TILE_PERMISSION_HPP
#define SCALEDOT_DETAIL_TILE_PERMISSION_HPP

#include <scaledot/detail/config.hpp>

#if defined(__linux__) && defined(__x86_64__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace scaledot::inline SCALEDOT_BUILD::detail {

/// Whether this process may use tile registers. Linux wants to be asked, once for all threads; it says no where it is
/// older than 5.16, where the processor has none, and where a thread's signal stack is too small for them; once it has
/// said yes, it refuses such stacks.
inline bool tiles_are_permitted()
{
#if defined(__linux__) && defined(__x86_64__)
    static const bool permitted = [] {
        constexpr long request_permission = 0x1023; // ARCH_REQ_XCOMP_PERM, of asm/prctl.h
        constexpr long tile_data = 18;              // XFEATURE_XTILEDATA
        return ::syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
    }();
    return permitted;
#else
    return false;
#endif
}

} // namespace scaledot::inline SCALEDOT_BUILD::detail

#endif
