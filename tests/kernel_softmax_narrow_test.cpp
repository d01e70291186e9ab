// SPDX-License-Identifier: BSD-3-Clause
#include <scaledot/kernel/softmax_narrow.hpp>
#include <scaledot/kernel/temperature.hpp>
#include <scaledot/softmax.hpp>

#include "support/mpfr_number.hpp"
#include "support/softmax_kernels.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

namespace sd = scaledot;
using namespace scaledot::kernel;
using namespace test_support;
using arch = softmax_arch;

namespace {

template <class T>
std::vector<T> narrow_row(std::size_t length, std::size_t seed)
{
    const auto drawn = gaussian<T>(length, 0, 1, static_cast<unsigned>(length + seed));
    return {drawn.begin(), drawn.end()};
}

} // namespace

TEST_CASE_TEMPLATE(
    "softmax_narrow: rows of any length have the same bits alone and among others, wherever weights wait", T, float,
    double)
{
    if constexpr (narrow_rows<arch, T>::exist) {
        const exponent_scale<T> scale(1.0);
        const softmax_narrow<arch, T, T, T> narrow(scale);
        const std::size_t width = lanes<arch, T>;
        for (std::size_t length = 2; length <= 300; length += length < 2 * width + 2 ? 1 : 13) {
            const std::size_t step = length + 3;
            std::vector<T> x;
            for (std::size_t row = 0; row < width; ++row) {
                const auto logits = narrow_row<T>(length, row);
                x.insert(x.end(), logits.begin(), logits.end());
                x.insert(x.end(), 3, quiet_nan<T>());
            }
            const auto stride = static_cast<std::ptrdiff_t>(step);
            const std::uint32_t all = (std::uint32_t{1} << width) - 1;
            for (const std::uint32_t places : {all, all & 0xaaaau, std::uint32_t{1} << (width - 1)}) {
                std::vector<T> kept(x.size());
                std::vector<T> with_scratch(x.size(), T(7));
                std::vector<T> streamed = with_scratch;
                std::vector<T> in_place = with_scratch;
                std::vector<T> logarithms = with_scratch;
                std::vector<T> sums(width, T(7));
                const unit_temperature<T> temperature;
                const auto rows = [&](std::vector<T>& y) {
                    return rows_at(places, x.data(), stride, y.data(), stride, length);
                };
                narrow.probabilities(rows(with_scratch), kept.data(), false);
                narrow.probabilities(rows(streamed), kept.data(), true);
                narrow.probabilities(rows(in_place), nullptr, false);
                narrow.logarithms(rows(logarithms), temperature, false);
                narrow.logsumexp(rows_at(places, x.data(), stride, sums.data(), 1, length), 1.0);
                for (std::size_t row = 0; row < width; ++row) {
                    std::vector<T> expected(length, T(7));
                    std::vector<T> expected_logarithms(step, T(7));
                    T expected_sum(7);
                    if ((places >> row & 1) != 0) {
                        const auto alone = [&](T* y) { return softmax_rows<T, T>(x.data() + row * step, y, length); };
                        narrow.logarithms(alone(expected_logarithms.data()), temperature, false);
                        narrow.logsumexp(alone(&expected_sum), 1.0);
                        narrow.probabilities(alone(expected.data()), nullptr, false);
                    }
                    expected.insert(expected.end(), 3, T(7));
                    for (const auto* y : {&with_scratch, &streamed, &in_place}) {
                        CHECK(equal_bits(y->data() + row * step, expected.data(), step));
                    }
                    CHECK(equal_bits(logarithms.data() + row * step, expected_logarithms.data(), step));
                    CHECK(equal_bits(&sums[row], &expected_sum, 1));
                }
            }
        }
    }
}

TEST_CASE_TEMPLATE("softmax_narrow: exact to softmax_max_ulp, and never above 1", T, float, double)
{
    if constexpr (narrow_rows<arch, T>::exist) {
        const exponent_scale<T> scale(1.0);
        const softmax_narrow<arch, T, T, T> narrow(scale);
        const auto largest = static_cast<T>(static_cast<double>(narrow_constants<T>::reach) * 0.6931);
        for (std::size_t length = 2; length <= 200; length += 9) {
            for (const bool peaked : {false, true}) {
                auto x = narrow_row<T>(length, 1);
                if (peaked) {
                    std::fill(x.begin(), x.end(), T(-largest));
                    x[length / 2] = largest;
                }
                REQUIRE(is_narrow(x, scale));
                std::vector<T> y(length);
                const auto row = [&](T* results) { return softmax_rows<T, T>(x.data(), results, length); };
                narrow.probabilities(row(y.data()), nullptr, false);
                mpfr_number sum(0);
                for (const T logit : x) {
                    sum += exp(mpfr_number(static_cast<double>(logit)));
                }
                std::vector<T> logarithms(length);
                T lse = 0;
                narrow.logarithms(row(logarithms.data()), unit_temperature<T>{}, false);
                narrow.logsumexp(row(&lse), 1.0);
                const mpfr_number exact_lse = log(sum);
                CHECK(error_in_ulp<T>(static_cast<double>(lse), exact_lse, exact_lse) <= sd::logsumexp_max_ulp);
                for (std::size_t i = 0; i < length; ++i) {
                    const mpfr_number exact_logarithm = mpfr_number(static_cast<double>(x[i])) - exact_lse;
                    CHECK(error_in_ulp<T>(static_cast<double>(logarithms[i]), exact_logarithm, exact_logarithm) <=
                          sd::log_softmax_max_ulp);
                    const mpfr_number exact = exp(mpfr_number(static_cast<double>(x[i]))) / sum;
                    CHECK(error_in_ulp<T>(static_cast<double>(y[i]), exact, exact) <= sd::softmax_max_ulp);
                    CHECK(y[i] <= 1);
                }
            }
        }
    }
}

TEST_CASE_TEMPLATE("softmax_narrow: NaN fills its row, and only that", T, float, double)
{
    if constexpr (narrow_rows<arch, T>::exist) {
        const exponent_scale<T> scale(1.0);
        const softmax_narrow<arch, T, T, T> narrow(scale);
        const std::size_t width = lanes<arch, T>;
        const std::size_t length = 2 * width + 5;
        const auto stride = static_cast<std::ptrdiff_t>(length);
        for (const T not_a_number : {barrier(quiet_nan<T>()), barrier(T(-quiet_nan<T>()))}) {
            for (const std::size_t place : {std::size_t{0}, width + 1, length - 1}) {
                std::vector<T> x(width * length, T(0.5));
                x[length + place] = not_a_number;
                std::vector<T> y(x.size());
                narrow.probabilities(rows_of<T>(width, x.data(), stride, y.data(), stride, length), nullptr, false);
                for (std::size_t i = 0; i < x.size(); ++i) {
                    CHECK(is_nan_of(y[i]) == (i / length == 1));
                }
            }
        }
    }
}
