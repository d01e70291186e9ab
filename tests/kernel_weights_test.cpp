// SPDX-License-Identifier: BSD-3-Clause
#include <scaledot/kernel/weights.hpp>

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

/// One number's weight, its frame being that of a row with this maximum and lowest logit.
template <class T, bool Plain>
weight<T> weight_of(T x, T maximum, T lowest, const exponent_scale<T>& scale)
{
    using B = batch<arch, T>;
    const auto frame = frame_of(B(maximum), B(lowest), scale);
    const auto w = weigher<B, Plain>(frame, scale)(B(x));
    std::array<T, lanes<arch, T>> power;
    std::array<T, lanes<arch, T>> excess;
    w.power.store_unaligned(power.data());
    w.excess.store_unaligned(excess.data());
    return {power.back(), excess.back()};
}

template <class T>
bool is_plain(T maximum, T lowest, const exponent_scale<T>& scale)
{
    using B = batch<arch, T>;
    return xsimd::all(frame_of(B(maximum), B(lowest), scale).plain == B(1));
}

/// e^((x - maximum) / T) as a share of what the maximum weighs.
template <class T>
mpfr_number exact_share(T x, T maximum, double temperature)
{
    return exp((mpfr_number(static_cast<double>(x)) - mpfr_number(static_cast<double>(maximum))) /
               mpfr_number(temperature));
}

/// Logits from `top` - `depth` to `top`, in units where e is 2: around all middles between sixteenths, where the
/// reduction is worst, and at random.
template <class T>
std::vector<T> logits_below(double top, double depth, double temperature)
{
    std::vector<T> all;
    std::mt19937_64 engine(1);
    std::uniform_real_distribution<double> uniform(top - depth, top);
    const double to_logit = 0.693147180559945309417 * temperature;
    for (double at = top; at > top - depth; at -= 1.0 / 32) {
        const T x = static_cast<T>(at * to_logit);
        all.insert(all.end(), {x, std::nextafter(x, std::numeric_limits<T>::lowest())});
        all.push_back(static_cast<T>(uniform(engine) * to_logit));
    }
    return all;
}

} // namespace

TEST_CASE_TEMPLATE("weigher: power and excess are exact to weight_max_error, their value to half an ulp more", T, float,
                   double)
{
    using B = batch<arch, T>;
    double worst = 0;
    double worst_value = 0;
    const double reach = static_cast<double>(weight_constants<T>::plain_reach);
    for (const double t : {1.0, 0.75, 7.3, 1e-9, 1e9, 1e-18, 1e17}) {
        const exponent_scale<T> scale(t);
        for (const double top : {0.0, 0.99 * reach, -0.99 * reach, 3.4 * reach, 40 * reach, -40 * reach, 1e5, -1e5}) {
            const double depth = std::min(top == 0 ? 2 * reach : reach, 140.0);
            const auto all = logits_below<T>(top, depth, t);
            const T maximum = *std::max_element(all.begin(), all.end());
            const auto unit = number_of(weight_of<T, false>(maximum, maximum, maximum, scale));
            for (const T x : all) {
                // against the maximum's own weight, whose error counts as well
                const mpfr_number exact = unit * exact_share(x, maximum, t);
                const auto w = weight_of<T, false>(x, maximum, T(-1), scale);
                worst = std::max(worst, relative_error<T>(number_of(w), exact) / 2);
                const T value = weight<B>{B(w.power), B(w.excess)}.value().get(0);
                worst_value =
                    std::max(worst_value, relative_error<T>(mpfr_number(static_cast<double>(value)), number_of(w)));
            }
        }
    }
    MESSAGE("weigher: ", worst, " u; value: ", worst_value, " u");
    CHECK(worst <= weight_max_error);
    CHECK(worst_value <= 1.03);
}

TEST_CASE("weigher: every 1009th float of a plain row is exact to weight_max_error")
{
    using B = batch<arch, float>;
    const exponent_scale<float> scale(1.0);
    const auto frame = frame_of(B(0.f), B(-44.f), scale);
    const weigher<B, true> weigh(frame, scale);
    constexpr std::size_t size = lanes<arch, float>;
    double worst = 0;
    const auto last = std::bit_cast<std::uint32_t>(-44.0f);
    for (std::uint32_t first = 0x80000000u; first <= last; first += 1009 * size) {
        std::array<float, size> x;
        for (std::uint32_t lane = 0; lane < size; ++lane) {
            x[lane] = std::bit_cast<float>(std::min(first + 1009 * lane, last));
        }
        const auto w = weigh(B::load_unaligned(x.data()));
        std::array<float, size> power;
        std::array<float, size> excess;
        w.power.store_unaligned(power.data());
        w.excess.store_unaligned(excess.data());
        for (std::size_t lane = 0; lane < size; ++lane) {
            const double exact = std::exp(static_cast<double>(x[lane])) * 0x1p32;
            const double value = static_cast<double>(power[lane]) * (1 + static_cast<double>(excess[lane]));
            worst = std::max(worst, std::abs(value - exact) / exact * 0x1p24);
        }
    }
    MESSAGE("weigher: ", worst, " u");
    CHECK(worst <= weight_max_error);
}

