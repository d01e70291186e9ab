// SPDX-License-Identifier: BSD-3-Clause
#include <scaledot/kernel/products.hpp>

#include "support/attention_cases.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <type_traits>
#include <vector>

namespace sd = scaledot;
namespace kernel = scaledot::kernel;
using namespace test_support;
using arch = scaledot::native_architecture;

namespace {

template <class T>
using tile = kernel::register_tile<arch, T>;

template <class T>
using number_step = kernel::number_step<arch, T>;

/// One step of a chain as the machine's vectors make it.
template <class T>
T step(T a, T b, T c)
{
    if constexpr (kernel::fused<kernel::batch<arch, T>>) {
        return std::fma(a, b, c);
    } else {
        return kernel::barrier(kernel::barrier(a * b) + c);
    }
}

template <class T>
std::vector<T> numbers(std::size_t count, unsigned seed)
{
    const auto x = gaussians<T, 1>({count}, seed);
    return std::vector<T>(x.begin(), x.end());
}

/// Every element as often as a step reads it in a left factor.
template <class T>
std::vector<T> spread(const std::vector<T>& elements)
{
    std::vector<T> result;
    for (const T element : elements) {
        result.insert(result.end(), number_step<T>::copies, element);
    }
    return result;
}

/// body(1), body(2), ... up to the rows of a register tile, as constants.
template <class T, class Body>
void for_each_row_count(const Body& body)
{
    kernel::unroll<tile<T>::rows>([&](auto i) { body(std::integral_constant<std::size_t, decltype(i)::value + 1>{}); });
}

/// What is kept of the previous output of each row.
template <class T>
constexpr std::array<T, 6> kept_of_rows = {T(1), T(0), T(0.5), T(0.3), T(0.999), T(1e-20)};

} // namespace

TEST_CASE_TEMPLATE("for_each_tile: the rows in order, each once, in as few tiles of 6, 4, 2 or 1 as possible", T, float,
                   double)
{
    std::vector<std::size_t> fewest = {0};
    for (std::size_t count = 0; count <= 50; ++count) {
        if (count > 0) {
            fewest.push_back(count);
            for (const std::size_t rows : std::initializer_list<std::size_t>{1, 2, 4, tile<T>::rows}) {
                if (rows <= count) {
                    fewest[count] = std::min(fewest[count], 1 + fewest[count - rows]);
                }
            }
        }
        std::size_t next = 0;
        std::size_t tiles = 0;
        kernel::for_each_tile<arch, T>(
            count, [&]<std::size_t Rows>(std::integral_constant<std::size_t, Rows>, std::size_t first) {
                CHECK(first == next);
                next = first + Rows;
                ++tiles;
            });
        CHECK(next == count);
        CHECK(tiles == fewest[count]);
    }
}

TEST_CASE_TEMPLATE("score_tile: each score is one chain over the head, in any number of rows; nothing else is written",
                   T, float, double)
{
    constexpr std::size_t width = tile<T>::width;
    constexpr std::size_t stride = width + 5;
    for (const std::size_t size : std::initializer_list<std::size_t>{0, 1, 2, 7, 64, 129}) {
        const std::size_t query_stride = size + 3;
        const auto queries = numbers<T>(tile<T>::rows * query_stride, 1);
        const auto panel = numbers<T>(size * width, 2);
        const auto check = [&](auto rows, auto vectors) {
            std::vector<T> scores(tile<T>::rows * stride, T(99));
            kernel::score_tile<number_step<T>, rows, vectors>(spread(queries).data(),
                                                              query_stride * number_step<T>::copies, panel.data(), size,
                                                              scores.data(), stride);
            for (std::size_t i = 0; i < scores.size(); ++i) {
                const std::size_t r = i / stride;
                const std::size_t j = i % stride;
                T expected = T(99);
                if (r < rows && j < vectors * number_step<T>::lanes) {
                    expected = 0;
                    for (std::size_t c = 0; c < size; ++c) {
                        expected = step(queries[r * query_stride + c], panel[c * width + j], expected);
                    }
                }
                REQUIRE(scores[i] == expected);
            }
        };
        for_each_row_count<T>([&](auto rows) {
            check(rows, std::integral_constant<std::size_t, tile<T>::vectors>{});
            check(rows, std::integral_constant<std::size_t, tile<T>::vectors / 2>{});
            check(rows, std::integral_constant<std::size_t, 1>{});
        });
    }
}

