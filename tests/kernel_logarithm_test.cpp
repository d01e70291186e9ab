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

/// The same of a / b, pairs whose low parts are anything up to half an ulp, a / b being x.
template <class Function, class Exact>
double largest_error_of_pairs(const std::vector<double>& x, double b, Function&& function, Exact&& exact)
{
    double worst = 0;
    std::mt19937_64 engine(1);
    std::uniform_real_distribution<double> part(-0x1p-53, 0x1p-53);
    for (const double number : x) {
        const double high = number * b;
        const double low = std::max(high * part(engine), number == 1 ? 0.0 : -b);
        const double b_low = b * (b == 1 ? 0 : part(engine));
        const auto value =
            function(sd::kernel::pair<D>{in_last_lane(high), in_last_lane(low)}, sd::kernel::pair<D>{D(b), D(b_low)});
        const mpfr_number expected =
            exact((mpfr_number(high) + mpfr_number(low)) / (mpfr_number(b) + mpfr_number(b_low)));
        const mpfr_number found = mpfr_number(last_lane(value.high)) + mpfr_number(last_lane(value.low));
        worst = std::max(worst, (abs(found - expected) / expected).to_double());
    }
    return worst;
}

const auto log_of = [](const mpfr_number& x) { return log(x); };
const auto log1p_of = [](const mpfr_number& x) { return log1p(x); };

using number_pair = sd::kernel::pair<D>;

D logarithm(const D& x)
{
    return terms_of_quotient<D>(x, D(1), x).logarithm();
}

number_pair logarithm_of_quotient(const number_pair& a, const number_pair& b)
{
    return terms_of_quotient<D>(a, b, D(a.high / b.high)).logarithm();
}

D logarithm_of_1_plus(const D& x)
{
    return terms_of_1_plus_quotient<D>(x, D(1)).logarithm();
}

number_pair logarithm_of_1_plus_quotient(const number_pair& a, const number_pair& b)
{
    return terms_of_1_plus_quotient<D>(a, b).logarithm();
}

} // namespace

TEST_CASE("terms_of_quotient: ln from 1 up, to logarithm_max_error of itself, of pairs to pair_logarithm_max_error")
{
    const double worst = largest_error(from_1_up(), logarithm, log_of);
    MESSAGE("logarithm: 2^", std::log2(worst));
    CHECK(worst <= logarithm_max_error);
    CHECK(std::fabs(last_lane(logarithm(D(1)))) <= 0x1p-52);
    for (const double b : {1.0, 1.5, 0x1.7p96}) {
        std::vector<double> ratios = from_1_up();
        if (b != 1) { // next to 1 the rounding of a / b is all there is
            std::erase_if(ratios, [](double ratio) { return ratio < 1.4; });
        }
        const double of_pairs = largest_error_of_pairs(ratios, b, logarithm_of_quotient, log_of);
        MESSAGE("logarithm of pairs over ", b, ": ", of_pairs * 0x1p53, " u");
        CHECK(of_pairs <= pair_logarithm_max_error);
    }
}

TEST_CASE("terms_of_1_plus_quotient: ln(1 + x) from 0 to 1, likewise")
{
    const double worst = largest_error(from_0_to_1(), logarithm_of_1_plus, log1p_of);
    MESSAGE("logarithm_of_1_plus: 2^", std::log2(worst));
    CHECK(worst <= logarithm_max_error);
    CHECK(last_lane(logarithm_of_1_plus(D(0))) == 0);
    for (const double b : {1.0, 1.5, 0x1.7p96}) {
        const double of_pairs = largest_error_of_pairs(from_0_to_1(), b, logarithm_of_1_plus_quotient, log1p_of);
        MESSAGE("logarithm of 1 + pairs over ", b, ": ", of_pairs * 0x1p53, " u");
        CHECK(of_pairs <= pair_logarithm_of_1_plus_max_error);
    }
    const auto nothing = logarithm_of_1_plus_quotient({D(0), D(0)}, {D(1), D(0)});
    CHECK(last_lane(nothing.high) == 0);
    CHECK(last_lane(nothing.low) == 0);
}