TEST_CASE_TEMPLATE("weigher: plain rows get the bits of those that are not", T, float, double)
{
    const double reach = static_cast<double>(weight_constants<T>::plain_reach);
    const double depth = static_cast<double>(weight_constants<T>::depth);
    for (const double t : {1.0, 0.3, 1e9}) {
        const exponent_scale<T> scale(t);
        for (const double top : {0.0, 0.99 * reach, -0.5 * reach, -1.99 * depth}) {
            const auto all = logits_below<T>(top, 0.99 * reach, t);
            const T maximum = *std::max_element(all.begin(), all.end());
            const T lowest = *std::min_element(all.begin(), all.end());
            REQUIRE(is_plain(maximum, std::min(lowest, T(0)), scale));
            for (const T x : all) {
                const auto plain = weight_of<T, true>(x, maximum, lowest, scale);
                const auto careful = weight_of<T, false>(x, maximum, lowest, scale);
                CHECK(plain.power == careful.power);
                CHECK(plain.excess == careful.excess);
            }
        }
    }
}

TEST_CASE_TEMPLATE("frame_of: rows are plain unless logits are large, far apart, not finite, or T is extreme", T, float,
                   double)
{
    const exponent_scale<T> scale(1.0);
    const T reach = weight_constants<T>::plain_reach * T(0.69);
    CHECK(is_plain(T(0), T(0), scale));
    CHECK(is_plain(reach, T(0), scale));
    CHECK(is_plain(T(0), -reach, scale));
    CHECK(!is_plain(T(1.01) * reach, T(0), scale));
    CHECK(!is_plain(T(1.01) * reach, T(1.01) * reach, scale)); // it may have logits of 0
    const T near = -2 * weight_constants<T>::depth * T(0.69);
    CHECK(is_plain(near, near - T(0.99) * reach, scale));
    CHECK(!is_plain(near, near - T(1.01) * reach, scale));
    const T far = 2 * weight_constants<T>::depth * T(0.7);
    CHECK(!is_plain(-far, -far, scale));
    CHECK(!is_plain(T(0), T(-1.01) * reach, scale));
    CHECK(!is_plain(T(0), barrier(negative_infinity<T>), scale));
    CHECK(!is_plain(barrier(infinity<T>), T(0), scale));
    CHECK(!is_plain(T(0), T(0), exponent_scale<T>(1e-20)));
    CHECK(!is_plain(T(0), T(0), exponent_scale<T>(1e20)));
}

TEST_CASE_TEMPLATE("weigher: logits too far below the maximum weigh exactly nothing, NaN weighs NaN", T, float, double)
{
    const T depth = weight_constants<T>::depth * T(0.7);
    for (const double t : {1.0, 0.5, 0x1p-60, 0x1p60}) {
        const exponent_scale<T> scale(t);
        for (const T maximum : {T(0), T(2e4), T(-2e4)}) {
            const T far = static_cast<T>(static_cast<double>(depth) * t);
            for (const T x : {maximum - std::max(far, std::abs(maximum)), std::numeric_limits<T>::lowest(),
                              barrier(negative_infinity<T>)}) {
                const auto w = weight_of<T, false>(x, maximum, x, scale);
                CHECK(w.power == 0);
                CHECK(std::abs(w.excess) < T(0.03));
            }
            const auto w = weight_of<T, false>(barrier(quiet_nan<T>()), maximum, T(0), scale);
            CHECK((std::bit_cast<bits_of<T>>(w.excess) & exponent_mask<T>) == exponent_mask<T>);
        }
    }
}

TEST_CASE_TEMPLATE("weight_sum: a sum of eight weights a lane is exact to weight_sum_max_error", T, float, double)
{
    using B = batch<arch, T>;
    const exponent_scale<T> scale(1.0);
    std::mt19937_64 engine(2);
    double worst = 0;
    for (const double spread : {1e-3, 0.5, 3.0, 30.0}) {
        std::uniform_real_distribution<double> uniform(-spread, 0);
        for (int round = 0; round < 400; ++round) {
            const weigher<B, false> weigh(frame_of(B(0), B(0), scale), scale);
            weight_sum<B> sum;
            mpfr_number exact(0);
            for (std::size_t i = 0; i < weight_sum<B>::most; ++i) {
                const auto w = weigh(B(i == 0 ? T(0) : static_cast<T>(uniform(engine))));
                sum.add(w);
                exact += number_of(weight<T>{w.power.get(0), w.excess.get(0)});
            }
            const auto total = sum.total();
            const mpfr_number found = mpfr_number(static_cast<double>(total.high.get(0))) +
                                      mpfr_number(static_cast<double>(total.low.get(0)));
            worst = std::max(worst, relative_error<T>(found, exact));
        }
    }
    MESSAGE("weight_sum: ", worst, " u");
    CHECK(worst <= weight_sum_max_error);
}
