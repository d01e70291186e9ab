// SPDX-License-Identifier: BSD-3-Clause
// Numbers of 384 bits for oracles, and errors in units in the last place of a storage type.
#ifndef SCALEDOT_TESTS_SUPPORT_MPFR_NUMBER_HPP
#define SCALEDOT_TESTS_SUPPORT_MPFR_NUMBER_HPP

#include <scaledot/bfloat16.hpp>

#include <algorithm>
#include <type_traits>

#include <mpfr.h>

namespace test_support {

/// A number of 384 bits: textbook formulas on it keep more digits than any element type has, whatever cancels.
class mpfr_number {
public:
    mpfr_number() { mpfr_init2(value_, 384); }
    mpfr_number(double x) : mpfr_number() { mpfr_set_d(value_, x, MPFR_RNDN); }
    mpfr_number(const mpfr_number& other) : mpfr_number() { mpfr_set(value_, other.value_, MPFR_RNDN); }
    mpfr_number& operator=(const mpfr_number& other)
    {
        mpfr_set(value_, other.value_, MPFR_RNDN);
        return *this;
    }
    ~mpfr_number() { mpfr_clear(value_); }

    static mpfr_number power_of_two(long exponent)
    {
        mpfr_number result;
        mpfr_set_ui_2exp(result.value_, 1, exponent, MPFR_RNDN);
        return result;
    }

    mpfr_number& operator+=(const mpfr_number& b)
    {
        mpfr_add(value_, value_, b.value_, MPFR_RNDN);
        return *this;
    }

    friend mpfr_number operator+(const mpfr_number& a, const mpfr_number& b) { return apply(mpfr_add, a, b); }
    friend mpfr_number operator-(const mpfr_number& a, const mpfr_number& b) { return apply(mpfr_sub, a, b); }
    friend mpfr_number operator*(const mpfr_number& a, const mpfr_number& b) { return apply(mpfr_mul, a, b); }
    friend mpfr_number operator/(const mpfr_number& a, const mpfr_number& b) { return apply(mpfr_div, a, b); }
    friend bool operator<(const mpfr_number& a, const mpfr_number& b) { return mpfr_less_p(a.value_, b.value_) != 0; }
    friend mpfr_number sqrt(const mpfr_number& a) { return apply(mpfr_sqrt, a); }
    friend mpfr_number exp(const mpfr_number& a) { return apply(mpfr_exp, a); }
    friend mpfr_number log(const mpfr_number& a) { return apply(mpfr_log, a); }
    friend mpfr_number log1p(const mpfr_number& a) { return apply(mpfr_log1p, a); }
    friend mpfr_number tanh(const mpfr_number& a) { return apply(mpfr_tanh, a); }
    friend mpfr_number abs(const mpfr_number& a) { return apply(mpfr_abs, a); }

    bool is_zero() const { return mpfr_zero_p(value_) != 0; }
    double to_double() const { return mpfr_get_d(value_, MPFR_RNDN); }
    /// e with 2^(e - 1) <= |value| < 2^e, for a value other than 0.
    long exponent() const { return mpfr_get_exp(value_); }

private:
    template <class F, class... Arguments>
    static mpfr_number apply(F operation, const Arguments&... arguments)
    {
        mpfr_number result;
        operation(result.value_, arguments.value_..., MPFR_RNDN);
        return result;
    }

    mpfr_t value_;
};

/// Significant bits of a storage type, and the exponent of its smallest subnormal.
struct format {
    long digits;
    long smallest_exponent;
};

template <class T>
constexpr format format_of()
{
    if constexpr (std::is_same_v<T, double>) {
        return {53, -1074};
    } else if constexpr (std::is_same_v<T, float>) {
        return {24, -149};
    } else if constexpr (std::is_same_v<T, scaledot::bfloat16>) {
        return {8, -133};
    } else {
        return {11, -24};
    }
}

template <class T>
mpfr_number smallest_normal()
{
    return mpfr_number::power_of_two(format_of<T>().smallest_exponent + format_of<T>().digits - 1);
}

/// |computed - exact| in units in the last place of `reference` rounded to T.
template <class T>
double error_in_ulp(double computed, const mpfr_number& exact, const mpfr_number& reference)
{
    constexpr format f = format_of<T>();
    const long last_place =
        reference.is_zero() ? f.smallest_exponent : std::max(reference.exponent() - f.digits, f.smallest_exponent);
    return (abs(mpfr_number(computed) - exact) / mpfr_number::power_of_two(last_place)).to_double();
}

} // namespace test_support

#endif
