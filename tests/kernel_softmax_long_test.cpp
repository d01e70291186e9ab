// SPDX-License-Identifier: BSD-3-Clause
#include <scaledot/kernel/softmax_long.hpp>

#include "support/softmax_kernels.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <type_traits>
#include <vector>

namespace sd = scaledot;
using namespace scaledot::kernel;
using namespace test_support;
using arch = softmax_arch;

namespace {

/// Kinds of rows in an order in which every kind follows every other.
std::vector<std::size_t> kinds()
{
    std::vector<std::size_t> order;
    for (const std::size_t a : {0u, 1u, 3u, 4u, 5u, 7u, 8u}) {
        for (const std::size_t b : {0u, 2u, 4u, 6u, 8u}) {
            order.insert(order.end(), {a, b});
        }
    }
    return order;
}

/// Lengths around vectors, chunks of vectors, and beyond.
template <class T>
std::vector<std::size_t> lengths()
{
    const std::size_t width = lanes<arch, T>;
    return {1,         width - 1,     width,          width + 1,      2 * width + 3, 8 * width - 1,
            8 * width, 8 * width + 1, 16 * width + 5, 17 * width - 1, 1000};
}

template <class T, class Temperature>
void compare(const Temperature& temperature)
{
    for (const std::size_t length : lengths<T>()) {
        std::vector<T> x;
        std::vector<softmax_results<T>> expected;
        std::vector<std::vector<T>> computed_twice;
        for (const std::size_t kind : kinds()) {
            const auto row = softmax_row<T>(length, kind);
            x.insert(x.end(), row.begin(), row.end());
            expected.push_back(softmax_alone(row, temperature));
            computed_twice.push_back(softmax_of_any(row, temperature).probabilities);
        }
        const std::size_t count = expected.size();
        std::vector<T> kept(length);
        const auto run = [&](auto output, const std::vector<T>& from, std::vector<T>& to, std::size_t shift, T* memory,
                             bool streaming) {
            softmax_long<arch, output(), T, T, T, Temperature> rows(length, temperature, memory, streaming);
            for (std::size_t row = 0; row < count; ++row) {
                const std::size_t next = std::min(row + 1, count - 1);
                rows.run(from.data() + row * length, to.data() + shift + row * length, from.data() + next * length);
            }
        };
        constexpr std::integral_constant<softmax_output, softmax_output::probabilities> probabilities;
        constexpr std::integral_constant<softmax_output, softmax_output::logarithms> logarithms;
        const auto probability = [&](std::size_t row) { return expected[row].probabilities.data(); };
        const auto probability_computed_twice = [&](std::size_t row) { return computed_twice[row].data(); };
        const auto logarithm = [&](std::size_t row) { return expected[row].logarithms.data(); };
        const auto all_equal = [&](const std::vector<T>& y, std::size_t shift, const auto& expected_row) {
            for (std::size_t row = 0; row < count; ++row) {
                CHECK(equal_bits(y.data() + shift + row * length, expected_row(row), length));
            }
            CHECK(std::all_of(y.begin(), y.begin() + static_cast<std::ptrdiff_t>(shift), [](T v) { return v == 7; }));
            CHECK(std::all_of(y.begin() + static_cast<std::ptrdiff_t>(shift + count * length), y.end(),
                              [](T v) { return v == 7; }));
        };
        for (const bool streaming : {false, true}) {
            for (const std::size_t shift : {0u, 1u, 5u}) {
                std::vector<T> y(x.size() + 8, T(7));
                run(probabilities, x, y, shift, kept.data(), streaming);
                all_equal(y, shift, probability);
                run(probabilities, x, y, shift, nullptr, streaming);
                all_equal(y, shift, probability_computed_twice);
                run(logarithms, x, y, shift, nullptr, streaming);
                all_equal(y, shift, logarithm);
            }
        }
        auto y = x;
        run(probabilities, y, y, 0, kept.data(), false);
        all_equal(y, 0, probability);
        y = x;
        run(probabilities, y, y, 0, nullptr, false);
        all_equal(y, 0, probability_computed_twice);
        y = x;
        run(logarithms, y, y, 0, nullptr, false);
        all_equal(y, 0, logarithm);
        std::vector<T> lse(count);
        softmax_long<arch, softmax_output::logsumexp, T, T, T, Temperature> rows(length, temperature, nullptr, false);
        for (std::size_t row = 0; row < count; ++row) {
            rows.run(x.data() + row * length, &lse[row], x.data() + row * length);
            CHECK(equal_bits(&lse[row], &expected[row].logsumexp, 1));
        }
    }
}

} // namespace

TEST_CASE_TEMPLATE(
    "softmax_long: the bits of softmax_along or softmax_narrow, whatever row comes before, streamed or not, in place",
    T, float, double)
{
    compare<T>(unit_temperature<T>{});
    compare<T>(moderate_temperature<T>(0.7));
}

TEST_CASE("softmax_long: results of a storage type are float's, rounded")
{
    const unit_temperature<float> temperature;
    const std::size_t length = 333;
    std::vector<float> kept(length);
    std::vector<sd::bfloat16> y(3 * length);
    std::vector<std::vector<float>> x;
    {
        softmax_long<arch, softmax_output::probabilities, float, float, sd::bfloat16, unit_temperature<float>> rows(
            length, temperature, kept.data(), true);
        for (std::size_t row = 0; row < 3; ++row) {
            x.push_back(softmax_row<float>(length, row));
        }
        for (std::size_t row = 0; row < 3; ++row) {
            rows.run(x[row].data(), y.data() + row * length, x[row].data());
        }
    }
    for (std::size_t row = 0; row < 3; ++row) {
        const auto alone = softmax_alone(x[row], temperature);
        for (std::size_t i = 0; i < length; ++i) {
            CHECK(static_cast<float>(y[row * length + i]) == static_cast<float>(sd::bfloat16(alone.probabilities[i])));
        }
    }
}
