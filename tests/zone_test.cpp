// SPDX-License-Identifier: BSD-3-Clause
#include <scaledot/zone.hpp>

#include "support/norm_rows.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <utility>
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

/// Exact mean of the entropy of n logits from N(0, s^2), by trapezoidal sums over e^-u = t: with w = e^(s g),
/// E[ln Z] = int (e^-t - E[e^-tw]^n) dt / t and E[sum w ln w / Z] = n int E[w ln w e^-tw] E[e^-tw]^(n-1) dt.
long double mean_entropy_by_quadrature(double n, double s)
{
    constexpr double step_g = 0.02;
    constexpr double step_u = 0.1;
    std::vector<long double> z, w, density;
    for (double g = -13; g <= 13; g += step_g) {
        z.push_back(s * g);
        w.push_back(std::exp(z.back()));
        density.push_back(step_g * std::exp(-g * g / 2) / std::sqrt(2 * 3.141592653589793238L));
    }
    long double log_sum = 0;
    long double mean_logit = 0;
    for (double u = -60; u <= 150; u += step_u) {
        const long double t = std::exp(-u);
        long double once = 0;
        long double weighted = 0;
        for (std::size_t i = 0; i < z.size() && t * w[i] < 11'000; ++i) {
            const long double e = density[i] * std::exp(-t * w[i]);
            once += e;
            weighted += e * t * w[i] * z[i];
        }
        const long double log_once = std::log(std::max(once, std::numeric_limits<long double>::min()));
        log_sum += step_u * (std::exp(-t) - std::exp(n * log_once));
        mean_logit += step_u * n * weighted * std::exp((n - 1) * log_once);
    }
    return log_sum - mean_logit;
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

TEST_CASE("saturation_entropy: the mean entropy of Gaussian logits at the threshold, by quadrature")
{
    for (const std::size_t keys : {2u, 3u, 5u, 6u, 7u, 11u, 48u, 50u, 100u, 1024u, 3000u, 50'257u, 12'000'000u}) {
        CAPTURE(keys);
        const double n = static_cast<double>(keys);
        const long double exact = mean_entropy_by_quadrature(n, sd::saturation_threshold(keys)) / std::log(n);
        CHECK(std::abs(static_cast<double>(exact) - sd::saturation_entropy(keys)) <= (keys < 48 ? 0.007 : 0.001));
    }
    CHECK(sd::saturation_entropy(2) == 0.728260);
    CHECK(sd::saturation_entropy(std::size_t{1} << 24) == 0.256891);
    CHECK(sd::saturation_entropy(std::size_t{1} << 60) == 0.256891);
}

TEST_CASE("saturation_entropy: agrees with simulation")
{
    const std::vector<std::pair<std::size_t, int>> cases = {{2, 20'000}, {6, 20'000}, {48, 8000}, {1024, 800}};
    for (const auto& [n, draws] : cases) {
        const auto found = mean_normalised_entropy(n, sd::saturation_threshold(n), draws);
        CHECK(std::abs(found.mean - sd::saturation_entropy(n)) <= 4 * found.standard_error + (n < 48 ? 0.007 : 0.001));
        CHECK(found.standard_error < 0.005);
    }
}

TEST_CASE("zone: in its middle a tenth of the entropy of Gaussian logits is missing")
{
    for (const std::size_t keys : {std::size_t{48}, std::size_t{1024}}) {
        CHECK(std::pow(sd::zone_centre(keys), 2) ==
              doctest::Approx(sd::flatness_threshold(keys) * sd::saturation_threshold(keys)).epsilon(1e-14));
        const auto centre = mean_normalised_entropy(keys, sd::zone_centre(keys), 400);
        // the next term of the expansion is of fourth order in sigma: a hundredth for 48 keys
        CHECK(std::abs(centre.mean - sd::zone_centre_entropy) <= 0.01 + 4 * centre.standard_error);
    }
}

TEST_CASE("classify_entropy: flat above 99 % of ln n, saturated from the mean at the threshold down")
{
    for (const std::size_t keys : {std::size_t{2}, std::size_t{48}, std::size_t{1} << 40}) {
        const double most = std::log(static_cast<double>(keys));
        CHECK(sd::classify_entropy(most, keys) == sd::logit_zone::flat);
        CHECK(sd::classify_entropy(most * (1 + 5e-5), keys) == sd::logit_zone::flat); // rounded in float
        CHECK(sd::classify_entropy(0.9901 * most, keys) == sd::logit_zone::flat);
        CHECK(sd::classify_entropy(0.9899 * most, keys) == sd::logit_zone::balanced);
        CHECK(sd::classify_entropy((sd::saturation_entropy(keys) + 1e-6) * most, keys) == sd::logit_zone::balanced);
        CHECK(sd::classify_entropy((sd::saturation_entropy(keys) - 1e-6) * most, keys) == sd::logit_zone::saturated);
        CHECK(sd::classify_entropy(0, keys) == sd::logit_zone::saturated);
    }
}

TEST_CASE("classify_entropy: what is no entropy of that many keys is refused")
{
    CHECK(complaint_of([] { sd::classify_entropy(0, 1); }).find("keys was 1") != std::string::npos);
    CHECK(complaint_of([] { sd::classify_entropy(1, 2); }).find("entropy was 1, must be in [0, 0.69") !=
          std::string::npos);
    CHECK(complaint_of([] { sd::classify_entropy(-1e-9, 2); }).find("entropy was") != std::string::npos);
    CHECK(complaint_of([] { sd::classify_entropy(sd::kernel::quiet_nan<double>(), 2); }).find("entropy was") !=
          std::string::npos);
}

TEST_CASE("recommended_temperature: of a spread, 1 inside the zone and to its middle from outside")
{
    for (const std::size_t keys : {std::size_t{2}, std::size_t{50}, std::size_t{4096}}) {
        CHECK(sd::recommended_temperature(sd::zone_centre(keys), keys) == 1);
        CHECK(sd::recommended_temperature(sd::flatness_threshold(keys), keys) == 1);
        for (const double deviation : {1e-300, 0.01, 10.0, 1e300}) {
            const double t = sd::recommended_temperature(deviation, keys);
            CHECK(deviation / t == doctest::Approx(sd::zone_centre(keys)).epsilon(1e-14));
        }
    }
    CHECK(complaint_of([] { sd::recommended_temperature(0.0, 50); }) ==
          "scaledot: standard_deviation was 0, must be positive and finite");
    CHECK(complaint_of([] { sd::recommended_temperature(infinity, 50); }).find("standard_deviation was") !=
          std::string::npos);
    CHECK(complaint_of([] { sd::recommended_temperature(1.0, 1); }).find("keys was 1") != std::string::npos);
}

TEST_CASE("recommended_temperature: of logits, puts the mean normalised entropy of the rows to 0.9")
{
    std::mt19937_64 engine(3);
    std::normal_distribution<double> normal;
    for (const double deviation : {1e-3, 30.0, 1e4}) {
        // rows of 2, 3, ... 20 visible logits, as under a causal mask, and one of a single logit
        xt::xtensor<double, 3> logits = xt::xtensor<double, 3>::from_shape({2, 10, 20});
        std::fill(logits.begin(), logits.end(), -infinity);
        std::vector<std::vector<double>> rows;
        for (std::size_t row = 0; row < 20; ++row) {
            std::vector<double> visible(row + 1);
            std::generate(visible.begin(), visible.end(), [&] { return 7 + deviation * normal(engine); });
            std::copy(visible.begin(), visible.end(), logits.data() + row * 20);
            rows.push_back(visible);
        }
        const double t = sd::recommended_temperature(logits);
        CAPTURE(deviation);
        CHECK((t < 1) == (deviation < 1));
        long double sum = 0;
        for (std::size_t row = 1; row < 20; ++row) {
            sum += entropy_at(rows[row], t) / std::log(static_cast<long double>(row + 1));
        }
        CHECK(std::abs(static_cast<double>(sum / 19) - 0.9) <= 1e-13);
    }
}

TEST_CASE("recommended_temperature: of Gaussian logits it is that of their spread; of a lone peak it is not")
{
    std::mt19937_64 engine(4);
    std::normal_distribution<double> normal;
    xt::xtensor<float, 2> logits = xt::xtensor<float, 2>::from_shape({40, 512});
    std::generate(logits.begin(), logits.end(), [&] { return static_cast<float>(12 * normal(engine)); });
    CHECK(sd::recommended_temperature(logits) == doctest::Approx(sd::recommended_temperature(12.0, 512)).epsilon(0.05));
    // A key at 20 above 999 equal ones: the spread is 0.63, in the zone, and the entropy is 0.
    xt::xtensor<double, 1> peak = xt::zeros<double>({1000});
    peak(17) = 20;
    CHECK(sd::classify_logits(20 * std::sqrt(999.0) / 1000, 1000) == sd::logit_zone::balanced);
    const double t = sd::recommended_temperature(peak);
    CHECK(t > 2);
    CHECK(std::abs(static_cast<double>(entropy_at({peak.begin(), peak.end()}, t)) / std::log(1000.0) - 0.9) <= 1e-13);
    CHECK(sd::recommended_temperature(xt::xtensor<double, 1>{0., 1., 2., 0.}) == 1);
}

TEST_CASE("recommended_temperature: Newton's steps have the right slope, of rows of different lengths together")
{
    const std::vector<std::vector<double>> rows = {{0, 1, 5}, {-2, 0.5, 3, 3, 4}, {7, 7, 1}, {1e308, -1e308}};
    sd::detail::choices choices;
    for (const auto& row : rows) {
        choices.add(row.data(), row.size());
    }
    for (const double t : {0.3, 1.0, 4.0, 1e308}) {
        const auto mean = [&](long double temperature) {
            long double sum = 0;
            for (const auto& row : rows) {
                sum += entropy_at(row, temperature) / std::log(static_cast<long double>(row.size()));
            }
            return sum / 4;
        };
        const long double step = 1e-5L; // of ln T: the central difference is right to its square
        const long double slope = (mean(t * std::exp(step)) - mean(t * std::exp(-step))) / (2 * step);
        CAPTURE(t);
        CHECK(choices.entropy_at(t).value == doctest::Approx(static_cast<double>(mean(t))).epsilon(1e-13));
        CHECK(choices.entropy_at(t).slope == doctest::Approx(static_cast<double>(slope)).epsilon(1e-8));
    }
}

TEST_CASE("recommended_temperature: logits that no temperature brings back are refused")
{
    using row = xt::xtensor<double, 1>;
    CHECK(
        complaint_of([] {
            sd::recommended_temperature(row{3., 3., 3.});
        }) ==
        "scaledot: the mean entropy / ln n of the rows at temperature 0 was 1, must be below 0.90000000000000002: too "
        "many logits equal their row's maximum for any temperature");
    CHECK(complaint_of([] {
              sd::recommended_temperature(row{-infinity, 3.});
          }) == "scaledot: the number of rows with two logits above -infinity was 0, must be at least 1");
    CHECK(complaint_of([] {
              sd::recommended_temperature(row{1., sd::kernel::quiet_nan<double>()});
          }) == "scaledot: a logit was NaN, must be finite or -infinity");
    CHECK(complaint_of([] {
              sd::recommended_temperature(row{-infinity, infinity});
          }).find("a logit was infinity") != std::string::npos);
    CHECK(complaint_of([] { sd::recommended_temperature(xt::xarray<double>(2.0)); }) ==
          "scaledot: the rank of logits was 0, must be at least 1");
    // huge spreads are not beyond it
    CHECK(sd::recommended_temperature(row{-1e308, 0., 1e308}) > 1e307);
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
