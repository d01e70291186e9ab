// SPDX-License-Identifier: BSD-3-Clause
// The weights of narrow rows, whose logits all lie near 0, and their sums: nothing has to be subtracted, and powers of
// few digits have exact sums; docs/numerics.md#softmax.
#ifndef SCALEDOT_KERNEL_NARROW_WEIGHTS_HPP
#define SCALEDOT_KERNEL_NARROW_WEIGHTS_HPP

#include <scaledot/detail/config.hpp>
#include <scaledot/kernel/choice.hpp>
#include <scaledot/kernel/exp.hpp>
#include <scaledot/kernel/pair.hpp>
#include <scaledot/kernel/partial_vectors.hpp>
#include <scaledot/kernel/row_sums.hpp>
#include <scaledot/kernel/simd.hpp>
#include <scaledot/kernel/softmax_rows.hpp>
#include <scaledot/kernel/unroll.hpp>
#include <scaledot/kernel/weights.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <type_traits>

SCALEDOT_KERNELS_BEGIN
namespace scaledot::inline SCALEDOT_BUILD::kernel {

/// Relative error of a weight, power * (1 + excess), in units u of half an ulp of 1; docs/numerics.md#softmax.
inline constexpr double narrow_weight_max_error = 0.12;
/// The error that adding up weights contributes to their sum, relative to it, in units u.
inline constexpr double narrow_weight_sum_max_error = 0.2;

/// Next to 2^(j/16 - 0.009), in 128ths: 8 digits. The exponent is such that the largest error is smallest.
inline constexpr std::array narrow_powers = {127, 133, 139, 145, 151, 158, 165, 172,
                                             180, 188, 196, 205, 214, 223, 233, 244};

template <class T>
struct narrow_constants;

// reach: of |x log2(e) / T|. Sums of 8 weights are below 2^(reach + 3) and multiples of 2^(-reach - 7): T has the
// digits. offsets: j/16 - 0.009 less the logarithm of narrow_powers[j] / 128, in base 2, at most 0.0028. polynomial:
// (2^f - 1) / f on |f| <= 1/32 + 0.0028, minimax.
template <>
struct narrow_constants<float> {
    static constexpr float reach = 7;
    static constexpr std::array polynomial = {0x1.62e43p-1f, 0x1.ec00b6p-3f, 0x1.c6adfep-5f};
    alignas(64) static constexpr std::array<float, 16> offsets = {
        0x1.45d198p-9f,   -0x1.a69014p-10f, -0x1.6b2574p-9f,  -0x1.44b14ap-10f, 0x1.6a8312p-9f,  -0x1.ce78c4p-14f,
        -0x1.3e325p-13f,  0x1.3b52f6p-9f,   -0x1.65e25ep-11f, -0x1.e17ceap-11f, 0x1.7ee60ap-10f, -0x1.a87872p-11f,
        -0x1.36e722p-12f, 0x1.6b2574p-9f,   0x1.041776p-9f,   -0x1.0ee804p-9f};
};

template <>
struct narrow_constants<double> {
    static constexpr double reach = 21;
    static constexpr std::array polynomial = {0x1.62e42fefa39efp-1, 0x1.ebfbdff82c59cp-3,  0x1.c6b08d704a077p-5,
                                              0x1.3b2ab6fa8f75ep-7, 0x1.5d87fe7c39285p-10, 0x1.430aa6cbbeebdp-13,
                                              0x1.ffc9b8b15a456p-17};
    alignas(64) static constexpr std::array<double, 16> offsets = {
        0x1.45d1978a84fafp-9,   -0x1.a6901408065bcp-10, -0x1.6b2573f8a3333p-9,  -0x1.44b1496ac3973p-10,
        0x1.6a8311ccfefdfp-9,   -0x1.ce78c3f8e6b76p-14, -0x1.3e324f131ae12p-13, 0x1.3b52f542932bfp-9,
        -0x1.65e25d4639158p-11, -0x1.e17ce95962b4ap-11, 0x1.7ee60a0923889p-10,  -0x1.a878712a6c667p-11,
        -0x1.36e7224c307c7p-12, 0x1.6b2573f8a3333p-9,   0x1.0417752211f02p-9,   -0x1.0ee804f8ae94dp-9};
};

/// narrow_powers as numbers, or as their bits less what adding j to the lowest bits of the exponent and the highest of
/// the fraction puts there.
template <class T, bool Bits>
alignas(64) inline constexpr auto narrow_table = [] {
    std::array<std::conditional_t<Bits, bits_of<T>, T>, 16> table{};
    for (std::size_t j = 0; j < 16; ++j) {
        const T power = static_cast<T>(narrow_powers[j]) / 128;
        if constexpr (Bits) {
            table[j] = std::bit_cast<bits_of<T>>(power) -
                       (static_cast<bits_of<T>>(j) << (exp_constants<T>::fraction_bits - 4));
        } else {
            table[j] = power;
        }
    }
    return table;
}();

/// narrow_powers[16 n mod 16] / 128 * 2^floor(n) of n in sixteenths, which are the low bits of index.
template <class B, class I>
[[gnu::always_inline]] inline B narrow_power(const I& index, [[maybe_unused]] const B& n)
{
    using T = typename B::value_type;
    if constexpr (has_scaling<B>) {
        return scaled_by_power(sixteenth<T>(narrow_table<T, false>, index), n);
    } else {
        return from_bits<T>(
            I(sixteenth<T>(narrow_table<T, true>, index) + shift_left<exp_constants<T>::fraction_bits - 4>(index)));
    }
}

/// Weighs logits x with |x log2(e) / T| <= reach: e^(x/T) times a number that is the same for all.
template <class B>
class narrow_weigher {
    using T = typename B::value_type;
    using C = narrow_constants<T>;

public:
    explicit narrow_weigher(const exponent_scale<T>& scale) : high_(scale.high), low_(scale.low) {}

