// SPDX-License-Identifier: BSD-3-Clause
#include <scaledot/kernel/softmax_sums.hpp>

#include <scaledot/kernel/softmax_others.hpp>

#include "support/mpfr_number.hpp"
#include "support/norm_rows.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <random>
#include <vector>

namespace sd = scaledot;
using namespace scaledot::kernel;
using test_support::gaussian;
using test_support::mpfr_number;
using arch = sd::native_architecture;

namespace {

template <class T>
mpfr_number number_of(const pair<T>& p)
{
    return mpfr_number(static_cast<double>(p.high)) + mpfr_number(static_cast<double>(p.low));
}

template <class B>
auto loads_of(const std::vector<typename B::value_type>& x)
{
    return [&x](std::size_t i) { return B::load_unaligned(x.data() + i * B::size); };
}

} // namespace

TEST_CASE_TEMPLATE("find_range: the largest, and the smallest where it is below 0", T, float, double)
{
    using B = batch<arch, T>;
    for (std::size_t count = 1; count <= 9; ++count) {
        for (const double mean : {0.0, -20.0, 20.0}) {
            const auto drawn = gaussian<T>(count * B::size, mean, 3, static_cast<unsigned>(count));
            const std::vector<T> x(drawn.begin(), drawn.end());
            const auto range = find_range<B>(count, loads_of<B>(x));
            for (std::size_t lane = 0; lane < B::size; ++lane) {
                T largest = x[lane];
                T smallest = x[lane];
                for (std::size_t i = 1; i < count; ++i) {
                    largest = std::max(largest, x[i * B::size + lane]);
                    smallest = std::min(smallest, x[i * B::size + lane]);
                }
                CHECK(range.maximum.get(lane) == largest);
                const T lowest = range.lowest.get(lane);
                CHECK((smallest < 0 ? lowest == smallest : lowest >= 0));
            }
        }
    }
}

TEST_CASE_TEMPLATE("add_weights, add_others: the sums of any number of weights, with and without the largest", T, float,
                   double)
{
    using B = batch<arch, T>;
    const exponent_scale<T> scale(1.0);
    const double bias = std::exp2(weight_constants<T>::bias);
    for (const std::size_t count : {1u, 2u, 7u, 8u, 9u, 16u, 17u, 100u}) {
        const auto drawn = gaussian<T>(count * B::size, 0, 3, static_cast<unsigned>(count));
        const std::vector<T> x(drawn.begin(), drawn.end());
        const T maximum = *std::max_element(x.begin(), x.end());
        const auto frame = frame_of(B(maximum), B(T(-20)), scale);
        const weigher<B, false> weigh(frame, scale);
        std::size_t kept = 0;
        const auto sum = reduce(add_weights<B>(count, loads_of<B>(x), weigh, [&](std::size_t i, const B& weight) {
            CHECK(i == kept++);
            CHECK(weight.get(0) > 0);
        }));
        const auto others = reduce(add_others<B>(count, loads_of<B>(x), weigh, B(maximum)));
        CHECK(kept == count);
        mpfr_number exact(0);
        for (const T logit : x) {
            exact += logit == maximum ? mpfr_number(0) : exp(mpfr_number(static_cast<double>(logit)));
        }
        const mpfr_number largest = exp(mpfr_number(static_cast<double>(maximum)));
        // the unit of the weights is a power of two near the largest
        const mpfr_number unit =
            mpfr_number(bias) / mpfr_number(std::exp2(std::round(static_cast<double>(maximum) * 1.4426950408889634)));
        const mpfr_number u(static_cast<double>(std::numeric_limits<T>::epsilon()) / 2);
        const mpfr_number all = (exact + largest) * unit;
        CHECK(abs(number_of(sum) - all) < all * u * mpfr_number(weight_max_error + weight_sum_max_error));
        CHECK(!(exact * unit * u * mpfr_number(2 * weight_max_error) < abs(number_of(others) - exact * unit)));
    }
}
