// SPDX-License-Identifier: BSD-3-Clause
// Attention over some of the keys: output, maximum, sum. Two such partial results over neighbouring ranges of keys
// merge into one, and all of attention is a fixed tree of merges: blocks of keys into chunks, chunks into a row.
#ifndef SCALEDOT_KERNEL_PARTIAL_HPP
#define SCALEDOT_KERNEL_PARTIAL_HPP

#include <scaledot/detail/config.hpp>
#include <scaledot/kernel/diagnostics.hpp>
#include <scaledot/kernel/exp.hpp>
#include <scaledot/kernel/partial_vectors.hpp>
#include <scaledot/kernel/prefetch.hpp>
#include <scaledot/kernel/shuffle.hpp>
#include <scaledot/kernel/simd.hpp>
#include <scaledot/kernel/unroll.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>

SCALEDOT_KERNELS_BEGIN
namespace scaledot::inline SCALEDOT_BUILD::kernel {

/// Blocks are folded into chunks of this many keys, chunks into the row, both from left to right.
inline constexpr std::size_t chunk_keys = 1024;

template <class T>
inline bool has_nan_bits(T x)
{
    return (std::bit_cast<bits_of<T>>(x) & std::numeric_limits<bits_of<T>>::max()) > exponent_mask<T>;
}

template <class T>
inline bool is_negative_infinity_bits(T x)
{
    return std::bit_cast<bits_of<T>>(x) == negative_infinity_bits<T>;
}

/// Per row: sum_j exp(s_j - maximum) v_j (not yet divided), the maximum and sum_j exp(s_j - maximum). No key: maximum
/// -inf, sum 0, output 0. A NaN among the scores: maximum, sum and output NaN. Statistics are kept where asked for.
template <class T>
struct partial_row {
    T* output;
    T* maximum;
    T* sum;
    score_statistics* statistics;
};

/// exp(x) of one number x <= 0, by the same steps as in vectors.
template <class Arch, class T>
T exp_of(T x)
{
    alignas(alignment_of<Arch>) std::array<T, lanes<Arch, T>> values;
    exp_negative(batch<Arch, T>(x)).store_aligned(values.data());
    return values[0];
}

/// Ends the partial results of `count` rows, rounded up to whole vectors: sums of weights are still in lanes, a vector
/// for each row. A NaN or +inf score has left NaN there. Lanes are added as sum_of_lanes does.
template <class Arch, class T>
void close_rows(const T* lanes_of_rows, std::size_t count, T* maxima, T* sums)
{
    using B = batch<Arch, T>;
    using I = batch<Arch, bits_of<T>>;
    constexpr std::size_t width = lanes<Arch, T>;
    const I nan = as_bits(B(quiet_nan<T>()));
    for (std::size_t row = 0; row < count; row += width) {
        const B total = sums_of_rows<Arch>(lanes_of_rows + row * width);
        const I sum = as_bits(total);
        const auto invalid = (sum & I(exponent_mask<T>)) == I(exponent_mask<T>);
        const I maximum = as_bits(barrier(B(B::load_unaligned(maxima + row) + B(0))));
        from_bits<T>(select_bits(invalid, nan, sum)).store_unaligned(sums + row);
        from_bits<T>(select_bits(invalid, nan, maximum)).store_unaligned(maxima + row);
    }
}

/// into = into + from, keys of `into` before keys of `from`. Merging with an empty partial changes no bit.
template <class Arch, class T>
void merge(const partial_row<T>& into, const partial_row<T>& from, std::size_t size)
{
    using B = batch<Arch, T>;
    if (into.statistics) {
        merge(*into.statistics, *from.statistics);
    }
    if (is_negative_infinity_bits(*from.maximum)) {
        return;
    }
    if (is_negative_infinity_bits(*into.maximum)) {
        std::copy_n(from.output, size, into.output);
        *into.maximum = *from.maximum;
        *into.sum = *from.sum;
        return;
    }
    T maximum = *into.maximum < *from.maximum ? *from.maximum : *into.maximum;
    T kept = 1;
    T added = 1;
    if (has_nan_bits(*into.maximum) || has_nan_bits(*from.maximum)) {
        maximum = kept = added = quiet_nan<T>();
    } else {
        kept = exp_of<Arch>(*into.maximum - maximum);
        added = exp_of<Arch>(*from.maximum - maximum);
    }
    *into.maximum = maximum;
    *into.sum = std::fma(*into.sum, kept, *from.sum * added);
    for (std::size_t i = 0; i < size; i += lanes<Arch, T>) {
        const B sum =
            multiply_add(B::load_unaligned(into.output + i), B(kept), B(B::load_unaligned(from.output + i) * B(added)));
        sum.store_unaligned(into.output + i);
    }
}

/// True when the `count` numbers at `values`, whole vectors, are all finite.
template <class Arch, class T>
bool all_finite(const T* values, std::size_t count)
{
    using B = batch<Arch, T>;
    using I = batch<Arch, bits_of<T>>;
    constexpr std::size_t width = lanes<Arch, T>;
    constexpr std::size_t chains = 4;
    const B zero = barrier(B(0)); // 0 * inf is NaN, which -ffast-math must not see through
    auto products = filled<chains>(B(0));
    std::size_t i = 0;
    for (; i + chains * width <= count; i += chains * width) {
        unroll<chains>([&](auto c) __attribute__((always_inline)) {
            products[c] = multiply_add(B::load_unaligned(values + i + c * width), zero, products[c]);
        });
    }
    for (; i < count; i += width) {
        products[0] = multiply_add(B::load_unaligned(values + i), zero, products[0]);
    }
    const B all = (products[0] + products[1]) + (products[2] + products[3]);
    const I exponents = as_bits(barrier(all)) & I(exponent_mask<T>);
    return !xsimd::any(exponents == I(exponent_mask<T>));
}

/// What a finished row is made of: output * kept / sum, lse = maximum + ln(sum). All NaN for a row that is; kept is 0
/// where there is neither a key nor a sink.
struct row_total {
    double maximum;
    double sum;
    double kept;
};

inline double lse_of(const row_total& total)
{
    return has_nan_bits(total.maximum) ? total.maximum : total.maximum + std::log(total.sum);
}

/// The total of keys, if there are any, and of a sink.
[[gnu::noinline]] inline row_total total_with_sink(double maximum, double sum, double sink)
{
    if (is_negative_infinity_bits(maximum)) {
        return {sink, 1, 0};
    }
    const double nan = barrier(quiet_nan<double>());
    if (has_nan_bits(maximum) || has_nan_bits(sink) || sink == infinity<double>) {
        return {nan, nan, nan};
    }
    const double largest = std::max(maximum, sink);
    const double kept = std::exp(maximum - largest);
    return {largest, sum * kept + std::exp(sink - largest), kept};
}

/// The total of a row of keys and of its sink, a logit that carries no value; -inf for none.
template <class T>
[[gnu::always_inline]] inline row_total total_of(T maximum, T sum, double sink)
{
    const auto m = static_cast<double>(maximum);
    const auto s = static_cast<double>(sum);
    if (is_negative_infinity_bits(sink) && !is_negative_infinity_bits(m) && !has_nan_bits(m)) [[likely]] {
        return {m, s, 1};
    }
    return total_with_sink(m, s, sink);
}

/// What a finished row's output is multiplied by, kept / sum, to twice the precision of T: high + low.
template <class T>
struct row_factor {
    T high;
    T low;
};

/// The factor of a row whose output is scaled by `value_scale`.
template <class T>
[[gnu::always_inline]] inline row_factor<T> factor_of(const row_total& total, T value_scale)
{
    const double divisor = total.sum * static_cast<double>(value_scale);
    const double factor = total.kept / divisor;
    const T high = barrier(static_cast<T>(factor));
    const double rest =
        sizeof(T) == 4 ? factor - static_cast<double>(high) : std::fma(-factor, divisor, total.kept) / divisor;
    return {high, static_cast<T>(rest)};
}

/// The factors of up to Rows rows.
template <class T, std::size_t Rows>
struct row_factors {
    std::array<T, Rows> high;
    std::array<T, Rows> low;

