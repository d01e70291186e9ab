// SPDX-License-Identifier: BSD-3-Clause
#include <scaledot/head_summary.hpp>

#include <scaledot/detail/xtensor.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <cstddef>
#include <limits>

namespace sd = scaledot;

TEST_CASE("summarize_heads: extremes and mean of each head's rows, batch entry by batch entry")
{
    const xt::xtensor<float, 3> figure = {{{1, 2, 6}, {-1, -2, -3}}, {{4, 4, 4}, {0, 0, 1}}};
    const auto heads = sd::summarize_heads(figure);
    REQUIRE(heads.size() == 4);
    CHECK(heads[0].rows == 3);
    CHECK(heads[0].minimum == 1);
    CHECK(heads[0].maximum == 6);
    CHECK(heads[0].mean == 3);
    CHECK(heads[1].minimum == -3);
    CHECK(heads[1].maximum == -1);
    CHECK(heads[2].mean == 4);
    CHECK(heads[3].mean == doctest::Approx(1.0 / 3));
}

TEST_CASE("summarize_heads: rows that are not finite count nowhere; a head of such rows alone is NaN")
{
    constexpr double infinity = std::numeric_limits<double>::infinity();
    const double nan = std::numeric_limits<double>::quiet_NaN();
    const xt::xarray<double> figure = {{nan, 5, -infinity, 7}, {nan, nan, infinity, -infinity}};
    const auto heads = sd::summarize_heads(figure);
    REQUIRE(heads.size() == 2);
    CHECK(heads[0].rows == 2);
    CHECK(heads[0].minimum == 5);
    CHECK(heads[0].maximum == 7);
    CHECK(heads[0].mean == 6);
    CHECK(heads[1].rows == 0);
    CHECK(std::isnan(heads[1].minimum));
    CHECK(std::isnan(heads[1].maximum));
    CHECK(std::isnan(heads[1].mean));
}

TEST_CASE("summarize_heads: counts, one row alone, and no rows at all")
{
    const xt::xtensor<std::size_t, 1> counts = {3, 4};
    CHECK(sd::summarize_heads(counts).at(0).mean == 3.5);
    CHECK(sd::summarize_heads(xt::xtensor<float, 3>::from_shape({2, 3, 0})).size() == 6);
    CHECK(sd::summarize_heads(xt::xtensor<float, 3>::from_shape({0, 3, 4})).empty());
}
