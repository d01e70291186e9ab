// SPDX-License-Identifier: BSD-3-Clause
#include <scaledot/key_mass.hpp>

#include <scaledot/scores.hpp>

#include "support/attention_cases.hpp"
#include "support/norm_rows.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <initializer_list>
#include <limits>
#include <stdexcept>
#include <type_traits>
#include <vector>

namespace sd = scaledot;
using namespace test_support;

namespace {

template <class T>
struct problem {
    dense<T, 4> q = gaussians<T, 4>({2, 4, 37, 8}, 1, 2);
    dense<T, 4> k = gaussians<T, 4>({2, 2, 300, 8}, 2);
};

/// Both functions against the matrix of probabilities.
template <class T>
void check_against_matrix(const sd::attention_options& options)
{
    const problem<T> x;
    const auto p = sd::attention_scores(x.q, x.k, sd::score_stage::probabilities, options);
    const auto masked = sd::attention_scores(x.q, x.k, sd::score_stage::masked, options);
    const auto mass = sd::key_mass(x.q, x.k, options);
    constexpr double threshold = 1e-3;
    const auto share = sd::share_of_keys_below(x.q, x.k, threshold, options);
    REQUIRE(mass.shape() == std::array<std::size_t, 3>{2, 4, 300});
    REQUIRE(share.shape() == std::array<std::size_t, 3>{2, 4, 37});
    double worst = 0;
    bool shares_right = true;
    for (std::size_t b = 0; b < 2; ++b) {
        for (std::size_t h = 0; h < 4; ++h) {
            for (std::size_t j = 0; j < 300; ++j) {
                long double sum = 0;
                for (std::size_t i = 0; i < 37; ++i) {
                    sum += p(b, h, i, j);
                }
                worst = std::max(worst, std::abs(mass(b, h, j) - static_cast<double>(sum)) /
                                            (1e-30 + static_cast<double>(sum)));
            }
            for (std::size_t i = 0; i < 37; ++i) {
                std::size_t visible = 0, below = 0;
                for (std::size_t j = 0; j < 300; ++j) {
                    const bool seen = !sd::detail::is_negative_infinity(static_cast<double>(masked(b, h, i, j)));
                    visible += seen ? 1 : 0;
                    below += seen && static_cast<double>(p(b, h, i, j)) < threshold ? 1 : 0;
                }
                const auto expected = static_cast<T>(static_cast<double>(below) / static_cast<double>(visible));
                shares_right = shares_right && (visible == 0 ? std::isnan(share(b, h, i)) : share(b, h, i) == expected);
            }
        }
    }
    // 37 sums in double, and one rounding to T
    CHECK(worst <= 37 * 0x1p-53 + static_cast<double>(std::numeric_limits<T>::epsilon()) / 2);
    CHECK(shares_right);
}

} // namespace

TEST_CASE_TEMPLATE("key_mass, share_of_keys_below: as from the matrix of probabilities, with every option", T, float,
                   double)
{
    auto may_attend = filled<bool, 2>({37, 300}, 1);
    for (std::size_t n = 0; n < may_attend.size(); n += 3) {
        may_attend.data()[n] = false;
    }
    const std::vector<std::size_t> lengths = {290, 17};
    const std::vector<double> sinks = {0, 3, -4, 9};
    check_against_matrix<T>({});
    check_against_matrix<T>({.scale = 1.5, .softcap = 5.0, .sinks = sinks});
    check_against_matrix<T>({.mask = may_attend});
    check_against_matrix<T>({.causal = true, .align = sd::alignment::top_left, .window_left = 5});
    check_against_matrix<T>({.query_offset = -4, .window_right = 3, .key_lengths = lengths});
}

