// SPDX-License-Identifier: BSD-3-Clause
// The logarithms of the sums of rows' weights, for as many rows at once as a vector has lanes: in double for float, in
// pairs for double.
#ifndef SCALEDOT_KERNEL_SOFTMAX_LOGARITHMS_HPP
#define SCALEDOT_KERNEL_SOFTMAX_LOGARITHMS_HPP

#include <scaledot/detail/config.hpp>
#include <scaledot/detail/function_ref.hpp>
#include <scaledot/kernel/convert.hpp>
#include <scaledot/kernel/logarithm.hpp>
#include <scaledot/kernel/pair.hpp>
#include <scaledot/kernel/partial_vectors.hpp>
#include <scaledot/kernel/simd.hpp>
#include <scaledot/kernel/softmax_limits.hpp>
#include <scaledot/kernel/softmax_results.hpp>
#include <scaledot/kernel/softmax_rows.hpp>
#include <scaledot/kernel/softmax_sums.hpp>
#include <scaledot/kernel/weights.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <type_traits>

SCALEDOT_KERNELS_BEGIN
namespace scaledot::inline SCALEDOT_BUILD::kernel {

/// Numbers of more digits than T has, for what is computed once a row.
template <class T>
using wider = std::conditional_t<sizeof(T) == 4, double, long double>;

/// power * (1 + excess), to twice the precision of its numbers.
template <class B>
pair<B> as_pair(const weight<B>& w)
{
    const auto rest = two_product(w.power, w.excess);
    return sum_of(pair<B>{w.power, B(0)}, rest);
}

/// Below this part of the largest weight the others' sum makes the logarithm of 1 and itself, above that of all.
inline constexpr double outweighed = 0.9;

/// What adding up weights relative to the largest one contributes to the error of the others' sum beyond
/// weight_sum_max_error, relative to it, in units u, where it is not below this part of the largest, of `length`
/// logits; docs/numerics.md#log_softmax. Below, the sum has to be found again.
inline constexpr double least_others_max_error = 0.26;
template <class T>
double least_others(std::size_t length)
{
    return std::min(outweighed, static_cast<double>(length) * (sizeof(T) == 4 ? 0x1p-18 : 0x1p-41));
}

/// What the logarithms of the sums of weights over their largest ones are made of, of some of the rows in lanes.
/// Numbers are double, or pairs of it. The others are all weights but one of the largest.
template <class Arch, class Number>
class sum_logarithms {
    using D = batch<Arch, double>;

public:
    sum_logarithms(const Number& others, const Number& largest, const D& ratio)
        : others_(others), largest_(largest), ratio_(ratio)
    {
    }

    /// The others' sum over the largest weight, to some digits.
    const D& ratio() const { return ratio_; }

    /// The others' sum, where it was below `least` of the largest weight.
    void replace(const Number& others, double least) { others_ = select(ratio_ < D(least), others, others_); }

    /// ln(1 + others / largest).
    Number logarithm() const
    {
        const auto of_sum = terms_of_quotient(sum_of(largest_, others_), largest_, D(ratio_ + D(1)));
        const auto of_others = terms_of_1_plus_quotient<D>(others_, largest_);
        const auto few = ratio_ < D(outweighed);
        const logarithm_terms<D, Number> terms{select(few, of_others.numerator, of_sum.numerator),
                                               select(few, of_others.denominator, of_sum.denominator),
                                               select(few, of_others.k, of_sum.k)};
        return terms.logarithm();
    }

private:
    Number others_;
    Number largest_;
    D ratio_;
};

/// Rows of double, in pairs.
template <class Arch, class T>
class row_logarithms {
    using B = batch<Arch, T>;

public:
    row_logarithms(const pair<B>& others, const pair<B>& largest)
        : logarithms_(others, largest, quotient(others.high, largest.high))
    {
    }

    lane_array<Arch, T> ratios() const { return lane_array<Arch, T>(logarithms_.ratio()); }
    void replace(const pair<B>& others, double least) { logarithms_.replace(others, least); }

