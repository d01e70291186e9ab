// SPDX-License-Identifier: BSD-3-Clause
#include <scaledot/kernel/step.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <random>
#include <type_traits>
#include <vector>

namespace sd = scaledot;
using namespace scaledot::kernel;
using arch = sd::native_architecture;

namespace {

template <class T, class V>
auto values_of(const V& x)
{
    std::array<T, V::size> values;
    x.store_unaligned(values.data());
    return values;
}

template <class T>
std::vector<T> gaussians(std::size_t count, unsigned seed)
{
    std::mt19937_64 engine(seed);
    std::normal_distribution<double> normal;
    std::vector<T> x(count);
    std::generate(x.begin(), x.end(), [&] { return static_cast<T>(normal(engine)); });
    return x;
}

} // namespace

TEST_CASE_TEMPLATE("number_step: a broadcast number times a vector plus a vector, rounded once where the machine can",
                   T, float, double)
{
    using step = number_step<arch, T>;
    static_assert(step::depth == 1 && step::lanes == lanes<arch, T>);
    for (unsigned seed = 0; seed < 100; ++seed) {
        const auto x = gaussians<T>(3 * step::lanes + 1, seed);
        const auto right = step::load(&x[1]);
        const auto sum = step::load(&x[1 + step::lanes]);
        const auto result = values_of<T>(step::multiply_add(step::broadcast(&x[0]), right, sum));
        for (std::size_t i = 0; i < step::lanes; ++i) {
            const T expected = fused<typename step::vector>
                                   ? std::fma(x[0], x[1 + i], x[1 + step::lanes + i])
                                   : barrier(T(barrier(T(x[0] * x[1 + i])) + x[1 + step::lanes + i]));
            REQUIRE(result[i] == expected);
        }
    }
}

TEST_CASE_TEMPLATE("number_step: without puts 0 in the place of an excluded key's numbers, NaN too", T, float, double)
{
    using step = number_step<arch, T>;
    const bool yes = true;
    const bool no = false;
    CHECK(values_of<T>(step::without(typename step::vector(T(3)), &no))[0] == T(3));
    for (const T x : {T(3), barrier(quiet_nan<T>()), barrier(infinity<T>)}) {
        for (const T value : values_of<T>(step::without(typename step::vector(x), &yes))) {
            CHECK(std::bit_cast<bits_of<T>>(value) == 0);
        }
    }
}

TEST_CASE_TEMPLATE("number_step: weights are stored as they are, the first of them scaled", T, float, double)
{
    using step = number_step<arch, T>;
    const auto x = gaussians<T>(step::lanes, 1);
    std::vector<T> row(3 * step::lanes, T(99));
    const auto weights = step::load(x.data());
    CHECK(values_of<T>(step::store_weights(row.data(), step::lanes, weights)) == values_of<T>(weights));
    step::scale_weights(row.data() + step::lanes, step::lanes - 1, T(0.25));
    for (std::size_t j = 0; j < row.size(); ++j) {
        const bool stored = j >= step::lanes && j < 2 * step::lanes;
        const T factor = j == 2 * step::lanes - 1 ? T(1) : T(0.25);
        CHECK(row[j] == (stored ? x[j - step::lanes] * factor : T(99)));
    }
}

TEST_CASE("step_for_t: pairs only of bfloat16 with bfloat16, in float, where the machine multiplies them")
{
    using half = xtl::half_float;
    using bf16 = sd::bfloat16;
    using without_pairs = sd::architecture<arch::simd, sd::bfloat16_product::widened>;
    CHECK(std::is_same_v<step_for_t<arch, float, float, float>, number_step<arch, float>>);
    CHECK(std::is_same_v<step_for_t<arch, float, half, half>, number_step<arch, float>>);
    CHECK(std::is_same_v<step_for_t<arch, float, bf16, float>, number_step<arch, float>>);
    CHECK(std::is_same_v<step_for_t<arch, float, float, bf16>, number_step<arch, float>>);
    CHECK(std::is_same_v<step_for_t<arch, float, half, bf16>, number_step<arch, float>>);
    CHECK(std::is_same_v<step_for_t<arch, double, double, double>, number_step<arch, double>>);
    CHECK(std::is_same_v<step_for_t<arch, double, bf16, bf16>, number_step<arch, double>>);
    CHECK(std::is_same_v<step_for_t<without_pairs, float, bf16, bf16>, number_step<without_pairs, float>>);
#if defined(__AVX512BF16__)
    using with_pairs = sd::architecture<arch::simd, sd::bfloat16_product::pairs>;
    using with_tiles = sd::tile_architecture;
    CHECK(std::is_same_v<step_for_t<with_pairs, float, bf16, bf16>, bfloat16_step<with_pairs>>);
    CHECK(std::is_same_v<step_for_t<with_tiles, float, bf16, bf16>, bfloat16_tile_step<with_tiles>>);
    CHECK(std::is_same_v<step_for_t<with_tiles, float, float, bf16>, number_step<with_tiles, float>>);
#endif
#if defined(SCALEDOT_MULTIPLIES_PAIRS)
    CHECK(std::is_same_v<step_for_t<arch, float, bf16, bf16>, bfloat16_step<arch>>);
#else
    CHECK(std::is_same_v<step_for_t<arch, float, bf16, bf16>, number_step<arch, float>>);
#endif
}

