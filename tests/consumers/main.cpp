// SPDX-License-Identifier: BSD-3-Clause
// What all three consumers build: one call of each family, and the version.
#include <scaledot/scaledot.hpp>
#include <scaledot/version.hpp>

#include <cmath>
#include <cstdio>

int main()
{
    const xt::xtensor<float, 2> logits = {{1.f, 2.f, 3.f}};
    const xt::xtensor<float, 2> probabilities = scaledot::softmax(logits);
    const xt::xtensor<float, 2> attended = scaledot::attention(logits, logits, logits);
    std::printf("scaledot %d.%d.%d\n", SCALEDOT_VERSION_MAJOR, SCALEDOT_VERSION_MINOR, SCALEDOT_VERSION_PATCH);
    // One key: all the weight is on it.
    return std::abs(probabilities(0, 2) - 0.66524096f) < 1e-6f && attended == logits ? 0 : 1;
}
