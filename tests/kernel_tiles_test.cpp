// SPDX-License-Identifier: BSD-3-Clause
#include <scaledot/detail/tile_permission.hpp>
#include <scaledot/kernel/tiles.hpp>

#include "support/bits.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <limits>
#include <random>
#include <type_traits>
#include <utility>
#include <vector>

namespace sd = scaledot;
using namespace scaledot::kernel;

TEST_CASE("tiles_are_permitted: the same answer each time, and yes only where there are tile registers")
{
    const bool permitted = sd::detail::tiles_are_permitted();
    CHECK(sd::detail::tiles_are_permitted() == permitted);
#if !defined(SCALEDOT_MULTIPLIES_TILES)
    MESSAGE("skipped: this build has no products in tiles");
#endif
}

#if defined(SCALEDOT_MULTIPLIES_TILES)
namespace {

using arch = sd::tile_architecture;
using step = bfloat16_tile_step<arch>;
using products = tile_products<step>;
using element = std::uint32_t;
using numbers = std::vector<sd::bfloat16>;

constexpr std::size_t depth = step::depth;
constexpr std::size_t keys_of_panel = register_tile<arch, float>::width;

/// Whether to go on; says so where not.
bool have_tiles()
{
    if (!sd::detail::tiles_are_permitted()) {
        MESSAGE("skipped: the system permits no tile registers");
        return false;
    }
    return true;
}

/// Of magnitudes from 2^-10 to 2^10; every so often 0, and `tiny` ones, whose products are subnormal.
numbers random_numbers(std::size_t count, unsigned seed, bool tiny = false)
{
    std::mt19937_64 engine(seed);
    std::uniform_real_distribution<float> exponent(-10, 10);
    std::normal_distribution<float> normal;
    numbers x(count);
    for (auto& number : x) {
        const auto kind = engine() % 16;
        const float lower = tiny && kind < 8 ? -120.0F : 0.0F;
        number = sd::bfloat16(kind == 15 ? 0.0F : std::copysign(std::exp2(exponent(engine) + lower), normal(engine)));
    }
    return x;
}

float flushed(float x)
{
    return std::abs(x) < std::numeric_limits<float>::min() ? std::copysign(0.0F, x) : x;
}

float multiply_add(float a, float b, float c)
{
    return flushed(std::fma(flushed(a), flushed(b), c));
}

/// sum + a b for `count` pairs, as the manual says a tile adds them; a multiple of 32 numbers each.
float dot(const sd::bfloat16* a, const sd::bfloat16* b, std::ptrdiff_t stride_b, std::size_t count, float sum)
{
    for (std::size_t first = 0; first < count; first += depth * tile_size) {
        std::array<float, depth> parts{};
        for (std::size_t i = first; i < first + depth * tile_size; ++i) {
            parts[i % depth] =
                multiply_add(static_cast<float>(a[i]), static_cast<float>(b[static_cast<std::ptrdiff_t>(i) * stride_b]),
                             parts[i % depth]);
        }
        sum = flushed(sum + flushed(parts[0] + parts[1]));
    }
    return sum;
}

/// Rows of numbers as elements, zeros up to whole tiles.
std::vector<element> packed_rows(const numbers& x, std::size_t rows, std::size_t size)
{
    const std::size_t steps = steps_of<step>(size);
    std::vector<element> packed(std::max(rows, tile_size) * steps, 0x7fc07fc0u); // NaN where there is no row
    for (std::size_t r = 0; r < rows; ++r) {
        pack_row<step>(x.data() + r * size, size, false, packed.data() + r * steps);
    }
    return packed;
}

numbers padded(const numbers& x, std::size_t rows, std::size_t size, std::size_t to_size)
{
    numbers result(rows * to_size);
    for (std::size_t r = 0; r < rows; ++r) {
        std::copy_n(x.data() + r * size, size, result.data() + r * to_size);
    }
    return result;
}

bool same(float a, float b)
{
    return test_support::equal_bits(&a, &b, 1);
}

template <std::size_t Vectors>
void check_scores(std::size_t head_size, bool tiny)
{
    const std::size_t steps = steps_of<step>(head_size);
    const numbers q = random_numbers(tile_size * head_size, 1, tiny);
    const numbers k = random_numbers(keys_of_panel * head_size, 2, tiny);
    const auto queries = packed_rows(q, tile_size, head_size);
    std::vector<element> panel(keys_of_panel * steps);
    pack_keys<step, float>(k.data(), static_cast<std::ptrdiff_t>(head_size), keys_of_panel, head_size, panel.data());
    std::vector<float> scores(tile_size * block_keys, 99);
    {
        const tile_registers registers;
        products::score<Vectors>(queries.data(), steps, panel.data(), steps, scores.data(), block_keys);
    }
    const numbers wide_q = padded(q, tile_size, head_size, depth * steps);
    const numbers wide_k = padded(k, keys_of_panel, head_size, depth * steps);
    for (std::size_t r = 0; r < tile_size; ++r) {
        for (std::size_t j = 0; j < block_keys; ++j) {
            const bool computed = j < Vectors * tile_size;
            const float expected = computed ? dot(wide_q.data() + r * depth * steps, wide_k.data() + j * depth * steps,
                                                  1, depth * steps, 0)
                                            : 99.0F;
            REQUIRE(same(scores[r * block_keys + j], expected));
        }
    }
}

} // namespace

