// SPDX-License-Identifier: BSD-3-Clause
#include <scaledot/kernel/products.hpp>

#include "support/attention_cases.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <initializer_list>
#include <vector>

namespace sd = scaledot;
namespace kernel = scaledot::kernel;
using namespace test_support;
using arch = scaledot::native_architecture;

namespace {

template <class T>
using tile = kernel::register_tile<arch, T>;

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

} // namespace

TEST_CASE_TEMPLATE(
    "pack_keys: panels of keys, component by component, missing keys 0, from any storage type and stride", K, float,
    double, xtl::half_float, sd::bfloat16)
{
    using T = sd::detail::arithmetic_t<K>;
    constexpr std::size_t width = tile<T>::width;
    for (const std::size_t count :
         std::initializer_list<std::size_t>{1, width - 1, width, width + 1, kernel::block_keys}) {
        for (const std::ptrdiff_t stride : {5, 9, -5}) {
            const std::vector<K> memory = numbers<K>(2 * 9 * kernel::block_keys, 1);
            const K* const keys = &memory[9 * kernel::block_keys];
            std::vector<T> packed(kernel::block_keys * 5, T(99));
            kernel::pack_keys<arch>(keys, stride, count, 5, packed.data());
            bool right = true;
            for (std::size_t j = 0; j < (count + width - 1) / width * width; ++j) {
                for (std::ptrdiff_t c = 0; c < 5; ++c) {
                    const T expected =
                        j < count ? kernel::to_arithmetic<T>(keys[static_cast<std::ptrdiff_t>(j) * stride + c]) : T(0);
                    right = right &&
                            packed[j / width * width * 5 + static_cast<std::size_t>(c) * width + j % width] == expected;
                }
            }
            CHECK(right);
        }
    }
}

TEST_CASE_TEMPLATE(
    "score_tile: each score is one chain over the head, then scaled; a row alone has the bits of a row in a tile", T,
    float, double)
{
    constexpr std::size_t rows = tile<T>::rows;
    constexpr std::size_t width = tile<T>::width;
    for (const std::size_t size : std::initializer_list<std::size_t>{1, 2, 7, 64, 129}) {
        const std::size_t query_stride = size + 3;
        const auto queries = numbers<T>(rows * query_stride, 1);
        const auto panel = numbers<T>(size * width, 2);
        std::vector<T> together(rows * 200), alone(200);
        kernel::score_tile<arch, rows>(queries.data(), query_stride, panel.data(), size, T(0.3), together.data(), 200);
        for (std::size_t r = 0; r < rows; ++r) {
            kernel::score_tile<arch, 1>(queries.data() + r * query_stride, query_stride, panel.data(), size, T(0.3),
                                        alone.data(), 200);
            for (std::size_t j = 0; j < width; ++j) {
                T sum = 0;
                for (std::size_t c = 0; c < size; ++c) {
                    sum = step(queries[r * query_stride + c], panel[c * width + j], sum);
                }
                REQUIRE(together[r * 200 + j] == sum * T(0.3));
                REQUIRE(alone[j] == together[r * 200 + j]);
            }
        }
    }
}

TEST_CASE_TEMPLATE("value_rows: each component is one chain over the keys, in any number of vectors", T, float, double)
{
    constexpr std::size_t rows = tile<T>::rows;
    constexpr std::size_t lanes = kernel::lanes<arch, T>;
    for (std::size_t vectors = 1; vectors <= 2 * tile<T>::vectors + 1; ++vectors) {
        for (const std::size_t keys : std::initializer_list<std::size_t>{0, 1, 5, 128}) {
            const std::size_t size = vectors * lanes;
            const auto stride = static_cast<std::ptrdiff_t>(size + 2);
            const auto weights = numbers<T>(rows * 128, 1);
            const auto values = numbers<T>(128 * (size + 2), 2);
            std::vector<T> together(rows * size), alone(size), selected(size);
            kernel::value_rows<arch, rows>(weights.data(), 128, values.data(), stride, keys, vectors, together.data(),
                                           size);
            const std::array<bool, 128> none{};
            for (std::size_t r = 0; r < rows; ++r) {
                kernel::value_rows<arch, 1>(weights.data() + r * 128, 128, values.data(), stride, keys, vectors,
                                            alone.data(), size);
                kernel::value_row_selected<arch>(weights.data() + r * 128, none.data(), values.data(), stride, keys,
                                                 vectors, selected.data());
                for (std::size_t c = 0; c < size; ++c) {
                    T sum = 0;
                    for (std::size_t j = 0; j < keys; ++j) {
                        sum = step(weights[r * 128 + j], values[j * (size + 2) + c], sum);
                    }
                    REQUIRE(together[r * size + c] == sum);
                    REQUIRE(alone[c] == sum);
                    REQUIRE(selected[c] == sum);
                }
            }
        }
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
    std::vector<T> output(lanes);
    kernel::value_row_selected<arch>(weights.data(), excluded.data(), values.data(), static_cast<std::ptrdiff_t>(lanes),
                                     4, 1, output.data());
    CHECK(output == std::vector<T>(lanes, T(1.5)));
    std::fill(values.begin(), values.end(), T(-0.0));
    weights.fill(T(1));
    kernel::value_row_selected<arch>(weights.data(), excluded.data(), values.data(), static_cast<std::ptrdiff_t>(lanes),
                                     4, 1, output.data());
    CHECK(all_zero(output));
}

TEST_CASE_TEMPLATE("all_finite: finds a single NaN or infinity wherever it stands, at every length", T, float, double)
{
    for (std::size_t count = 0; count <= 4 * kernel::lanes<arch, T> + 1; ++count) {
        auto x = numbers<T>(count + 1, 1);
        CHECK(kernel::all_finite<arch>(x.data(), count));
        for (std::size_t i = 0; i < count; ++i) {
            for (const T bad : {nan_of<T>(), infinity_of<T>(), minus_infinity_of<T>()}) {
                auto y = x;
                y[i] = bad;
                CHECK(!kernel::all_finite<arch>(y.data(), count));
            }
        }
        x[count] = nan_of<T>(); // past the end
        CHECK(kernel::all_finite<arch>(x.data(), count));
    }
}
