// SPDX-License-Identifier: BSD-3-Clause
// What a softmax finds in vectors of logits: their range, and the sum of their weights. Rows lie along the vectors, or
// one in each lane.
#ifndef SCALEDOT_KERNEL_SOFTMAX_SUMS_HPP
#define SCALEDOT_KERNEL_SOFTMAX_SUMS_HPP

#include <scaledot/detail/config.hpp>
#include <scaledot/kernel/choice.hpp>
#include <scaledot/kernel/pair.hpp>
#include <scaledot/kernel/partial_vectors.hpp>
#include <scaledot/kernel/shuffle.hpp>
#include <scaledot/kernel/simd.hpp>
#include <scaledot/kernel/softmax_rows.hpp>
#include <scaledot/kernel/unroll.hpp>
#include <scaledot/kernel/weights.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <functional>
#include <limits>
#include <type_traits>

SCALEDOT_KERNELS_BEGIN
namespace scaledot::inline SCALEDOT_BUILD::kernel {

/// One number a lane.
template <class Arch, class T>
struct alignas(alignment_of<Arch>) lane_array : std::array<T, lanes<Arch, T>> {
    lane_array() = default;
    explicit lane_array(const batch<Arch, T>& x) { x.store_aligned(this->data()); }
    batch<Arch, T> vector() const { return batch<Arch, T>::load_aligned(this->data()); }
};

/// The smaller of a and b where one is below 0, else any number from 0 on.
template <class T, class A>
[[gnu::always_inline]] inline xsimd::batch<T, A> smaller_below_zero(const xsimd::batch<T, A>& a,
                                                                    const xsimd::batch<T, A>& b)
{
#if defined(__AVX512F__)
    // Bits taken for an unsigned integer grow from +0 over positive to negative numbers, away from 0. Comparing
    // integers leaves the ports of the multiplications free.
    if constexpr (sizeof(a) == 64 && sizeof(T) == 4) {
        return _mm512_castsi512_ps(_mm512_max_epu32(_mm512_castps_si512(a.data), _mm512_castps_si512(b.data)));
    } else if constexpr (sizeof(a) == 64) {
        return _mm512_castsi512_pd(_mm512_max_epu64(_mm512_castpd_si512(a.data), _mm512_castpd_si512(b.data)));
    }
#endif
    return smaller(a, b);
}

/// x, or 0 where x is NaN, by an integer test that -ffast-math cannot drop.
template <class T, class A>
[[gnu::always_inline]] inline xsimd::batch<T, A> zero_for_nan(const xsimd::batch<T, A>& x)
{
    const auto bits = as_bits(x);
    using I = std::decay_t<decltype(bits)>;
    const auto magnitude = bits & I(std::numeric_limits<bits_of<T>>::max());
    return from_bits<T>(select_bits(magnitude > I(exponent_mask<T>), I(0), bits));
}

/// The smallest lane where that is below 0, else any number from 0 on.
template <class T, class A>
[[gnu::always_inline]] inline T lowest_lane(const xsimd::batch<T, A>& x)
{
    return fold_lanes(
        x, [](const auto& a, const auto& b) __attribute__((always_inline)) { return smaller_below_zero(a, b); });
}

/// The largest logit of each lane, and the smallest where that is below 0.
template <class B>
struct logit_range {
    using T = typename B::value_type;

    B maximum = B(negative_infinity<T>);
    B lowest = B(T(0));

