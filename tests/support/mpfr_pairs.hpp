// SPDX-License-Identifier: BSD-3-Clause
// Rows of random numbers, and how far pairs (kernel/pair.hpp) are from the exact number.
#pragma once

#include "mpfr_number.hpp"

#include <scaledot/kernel/pair.hpp>

#include <cstddef>
#include <random>
#include <vector>

namespace test_support {

inline std::vector<double> gaussian(std::size_t length, double mean, double standard_deviation)
{
    std::mt19937_64 engine(length);
    std::normal_distribution<double> normal(mean, standard_deviation);
    std::vector<double> x(length);
    for (auto& value : x) {
        value = normal(engine);
    }
    return x;
}

inline mpfr_number value_of(const scaledot::kernel::pair<double>& x)
{
    return mpfr_number(x.high) + mpfr_number(x.low);
}

/// How far a pair is from the exact number, relative to it.
inline double relative_error(const scaledot::kernel::pair<double>& x, const mpfr_number& exact)
{
    return (abs(value_of(x) - exact) / abs(exact)).to_double();
}

} // namespace test_support
