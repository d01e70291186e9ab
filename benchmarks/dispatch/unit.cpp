// SPDX-License-Identifier: BSD-3-Clause
// Compiled three times: for this machine, for the baseline, and for the baseline with scaledot::dispatch.
#include "unit.hpp"

#include <scaledot/attention.hpp>
#include <scaledot/diagnostics.hpp>
#include <scaledot/layer_norm.hpp>
#include <scaledot/softmax.hpp>

#define NAME_EXPANDED(name) #name
#define NAME(name) NAME_EXPANDED(name)

namespace sd = scaledot;

const build BUILD{
    NAME(BUILD),
    [](tensor& out, const tensor& q, const tensor& k, const tensor& v, bool causal) {
        sd::attention_into(out, q, k, v, {.causal = causal});
    },
    [](const tensor& q, const tensor& k, const tensor& v) { sd::attention_with_diagnostics(q, k, v); },
    [](rows& out, const rows& x) { sd::softmax_into(out, x); },
    [](rows& out, const rows& x) { sd::log_softmax_into(out, x); },
    [](rows& out, const rows& x, const xt::xtensor<float, 1>& gamma, const xt::xtensor<float, 1>& beta) {
        sd::layer_norm_into(out, x, gamma, beta);
    },
};
