// SPDX-License-Identifier: BSD-3-Clause
#include <scaledot/kernel/sixteenths.hpp>

#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <cstddef>
#include <limits>

using namespace scaledot::kernel;
using arch = scaledot::native_architecture;

namespace {

/// Uses of use(index, lane by lane), with all kinds of bits above the lowest four.
template <class T, class Use>
void for_each_index(const Use& use)
{
    std::array<bits_of<T>, lanes<arch, T>> index;
    for (int round = 0; round < 40; ++round) {
        for (std::size_t i = 0; i < index.size(); ++i) {
            index[i] = static_cast<bits_of<T>>(7 * round * (i % 2 ? 1 : -1)) + static_cast<bits_of<T>>(3 * i);
        }
        use(index);
    }
}

template <class E, class B>
std::array<E, B::size> lanes_of(const B& x)
{
    std::array<E, B::size> all;
    x.store_unaligned(all.data());
    return all;
}

} // namespace

TEST_CASE_TEMPLATE("sixteenth: entry index mod 16 of a table, in each lane", T, float, double)
{
    for_each_index<T>([](const auto& index) {
        const auto at = batch<arch, bits_of<T>>::load_unaligned(index.data());
        const auto bits = lanes_of<bits_of<T>>(sixteenth<T>(sixteenth_bits<T>, at));
        const auto powers = lanes_of<T>(sixteenth<T>(sixteenth_powers<T>, at));
        for (std::size_t i = 0; i < index.size(); ++i) {
            const auto entry = static_cast<std::size_t>(index[i] & 15);
            CHECK(bits[i] == sixteenth_bits<T>[entry]);
            CHECK(powers[i] == sixteenth_powers<T>[entry]);
        }
    });
}

TEST_CASE_TEMPLATE("sixteenth_powers: 2^(j/16), rounded", T, float, double)
{
    for (std::size_t j = 0; j < 16; ++j) {
        const long double exact = std::exp2(static_cast<long double>(j) / 16);
        const auto error = std::abs(static_cast<long double>(sixteenth_powers<T>[j]) - exact);
        CHECK(error <= static_cast<long double>(std::numeric_limits<T>::epsilon()) * 0.5001L);
    }
}

TEST_CASE_TEMPLATE("scaled_by_power: x * 2^floor(n)", T, float, double)
{
    using B = batch<arch, T>;
    if constexpr (has_scaling<B>) {
        for (const T n : {T(-60), T(-0.5), T(0), T(0.9), T(33)}) {
            for (const T x : sixteenth_powers<T>) {
                for (const T scaled : lanes_of<T>(scaled_by_power(B(x), B(n)))) {
                    CHECK(scaled == std::ldexp(x, static_cast<int>(std::floor(n))));
                }
            }
        }
    }
}
