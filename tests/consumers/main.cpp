// SPDX-License-Identifier: BSD-3-Clause
// What all consumers build: the umbrella header, a call of what scaledot::dispatch compiles, and the version.
#include <scaledot/scaledot.hpp>
#include <scaledot/version.hpp>

#include <cmath>
#include <cstdio>

int main()
{
    const xt::xtensor<float, 2> logits = {{1.f, 2.f, 3.f}};
    const xt::xtensor<float, 2> probabilities = scaledot::softmax(logits);
    std::printf("scaledot %d.%d.%d\n", SCALEDOT_VERSION_MAJOR, SCALEDOT_VERSION_MINOR, SCALEDOT_VERSION_PATCH);
    return std::abs(probabilities(0, 2) - 0.66524096f) < 1e-6f ? 0 : 1;
}
