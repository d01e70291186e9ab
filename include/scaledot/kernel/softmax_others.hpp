// SPDX-License-Identifier: BSD-3-Clause
// The sums of rows' weights without the largest one, for logarithms of sums that it dominates: to as many digits as the
// sum of all has, however small the others are.
#ifndef SCALEDOT_KERNEL_SOFTMAX_OTHERS_HPP
#define SCALEDOT_KERNEL_SOFTMAX_OTHERS_HPP

#include <scaledot/detail/config.hpp>
#include <scaledot/kernel/choice.hpp>
#include <scaledot/kernel/convert.hpp>
#include <scaledot/kernel/logarithm.hpp>
#include <scaledot/kernel/narrow_weights.hpp>
#include <scaledot/kernel/pair.hpp>
#include <scaledot/kernel/partial_vectors.hpp>
#include <scaledot/kernel/shuffle.hpp>
#include <scaledot/kernel/simd.hpp>
#include <scaledot/kernel/softmax_sums.hpp>
#include <scaledot/kernel/weights.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <numeric>

SCALEDOT_KERNELS_BEGIN
namespace scaledot::inline SCALEDOT_BUILD::kernel {

/// The sums of the weights of load(0) ... load(count - 1), lane by lane, without what equals the maximum. The rest may
/// be tiny, so powers and excesses are added one by one.
template <class B, class Load, class Weigh>
pair<B> add_others(std::size_t count, Load&& load, Weigh&& weigh, const B& maximum)
{
    pair<B> total{B(0), B(0)};
    for (std::size_t i = 0; i < count; ++i) {
        const B x = load(i);
        const weight<B> w = weigh(x);
        const B power = xsimd::select(x == maximum, B(0), w.power);
        accumulate(total, power);
        accumulate(total, B(power * w.excess));
    }
    return total;
}

/// Counts in lanes.
template <class B>
using maxima_counter = xsimd::batch<bits_of<typename B::value_type>, typename B::arch_type>;

template <class Arch, class T>
std::size_t sum_of_counts(const maxima_counter<batch<Arch, T>>& counter)
{
    const lane_array<Arch, bits_of<T>> of_lanes(counter);
    return std::accumulate(of_lanes.begin(), of_lanes.end(), std::size_t{0});
}

/// Weighs what equals the maximum with 0, the rest as Weigher does, and counts the former in each lane.
template <class B, class Weigher>
class others_weigher {
    using T = typename B::value_type;
    using counter = maxima_counter<B>;

public:
    others_weigher(const Weigher& weigh, const B& maximum, counter& maxima)
        : weigh_(weigh), maximum_(maximum), maxima_(maxima)
    {
    }

    [[gnu::always_inline]] weight<B> operator()(const B& x) const
    {
        const weight<B> w = weigh_(x);
        const auto is_maximum = x == maximum_;
        maxima_ = count_where<T>(is_maximum, maxima_);
        return {zero_where(is_maximum, w.power), w.excess};
    }