    row_factor<T> operator[](std::size_t r) const { return {high[r], low[r]}; }
};

/// factor_of the totals of `count` rows of keys without sinks; there is room to read and write whole vectors. False,
/// and no promise of factors, where a row has no key, or its maximum is not finite.
template <class Arch, class T, std::size_t Rows>
bool find_factors(const T* maxima, const T* sums, std::size_t count, T value_scale, row_factors<T, Rows>& factors)
{
    static_assert(Rows % lanes<Arch, T> == 0);
    const auto is_finite = [](T x) { return (std::bit_cast<bits_of<T>>(x) & exponent_mask<T>) != exponent_mask<T>; };
    if (!std::all_of(maxima, maxima + count, is_finite)) {
        return false;
    }
    if constexpr (sizeof(T) == 4) {
        using B = batch<Arch, T>;
        using D = batch<Arch, double>;
        for (std::size_t r = 0; r < count; r += B::size) {
            const auto wide = widen_halves(B::load_unaligned(sums + r));
            const auto inverse = [&](const D& sum) { return quotient(D(1), D(sum * D(value_scale))); };
            const std::array<D, 2> factor{inverse(wide[0]), inverse(wide[1])};
            const B high = barrier(narrow_halves(factor));
            const auto rounded = widen_halves(high);
            high.store_unaligned(factors.high.data() + r);
            narrow_halves(std::array<D, 2>{factor[0] - rounded[0], factor[1] - rounded[1]})
                .store_unaligned(factors.low.data() + r);
        }
    } else {
        for (std::size_t r = 0; r < count; ++r) {
            const auto factor = factor_of<T>({maxima[r], sums[r], 1}, value_scale);
            factors.high[r] = factor.high;
            factors.low[r] = factor.low;
        }
    }
    return true;
}

/// Writes the `size` components of a finished row, multiplied by a factor of such precision that with fused
/// multiply-add rounding the product is all there is to see of it. Asks for what lies `ahead` bytes behind them.
template <class Arch, class T, class O>
[[gnu::always_inline]] inline void write_row(const T* row, const row_factor<T>& factor, std::size_t size, O* output,
                                             std::uintptr_t ahead)
{
    using B = batch<Arch, T>;
    constexpr std::size_t width = lanes<Arch, T>;
    const B high(factor.high);
    const B low(factor.low);
    const auto result = [&](std::size_t c) __attribute__((always_inline))
    {
        ask_ahead(output + c, ahead);
        const B value = B::load_unaligned(row + c);
        return B(multiply_add(value, high, B(value * low)));
    };
    const std::size_t whole = size / width * width;
    for (std::size_t c = 0; c < whole; c += width) {
        store_vector<Arch, T>(output + c, result(c));
    }
    if (whole < size) {
        store_partial<Arch, T>(output + whole, size - whole, result(whole));
    }
}

} // namespace scaledot::inline SCALEDOT_BUILD::kernel
SCALEDOT_KERNELS_END

#endif
