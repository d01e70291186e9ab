// SPDX-License-Identifier: BSD-3-Clause
#include <scaledot/kernel/narrow_weights.hpp>

#include "support/mpfr_number.hpp"
#include "support/weights.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

namespace sd = scaledot;
using namespace scaledot::kernel;
using namespace test_support;
using arch = sd::native_architecture;

namespace {

constexpr double ln2 = 0.693147180559945309417;

mpfr_number log2_of(double x)
{
    return log(mpfr_number(x)) / log(mpfr_number(2));
}

/// The power of 2 that all weights carry: -0.009.
template <class T>
mpfr_number common_exponent()
{
    return mpfr_number(static_cast<double>(narrow_constants<T>::offsets[0])) + log2_of(narrow_powers[0] / 128.0);
}

template <class T>
std::array<T, lanes<arch, T>> numbers(const batch<arch, T>& x)
{
    std::array<T, lanes<arch, T>> all;
    x.store_unaligned(all.data());
    return all;
}

template <class T>
std::array<weight<T>, lanes<arch, T>> weights_of(const batch<arch, T>& x, const exponent_scale<T>& scale)
{
    const auto w = narrow_weigher<batch<arch, T>>(scale)(x);
    const auto powers = numbers<T>(w.power);
    const auto excesses = numbers<T>(w.excess);
    std::array<weight<T>, lanes<arch, T>> all;
    for (std::size_t i = 0; i < all.size(); ++i) {
        all[i] = {powers[i], excesses[i]};
    }
    return all;
}

template <class T>
T largest_logit(double temperature)
{
    return static_cast<T>(static_cast<double>(narrow_constants<T>::reach) * ln2 * temperature * (1 - 1e-6));
}

} // namespace

TEST_CASE_TEMPLATE("narrow_power: a power of two times a number of eight digits, for all sixteenths within reach", T,
                   float, double)
{
    using B = batch<arch, T>;
    const int reach = static_cast<int>(narrow_constants<T>::reach);
    for (int k = -16 * reach; k <= 16 * reach; ++k) {
        const B n(static_cast<T>(k) / 16);
        const B shifted = barrier(B(n + B(weight_constants<T>::round_to_sixteenth)));
        const int j = k & 15;
        const double expected = std::ldexp(narrow_powers[static_cast<std::size_t>(j)] / 128.0, (k - j) / 16);
        for (const T power : numbers<T>(narrow_power(as_bits(shifted), n))) {
            CHECK(static_cast<double>(power) == expected);
        }
        CHECK(expected <= std::ldexp(1.0, reach));
        CHECK(std::ldexp(expected, reach + 7) == std::floor(std::ldexp(expected, reach + 7)));
    }
}

TEST_CASE_TEMPLATE("narrow_constants: the offsets are what logarithms of the powers leave of sixteenths", T, float,
                   double)
{
    const mpfr_number common = common_exponent<T>();
    CHECK(std::abs(common.to_double() + 0.009) < 0.001);
    for (std::size_t j = 0; j < 16; ++j) {
        const double exact =
            (mpfr_number(static_cast<double>(j) / 16) + common - log2_of(narrow_powers[j] / 128.0)).to_double();
        const auto offset = static_cast<double>(narrow_constants<T>::offsets[j]);
        CHECK(std::abs(offset - exact) <= half_ulp<T> * 0x1p-7);
        CHECK(std::abs(offset) < 0.0028);
    }
}

TEST_CASE_TEMPLATE("narrow_weigher: power and excess are exact to narrow_weight_max_error", T, float, double)
{
    if constexpr (!narrow_rows<arch, T>::exist) {
        return;
    }
    using B = batch<arch, T>;
    std::mt19937_64 engine(1);
    double worst = 0;
    const mpfr_number unit = exp(common_exponent<T>() * log(mpfr_number(2)));
    for (const double t : {1.0, 0.75, 7.3, 1e-9, 1e9}) {
        const exponent_scale<T> scale(t);
        const auto largest = static_cast<double>(largest_logit<T>(t));
        std::uniform_real_distribution<double> uniform(-largest, largest);
        std::vector<T> all;
        // around the middles between sixteenths, where the reduction is worst, and at random
        for (int k = -32 * static_cast<int>(narrow_constants<T>::reach); k * ln2 / 32 * t < largest; ++k) {
            const T x = std::max(static_cast<T>(k * ln2 / 32 * t), static_cast<T>(-largest));
            all.insert(all.end(), {x, std::nextafter(x, T(0)), static_cast<T>(uniform(engine))});
        }
        all.insert(all.end(), {T(0), T(-0.0), std::numeric_limits<T>::denorm_min(), std::numeric_limits<T>::min()});
        for (const T x : all) {
            const mpfr_number exact = unit * exp(mpfr_number(static_cast<double>(x)) / mpfr_number(t));
            const auto w = weights_of<T>(B(x), scale).back();
            worst = std::max(worst, relative_error<T>(number_of(w), exact));
            CHECK(std::abs(w.excess) < T(0.025));
        }
    }
    MESSAGE("narrow_weigher: ", worst, " u");
    CHECK(worst <= narrow_weight_max_error);
}