TEST_CASE("tile_products: scores are chains over tiles of 32 components, those at even and odd places apart")
{
    if (!have_tiles()) {
        return;
    }
    for (const std::size_t head_size : {1u, 31u, 32u, 40u, 64u, 128u}) {
        for (const bool tiny : {false, true}) {
            check_scores<1>(head_size, tiny);
            check_scores<2>(head_size, tiny);
            check_scores<4>(head_size, tiny);
        }
    }
}

TEST_CASE("tile_products: scores of keys as they lie are those of packed keys, for 1 to 16 queries")
{
    if (!have_tiles()) {
        return;
    }
    constexpr std::size_t head_size = 96;
    constexpr std::size_t stride = head_size + 7;
    constexpr std::size_t steps = steps_of<step>(head_size);
    const numbers q = random_numbers(tile_size * head_size, 3);
    const numbers k = random_numbers(keys_of_panel * stride, 4);
    const auto queries = packed_rows(q, tile_size, head_size);
    std::vector<element> panel(keys_of_panel * steps);
    pack_keys<step, float>(k.data(), stride, keys_of_panel, head_size, panel.data());
    std::vector<float> expected(tile_size * block_keys, 99);
    const tile_registers registers;
    products::score<4>(queries.data(), steps, panel.data(), steps, expected.data(), block_keys);
    for (std::size_t rows = 1; rows <= tile_size; ++rows) {
        std::vector<element> columns(steps * tile_size, 0x7fc07fc0u);
        products::pack_columns(queries.data(), rows, steps, columns.data());
        std::vector<float> scores(tile_size * block_keys, 99);
        products::score_rows(columns.data(), rows, k.data(), stride, steps, scores.data(), block_keys);
        for (std::size_t r = 0; r < tile_size; ++r) {
            for (std::size_t j = 0; j < block_keys; ++j) {
                REQUIRE(same(scores[r * block_keys + j], r < rows ? expected[r * block_keys + j] : 99.0F));
            }
        }
    }
}

namespace {

/// Weights of 16 rows, NaN in those that are not asked for, and the values of as many keys.
struct value_problem {
    std::size_t rows;
    std::size_t keys;
    std::size_t value_size;
    numbers weights;
    numbers values = random_numbers(block_keys * value_size, 6);
    std::size_t vectors = (value_size + tile_size - 1) / tile_size;
    std::size_t stride = vectors * tile_size;
    std::vector<element> packed_weights = std::vector<element>(tile_size * block_keys, 0x7fc07fc0u);
    std::vector<element> packed_values = std::vector<element>(block_keys / depth * stride);

    value_problem(std::size_t rows_, std::size_t keys_, std::size_t value_size_, unsigned seed = 5)
        : rows(rows_), keys(keys_), value_size(value_size_), weights(random_numbers(tile_size * block_keys, seed))
    {
        for (std::size_t r = 0; r < rows; ++r) {
            std::fill(weights.begin() + static_cast<std::ptrdiff_t>(r * block_keys + keys),
                      weights.begin() + static_cast<std::ptrdiff_t>((r + 1) * block_keys), sd::bfloat16(0.0F));
            std::memcpy(packed_weights.data() + r * block_keys, weights.data() + r * block_keys, 2 * block_keys);
        }
        pack_values<step>(values.data(), static_cast<std::ptrdiff_t>(value_size), keys, value_size, stride,
                          packed_values.data());
    }

    std::size_t steps() const { return steps_of<step>(keys); }

