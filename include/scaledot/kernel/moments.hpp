// SPDX-License-Identifier: BSD-3-Clause
// The passes over contiguous elements that sums, means and variances are made of. All arithmetic is in double, in pairs
// of doubles where a double would not do, so that squares of floats neither overflow nor underflow and sums lose
// nothing. Accumulators are carried from one segment of a strided block to the next.
#ifndef SCALEDOT_KERNEL_MOMENTS_HPP
#define SCALEDOT_KERNEL_MOMENTS_HPP

#include <scaledot/detail/config.hpp>
#include <scaledot/kernel/pair.hpp>
#include <scaledot/kernel/shuffle.hpp>
#include <scaledot/kernel/simd.hpp>
#include <scaledot/kernel/unroll.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>

SCALEDOT_KERNELS_BEGIN
namespace scaledot::inline SCALEDOT_BUILD::kernel {

/// A mean and how elements are scaled before it is subtracted: deviations are x * scale - mean, scale a power of two,
/// and smaller than `reach`, another one.
struct centre {
    double scale = 1;
    pair<double> mean{0, 0};
    double reach = 4;
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

/// The smallest and the largest element so far, lane by lane. NaN may be passed over.
template <class V>
struct extremes {
    V smallest;
    V largest;
};

template <class Arch, class S>
void accumulate_extremes(const S* x, std::size_t count, extremes<batch<Arch, double>>& range)
{
    using V = batch<Arch, double>;
    constexpr std::size_t size = V::size;
    std::array<extremes<V>, 2> each{range, range};
    const auto add = [&](const V& v, extremes<V>& to) __attribute__((always_inline))
    {
        to.smallest = smaller(v, to.smallest);
        to.largest = larger(v, to.largest);
    };
    std::size_t i = 0;
    for (; i + 2 * size <= count; i += 2 * size) {
        add(load_vector<Arch, double>(x + i), each[0]);
        add(load_vector<Arch, double>(x + i + size), each[1]);
    }
    for (; i < count; i += size) {
        const std::size_t kept = std::min(size, count - i);
        add(load_partial<Arch, double>(x + i, kept, to_arithmetic<double>(x[i])), each[0]);
    }
    range = {smaller(each[0].smallest, each[1].smallest), larger(each[0].largest, each[1].largest)};
}

template <class A>
inline extremes<double> reduce(const extremes<xsimd::batch<double, A>>& range)
{
    return {fold_lanes(range.smallest, [](const auto& a, const auto& b) { return smaller(a, b); }),
            largest_lane(range.largest)};
}

/// A power of two s with magnitude * s in [1, 4) (below 1 for subnormal magnitudes), s and 1/s normal numbers.
inline double scale_for(double magnitude)
{
    const auto bits = std::bit_cast<std::uint64_t>(magnitude);
    const std::uint64_t exponent = std::clamp<std::uint64_t>((bits >> 52) & 0x7ff, 1, 2045);
    return std::bit_cast<double>((2046 - exponent) << 52);
}

/// Sums to about twice the precision of double of terms below a limit, a power of two: each is cut at a fixed place,
/// which is that of the last digit of a number larger than all sums of `terms` of them; what is above is summed exactly
/// in one number, what is below in another (Rump, Ogita & Oishi 2008).
template <class V>
class cut_sum {
public:
    static constexpr std::size_t terms = 32;

    [[gnu::always_inline]] explicit cut_sum(double limit) : bias_(3 * terms * limit), high_(bias_), low_(0) {}

    /// Adds a * b, which is less than the limit and, without fused multiply-add, a number.
    [[gnu::always_inline]] void add(const V& a, const V& b)
    {
        if constexpr (fused<V>) {
            const V next = barrier(multiply_add(a, b, high_));
            low_ = low_ + multiply_add(a, b, V(-barrier(V(next - high_))));
            high_ = next;
        } else {
            const V term = barrier(V(a * b));
            const V next = barrier(V(high_ + term));
            low_ = low_ + barrier(V(term - barrier(V(next - high_))));
            high_ = next;
        }
    }

    /// Adds a * a in any case.
    [[gnu::always_inline]] void add_square(const V& a)
    {
        if constexpr (!fused<V>) {
            low_ = low_ + two_product(a, a).low;
        }
        add(a, a);
    }

