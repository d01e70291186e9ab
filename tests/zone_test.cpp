// SPDX-License-Identifier: BSD-3-Clause
#include <scaledot/zone.hpp>

#include "support/norm_rows.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace sd = scaledot;
using namespace test_support;

namespace {

const double infinity = sd::kernel::infinity<double>;

/// Entropy of softmax(z / T), summed as -p ln p in long double.
long double entropy_at(const std::vector<double>& logits, long double temperature)
{
    const auto largest = std::max_element(logits.begin(), logits.end());
    const long double maximum = *largest;
    long double others = 0;
    for (auto z = logits.begin(); z != logits.end(); ++z) {
        others += z == largest ? 0 : std::exp((*z - maximum) / temperature);
    }
    const long double log_sum = std::log1p(others);
    long double entropy = 0;
    for (const double z : logits) {
        const long double log_weight = (z - maximum) / temperature;
        const long double probability = std::exp(log_weight - log_sum);
        if (probability > 0) {
            entropy += probability * (log_sum - log_weight);
        }
    }
    return entropy;
}

/// The temperature with that entropy by bisection of ln T in long double.
long double bisected_temperature(const std::vector<double>& logits, double entropy)
{
    long double low = -800;
    long double high = 800;
    for (int step = 0; step < 120; ++step) {
        const long double middle = (low + high) / 2;
        (entropy_at(logits, std::exp(middle)) < entropy ? low : high) = middle;
    }
    return std::exp((low + high) / 2);
}

double temperature(const std::vector<double>& logits, double entropy)
{
    return sd::temperature_for_entropy(xt::adapt(logits), entropy);
}

void check_entropy_found(const std::vector<double>& logits, double entropy)
{
    CAPTURE(entropy);
    const double t = temperature(logits, entropy);
    CHECK(t > 0);
    CHECK(std::abs(entropy_at(logits, t) / entropy - 1) <= 1e-13);
}

/// Mean and its standard error of entropy / ln n over draws of n Gaussian logits.
struct estimate {
    double mean;
    double standard_error;
};

estimate mean_normalised_entropy(std::size_t keys, double standard_deviation, int draws)
{
    std::mt19937_64 engine(20'170'612);
    std::normal_distribution<double> normal(0, standard_deviation);
    std::vector<double> logits(keys);
    double sum = 0;
    double squares = 0;
    for (int draw = 0; draw < draws; ++draw) {
        std::generate(logits.begin(), logits.end(), [&] { return normal(engine); });
        const double h = static_cast<double>(entropy_at(logits, 1)) / std::log(static_cast<double>(keys));
        sum += h;
        squares += h * h;
    }
    const double mean = sum / draws;
    return {mean, std::sqrt((squares / draws - mean * mean) / draws)};
}

} // namespace

