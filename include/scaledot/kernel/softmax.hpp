// SPDX-License-Identifier: BSD-3-Clause
// softmax, log_softmax and logsumexp of as many rows at a time as a vector has lanes, each along the vectors. Three
// passes: range; weights and their sum; result. What is computed once a row is computed for all of them in one vector.
#ifndef SCALEDOT_KERNEL_SOFTMAX_HPP
#define SCALEDOT_KERNEL_SOFTMAX_HPP

#include <scaledot/detail/config.hpp>
#include <scaledot/kernel/pair.hpp>
#include <scaledot/kernel/shuffle.hpp>
#include <scaledot/kernel/simd.hpp>
#include <scaledot/kernel/softmax_limits.hpp>
#include <scaledot/kernel/softmax_logarithms.hpp>
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
template <class Arch, class T, class S>
class softmax_along {
    using B = batch<Arch, T>;
    static constexpr std::size_t width = lanes<Arch, T>;

public:
    softmax_along(const rows_of_logits<S>& rows, const exponent_scale<T>& scale) : rows_(rows), scale_(scale)
    {
        const auto others = static_cast<std::ptrdiff_t>(rows_.count() * width);
        std::fill(first_.begin() + others, first_.end(), T(0));
        std::fill(second_.begin() + others, second_.end(), T(0));
        B lowest(T(0));
        for (std::size_t row = 0; row < rows_.count(); ++row) {
            const S* const x = rows_.row(row);
            auto range = find_range<B>(
                rows_.length() / width, [&](std::size_t i) __attribute__((always_inline)) {
                    return load_vector<Arch, T>(x + i * width);
                });
            if (const std::size_t rest = rows_.length() % width) {
                const B last = load_partial<Arch, T>(x + rows_.length() - rest, rest, to_arithmetic<T>(x[0]));
                range.add({last, last});
            }
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

    /// Weights may be kept in y. `streaming`: y is written around the caches.
    template <class R>
    void probabilities(R* y, std::ptrdiff_t stride, const kept_weights<T>& kept, bool streaming)
    {
        add(kept);
        const auto inverse = inverse_of_sum(sum_);
        const lane_array<Arch, T> high(inverse.high);
        const lane_array<Arch, T> low(inverse.low);
        kept.data ? scale_rows<true>(kept, high, low, y, stride, streaming)
                  : scale_rows<false>(kept, high, low, y, stride, streaming);
    }

    template <class R, class Temperature>
    void logarithms(const Temperature& temperature, R* y, std::ptrdiff_t stride, bool streaming)
    {
        add({});
        store_logarithms<Arch, T>(rows_, temperature, maximum_, minus_logarithm(), poison_, y, stride, streaming);
    }

    template <class R>
    void logsumexp(double temperature, R* y, std::ptrdiff_t stride)
    {
        add({});
        store_logsumexps<Arch, T>(rows_, temperature, maximum_, minus_logarithm(), poison_, y, stride);
    }

private:
    /// A vector a row.
    using tile = std::array<T, width * width>;

    template <bool Plain>
    weigher<B, Plain> weigher_of(std::size_t row, const exponent_scale<T>& scale) const
    {
        return {{B(shift_[row]), B(smallest_[row]), B(round_[row]), B(plain_[row])}, scale};
    }

    /// The second pass over all rows.
    void add(const kept_weights<T>& kept)
    {
        kept.data ? add_rows<true>(kept) : add_rows<false>(kept);
        sum_ = {B(0), B(0)};
        unroll<width / group_lanes<T>>([&](auto group) __attribute__((always_inline)) {
            const auto high = load_transposed<Arch, T>(first_.data() + group * group_lanes<T>, width);
            const auto low = load_transposed<Arch, T>(second_.data() + group * group_lanes<T>, width);
            unroll<high.size()>([&](auto i) __attribute__((always_inline)) { kernel::add(sum_, {high[i], low[i]}); });
        });
        sum_ = fast_two_sum(sum_.high, sum_.low); // as reduce() does
        poison_ = lane_array<Arch, bits_of<T>>(poison_of(maximum_, B(sum_.high + sum_.low)));
    }

    template <bool Keep>
    void add_rows(const kept_weights<T>& kept)
    {
        const exponent_scale<T> scale = scale_; // which no store into weights can change: it stays in registers
        for (std::size_t row = 0; row < rows_.count(); ++row) {
            plain_[row] != 0 ? add_row<true, Keep>(row, kept.row(rows_, row), scale)
                             : add_unusual_row<Keep>(row, kept.row(rows_, row), scale);
        }
    }

    template <bool Keep>
    [[gnu::noinline]] void add_unusual_row(std::size_t row, T* kept, const exponent_scale<T>& scale)
    {
        add_row<false, Keep>(row, kept, scale);
    }

    template <bool Plain, bool Keep>
    [[gnu::always_inline]] void add_row(std::size_t row, T* kept, const exponent_scale<T>& scale)
    {
        const S* const next = rows_.next_row(row);
        const auto ask = [&](std::size_t i) __attribute__((always_inline))
        {
            __builtin_prefetch(next + i, 0, 3);
        };
        const auto keep = [&](std::size_t i, std::size_t count, const B& w) __attribute__((always_inline))
        {
            if constexpr (Keep) {
                store_some<Arch, T>(kept + i, count, w);
            }
        };
        const auto sum = kernel::add_row<Arch, T, weight_sum<B>>(rows_.row(row), rows_.length(),
                                                                 weigher_of<Plain>(row, scale), ask, keep);
        sum.high.store_aligned(first_.data() + row * width);
        sum.low.store_aligned(second_.data() + row * width);
    }

    template <bool Keep, class R>
    void scale_rows(const kept_weights<T>& kept, const lane_array<Arch, T>& high, const lane_array<Arch, T>& low, R* y,
                    std::ptrdiff_t stride, bool streaming) const
    {
        for (std::size_t row = 0; row < rows_.count(); ++row) {
            R* const out = rows_.at(y, stride, row);
            const pair<B> inverse{B(high[row]), B(low[row])};
            if (poison_[row] != 0) {
                std::fill_n(out, rows_.length(), to_storage<R>(quiet_nan<T>()));
            } else if (plain_[row] != 0) {
                scale<true, Keep>(row, kept.row(rows_, row), inverse, out, streaming);
            } else {
                scale_unusual_row<Keep>(row, kept.row(rows_, row), inverse, out, streaming);
            }
        }
    }

    template <bool Keep, class R>
    [[gnu::noinline]] void scale_unusual_row(std::size_t row, const T* kept, const pair<B>& inverse, R* y,
                                             bool streaming) const
    {
        scale<false, Keep>(row, kept, inverse, y, streaming);
    }

    template <bool Plain, bool Keep, class R>
    [[gnu::always_inline]] void scale(std::size_t row, const T* kept, const pair<B>& inverse, R* y,
                                      bool streaming) const
    {
        const scaled_inverse<B, Plain> factor(inverse);
        if constexpr (Keep) {
            store_row<Arch, T>(
                y, rows_.length(), streaming, [&](std::size_t i, std::size_t count) __attribute__((always_inline)) {
                    return factor.times(load_logits<Arch, T>(kept + i, count));
                });
        } else {
            const S* const x = rows_.row(row);
            const auto weigh = weigher_of<Plain>(row, scale_);
            store_row<Arch, T>(
                y, rows_.length(), streaming, [&](std::size_t i, std::size_t count) __attribute__((always_inline)) {
                    return factor.times(weigh(load_logits<Arch, T>(x + i, count)).value());
                });
        }
    }

    pair<B> minus_logarithm() const
    {
        const weigher<B, false> weigh(frame_, scale_);
        return minus_logarithms_of_rows<Arch, T>(rows_, sum_, maximum_, weigh(maximum_),
                                                 [&](std::size_t row) { return weigher_of<false>(row, scale_); });
    }

    rows_of_logits<S> rows_;
    exponent_scale<T> scale_;
    B maximum_;
    weight_frame<B> frame_;
    pair<B> sum_;
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
