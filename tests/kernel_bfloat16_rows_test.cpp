// SPDX-License-Identifier: BSD-3-Clause
#include <scaledot/kernel/bfloat16_rows.hpp>
#include <scaledot/kernel/norm_rows.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <random>
#include <type_traits>
#include <vector>

#include <xtl/xhalf_float.hpp>

namespace sd = scaledot;
using namespace scaledot::kernel;
using arch = sd::native_architecture;
using F = batch<arch, float>;
using pairs = bfloat16_pairs<arch>;

namespace {

std::uint16_t bits_of_bfloat16(sd::bfloat16 x)
{
    return std::bit_cast<std::uint16_t>(x);
}

/// parameter as pairs, and room behind for no more than whole pairs of vectors.
template <class P>
std::unique_ptr<float[], void (*)(float*)> ordered(const std::vector<P>& parameter, std::size_t count,
                                                   float absent_value)
{
    const std::size_t room = (count + pairs::size - 1) / pairs::size * pairs::size;
    std::unique_ptr<float[], void (*)(float*)> result(new (std::align_val_t{64}) float[room],
                                                      [](float* x) { ::operator delete[](x, std::align_val_t{64}); });
    if (parameter.empty()) {
        order_as_pairs<arch, absent>(result.get(), nullptr, count, absent_value);
    } else {
        order_as_pairs<arch>(result.get(), parameter.data(), count, absent_value);
    }
    return result;
}

} // namespace

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
            CHECK(bits_of_bfloat16(rounded[k]) == bits_of_bfloat16(sd::bfloat16(std::bit_cast<float>(bits[i + k]))));
        }
        const pairs again(rounded.data());
        again.even().store_aligned(even.data());
        again.odd().store_aligned(odd.data());
        for (std::size_t k = 0; k < F::size; ++k) {
            CHECK(std::bit_cast<std::uint32_t>(even[k]) == std::uint32_t{bits_of_bfloat16(rounded[2 * k])} << 16);
            CHECK(std::bit_cast<std::uint32_t>(odd[k]) == std::uint32_t{bits_of_bfloat16(rounded[2 * k + 1])} << 16);
        }
    }
}

TEST_CASE("bfloat16_pairs: NaN that arithmetic makes stays NaN")
{
    const F nan(std::bit_cast<float>(0xffc00000u));
    std::array<sd::bfloat16, pairs::size> rounded;
    pairs(nan, negated(nan)).store(rounded.data());
    for (const sd::bfloat16 x : rounded) {
        CHECK((bits_of_bfloat16(x) & 0x7fff) == 0x7fc0);
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

TEST_CASE_TEMPLATE("order_as_pairs: of as many neighbours as two vectors hold the even ones come first", P, float,
                   xtl::half_float, sd::bfloat16)
{
    for (const std::size_t count : {std::size_t{1}, F::size, pairs::size, 3 * pairs::size - 1, 3 * pairs::size + 5}) {
        std::vector<P> parameter(count);
        for (std::size_t i = 0; i < count; ++i) {
            parameter[i] = P(static_cast<float>(i % 100));
        }
        const auto result = ordered(parameter, count, 7.0f);
        const auto none = ordered(std::vector<P>{}, count, 7.0f);
        for (std::size_t i = 0; i < count; ++i) {
            const std::size_t in_pairs = i % pairs::size;
            const std::size_t place = i - in_pairs + in_pairs % 2 * F::size + in_pairs / 2;
            CHECK(result[place] == static_cast<float>(i % 100));
            CHECK(none[place] == 7.0f);
        }
    }
}

TEST_CASE("order_as_pairs: NaN comes without the payload that rounding would carry away")
{
    std::vector<float> parameter(pairs::size + 3, 2.0f);
    for (std::size_t i = 0; i < parameter.size(); i += 3) {
        parameter[i] = std::bit_cast<float>(i % 2 == 0 ? 0x7fffffffu : 0xff800001u);
    }
    const auto result = ordered(parameter, parameter.size(), 0.0f);
    for (std::size_t i = 0; i < parameter.size(); ++i) {
        const std::size_t in_pairs = i % pairs::size;
        const auto bits = std::bit_cast<std::uint32_t>(result[i - in_pairs + in_pairs % 2 * F::size + in_pairs / 2]);
        CHECK(bits == (i % 3 == 0 ? 0x7fc00000u : std::bit_cast<std::uint32_t>(2.0f)));
    }
}

TEST_CASE("bfloat16_output: the bits of row_output at every length, in place or not")
{
    row_normalizations<arch> n{};
    n.mean[1] = 0.3f;
    n.offset[1] = 1e-9f;
    n.inverse[1] = 1.7f;
    std::mt19937 generator(2);
    std::normal_distribution<float> normal(0.3f, 0.6f);
    for (std::size_t count = 1; count <= 3 * pairs::size + 1; ++count) {
        const auto x = std::make_unique<sd::bfloat16[]>(count);
        const auto y = std::make_unique<sd::bfloat16[]>(count);
        const auto expected = std::make_unique<sd::bfloat16[]>(count);
        std::vector<float> gamma(count);
        std::vector<sd::bfloat16> beta(count);
        for (std::size_t i = 0; i < count; ++i) {
            x[i] = sd::bfloat16(i % 7 == 0 ? 0.0f : normal(generator));
            gamma[i] = i % 5 == 0 ? -0.0f : normal(generator);
            beta[i] = sd::bfloat16(i % 11 == 0 ? 0.0f : normal(generator));
        }
        const auto check = [&]<bool Centred>(const auto* g, const auto* b, const float* ordered_gamma,
                                             const float* ordered_beta) {
            row_output<arch, Centred, store_kind::cached, sd::bfloat16, sd::bfloat16, std::remove_cvref_t<decltype(*g)>,
                       std::remove_cvref_t<decltype(*b)>>(expected.get(), x.get(), g, b, count, n, 1)
                .finish();
            const auto write = [&](sd::bfloat16* to, const sd::bfloat16* from) {
                bfloat16_output<arch, Centred>(to, from, ordered_gamma, ordered_beta, count, n, 1).finish();
                for (std::size_t i = 0; i < count; ++i) {
                    CHECK(bits_of_bfloat16(to[i]) == bits_of_bfloat16(expected[i]));
                }
            };
            write(y.get(), x.get());
            std::copy_n(x.get(), count, y.get());
            write(y.get(), y.get());
        };
        constexpr const absent* none = nullptr;
        const auto paired_gamma = ordered(gamma, count, 1.0f);
        const auto paired_beta = ordered(beta, count, -0.0f);
        const auto ones = ordered(std::vector<float>{}, count, 1.0f);
        const auto zeros = ordered(std::vector<float>{}, count, -0.0f);
        check.template operator()<true>(gamma.data(), beta.data(), paired_gamma.get(), paired_beta.get());
        check.template operator()<true>(gamma.data(), none, paired_gamma.get(), zeros.get());
        check.template operator()<true>(none, none, ones.get(), zeros.get());
        check.template operator()<false>(gamma.data(), none, paired_gamma.get(), zeros.get());
        check.template operator()<false>(none, none, ones.get(), zeros.get());
    }
}
