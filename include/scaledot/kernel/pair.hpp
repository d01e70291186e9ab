// SPDX-License-Identifier: BSD-3-Clause
// Unevaluated sums high + low of two numbers of one type: twice the precision from additions and products whose
// rounding errors are kept (Dekker 1971; Knuth, TAOCP 2, 4.2.2). Barriers keep the compiler from simplifying the errors
// to zero.
#ifndef SCALEDOT_KERNEL_PAIR_HPP
#define SCALEDOT_KERNEL_PAIR_HPP

#include <scaledot/detail/config.hpp>
#include <scaledot/kernel/simd.hpp>
#include <scaledot/kernel/unroll.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <type_traits>

SCALEDOT_KERNELS_BEGIN
namespace scaledot::inline SCALEDOT_BUILD::kernel {

/// high + low, |low| <= ulp(high) / 2 after each function below. V is a number or a vector.
template <class V>
struct pair {
    V high;
    V low;
};

/// a + b exactly, for |a| >= |b| or a = 0.
template <class V>
[[gnu::always_inline]] inline pair<V> fast_two_sum(const V& a, const V& b)
{
    const V sum = barrier(V(a + b));
    return {sum, barrier(V(b - barrier(V(sum - a))))};
}

/// a + b exactly, whatever their order.
template <class V>
[[gnu::always_inline]] inline pair<V> two_sum(const V& a, const V& b)
{
    const V sum = barrier(V(a + b));
    const V from_b = barrier(V(sum - a));
    const V from_a = barrier(V(sum - from_b));
    return {sum, barrier(V(barrier(V(a - from_a)) + barrier(V(b - from_b))))};
}

/// a - b exactly.
template <class V>
[[gnu::always_inline]] inline pair<V> two_difference(const V& a, const V& b)
{
    return two_sum(a, V(-b));
}

template <class V>
[[gnu::always_inline]] inline V constant(double value)
{
    if constexpr (std::is_floating_point_v<V>) {
        return static_cast<V>(value);
    } else {
        return V(static_cast<typename V::value_type>(value));
    }
}

/// 2^s + 1, which cuts a number of 2s or 2s - 1 bits into halves.
template <class V>
inline constexpr double veltkamp_factor = 134217729.0;
template <>
inline constexpr double veltkamp_factor<float> = 4097.0;
template <class A>
inline constexpr double veltkamp_factor<xsimd::batch<float, A>> = 4097.0;

/// The product's rounding error: a * b - product, exactly where the machine has fused multiply-add. Without it, by
/// Veltkamp's splitting, exact below 2^(emax - 30).
template <class V>
[[gnu::always_inline]] inline pair<V> two_product(const V& a, const V& b)
{
    const V product = barrier(V(a * b));
    if constexpr (fused<V> && std::is_floating_point_v<V>) {
        return {product, barrier(std::fma(a, b, -product))};
    } else if constexpr (fused<V>) {
        return {product, barrier(multiply_add(a, b, negated(product)))};
    } else {
        const auto split = [](const V& x) {
            const V scaled = barrier(V(x * constant<V>(veltkamp_factor<V>)));
            const V high = barrier(V(scaled - barrier(V(scaled - x))));
            return pair<V>{high, barrier(V(x - high))};
        };
        const auto x = split(a);
        const auto y = split(b);
        const V rest = barrier(V(barrier(V(x.high * y.high)) - product));
        const V cross = barrier(V(barrier(V(rest + x.high * y.low)) + x.low * y.high));
        return {product, barrier(V(cross + barrier(V(x.low * y.low))))};
    }
}

/// sum + x, the error of the addition collected in low.
template <class V>
[[gnu::always_inline]] inline void accumulate(pair<V>& sum, const V& x)
{
    const auto next = two_sum(sum.high, x);
    sum.high = next.high;
    sum.low = sum.low + next.low;
}

/// total + part, to twice the precision of its numbers.
template <class V>
[[gnu::always_inline]] inline void add(pair<V>& total, const pair<V>& part)
{
    accumulate(total, part.high);
    total.low = total.low + part.low;
}

/// Lanes are added up in so many chains, of lanes i, i + lane_chains, ..., since each addition waits for the one
/// before.
template <class B>
inline constexpr std::size_t lane_chains = std::min<std::size_t>(B::size, 4);

/// The sum of chains.
template <class V, std::size_t Chains>
[[gnu::always_inline]] inline pair<V> sum_of_chains(std::array<pair<V>, Chains> chains)
{
    unroll<std::bit_width(Chains) - 1>([&](auto level) __attribute__((always_inline)) {
        unroll<(Chains >> (level + 1))>([&](auto i) __attribute__((always_inline)) {
            add(chains[i], chains[i + (Chains >> (level + 1))]);
        });
    });
    return two_sum(chains[0].high, chains[0].low);
}

/// The sum of all lanes of both parts.
template <class T, class A>
[[gnu::always_inline]] inline pair<T> reduce(const pair<xsimd::batch<T, A>>& sum)
{
    constexpr std::size_t count = xsimd::batch<T, A>::size;
    alignas(A::alignment()) std::array<T, count> high;
    alignas(A::alignment()) std::array<T, count> low;
    sum.high.store_aligned(high.data());
    sum.low.store_aligned(low.data());
    auto chains = filled<lane_chains<xsimd::batch<T, A>>>(pair<T>{0, 0});
    unroll<count>([&](auto i) __attribute__((always_inline)) { add(chains[i % chains.size()], {high[i], low[i]}); });
    return sum_of_chains(chains);
}

} // namespace scaledot::inline SCALEDOT_BUILD::kernel
SCALEDOT_KERNELS_END

#endif