#if defined(__AVX512BF16__)
namespace {

using pair_step = bfloat16_step<arch>;
using pair = std::array<sd::bfloat16, 2>;

/// A sum of a number and two products, each of which is exact in float, rounds at most twice.
constexpr double rounding_of_a_step = 2 * 0x1p-24;

/// A bfloat16 that is a normal number, of a magnitude from 2^-20 to 2^20.
sd::bfloat16 random_bfloat16(std::mt19937_64& engine)
{
    std::uniform_real_distribution<float> exponent(-20, 20);
    std::normal_distribution<float> normal;
    return sd::bfloat16(std::copysign(std::exp2(exponent(engine)), normal(engine)));
}

float one_step(pair a, pair b, float c)
{
    const auto left = std::bit_cast<std::uint32_t>(a);
    std::array<std::uint32_t, pair_step::lanes> right;
    right.fill(std::bit_cast<std::uint32_t>(b));
    const auto result = values_of<float>(pair_step::multiply_add(
        pair_step::broadcast(&left), pair_step::load(right.data()), pair_step::sum(barrier(c))));
    for (const float lane : result) {
        REQUIRE(std::bit_cast<std::uint32_t>(lane) == std::bit_cast<std::uint32_t>(result[0]));
    }
    return result[0];
}

} // namespace

TEST_CASE("bfloat16_step: c + a0 b0 + a1 b1, each lane with its own, with exact products and at most two roundings")
{
    std::mt19937_64 engine(7);
    double worst = 0;
    for (int repetition = 0; repetition < 2000; ++repetition) {
        const pair a = {random_bfloat16(engine), random_bfloat16(engine)};
        std::array<pair, pair_step::lanes> b;
        std::array<float, pair_step::lanes> c;
        for (std::size_t i = 0; i < pair_step::lanes; ++i) {
            b[i] = {random_bfloat16(engine), random_bfloat16(engine)};
            c[i] = i % 4 == 0   ? 0
                   : i % 4 == 1 ? -float(a[0]) * float(b[i][0])
                                : float(random_bfloat16(engine)) * 1.001f;
        }
        const auto left = std::bit_cast<std::uint32_t>(a);
        const auto right = std::bit_cast<std::array<std::uint32_t, pair_step::lanes>>(b);
        const auto result = values_of<float>(pair_step::multiply_add(
            pair_step::broadcast(&left), pair_step::load(right.data()), pair_step::sum::load_unaligned(c.data())));
        for (std::size_t i = 0; i < pair_step::lanes; ++i) {
            // long double adds numbers of 16 to 24 bits within 2^80 of each other to many more bits than float has
            const long double first = static_cast<long double>(float(a[0])) * float(b[i][0]);
            const long double second = static_cast<long double>(float(a[1])) * float(b[i][1]);
            const auto exact = static_cast<double>(first + second + c[i]);
            const auto magnitude = static_cast<double>(std::abs(first) + std::abs(second) + std::abs(c[i]));
            worst = std::max(worst, std::abs(static_cast<double>(result[i]) - exact) / magnitude);
        }
    }
    MESSAGE("bfloat16_step: ", worst / rounding_of_a_step, " of the bound");
    CHECK(worst <= rounding_of_a_step);
}

TEST_CASE("bfloat16_step: subnormal numbers count as 0, infinities and NaN as themselves")
{
    const sd::bfloat16 one(1.f), zero(0.f), huge(0x1p100f);
    const auto subnormal = sd::bfloat16::from_bits(0x007f);
    CHECK(one_step({subnormal, zero}, {huge, zero}, 0) == 0);
    CHECK(one_step({huge, huge}, {subnormal, subnormal}, 3) == 3);
    CHECK(one_step({sd::bfloat16(0x1p-100f), zero}, {sd::bfloat16(0x1p-40f), zero}, 0) == 0); // nor do they result
    CHECK(one_step({sd::bfloat16(0x1p-100f), zero}, {sd::bfloat16(0x1p-26f), zero}, 0) == 0x1p-126f);
    const auto infinite = sd::bfloat16::from_bits(0x7f80);
    const auto nan = sd::bfloat16::from_bits(0x7fc0);
    CHECK(std::bit_cast<std::int32_t>(one_step({one, zero}, {infinite, one}, 1)) == exponent_mask<float>);
    for (const pair& b : {pair{nan, one}, pair{one, nan}, pair{one, infinite}}) {
        CHECK(std::bit_cast<std::int32_t>(std::abs(one_step({one, zero}, b, 1))) > exponent_mask<float>); // 0 * inf
    }
}

