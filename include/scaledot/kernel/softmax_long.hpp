// SPDX-License-Identifier: BSD-3-Clause
// softmax, log_softmax and logsumexp of long rows, one after another. What is left to do for a row, its last pass, is
// done beside the weights of the next one: memory is read and written all the time, while the machine computes.
#ifndef SCALEDOT_KERNEL_SOFTMAX_LONG_HPP
#define SCALEDOT_KERNEL_SOFTMAX_LONG_HPP

#include <scaledot/detail/config.hpp>
#include <scaledot/kernel/narrow_weights.hpp>
#include <scaledot/kernel/pair.hpp>
#include <scaledot/kernel/partial_vectors.hpp>
#include <scaledot/kernel/row_writer.hpp>
#include <scaledot/kernel/shuffle.hpp>
#include <scaledot/kernel/simd.hpp>
#include <scaledot/kernel/softmax_limits.hpp>
#include <scaledot/kernel/softmax_logarithms.hpp>
#include <scaledot/kernel/softmax_others.hpp>
#include <scaledot/kernel/softmax_results.hpp>
#include <scaledot/kernel/softmax_rows.hpp>
#include <scaledot/kernel/softmax_sums.hpp>
#include <scaledot/kernel/weights.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>

SCALEDOT_KERNELS_BEGIN
namespace scaledot::inline SCALEDOT_BUILD::kernel {

/// Rows of `length` contiguous logits, with memory `kept` for as many weights, which probabilities are made of; without
/// it they are computed twice.
template <class Arch, softmax_output Output, class T, class S, class R, class Temperature>
class softmax_long {
    using B = batch<Arch, T>;
    using I = typename weight_frame<B>::I;
    static constexpr std::size_t width = lanes<Arch, T>;
    static constexpr bool may_be_narrow = narrow_rows<Arch, T>::exist;

public:
    softmax_long(std::size_t length, const Temperature& temperature, T* kept, bool streaming)
        : length_(length), temperature_(temperature), narrow_(temperature.scale), kept_(kept), streaming_(streaming)
    {
    }
    ~softmax_long() { finish(); }
    softmax_long(const softmax_long&) = delete;
    softmax_long& operator=(const softmax_long&) = delete;

    /// y may be x, and is written when the next row is begun, or at the end; that of logsumexp at once. `next` is that
    /// row, or x: it is fetched meanwhile.
    void run(const S* x, R* y, const S* next)
    {
        const found_row found = begin(x, next);
        if constexpr (Output == softmax_output::logsumexp) {
            store_logsumexp<Arch, T>([&](std::size_t) { return y; }, 1, found.maximum, temperature_.value,
                                     in_every_lane(minus_logarithm(x, found)));
            if (found.poisoned) {
                *y = to_storage<R>(logsumexp_of_poisoned<T>(x, length_, 1));
            }
        } else if (found.poisoned) {
            std::fill_n(y, length_, to_storage<R>(quiet_nan<T>()));
        } else if constexpr (Output == softmax_output::probabilities) {
            const auto inverse = inverse_of_sum(in_every_lane(found.sum));
            waiting_ = {true, x, y, found.frame, found.maximum, inverse};
        } else {
            waiting_ = {true, x, y, found.frame, found.maximum, in_every_lane(minus_logarithm(x, found))};
        }
    }

private:
    /// A row that is to be written.
    struct waiting_row {
        bool exists = false;
        const S* x;
        R* y;
        weight_frame<B> frame;
        B maximum;
        pair<B> factor; ///< the sum's inverse or its negative logarithm
    };

    struct found_row {
        bool narrow = false;
        chain_ranges<B> ranges;
        B maximum;
        weight_frame<B> frame;
        pair<T> sum; ///< of all weights, or for logarithms without one of the largest
        bool poisoned;
    };

    found_row begin(const S* x, const S* next)
    {
        const found_row found = find(x, next);
        waiting_.exists = false;
        return found;
    }

