// SPDX-License-Identifier: BSD-3-Clause
// The largest numbers of a row that lies along the vectors.
#ifndef SCALEDOT_KERNEL_LARGEST_HPP
#define SCALEDOT_KERNEL_LARGEST_HPP

#include <scaledot/detail/config.hpp>
#include <scaledot/kernel/simd.hpp>
#include <scaledot/kernel/unroll.hpp>

#include <algorithm>
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

/// The largest number below `limit` in each lane, -inf where there is none.
template <class Arch, class T, class S>
batch<Arch, T> largest_below(const S* x, std::size_t length, T limit)
{
    using B = batch<Arch, T>;
    constexpr std::size_t width = lanes<Arch, T>;
    const B none(negative_infinity<T>);
    std::array<B, 2> largest{none, none};
    const auto below = [&](const B& v) { return B(xsimd::select(v < B(limit), v, none)); };
    std::size_t i = 0;
    for (; i + 2 * width <= length; i += 2 * width) {
        largest[0] = larger(largest[0], below(load_vector<Arch, T>(x + i)));
        largest[1] = larger(largest[1], below(load_vector<Arch, T>(x + i + width)));
    }
    for (; i < length; i += width) {
        largest[0] = larger(largest[0], below(load_some<Arch, T>(x + i, std::min(width, length - i))));
    }
    return larger(largest[0], largest[1]);
}

} // namespace scaledot::inline SCALEDOT_BUILD::kernel
SCALEDOT_KERNELS_END

#endif
