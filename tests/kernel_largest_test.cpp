// SPDX-License-Identifier: BSD-3-Clause
#include <scaledot/kernel/largest.hpp>

#include "support/bits.hpp"

#include <scaledot/bfloat16.hpp>
#include <scaledot/kernel/shuffle.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <limits>
#include <vector>

using namespace scaledot::kernel;
using namespace test_support;
using arch = scaledot::native_architecture;

namespace {

template <class T, class S>
T largest_of(const std::vector<S>& x, std::size_t length)
{
    return largest_lane(largest_in_lanes<arch, T>(x.data(), length));
}

template <class T>
bool is_largest(const std::vector<T>& x, std::size_t length, T largest)
{
    const T found = largest_of<T>(x, length);
    return equal_bits(&found, &largest, 1);
}

} // namespace

TEST_CASE_TEMPLATE("largest_in_lanes: wherever it stands, also the lowest number or an infinity; -inf of none", T,
                   float, double)
{
    constexpr T lowest = std::numeric_limits<T>::lowest();
    const std::size_t width = lanes<arch, T>;
    for (std::size_t length = 0; length <= 6 * width; ++length) {
        std::vector<T> x(length + width, barrier(infinity<T>)); // what lies past the end is not looked at
        const auto end = x.begin() + static_cast<std::ptrdiff_t>(length);
        std::fill(x.begin(), end, barrier(negative_infinity<T>));
        CHECK(is_largest<T>(x, length, negative_infinity<T>));
        for (std::size_t i = 0; i < length; ++i) {
            for (const T others : {barrier(negative_infinity<T>), lowest, T(-2)}) {
                for (const T largest : {lowest, T(-2), T(0), barrier(infinity<T>)}) {
                    if (others > largest) {
                        continue;
                    }
                    std::fill(x.begin(), end, others);
                    x[i] = largest;
                    CHECK(is_largest<T>(x, length, largest));
                }
            }
        }
    }
}

TEST_CASE("largest_in_lanes: numbers of a storage type")
{
    const std::size_t width = lanes<arch, float>;
    for (std::size_t length = 1; length <= 6 * width; ++length) {
        std::vector<scaledot::bfloat16> x(length, scaledot::bfloat16(-3.0f));
        x[length / 2] = scaledot::bfloat16(-1.5f);
        CHECK(largest_of<float>(x, length) == -1.5f);
    }
}
