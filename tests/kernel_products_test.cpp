// SPDX-License-Identifier: BSD-3-Clause
#include <scaledot/kernel/products.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <random>
#include <vector>

using namespace scaledot;
using namespace scaledot::kernel;
using arch = native_architecture;

namespace {

template <class T>
std::vector<T> normal(std::size_t count, unsigned seed)
{
    std::mt19937 generator(seed);
    std::normal_distribution<double> draw;
    std::vector<T> values(count);
    std::generate(values.begin(), values.end(), [&] { return static_cast<T>(draw(generator)); });
    return values;
}

template <class T>
bits_of<T> bits(T x)
{
    return std::bit_cast<bits_of<T>>(x);
}

} // namespace

TEST_CASE_TEMPLATE("products: packed keys lie component by component, missing keys are 0", T, float, double)
{
    constexpr std::size_t width = register_tile<arch, T>::width;
    for (const std::size_t size : {std::size_t{1}, std::size_t{7}, std::size_t{64}}) {
        for (const std::size_t count : {std::size_t{1}, width - 1, width, width + 1, block_keys}) {
            const auto keys = normal<T>(count * (size + 3), 1);
            std::vector<T> packed(block_keys * size, T(-1));
            pack_keys<arch>(keys.data(), static_cast<std::ptrdiff_t>(size + 3), count, size, packed.data());
            const std::size_t touched = (count + width - 1) / width * width;
            for (std::size_t j = 0; j < touched; ++j) {
                for (std::size_t c = 0; c < size; ++c) {
                    const T expected = j < count ? keys[j * (size + 3) + c] : T(0);
                    REQUIRE(packed[j / width * width * size + c * width + j % width] == expected);
                }
            }
        }
    }
}

TEST_CASE_TEMPLATE("products: a score has the error of one chain, and the same bits in every tile", T, float, double)
{
    using tile = register_tile<arch, T>;
    for (const std::size_t size : {std::size_t{1}, std::size_t{2}, std::size_t{40}, std::size_t{129}}) {
        const auto queries = normal<T>(tile::rows * size, 2);
        const auto keys = normal<T>(tile::width * size, 3);
        std::vector<T> packed(block_keys * size);
        pack_keys<arch>(keys.data(), static_cast<std::ptrdiff_t>(size), tile::width, size, packed.data());
        const T scale = T(0.125);
        std::vector<T> together(tile::rows * block_keys);
        std::vector<T> alone(block_keys);
        score_tile<arch, tile::rows>(queries.data(), size, packed.data(), size, scale, together.data(), block_keys);
        for (std::size_t r = 0; r < tile::rows; ++r) {
            score_tile<arch, 1>(queries.data() + r * size, size, packed.data(), size, scale, alone.data(), block_keys);
            for (std::size_t j = 0; j < tile::width; ++j) {
                long double exact = 0;
                long double magnitude = 0;
                for (std::size_t c = 0; c < size; ++c) {
                    const long double product = static_cast<long double>(queries[r * size + c]) * keys[j * size + c];
                    exact += product;
                    magnitude += std::abs(product);
                }
                // n additions and n products: (1 + u)^(n + 1) - 1 of the sum of magnitudes (Higham, section 3.1)
                const long double bound =
                    static_cast<long double>(size + 1) * std::numeric_limits<T>::epsilon() / 2 * magnitude * scale;
                REQUIRE(std::abs(together[r * block_keys + j] - exact * scale) <= bound);
                REQUIRE(bits(together[r * block_keys + j]) == bits(alone[j]));
            }
        }
    }
}