    pair<B> negative() const
    {
        const auto value = logarithms_.logarithm();
        return {negated(value.high), negated(value.low)};
    }

private:
    sum_logarithms<Arch, pair<B>> logarithms_;
};

/// Rows of float, in two vectors of double.
template <class Arch>
class row_logarithms<Arch, float> {
    using B = batch<Arch, float>;
    using D = batch<Arch, double>;

public:
    row_logarithms(const pair<B>& others, const pair<B>& largest)
        : halves_{half_of<0>(others, largest), half_of<1>(others, largest)}
    {
    }

    std::array<double, B::size> ratios() const
    {
        std::array<double, B::size> result;
        halves_[0].ratio().store_unaligned(result.data());
        halves_[1].ratio().store_unaligned(result.data() + D::size);
        return result;
    }

    void replace(const pair<B>& others, double least)
    {
        const auto sums = numbers_of(others);
        halves_[0].replace(sums[0], least);
        halves_[1].replace(sums[1], least);
    }

    pair<B> negative() const
    {
        const std::array<D, 2> all{negated(halves_[0].logarithm()), negated(halves_[1].logarithm())};
        const B high = barrier(narrow_halves(all)); // else compilers may take it for the logarithm itself
        const auto rounded = widen_halves(high);
        return {high, narrow_halves(std::array<D, 2>{all[0] - rounded[0], all[1] - rounded[1]})};
    }

private:
    using half = sum_logarithms<Arch, D>;

    template <std::size_t Half>
    static half half_of(const pair<B>& others, const pair<B>& largest)
    {
        const D of_others = numbers_of(others)[Half];
        const D of_largest = numbers_of(largest)[Half];
        return half(of_others, of_largest, quotient(of_others, of_largest));
    }

    static std::array<D, 2> numbers_of(const pair<B>& sum)
    {
        const auto high = widen_halves(sum.high);
        const auto low = widen_halves(sum.low);
        return {high[0] + low[0], high[1] + low[1]};
    }