TEST_CASE_TEMPLATE("value_rows: what is kept of the output, or nothing, then one chain over the keys, in any number of "
                   "vectors",
                   T, float, double)
{
    constexpr std::size_t rows = tile<T>::rows;
    constexpr std::size_t lanes = kernel::lanes<arch, T>;
    for (std::size_t vectors = 1; vectors <= 2 * tile<T>::vectors + 1; ++vectors) {
        for (const std::ptrdiff_t keys : {0, 1, 5, 128}) {
            const std::size_t size = vectors * lanes;
            const auto weights = numbers<T>(rows * 128, 1);
            const auto memory = numbers<T>(128 * (size + 2), 2);
            const auto before = numbers<T>(rows * (size + 1), 3);
            const std::array<bool, 128> none{};
            for (const std::ptrdiff_t direction : {1, -1}) {
                const std::ptrdiff_t stride = direction * static_cast<std::ptrdiff_t>(size + 2);
                const T* const values = memory.data() + (direction < 0 ? (1 - 128) * stride : 0);
                const auto count = static_cast<std::size_t>(keys);
                auto together = before;
                kernel::value_rows<number_step<T>, rows>(weights.data(), 128, values, stride, count,
                                                         kept_of_rows<T>.data(), vectors, together.data(), size + 1);
                std::vector<T> zeros(before.size()), fresh(before.size(), std::numeric_limits<T>::quiet_NaN());
                kernel::value_rows<number_step<T>, rows>(weights.data(), 128, values, stride, count,
                                                         kept_of_rows<T>.data(), vectors, zeros.data(), size + 1);
                kernel::value_rows<number_step<T>, rows>(weights.data(), 128, values, stride, count,
                                                         static_cast<const T*>(nullptr), vectors, fresh.data(),
                                                         size + 1);
                for (std::size_t r = 0; r < rows; ++r) {
                    const T* const output = &before[r * (size + 1)];
                    std::vector<T> alone(output, output + size), selected(output, output + size);
                    kernel::value_rows<number_step<T>, 1>(weights.data() + r * 128, 128, values, stride, count,
                                                          &kept_of_rows<T>[r], vectors, alone.data(), size);
                    kernel::value_row_selected<number_step<T>>(weights.data() + r * 128, none.data(), values, stride,
                                                               count, kept_of_rows<T>[r], vectors, selected.data());
                    for (std::size_t c = 0; c < size; ++c) {
                        T sum = kernel::barrier(kept_of_rows<T>[r] * output[c]);
                        for (std::ptrdiff_t j = 0; j < keys; ++j) {
                            sum = step(weights[r * 128 + static_cast<std::size_t>(j)],
                                       values[j * stride + static_cast<std::ptrdiff_t>(c)], sum);
                        }
                        REQUIRE(together[r * (size + 1) + c] == sum);
                        REQUIRE(fresh[r * (size + 1) + c] == zeros[r * (size + 1) + c]);
                        REQUIRE(alone[c] == sum);
                        REQUIRE(selected[c] == sum);
                    }
                    REQUIRE(together[r * (size + 1) + size] == output[size]); // between rows nothing is written
                }
            }
        }
    }
}

