// SPDX-License-Identifier: BSD-3-Clause
// A call of scaledot, and its version: quick to build, for tests of how the library is found.
#include <scaledot/dispatch.hpp>
#include <scaledot/softmax.hpp>
#include <scaledot/version.hpp>

#include <cmath>
#include <cstdio>
#include <string>

int main()
{
    const xt::xtensor<float, 1> logits = {1.f, 2.f, 3.f};
    const xt::xtensor<float, 1> probabilities = scaledot::softmax(logits);
    std::printf("scaledot %d.%d.%d\n", SCALEDOT_VERSION_MAJOR, SCALEDOT_VERSION_MINOR, SCALEDOT_VERSION_PATCH);
#if defined(SCALEDOT_DISPATCH)
    std::printf("kernels for %s\n", std::string(scaledot::dispatched_architecture()).c_str());
#endif
    return std::abs(probabilities(2) - 0.66524096f) < 1e-6f ? 0 : 1;
}