    [[gnu::always_inline]] weight<B> operator()(const B& x) const
    {
        constexpr T round = weight_constants<T>::round_to_sixteenth;
        const B shifted = barrier(multiply_add(x, high_, B(round)));
        const B n = barrier(B(shifted - B(round)));
        const auto index = as_bits(shifted);
        const B f = barrier(multiply_add(x, high_, negated(n))) +
                    barrier(multiply_add(x, low_, sixteenth<T>(C::offsets, index)));
        constexpr auto& c = C::polynomial;
        B q(c.back());
        for (std::size_t i = c.size() - 1; i-- > 0;) {
            q = multiply_add(q, f, B(c[i]));
        }
        return {narrow_power(index, n), barrier(B(q * f))};
    }

private:
    B high_;
    B low_;
};

/// The sum of at most `most` narrow weights a lane: powers, exactly, and excesses, which are small beside it and read
/// as weight_sum does.
template <class B>
class narrow_weight_sum {
public:
    static constexpr std::size_t most = 8;

    [[gnu::always_inline]] void add(const weight<B>& w)
    {
        powers_ = powers_ + w.power;
        excesses_ = multiply_add(w.power, B(w.excess.data), excesses_);
    }

    [[gnu::always_inline]] pair<B> total() const { return fast_two_sum(powers_, excesses_); }

private:
    B powers_ = B(0);
    B excesses_ = B(0);
};

/// The rows whose weights those above are.
template <class Arch, class T>
class narrow_rows {
    using B = batch<Arch, T>;
    static constexpr std::size_t width = lanes<Arch, T>;

public:
    /// Elsewhere their weights are computed no faster than others.
    static constexpr bool exist = fused<B>;

    explicit narrow_rows(const exponent_scale<T>& scale)
        : limit_(scale.factor == T(1) ? narrow_constants<T>::reach / scale.high : T(-1))
    {
    }

    /// How far from 0 their logits may be.
    T limit() const { return limit_; }

