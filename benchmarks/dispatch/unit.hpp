// SPDX-License-Identifier: BSD-3-Clause
// What the units of dispatch_benchmark take: nothing of scaledot's, so that it may cross between builds.
#pragma once

#include <scaledot/detail/xtensor.hpp>

using tensor = xt::xtensor<float, 4>;
using matrix = xt::xtensor<float, 2>;

/// The same calls as one build of the library makes them.
struct build {
    const char* name;
    void (*attention)(tensor& out, const tensor& q, const tensor& k, const tensor& v, bool causal);
    void (*attention_with_diagnostics)(const tensor& q, const tensor& k, const tensor& v);
    void (*softmax)(matrix& out, const matrix& x);
    void (*log_softmax)(matrix& out, const matrix& x);
    void (*layer_norm)(matrix& out, const matrix& x, const xt::xtensor<float, 1>& gamma,
                       const xt::xtensor<float, 1>& beta);
};

extern const build native, dispatched, baseline;
