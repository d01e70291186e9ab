// SPDX-License-Identifier: BSD-3-Clause
#include <scaledot/attention.hpp>

#include "support/attention_accuracy.hpp"
#include "support/attention_cases.hpp"
#include "support/attention_oracle.hpp"
#include "support/textbook_attention.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <initializer_list>
#include <limits>
#include <type_traits>
#include <utility>

#if __has_include(<xtensor/core/xmath.hpp>)
#include <xtensor/core/xmath.hpp>
#else
#include <xtensor/xmath.hpp>
#endif

namespace sd = scaledot;
using namespace test_support;

namespace {

using counts = std::initializer_list<std::size_t>;

} // namespace

TEST_CASE_TEMPLATE("attention: random, peaked and deeply negative scores err at most 1.1 times as much as three steps",
                   T, float, double, xtl::half_float, sd::bfloat16)
{
    for (const std::size_t head_size : counts{7, 64}) {
        for (const auto& law : {std::pair{1.0, 0.0}, {1.0, -1000.0}, {0.01, 0.0}, {20.0, 1000.0}}) {
            const double deviation = law.first, mean = law.second; // clang captures no structured binding under OpenMP
            CAPTURE(head_size);
            CAPTURE(deviation);
            CAPTURE(mean);
            check_accuracy<T>({{1, 2, 100, head_size}, 2, 40, 5, deviation, mean});
        }
    }
}

// Only the few rows whose largest scores nearly tie have any error here: too few to compare with three steps.
TEST_CASE_TEMPLATE(
    "attention: with scores of 1000 and of 100000 the error stays below that of the scores' own roundings", T, float,
    double)
{
    for (const double deviation : {1e3, 1e5}) {
        CAPTURE(deviation);
        const auto p = random_problem<T>({{1, 2, 300, 16}, 1, 150, 4, deviation});
        const auto q = plain(p.q), k = plain(p.k), v = plain(p.v);
        const auto output = sd::attention(p.q, p.k, p.v);
        const attention_oracle oracle(q, k, v, {});
        constexpr double unit = static_cast<double>(std::numeric_limits<T>::epsilon()) / 2;
        const double largest_value = xt::amax(xt::abs(xt::cast<double>(p.v)))();
        double worst = 0;
        for (std::size_t h = 0; h < 2; ++h) {
            for (std::size_t i = 0; i < 300; ++i) {
                double magnitude = 0; // sum |q||k| / 4, of the key where it is largest
                for (std::size_t j = 0; j < 150; ++j) {
                    double sum = 0;
                    for (std::size_t c = 0; c < 16; ++c) {
                        sum += std::abs(q.row(0, h, i)[c] * k.row(0, 0, j)[c]);
                    }
                    magnitude = std::max(magnitude, sum / 4);
                }
                // 16 steps of a chain and the scaling, at both ends of a difference; then exp, sums and a quotient
                const double bound = largest_value * unit * (2 * 2 * 18 * magnitude + 256);
                const auto exact = oracle.row(0, h, i);
                for (std::size_t c = 0; c < 4; ++c) {
                    const double error = std::abs(static_cast<double>(output(0, h, i, c) - exact.output[c]));
                    worst = std::max(worst, error / bound);
                }
            }
        }
        CHECK(worst <= 1);
    }
}

TEST_CASE("attention: the error bound holds at every head size")
{
    for (const std::size_t head_size : counts{1, 2, 7, 8, 15, 16, 17, 40, 64, 80, 128, 200}) {
        CAPTURE(head_size);
        check_accuracy<float>({{1, 1, 13, head_size}, 1, 260, 20});
    }
}

TEST_CASE("attention: the error bound holds at every value size, 0 included")
{
    for (const std::size_t value_size : counts{0, 1, 2, 7, 8, 16, 31, 32, 33, 64, 65, 130, 200}) {
        CAPTURE(value_size);
        check_accuracy<float>({{1, 1, 13, 12}, 1, 260, value_size});
    }
}

