// SPDX-License-Identifier: BSD-3-Clause
#include <scaledot/detail/softmax_groups.hpp>

#include "support/softmax_kernels.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <functional>
#include <vector>

using namespace scaledot::kernel;
using namespace test_support;
using arch = softmax_arch;

namespace {

/// Rows whose logits are all near 0, where narrow(row), or else 20 of each other kind in turn, and their results one by
/// one.
template <class T>
struct known_rows {
    known_rows(std::size_t count, std::size_t row_length, const std::function<bool(std::size_t)>& narrow)
        : length(row_length)
    {
        for (std::size_t row = 0; row < count; ++row) {
            const auto logits = softmax_row<T>(length, 16 * row + (narrow(row) ? 8 : row / 20 % 6));
            x.insert(x.end(), logits.begin(), logits.end());
            expected.push_back(softmax_alone(logits, unit_temperature<T>{}));
        }
    }

    std::size_t length;
    std::vector<T> x;
    std::vector<softmax_results<T>> expected;
};

/// All rows' results by groups of `size`, their lines of several lengths, each result between two sevens.
template <softmax_output Output, class T>
std::vector<T> results_of(const known_rows<T>& rows, std::size_t size, bool with_scratch, bool streaming)
{
    const std::size_t length = Output == softmax_output::logsumexp ? 1 : rows.length;
    std::vector<T> scratch(size * rows.length);
    std::vector<T> y(rows.expected.size() * (length + 2), T(7));
    const unit_temperature<T> temperature;
    scaledot::detail::softmax_groups<arch, Output, T, T, T, unit_temperature<T>> groups(
        rows.length, size, temperature, with_scratch ? scratch.data() : nullptr, streaming);
    std::size_t row = 0;
    for (std::size_t line = 1; row < rows.expected.size(); line = 2 * line + 1) {
        const std::size_t count = std::min(line, rows.expected.size() - row);
        groups.take(rows.x.data() + row * rows.length, static_cast<std::ptrdiff_t>(rows.length),
                    y.data() + row * (length + 2) + 1, static_cast<std::ptrdiff_t>(length + 2), count);
        row += count;
    }
    groups.finish();
    return y;
}

template <class T>
bool are_right(const std::vector<T>& y, std::size_t rows, std::size_t length, const auto& expected)
{
    bool right = true;
    for (std::size_t row = 0; row < rows; ++row) {
        const T* const result = y.data() + row * (length + 2);
        right = right && result[0] == 7 && equal_bits(result + 1, expected(row), length) && result[length + 1] == 7;
    }
    return right;
}

} // namespace

TEST_CASE_TEMPLATE("softmax_groups: whatever kinds of rows are mixed, results are those of each row alone", T, float,
                   double)
{
    using enum softmax_output;
    const std::size_t width = lanes<arch, T>;
    const std::size_t count = 9 * width + 5;
    const std::vector<std::function<bool(std::size_t)>> mixtures = {
        [](std::size_t) { return true; },
        [](std::size_t) { return false; },
        [](std::size_t row) { return row % 2 == 0; },
        [](std::size_t row) { return row % 7 == 3; },
        [](std::size_t row) { return row % 7 != 3; },
        [&](std::size_t row) { return row / (2 * width + 3) % 2 == 1; },
    };
    for (const auto& mixture : mixtures) {
        for (const std::size_t length : {2 * width, 2 * width + 5, 6 * width + 1}) {
            const known_rows<T> rows(count, length, mixture);
            const auto probability = [&](std::size_t row) { return rows.expected[row].probabilities.data(); };
            const auto logarithm = [&](std::size_t row) { return rows.expected[row].logarithms.data(); };
            const auto lse = [&](std::size_t row) { return &rows.expected[row].logsumexp; };
            for (const std::size_t size : {std::size_t{1}, width - 1, width}) {
                CHECK(are_right(results_of<probabilities>(rows, size, false, false), count, length, probability));
                CHECK(are_right(results_of<probabilities>(rows, size, true, true), count, length, probability));
                CHECK(are_right(results_of<logarithms>(rows, size, false, false), count, length, logarithm));
                CHECK(are_right(results_of<logsumexp>(rows, size, false, false), count, 1, lse));
            }
        }
    }
}
