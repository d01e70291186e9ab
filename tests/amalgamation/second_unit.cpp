// SPDX-License-Identifier: BSD-3-Clause
// The second unit of amalgamation_test that includes the one header: nothing in it may be defined twice.
#include <scaledot/scaledot.hpp>
#include <scaledot/scaledot.hpp>

#include <cstdlib>

// usage_test's main knows nothing of this unit, so it runs before.
[[maybe_unused]] static const bool ran = [] {
    const xt::xtensor<float, 1> logits = {0.f, 0.f};
    const xt::xtensor<float, 1> probabilities = scaledot::softmax(logits);
    return probabilities(0) == 0.5f ? true : (std::abort(), false);
}();
