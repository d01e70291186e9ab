// SPDX-License-Identifier: BSD-3-Clause
// softmax of narrow rows, as many at a time as a vector has lanes, each along the vectors. Two passes: weights and
// their sum; result.
#ifndef SCALEDOT_KERNEL_SOFTMAX_NARROW_HPP
#define SCALEDOT_KERNEL_SOFTMAX_NARROW_HPP

#include <scaledot/detail/config.hpp>
#include <scaledot/kernel/largest.hpp>
#include <scaledot/kernel/narrow_weights.hpp>
#include <scaledot/kernel/pair.hpp>
#include <scaledot/kernel/partial_vectors.hpp>
#include <scaledot/kernel/shuffle.hpp>
#include <scaledot/kernel/simd.hpp>
#include <scaledot/kernel/softmax_logarithms.hpp>
#include <scaledot/kernel/softmax_others.hpp>
#include <scaledot/kernel/softmax_results.hpp>
#include <scaledot/kernel/softmax_rows.hpp>
#include <scaledot/kernel/softmax_sums.hpp>
#include <scaledot/kernel/weights.hpp>

#include <algorithm>
#include <array>
#include <cstddef>

SCALEDOT_KERNELS_BEGIN
namespace scaledot::inline SCALEDOT_BUILD::kernel {

/// Of narrow rows, which have more than one logit.
template <class Arch, class T, class S, class R>
class softmax_narrow {
    using B = batch<Arch, T>;
    using rows_type = softmax_rows<S, R>;
    static constexpr std::size_t width = lanes<Arch, T>;
    static_assert(width <= rows_type::most);

public:
    explicit softmax_narrow(const exponent_scale<T>& scale) : weigh_(scale) {}

    /// Weights wait in `scratch`, memory for count * length of them, or without it in the results, which may be the
    /// logits. `streaming`: results are written around the caches. None can come out above 1.
    void probabilities(const rows_type& rows, T* scratch, bool streaming) const
    {
        const pair<B> sum = sums_of(rows, weights_kept<Arch, T>(rows, scratch));
        const auto inverse = inverse_of_sum(sum);
        const lane_array<Arch, T> high(inverse.high);
        const lane_array<Arch, T> low(inverse.low);
        const lane_array<Arch, bits_of<T>> poison(poison_of(sum.high, sum.high));
        for (std::size_t row = 0; row < rows.count(); ++row) {
            R* const y = rows.result(row);
            if (poison[row] != 0) {
                std::fill_n(y, rows.length(), to_storage<R>(quiet_nan<T>()));
                continue;
            }
            const T* const weights = rows.weights(row, scratch);
            const B high_of_row(high[row]);
            const B low_of_row(low[row]);
            store_row<Arch, T>(
                y, rows.length(), streaming, [&](std::size_t i, std::size_t count) __attribute__((always_inline)) {
                    return product_with_pair(load_some<Arch, T>(weights + i, count), high_of_row, low_of_row);
                });
        }
    }

    template <class Temperature>
    void logarithms(const rows_type& rows, const Temperature& temperature, bool streaming) const
    {
        const found_rows found = find(rows);
        store_logarithms<Arch, T>(rows, temperature, found.maximum, found.minus_logarithm, found.poison, streaming);
    }

    void logsumexp(const rows_type& rows, double temperature) const
    {
        const found_rows found = find(rows);
        store_logsumexps<Arch, T>(rows, temperature, found.maximum, found.minus_logarithm, found.poison);
    }

private:
    struct found_rows {
        B maximum;
        pair<B> minus_logarithm;
        lane_array<Arch, bits_of<T>> poison;
    };

    found_rows find(const rows_type& rows) const
    {
        alignas(64) std::array<T, width * width> largest{};
        for (std::size_t row = 0; row < rows.count(); ++row) {
            largest_in_lanes<Arch, T>(rows.logits(row), rows.length()).store_aligned(largest.data() + row * width);
        }
        const B maximum = largest_of_rows<Arch>(largest.data());
        const pair<B> sum = sums_of(rows, nothing_kept);
        const lane_array<Arch, T> maxima(maximum);
        const auto find_others = [&](const wanted_lanes<Arch, T>& wanted, pair<B>& others) {
            std::array<pair<B>, width> sums;
            for (std::size_t row = 0; row < rows.count(); ++row) {
                sums[row] = wanted[row]
                                ? add_narrow_others<Arch, T>(rows.logits(row), rows.length(), weigh_, maxima[row])
                                : pair<B>{B(1), B(0)};
            }
            others = narrow_totals<Arch, T>(sums, rows.count());
        };
        const pair<B> of_largest = as_pair(weigh_(maximum));
        const pair<B> others = sum_of(sum, scaled(of_largest, B(-1)));
        return {maximum, minus_logarithms<Arch, T>(rows.count(), others, of_largest, outweighed, find_others),
                lane_array<Arch, bits_of<T>>(poison_of(sum.high, sum.high))};
    }

    /// A row a lane, as pairs. Weights are shown to keeper_of(row)(i, count, weights).
    template <class KeeperOf>
    pair<B> sums_of(const rows_type& rows, const KeeperOf& keeper_of) const
    {
        std::array<pair<B>, width> sums;
        const narrow_weigher<B> weigh = weigh_; // which no store into weights can change: it stays in registers
        for (std::size_t row = 0; row < rows.count(); ++row) {
            sums[row] = add_row<Arch, T, narrow_weight_sum<B>, row_length::any>(
                rows.logits(row), rows.length(), weigh, row_to_fetch<S>{rows.next(row)}, keeper_of(row));
        }
        return narrow_totals<Arch, T>(sums, rows.count());
    }

    narrow_weigher<B> weigh_;
};

} // namespace scaledot::inline SCALEDOT_BUILD::kernel
SCALEDOT_KERNELS_END

#endif
