// SPDX-License-Identifier: BSD-3-Clause
#include <scaledot/kernel/shuffle.hpp>

#include "support/guarded_memory.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <random>
#include <type_traits>
#include <vector>

namespace sd = scaledot;
using namespace scaledot::kernel;
using test_support::guarded_memory;
using arch = sd::native_architecture;

namespace {

template <class T>
using values = std::array<T, lanes<arch, T>>;

template <class T>
batch<arch, T> vector_from(const values<T>& x)
{
    return batch<arch, T>::load_unaligned(x.data());
}

/// Numbers of many magnitudes: any other order of additions has another sum.
template <class T>
values<T> numbers(unsigned seed)
{
    std::mt19937_64 engine(seed);
    std::uniform_real_distribution<T> exponent(-8, 8);
    std::normal_distribution<T> normal;
    values<T> x;
    std::generate(x.begin(), x.end(), [&] { return normal(engine) * std::exp2(exponent(engine)); });
    return x;
}

} // namespace

TEST_CASE_TEMPLATE("sum_of_lanes: the upper half is added to the lower one until one lane is left", T, float, double)
{
    std::size_t differ = 0;
    for (unsigned seed = 0; seed < 200; ++seed) {
        const values<T> x = numbers<T>(seed);
        values<T> tree = x;
        for (std::size_t half = tree.size() / 2; half > 0; half /= 2) {
            for (std::size_t i = 0; i < half; ++i) {
                tree[i] = barrier(barrier(tree[i]) + barrier(tree[i + half]));
            }
        }
        T from_left = 0;
        for (const T lane : x) {
            from_left = barrier(from_left + lane);
        }
        REQUIRE(sum_of_lanes(vector_from<T>(x)) == tree[0]);
        differ += tree[0] != from_left ? 1 : 0;
    }
    CHECK((differ > 50 || lanes<arch, T> == 2)); // another order would be seen
}

TEST_CASE_TEMPLATE("sum_of_lanes and largest_lane see every lane", T, float, double)
{
    constexpr std::size_t size = lanes<arch, T>;
    for (std::size_t lane = 0; lane < size; ++lane) {
        values<T> x;
        x.fill(T(-3));
        x[lane] = T(-2);
        CHECK(largest_lane(vector_from<T>(x)) == T(-2));
        CHECK(sum_of_lanes(vector_from<T>(x)) == T(1) - T(3) * static_cast<T>(size));
        x.fill(barrier(negative_infinity<T>));
        x[lane] = std::numeric_limits<T>::lowest();
        CHECK(largest_lane(vector_from<T>(x)) == std::numeric_limits<T>::lowest());
        x[lane] = barrier(infinity<T>);
        CHECK(std::bit_cast<bits_of<T>>(largest_lane(vector_from<T>(x))) == exponent_mask<T>);
    }
}

TEST_CASE_TEMPLATE("sums_of_rows and largest_of_rows: the bits of sum_of_lanes and largest_lane, row by row", T, float,
                   double)
{
    constexpr std::size_t size = lanes<arch, T>;
    for (unsigned seed = 0; seed < 50; ++seed) {
        std::array<values<T>, size> rows;
        for (std::size_t i = 0; i < size; ++i) {
            rows[i] = numbers<T>(seed * 100 + static_cast<unsigned>(i));
        }
        values<T> sums, largest;
        sums_of_rows<arch>(rows[0].data()).store_unaligned(sums.data());
        largest_of_rows<arch>(rows[0].data()).store_unaligned(largest.data());
        for (std::size_t i = 0; i < size; ++i) {
            REQUIRE(sums[i] == sum_of_lanes(vector_from<T>(rows[i])));
            REQUIRE(largest[i] == largest_lane(vector_from<T>(rows[i])));
        }
    }
}

TEST_CASE_TEMPLATE("load_transposed: vector i holds component i of a row a lane, from any storage type and stride", S,
                   float, double, xtl::half_float, sd::bfloat16)
{
    const auto check = [&]<class T>(T) {
        constexpr auto rows = static_cast<std::ptrdiff_t>(lanes<arch, T>);
        constexpr auto group = static_cast<std::ptrdiff_t>(transposed_at_once<T, S>);
        for (const std::ptrdiff_t stride :
             {group, group + 1, group + 13, -group, -group - 5, std::ptrdiff_t{1000}, std::ptrdiff_t{0}}) {
            // Rows end where the memory ends; with a negative stride the first one is last.
            const std::ptrdiff_t between = (rows - 1) * std::abs(stride);
            const auto count = static_cast<std::size_t>(between + group);
            const guarded_memory<S> memory(count, 0);
            for (std::size_t i = 0; i < count; ++i) {
                memory.data()[i] = to_storage<S>(static_cast<float>(i % 251)); // exact in every storage type
            }
            const std::ptrdiff_t first = stride < 0 ? between : 0;
            const auto columns = load_transposed<arch, T>(memory.data() + first, stride);
            static_assert(columns.size() == transposed_at_once<T, S>);
            for (std::ptrdiff_t c = 0; c < group; ++c) {
                values<T> column;
                columns[static_cast<std::size_t>(c)].store_unaligned(column.data());
                for (std::ptrdiff_t row = 0; row < rows; ++row) {
                    REQUIRE(column[static_cast<std::size_t>(row)] == static_cast<T>((first + row * stride + c) % 251));
                }
            }
        }
    };
    check(double{});
    if constexpr (!std::is_same_v<S, double>) {
        check(float{});
    }
}

TEST_CASE_TEMPLATE("load_transposed: pairs of 16 bits move together, as they are", S, xtl::half_float, sd::bfloat16)
{
    constexpr auto rows = static_cast<std::ptrdiff_t>(lanes<arch, std::uint32_t>);
    constexpr std::ptrdiff_t group = 4;
    for (const std::ptrdiff_t stride : {2 * group, 2 * group + 1, -2 * group - 3, std::ptrdiff_t{101}}) {
        const std::ptrdiff_t between = (rows - 1) * std::abs(stride);
        const auto count = static_cast<std::size_t>(between + 2 * group);
        const guarded_memory<S> memory(count, 0);
        for (std::size_t i = 0; i < count; ++i) {
            memory.data()[i] = std::bit_cast<S>(static_cast<std::uint16_t>(i * 40503u)); // all patterns, NaN too
        }
        const std::ptrdiff_t first = stride < 0 ? between : 0;
        const auto columns = load_transposed<arch, std::uint32_t>(memory.data() + first, stride);
        for (std::ptrdiff_t c = 0; c < group; ++c) {
            std::array<std::uint32_t, rows> column;
            columns[static_cast<std::size_t>(c)].store_unaligned(column.data());
            for (std::ptrdiff_t row = 0; row < rows; ++row) {
                const S* const pair = memory.data() + first + row * stride + 2 * c;
                const std::uint32_t expected =
                    std::bit_cast<std::uint16_t>(pair[0]) | std::uint32_t{std::bit_cast<std::uint16_t>(pair[1])} << 16;
                REQUIRE(column[static_cast<std::size_t>(row)] == expected);
            }
        }
    }
}