    found_row find(const S* x, const S* next)
    {
        found_row found;
        if constexpr (may_be_narrow && Output == softmax_output::probabilities) {
            if (kept_ && narrow_.contain(x, length_)) {
                add_narrow(x, next, found);
                return found;
            }
        }
        found.ranges = ranges_of_row<Arch, T>(x, length_);
        const auto range = range_of_chains(found.ranges);
        const T largest = largest_lane(range.maximum);
        const T lowest = lowest_lane(range.lowest);
        found.maximum = B(largest);
        if constexpr (may_be_narrow && Output != softmax_output::probabilities) {
            if (narrow_.contain_between(lowest, largest, length_)) {
                add_narrow(x, next, found);
                return found;
            }
        }
        found.frame = frame_of(found.maximum, B(lowest), temperature_.scale);
        if (xsimd::all(found.frame.plain == B(1))) {
            const weigher<B, true> weigh(found.frame, temperature_.scale);
            found.sum = sum_of_row(
                x, found, weigh, [&](const auto& weigh_row) __attribute__((always_inline)) {
                    return add_beside<weight_sum<B>>(x, next, weigh_row);
                });
        } else {
            finish();
            const weigher<B, false> weigh(found.frame, temperature_.scale);
            found.sum = sum_of_row(
                x, found, weigh, [&](const auto& weigh_row) __attribute__((always_inline)) {
                    return add<weight_sum<B>>(x, next, weigh_row);
                });
        }
        found.poisoned = xsimd::any(poison_of(found.maximum, B(found.sum.high + found.sum.low)) != I(0));
        return found;
    }

    /// add_up(weigh), for logarithms without one of the largest weights.
    template <class Weigh, class AddUp>
    [[gnu::always_inline]] pair<T> sum_of_row(const S* x, const found_row& found, const Weigh& weigh,
                                              const AddUp& add_up) const
    {
        if constexpr (Output == softmax_output::probabilities) {
            return reduce(add_up(weigh));
        } else {
            maxima_counter<B> maxima(0);
            const pair<T> others = reduce(add_up(others_weigher<B, Weigh>(weigh, found.maximum, maxima)));
            if (sum_of_counts<Arch, T>(maxima) == 1) {
                return others;
            }
            pair<B> sum = in_every_lane(others);
            std::array<std::size_t, width> counts{count_maxima_of_row<Arch>(x, length_, found.maximum.get(0))};
            add_further_maxima<Arch, T>(sum, counts, in_every_lane(largest_weight(found)));
            return first_lane(sum);
        }
    }

    void add_narrow(const S* x, const S* next, found_row& found)
    {
        found.narrow = true;
        found.sum =
            narrow_total<Arch, T>(add_beside<narrow_weight_sum<B>>(x, next, narrow_weigher<B>(temperature_.scale)));
        const B sum(found.sum.high);
        found.poisoned = xsimd::any(poison_of(sum, sum) != I(0));
    }

    /// Adds up a row beside the waiting one, if that can be written so, else after it.
    template <class Sum, class Weigh>
    [[gnu::always_inline]] pair<B> add_beside(const S* x, const S* next, const Weigh& weigh)
    {
        if constexpr (Output == softmax_output::probabilities) {
            if (waiting_.exists && kept_) {
                return add_and_write<Sum>(x, next, weigh, shares());
            }
        } else if constexpr (Output == softmax_output::logarithms) {
            if (waiting_.exists) {
                return add_and_write<Sum>(x, next, weigh, logarithms_of_waiting());
            }
        }
        finish();
        return add<Sum>(x, next, weigh);
    }

    /// Sums the weights of a row and keeps them.
    template <class Sum, class Weigh>
    [[gnu::always_inline]] pair<B> add(const S* x, const S* next, const Weigh& weigh)
    {
        return kernel::add_row<Arch, T, Sum>(
            x, length_, weigh, row_to_fetch<S>{next, true},
            [&](std::size_t i, std::size_t count, const B& w) __attribute__((always_inline)) { keep(i, count, w); });
    }

    /// The same, and writes the waiting row.
    template <class Sum, class Weigh, class Value>
    [[gnu::always_inline]] pair<B> add_and_write(const S* x, const S* next, const Weigh& weigh, const Value& value)
    {
        row_writer<Arch, T, R, Value> beside(waiting_.y, length_, streaming_, value);
        const std::size_t whole = length_ / width;
        const auto sum = kernel::add_row<Arch, T, Sum>(
            x, length_, weigh, row_to_fetch<S>{next, true},
            [&](std::size_t i, std::size_t count, const B& w) __attribute__((always_inline)) {
                if (count == width) {
                    beside.step(i / width);
                } else {
                    beside.finish(whole); // before a weight of this row takes the place of one of that
                }
                keep(i, count, w);
            });
        if (length_ % width == 0) {
            beside.finish(whole);
        }
        return sum;
    }

