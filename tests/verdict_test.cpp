// SPDX-License-Identifier: BSD-3-Clause
#include <scaledot/verdict.hpp>

#include <scaledot/diagnostics.hpp>

#include "support/made_diagnostics.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <vector>

namespace sd = scaledot;
using test_support::made_diagnostics;

namespace {

std::vector<double> gaussian(std::size_t count, double standard_deviation, std::mt19937_64& engine)
{
    std::normal_distribution<double> normal(3, standard_deviation);
    std::vector<double> logits(count);
    std::generate(logits.begin(), logits.end(), [&] { return normal(engine); });
    return logits;
}

/// A head of `queries` rows of Gaussian logits.
made_diagnostics gaussian_head(std::size_t queries, std::size_t keys, double standard_deviation)
{
    std::mt19937_64 engine(11);
    made_diagnostics head({1, 1, queries});
    for (std::size_t row = 0; row < queries; ++row) {
        head.set(row, gaussian(keys, standard_deviation, engine));
    }
    return head;
}

const float not_a_number = sd::kernel::quiet_nan<float>();

} // namespace

TEST_CASE("head_verdicts: Gaussian heads are flat, balanced and saturated as their spread says, and are brought back")
{
    for (const std::size_t keys : {std::size_t{16}, std::size_t{256}}) {
        for (const double share : {0.05, 0.5, 3.16, 6.0, 25.0, 200.0}) { // of flatness_threshold; saturated from 10 on
            const double deviation = share * sd::flatness_threshold(keys);
            const auto verdict = sd::head_verdicts(gaussian_head(64, keys, deviation)).at(0);
            const sd::logit_zone expected = sd::classify_logits(deviation, keys);
            CAPTURE(keys);
            CAPTURE(share);
            REQUIRE(verdict.zone.has_value());
            CHECK(verdict.zone == expected);
            CHECK(verdict.by_spread == expected);
            CHECK(verdict.rows == 64);
            CHECK(verdict.logit_standard_deviation == doctest::Approx(deviation).epsilon(0.1));
            REQUIRE(verdict.temperature.has_value());
            if (expected == sd::logit_zone::balanced) {
                CHECK(verdict.temperature == 1.0);
            } else {
                const auto back = sd::head_verdicts(gaussian_head(64, keys, deviation / *verdict.temperature)).at(0);
                CHECK(back.zone == sd::logit_zone::balanced);
                CHECK(std::abs(back.normalised_entropy - sd::zone_centre_entropy) <= 0.02);
            }
        }
    }
}

TEST_CASE("head_verdicts: the figures are means over the rows that leave a choice")
{
    made_diagnostics figures({1, 1, 6});
    figures.set(0, {5});                // a single key
    figures.set(1, {});                 // none
    figures.set(2, {1, 1});             // ln 2, flat
    figures.set(3, {0, 0, 0, 100});     // 0, saturated
    figures.set(4, {0, 0, 0, 0, 0, 0}); // ln 6, flat
    figures.set(5, {1, 2});
    figures.entropy.data()[5] = not_a_number;
    const auto verdict = sd::head_verdicts(figures).at(0);
    CHECK(verdict.rows == 3);
    CHECK(verdict.invalid_rows == 1);
    CHECK(verdict.flat_rows == 2);
    CHECK(verdict.saturated_rows == 1);
    CHECK(verdict.normalised_entropy == doctest::Approx(2.0 / 3).epsilon(1e-6));
    CHECK(verdict.entropy == doctest::Approx((std::log(2.0) + std::log(6.0)) / 3).epsilon(1e-6));
    CHECK(verdict.logit_standard_deviation == doctest::Approx(100 * std::sqrt(3.0 / 16 / 3)).epsilon(1e-6));
    CHECK(verdict.zone == sd::logit_zone::balanced);
    CHECK(verdict.temperature == 1.0);
}

TEST_CASE("head_verdicts: a sink counts as a key")
{
    made_diagnostics figures({1, 1, 2});
    figures.set(0, {5});
    figures.set(1, {});
    for (std::size_t row = 0; row < 2; ++row) {
        figures.sink_probability.data()[row] = 0.5f;
    }
    figures.entropy.data()[0] = std::log(2.f);
    const auto verdict = sd::head_verdicts(figures).at(0);
    CHECK(verdict.rows == 1); // a sink alone is no choice
    CHECK(verdict.normalised_entropy == doctest::Approx(1).epsilon(1e-6));
    CHECK(verdict.zone == sd::logit_zone::flat);
}

TEST_CASE("head_verdicts: one key far above equal others is saturated whatever its spread says, without a temperature")
{
    for (const double height : {20.0, 200.0}) { // spreads of 0.63 and 6.3
        made_diagnostics figures({1, 1, 1});
        std::vector<double> logits(1000);
        logits[17] = height;
        figures.set(0, logits);
        const auto verdict = sd::head_verdicts(figures).at(0);
        CHECK(verdict.zone == sd::logit_zone::saturated);
        CHECK(verdict.by_spread == (height < 100 ? sd::logit_zone::balanced : sd::logit_zone::saturated));
        CHECK(verdict.peak == doctest::Approx(std::sqrt(999 / (2 * std::log(1000.0)))).epsilon(1e-5));
        CHECK_FALSE(verdict.temperature.has_value());
        CHECK(to_string(verdict).ends_with(
            "their spread does not say why: ask recommended_temperature about the logits"));
    }
}