TEST_CASE("narrow_weigher: every 503rd float within reach is exact to narrow_weight_max_error")
{
    if constexpr (!narrow_rows<arch, float>::exist) {
        return;
    }
    using B = batch<arch, float>;
    const exponent_scale<float> scale(1.0);
    const double unit = std::exp2(common_exponent<float>().to_double());
    double worst = 0;
    const auto last = std::bit_cast<std::uint32_t>(largest_logit<float>(1));
    for (const std::uint32_t sign : {0u, 0x80000000u}) {
        for (std::uint32_t first = 0x33000000u; first <= last; first += 503 * static_cast<std::uint32_t>(B::size)) {
            std::array<float, B::size> x;
            for (std::uint32_t lane = 0; lane < x.size(); ++lane) {
                x[lane] = std::bit_cast<float>(std::min(first + 503 * lane, last) | sign);
            }
            const auto w = weights_of<float>(B::load_unaligned(x.data()), scale);
            for (std::size_t lane = 0; lane < x.size(); ++lane) {
                const double exact = std::exp(static_cast<double>(x[lane])) * unit;
                const double value = static_cast<double>(w[lane].power) * (1 + static_cast<double>(w[lane].excess));
                worst = std::max(worst, std::abs(value - exact) / exact * 0x1p24);
            }
        }
    }
    MESSAGE("narrow_weigher: ", worst, " u");
    CHECK(worst <= narrow_weight_max_error);
}

TEST_CASE_TEMPLATE("narrow_weight_sum: powers have the exact sum, all is exact to narrow_weight_sum_max_error", T,
                   float, double)
{
    if constexpr (!narrow_rows<arch, T>::exist) {
        return;
    }
    using B = batch<arch, T>;
    const exponent_scale<T> scale(1.0);
    const auto largest = static_cast<double>(largest_logit<T>(1));
    std::mt19937_64 engine(2);
    double worst = 0;
    for (const double spread : {1e-3, 0.5, 0.5 * largest, largest}) {
        std::uniform_real_distribution<double> uniform(-spread, spread);
        for (int round = 0; round < 400; ++round) {
            narrow_weight_sum<B> sum;
            narrow_weight_sum<B> sum_of_powers;
            mpfr_number exact(0);
            mpfr_number powers(0);
            for (std::size_t i = 0; i < narrow_weight_sum<B>::most; ++i) {
                // every other time all but some are as large as can be: then the powers' sum has the most digits
                const double drawn = round % 2 == 0 || i % 4 == 0 ? uniform(engine) : spread;
                const auto w = narrow_weigher<B>(scale)(B(static_cast<T>(drawn)));
                sum.add(w);
                sum_of_powers.add({w.power, B(0)});
                exact += number_of(weight<T>{w.power.get(0), w.excess.get(0)});
                powers += mpfr_number(static_cast<double>(w.power.get(0)));
            }
            const auto total = sum.total();
            const mpfr_number found = mpfr_number(static_cast<double>(total.high.get(0))) +
                                      mpfr_number(static_cast<double>(total.low.get(0)));
            worst = std::max(worst, relative_error<T>(found, exact));
            const auto total_of_powers = sum_of_powers.total();
            CHECK((mpfr_number(static_cast<double>(total_of_powers.high.get(0))) - powers).to_double() == 0);
            CHECK(total_of_powers.low.get(0) == 0);
        }
    }
    MESSAGE("narrow_weight_sum: ", worst, " u");
    CHECK(worst <= narrow_weight_sum_max_error);
}

