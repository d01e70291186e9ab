// SPDX-License-Identifier: BSD-3-Clause
// softmax, log_softmax and logsumexp of as many rows at a time as a vector has lanes, each along the vectors. Three
// passes: range; weights and their sum; result. What is computed once a row is computed for all of them in one vector.
#ifndef SCALEDOT_KERNEL_SOFTMAX_HPP
#define SCALEDOT_KERNEL_SOFTMAX_HPP

#include <scaledot/detail/config.hpp>
#include <scaledot/kernel/pair.hpp>
#include <scaledot/kernel/partial_vectors.hpp>
#include <scaledot/kernel/shuffle.hpp>
#include <scaledot/kernel/simd.hpp>
#include <scaledot/kernel/softmax_limits.hpp>
#include <scaledot/kernel/softmax_logarithms.hpp>
#include <scaledot/kernel/softmax_others.hpp>
#include <scaledot/kernel/softmax_results.hpp>
#include <scaledot/kernel/softmax_rows.hpp>
#include <scaledot/kernel/softmax_sums.hpp>
#include <scaledot/kernel/unroll.hpp>
#include <scaledot/kernel/weights.hpp>

#include <algorithm>
#include <array>
#include <cstddef>

SCALEDOT_KERNELS_BEGIN
namespace scaledot::inline SCALEDOT_BUILD::kernel {

/// Of rows with any logits.
template <class Arch, class T, class S, class R>
class softmax_along {
    using B = batch<Arch, T>;
    using rows_type = softmax_rows<S, R>;
    static constexpr std::size_t width = lanes<Arch, T>;
    static_assert(width <= rows_type::most);

public:
    softmax_along(const rows_type& rows, const exponent_scale<T>& scale) : rows_(rows), scale_(scale)
    {
        const auto others = static_cast<std::ptrdiff_t>(rows_.count() * width);
        std::fill(first_.begin() + others, first_.end(), T(0));
        std::fill(second_.begin() + others, second_.end(), T(0));
        B lowest(T(0));
        for (std::size_t row = 0; row < rows_.count(); ++row) {
            const auto range = range_of_chains(ranges_of_row<Arch, T>(rows_.logits(row), rows_.length()));
            range.maximum.store_aligned(first_.data() + row * width);
            lowest = smaller_below_zero(lowest, zero_for_nan(range.lowest));
        }
        maximum_ = largest_of_rows<Arch>(first_.data());
        // A row counts as one that needs care where another of them has so low a logit: it gets the same bits.
        frame_ = frame_of(maximum_, B(lowest_lane(lowest)), scale_);
        shift_ = lane_array<Arch, T>(frame_.shift);
        smallest_ = lane_array<Arch, T>(frame_.smallest);
        round_ = lane_array<Arch, T>(frame_.round);
        plain_ = lane_array<Arch, T>(frame_.plain);
    }

    /// Whether the largest logits of all rows are farther from 0 than that, where there are as many rows as lanes.
    bool all_beyond(T distance) const { return xsimd::all(xsimd::abs(maximum_) > B(distance)); }

    /// Weights wait in `scratch`, memory for count * length of them, or without it in the results, which may be the
    /// logits. `streaming`: results are written around the caches.
    void probabilities(T* scratch, bool streaming)
    {
        add(weights_kept<Arch, T>(rows_, scratch), [](std::size_t, const auto& weigh) { return weigh; });
        scale_rows(inverse_of_sum(sum_), scratch, streaming);
    }

    template <class Temperature>
    void logarithms(const Temperature& temperature, bool streaming)
    {
        add_others();
        store_logarithms<Arch, T>(rows_, temperature, maximum_, minus_logarithm(), poison_, streaming);
    }

    void logsumexp(double temperature)
    {
        add_others();
        store_logsumexps<Arch, T>(rows_, temperature, maximum_, minus_logarithm(), poison_);
    }

private:
    /// A vector a row.
    using tile = std::array<T, width * width>;

    weight_frame<B> frame_of_row(std::size_t row) const
    {
        return {B(shift_[row]), B(smallest_[row]), B(round_[row]), B(plain_[row])};
    }

    /// The second pass over all rows, weighed by weigher_of(row, weigher of any). Weights are shown to
    /// keeper_of(row)(i, count, weights).
    template <class KeeperOf, class WeigherOf>
    [[gnu::always_inline]] void add(const KeeperOf& keeper_of, const WeigherOf& weigher_of)
    {
        const exponent_scale<T> scale = scale_; // which no store into weights can change: it stays in registers
        for (std::size_t row = 0; row < rows_.count(); ++row) {
            plain_[row] != 0 ? add_row<true>(row, keeper_of, weigher_of, scale)
                             : add_unusual_row(row, keeper_of, weigher_of, scale);
        }
        sum_ = fold();
        poison_ = lane_array<Arch, bits_of<T>>(poison_of(maximum_, B(sum_.high + sum_.low)));
    }

    template <class KeeperOf, class WeigherOf>
    [[gnu::noinline]] void add_unusual_row(std::size_t row, const KeeperOf& keeper_of, const WeigherOf& weigher_of,
                                           const exponent_scale<T>& scale)
    {
        add_row<false>(row, keeper_of, weigher_of, scale);
    }

    template <bool Plain, class KeeperOf, class WeigherOf>
    [[gnu::always_inline]] void add_row(std::size_t row, const KeeperOf& keeper_of, const WeigherOf& weigher_of,
                                        const exponent_scale<T>& scale)
    {
        const auto weigh = weigher_of(row, weigher<B, Plain>(frame_of_row(row), scale));
        constexpr auto length = Plain ? row_length::any : row_length::many;
        const auto sum = kernel::add_row<Arch, T, weight_sum<B>, length>(
            rows_.logits(row), rows_.length(), weigh, row_to_fetch<S>{rows_.next(row)}, keeper_of(row));
        sum.high.store_aligned(first_.data() + row * width);
        sum.low.store_aligned(second_.data() + row * width);
    }

