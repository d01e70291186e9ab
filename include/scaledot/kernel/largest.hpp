// SPDX-License-Identifier: BSD-3-Clause
// The largest number of a row that lies along the vectors.
#ifndef SCALEDOT_KERNEL_LARGEST_HPP
#define SCALEDOT_KERNEL_LARGEST_HPP

#include <scaledot/detail/config.hpp>
#include <scaledot/kernel/choice.hpp>
#include <scaledot/kernel/partial_vectors.hpp>
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
    const auto load = [&](std::size_t i) __attribute__((always_inline))
    {
        return load_vector<Arch, T>(x + i);
    };
    B largest(negative_infinity<T>);
    std::size_t i = 0;
    if (length >= chains * width) {
        std::array<B, chains> of_chain;
        unroll<chains>([&](auto c) __attribute__((always_inline)) { of_chain[c] = load(c * width); });
        for (i = chains * width; i + chains * width <= length; i += chains * width) {
            unroll<chains>([&](auto c) __attribute__((always_inline)) {
                of_chain[c] = larger(of_chain[c], load(i + c * width));
            });
        }
        largest = larger(larger(of_chain[0], of_chain[1]), larger(of_chain[2], of_chain[3]));
    }
    for (; i + width <= length; i += width) {
        largest = larger(largest, load(i));
    }
    return i < length ? larger(largest, load_partial<Arch, T>(x + i, length - i, negative_infinity<T>)) : largest;
}

} // namespace scaledot::inline SCALEDOT_BUILD::kernel
SCALEDOT_KERNELS_END

#endif
