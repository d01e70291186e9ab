// SPDX-License-Identifier: BSD-3-Clause
// Input for the tests of attention: Gaussian arrays of any element type, and comparisons by bits.
#ifndef SCALEDOT_TESTS_SUPPORT_ATTENTION_CASES_HPP
#define SCALEDOT_TESTS_SUPPORT_ATTENTION_CASES_HPP

#include <scaledot/detail/check.hpp>
#include <scaledot/detail/xtensor.hpp>
#include <scaledot/kernel/simd.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <random>

#include "norm_rows.hpp"

namespace test_support {

template <class T, std::size_t N>
using dense = xt::xtensor<T, N, xt::layout_type::row_major>;

/// N(mean, deviation) rounded to T.
template <class T, std::size_t N>
dense<T, N> gaussians(const std::array<std::size_t, N>& shape, unsigned seed, double deviation = 1, double mean = 0)
{
    std::mt19937_64 engine(seed);
    std::normal_distribution<double> normal(mean, deviation);
    auto result = dense<T, N>::from_shape(shape);
    std::generate(result.begin(), result.end(), [&] { return from_double<T>(normal(engine)); });
    return result;
}

template <class T, std::size_t N>
dense<T, N> filled(const std::array<std::size_t, N>& shape, double value)
{
    auto result = dense<T, N>::from_shape(shape);
    std::fill(result.begin(), result.end(), from_double<T>(value));
    return result;
}

/// Equal shapes and equal bits, element by element in row-major order.
template <class A, class B>
bool same_bits(const A& a, const B& b)
{
    if (a.dimension() != b.dimension() || !std::equal(a.shape().begin(), a.shape().end(), b.shape().begin())) {
        return false;
    }
    return std::equal(a.begin(), a.end(), b.begin(), [](auto x, auto y) {
        static_assert(sizeof x == sizeof y);
        return std::memcmp(&x, &y, sizeof x) == 0;
    });
}

template <class A>
bool all_nan(const A& a)
{
    return std::all_of(a.begin(), a.end(), [](auto x) { return scaledot::detail::is_nan(as_double(x)); });
}

template <class A>
bool all_finite(const A& a)
{
    return std::all_of(a.begin(), a.end(), [](auto x) { return scaledot::detail::is_finite(as_double(x)); });
}

/// +0, by bits.
template <class A>
bool all_zero(const A& a)
{
    return std::all_of(a.begin(), a.end(), [](auto x) {
        const decltype(x) zero = from_double<decltype(x)>(0);
        return std::memcmp(&x, &zero, sizeof x) == 0;
    });
}

/// NaN and infinities that no compiler option turns into something else.
template <class T>
T nan_of()
{
    return from_double<T>(scaledot::kernel::quiet_nan<double>());
}
template <class T>
T infinity_of()
{
    return from_double<T>(scaledot::kernel::infinity<double>);
}
template <class T>
T minus_infinity_of()
{
    return from_double<T>(scaledot::kernel::negative_infinity<double>);
}

} // namespace test_support

#endif