TEST_CASE_TEMPLATE("value_rows: keys of weight 0 leave no trace, a sum of -0 is +0", T, float, double)
{
    constexpr std::size_t lanes = kernel::lanes<arch, T>;
    constexpr auto stride = static_cast<std::ptrdiff_t>(lanes);
    const std::array<T, 5> weights = {T(0), T(0.3), T(0), T(0.7), T(0)};
    const auto values = numbers<T>(5 * lanes, 1);
    const T kept = 1;
    std::vector<T> all(lanes), some(lanes);
    kernel::value_rows<number_step<T>, 1>(weights.data(), 5, values.data(), stride, 5, &kept, 1, all.data(), lanes);
    const std::array<T, 2> other_weights = {T(0.3), T(0.7)};
    kernel::value_rows<number_step<T>, 1>(other_weights.data(), 2, values.data() + lanes, 2 * stride, 2, &kept, 1,
                                          some.data(), lanes);
    CHECK(all == some);

    const std::vector<T> zeros(5 * lanes, T(-0.0));
    for (const std::size_t keys : std::initializer_list<std::size_t>{0, 1, 5}) {
        std::vector<T> output(lanes, T(-0.0));
        kernel::value_rows<number_step<T>, 1>(weights.data(), 5, zeros.data(), stride, keys, &kept, 1, output.data(),
                                              lanes);
        CHECK(all_zero(output));
    }
}

TEST_CASE_TEMPLATE("value_row_selected: excluded keys leave no trace, whatever their values; a sum of -0 is +0", T,
                   float, double)
{
    constexpr std::size_t lanes = kernel::lanes<arch, T>;
    std::array<T, 4> weights = {T(0.5), T(0), T(0), T(0.25)};
    std::vector<T> values(4 * lanes, T(2));
    std::fill_n(values.begin() + static_cast<std::ptrdiff_t>(lanes), lanes, infinity_of<T>());
    std::fill_n(values.begin() + static_cast<std::ptrdiff_t>(2 * lanes), lanes, nan_of<T>());
    const std::array excluded = {false, true, true, false};
    std::vector<T> output(lanes, T(8));
    kernel::value_row_selected<number_step<T>>(weights.data(), excluded.data(), values.data(),
                                               static_cast<std::ptrdiff_t>(lanes), 4, T(0.5), 1, output.data());
    CHECK(output == std::vector<T>(lanes, T(5.5)));
    std::fill(values.begin(), values.end(), T(-0.0));
    weights.fill(T(1));
    std::fill(output.begin(), output.end(), T(-0.0));
    kernel::value_row_selected<number_step<T>>(weights.data(), excluded.data(), values.data(),
                                               static_cast<std::ptrdiff_t>(lanes), 4, T(1), 1, output.data());
    CHECK(all_zero(output));
}

#if defined(__AVX512BF16__)
namespace {

using pair_step = kernel::bfloat16_step<arch>;

/// Pairs of bfloat16, and the numbers they are made of.
struct pairs {
    std::vector<sd::bfloat16> numbers;
    std::vector<std::uint32_t> elements;

    pairs(std::size_t count, unsigned seed) : numbers(::numbers<sd::bfloat16>(2 * count, seed)), elements(count)
    {
        for (std::size_t i = 0; i < count; ++i) {
            elements[i] = numbers[2 * i].bits() | std::uint32_t{numbers[2 * i + 1].bits()} << 16;
        }
    }
    double operator()(std::size_t element, std::size_t half) const { return as_double(numbers[2 * element + half]); }
};

/// A sum in double, and the bound of what `roundings` roundings of it to float, one after another, are off.
struct bounded_sum {
    double value = 0;
    double magnitude = 0;
    double roundings = 0;

    void add(double term, double times)
    {
        value += term;
        magnitude += std::abs(term);
        roundings += times;
    }
    bool has(float computed) const
    {
        constexpr double half_ulp = static_cast<double>(std::numeric_limits<float>::epsilon()) / 2;
        return std::abs(static_cast<double>(computed) - value) <= roundings * half_ulp * magnitude;
    }
};

} // namespace

