// SPDX-License-Identifier: BSD-3-Clause
#include <scaledot/kernel/bfloat16_pairs.hpp>

#include <doctest/doctest.h>

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <random>
#include <vector>

namespace sd = scaledot;
using namespace scaledot::kernel;
using arch = sd::native_architecture;
using F = batch<arch, float>;
using pairs = bfloat16_pairs<arch>;

TEST_CASE("bfloat16_pairs: numbers at even and at odd places, and back, rounded to nearest, ties to even")
{
    std::vector<std::uint32_t> bits{0, 0x80000000u, 1, 0x7f7fffffu, 0xff7fffffu, 0x7f7f7fffu, 0x7f800000u, 0xff800000u};
    for (const std::uint32_t upper :
         {0x3f80u, 0x3f81u, 0xbf80u, 0xbf81u, 0x0000u, 0x0001u, 0x007fu, 0x3fffu, 0x7f7fu}) {
        for (const std::uint32_t lower : {0u, 1u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu}) {
            bits.push_back(upper << 16 | lower);
        }
    }
    std::mt19937 generator(1);
    while (bits.size() < 4000 || bits.size() % pairs::size != 0) {
        const auto any = static_cast<std::uint32_t>(generator());
        if ((any & 0x7f800000u) != 0x7f800000u) {
            bits.push_back(any);
        }
    }
    for (std::size_t i = 0; i < bits.size(); i += pairs::size) {
        alignas(64) std::array<float, F::size> even;
        alignas(64) std::array<float, F::size> odd;
        for (std::size_t k = 0; k < F::size; ++k) {
            even[k] = std::bit_cast<float>(bits[i + 2 * k]);
            odd[k] = std::bit_cast<float>(bits[i + 2 * k + 1]);
        }
        std::array<sd::bfloat16, pairs::size> rounded;
        pairs(F::load_aligned(even.data()), F::load_aligned(odd.data())).store(rounded.data());
        for (std::size_t k = 0; k < pairs::size; ++k) {
            CHECK(rounded[k].bits() == sd::bfloat16(std::bit_cast<float>(bits[i + k])).bits());
        }
        const pairs again(rounded.data());
        again.even().store_aligned(even.data());
        again.odd().store_aligned(odd.data());
        for (std::size_t k = 0; k < F::size; ++k) {
            CHECK(std::bit_cast<std::uint32_t>(even[k]) == std::uint32_t{rounded[2 * k].bits()} << 16);
            CHECK(std::bit_cast<std::uint32_t>(odd[k]) == std::uint32_t{rounded[2 * k + 1].bits()} << 16);
        }
    }
}

TEST_CASE("bfloat16_pairs: NaN that arithmetic makes stays NaN")
{
    const F nan(std::bit_cast<float>(0xffc00000u));
    std::array<sd::bfloat16, pairs::size> rounded;
    pairs(nan, negated(nan)).store(rounded.data());
    for (const sd::bfloat16 x : rounded) {
        CHECK((x.bits() & 0x7fff) == 0x7fc0);
    }
}

TEST_CASE("bfloat16_pairs: the first few are read and written, and nothing beside them")
{
    for (std::size_t count = 1; count < pairs::size; ++count) {
        // exactly so many on the heap, for the address sanitizer to watch the end
        const auto x = std::make_unique<sd::bfloat16[]>(count);
        const auto y = std::make_unique<sd::bfloat16[]>(count);
        for (std::size_t i = 0; i < count; ++i) {
            x[i] = sd::bfloat16(static_cast<float>(i + 1));
        }
        const pairs some = pairs::first(x.get(), count);
        std::array<sd::bfloat16, pairs::size> all;
        some.store(all.data());
        some.store_first(y.get(), count);
        for (std::size_t i = 0; i < pairs::size; ++i) {
            CHECK(static_cast<float>(all[i]) == (i < count ? static_cast<float>(i + 1) : 0.0f));
            if (i < count) {
                CHECK(static_cast<float>(y[i]) == static_cast<float>(i + 1));
            }
        }
    }
}