    /// Gives away what has been added.
    [[gnu::always_inline]] pair<V> take()
    {
        const pair<V> sum{barrier(V(high_ - bias_)), low_};
        high_ = bias_;
        low_ = V(0);
        return sum;
    }

private:
    V bias_;
    V high_;
    V low_;
};

/// a + b, but for the rounding errors of low parts.
template <class V>
[[gnu::always_inline]] inline pair<V> join(const pair<V>& a, const pair<V>& b)
{
    const auto sum = two_sum(a.high, b.high);
    return {sum.high, sum.low + (a.low + b.low)};
}

/// The sum of all lanes of both parts, halves joined.
template <class A>
[[gnu::always_inline]] inline pair<double> join_lanes(pair<xsimd::batch<double, A>> sum)
{
    using V = xsimd::batch<double, A>;
    unroll<std::bit_width(V::size) - 1>([&](auto level) __attribute__((always_inline)) {
        using half = shuffles::rotation<(V::size >> (level + 1)), V::size>;
        sum = join(sum,
                   pair<V>{V(half::apply(sum.high.data, sum.high.data)), V(half::apply(sum.low.data, sum.low.data))});
    });
    return fast_two_sum(sum.high.data[0], sum.low.data[0]);
}

/// Calls add(vector, sum) on all elements, as for_each_vector does, with four sums in turns, which end up in `total`.
template <class Arch, class S, class Add>
[[gnu::always_inline]] inline void accumulate_cut(const S* x, std::size_t count, double limit,
                                                  pair<batch<Arch, double>>& total, Add&& add)
{
    using V = batch<Arch, double>;
    constexpr std::size_t size = V::size;
    constexpr std::size_t chains = 4;
    std::array<cut_sum<V>, chains> sums{cut_sum<V>(limit), cut_sum<V>(limit), cut_sum<V>(limit), cut_sum<V>(limit)};
    pair<V> local = total;
    std::size_t i = 0;
    while (i + size <= count) {
        const std::size_t vectors = std::min(chains * cut_sum<V>::terms, (count - i) / size);
        std::size_t v = 0;
        for (; v + chains <= vectors; v += chains) {
            unroll<chains>([&](auto c) __attribute__((always_inline)) {
                add(load_vector<Arch, double>(x + i + (v + c) * size), size, sums[c]);
            });
        }
        unroll<chains - 1>([&](auto c) __attribute__((always_inline)) {
            if (v + c < vectors) {
                add(load_vector<Arch, double>(x + i + (v + c) * size), size, sums[c]);
            }
        });
        i += vectors * size;
        const auto lower = join(sums[0].take(), sums[1].take());
        local = join(local, join(lower, join(sums[2].take(), sums[3].take())));
    }
    if (i < count) {
        add(load_partial<Arch, double>(x + i, count - i, 0.0), count - i, sums[0]);
        local = join(local, sums[0].take());
    }
    total = local;
}

/// Adds x * scale to the sum: with pairs to about twice the precision of double, the scale making it less than 4 in
/// magnitude; without them the scale is 1.
template <class Arch, bool Pairs, class S>
void accumulate_sum(const S* x, std::size_t count, double scale, pair<batch<Arch, double>>& sum)
{
    using V = batch<Arch, double>;
    if constexpr (Pairs) {
        const V factor(scale);
        accumulate_cut<Arch>(
            x, count, 4,
            sum, [&](const V& v, std::size_t, cut_sum<V>& to) __attribute__((always_inline)) { to.add(v, factor); });
    } else {
        pair<V> local = sum;
        for_each_vector<Arch>(x, count, [&](const V& v, std::size_t) { accumulate(local, v); });
        sum = local;
    }
}

/// x * scale - mean, as a pair.
template <class V>
[[gnu::always_inline]] inline pair<V> deviation(const V& x, const centre& c)
{
    const auto difference = two_difference(barrier(V(x * V(c.scale))), V(c.mean.high));
    return fast_two_sum(difference.high, barrier(V(difference.low - V(c.mean.low))));
}

/// x * scale - mean rounded to double.
template <class V>
[[gnu::always_inline]] inline V rounded_deviation(const V& x, const V& scale, const V& minus_mean)
{
    if constexpr (fused<V>) {
        return barrier(multiply_add(x, scale, minus_mean));
    } else {
        return barrier(V(barrier(V(x * scale)) + minus_mean));
    }
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

/// Adds the squares of x * scale - mean.high rounded to double, to about twice the precision of double.
template <class Arch, class S>
void accumulate_rounded_squares(const S* x, std::size_t count, const centre& c, pair<batch<Arch, double>>& squares)
{
    using V = batch<Arch, double>;
    const V scale(c.scale);
    const V minus_mean(-c.mean.high);
    accumulate_cut<Arch>(
        x, count, c.reach * c.reach,
        squares, [&](const V& v, std::size_t kept, cut_sum<V>& to) __attribute__((always_inline)) {
            V d = rounded_deviation(v, scale, minus_mean);
            if (kept != V::size) {
                d = keep_lanes(d, kept);
            }
            to.add_square(d);
        });
}

/// sum / count, correctly to about 100 bits.
inline pair<double> divide(const pair<double>& sum, double count)
{
    const double high = barrier(sum.high / count);
    const double rest = barrier(barrier(std::fma(-high, count, sum.high)) + sum.low);
    return fast_two_sum(high, barrier(rest / count));
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
