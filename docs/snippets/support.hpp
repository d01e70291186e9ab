// SPDX-License-Identifier: BSD-3-Clause
// What the documentation's snippets are checked with: a macro, numbers to compute on, attention in its textbook form.
#ifndef SCALEDOT_SNIPPETS_SUPPORT_HPP
#define SCALEDOT_SNIPPETS_SUPPORT_HPP

#if __has_include(<xtensor/containers/xtensor.hpp>) // xtensor 0.26 and newer
#include <xtensor/containers/xadapt.hpp>
#include <xtensor/containers/xtensor.hpp>
#include <xtensor/core/xmath.hpp>
#include <xtensor/views/xview.hpp>
#else
#include <xtensor/xadapt.hpp>
#include <xtensor/xmath.hpp>
#include <xtensor/xtensor.hpp>
#include <xtensor/xview.hpp>
#endif

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <limits>
#include <random>
#include <vector>

inline int failures = 0;

/// Says which condition does not hold, and where; main returns how many did not.
#define CHECK(...)                                                                                                     \
    ((__VA_ARGS__) ? void()                                                                                            \
                   : (++failures, void(std::printf("%s:%d: does not hold: %s\n", __FILE__, __LINE__, #__VA_ARGS__))))

/// Numbers from N(0, 1), other ones at each call, the same ones in each run.
template <std::size_t Rank>
xt::xtensor<float, Rank> numbers(const std::array<std::size_t, Rank>& shape)
{
    static std::mt19937 engine(1);
    std::normal_distribution<float> normal;
    xt::xtensor<float, Rank> result(shape);
    for (float& x : result) {
        x = normal(engine);
    }
    return result;
}

template <class A, class B>
double largest_difference(const A& a, const B& b)
{
    double largest = a.size() == b.size() ? 0 : std::numeric_limits<double>::infinity();
    auto x = b.begin();
    for (auto y = a.begin(); y != a.end() && x != b.end(); ++y, ++x) {
        largest = std::max(largest, std::abs(static_cast<double>(*y) - static_cast<double>(*x)));
    }
    return largest;
}

/// softmax(scale q kᵀ + bias) v in double, one row after another; bias(batch, head, query, key) is -inf for a key that
/// the query does not see.
template <class Q, class K, class V, class Bias>
xt::xtensor<double, 4> textbook(const Q& q, const K& k, const V& v, Bias&& bias)
{
    const std::size_t batch = q.shape()[0], heads = q.shape()[1], queries = q.shape()[2], size = q.shape()[3];
    const std::size_t keys = k.shape()[2], shared = heads / k.shape()[1], value_size = v.shape()[3];
    xt::xtensor<double, 4> out(std::array<std::size_t, 4>{batch, heads, queries, value_size}, 0.0);
    std::vector<double> score(keys);
    for (std::size_t b = 0; b < batch; ++b) {
        for (std::size_t h = 0; h < heads; ++h) {
            for (std::size_t i = 0; i < queries; ++i) {
                double sum = 0, most = -std::numeric_limits<double>::infinity();
                for (std::size_t j = 0; j < keys; ++j) {
                    score[j] = 0;
                    for (std::size_t c = 0; c < size; ++c) {
                        score[j] += static_cast<double>(q(b, h, i, c)) * static_cast<double>(k(b, h / shared, j, c));
                    }
                    score[j] = score[j] / std::sqrt(static_cast<double>(size)) + bias(b, h, i, j);
                    most = std::max(most, score[j]);
                }
                if (!std::isfinite(most)) {
                    continue;
                }
                for (double& s : score) {
                    s = std::exp(s - most);
                    sum += s;
                }
                for (std::size_t j = 0; j < keys; ++j) {
                    for (std::size_t c = 0; c < value_size && score[j] > 0; ++c) {
                        out(b, h, i, c) += score[j] / sum * static_cast<double>(v(b, h / shared, j, c));
                    }
                }
            }
        }
    }
    return out;
}

/// A bias that excludes the keys for which `sees(batch, head, query, key)` is false.
template <class Sees>
auto where(Sees sees)
{
    return [sees](std::size_t b, std::size_t h, std::size_t i, std::size_t j) {
        return sees(b, h, i, j) ? 0.0 : -std::numeric_limits<double>::infinity();
    };
}

#endif