    [[gnu::always_inline]] void add(const logit_range& other)
    {
        maximum = larger(maximum, other.maximum);
        lowest = smaller_below_zero(lowest, other.lowest);
    }
};

/// As many ranges as an addition takes steps, since each waits for the one before: of vectors i, i + range_chains, ...;
/// the last few, which are fewer than chains, count to the first.
inline constexpr std::size_t range_chains = 4;
template <class B>
using chain_ranges = std::array<logit_range<B>, range_chains>;

template <class B>
[[gnu::always_inline]] inline logit_range<B> range_of_chains(const chain_ranges<B>& chains)
{
    logit_range<B> range = chains[0];
    logit_range<B> other = chains[2];
    range.add(chains[1]);
    other.add(chains[3]);
    range.add(other);
    return range;
}

/// The ranges of load(0), load(1), ..., load(count - 1).
template <class B, class Load>
[[gnu::always_inline]] inline chain_ranges<B> find_ranges(std::size_t count, Load&& load)
{
    chain_ranges<B> ranges = filled<range_chains>(logit_range<B>{});
    const auto add = [&](std::size_t chain, std::size_t i) __attribute__((always_inline))
    {
        const B x = load(i);
        ranges[chain].add({x, x});
    };
    std::size_t i = 0;
    for (; i + range_chains <= count; i += range_chains) {
        unroll<range_chains>([&](auto chain) __attribute__((always_inline)) { add(chain, i + chain); });
    }
    for (; i < count; ++i) {
        add(0, i);
    }
    return ranges;
}

template <class B, class Load>
[[gnu::always_inline]] inline logit_range<B> find_range(std::size_t count, Load&& load)
{
    return range_of_chains(find_ranges<B>(count, load));
}

/// The ranges of a row that lies along the vectors, of what see(logits) makes of them.
template <class Arch, class T, class S, class See = std::identity>
[[gnu::always_inline]] inline chain_ranges<batch<Arch, T>> ranges_of_row(const S* x, std::size_t length, See see = {})
{
    using B = batch<Arch, T>;
    constexpr std::size_t width = lanes<Arch, T>;
    const std::size_t whole = length / width;
    auto ranges = find_ranges<B>(
        whole, [&](std::size_t i) __attribute__((always_inline)) { return see(load_vector<Arch, T>(x + i * width)); });
    if (const std::size_t rest = length % width) {
        const B last = see(load_some<Arch, T>(x + whole * width, rest));
        ranges[0].add({last, last});
    }
    return ranges;
}

/// What rows' sums are compiled for. Those of few vectors are added without a total where rows are taken for their
/// speed; everywhere else a second copy of the loop would only be more code.
enum class row_length { any, many };

/// The sums of the weights of load(0) ... load(count - 1), lane by lane. Each is shown to keep(i, weight).
template <class B, class Sum = weight_sum<B>, row_length Length = row_length::many, class Load, class Weigh, class Keep>
[[gnu::always_inline]] inline pair<B> add_weights(std::size_t count, Load&& load, const Weigh& weigh, Keep&& keep)
{
    const auto part = [&](std::size_t begin, std::size_t end) __attribute__((always_inline))
    {
        Sum sum;
        for (std::size_t i = begin; i < end; ++i) {
            const weight<B> w = weigh(load(i));
            sum.add(w);
            keep(i, w.value());
        }
        return sum.total();
    };
    constexpr std::size_t most = Sum::most;
    if constexpr (Length == row_length::any) {
        if (count <= most) {
            return part(0, count);
        }
    }
    pair<B> total{barrier(B(0)), B(0)}; // of which compilers make no first step of its own
    for (std::size_t begin = 0; begin < count; begin += most) {
        add(total, part(begin, std::min(count, begin + most)));
    }
    return total;
}

/// What is read next, to be brought near beside what is read now: to the first cache, or, further ahead, the second.
template <class S>
struct row_to_fetch {
    const S* row;
    bool far = false;

    [[gnu::always_inline]] void from(std::size_t i) const
    {
        far ? __builtin_prefetch(row + i, 0, 2) : __builtin_prefetch(row + i, 0, 3);
    }
};

/// The weights of the first `count` lanes. The others weigh nothing.
template <class B, class Weigh>
[[gnu::always_inline]] inline weight<B> first_weights(const Weigh& weigh, const B& x, std::size_t count)
{
    weight<B> w = weigh(x);
    w.power = first_lanes(w.power, count);
    return w;
}

/// The same of a row of logits that lies along the vectors. Weights are shown to keep(i, count, weights), the last
/// vector's only as far as the row goes.
template <class Arch, class T, class Sum, row_length Length = row_length::many, class S, class Weigh, class Keep>
[[gnu::always_inline]] inline pair<batch<Arch, T>> add_row(const S* x, std::size_t length, const Weigh& weigh,
                                                           row_to_fetch<S> next, Keep&& keep)
{
    using B = batch<Arch, T>;
    constexpr std::size_t width = lanes<Arch, T>;
    const std::size_t whole = length / width;
    auto sum = add_weights<B, Sum, Length>(
        whole,
        [&](std::size_t i) __attribute__((always_inline)) {
            next.from(i * width);
            return load_vector<Arch, T>(x + i * width);
        },
        weigh, [&](std::size_t i, const B& w) __attribute__((always_inline)) { keep(i * width, width, w); });
    if (const std::size_t rest = length % width) {
        const weight<B> w = first_weights(weigh, load_some<Arch, T>(x + whole * width, rest), rest);
        Sum last;
        last.add(w);
        add(sum, last.total());
        keep(whole * width, rest, w.value());
    }
    return sum;
}

} // namespace scaledot::inline SCALEDOT_BUILD::kernel
SCALEDOT_KERNELS_END

#endif