    [[gnu::always_inline]] void keep(std::size_t i, std::size_t count, const B& w) const
    {
        if constexpr (Output == softmax_output::probabilities) {
            if (kept_) {
                store_some<Arch, T>(kept_ + i, count, w);
            }
        }
    }

    auto shares() const
    {
        return [ factor = scaled_inverse<B>(waiting_.factor), kept = kept_ ](std::size_t i, std::size_t count)
            __attribute__((always_inline))
        {
            return factor.times(load_some<Arch, T>(kept + i, count));
        };
    }

    template <bool Plain>
    auto shares_of_logits() const
    {
        return [
            factor = scaled_inverse<B>(waiting_.factor), weigh = weigher<B, Plain>(waiting_.frame, temperature_.scale),
            x = waiting_.x
        ](std::size_t i, std::size_t count) __attribute__((always_inline))
        {
            return factor.times(weigh(load_some<Arch, T>(x + i, count)).value());
        };
    }

    auto logarithms_of_waiting() const
    {
        return [
            &temperature = temperature_, maximum = waiting_.maximum, minus_logarithm = waiting_.factor, x = waiting_.x
        ](std::size_t i, std::size_t count) __attribute__((always_inline))
        {
            return temperature.logarithm(load_some<Arch, T>(x + i, count), maximum, minus_logarithm);
        };
    }

    /// Writes the waiting row.
    void finish()
    {
        if (!waiting_.exists) {
            return;
        }
        const auto write = [&](const auto& value) {
            row_writer<Arch, T, R, std::decay_t<decltype(value)>>(waiting_.y, length_, streaming_, value).finish(0);
        };
        if constexpr (Output == softmax_output::probabilities) {
            if (kept_) {
                write(shares());
            } else if (xsimd::all(waiting_.frame.plain == B(1))) {
                write(shares_of_logits<true>());
            } else {
                write(shares_of_logits<false>());
            }
        } else if constexpr (Output == softmax_output::logarithms) {
            write(logarithms_of_waiting());
        }
        waiting_.exists = false;
    }

    pair<T> largest_weight(const found_row& found) const
    {
        return first_lane(as_pair(weigher<B, false>(found.frame, temperature_.scale)(found.maximum)));
    }

    static pair<T> first_lane(const pair<B>& x) { return {x.high.get(0), x.low.get(0)}; }

    static pair<B> in_every_lane(const pair<T>& x) { return {B(x.high), B(x.low)}; }

    pair<T> minus_logarithm(const S* x, const found_row& found) const
    {
        if constexpr (may_be_narrow) {
            if (found.narrow) {
                const narrow_weigher<B> weigh(temperature_.scale);
                const pair<T> largest = first_lane(as_pair(weigh(found.maximum)));
                return kernel::minus_logarithm<Arch, T>(
                    sum_of(found.sum, scaled(largest, T(-1))), largest, outweighed, [&] {
                        return narrow_total<Arch, T>(
                            add_narrow_others<Arch, T>(x, length_, weigh, found.maximum.get(0)));
                    });
            }
        }
        return kernel::minus_logarithm<Arch, T>(found.sum, largest_weight(found), least_others<T>(length_),
                                                [&] { return others_of(x, found); });
    }

    /// The sum without the maximum, of a row that is not narrow.
    pair<T> others_of(const S* x, const found_row& found) const
    {
        const T maximum = found.maximum.get(0);
        if (xsimd::all(found.frame.plain == B(1))) {
            const B second(largest_lane(largest_below_maximum<Arch>(x, length_, found.ranges, maximum)));
            const frames_of_others<B> frames(second, found.maximum, B(T(0)), found.frame, temperature_.scale);
            if (xsimd::all(frames.plain == B(1))) {
                const pair<T> sum =
                    reduce(add_plain_others<Arch, T>(x, length_, frames.of_second, temperature_.scale, maximum));
                const T power = frames.power.get(0);
                return {sum.high * power, sum.low * power};
            }
        }
        return reduce(add_any_others<Arch, T>(x, length_, found.frame, temperature_.scale, maximum));
    }

    std::size_t length_;
    const Temperature& temperature_;
    narrow_rows<Arch, T> narrow_;
    T* kept_;
    bool streaming_;
    waiting_row waiting_{};
};

} // namespace scaledot::inline SCALEDOT_BUILD::kernel
SCALEDOT_KERNELS_END

#endif