TEST_CASE_TEMPLATE("products: rows of values have the same bits in every tile", T, float, double)
{
    using tile = register_tile<arch, T>;
    for (const std::size_t vectors : {std::size_t{1}, std::size_t{3}, tile::vectors, 2 * tile::vectors + 1}) {
        const std::size_t size = vectors * lanes<arch, T>;
        for (const std::size_t keys : {std::size_t{0}, std::size_t{1}, std::size_t{100}}) {
            auto weights = normal<T>(tile::rows * block_keys, 4);
            const auto values = normal<T>(keys * size + 1, 5);
            std::vector<T> together(tile::rows * size, T(9));
            std::vector<T> alone(size, T(9));
            const auto stride = static_cast<std::ptrdiff_t>(size);
            value_rows<arch, tile::rows>(weights.data(), block_keys, values.data(), stride, keys, vectors,
                                         together.data(), size);
            const auto excluded = std::make_unique<bool[]>(block_keys);
            std::vector<T> selected(size, T(9));
            for (std::size_t r = 0; r < tile::rows; ++r) {
                const T* row = weights.data() + r * block_keys;
                value_rows<arch, 1>(row, block_keys, values.data(), stride, keys, vectors, alone.data(), size);
                value_row_selected<arch>(row, excluded.get(), values.data(), stride, keys, vectors, selected.data());
                for (std::size_t c = 0; c < size; ++c) {
                    long double exact = 0;
                    long double magnitude = 0;
                    for (std::size_t j = 0; j < keys; ++j) {
                        const long double product = static_cast<long double>(row[j]) * values[j * size + c];
                        exact += product;
                        magnitude += std::abs(product);
                    }
                    const long double bound =
                        static_cast<long double>(keys + 1) * std::numeric_limits<T>::epsilon() / 2 * magnitude;
                    REQUIRE(std::abs(together[r * size + c] - exact) <= bound);
                    REQUIRE(bits(together[r * size + c]) == bits(alone[c]));
                    REQUIRE(bits(together[r * size + c]) == bits(selected[c]));
                }
            }
        }
    }
}

TEST_CASE_TEMPLATE("products: keys of weight 0 leave no trace, not even in the sign of a zero", T, float, double)
{
    constexpr std::size_t size = lanes<arch, T>;
    const T tiny = std::numeric_limits<T>::min();
    const std::vector<T> values = [&] {
        std::vector<T> v(3 * size, -tiny);
        std::fill(v.begin() + size, v.end(), T(1));
        return v;
    }();
    const std::vector<T> weights = {tiny, T(0), T(0)}; // the first product underflows to -0
    std::vector<T> one(size);
    std::vector<T> three(size);
    value_rows<arch, 1>(weights.data(), block_keys, values.data(), size, 1, 1, one.data(), size);
    value_rows<arch, 1>(weights.data(), block_keys, values.data(), size, 3, 1, three.data(), size);
    CHECK(bits(one[0]) == 0);
    CHECK(bits(three[0]) == 0);
}

TEST_CASE_TEMPLATE("products: excluded keys are skipped, whatever their values", T, float, double)
{
    constexpr std::size_t size = lanes<arch, T>;
    std::vector<T> values(2 * size, T(2));
    std::fill(values.begin() + size, values.end(), infinity<T>);
    const std::vector<T> weights = {T(0.5), T(0)};
    const bool excluded[] = {false, true};
    std::vector<T> output(size);
    value_row_selected<arch>(weights.data(), excluded, values.data(), size, 2, 1, output.data());
    CHECK(output[0] == T(1));
}

TEST_CASE_TEMPLATE("products: all_finite sees every element, and nothing behind the last", T, float, double)
{
    for (std::size_t count = 0; count <= 2 * lanes<arch, T> + 1; ++count) {
        std::vector<T> values(count + 1, std::numeric_limits<T>::max());
        values[count] = quiet_nan<T>();
        CHECK(all_finite<arch>(values.data(), count));
        for (std::size_t i = 0; i < count; ++i) {
            for (const T bad : {infinity<T>, negative_infinity<T>, quiet_nan<T>()}) {
                values[i] = bad;
                CHECK_FALSE(all_finite<arch>(values.data(), count));
            }
            values[i] = T(0);
        }
    }
}
