// SPDX-License-Identifier: BSD-3-Clause
// softmax of narrow rows, as many at a time as a vector has lanes, each along the vectors. Two passes: weights and
// their sum; result.
#ifndef SCALEDOT_KERNEL_SOFTMAX_NARROW_HPP
#define SCALEDOT_KERNEL_SOFTMAX_NARROW_HPP

#include <scaledot/detail/config.hpp>
#include <scaledot/kernel/narrow_weights.hpp>
#include <scaledot/kernel/pair.hpp>
#include <scaledot/kernel/shuffle.hpp>
#include <scaledot/kernel/simd.hpp>
#include <scaledot/kernel/softmax_logarithms.hpp>
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
template <class Arch, class T, class S>
class softmax_narrow {
    using B = batch<Arch, T>;
    static constexpr std::size_t width = lanes<Arch, T>;

public:
    explicit softmax_narrow(const exponent_scale<T>& scale) : weigh_(scale) {}

    /// Weights may be kept in y. `streaming`: y is written around the caches. None can come out above 1.
    template <class R>
    void probabilities(const rows_of_logits<S>& rows, R* y, std::ptrdiff_t stride, const kept_weights<T>& kept,
                       bool streaming) const
    {
        const pair<B> sum = kept.data ? sums_of<true>(rows, kept) : sums_of<false>(rows, kept);
        const auto inverse = inverse_of_sum(sum);
        const lane_array<Arch, T> high(inverse.high);
        const lane_array<Arch, T> low(inverse.low);
        const lane_array<Arch, bits_of<T>> poison(poison_of(sum.high, sum.high));
        for (std::size_t row = 0; row < rows.count(); ++row) {
            R* const out = rows.at(y, stride, row);
            if (poison[row] != 0) {
                std::fill_n(out, rows.length(), to_storage<R>(quiet_nan<T>()));
                continue;
            }
            const B high_of_row(high[row]);
            const B low_of_row(low[row]);
            if (kept.data) {
                const T* const weights = kept.row(rows, row);
                store_row<Arch, T>(
                    out, rows.length(),
                    streaming, [&](std::size_t i, std::size_t count) __attribute__((always_inline)) {
                        return product_with_pair(load_logits<Arch, T>(weights + i, count), high_of_row, low_of_row);
                    });
            } else {
                const S* const x = rows.row(row);
                store_row<Arch, T>(
                    out, rows.length(),
                    streaming, [&](std::size_t i, std::size_t count) __attribute__((always_inline)) {
                        return product_with_pair(weigh_(load_logits<Arch, T>(x + i, count)).value(), high_of_row,
                                                 low_of_row);
                    });
            }
        }
    }

    template <class R, class Temperature>
    void logarithms(const rows_of_logits<S>& rows, const Temperature& temperature, R* y, std::ptrdiff_t stride,
                    bool streaming) const
    {
        const found_rows found = find(rows);
        store_logarithms<Arch, T>(rows, temperature, found.maximum, found.minus_logarithm, found.poison, y, stride,
                                  streaming);
    }

    template <class R>
    void logsumexp(const rows_of_logits<S>& rows, double temperature, R* y, std::ptrdiff_t stride) const
    {
        const found_rows found = find(rows);
        store_logsumexps<Arch, T>(rows, temperature, found.maximum, found.minus_logarithm, found.poison, y, stride);
    }

private:
    struct found_rows {
        B maximum;
        pair<B> minus_logarithm;
        lane_array<Arch, bits_of<T>> poison;
    };

    found_rows find(const rows_of_logits<S>& rows) const
    {
        alignas(64) std::array<T, width * width> largest{};
        for (std::size_t row = 0; row < rows.count(); ++row) {
            largest_logits<Arch, T>(rows.row(row), rows.length()).store_aligned(largest.data() + row * width);
        }
        const B maximum = largest_of_rows<Arch>(largest.data());
        const pair<B> sum = sums_of<false>(rows, {});
        const auto weigh = [&](std::size_t) { return weigh_; };
        return {maximum, minus_logarithms_of_rows<Arch, T>(rows, sum, maximum, weigh_(maximum), weigh),
                lane_array<Arch, bits_of<T>>(poison_of(sum.high, sum.high))};
    }

    /// A row a lane, as pairs.
    template <bool Keep>
    pair<B> sums_of(const rows_of_logits<S>& rows, const kept_weights<T>& kept) const
    {
        std::array<pair<B>, width> sums;
        const narrow_weigher<B> weigh = weigh_; // which no store into weights can change: it stays in registers
        for (std::size_t row = 0; row < rows.count(); ++row) {
            T* const weights = kept.row(rows, row);
            const S* const next = rows.next_row(row);
            const auto ask = [&](std::size_t i) __attribute__((always_inline))
            {
                __builtin_prefetch(next + i, 0, 3);
            };
            const auto keep = [&](std::size_t i, std::size_t count, const B& w) __attribute__((always_inline))
            {
                if constexpr (Keep) {
                    store_some<Arch, T>(weights + i, count, w);
                }
            };
            sums[row] = add_row<Arch, T, narrow_weight_sum<B>>(rows.row(row), rows.length(), weigh, ask, keep);
        }
        std::fill(sums.begin() + static_cast<std::ptrdiff_t>(rows.count()), sums.end(), pair<B>{B(1), B(0)});
        return narrow_totals<Arch, T>(sums);
    }

    narrow_weigher<B> weigh_;
};

} // namespace scaledot::inline SCALEDOT_BUILD::kernel
SCALEDOT_KERNELS_END

#endif