TEST_CASE("key_mass: the masses of a head add up to its queries; what a sink takes is missing")
{
    const problem<float> x;
    const auto sum_of_head = [&](const auto& mass, std::size_t b, std::size_t h) {
        double sum = 0;
        for (std::size_t j = 0; j < 300; ++j) {
            sum += static_cast<double>(mass(b, h, j));
        }
        return sum;
    };
    const std::vector<double> sinks = {-1e30, 0, 4, 1e30};
    const auto without = sd::key_mass(x.q, x.k);
    const auto with = sd::key_mass(x.q, x.k, {.sinks = sinks});
    CHECK(sum_of_head(without, 1, 2) == doctest::Approx(37).epsilon(1e-6));
    CHECK(sum_of_head(with, 1, 0) == doctest::Approx(37).epsilon(1e-6));
    CHECK(sum_of_head(with, 1, 2) < sum_of_head(with, 1, 1));
    CHECK(sum_of_head(with, 1, 3) == 0);
}

TEST_CASE("key_mass: the same bits on any number of threads, and of a batch entry alone")
{
    const problem<float> x;
    const auto expected = sd::key_mass(x.q, x.k);
    for (const std::size_t threads : std::initializer_list<std::size_t>{2, 3, 8}) {
        thread_per_task pool(threads);
        const sd::executor_scope scope(pool);
        CHECK(same_bits(sd::key_mass(x.q, x.k), expected));
    }
    const dense<float, 3> q = xt::view(x.q, 1);
    const dense<float, 3> k = xt::view(x.k, 1);
    CHECK(same_bits(sd::key_mass(q, k), dense<float, 2>(xt::view(expected, 1))));
}

TEST_CASE("key_mass, share_of_keys_below: half, an unseen key, NaN, empty arrays, thresholds at the ends")
{
    static_assert(
        std::is_same_v<decltype(sd::key_mass(dense<xtl::half_float, 2>(), dense<xtl::half_float, 2>()))::value_type,
                       float>);
    auto q = gaussians<float, 2>({3, 4}, 1);
    const auto k = gaussians<float, 2>({5, 4}, 2);
    const auto causal = sd::key_mass(q, k, {.causal = true, .align = sd::alignment::top_left});
    CHECK(causal(3) == 0);
    CHECK(causal(0) > 1);
    CHECK(sd::share_of_keys_below(q, k, 0)(0) == 0);
    CHECK(sd::share_of_keys_below(q, k, 1)(0) == 1);
    q(1, 0) = nan_of<float>();
    CHECK(std::isnan(sd::key_mass(q, k)(4)));
    CHECK(std::isnan(sd::share_of_keys_below(q, k, 0.1)(1)));
    CHECK(!std::isnan(sd::share_of_keys_below(q, k, 0.1)(2)));
    CHECK(sd::key_mass(dense<float, 2>::from_shape({0, 4}), k)(2) == 0);
    CHECK(sd::key_mass(q, dense<float, 2>::from_shape({0, 4})).size() == 0);
    CHECK(std::isnan(sd::share_of_keys_below(q, dense<float, 2>::from_shape({0, 4}), 0.1)(0)));
}

TEST_CASE("key_mass, share_of_keys_below: bad arguments are named")
{
    const auto q = gaussians<float, 2>({3, 4}, 1);
    const auto k = gaussians<float, 2>({5, 4}, 2);
    for (const double threshold : {-0.1, 1.1, nan_of<double>(), infinity_of<double>()}) {
        CHECK_THROWS_WITH_AS(sd::share_of_keys_below(q, k, threshold), doctest::Contains("threshold"),
                             std::invalid_argument);
    }
    CHECK_THROWS_AS(sd::key_mass(q, gaussians<float, 2>({5, 3}, 2)), std::invalid_argument);
    const xt::xarray<float> line = xt::xarray<float>::from_shape({4});
    CHECK_THROWS_WITH_AS(sd::key_mass(line, line), doctest::Contains("rank of q"), std::invalid_argument);
    CHECK_THROWS_WITH_AS(sd::share_of_keys_below(line, line, 0.5), doctest::Contains("rank of q"),
                         std::invalid_argument);
}
