// SPDX-License-Identifier: BSD-3-Clause
#include <scaledot/kernel/softmax.hpp>

#include "support/softmax_kernels.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

namespace sd = scaledot;
using namespace scaledot::kernel;
using namespace test_support;
using arch = softmax_arch;

namespace {

/// Rows of all kinds, each followed by NaN, which would poison it.
template <class T>
struct rows_with_gaps {
    rows_with_gaps(std::size_t count, std::size_t row_length)
        : length(row_length), stride(static_cast<std::ptrdiff_t>(row_length + 3))
    {
        for (std::size_t row = 0; row < count; ++row) {
            rows.push_back(softmax_row<T>(length, row));
            x.insert(x.end(), rows.back().begin(), rows.back().end());
            x.insert(x.end(), 3, quiet_nan<T>());
        }
    }

    std::size_t length;
    std::ptrdiff_t stride;
    std::vector<std::vector<T>> rows;
    std::vector<T> x;
};

} // namespace

TEST_CASE_TEMPLATE("softmax_along: rows of any length have the same bits alone and in groups, wherever weights wait", T,
                   float, double)
{
    const unit_temperature<T> temperature;
    const std::size_t width = lanes<arch, T>;
    for (std::size_t length = 1; length <= 130; length += length < 4 * width + 2 ? 1 : 7) {
        for (const std::size_t count : {std::min(std::size_t{3}, width), width - 1, width}) {
            const rows_with_gaps<T> group(count, length);
            const auto step = static_cast<std::size_t>(group.stride);
            const std::vector<T> untouched(group.x.size(), T(7));
            std::vector<T> kept(count * length);
            std::vector<T> with_scratch = untouched;
            std::vector<T> in_place = untouched;
            std::vector<T> streamed = untouched;
            std::vector<T> logarithms = untouched;
            std::vector<T> logsumexp(count);
            const auto along = [&](T* y, std::ptrdiff_t stride) {
                const auto rows = rows_of(count, group.x.data(), group.stride, y, stride, length);
                return softmax_along<arch, T, T, T>(rows, temperature.scale);
            };
            along(with_scratch.data(), group.stride).probabilities(kept.data(), false);
            along(streamed.data(), group.stride).probabilities(kept.data(), true);
            along(in_place.data(), group.stride).probabilities(nullptr, false);
            along(logarithms.data(), group.stride).logarithms(temperature, false);
            along(logsumexp.data(), 1).logsumexp(temperature.value);
            for (std::size_t row = 0; row < count; ++row) {
                const auto alone = softmax_of_any(group.rows[row], temperature);
                const std::size_t at = row * step;
                CHECK(equal_bits(&with_scratch[at], alone.probabilities.data(), length));
                CHECK(equal_bits(&streamed[at], alone.probabilities.data(), length));
                CHECK(equal_bits(&in_place[at], alone.probabilities.data(), length));
                CHECK(equal_bits(&logarithms[at], alone.logarithms.data(), length));
                CHECK(equal_bits(&logsumexp[row], &alone.logsumexp, 1));
                for (std::size_t i = at + length; i < at + step; ++i) {
                    CHECK(with_scratch[i] == 7);
                    CHECK(streamed[i] == 7);
                    CHECK(in_place[i] == 7);
                    CHECK(logarithms[i] == 7);
                }
            }
        }
    }
}

TEST_CASE_TEMPLATE("softmax_along: rows of NaN do not hide that the ones beside them need care", T, float, double)
{
    const unit_temperature<T> temperature;
    const std::size_t count = lanes<arch, T>;
    const std::size_t length = 4 * count + 3;
    const auto step = static_cast<std::ptrdiff_t>(length);
    for (const T not_a_number : {barrier(quiet_nan<T>()), barrier(T(-quiet_nan<T>()))}) {
        for (const std::size_t place : {std::size_t{0}, count + 1, length - 1}) {
            for (const std::size_t first : {0u, 1u}) {
                std::vector<T> x(count * length, T(0.5));
                for (std::size_t row = 0; row < count; ++row) {
                    x[row * length + place] = row % 2 == first ? barrier(negative_infinity<T>) : not_a_number;
                }
                std::vector<T> y(x.size());
                const auto rows = rows_of<T>(count, x.data(), step, y.data(), step, length);
                softmax_along<arch, T, T, T>(rows, temperature.scale).probabilities(nullptr, false);
                for (std::size_t row = first; row < count; row += 2) {
                    const auto begin = x.begin() + static_cast<std::ptrdiff_t>(row) * step;
                    const auto alone = softmax_of_any(std::vector<T>(begin, begin + step), temperature);
                    CHECK(equal_bits(&y[row * length], alone.probabilities.data(), length));
                    CHECK(y[row * length + place] == 0);
                }
            }
        }
    }
}

TEST_CASE_TEMPLATE("softmax_along: y may be x", T, float, double)
{
    const moderate_temperature<T> temperature(1.7);
    for (const std::size_t length : {std::size_t{5}, 2 * lanes<arch, T>, std::size_t{77}}) {
        for (std::size_t kind = 0; kind < 16; ++kind) {
            const auto x = softmax_row<T>(length, kind);
            const auto alone = softmax_of_any(x, temperature);
            auto y = x;
            const softmax_rows<T, T> row(y.data(), y.data(), length);
            softmax_along<arch, T, T, T>(row, temperature.scale).probabilities(nullptr, false);
            CHECK(equal_bits(y.data(), alone.probabilities.data(), length));
            y = x;
            softmax_along<arch, T, T, T>(row, temperature.scale).logarithms(temperature, false);
            CHECK(equal_bits(y.data(), alone.logarithms.data(), length));
        }
    }
}

TEST_CASE_TEMPLATE("softmax_along: probabilities sum to 1, logarithms are theirs, NaN fills rows without", T, float,
                   double)
{
    const unit_temperature<T> temperature;
    for (std::size_t kind = 0; kind < 16; ++kind) {
        const auto x = softmax_row<T>(61, kind);
        const auto r = softmax_of_any(x, temperature);
        const bool poisoned = kind % 8 == 4 || kind % 8 == 5;
        double sum = 0;
        for (std::size_t i = 0; i < x.size(); ++i) {
            const auto p = static_cast<double>(r.probabilities[i]);
            CHECK(is_nan_of(r.probabilities[i]) == poisoned);
            CHECK(is_nan_of(r.logarithms[i]) == poisoned);
            if (!poisoned) {
                sum += p;
                CHECK(std::exp(static_cast<double>(r.logarithms[i])) == doctest::Approx(p).epsilon(1e-5));
            }
        }
        CHECK((poisoned || sum == doctest::Approx(1).epsilon(1e-6)));
    }
}

TEST_CASE_TEMPLATE("softmax_along: the largest logits are all beyond a distance from 0, or not", T, float, double)
{
    const std::size_t count = lanes<arch, T>;
    const std::size_t length = 2 * count;
    std::vector<T> x(count * length, T(-20));
    const auto beyond = [&](T distance) {
        const auto rows = rows_of<T>(count, x.data(), static_cast<std::ptrdiff_t>(length), nullptr, 0, length);
        return softmax_along<arch, T, T, T>(rows, exponent_scale<T>(1.0)).all_beyond(distance);
    };
    CHECK(beyond(T(19)));
    CHECK(!beyond(T(20)));
    for (std::size_t row = 0; row < count; ++row) {
        x[row * length + row] = T(5);
        CHECK(!beyond(T(19)));
        CHECK(beyond(T(4)));
        x[row * length + row] = T(30);
        CHECK(beyond(T(19)));
    }
}