    /// The same of the first `count` lanes. The others weigh nothing.
    [[gnu::always_inline]] weight<B> first(const B& x, std::size_t count) const
    {
        const weight<B> w = weigh_(x);
        const auto is_maximum = x == maximum_;
        const B found = first_lanes(from_bits<T>(count_where<T>(is_maximum, counter(0))), count);
        maxima_ = maxima_ + as_bits(found);
        return {first_lanes(zero_where(is_maximum, w.power), count), w.excess};
    }

private:
    Weigher weigh_;
    B maximum_;
    counter& maxima_;
};

template <class B, class Weigher>
[[gnu::always_inline]] inline weight<B> first_weights(const others_weigher<B, Weigher>& weigh, const B& x,
                                                      std::size_t count)
{
    return weigh.first(x, count);
}

/// The sums of a row that lies along the vectors, lane by lane.
template <class Arch, class T, class Sum, class S, class Weigher>
pair<batch<Arch, T>> add_others_of_row(const S* x, std::size_t length, const Weigher& weigh, T maximum)
{
    using B = batch<Arch, T>;
    maxima_counter<B> maxima(0);
    return add_row<Arch, T, Sum>(x, length, others_weigher<B, Weigher>(weigh, B(maximum), maxima), row_to_fetch<S>{x},
                                 [](std::size_t, std::size_t, const B&) {});
}

/// The same of a narrow row, whose powers have exact sums, the largest among them or not.
template <class Arch, class T, class S>
[[gnu::noinline]] pair<batch<Arch, T>> add_narrow_others(const S* x, std::size_t length,
                                                         const narrow_weigher<batch<Arch, T>>& weigh, T maximum)
{
    return add_others_of_row<Arch, T, narrow_weight_sum<batch<Arch, T>>>(x, length, weigh, maximum);
}

/// The same of a plain row, in the frame of its second largest logit, if rows with that as their largest are plain,
/// too.
template <class Arch, class T, class S>
[[gnu::noinline]] pair<batch<Arch, T>> add_plain_others(const S* x, std::size_t length,
                                                        const weight_frame<batch<Arch, T>>& of_second,
                                                        const exponent_scale<T>& scale, T maximum)
{
    using B = batch<Arch, T>;
    return add_others_of_row<Arch, T, weight_sum<B>>(x, length, weigher<B, true>(of_second, scale), maximum);
}

/// The same of any row.
template <class Arch, class T, class S>
[[gnu::noinline]] pair<batch<Arch, T>> add_any_others(const S* x, std::size_t length,
                                                      const weight_frame<batch<Arch, T>>& frame,
                                                      const exponent_scale<T>& scale, T maximum)
{
    using B = batch<Arch, T>;
    const auto load = [&](std::size_t i) {
        return load_partial<Arch, T>(x + i * B::size, std::min(B::size, length - i * B::size), maximum);
    };
    return add_others<B>((length + B::size - 1) / B::size, load, weigher<B, false>(frame, scale), B(maximum));
}

/// Adds all but one of the largest weights of rows, one a lane, to the sums of their others. Rows with a single one
/// keep their bits.
template <class Arch, class T>
[[gnu::noinline]] void add_further_maxima(pair<batch<Arch, T>>& others,
                                          const std::array<std::size_t, lanes<Arch, T>>& maxima,
                                          const pair<batch<Arch, T>>& largest)
{
    lane_array<Arch, T> high(others.high);
    lane_array<Arch, T> low(others.low);
    const lane_array<Arch, T> largest_high(largest.high);
    const lane_array<Arch, T> largest_low(largest.low);
    for (std::size_t lane = 0; lane < maxima.size(); ++lane) {
        if (maxima[lane] < 2) {
            continue;
        }
        const std::size_t further = maxima[lane] - 1;
        const T count = static_cast<T>(further);
        const T rest = static_cast<T>(static_cast<std::int64_t>(further - static_cast<std::size_t>(count)));
        const auto product = two_product(count, largest_high[lane]);
        const T product_low = barrier(count * largest_low[lane] + rest * largest_high[lane]);
        const auto sum = sum_of(pair<T>{high[lane], low[lane]}, pair<T>{product.high, product.low + product_low});
        high[lane] = sum.high;
        low[lane] = sum.low;
    }
    others = {high.vector(), low.vector()};
}

/// How many of load(0) ... load(count - 1) equal the maximum, in each lane.
template <class B, class Load>
std::array<std::size_t, B::size> count_maxima(std::size_t count, Load&& load, const B& maximum)
{
    using T = typename B::value_type;
    constexpr std::size_t most = std::size_t{1} << 30; // that a lane counts
    std::array<std::size_t, B::size> total{};
    for (std::size_t begin = 0; begin < count; begin += most) {
        maxima_counter<B> found(0);
        for (std::size_t i = begin; i < std::min(count, begin + most); ++i) {
            found = count_where<T>(load(i) == maximum, found);
        }
        std::array<bits_of<T>, B::size> of_lanes;
        found.store_unaligned(of_lanes.data());
        std::transform(total.begin(), total.end(), of_lanes.begin(), total.begin(),
                       [](std::size_t sum, bits_of<T> of_lane) { return sum + static_cast<std::size_t>(of_lane); });
    }
    return total;
}

/// How many logits of a row that lies along the vectors equal its maximum.
template <class Arch, class T, class S>
[[gnu::noinline]] std::size_t count_maxima_of_row(const S* x, std::size_t length, T maximum)
{
    using B = batch<Arch, T>;
    const std::size_t whole = length / B::size;
    const auto load = [&](std::size_t i) { return load_vector<Arch, T>(x + i * B::size); };
    const auto of_lanes = count_maxima<B>(whole, load, B(maximum));
    const auto is_maximum = [&](const S& logit) { return to_arithmetic<T>(logit) == maximum; };
    return std::accumulate(of_lanes.begin(), of_lanes.end(), std::size_t{0}) +
           static_cast<std::size_t>(std::count_if(x + whole * B::size, x + length, is_maximum));
}

/// Sees -inf in place of logits that are not below a limit.
template <class B>
class below {
public:
    explicit below(typename B::value_type limit) : limit_(limit) {}