    /// The second pass for logarithms: without one of the largest weights of each row.
    void add_others()
    {
        const lane_array<Arch, T> maxima(maximum_);
        maxima_counter<B> found(0);
        add(
            nothing_kept, [&](std::size_t row, const auto& weigh) __attribute__((always_inline)) {
                return others_weigher<B, std::decay_t<decltype(weigh)>>(weigh, B(maxima[row]), found);
            });
        if (sum_of_counts<Arch, T>(found) != rows_.count()) {
            std::array<std::size_t, width> counts{};
            for (std::size_t row = 0; row < rows_.count(); ++row) {
                counts[row] = count_maxima_of_row<Arch>(rows_.logits(row), rows_.length(), maxima[row]);
            }
            add_further_maxima<Arch, T>(sum_, counts, largest_weights());
        }
    }

    void scale_rows(const pair<B>& inverse, T* scratch, bool streaming) const
    {
        const lane_array<Arch, T> high(inverse.high);
        const lane_array<Arch, T> low(inverse.low);
        for (std::size_t row = 0; row < rows_.count(); ++row) {
            R* const y = rows_.result(row);
            if (poison_[row] != 0) {
                std::fill_n(y, rows_.length(), to_storage<R>(quiet_nan<T>()));
                continue;
            }
            const T* const weights = rows_.weights(row, scratch);
            const scaled_inverse<B> factor({B(high[row]), B(low[row])});
            store_row<Arch, T>(
                y, rows_.length(), streaming, [&](std::size_t i, std::size_t count) __attribute__((always_inline)) {
                    return factor.times(load_some<Arch, T>(weights + i, count));
                });
        }
    }

    pair<B> largest_weights() const { return as_pair(weigher<B, false>(frame_, scale_)(maximum_)); }

    pair<B> minus_logarithm()
    {
        const auto find = [&](const wanted_lanes<Arch, T>& wanted, pair<B>& others) { others = find_others(wanted); };
        return minus_logarithms<Arch, T>(rows_.count(), sum_, largest_weights(), least_others<T>(rows_.length()), find);
    }

    /// The sums without the maximum, of the rows that are wanted.
    pair<B> find_others(const wanted_lanes<Arch, T>& wanted)
    {
        const lane_array<Arch, T> maximum(maximum_);
        first_.fill(T(0));
        second_.fill(T(0));
        const auto for_each_wanted = [&](const auto& use) {
            for (std::size_t row = 0; row < rows_.count(); ++row) {
                if (wanted[row]) {
                    use(row, rows_.logits(row));
                }
            }
        };
        for_each_wanted([&](std::size_t row, const S* x) {
            largest_below<Arch>(x, rows_.length(), maximum[row]).store_aligned(first_.data() + row * width);
            if (plain_[row] == 0) {
                const auto range = range_of_chains(ranges_of_row<Arch, T>(x, rows_.length()));
                negated(range.lowest).store_aligned(second_.data() + row * width);
            }
        });
        const frames_of_others<B> frames(largest_of_rows<Arch>(first_.data()), maximum_,
                                         negated(largest_of_rows<Arch>(second_.data())), frame_, scale_);
        const lane_array<Arch, T> plain(frames.plain);
        const lane_array<Arch, T> round(frames.of_second.round);
        for_each_wanted([&](std::size_t row, const S* x) {
            weight_frame<B> frame = frame_of_row(row);
            pair<B> sum;
            if (plain[row] != 0) {
                frame.round = B(round[row]);
                sum = add_plain_others<Arch, T>(x, rows_.length(), frame, scale_, maximum[row]);
            } else {
                sum = add_any_others<Arch, T>(x, rows_.length(), frame, scale_, maximum[row]);
            }
            sum.high.store_aligned(first_.data() + row * width);
            sum.low.store_aligned(second_.data() + row * width);
        });
        const pair<B> sum = fold();
        return {sum.high * frames.power, sum.low * frames.power};
    }

    /// The sums in each row's lanes, added up, a row a lane, to the bit as reduce() does.
    pair<B> fold() const
    {
        auto chains = filled<lane_chains<B>>(pair<B>{B(0), B(0)});
        unroll<width / group_lanes<T>>([&](auto group) __attribute__((always_inline)) {
            const auto high = load_transposed<Arch, T>(first_.data() + group * group_lanes<T>, width);
            const auto low = load_transposed<Arch, T>(second_.data() + group * group_lanes<T>, width);
            unroll<high.size()>([&](auto i) __attribute__((always_inline)) {
                kernel::add(chains[(group * group_lanes<T> + i) % chains.size()], {high[i], low[i]});
            });
        });
        return sum_of_chains(chains);
    }

    rows_type rows_;
    exponent_scale<T> scale_;
    B maximum_;
    weight_frame<B> frame_;
    pair<B> sum_; ///< of all weights, or for logarithms without one of the largest
    lane_array<Arch, T> shift_;
    lane_array<Arch, T> smallest_;
    lane_array<Arch, T> round_;
    lane_array<Arch, T> plain_;
    lane_array<Arch, bits_of<T>> poison_;
    alignas(64) tile first_;
    alignas(64) tile second_;
};

} // namespace scaledot::inline SCALEDOT_BUILD::kernel
SCALEDOT_KERNELS_END

#endif