TEST_CASE("attention: the error bound holds for any number of queries, around register tiles and runs of rows")
{
    for (const std::size_t queries : counts{0, 1, 2, 5, 6, 7, 11, 12, 13, 31, 95, 96, 97, 193}) {
        CAPTURE(queries);
        check_accuracy<float>({{1, 2, queries, 8}, 1, 140, 5});
    }
}

TEST_CASE("attention: the error bound holds for any number of keys, around vectors, panels, blocks and chunks")
{
    for (const std::size_t keys :
         counts{1, 2, 3, 7, 15, 16, 17, 31, 33, 63, 64, 65, 127, 128, 129, 255, 257, 1023, 1024, 1025, 2047, 2500}) {
        CAPTURE(keys);
        check_accuracy<float>({{1, 1, 7, 16}, 1, keys, 9});
    }
    for (const std::size_t keys : counts{1, 5, 129, 1025}) {
        CAPTURE(keys);
        check_accuracy<double>({{1, 1, 7, 16}, 1, keys, 9});
    }
}

TEST_CASE("attention: query head h reads key head h / (heads / key heads)")
{
    for (const std::size_t key_heads : counts{1, 2, 3, 6}) {
        CAPTURE(key_heads);
        check_accuracy<float>({{2, 6, 7, 16}, key_heads, 140, 9});
        check_accuracy<float>({{2, 6, 1, 16}, key_heads, 140, 17});
    }
}

TEST_CASE("attention: lse is the log-sum-exp of the scaled scores")
{
    const auto check = [](const auto& p, double tolerance) {
        const auto result = sd::attention_with_lse(p.q, p.k, p.v);
        const attention_oracle oracle(plain(p.q), plain(p.k), plain(p.v), {});
        for (std::size_t b = 0; b < oracle.batch(); ++b) {
            for (std::size_t h = 0; h < oracle.heads(); ++h) {
                for (std::size_t i = 0; i < oracle.queries(); ++i) {
                    const auto exact = static_cast<double>(oracle.row(b, h, i).lse);
                    CHECK(std::abs(static_cast<double>(result.lse(b, h, i)) - exact) <=
                          tolerance * std::max(1.0, std::abs(exact)));
                }
            }
        }
        return result.lse(0, 0, 0);
    };
    // A chain of 16 rounded products and as many sums lies below 32 units of 2^-24 (2^-53) of the scores' size.
    constexpr double of_float = 32 * 0x1p-24;
    constexpr double of_double = 32 * 0x1p-53;
    for (const double mean : {0.0, 300.0, -1000.0}) {
        CAPTURE(mean);
        static_assert(std::is_same_v<float, decltype(check(random_problem<float>({{2, 2, 7, 16}, 2, 1300, 3}), 0))>);
        check(random_problem<float>({{2, 2, 7, 16}, 2, 1300, 3, 1, mean}), of_float);
        check(random_problem<double>({{2, 2, 7, 16}, 2, 1300, 3, 1, mean}), of_double);
    }
    static_assert(std::is_same_v<float, decltype(check(random_problem<sd::bfloat16>({{1, 1, 1, 1}, 1, 1, 1}), 0))>);
    // Where weights are rounded to bfloat16, so is what lse is the logarithm of.
    const double bound = rounds_weights<float, sd::bfloat16, sd::bfloat16>() ? 0x1p-9 : of_float;
    check(random_problem<sd::bfloat16>({{1, 2, 7, 16}, 2, 200, 3}), bound);
}

TEST_CASE("attention: lse and output are the same with and without each other, and in memory of the caller's")
{
    const auto p = random_problem<float>({{2, 4, 7, 16}, 2, 300, 12});
    const auto both = sd::attention_with_lse(p.q, p.k, p.v);
    CHECK(same_bits(both.output, sd::attention(p.q, p.k, p.v)));
    auto output = filled<float, 4>({2, 4, 7, 12}, 77);
    auto lse = filled<float, 3>({2, 4, 7}, 77);
    sd::attention_with_lse_into(output, lse, p.q, p.k, p.v);
    CHECK(same_bits(output, both.output));
    CHECK(same_bits(lse, both.lse));
}
