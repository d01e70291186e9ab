// SPDX-License-Identifier: BSD-3-Clause
#include <scaledot/kernel/logarithm.hpp>

#include "support/mpfr_number.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

namespace sd = scaledot;
using namespace scaledot::kernel;
using test_support::mpfr_number;
using D = batch<sd::native_architecture, double>;

namespace {

/// The largest relative error over all x, each in a lane of its own.
template <class Function, class Exact>
double largest_error(const std::vector<double>& x, Function&& function, Exact&& exact)
{
    double worst = 0;
    for (const double number : x) {
        std::vector<double> lanes(D::size, 1.0);
        lanes.back() = number;
        const double value = function(D::load_unaligned(lanes.data())).get(D::size - 1);
        const mpfr_number expected = exact(mpfr_number(number));
        const mpfr_number error = abs(mpfr_number(value) - expected);
        worst = std::max(worst, number == 0 ? std::fabs(value) : (error / expected).to_double());
    }
    return worst;
}

} // namespace

TEST_CASE("logarithm: ln from 1 up, to logarithm_max_error of itself")
{
    std::vector<double> x = {1 + 0x1p-52, 1 + 0x1p-20, 1.4, 1.9, std::nextafter(2.0, 0.0), 2, std::nextafter(2.0, 3.0),
                             0x1p1000};
    for (double exponent = 0.01; exponent < 300; exponent += 0.0317) {
        x.push_back(std::exp2(exponent));
    }
    // around the odd powers of the root of 2, where what is left to the series is largest
    for (double power = 0x1.6a09e667f3bcdp+1; power < 0x1p20; power *= 2) {
        x.insert(x.end(), {power, std::nextafter(power, 0.0), std::nextafter(power, 0x1p30)});
    }
    const double worst = largest_error(
        x, [](const D& v) { return logarithm(v); }, [](const mpfr_number& v) { return log(v); });
    MESSAGE("logarithm: 2^", std::log2(worst));
    CHECK(worst <= logarithm_max_error);
    CHECK(std::fabs(logarithm(D(1)).get(0)) <= 0x1p-52);
}

TEST_CASE("logarithm_of_1_plus: ln(1 + x) from 0 to 1, to logarithm_max_error of itself")
{
    std::vector<double> x = {0, 0x1p-1000, 0x1p-60, 0x1p-30, 1};
    for (double number = 1; number > 1e-30; number *= 0.97) {
        x.push_back(number);
    }
    const double worst = largest_error(
        x, [](const D& v) { return logarithm_of_1_plus(v); }, [](const mpfr_number& v) { return log1p(v); });
    MESSAGE("logarithm_of_1_plus: 2^", std::log2(worst));
    CHECK(worst <= logarithm_max_error);
}