    std::vector<float> output() const
    {
        std::vector<float> result(tile_size * stride);
        for (std::size_t i = 0; i < result.size(); ++i) {
            result[i] = static_cast<float>(i % 251) - 125.0F;
        }
        return result;
    }

    void add(const float* kept, std::vector<float>& out) const
    {
        products::add_values(rows, packed_weights.data(), block_keys, packed_values.data(),
                             static_cast<std::ptrdiff_t>(stride), steps(), kept, vectors, out.data(), stride);
    }

    float expected(std::size_t r, std::size_t c, const float* kept, float before) const
    {
        numbers column(depth * steps());
        for (std::size_t j = 0; j < keys && c < value_size; ++j) {
            column[j] = values[j * value_size + c];
        }
        return dot(weights.data() + r * block_keys, column.data(), 1, column.size(), kept ? kept[r] * before : 0.0F);
    }
};

constexpr std::array<float, tile_size> kept_of_rows = {1,    0.5F, 0.3F, 1, 0.999F, 0, 0.25F, 1,
                                                       0.1F, 1,    1,    1, 0.7F,   1, 1,     0.9F};

} // namespace

TEST_CASE("tile_products: weights times values, added to what is kept of the output, in rows that are asked for")
{
    if (!have_tiles()) {
        return;
    }
    const tile_registers registers;
    for (const std::size_t rows : {1u, 2u, 7u, 15u, 16u}) {
        for (const std::size_t value_size : {1u, 16u, 40u, 64u, 100u, 130u, 272u}) {
            for (const std::size_t keys : {1u, 32u, 77u, 256u}) {
                const value_problem problem(rows, keys, value_size);
                for (const float* kept : {static_cast<const float*>(nullptr), kept_of_rows.data()}) {
                    const auto before = problem.output();
                    auto after = before;
                    problem.add(kept, after);
                    for (std::size_t r = 0; r < tile_size; ++r) {
                        for (std::size_t c = 0; c < problem.stride; ++c) {
                            const std::size_t i = r * problem.stride + c;
                            REQUIRE(same(after[i], r < rows ? problem.expected(r, c, kept, before[i]) : before[i]));
                        }
                    }
                }
            }
        }
    }
}

namespace {

template <std::size_t Vectors>
void check_score_pair(std::size_t head_size)
{
    const std::size_t steps = steps_of<step>(head_size);
    const numbers q = random_numbers(2 * tile_size * head_size, 9);
    const numbers k = random_numbers(keys_of_panel * head_size, 10);
    const auto queries = packed_rows(q, 2 * tile_size, head_size);
    std::vector<element> panel(keys_of_panel * steps);
    pack_keys<step, float>(k.data(), static_cast<std::ptrdiff_t>(head_size), keys_of_panel, head_size, panel.data());
    std::vector<float> expected(2 * tile_size * block_keys, 99);
    std::vector<float> scores(expected);
    for (const std::size_t row : {std::size_t{0}, tile_size}) {
        products::score<Vectors>(queries.data() + row * steps, steps, panel.data(), steps,
                                 expected.data() + row * block_keys, block_keys);
    }
    products::score_pair<Vectors>(queries.data(), steps, panel.data(), steps, scores.data(), block_keys);
    REQUIRE(test_support::equal_bits(scores.data(), expected.data(), scores.size()));
}

} // namespace

TEST_CASE("tile_products: two tiles of rows at once give the same bits as one after the other")
{
    if (!have_tiles()) {
        return;
    }
    const tile_registers registers;
    for (const std::size_t head_size : {1u, 40u, 64u, 128u}) {
        check_score_pair<1>(head_size);
        check_score_pair<2>(head_size);
        check_score_pair<4>(head_size);
    }
    for (const std::size_t value_size : {1u, 16u, 40u, 64u, 100u, 272u}) {
        for (const std::size_t keys : {1u, 32u, 77u, 256u}) {
            const value_problem upper(tile_size, keys, value_size);
            const value_problem lower(tile_size, keys, value_size, 7);
            auto weights = upper.packed_weights;
            weights.insert(weights.end(), lower.packed_weights.begin(), lower.packed_weights.end());
            std::array<float, 2 * tile_size> kept_of_pair;
            std::copy(kept_of_rows.begin(), kept_of_rows.end(), kept_of_pair.begin());
            std::copy(kept_of_rows.rbegin(), kept_of_rows.rend(), kept_of_pair.begin() + tile_size);
            for (const float* kept : {static_cast<const float*>(nullptr), std::as_const(kept_of_pair).data()}) {
                auto result = upper.output();
                const auto below = lower.output();
                result.insert(result.end(), below.rbegin(), below.rend());
                auto expected = result;
                for (const std::size_t row : {std::size_t{0}, tile_size}) {
                    products::add_values(tile_size, weights.data() + row * block_keys, block_keys,
                                         upper.packed_values.data(), static_cast<std::ptrdiff_t>(upper.stride),
                                         upper.steps(), kept ? kept + row : nullptr, upper.vectors,
                                         expected.data() + row * upper.stride, upper.stride);
                }
                products::add_values_of_pair(weights.data(), block_keys, upper.packed_values.data(),
                                             static_cast<std::ptrdiff_t>(upper.stride), upper.steps(), kept,
                                             upper.vectors, result.data(), upper.stride);
                REQUIRE(test_support::equal_bits(result.data(), expected.data(), result.size()));
            }
        }
    }
}

