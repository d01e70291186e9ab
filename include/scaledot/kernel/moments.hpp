// SPDX-License-Identifier: BSD-3-Clause
// The passes over contiguous elements that sums, means and variances are made of. All arithmetic is in double, in pairs
// of doubles where a double would not do, so that squares of floats neither overflow nor underflow and sums lose
// nothing. Accumulators are carried from one segment of a strided block to the next.
#ifndef SCALEDOT_KERNEL_MOMENTS_HPP
#define SCALEDOT_KERNEL_MOMENTS_HPP

#include <scaledot/detail/config.hpp>
#include <scaledot/kernel/pair.hpp>
#include <scaledot/kernel/partial_vectors.hpp>
#include <scaledot/kernel/simd.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>

SCALEDOT_KERNELS_BEGIN
namespace scaledot::inline SCALEDOT_BUILD::kernel {

/// A mean and how elements are scaled before it is subtracted: deviations are x * scale - mean, scale a power of two.
struct centre {
    double scale = 1;
    pair<double> mean{0, 0};
};

/// The first `count` lanes of x, 0 in the others.
template <class A>
[[gnu::always_inline]] inline xsimd::batch<double, A> keep_lanes(const xsimd::batch<double, A>& x, std::size_t count)
{
    constexpr std::size_t size = xsimd::batch<double, A>::size;
    using I = xsimd::batch<std::int64_t, A>;
    static constexpr auto mask = [] {
        std::array<std::int64_t, 2 * size> values{};
        std::fill_n(values.begin(), size, -1);
        return values;
    }();
    return from_bits<double>(I(as_bits(x) & I::load_unaligned(mask.data() + size - count)));
}

/// Calls body(vector, count) on all elements in vectors of double; the last vector is padded with zeros. What body adds
/// up must be a local variable of its caller, for the compiler to keep it in a register.
template <class Arch, class S, class Body>
[[gnu::always_inline]] inline void for_each_vector(const S* x, std::size_t count, Body&& body)
{
    constexpr std::size_t size = lanes<Arch, double>;
    std::size_t i = 0;
    for (; i + size <= count; i += size) {
        body(load_vector<Arch, double>(x + i), size);
    }
    if (i < count) {
        body(load_partial<Arch, double>(x + i, count - i, 0.0), count - i);
    }
}

/// The bits of the largest magnitude so far, lane by lane: an integer order in which every NaN is above infinity.
template <class Arch, class S>
void accumulate_magnitude(const S* x, std::size_t count, batch<Arch, std::int64_t>& largest)
{
    using I = batch<Arch, std::int64_t>;
    I local = largest;
    for_each_vector<Arch>(x, count, [&](const batch<Arch, double>& v, std::size_t) {
        const I bits = as_bits(v) & I(std::numeric_limits<std::int64_t>::max());
        local = select_bits(bits > local, bits, local);
    });
    largest = local;
}

/// The bits of the largest of the lanes.
template <class A>
inline std::int64_t reduce_magnitude(const xsimd::batch<std::int64_t, A>& largest)
{
    alignas(A::alignment()) std::array<std::int64_t, xsimd::batch<std::int64_t, A>::size> values;
    largest.store_aligned(values.data());
    return *std::max_element(values.begin(), values.end());
}

/// A power of two s with magnitude * s in [1, 4) (below 1 for subnormal magnitudes), s and 1/s normal numbers.
inline double scale_for(double magnitude)
{
    const auto bits = std::bit_cast<std::uint64_t>(magnitude);
    const std::uint64_t exponent = std::clamp<std::uint64_t>((bits >> 52) & 0x7ff, 1, 2045);
    return std::bit_cast<double>((2046 - exponent) << 52);
}

/// Adds x * scale to the sum; without pairs the scale is 1.
template <class Arch, bool Pairs, class S>
void accumulate_sum(const S* x, std::size_t count, double scale, pair<batch<Arch, double>>& sum)
{
    using V = batch<Arch, double>;
    pair<V> local = sum;
    const V factor(scale);
    for_each_vector<Arch>(x, count, [&](const V& v, std::size_t) {
        if constexpr (Pairs) {
            accumulate(local, barrier(V(v * factor)));
        } else {
            accumulate(local, v);
        }
    });
    sum = local;
}

/// x * scale - mean, as a pair.
template <class V>
[[gnu::always_inline]] inline pair<V> deviation(const V& x, const centre& c)
{
    const auto difference = two_difference(barrier(V(x * V(c.scale))), V(c.mean.high));
    return fast_two_sum(difference.high, barrier(V(difference.low - V(c.mean.low))));
}

/// Adds the squares of x * scale - mean. Pairs: to twice the precision of double; otherwise to that of double, from
/// deviations rounded to double, for elements of at most 24 bits that need no scale.
template <class Arch, bool Pairs, class S>
void accumulate_squares(const S* x, std::size_t count, const centre& c, pair<batch<Arch, double>>& squares)
{
    using V = batch<Arch, double>;
    if constexpr (Pairs) {
        V high = squares.high;
        V low = squares.low;
        for_each_vector<Arch>(x, count, [&](const V& v, std::size_t kept) {
            const auto d = deviation(v, c);
            const V d_high = keep_lanes(d.high, kept);
            const V d_low = keep_lanes(d.low, kept);
            const auto square = two_product(d_high, d_high);
            const auto sum = two_sum(high, square.high);
            high = sum.high;
            low = low + (sum.low + multiply_add(V(d_high + d_high), d_low, square.low));
        });
        squares = {high, low};
    } else {
        const V mean(c.mean.high);
        V first(0); // two sums, taken in turns, so that one addition need not wait for the other
        V second(0);
        for_each_vector<Arch>(x, count, [&](const V& v, std::size_t kept) {
            V d = barrier(V(v - mean));
            if (kept != V::size) {
                d = keep_lanes(d, kept);
            }
            const V sum = multiply_add(d, d, first);
            first = second;
            second = sum;
        });
        squares.high = squares.high + (first + second);
    }
}

/// high + low + lowest, each no more than half an ulp of the one before and next to nothing.
template <class V>
struct triple {
    V high;
    V low;
    V lowest;
};

/// c - a * b, rounded once; of vectors only where the machine has an instruction for it.
template <class V>
[[gnu::always_inline]] inline V rest_of(const V& c, const V& a, const V& b)
{
    if constexpr (std::is_floating_point_v<V>) {
        return barrier(std::fma(-a, b, c));
    } else {
        return barrier(negative_multiply_add(a, b, c));
    }
}

/// sum / count to about 150 bits, of which low has its own 53: what a mean leaves of an element next to it is made of
/// these. Where it is a double, low and lowest are 0. Products with 1 / count, corrected by what they leave: with
/// -ffast-math that is what becomes of divisions.
template <class V>
[[gnu::always_inline]] inline triple<V> mean_of(const pair<V>& sum, double count)
{
    const V n(count);
    const V share(1 / count);
    const V rough = barrier(V(sum.high * share));
    const V more = barrier(V(rest_of(sum.high, rough, n) + sum.low));
    const V high = barrier(V(rough + barrier(V(more * share))));
    const V left = barrier(V(rest_of(sum.high, high, n) + sum.low));
    const V low = barrier(V(left * share));
    return {high, low, barrier(V(rest_of(left, low, n) * share))};
}

/// 1 / sqrt(v) to about 100 bits: one Newton step from the exact residual 1 - v r^2. Infinite for v = 0.
/// v * v and 1 / v must be in the normal range.
inline pair<double> inverse_root(const pair<double>& v)
{
    if (v.high == 0) {
        return {barrier(infinity<double>), 0};
    }
    const double root = barrier(1 / barrier(std::sqrt(v.high)));
    const double square = barrier(root * root);
    const double square_low = std::fma(root, root, -square);
    const double product = barrier(v.high * square);
    const double product_low = std::fma(v.high, square, -product);
    const double small = barrier(barrier(product_low + v.high * square_low) + v.low * square);
    const double residual = barrier(barrier(1 - product) - small);
    return fast_two_sum(root, barrier(0.5 * root * residual));
}

} // namespace scaledot::inline SCALEDOT_BUILD::kernel
SCALEDOT_KERNELS_END

#endif
