// SPDX-License-Identifier: BSD-3-Clause
// Random problems of attention, and what is asked of the error of their solutions.
#pragma once

#include "attention_cases.hpp"
#include "attention_oracle.hpp"
#include "textbook_attention.hpp"

#include <scaledot/attention.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>

namespace test_support {

/// design.md: error of attention, root mean square and largest per case, over that of the textbook's three steps.
constexpr double attention_error_ratio = 1.1;

using sizes = std::array<std::size_t, 4>;

template <class Q, class K = Q, class V = Q>
struct problem {
    dense<Q, 4> q;
    dense<K, 4> k;
    dense<V, 4> v;
};

/// What random_problem makes: scores about N(mean, deviation), values N(0, 1).
struct recipe {
    sizes q_shape;
    std::size_t key_heads;
    std::size_t keys;
    std::size_t value_size;
    double deviation = 1;
    double mean = 0;
};

template <class Q, class K = Q, class V = Q>
problem<Q, K, V> random_problem(const recipe& r, unsigned seed = 1)
{
    const auto& [q_shape, key_heads, keys, value_size, deviation, mean] = r;
    const sizes k_shape = {q_shape[0], key_heads, keys, q_shape[3]};
    const sizes v_shape = {q_shape[0], key_heads, keys, value_size};
    problem<Q, K, V> result = {gaussians<Q>(q_shape, 3 * seed, deviation), gaussians<K>(k_shape, 3 * seed + 1),
                               gaussians<V>(v_shape, 3 * seed + 2)};
    if (mean != 0) { // one component moves all scores: q 4, k mean sqrt(size) / 4
        const double shift = mean * std::sqrt(static_cast<double>(q_shape[3])) / 4;
        xt::view(result.q, xt::all(), xt::all(), xt::all(), 0).fill(from_double<Q>(4));
        xt::view(result.k, xt::all(), xt::all(), xt::all(), 0).fill(from_double<K>(shift));
    }
    return result;
}

/// Judges attention's numbers before they are rounded to q's element type, and that rounding by itself. The largest of
/// some hundred rounding errors is itself a matter of luck, here and for the textbook: its mean over several draws is
/// judged.
template <class Q, class K = Q, class V = Q>
void check_accuracy(const recipe& r, unsigned draws = 24)
{
    using T = scaledot::detail::arithmetic_t<Q, K, V>;
    accuracy all;
    double ours = 0;
    double textbook = 0;
    for (unsigned seed = 1; seed <= draws; ++seed) {
        const auto p = random_problem<Q, K, V>(r, seed);
        const auto stored = scaledot::attention(p.q, p.k, p.v);
        auto output = dense<T, 4>::from_shape(stored.shape());
        scaledot::attention_into(output, p.q, p.k, p.v);
        CHECK(std::equal(stored.begin(), stored.end(), output.begin(), [](Q narrow, T wide) {
            return as_double(narrow) == as_double(scaledot::kernel::to_storage<Q>(wide));
        }));
        const auto accuracy_with = [&]<class Weight>(Weight) {
            return accuracy_of<T, Weight>(plain(output), plain(p.q), plain(p.k), plain(p.v));
        };
        const auto result = rounds_weights<T, Q, V>() ? accuracy_with(scaledot::bfloat16()) : accuracy_with(T());
        all.add(result);
        ours += static_cast<double>(result.ours.largest) / draws;
        textbook += static_cast<double>(result.textbook.largest) / draws;
    }
    // Where three steps happen to hit the exact value, half a unit in the last place of the largest output is no error.
    const double half_unit = static_cast<double>(std::numeric_limits<T>::epsilon()) / 2 * all.largest_output;
    CHECK(all.ours.root_mean_square() <= attention_error_ratio * all.textbook.root_mean_square() + half_unit);
    CHECK(ours <= attention_error_ratio * textbook + half_unit);
}

} // namespace test_support