TEST_CASE("tile_products: values as they are stored give the same bits as packed ones")
{
    if (!have_tiles()) {
        return;
    }
    const tile_registers registers;
    for (const std::size_t rows : {1u, 4u, 16u}) {
        for (const std::size_t value_size : {5u, 64u, 128u, 200u}) {
            for (const std::size_t keys : {1u, 63u, 64u, 65u, 200u, 256u}) {
                const value_problem problem(rows, keys, value_size);
                for (const float* kept : {static_cast<const float*>(nullptr), kept_of_rows.data()}) {
                    auto expected = problem.output();
                    problem.add(kept, expected);
                    auto result = problem.output();
                    products::add_stored_values(rows, problem.packed_weights.data(), block_keys, problem.values.data(),
                                                static_cast<std::ptrdiff_t>(value_size), keys, kept, value_size,
                                                problem.vectors, result.data(), problem.stride);
                    REQUIRE(test_support::equal_bits(result.data(), expected.data(), result.size()));
                }
            }
        }
    }
}

TEST_CASE("tile_products: a finished sum is never -0")
{
    if (!have_tiles()) {
        return;
    }
    const tile_registers registers;
    value_problem problem(1, 2, 16);
    std::vector<float> output(tile_size, 0x1.2p-126F);
    const auto add = [&](float x) {
        std::fill(problem.packed_values.begin(), problem.packed_values.end(), 0u);
        const auto bits = std::bit_cast<std::uint16_t>(sd::bfloat16(x));
        std::fill_n(problem.packed_values.begin(), tile_size, element{bits});
        const auto one = std::bit_cast<std::uint16_t>(sd::bfloat16(1.0F));
        problem.packed_weights[0] = one;
        problem.add(kept_of_rows.data(), output);
    };
    add(-0x1.3p-126F); // to a negative subnormal number, which counts as 0
    CHECK(same(output[0], -0.0F));
    products::finish(output.data(), output.size());
    CHECK(std::all_of(output.begin(), output.end(), [](float x) { return same(x, 0.0F); }));
}

TEST_CASE("tile_products: values of excluded keys count as 0, whatever they are")
{
    if (!have_tiles()) {
        return;
    }
    const tile_registers registers;
    value_problem problem(3, 90, 200);
    std::array<bool, block_keys> excluded{};
    for (std::size_t j = 0; j < problem.keys; j += 3) {
        excluded[j] = true;
        for (std::size_t c = 0; c < problem.value_size; ++c) {
            problem.values[j * problem.value_size + c] = sd::bfloat16(0.0F);
        }
    }
    for (std::size_t r = 0; r < problem.rows; ++r) {
        const auto before = problem.output();
        auto result = before;
        auto poisoned = problem.packed_values;
        for (std::size_t j = 0; j < problem.keys; j += 3) {
            for (std::size_t c = 0; c < problem.stride; ++c) {
                poisoned[j / depth * problem.stride + c] |= j % depth == 0 ? 0x7f80u : 0xffc00000u; // inf, NaN
            }
        }
        products::add_selected_values(problem.packed_weights.data() + r * block_keys, excluded.data(), poisoned.data(),
                                      static_cast<std::ptrdiff_t>(problem.stride), problem.steps(), kept_of_rows[r],
                                      problem.vectors, result.data() + r * problem.stride);
        for (std::size_t i = 0; i < result.size(); ++i) {
            const bool of_row = i / problem.stride == r;
            const std::size_t c = i % problem.stride;
            REQUIRE(same(result[i], of_row ? problem.expected(r, c, kept_of_rows.data(), before[i]) : before[i]));
        }
    }
}
#endif