    /// Whether a row is narrow: it has more than one logit and none far from 0, but there may be NaN.
    template <class S>
    bool contain(const S* x, std::size_t length) const
    {
        constexpr std::size_t chains = 4;
        auto largest = filled<chains>(B(T(0)));
        std::size_t i = 0;
        for (; i + chains * width <= length; i += chains * width) {
            if (i == 2 * chains * width && !xsimd::all(largest[0] <= B(limit_))) {
                return false; // most rows that have large logits have them soon
            }
            unroll<chains>([&](auto chain) __attribute__((always_inline)) {
                largest[chain] = larger_magnitude(load_vector<Arch, T>(x + i + chain * width), largest[chain]);
            });
        }
        for (; i < length; i += width) {
            largest[0] = larger_magnitude(load_some<Arch, T>(x + i, std::min(width, length - i)), largest[0]);
        }
        if (length >= chains * width) {
            largest[0] = larger(larger(largest[0], largest[1]), larger(largest[2], largest[3]));
        }
        return length > 1 && xsimd::all(largest[0] <= B(limit_));
    }

    /// The same of a row with this largest logit and this lowest one, which may be any number from 0 on if none is
    /// below.
    bool contain_between(T lowest, T largest, std::size_t length) const
    {
        return length > 1 && barrier(largest) <= limit_ && barrier(lowest) >= -limit_;
    }

private:
    T limit_;
};

/// The lanes of a row's sum, in fewer lanes of double.
template <class Arch>
[[gnu::always_inline]] inline batch<Arch, double> widened_sum(const pair<batch<Arch, float>>& of_lanes)
{
    const auto high = widen_halves(of_lanes.high);
    const auto low = widen_halves(of_lanes.low);
    return (high[0] + high[1]) + (low[0] + low[1]);
}

/// The sums of narrow rows, a row a lane, of the sums in each row's lanes: those of `rows` rows, beside which sums has
/// room for as many as a vector has lanes.
template <class Arch, class T>
pair<batch<Arch, T>> narrow_totals(std::array<pair<batch<Arch, T>>, lanes<Arch, T>>& sums, std::size_t rows)
{
    const pair<batch<Arch, T>> of_no_row{batch<Arch, T>(1), batch<Arch, T>(0)};
    std::fill(sums.begin() + static_cast<std::ptrdiff_t>(rows), sums.end(), of_no_row);
    if constexpr (sizeof(T) == 8) {
        const auto total = sum_rows(sums);
        return fast_two_sum(total.high, total.low);
    } else {
        using D = batch<Arch, double>;
        std::array<D, 2> totals;
        unroll<2>([&](auto half) __attribute__((always_inline)) {
            std::array<D, D::size> wide;
            unroll<D::size>([&](auto row) __attribute__((always_inline)) {
                wide[row] = widened_sum<Arch>(sums[half * D::size + row]);
            });
            totals[half] = fold_rows(
                wide, [](const D& a, const D& b) __attribute__((always_inline)) { return D(a + b); });
        });
        const auto high = narrow_halves(totals);
        const auto rounded = widen_halves(high);
        return {high, narrow_halves(std::array<D, 2>{totals[0] - rounded[0], totals[1] - rounded[1]})};
    }
}

/// The same of a single row, to the bit.
template <class Arch, class T>
[[gnu::always_inline]] inline pair<T> narrow_total(const pair<batch<Arch, T>>& of_lanes)
{
    if constexpr (sizeof(T) == 8) {
        const auto total = sum_row(of_lanes);
        return fast_two_sum<T>(total.high.get(0), total.low.get(0));
    } else {
        using D = batch<Arch, double>;
        const double total = fold_row(
                                 widened_sum<Arch>(of_lanes),
                                 [](const D& a, const D& b) __attribute__((always_inline)) { return D(a + b); })
                                 .get(0);
        const auto high = static_cast<float>(total);
        return {high, static_cast<float>(total - static_cast<double>(high))};
    }
}

} // namespace scaledot::inline SCALEDOT_BUILD::kernel
SCALEDOT_KERNELS_END

#endif
