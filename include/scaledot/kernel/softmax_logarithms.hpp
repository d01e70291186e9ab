// SPDX-License-Identifier: BSD-3-Clause
// The logarithms of the sums of rows' weights, for as many rows at once as a vector has lanes: in double for float, in
// pairs for double.
#ifndef SCALEDOT_KERNEL_SOFTMAX_LOGARITHMS_HPP
#define SCALEDOT_KERNEL_SOFTMAX_LOGARITHMS_HPP

#include <scaledot/detail/config.hpp>
#include <scaledot/kernel/convert.hpp>
#include <scaledot/kernel/logarithm.hpp>
#include <scaledot/kernel/pair.hpp>
#include <scaledot/kernel/simd.hpp>
#include <scaledot/kernel/softmax_sums.hpp>
#include <scaledot/kernel/weights.hpp>

#include <array>
#include <cmath>
#include <cstddef>
#include <type_traits>
#include <utility>

SCALEDOT_KERNELS_BEGIN
namespace scaledot::inline SCALEDOT_BUILD::kernel {

/// Numbers of more digits than T has, for what is computed once a row.
template <class T>
using wider = std::conditional_t<sizeof(T) == 4, double, long double>;

/// ln(sum / largest) keeps its digits down to here: where the largest logit outweighs the others, it is the logarithm
/// of 1 and the others' sum.
inline constexpr double least_ratio = 1.9;

/// The sums of rows in lanes over their largest weights.
template <class Arch, class T>
class sum_ratios {
    using B = batch<Arch, T>;

public:
    sum_ratios(const pair<B>& sum, const weight<B>& largest)
    {
        const auto rest = two_product(largest.power, largest.excess);
        one_ = sum_of(largest.power, pair<B>{rest.high, rest.low});
        ratio_ = quotient_of(sum, one_);
        ratio_.high.store_aligned(each_.data());
    }

    T operator[](std::size_t lane) const { return each_[lane]; }

    pair<B> minus_logarithms() const { return negative(logarithm(ratio_)); }

    pair<B> minus_logarithms(const pair<B>& others) const
    {
        const auto of_others = logarithm_of_1_plus(quotient_of(others, one_));
        const auto of_all = logarithm(ratio_);
        const auto outweighs = ratio_.high < B(least_ratio);
        return negative({xsimd::select(outweighs, of_others.high, of_all.high),
                         xsimd::select(outweighs, of_others.low, of_all.low)});
    }

private:
    static pair<B> negative(const pair<B>& value) { return {negated(value.high), negated(value.low)}; }

    pair<B> one_;
    pair<B> ratio_;
    alignas(alignment_of<Arch>) std::array<T, B::size> each_;
};

/// The same of floats, in vectors of double.
template <class Arch>
class sum_ratios<Arch, float> {
    using B = batch<Arch, float>;
    using D = batch<Arch, double>;

public:
    sum_ratios(const pair<B>& sum, const weight<B>& largest)
    {
        const numbers power = widened(largest.power);
        const numbers excess = widened(largest.excess);
        for (std::size_t half = 0; half < 2; ++half) {
            ones_[half] = power[half] * (D(1) + excess[half]);
        }
        ratios_ = over_largest(sum);
        ratios_[0].store_aligned(each_.data());
        ratios_[1].store_aligned(each_.data() + D::size);
    }

    double operator[](std::size_t lane) const { return each_[lane]; }

    pair<B> minus_logarithms() const { return negative({logarithm(ratios_[0]), logarithm(ratios_[1])}); }

    pair<B> minus_logarithms(const pair<B>& others) const
    {
        numbers values = over_largest(others);
        for (std::size_t half = 0; half < 2; ++half) {
            values[half] = xsimd::select(ratios_[half] < D(least_ratio), logarithm_of_1_plus(values[half]),
                                         logarithm(ratios_[half]));
        }
        return negative(values);
    }

private:
    using numbers = std::array<D, 2>;

    static numbers widened(const B& x)
    {
        const lane_array<Arch, float> values(x);
        return {load_vector<Arch, double>(values.data()), load_vector<Arch, double>(values.data() + D::size)};
    }

    numbers over_largest(const pair<B>& sum) const
    {
        const numbers high = widened(sum.high);
        const numbers low = widened(sum.low);
        return {quotient(D(high[0] + low[0]), ones_[0]), quotient(D(high[1] + low[1]), ones_[1])};
    }

    static B narrowed(const numbers& values)
    {
        lane_array<Arch, float> result;
        store_vector<Arch, double>(result.data(), values[0]);
        store_vector<Arch, double>(result.data() + D::size, values[1]);
        return result.vector();
    }

    static pair<B> negative(const numbers& values)
    {
        const numbers all{negated(values[0]), negated(values[1])};
        const B high = barrier(narrowed(all)); // else compilers may take it for the logarithm itself
        const numbers rounded = widened(high);
        return {high, narrowed({all[0] - rounded[0], all[1] - rounded[1]})};
    }

    numbers ones_;
    numbers ratios_;
    alignas(alignment_of<Arch>) std::array<double, B::size> each_;
};

/// The logarithms of the sums of rows in lanes over their largest weights, negative, as pairs. others(wanted) gives the
/// sums without the maximum of the lanes that are wanted.
template <class Arch, class T, class Others>
pair<batch<Arch, T>> minus_logarithms(std::size_t rows, const pair<batch<Arch, T>>& sum,
                                      const weight<batch<Arch, T>>& largest, Others&& others)
{
    const sum_ratios<Arch, T> ratios(sum, largest);
    std::array<bool, lanes<Arch, T>> wanted{};
    bool any = false;
    for (std::size_t lane = 0; lane < rows; ++lane) {
        wanted[lane] = ratios[lane] < least_ratio;
        any |= wanted[lane];
    }
    return any ? ratios.minus_logarithms(others(std::as_const(wanted))) : ratios.minus_logarithms();
}

/// One logsumexp a lane: maximum / T minus the negative logarithm. Rows without a distribution are the caller's.
template <class Arch, class T, class R>
void store_logsumexp(R* y, std::ptrdiff_t step, std::size_t rows, const batch<Arch, T>& maximum, double temperature,
                     const pair<batch<Arch, T>>& minus_logarithm)
{
    using wide = wider<T>;
    const lane_array<Arch, T> maxima(maximum);
    const lane_array<Arch, T> high(minus_logarithm.high);
    const lane_array<Arch, T> low(minus_logarithm.low);
    for (std::size_t lane = 0; lane < rows; ++lane) {
        const wide scaled = static_cast<wide>(maxima[lane]) / static_cast<wide>(temperature);
        const wide sum = scaled - (static_cast<wide>(high[lane]) + static_cast<wide>(low[lane]));
        y[static_cast<std::ptrdiff_t>(lane) * step] = to_storage<R>(static_cast<T>(sum));
    }
}

} // namespace scaledot::inline SCALEDOT_BUILD::kernel
SCALEDOT_KERNELS_END

#endif
