// SPDX-License-Identifier: BSD-3-Clause
#include <scaledot/qk_clip.hpp>

#include "support/made_diagnostics.hpp"
#include "support/norm_rows.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

namespace sd = scaledot;
using namespace test_support;

namespace {

const double infinity = std::numeric_limits<double>::infinity();

} // namespace

TEST_CASE("qk_clip_factor: brings the largest logit down to the limit, and leaves what is below alone")
{
    for (const double limit : {1e-3, 30.0, 100.0, 1e300}) {
        for (const double excess : {1.0 + 1e-15, 1.5, 7.0, 1e5}) {
            const double factor = sd::qk_clip_factor(limit * excess, limit);
            CHECK(factor < 1);
            CHECK(std::abs(factor * (limit * excess) / limit - 1) <= 2.3e-16);
        }
        for (const double max_logit : {limit, limit / 2, 0.0, -limit, -1e300, -infinity}) {
            CHECK(sd::qk_clip_factor(max_logit, limit) == 1);
        }
    }
}

TEST_CASE("qk_clip_factor: its root on the weights of queries and keys clips every logit of the head")
{
    // logits x W_q W_k^T x^T of a head with weights far too large, by plain loops
    constexpr std::size_t tokens = 12, width = 6, size = 4;
    using matrix = std::vector<std::vector<double>>;
    std::mt19937_64 engine(1);
    std::normal_distribution<double> normal;
    const auto draw = [&](std::size_t rows, std::size_t columns, double scale) {
        matrix m(rows, std::vector<double>(columns));
        for (auto& row : m) {
            std::generate(row.begin(), row.end(), [&] { return scale * normal(engine); });
        }
        return m;
    };
    const auto product = [](const matrix& a, const matrix& b, double factor) {
        matrix c(a.size(), std::vector<double>(b.front().size()));
        for (std::size_t i = 0; i < a.size(); ++i) {
            for (std::size_t j = 0; j < b.front().size(); ++j) {
                for (std::size_t l = 0; l < b.size(); ++l) {
                    c[i][j] += a[i][l] * factor * b[l][j];
                }
            }
        }
        return c;
    };
    const matrix x = draw(tokens, width, 1), w_q = draw(width, size, 5), w_k = draw(width, size, 5);
    const auto logits = [&](double factor) { // of each weight
        const matrix q = product(x, w_q, factor), k = product(x, w_k, factor);
        matrix k_transposed(size, std::vector<double>(tokens));
        for (std::size_t i = 0; i < tokens; ++i) {
            for (std::size_t j = 0; j < size; ++j) {
                k_transposed[j][i] = k[i][j];
            }
        }
        return product(q, k_transposed, 1 / std::sqrt(static_cast<double>(size)));
    };
    const auto largest = [](const matrix& m) {
        double result = -infinity;
        for (const auto& row : m) {
            result = std::max(result, *std::max_element(row.begin(), row.end()));
        }
        return result;
    };
    const matrix before = logits(1);
    REQUIRE(largest(before) > 200);
    const double gamma = sd::qk_clip_factor(largest(before), 100);
    const matrix after = logits(std::sqrt(gamma));
    CHECK(largest(after) == doctest::Approx(100).epsilon(1e-13));
    for (std::size_t i = 0; i < tokens; ++i) {
        for (std::size_t j = 0; j < tokens; ++j) {
            CHECK(after[i][j] == doctest::Approx(gamma * before[i][j]).epsilon(1e-11));
        }
    }
}

TEST_CASE("qk_clip_factors: one a head, over queries and batch; heads below the limit and empty ones keep 1")
{
    made_diagnostics figures({2, 3, 2}); // batch, heads, queries
    const std::array<double, 12> maxima = {50, 120, 400, 10, -7, -infinity, 200, 90, 100, 300, -infinity, -1};
    for (std::size_t row = 0; row < maxima.size(); ++row) {
        figures.max_logit.data()[row] = static_cast<float>(maxima[row]);
    }
    CHECK(sd::qk_clip_factors(figures, 100) == std::vector<double>{0.5, 0.25, 1});
    CHECK(sd::qk_clip_factors(figures, 1000) == std::vector<double>{1, 1, 1});
    CHECK(sd::qk_clip_factors(made_diagnostics({0, 3, 2}), 100) == std::vector<double>{1, 1, 1});
    CHECK(sd::qk_clip_factors(made_diagnostics({2, 3, 0}), 100) == std::vector<double>{1, 1, 1});
}

TEST_CASE("qk_clip_factor: a logit that is NaN or infinite, a limit that is none, are refused")
{
    CHECK(complaint_of([] { sd::qk_clip_factor(infinity, 100); }) ==
          "scaledot: max_logit was inf, must be finite, or -infinity for a head without visible keys");
    CHECK(complaint_of([] {
              sd::qk_clip_factor(std::numeric_limits<double>::quiet_NaN(), 100);
          }).find("max_logit was") != std::string::npos);
    for (const double limit : {0.0, -1.0, infinity, std::numeric_limits<double>::quiet_NaN()}) {
        CHECK(complaint_of([&] { sd::qk_clip_factor(1, limit); }).find("must be positive and finite") !=
              std::string::npos);
    }
    made_diagnostics figures({1, 1, 1});
    figures.max_logit(0, 0, 0) = std::numeric_limits<float>::quiet_NaN();
    CHECK(complaint_of([&] { sd::qk_clip_factors(figures, 100); }).find("max_logit was") != std::string::npos);
}
