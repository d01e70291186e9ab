// SPDX-License-Identifier: BSD-3-Clause
// The largest number of a row that lies along the vectors.
#ifndef SCALEDOT_KERNEL_LARGEST_HPP
#define SCALEDOT_KERNEL_LARGEST_HPP

#include <scaledot/detail/config.hpp>
#include <scaledot/kernel/simd.hpp>
#include <scaledot/kernel/unroll.hpp>

#include <array>
#include <cstddef>

SCALEDOT_KERNELS_BEGIN
namespace scaledot::inline SCALEDOT_BUILD::kernel {

/// The largest number of a row in each lane, -inf where there is none. NaN among them may or may not be it.
template <class Arch, class T, class S>
[[gnu::always_inline]] inline batch<Arch, T> largest_in_lanes(const S* x, std::size_t length)
{
    using B = batch<Arch, T>;
    constexpr std::size_t width = lanes<Arch, T>;
    constexpr std::size_t chains = 4; // a maximum waits some cycles for the one before
    std::array<B, chains> largest;
    largest.fill(B(negative_infinity<T>));
    std::size_t i = 0;
    for (; i + chains * width <= length; i += chains * width) {
        unroll<chains>([&](auto c) __attribute__((always_inline)) {
            largest[c] = larger(largest[c], load_vector<Arch, T>(x + i + c * width));
        });
    }
    for (; i + width <= length; i += width) {
        largest[0] = larger(largest[0], load_vector<Arch, T>(x + i));
    }
    if (i < length) {
        largest[1] = larger(largest[1], load_partial<Arch, T>(x + i, length - i, negative_infinity<T>));
    }
    return larger(larger(largest[0], largest[1]), larger(largest[2], largest[3]));
}

} // namespace scaledot::inline SCALEDOT_BUILD::kernel
SCALEDOT_KERNELS_END

#endif
