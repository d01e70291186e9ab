// SPDX-License-Identifier: BSD-3-Clause
// exp for arguments <= 0 (all attention needs), to a stated bound, the same in every lane; tanh on top of it.
#ifndef SCALEDOT_KERNEL_EXP_HPP
#define SCALEDOT_KERNEL_EXP_HPP

#include <scaledot/detail/config.hpp>
#include <scaledot/kernel/choice.hpp>
#include <scaledot/kernel/simd.hpp>
#include <scaledot/kernel/sixteenths.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>

SCALEDOT_KERNELS_BEGIN
namespace scaledot::inline SCALEDOT_BUILD::kernel {

/// Bound of exp_negative on normal results. Found by tests/kernel_exp_test.cpp: 1.02.
inline constexpr double exp_negative_max_ulp = 1.5;
/// Bound of hyperbolic_tangent on normal results. Found by tests/kernel_exp_test.cpp: 2.5.
inline constexpr double hyperbolic_tangent_max_ulp = 4;

template <class T>
struct exp_constants;

// exp(r) = 1 + r + r^2 P(r) on |r| <= ln(2)/2: P minimax in the error relative to exp (2^-28.1 and 2^-63.7).
// ln 2 is cut in two so that n * ln2_high is exact for every n that occurs.
template <>
struct exp_constants<float> {
    static constexpr float log2_e = 0x1.715476p+0f;
    static constexpr float ln2_high = 0x1.62e4p-1f;
    static constexpr float ln2_low = 0x1.7f7d1cp-20f;
    static constexpr float round_to_integer = 0x1.8p+23f;
    static constexpr float normal_limit = -87.33654f; // ln 2^-126
    static constexpr int fraction_bits = 23;
    static constexpr std::int32_t one = 0x3f800000;
    static constexpr std::array polynomial = {0x1.fffffcp-2f, 0x1.55549ap-3f, 0x1.5558bp-5f, 0x1.12348cp-7f,
                                              0x1.6a39fcp-10f};
};

template <>
struct exp_constants<double> {
    static constexpr double log2_e = 0x1.71547652b82fep+0;
    static constexpr double ln2_high = 0x1.62e42fefa38p-1;
    static constexpr double ln2_low = 0x1.ef35793c7673p-45;
    static constexpr double round_to_integer = 0x1.8p+52;
    static constexpr double normal_limit = -708.3964185322641; // ln 2^-1022
    static constexpr int fraction_bits = 52;
    static constexpr std::int64_t one = 0x3ff0000000000000;
    static constexpr std::array polynomial = {0x1p-1,
                                              0x1.555555555555ap-3,
                                              0x1.555555555551bp-5,
                                              0x1.111111110f2e7p-7,
                                              0x1.6c16c16c2b837p-10,
                                              0x1.a01a01b156b8bp-13,
                                              0x1.a01a0142c722ep-16,
                                              0x1.71ddf4d450569p-19,
                                              0x1.27e5a800d7a3ep-22,
                                              0x1.af649d7fc3d6dp-26,
                                              0x1.1e429ca20d565p-29};
};

namespace exp_steps {

/// P(r) by Horner's rule.
template <class B>
[[gnu::always_inline]] inline B polynomial(const B& r)
{
    constexpr auto& c = exp_constants<typename B::value_type>::polynomial;
    B p(c.back());
    for (std::size_t i = c.size() - 1; i-- > 0;) {
        p = multiply_add(p, r, B(c[i]));
    }
    return p;
}

/// 2^n from the sum n + round_to_integer, whose low bits are n in two's complement.
template <class B>
[[gnu::always_inline]] inline B power_of_two(const B& shifted)
{
    using T = typename B::value_type;
    using C = exp_constants<T>;
    const auto bits = as_bits(shifted);
    using I = std::decay_t<decltype(bits)>;
    return from_bits<T>(I(shift_left<C::fraction_bits>(bits) + I(C::one)));
}

/// x where x is NaN, result elsewhere, by integer tests that -ffast-math cannot drop.
template <class B>
[[gnu::always_inline]] inline B keep_nan(const B& x, const B& result)
{
    using T = typename B::value_type;
    const auto bits = as_bits(x);
    using I = std::decay_t<decltype(bits)>;
    const auto magnitude = bits & I(std::numeric_limits<bits_of<T>>::max());
    return from_bits<T>(select_bits(magnitude > I(exponent_mask<T>), bits, as_bits(result)));
}

/// result where x >= limit, +0 below, NaN where x is NaN. Compilers with -ffast-math may turn the test around, so that
/// a NaN would count as below: there it is put back.
template <class B>
[[gnu::always_inline]] inline B zero_below(const B& x, typename B::value_type limit, const B& result)
{
#if defined(__AVX512F__) && !defined(__FAST_MATH__)
    // A comparison that NaN passes, and a mask that often costs nothing: it joins the instruction before.
    if constexpr (sizeof(x) == 64 && sizeof(limit) == 4) {
        return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x.data, B(limit).data, _CMP_NLT_UQ), result.data);
    } else if constexpr (sizeof(x) == 64) {
        return _mm512_maskz_mov_pd(_mm512_cmp_pd_mask(x.data, B(limit).data, _CMP_NLT_UQ), result.data);
    }
#endif
    const B selected = xsimd::select(barrier(x) < B(limit), B(0), result);
#if defined(__FAST_MATH__)
    return keep_nan(x, barrier(selected));
#else
    return selected;
#endif
}

} // namespace exp_steps

/// Powers of two at fractions of a whole, in a table that one register holds: floats where the machine picks any of a
/// register's lanes by an index in another.
template <class B>
struct power_table {
    static constexpr bool exists = false;
};

#if defined(__AVX512F__)
template <class A>
    requires(sizeof(xsimd::batch<float, A>) == 64)
