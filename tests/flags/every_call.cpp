// SPDX-License-Identifier: BSD-3-Clause
// A call of everything that is a template of its own, to be compiled with flags a project may have.
#include <scaledot/scaledot.hpp>

int main()
{
    const xt::xtensor<float, 4> q = xt::ones<float>({1, 4, 8, 16});
    const xt::xtensor<float, 4> k = xt::ones<float>({1, 2, 24, 16});
    const xt::xtensor<float, 1> gamma = xt::ones<float>({16});
    const auto y = scaledot::attention(q, k, k, {.causal = true, .align = scaledot::alignment::bottom_right});
    const auto p = scaledot::softmax(q, {.temperature = 2.0});
    const auto normalised = scaledot::layer_norm(q, gamma, gamma);
    const auto health = scaledot::attention_diagnostics(q, k);
    const auto figures = scaledot::summarize(q);
    const bool good = y(0, 0, 0, 0) == 1 && p(0, 0, 0, 0) == 1.0f / 16 && normalised(0, 0, 0, 0) == 1 &&
                      health.entropy(0, 0, 0) > 0 && figures.mean == 1;
    return good ? 0 : 1;
}