TEST_CASE("bfloat16_step: without puts 0 in the place of each excluded key's numbers")
{
    const pair numbers = {sd::bfloat16::from_bits(0xffc1), sd::bfloat16::from_bits(0x7f80)}; // NaN and infinity
    for (const bool first : {false, true}) {
        for (const bool second : {false, true}) {
            const std::array excluded = {first, second};
            const pair_step::vector x(std::bit_cast<std::uint32_t>(numbers));
            for (const std::uint32_t lane : values_of<std::uint32_t>(pair_step::without(x, excluded.data()))) {
                const auto left = std::bit_cast<pair>(lane);
                CHECK(left[0].bits() == (first ? 0 : numbers[0].bits()));
                CHECK(left[1].bits() == (second ? 0 : numbers[1].bits()));
            }
        }
    }
}

TEST_CASE("bfloat16_step: weights are rounded to the nearest bfloat16, ties to even, and returned as they are written")
{
    std::vector<float> weights = {0, 1, 0x1p-126f, 0x1.fffffep-1f, 0x1.01p-3f, 0x1.03p-3f, 0x1.ffp-5f, 0x1.fefffep-5f};
    std::mt19937_64 engine(8);
    std::uniform_real_distribution<float> exponent(-125, 0);
    while (weights.size() < 4096) {
        const float weight = std::exp2(exponent(engine));
        const auto tie = (std::bit_cast<std::uint32_t>(weight) & 0xffff0000u) | 0x8000u;
        for (const std::uint32_t bits : {std::bit_cast<std::uint32_t>(weight), tie, tie - 1, tie + 1}) {
            weights.push_back(std::bit_cast<float>(bits));
        }
    }
    for (std::size_t first = 0; first < weights.size(); first += pair_step::lanes) {
        // Vector 2 of a row: its 16 weights are elements 16 to 23.
        std::array<std::uint32_t, 32> row;
        row.fill(0xdeadbeef);
        const auto returned = values_of<float>(
            pair_step::store_weights(row.data(), 32, pair_step::sum::load_unaligned(weights.data() + first)));
        for (std::size_t i = 0; i < row.size(); ++i) {
            const auto written = std::bit_cast<pair>(row[i]);
            if (i < 16 || i >= 24) {
                REQUIRE(row[i] == 0xdeadbeef);
                continue;
            }
            for (std::size_t k = 0; k < 2; ++k) {
                const std::size_t j = 2 * (i - 16) + k;
                const float weight = weights[first + j];
                // By distances, not by bits: both neighbours are a subtraction away.
                const auto below = std::bit_cast<float>(std::bit_cast<std::uint32_t>(weight) & 0xffff0000u);
                const auto above = std::bit_cast<float>(std::bit_cast<std::uint32_t>(below) + 0x10000u);
                const double down = static_cast<double>(weight) - static_cast<double>(below);
                const double up = static_cast<double>(above) - static_cast<double>(weight);
                const bool below_is_even = (std::bit_cast<std::uint32_t>(below) & 0x10000u) == 0;
                const float nearest = down < up || (down == up && below_is_even) ? below : above;
                REQUIRE(static_cast<float>(written[k]) == nearest);
                REQUIRE(returned[j] == nearest);
            }
        }
    }
    std::array<std::uint32_t, 8> row;
    const auto returned =
        values_of<float>(pair_step::store_weights(row.data(), 0, pair_step::sum(barrier(quiet_nan<float>()))));
    CHECK(std::bit_cast<std::int32_t>(returned[3]) > exponent_mask<float>);
}

TEST_CASE("bfloat16_step: scale_weights multiplies the first weights of a row, exactly by a power of two")
{
    std::array<pair, 16> row;
    std::mt19937_64 engine(9);
    std::generate(row.begin(), row.end(), [&] { return pair{random_bfloat16(engine), random_bfloat16(engine)}; });
    auto elements = std::bit_cast<std::array<std::uint32_t, 16>>(row);
    pair_step::scale_weights(elements.data(), 16, 0x1p-9f);
    const auto scaled = std::bit_cast<std::array<pair, 16>>(elements);
    for (std::size_t i = 0; i < row.size(); ++i) {
        for (std::size_t k = 0; k < 2; ++k) {
            CHECK(static_cast<float>(scaled[i][k]) == static_cast<float>(row[i][k]) * (i < 8 ? 0x1p-9f : 1.f));
        }
    }
}
#endif
