// SPDX-License-Identifier: BSD-3-Clause
#include <scaledot/kernel/logarithm.hpp>

#include "support/mpfr_number.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <random>
#include <vector>

namespace sd = scaledot;
using namespace scaledot::kernel;
using test_support::mpfr_number;
using D = batch<sd::native_architecture, double>;

namespace {

/// Numbers from 1 up: all over the range, and around the odd powers of the root of 2, where what is left to the series
/// is largest.
std::vector<double> from_1_up()
{
    std::vector<double> x = {1 + 0x1p-52, 1 + 0x1p-20, 1.4, 1.9, std::nextafter(2.0, 0.0), 2, 0x1p1000};
    x.push_back(std::nextafter(2.0, 3.0));
    for (double exponent = 0.01; exponent < 300; exponent += 0.0317) {
        x.push_back(std::exp2(exponent));
    }
    for (double power = 0x1.6a09e667f3bcdp+1; power < 0x1p20; power *= 2) {
        x.insert(x.end(), {power, std::nextafter(power, 0.0), std::nextafter(power, 0x1p30)});
    }
    return x;
}

std::vector<double> from_0_to_1()
{
    std::vector<double> x = {0x1p-900, 0x1p-60, 0x1p-30, 0.9, 1};
    for (double number = 1; number > 1e-30; number *= 0.97) {
        x.push_back(number);
    }
    return x;
}

/// x in the last lane, 1 in the others.
D in_last_lane(double x)
{
    std::array<double, D::size> lanes;
    lanes.fill(1);
    lanes.back() = x;
    return D::load_unaligned(lanes.data());
}

double last_lane(const D& x)
{
    return x.get(D::size - 1);
}

/// The largest relative error over all x.
template <class Function, class Exact>
double largest_error(const std::vector<double>& x, Function&& function, Exact&& exact)
{
    double worst = 0;
    for (const double number : x) {
        const mpfr_number expected = exact(mpfr_number(number));
        const mpfr_number value(last_lane(function(in_last_lane(number))));
        worst = std::max(worst, (abs(value - expected) / expected).to_double());
    }
    return worst;
}

/// The same of pairs whose low parts are anything up to half an ulp.
template <class Function, class Exact>
double largest_error_of_pairs(const std::vector<double>& x, Function&& function, Exact&& exact)
{
    double worst = 0;
    std::mt19937_64 engine(1);
    std::uniform_real_distribution<double> part(-0x1p-53, 0x1p-53);
    for (const double number : x) {
        const double low = std::max(number * part(engine), number == 1 ? 0.0 : -1.0);
        const auto value = function(sd::kernel::pair<D>{in_last_lane(number), in_last_lane(low)});
        const mpfr_number expected = exact(mpfr_number(number) + mpfr_number(low));
        const mpfr_number found = mpfr_number(last_lane(value.high)) + mpfr_number(last_lane(value.low));
        worst = std::max(worst, (abs(found - expected) / expected).to_double());
    }
    return worst;
}

const auto log_of = [](const mpfr_number& x) { return log(x); };
const auto log1p_of = [](const mpfr_number& x) { return log1p(x); };

} // namespace

TEST_CASE("logarithm: ln from 1 up, to logarithm_max_error of itself, of pairs to pair_logarithm_max_error")
{
    const double worst = largest_error(
        from_1_up(), [](const D& x) { return logarithm(x); }, log_of);
    MESSAGE("logarithm: 2^", std::log2(worst));
    CHECK(worst <= logarithm_max_error);
    CHECK(std::fabs(last_lane(logarithm(D(1)))) <= 0x1p-52);
    const double of_pairs = largest_error_of_pairs(
        from_1_up(), [](const auto& x) { return logarithm(x); }, log_of);
    MESSAGE("logarithm of pairs: ", of_pairs * 0x1p53, " u");
    CHECK(of_pairs <= pair_logarithm_max_error);
}

TEST_CASE("logarithm_of_1_plus: ln(1 + x) from 0 to 1, likewise")
{
    const double worst = largest_error(
        from_0_to_1(), [](const D& x) { return logarithm_of_1_plus(x); }, log1p_of);
    MESSAGE("logarithm_of_1_plus: 2^", std::log2(worst));
    CHECK(worst <= logarithm_max_error);
    CHECK(last_lane(logarithm_of_1_plus(D(0))) == 0);
    const double of_pairs = largest_error_of_pairs(
        from_0_to_1(), [](const auto& x) { return logarithm_of_1_plus(x); }, log1p_of);
    MESSAGE("logarithm_of_1_plus of pairs: ", of_pairs * 0x1p53, " u");
    CHECK(of_pairs <= pair_logarithm_of_1_plus_max_error);
    const auto nothing = logarithm_of_1_plus(sd::kernel::pair<D>{D(0), D(0)});
    CHECK(last_lane(nothing.high) == 0);
    CHECK(last_lane(nothing.low) == 0);
}