    [[gnu::always_inline]] B operator()(const B& x) const
    {
        return xsimd::select(x < limit_, x, B(negative_infinity<typename B::value_type>));
    }

private:
    B limit_;
};

/// The largest logit below `limit` in each lane of a row, -inf where there is none.
template <class Arch, class T, class S>
[[gnu::noinline]] batch<Arch, T> largest_below(const S* x, std::size_t length, T limit)
{
    return range_of_chains(ranges_of_row<Arch, T>(x, length, below<batch<Arch, T>>(limit))).maximum;
}

/// The same below the maximum of a row with these ranges, which spare most rows three quarters of their vectors.
template <class Arch, class T, class S>
[[gnu::noinline]] batch<Arch, T> largest_below_maximum(const S* x, std::size_t length,
                                                       const chain_ranges<batch<Arch, T>>& ranges, T maximum)
{
    using B = batch<Arch, T>;
    constexpr std::size_t width = lanes<Arch, T>;
    constexpr std::size_t step = range_chains * width;
    const below<B> see(maximum);
    const std::size_t steps = length / step;
    B largest = largest_below<Arch>(x + steps * step, length - steps * step, maximum);
    for (std::size_t chain = 0; chain < range_chains; ++chain) {
        const B of_chain = ranges[chain].maximum;
        largest = larger(largest, see(of_chain));
        if (xsimd::any(of_chain == B(maximum))) {
            const auto load = [&](std::size_t i) { return see(load_vector<Arch, T>(x + i * step + chain * width)); };
            largest = larger(largest, find_range<B>(steps, load).maximum);
        }
    }
    return largest;
}

/// The frames of rows with these second largest logits, and what the weights of plain rows in theirs are multiplied by
/// to be weights in `frame`, powers of two. Whether a row is plain is asked of its own logits, whatever `frame` says
/// for the sake of other rows: its bits are its own.
template <class B>
struct frames_of_others {
    using T = typename B::value_type;

    /// `maximum`, `lowest`: as frame_of takes them, of each row; 0 is low enough where `frame` says that it is plain.
    frames_of_others(const B& second, const B& maximum, const B& lowest, const weight_frame<B>& frame,
                     const exponent_scale<T>& scale)
        : of_second(frame_of(second, B(T(0)), scale)) // no logit is too low for it that was not for the largest
    {
        plain = frame_of(maximum, lowest, scale).plain * of_second.plain;
        const B exponent = xsimd::select(plain == B(1), B(frame.round - of_second.round), B(0));
        power = exp_steps::power_of_two(barrier(B(exponent + B(exp_constants<T>::round_to_integer))));
    }

    weight_frame<B> of_second;
    B plain; ///< 1 or 0
    B power;
};

} // namespace scaledot::inline SCALEDOT_BUILD::kernel
SCALEDOT_KERNELS_END

#endif
