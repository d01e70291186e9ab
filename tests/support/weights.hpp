// SPDX-License-Identifier: BSD-3-Clause
// Exact values of weights, and errors relative to them.
#ifndef SCALEDOT_TESTS_SUPPORT_WEIGHTS_HPP
#define SCALEDOT_TESTS_SUPPORT_WEIGHTS_HPP

#include "support/mpfr_number.hpp"

#include <scaledot/kernel/weights.hpp>

#include <limits>

namespace test_support {

template <class T>
constexpr double half_ulp = static_cast<double>(std::numeric_limits<T>::epsilon()) / 2;

template <class T>
mpfr_number number_of(const scaledot::kernel::weight<T>& w)
{
    return mpfr_number(static_cast<double>(w.power)) * (mpfr_number(1) + mpfr_number(static_cast<double>(w.excess)));
}

/// In half units in the last place of a power of two.
template <class T>
double relative_error(const mpfr_number& value, const mpfr_number& exact)
{
    return (abs(value - exact) / exact).to_double() / half_ulp<T>;
}

} // namespace test_support

#endif