TEST_CASE("zone: saturated from sqrt(2 ln n) on, flat below 1 % of the entropy, balanced between")
{
    for (const std::size_t keys : {std::size_t{2}, std::size_t{48}, std::size_t{50'257}}) {
        const double saturation = std::sqrt(2 * std::log(static_cast<double>(keys)));
        const double flatness = std::sqrt(2 * 0.01 * std::log(static_cast<double>(keys)));
        CHECK(sd::saturation_threshold(keys) == doctest::Approx(saturation).epsilon(1e-15));
        CHECK(sd::flatness_threshold(keys) == doctest::Approx(flatness).epsilon(1e-15));
        CHECK(sd::classify_logits(sd::saturation_threshold(keys), keys) == sd::logit_zone::saturated);
        CHECK(sd::classify_logits(saturation * 0.999, keys) == sd::logit_zone::balanced);
        CHECK(sd::classify_logits(sd::flatness_threshold(keys), keys) == sd::logit_zone::balanced);
        CHECK(sd::classify_logits(flatness * 0.999, keys) == sd::logit_zone::flat);
        CHECK(sd::classify_logits(0, keys) == sd::logit_zone::flat);
        CHECK(sd::classify_logits(infinity, keys) == sd::logit_zone::saturated);
    }
}

TEST_CASE("zone: zones have names")
{
    CHECK(sd::to_string(sd::logit_zone::flat) == "flat");
    CHECK(sd::to_string(sd::logit_zone::balanced) == "balanced");
    CHECK(sd::to_string(sd::logit_zone::saturated) == "saturated");
}

TEST_CASE("zone: fewer than two keys, or a deviation that is negative or NaN, are refused")
{
    CHECK(complaint_of([] { sd::classify_logits(1, 1); }) ==
          "scaledot: keys was 1, must be at least 2: a single key leaves nothing to choose");
    CHECK(complaint_of([] { sd::saturation_threshold(0); }).find("keys was 0") != std::string::npos);
    CHECK(complaint_of([] { sd::flatness_threshold(1); }).find("keys was 1") != std::string::npos);
    CHECK(complaint_of([] { sd::classify_logits(-0.5, 48); }) ==
          "scaledot: standard_deviation was -0.5, must be at least 0");
    CHECK(complaint_of([] {
              sd::classify_logits(sd::kernel::quiet_nan<double>(), 48);
          }).find("standard_deviation was") != std::string::npos);
}

TEST_CASE("zone: entropy of Gaussian logits at the thresholds is what the comments say, within the Monte-Carlo error")
{
    const auto few = mean_normalised_entropy(48, sd::saturation_threshold(48), 4000);
    CHECK(std::abs(few.mean - 0.47) <= 0.005 + 4 * few.standard_error);
    const auto many = mean_normalised_entropy(1024, sd::saturation_threshold(1024), 500);
    CHECK(std::abs(many.mean - 0.37) <= 0.005 + 4 * many.standard_error);
    CHECK(few.standard_error < 0.003);
    CHECK(many.standard_error < 0.006);
    const auto flat = mean_normalised_entropy(1024, sd::flatness_threshold(1024), 200);
    CHECK(std::abs(flat.mean - 0.99) <= 1e-4 + 4 * flat.standard_error);
}

TEST_CASE("temperature_for_entropy: agrees with bisection in long double")
{
    std::mt19937_64 engine(5);
    std::normal_distribution<double> normal(0, 3);
    for (const std::size_t count : {std::size_t{2}, std::size_t{3}, std::size_t{50}, std::size_t{1000}}) {
        std::vector<double> logits(count);
        std::generate(logits.begin(), logits.end(), [&] { return normal(engine); });
        for (const double share : {0.01, 0.1, 0.5, 0.9, 0.99}) {
            const double entropy = share * std::log(static_cast<double>(count));
            CAPTURE(count);
            CAPTURE(share);
            const double t = temperature(logits, entropy);
            CHECK(t == doctest::Approx(static_cast<double>(bisected_temperature(logits, entropy))).epsilon(1e-12));
            check_entropy_found(logits, entropy);
        }
    }
}

TEST_CASE("temperature_for_entropy: small entropies and those next to ln n are found as well")
{
    const std::vector<double> logits = {0, 5, 9};
    for (const double entropy : {1e-300, 1e-100, 1e-10, 1e-3, 1.0, 1.0986, std::log(3.0) - 1e-9}) {
        check_entropy_found(logits, entropy);
    }
    const xt::xtensor<float, 1> z = {0.f, 5.f, 9.f};
    CHECK(sd::temperature_for_entropy(z, 0.5) == temperature(logits, 0.5));
}

TEST_CASE("temperature_for_entropy: offsets do not matter, a factor on the logits is a factor on T")
{
    const double t = temperature({0, 5, 9}, 0.5);
    CHECK(temperature({-5, 0, 4}, 0.5) == t);
    CHECK(temperature({0x1p50, 0x1p50 + 5, 0x1p50 + 9}, 0.5) == t);
    CHECK(temperature({0, 5e30, 9e30}, 0.5) == doctest::Approx(t * 1e30).epsilon(1e-14));
    CHECK(temperature({0, 5e-30, 9e-30}, 0.5) == doctest::Approx(t * 1e-30).epsilon(1e-14));
    CHECK(temperature({1e30, 1e30 * (1 + 0x1p-40), 1e30 * (1 + 0x1p-39)}, 0.5) > 0);
}

TEST_CASE("temperature_for_entropy: huge spreads")
{
    const double largest = std::numeric_limits<double>::max();
    const double t = temperature({-largest, largest}, 0.3);
    CHECK(t / 2 == doctest::Approx(largest * temperature({0, 1}, 0.3)).epsilon(1e-14));
    check_entropy_found({0, -1e-200, -1, -1e200}, 0.5);
    check_entropy_found({0, -1e-200, -1, -1e200}, 0.8);
    check_entropy_found({0, -1e-200, -1, -1e200}, 1.2);
}

TEST_CASE("temperature_for_entropy: the ends of the range are exactly 0 and infinity")
{
    CHECK(temperature({0, 5, 9}, 0) == 0);
    CHECK(sd::detail::is_positive_infinity(temperature({0, 5, 9}, std::log(3.0))));
    CHECK(temperature({1, 9, 9}, std::log(2.0)) == 0);
    check_entropy_found({1, 9, 9}, std::log(2.0) * (1 + 1e-6));
    CHECK(temperature({4, 4, 4}, std::log(3.0)) == 0);
    CHECK(temperature({4}, 0) == 0);
}

TEST_CASE("temperature_for_entropy: -infinity has no probability and is not counted")
{
    CHECK(temperature({-infinity, 0, 5, -infinity, 9}, 0.5) == temperature({0, 5, 9}, 0.5));
    CHECK(sd::detail::is_positive_infinity(temperature({-infinity, 0, 5}, std::log(2.0))));
}

TEST_CASE("temperature_for_entropy: logits and entropies that have no temperature are refused")
{
    const double nan = sd::kernel::quiet_nan<double>();
    CHECK(complaint_of([] { temperature({0, 5, 9}, 1.2); }).find("entropy was 1.2") != std::string::npos);
    CHECK(complaint_of([] { temperature({0, 5, 9}, -0.1); }).find("entropy was") != std::string::npos);
    CHECK(complaint_of([&] { temperature({0, 5, 9}, nan); }).find("entropy was") != std::string::npos);
    CHECK(complaint_of([] { temperature({9, 5, 9}, 0.5); }).find("the number of maxima, 2") != std::string::npos);
    CHECK(complaint_of([&] {
              temperature({0, nan}, 0.5);
          }) == "scaledot: a logit was NaN, must be finite or -infinity");
    CHECK(complaint_of([] {
              temperature({0, infinity}, 0.5);
          }) == "scaledot: a logit was infinity, must be finite or -infinity");
    CHECK(complaint_of([] { temperature({-infinity}, 0); }).find("the number of logits") != std::string::npos);
    CHECK(complaint_of([] { temperature({}, 0); }).find("the number of logits") != std::string::npos);
    CHECK(complaint_of([] {
              sd::temperature_for_entropy(xt::xtensor<float, 2>({2, 2}, 1.f), 0.5);
          }) == "scaledot: the rank of logits was 2, must be 1");
}
