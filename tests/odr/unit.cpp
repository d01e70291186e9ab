// SPDX-License-Identifier: BSD-3-Clause
// Compiled twice, for two instruction sets, under two names: what each unit computes.
#include "unit.hpp"

#include <scaledot/scaledot.hpp>

#include <xtl/xhalf_float.hpp>

odr_results ODR_UNIT(const odr_input& input)
{
    const auto attended = scaledot::attention(input.query, input.key, input.value, {.causal = true, .softcap = 20.0});
    const auto half = xt::xtensor<xtl::half_float, 3>(xt::cast<xtl::half_float>(input.key));
    return {.probabilities = scaledot::softmax(input.rows),
            .normalized = scaledot::layer_norm(input.rows, input.gamma, input.beta),
            .attended = attended,
            .attended_half = scaledot::attention(input.query, half, input.value)};
}
