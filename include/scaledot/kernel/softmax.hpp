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
#include <scaledot/kernel/softmax_sums.hpp>
#include <scaledot/kernel/unroll.hpp>
#include <scaledot/kernel/weights.hpp>

#include <algorithm>
#include <array>
#include <cstddef>

SCALEDOT_KERNELS_BEGIN
namespace scaledot::inline SCALEDOT_BUILD::kernel {

/// Where the weights of rows wait for their sum, rows `stride` apart. Without memory they are computed twice.
template <class T>
struct kept_weights {
    T* data = nullptr;
    std::ptrdiff_t stride = 0;

    T* row(std::size_t index) const { return data ? data + static_cast<std::ptrdiff_t>(index) * stride : nullptr; }
};

/// Rows of contiguous logits, `stride` apart, no more than a vector has lanes.
template <class Arch, class T, class S>
class softmax_along {
    using B = batch<Arch, T>;
    static constexpr std::size_t width = lanes<Arch, T>;

public:
    struct rows_of_logits {
        const S* data;
        std::ptrdiff_t stride;
        std::size_t count;
        std::size_t length;
        const S* next = data; ///< as many rows that come next: they are fetched meanwhile
    };

    softmax_along(const rows_of_logits& rows, const exponent_scale<T>& scale) : rows_(rows), scale_(scale)
    {
        const auto others = static_cast<std::ptrdiff_t>(rows_.count * width);
        std::fill(first_.begin() + others, first_.end(), T(0));
        std::fill(second_.begin() + others, second_.end(), T(0));
        B lowest(T(0));
        for (std::size_t row = 0; row < rows_.count; ++row) {
            const S* const x = logits(row);
            auto range = find_range<B>(
                rows_.length / width, [&](std::size_t i) __attribute__((always_inline)) {
                    return load_vector<Arch, T>(x + i * width);
                });
            if (const std::size_t rest = rows_.length % width) {
                const B last = load_partial<Arch, T>(x + rows_.length - rest, rest, to_arithmetic<T>(x[0]));
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
        const auto minus_log = minus_logarithm();
        const lane_array<Arch, T> maxima(maximum_);
        const lane_array<Arch, T> high(minus_log.high);
        const lane_array<Arch, T> low(minus_log.low);
        for (std::size_t row = 0; row < rows_.count; ++row) {
            R* const out = y + static_cast<std::ptrdiff_t>(row) * stride;
            if (poison_[row] != 0) {
                std::fill_n(out, rows_.length, to_storage<R>(quiet_nan<T>()));
                continue;
            }
            const B maximum(maxima[row]);
            const pair<B> of_row{B(high[row]), B(low[row])};
            const S* const x = logits(row);
            store_row<Arch, T>(
                out, rows_.length, streaming, [&](std::size_t i, std::size_t count) __attribute__((always_inline)) {
                    return temperature.logarithm(load_logits(x + i, count), maximum, of_row);
                });
        }
    }

    template <class R>
    void logsumexp(double temperature, R* y, std::ptrdiff_t stride)
    {
        add({});
        store_logsumexp<Arch, T>(y, stride, rows_.count, maximum_, temperature, minus_logarithm());
        for (std::size_t row = 0; row < rows_.count; ++row) {
            if (poison_[row] != 0) {
                y[static_cast<std::ptrdiff_t>(row) * stride] =
                    to_storage<R>(logsumexp_of_poisoned<T>(logits(row), rows_.length, 1));
            }
        }
    }

private:
    /// A vector a row.
    using tile = std::array<T, width * width>;

    const S* logits(std::size_t row) const { return rows_.data + static_cast<std::ptrdiff_t>(row) * rows_.stride; }

    template <class E>
    [[gnu::always_inline]] static B load_logits(const E* x, std::size_t count)
    {
        return count == width ? load_vector<Arch, T>(x) : load_partial<Arch, T>(x, count, to_arithmetic<T>(x[0]));
    }

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
        for (std::size_t row = 0; row < rows_.count; ++row) {
            plain_[row] != 0 ? add_row<true, Keep>(row, kept.row(row), scale)
                             : add_unusual_row<Keep>(row, kept.row(row), scale);
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
        const S* const x = logits(row);
        const S* const next = rows_.next + static_cast<std::ptrdiff_t>(row) * rows_.stride;
        const auto weigh = weigher_of<Plain>(row, scale);
        const auto keep = [&](std::size_t i, const B& w) __attribute__((always_inline))
        {
            if constexpr (Keep) {
                store_vector<Arch, T>(kept + i * width, w);
            }
        };
        const std::size_t whole = rows_.length / width;
        auto sum = add_weights<B>(
            whole,
            [&](std::size_t i) __attribute__((always_inline)) {
                __builtin_prefetch(next + i * width, 0, 3);
                return load_vector<Arch, T>(x + i * width);
            },
            weigh, keep);
        if (const std::size_t rest = rows_.length % width) {
            weight<B> w = weigh(load_logits(x + whole * width, rest));
            w.power = first_lanes(w.power, rest);
            weight_sum<B> last;
            last.add(w);
            kernel::add(sum, last.total());
            if constexpr (Keep) {
                store_partial<Arch, T>(kept + whole * width, rest, w.value());
            }
        }
        sum.high.store_aligned(first_.data() + row * width);
        sum.low.store_aligned(second_.data() + row * width);
    }

    template <bool Keep, class R>
    void scale_rows(const kept_weights<T>& kept, const lane_array<Arch, T>& high, const lane_array<Arch, T>& low, R* y,
                    std::ptrdiff_t stride, bool streaming) const
    {
        for (std::size_t row = 0; row < rows_.count; ++row, y += stride) {
            const pair<B> inverse{B(high[row]), B(low[row])};
            if (poison_[row] != 0) {
                std::fill_n(y, rows_.length, to_storage<R>(quiet_nan<T>()));
            } else if (plain_[row] != 0) {
                scale<true, Keep>(row, kept.row(row), inverse, y, streaming);
            } else {
                scale_unusual_row<Keep>(row, kept.row(row), inverse, y, streaming);
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
                y, rows_.length, streaming, [&](std::size_t i, std::size_t count) __attribute__((always_inline)) {
                    return factor.times(load_logits(kept + i, count));
                });
        } else {
            const S* const x = logits(row);
            const auto weigh = weigher_of<Plain>(row, scale_);
            store_row<Arch, T>(
                y, rows_.length, streaming, [&](std::size_t i, std::size_t count) __attribute__((always_inline)) {
                    return factor.times(weigh(load_logits(x + i, count)).value());
                });
        }
    }

    pair<B> minus_logarithm() const
    {
        const weigher<B, false> weigh(frame_, scale_);
        const lane_array<Arch, T> maxima(maximum_);
        return minus_logarithms<Arch, T>(rows_.count, sum_, weigh(maximum_), [&](const auto& wanted) {
            const std::size_t vectors = (rows_.length + width - 1) / width;
            lane_array<Arch, T> high{};
            lane_array<Arch, T> low{};
            for (std::size_t row = 0; row < rows_.count; ++row) {
                if (wanted[row]) {
                    const S* const x = logits(row);
                    const auto load = [&](std::size_t i) {
                        return load_partial<Arch, T>(x + i * width, std::min(width, rows_.length - i * width),
                                                     negative_infinity<T>);
                    };
                    const auto sum =
                        reduce(add_others<B>(vectors, load, weigher_of<false>(row, scale_), B(maxima[row])));
                    high[row] = sum.high;
                    low[row] = sum.low;
                }
            }
            return pair<B>{high.vector(), low.vector()};
        });
    }

    rows_of_logits rows_;
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