TEST_CASE_TEMPLATE(
    "narrow_totals: each row's lanes added up, a row a lane, of any number of rows; narrow_total: of one", T, float,
    double)
{
    using B = batch<arch, T>;
    std::mt19937_64 engine(3);
    std::uniform_real_distribution<double> uniform(0.5, 1000);
    std::array<pair<B>, B::size> sums;
    std::array<mpfr_number, B::size> exact;
    const B nan(barrier(quiet_nan<T>()));
    for (std::size_t row = 0; row < B::size; ++row) {
        std::array<T, B::size> high;
        std::array<T, B::size> low;
        exact[row] = mpfr_number(0);
        for (std::size_t lane = 0; lane < B::size; ++lane) {
            high[lane] = static_cast<T>(uniform(engine));
            low[lane] = static_cast<T>(uniform(engine) * half_ulp<T>);
            exact[row] += mpfr_number(static_cast<double>(high[lane])) + mpfr_number(static_cast<double>(low[lane]));
        }
        sums[row] = {B::load_unaligned(high.data()), B::load_unaligned(low.data())};
    }
    for (std::size_t rows = 1; rows <= B::size; ++rows) {
        auto some = sums;
        std::fill(some.begin() + static_cast<std::ptrdiff_t>(rows), some.end(), pair<B>{nan, nan});
        const auto totals = narrow_totals<arch, T>(some, rows);
        for (std::size_t row = 0; row < rows; ++row) {
            const auto alone = narrow_total<arch, T>(sums[row]);
            CHECK(alone.high == totals.high.get(row));
            CHECK(alone.low == totals.low.get(row));
            const mpfr_number found = mpfr_number(static_cast<double>(totals.high.get(row))) +
                                      mpfr_number(static_cast<double>(totals.low.get(row)));
            CHECK(relative_error<T>(found, exact[row]) <= 0x1p-20);
            CHECK(std::abs(totals.low.get(row)) <= totals.high.get(row) * half_ulp<T>);
        }
    }
}

TEST_CASE_TEMPLATE("narrow_rows: one logit beyond reach, wherever it stands, makes a row another; NaN does not", T,
                   float, double)
{
    for (const double t : {1.0, 0.5, 30.0}) {
        const narrow_rows<arch, T> narrow{exponent_scale<T>(t)};
        const T inside = largest_logit<T>(t);
        for (const std::size_t length : {std::size_t{2}, lanes<arch, T>, 4 * lanes<arch, T> + 3, std::size_t{300}}) {
            std::vector<T> x(length, inside);
            CHECK(narrow.contain(x.data(), length));
            for (std::size_t i = 0; i < length; ++i) {
                for (const T other : {T(inside * T(1.001)), T(inside * T(-1.001)), barrier(infinity<T>),
                                      barrier(negative_infinity<T>), std::numeric_limits<T>::max()}) {
                    x[i] = other;
                    CHECK(!narrow.contain(x.data(), length));
                }
                x[i] = barrier(quiet_nan<T>());
                CHECK(narrow.contain(x.data(), length));
                x[i] = -inside;
            }
            CHECK(narrow.contain(x.data(), length));
        }
        CHECK(!narrow.contain(&inside, 1));
        CHECK(narrow.contain_between(T(-inside), inside, 2));
        CHECK(narrow.contain_between(T(2 * inside), inside, 2)); // none is below 0
        CHECK(!narrow.contain_between(T(inside * T(-1.001)), inside, 2));
        CHECK(!narrow.contain_between(T(0), T(inside * T(1.001)), 2));
        CHECK(!narrow.contain_between(barrier(negative_infinity<T>), inside, 2));
        CHECK(!narrow.contain_between(T(0), barrier(infinity<T>), 2));
        CHECK(!narrow.contain_between(T(0), T(0), 1));
    }
}

TEST_CASE_TEMPLATE("narrow_rows: none at temperatures that scale logits first", T, float, double)
{
    const std::vector<T> x(40, T(0));
    CHECK(narrow_rows<arch, T>{exponent_scale<T>(1e9)}.contain(x.data(), x.size()));
    CHECK(!narrow_rows<arch, T>{exponent_scale<T>(1e20)}.contain(x.data(), x.size()));
    CHECK(!narrow_rows<arch, T>{exponent_scale<T>(1e-20)}.contain(x.data(), x.size()));
}