    std::array<half, 2> halves_;
};

/// One thing a lane: whether something is asked of it.
template <class Arch, class T>
using wanted_lanes = std::array<bool, lanes<Arch, T>>;

/// Puts the sums without the maximum, of the lanes that are wanted, into others.
template <class Arch, class T>
using others_finder = detail::function_ref<void(const wanted_lanes<Arch, T>& wanted, pair<batch<Arch, T>>& others)>;

/// The logarithms of the sums of rows' weights over their largest ones, negative, as pairs. `others`: the sums of all
/// but one of the largest. Where they are below `least` of it, they are found again.
template <class Arch, class T>
pair<batch<Arch, T>> minus_logarithms(std::size_t rows, const pair<batch<Arch, T>>& others,
                                      const pair<batch<Arch, T>>& largest, double least,
                                      others_finder<Arch, T> find_others)
{
    row_logarithms<Arch, T> logarithms(others, largest);
    const auto ratios = logarithms.ratios();
    wanted_lanes<Arch, T> wanted{};
    bool any = false;
    for (std::size_t lane = 0; lane < rows; ++lane) {
        wanted[lane] = ratios[lane] < least;
        any |= wanted[lane];
    }
    if (any) {
        pair<batch<Arch, T>> found;
        find_others(wanted, found);
        logarithms.replace(found, least);
    }
    return logarithms.negative();
}

/// x to the precision of its numbers.
template <class D>
D leading(const D& x)
{
    return x;
}
template <class D>
D leading(const pair<D>& x)
{
    return x.high;
}

/// The same of a single row, to the bit.
template <class Arch, class T, class FindOthers>
pair<T> minus_logarithm(const pair<T>& others, const pair<T>& largest, double least, const FindOthers& find_others)
{
    using D = batch<Arch, double>;
    const auto number = [](const pair<T>& sum) {
        if constexpr (sizeof(T) == 4) {
            return D(static_cast<double>(sum.high) + static_cast<double>(sum.low));
        } else {
            return pair<D>{D(sum.high), D(sum.low)};
        }
    };
    const D ratio = quotient(leading(number(others)), leading(number(largest)));
    sum_logarithms<Arch, decltype(number(others))> logarithms(number(others), number(largest), ratio);
    if (ratio.get(0) < least) {
        logarithms.replace(number(find_others()), least);
    }
    const auto logarithm = logarithms.logarithm();
    if constexpr (sizeof(T) == 4) {
        const double value = -logarithm.get(0);
        const T high = barrier(static_cast<T>(value)); // else compilers may take it for the logarithm itself
        return {high, static_cast<T>(value - static_cast<double>(high))};
    } else {
        return {-logarithm.high.get(0), -logarithm.low.get(0)};
    }
}

/// One logsumexp a lane, written to *place(lane): maximum / T minus the negative logarithm. Rows without a distribution
/// are the caller's.
template <class Arch, class T, class Place>
void store_logsumexp(const Place& place, std::size_t rows, const batch<Arch, T>& maximum, double temperature,
                     const pair<batch<Arch, T>>& minus_logarithm)
{
    const auto store = [&](std::size_t lane, auto value) {
        auto* const y = place(lane);
        *y = to_storage<std::decay_t<decltype(*y)>>(static_cast<T>(value));
    };
    if (temperature == 1.0) {
        using B = batch<Arch, T>;
        const auto sum = two_sum(maximum, negated(minus_logarithm.high));
        const lane_array<Arch, T> values(B(sum.high + barrier(B(sum.low - minus_logarithm.low))));
        for (std::size_t lane = 0; lane < rows; ++lane) {
            store(lane, values[lane]);
        }
        return;
    }
    using wide = wider<T>;
    const lane_array<Arch, T> maxima(maximum);
    const lane_array<Arch, T> high(minus_logarithm.high);
    const lane_array<Arch, T> low(minus_logarithm.low);
    for (std::size_t lane = 0; lane < rows; ++lane) {
        const wide scaled = static_cast<wide>(maxima[lane]) / static_cast<wide>(temperature);
        store(lane, scaled - (static_cast<wide>(high[lane]) + static_cast<wide>(low[lane])));
    }
}

/// The logarithms of rows that lie along the vectors, NaN where they are poisoned.
template <class Arch, class T, class S, class R, class Temperature>
void store_logarithms(const softmax_rows<S, R>& rows, const Temperature& temperature, const batch<Arch, T>& maximum,
                      const pair<batch<Arch, T>>& minus_logarithm, const lane_array<Arch, bits_of<T>>& poison,
                      bool streaming)
{
    using B = batch<Arch, T>;
    const lane_array<Arch, T> maxima(maximum);
    const lane_array<Arch, T> high(minus_logarithm.high);
    const lane_array<Arch, T> low(minus_logarithm.low);
    for (std::size_t row = 0; row < rows.count(); ++row) {
        R* const y = rows.result(row);
        if (poison[row] != 0) {
            std::fill_n(y, rows.length(), to_storage<R>(quiet_nan<T>()));
            continue;
        }
        const B maximum_of_row(maxima[row]);
        const pair<B> of_row{B(high[row]), B(low[row])};
        const S* const x = rows.logits(row);
        store_row<Arch, T>(
            y, rows.length(), streaming, [&](std::size_t i, std::size_t count) __attribute__((always_inline)) {
                return temperature.logarithm(load_some<Arch, T>(x + i, count), maximum_of_row, of_row);
            });
    }
}

/// store_logsumexp of rows that lie along the vectors, what it is of poisoned ones among them.
template <class Arch, class T, class S, class R>
void store_logsumexps(const softmax_rows<S, R>& rows, double temperature, const batch<Arch, T>& maximum,
                      const pair<batch<Arch, T>>& minus_logarithm, const lane_array<Arch, bits_of<T>>& poison)
{
    const auto place = [&](std::size_t row) { return rows.result(row); };
    store_logsumexp<Arch, T>(place, rows.count(), maximum, temperature, minus_logarithm);
    for (std::size_t row = 0; row < rows.count(); ++row) {
        if (poison[row] != 0) {
            *place(row) = to_storage<R>(logsumexp_of_poisoned<T>(rows.logits(row), rows.length(), 1));
        }
    }
}

} // namespace scaledot::inline SCALEDOT_BUILD::kernel
SCALEDOT_KERNELS_END

#endif