TEST_CASE("head_verdicts: a few keys far below equal others are flat, and no temperature is made of their spread")
{
    made_diagnostics figures({1, 1, 1});
    std::vector<double> logits(1000);
    logits[17] = -1e6;
    figures.set(0, logits);
    const auto verdict = sd::head_verdicts(figures).at(0);
    CHECK(verdict.zone == sd::logit_zone::flat);
    CHECK(verdict.by_spread == sd::logit_zone::saturated);
    CHECK_FALSE(verdict.temperature.has_value());
}

TEST_CASE("head_verdicts: next to the boundaries, where entropy and spread may disagree, there is a temperature")
{
    for (const double share : {0.9, 1.0, 1.1}) {
        for (const double threshold : {sd::flatness_threshold(256), sd::saturation_threshold(256)}) {
            const auto verdict = sd::head_verdicts(gaussian_head(64, 256, share * threshold)).at(0);
            REQUIRE(verdict.temperature.has_value());
            CHECK(verdict.peak > 0.8);
            CHECK(verdict.peak < 1);
        }
    }
}

TEST_CASE("head_verdicts: equal logits are flat, and no temperature tells them apart")
{
    made_diagnostics figures({1, 1, 1});
    figures.set(0, {2, 2, 2, 2});
    const auto verdict = sd::head_verdicts(figures).at(0);
    CHECK(verdict.zone == sd::logit_zone::flat);
    CHECK_FALSE(verdict.temperature.has_value());
}

TEST_CASE("head_verdicts: heads come in row-major order, and an empty one has no verdict")
{
    made_diagnostics figures({2, 2, 2});
    for (std::size_t row = 0; row < 8; ++row) {
        const auto head = static_cast<double>(row / 2);
        figures.set(row, head == 3 ? std::vector<double>{} : std::vector<double>{0, head});
    }
    const auto verdicts = sd::head_verdicts(figures);
    REQUIRE(verdicts.size() == 4);
    for (std::size_t head = 0; head < 3; ++head) {
        CHECK(verdicts[head].logit_standard_deviation == static_cast<double>(head) / 2);
    }
    CHECK_FALSE(verdicts[3].zone.has_value());
    CHECK(sd::detail::is_nan(verdicts[3].normalised_entropy));
    CHECK(to_string(verdicts[3]) == "no verdict: no row leaves a choice (0 rows with NaN or infinity)");
    CHECK(sd::head_verdicts(made_diagnostics({0, 4, 2})).empty());
}

TEST_CASE("head_verdicts: sentences state the measured entropy")
{
    made_diagnostics figures({1, 1, 2});
    figures.set(0, {0, 0, 0, 40});
    figures.set(1, {0, 0, 0, 40});
    CHECK(to_string(sd::head_verdicts(figures).at(0)) ==
          "saturated: entropy 5.23e-16 nats, 3.77e-14 % of equal shares' (2 rows, 2 saturated, 0 flat), logits spread "
          "17.3; temperature 32.9 (scale times 0.0304) brings it back");
    figures.set(0, {0, 1, 2, 0});
    figures.set(1, {0, 1, 2, 0});
    CHECK(to_string(sd::head_verdicts(figures).at(0)) ==
          "balanced: entropy 1.05 nats, 75.6 % of equal shares' (2 rows, 0 saturated, 0 flat), logits spread 0.829; "
          "nothing to change");
}

TEST_CASE("head_verdicts: reads the library's diagnostics, of any rank")
{
    std::mt19937_64 engine(2);
    const std::vector<double> row = gaussian(64, 9, engine);
    made_diagnostics textbook({1, 1, 1});
    textbook.set(0, row);
    const auto expected = sd::head_verdicts(textbook).at(0);
    const xt::xtensor<double, 1> logits = xt::adapt(row);
    xt::xarray<double> twice = xt::xarray<double>::from_shape({2, 1, 64});
    std::copy(row.begin(), row.end(), twice.data());
    std::copy(row.begin(), row.end(), twice.data() + 64);
    auto found = sd::head_verdicts(sd::softmax_diagnostics(twice));
    found.push_back(sd::head_verdicts(sd::softmax_diagnostics(logits)).at(0));
    REQUIRE(found.size() == 3);
    for (const auto& verdict : found) {
        CHECK(verdict.zone == expected.zone);
        CHECK(verdict.normalised_entropy == doctest::Approx(expected.normalised_entropy).epsilon(1e-6));
        CHECK(verdict.logit_standard_deviation == doctest::Approx(expected.logit_standard_deviation).epsilon(1e-6));
    }
}
