// SPDX-License-Identifier: BSD-3-Clause
// Sums of doubles to about twice their precision at four operations a term, for terms of which a limit is known: the
// passes of layer_norm and rms_norm over elements of type double.
#ifndef SCALEDOT_KERNEL_CUT_SUMS_HPP
#define SCALEDOT_KERNEL_CUT_SUMS_HPP

#include <scaledot/detail/config.hpp>
#include <scaledot/kernel/choice.hpp>
#include <scaledot/kernel/convert.hpp>
#include <scaledot/kernel/moments.hpp>
#include <scaledot/kernel/pair.hpp>
#include <scaledot/kernel/partial_vectors.hpp>
#include <scaledot/kernel/shuffle.hpp>
#include <scaledot/kernel/simd.hpp>
#include <scaledot/kernel/unroll.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>

SCALEDOT_KERNELS_BEGIN
namespace scaledot::inline SCALEDOT_BUILD::kernel {

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

/// Sums to about twice the precision of double of terms below a limit, a power of two: each is cut at a fixed place,
/// which is that of the last digit of a number larger than all sums of `terms` of them; what is above is summed exactly
/// in one number, what is below in another (Rump, Ogita & Oishi 2008).
template <class V>
class cut_sum {
public:
    static constexpr std::size_t terms = 32;

    [[gnu::always_inline]] explicit cut_sum(double limit) : cut_sum(V(3 * terms * limit)) {}

    /// Sums that begin at `bias`, at least three times the magnitude of any of them and of any term: then a term is cut
    /// at the last digit of the sum so far, wherever that is.
    [[gnu::always_inline]] explicit cut_sum(const V& bias) : bias_(bias), high_(bias), low_(0) {}

    /// Adds a * b, which is less than the limit and, without fused multiply-add, a number.
    [[gnu::always_inline]] void add(const V& a, const V& b)
    {
        if constexpr (fused<V>) {
            const V next = barrier(multiply_add(a, b, high_));
            low_ = low_ + barrier(multiply_add(a, b, barrier(V(high_ - next))));
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
    return two_sum(sum.high.data[0], sum.low.data[0]);
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

/// Adds x * scale, which is less than 4 in magnitude.
template <class Arch, class S>
void accumulate_cut_sum(const S* x, std::size_t count, double scale, pair<batch<Arch, double>>& sum)
{
    using V = batch<Arch, double>;
    const V factor(scale);
    accumulate_cut<Arch>(
        x, count, 4,
        sum, [&](const V& v, std::size_t, cut_sum<V>& to) __attribute__((always_inline)) { to.add(v, factor); });
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

/// Adds the squares of x * scale - mean.high rounded to double and less than `reach`, a power of two, to about twice
/// the precision of double.
template <class Arch, class S>
void accumulate_rounded_squares(const S* x, std::size_t count, const centre& c, double reach,
                                pair<batch<Arch, double>>& squares)
{
    using V = batch<Arch, double>;
    const V scale(c.scale);
    const V minus_mean(-c.mean.high);
    accumulate_cut<Arch>(
        x, count, reach * reach,
        squares, [&](const V& v, std::size_t kept, cut_sum<V>& to) __attribute__((always_inline)) {
            V d = rounded_deviation(v, scale, minus_mean);
            if (kept != V::size) {
                d = keep_lanes(d, kept);
            }
            to.add_square(d);
        });
}

} // namespace scaledot::inline SCALEDOT_BUILD::kernel
SCALEDOT_KERNELS_END

#endif
