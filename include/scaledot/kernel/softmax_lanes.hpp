// SPDX-License-Identifier: BSD-3-Clause
// softmax, log_softmax and logsumexp of rows that lie one a lane.
#ifndef SCALEDOT_KERNEL_SOFTMAX_LANES_HPP
#define SCALEDOT_KERNEL_SOFTMAX_LANES_HPP

#include <scaledot/detail/config.hpp>
#include <scaledot/kernel/pair.hpp>
#include <scaledot/kernel/simd.hpp>
#include <scaledot/kernel/softmax_logarithms.hpp>
#include <scaledot/kernel/softmax_others.hpp>
#include <scaledot/kernel/softmax_results.hpp>
#include <scaledot/kernel/softmax_sums.hpp>
#include <scaledot/kernel/weights.hpp>

#include <cstddef>

SCALEDOT_KERNELS_BEGIN
namespace scaledot::inline SCALEDOT_BUILD::kernel {

/// Rows side by side, one a lane: x[i] of all of them is column.load(i). Results, weights on the way to them if there
/// is room, go to column.store(i, value).
template <class Arch, class T, class Column>
class softmax_lanes {
    using B = batch<Arch, T>;

public:
    [[gnu::always_inline]] softmax_lanes(const Column& column, std::size_t length, const exponent_scale<T>& scale)
        : column_(column), length_(length), scale_(scale)
    {
        const auto load = [&](std::size_t i) __attribute__((always_inline))
        {
            return column_.load(i);
        };
        const auto range = find_range<B>(length_, load);
        maximum_ = range.maximum;
        frame_ = frame_of(range.maximum, range.lowest, scale_);
        plain_ = xsimd::all(frame_.plain == B(1));
    }

    void probabilities() { plain_ ? scale_weights<true>() : scale_weights<false>(); }

    template <class Temperature>
    void logarithms(const Temperature& temperature)
    {
        const auto others = plain_ ? add_others<true>() : add_others<false>();
        const auto poison = poison_of(maximum_, B(others.high + others.low));
        const auto minus_log = minus_logarithm(lanes<Arch, T>, others);
        for (std::size_t i = 0; i < length_; ++i) {
            const B result = temperature.logarithm(column_.load(i), maximum_, minus_log);
            column_.store(i, from_bits<T>(as_bits(result) | poison));
        }
    }

    /// One result for each of `rows` rows; poisoned(row) gives those of rows without a distribution.
    template <class R, class Poisoned>
    void logsumexp(double temperature, R* y, std::ptrdiff_t stride, std::size_t rows, Poisoned&& poisoned)
    {
        const auto others = plain_ ? add_others<true>() : add_others<false>();
        const auto place = [&](std::size_t row) { return y + static_cast<std::ptrdiff_t>(row) * stride; };
        store_logsumexp<Arch, T>(place, rows, maximum_, temperature, minus_logarithm(rows, others));
        const auto poisoned_lanes = poison_of(maximum_, B(others.high + others.low));
        if (!xsimd::any(poisoned_lanes != typename weight_frame<B>::I(0))) {
            return;
        }
        const lane_array<Arch, bits_of<T>> poison(poisoned_lanes);
        for (std::size_t row = 0; row < rows; ++row) {
            if (poison[row] != 0) {
                *place(row) = to_storage<R>(poisoned(row));
            }
        }
    }

private:
    template <class Weigh, class Keep>
    [[gnu::always_inline]] pair<B> add(const Weigh& weigh, Keep&& keep) const
    {
        const auto load = [&](std::size_t i) __attribute__((always_inline))
        {
            return column_.load(i);
        };
        return add_weights<B>(length_, load, weigh, keep);
    }

    /// The weights of each row but one of its largest.
    template <bool Plain>
    [[gnu::always_inline]] pair<B> add_others() const
    {
        using weigher_type = weigher<B, Plain>;
        maxima_counter<B> found(0);
        const others_weigher<B, weigher_type> weigh(weigher_type(frame_, scale_), maximum_, found);
        pair<B> others = add(weigh, [](std::size_t, const B&) {});
        if (!xsimd::all(found == maxima_counter<B>(1))) {
            const auto load = [&](std::size_t i) { return column_.load(i); };
            add_further_maxima<Arch, T>(others, count_maxima<B>(length_, load, maximum_), largest_weights());
        }
        return others;
    }

    pair<B> largest_weights() const { return as_pair(weigher<B, false>(frame_, scale_)(maximum_)); }

    template <bool Plain>
    [[gnu::always_inline]] void scale_weights()
    {
        const weigher<B, Plain> weigh(frame_, scale_);
        const auto sum = add(
            weigh, [&](std::size_t i, const B& w) __attribute__((always_inline)) {
                if constexpr (Column::keeps) {
                    column_.store(i, w);
                }
            });
        const auto poison = poison_of(maximum_, B(sum.high + sum.low));
        const scaled_inverse<B> inverse(inverse_of_sum(sum));
        for (std::size_t i = 0; i < length_; ++i) {
            B value = column_.load(i);
            if constexpr (!Column::keeps) {
                value = weigh(value).value();
            }
            column_.store(i, from_bits<T>(as_bits(inverse.times(value)) | poison));
        }
    }

    pair<B> minus_logarithm(std::size_t rows, const pair<B>& others) const
    {
        const weigher<B, false> weigh(frame_, scale_);
        const auto find = [&](const wanted_lanes<Arch, T>&, pair<B>& found) {
            const auto load = [&](std::size_t i) __attribute__((always_inline))
            {
                return column_.load(i);
            };
            found = kernel::add_others<B>(length_, load, weigh, maximum_);
        };
        return minus_logarithms<Arch, T>(rows, others, largest_weights(), least_others<T>(length_), find);
    }

    Column column_;
    std::size_t length_;
    exponent_scale<T> scale_;
    B maximum_;
    weight_frame<B> frame_;
    bool plain_;
};

} // namespace scaledot::inline SCALEDOT_BUILD::kernel
SCALEDOT_KERNELS_END

#endif