struct power_table<xsimd::batch<float, A>> {
    static constexpr bool exists = true;
    static constexpr int index_bits = 4;
    // 2^f - 1 = f Q(f) on |f| <= 1/32, minimax, relative error 2^-29
    static constexpr std::array polynomial = {0x1.62e430p-1f, 0x1.ebfff4p-3f, 0x1.c6ac6ap-5f};

    /// 2^n (1 + excess) for n in sixteenths, whose fraction, in sixteenths too, the low bits of index are.
    [[gnu::always_inline]] static xsimd::batch<float, A> power(const xsimd::batch<std::int32_t, A>& index,
                                                               const xsimd::batch<float, A>& n,
                                                               const xsimd::batch<float, A>& excess)
    {
        const auto fraction = sixteenth<float>(sixteenth_powers<float>, index);
        return scaled_by_power(multiply_add(excess, fraction, fraction), n);
    }
};
#endif
#if defined(__AVX2__) && defined(__FMA__)
template <class A>
    requires(sizeof(xsimd::batch<float, A>) == 32)
struct power_table<xsimd::batch<float, A>> {
    static constexpr bool exists = true;
    static constexpr int index_bits = 3;
    // on |f| <= 1/16, relative error 2^-25
    static constexpr std::array polynomial = {0x1.62e432p-1f, 0x1.ec0c32p-3f, 0x1.c6a004p-5f};

    /// 2^n (1 + excess) for n in eighths, the lowest bits of index.
    [[gnu::always_inline]] static xsimd::batch<float, A> power(const xsimd::batch<std::int32_t, A>& index,
                                                               const xsimd::batch<float, A>&,
                                                               const xsimd::batch<float, A>& excess)
    {
        using I = xsimd::batch<std::int32_t, A>;
        // Bits of 2^(j/8), less what adding j << 20 puts into exponent and fraction.
        const __m256i table = _mm256_setr_epi32(0x3f800000, 0x3f7b95c2, 0x3f7837f0, 0x3f75fed7, 0x3f7504f3, 0x3f75672a,
                                                0x3f7744fd, 0x3f7ac0c7);
        const I fraction = _mm256_permutevar8x32_epi32(table, index.data);
        const auto power = from_bits<float>(I(fraction + shift_left<20>(index)));
        return multiply_add(excess, power, power);
    }
};
#endif

/// exp(x) = 2^n 2^(j/16) 2^f with 2^(j/16) from a table, so that few terms make up 2^f.
template <class B>
[[gnu::always_inline]] inline B exp_negative_by_table(const B& x)
{
    using C = exp_constants<float>;
    using table = power_table<B>;
    constexpr auto& c = table::polynomial;
    constexpr float round_to_fraction = C::round_to_integer / static_cast<float>(1 << table::index_bits);
    constexpr float log2_e_low = 0x1.4ae0bep-26f; // of log2(e), what log2_e leaves
    const B shifted = barrier(multiply_add(x, B(C::log2_e), B(round_to_fraction)));
    const B n = barrier(shifted - B(round_to_fraction));
    const B f = multiply_add(x, B(log2_e_low), barrier(multiply_add(x, B(C::log2_e), negated(n))));
    const B excess = f * multiply_add(f, multiply_add(f, B(c[2]), B(c[1])), B(c[0])); // 2^f - 1
    return exp_steps::zero_below(x, C::normal_limit, table::power(as_bits(shifted), n, excess));
}

/// exp(x) for x <= 0: exp_negative_max_ulp on normal results, +0 where the result would be subnormal; NaN gives NaN.
template <class B>
[[gnu::always_inline]] inline B exp_negative(const B& x)
{
    if constexpr (power_table<B>::exists) {
        return exp_negative_by_table(x);
    }
    using C = exp_constants<typename B::value_type>;
    const B shifted = barrier(multiply_add(x, B(C::log2_e), B(C::round_to_integer)));
    const B n = barrier(shifted - B(C::round_to_integer));
    const B r = negative_multiply_add(n, B(C::ln2_low), barrier(negative_multiply_add(n, B(C::ln2_high), x)));
    const B value = barrier(multiply_add(barrier(r * r), exp_steps::polynomial(r), barrier(r)) + B(1));
    return exp_steps::zero_below(x, C::normal_limit, B(value * exp_steps::power_of_two(shifted)));
}

/// tanh(x) = -e / (2 + e) with e = expm1(-2|x|), the sign of x; +-1 at infinity, NaN for NaN.
/// hyperbolic_tangent_max_ulp on normal results, also near 0.
template <class B>
[[gnu::always_inline]] inline B hyperbolic_tangent(const B& x)
{
    using T = typename B::value_type;
    using C = exp_constants<T>;
    const B sign = x & B(T(-0.0));
    // From 2|x| = 60 on tanh rounds to 1 in either type; the clamp keeps 2^n in range.
    const B y = larger(barrier(B(-2) * xsimd::abs(x)), B(T(-60)));
    const B shifted = barrier(multiply_add(y, B(C::log2_e), B(C::round_to_integer)));
    const B n = barrier(shifted - B(C::round_to_integer));
    const B r = negative_multiply_add(n, B(C::ln2_low), barrier(negative_multiply_add(n, B(C::ln2_high), y)));
    const B reduced = multiply_add(barrier(r * r), exp_steps::polynomial(r), barrier(r)); // expm1(r)
    const B power = exp_steps::power_of_two(shifted);
    const B e = multiply_add(power, reduced, barrier(power - B(1)));
    const B magnitude = quotient(B(-e), B(B(2) + e));
    return exp_steps::keep_nan(x, B(magnitude | sign));
}

} // namespace scaledot::inline SCALEDOT_BUILD::kernel
SCALEDOT_KERNELS_END

#endif