TEST_CASE("score_tile: on pairs of bfloat16, exact products rounded once each; a row alone has the bits of a row in a "
          "tile")
{
    constexpr std::size_t rows = tile<float>::rows;
    constexpr std::size_t width = tile<float>::width;
    for (const std::size_t steps : std::initializer_list<std::size_t>{0, 1, 2, 7, 32, 65}) {
        const std::size_t query_stride = steps + 3;
        const pairs queries(rows * query_stride, 1);
        const pairs panel(steps * width, 2);
        std::vector<float> together(rows * width), alone(width);
        kernel::score_tile<pair_step, rows, tile<float>::vectors>(queries.elements.data(), query_stride,
                                                                  panel.elements.data(), steps, together.data(), width);
        for (std::size_t r = 0; r < rows; ++r) {
            kernel::score_tile<pair_step, 1, tile<float>::vectors>(queries.elements.data() + r * query_stride,
                                                                   query_stride, panel.elements.data(), steps,
                                                                   alone.data(), width);
            for (std::size_t j = 0; j < width; ++j) {
                bounded_sum exact;
                for (std::size_t i = 0; i < steps; ++i) {
                    for (const std::size_t half : std::initializer_list<std::size_t>{0, 1}) {
                        exact.add(queries(r * query_stride + i, half) * panel(i * width + j, half), 1);
                    }
                }
                REQUIRE(exact.has(together[r * width + j]));
                REQUIRE(alone[j] == together[r * width + j]);
            }
        }
    }
}

TEST_CASE("value_rows: on pairs of bfloat16, with what is kept of the output; excluded keys leave no trace")
{
    constexpr std::size_t rows = tile<float>::rows;
    constexpr std::size_t most_steps = 64;
    for (std::size_t vectors = 1; vectors <= 2 * tile<float>::vectors + 1; ++vectors) {
        for (const std::size_t steps : std::initializer_list<std::size_t>{0, 1, 5, most_steps}) {
            const std::size_t size = vectors * pair_step::lanes;
            pairs weights(rows * most_steps, 1);
            const pairs values(most_steps * size, 2);
            const auto before = numbers<float>(rows * size, 3);
            auto together = before;
            kernel::value_rows<pair_step, rows>(weights.elements.data(), most_steps, values.elements.data(),
                                                static_cast<std::ptrdiff_t>(size), steps, kept_of_rows<float>.data(),
                                                vectors, together.data(), size);
            std::array<bool, 2 * most_steps> excluded{};
            for (std::size_t r = 0; r < rows; ++r) {
                const auto first = before.begin() + static_cast<std::ptrdiff_t>(r * size);
                const std::vector<float> output(first, first + static_cast<std::ptrdiff_t>(size));
                auto alone = output, selected = output, without = output;
                const float kept = kept_of_rows<float>[r];
                const std::uint32_t* const of_row = weights.elements.data() + r * most_steps;
                const auto stride = static_cast<std::ptrdiff_t>(size);
                kernel::value_rows<pair_step, 1>(of_row, most_steps, values.elements.data(), stride, steps, &kept,
                                                 vectors, alone.data(), size);
                excluded.fill(false);
                kernel::value_row_selected<pair_step>(of_row, excluded.data(), values.elements.data(), stride, steps,
                                                      kept, vectors, selected.data());
                // The first and every third key excluded, with values that would be seen.
                pairs poisoned = values;
                for (std::size_t j = 0; j < 2 * most_steps; j += 3) {
                    excluded[j] = true;
                    for (std::size_t c = 0; c < size; ++c) {
                        std::uint32_t& element = poisoned.elements[j / 2 * size + c];
                        element |= j % 2 == 0 ? 0x7fc0u : 0x7fc00000u; // NaN
                    }
                }
                kernel::value_row_selected<pair_step>(of_row, excluded.data(), poisoned.elements.data(), stride, steps,
                                                      kept, vectors, without.data());
                for (std::size_t c = 0; c < size; ++c) {
                    bounded_sum all, rest;
                    for (bounded_sum* sum : {&all, &rest}) {
                        sum->add(static_cast<double>(kept) * static_cast<double>(output[c]), 1);
                    }
                    for (std::size_t j = 0; j < 2 * steps; ++j) {
                        const double term = weights(r * most_steps + j / 2, j % 2) * values(j / 2 * size + c, j % 2);
                        all.add(term, 1);
                        rest.add(excluded[j] ? 0 : term, 1);
                    }
                    REQUIRE(all.has(together[r * size + c]));
                    REQUIRE(rest.has(without[c]));
                    REQUIRE(alone[c] == together[r * size + c]);
                    REQUIRE(selected[c] == together[r * size + c]);
                }
            }
        }
    }
}
#endif
