// SPDX-License-Identifier: BSD-3-Clause
// What the two translation units of odr_test take and give: nothing of scaledot's, so that it may cross between builds.
#ifndef SCALEDOT_TESTS_ODR_UNIT_HPP
#define SCALEDOT_TESTS_ODR_UNIT_HPP

#include <scaledot/detail/xtensor.hpp>

struct odr_input {
    xt::xtensor<float, 2> rows;
    xt::xtensor<float, 1> gamma, beta;
    xt::xtensor<float, 3> query, key, value;
};

struct odr_results {
    xt::xtensor<float, 2> probabilities, normalized;
    xt::xtensor<float, 3> attended, attended_half;
};

odr_results narrow(const odr_input& input);
odr_results wide(const odr_input& input);

#endif
