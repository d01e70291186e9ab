// SPDX-License-Identifier: BSD-3-Clause
#include <scaledot/attention.hpp>

#include "support/attention_accuracy.hpp"
#include "support/attention_cases.hpp"
#include "support/attention_oracle.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <type_traits>

#include <xtl/xhalf_float.hpp>

namespace sd = scaledot;
using namespace test_support;

TEST_CASE("attention: q, k and v may each have an element type of their own; one double makes the arithmetic double")
{
    check_accuracy<float, sd::bfloat16, xtl::half_float>({{1, 2, 9, 40}, 1, 200, 24});
    check_accuracy<sd::bfloat16, float, float>({{1, 2, 9, 40}, 1, 200, 24});
    check_accuracy<float, float, double>({{1, 2, 9, 40}, 1, 200, 24});
    check_accuracy<xtl::half_float, double, float>({{1, 2, 9, 40}, 1, 200, 24});
}

TEST_CASE("attention: lse is double as soon as an argument is")
{
    const auto p = random_problem<float, float, double>({{1, 2, 3, 8}, 1, 20, 4});
    static_assert(std::is_same_v<decltype(sd::attention_with_lse(p.q, p.k, p.v).lse)::value_type, double>);
    const auto lse = sd::attention_with_lse(p.q, p.k, p.v).lse;
    const attention_oracle oracle(plain(p.q), plain(p.k), plain(p.v), {});
    for (std::size_t h = 0; h < 2; ++h) {
        for (std::size_t i = 0; i < 3; ++i) {
            const auto exact = static_cast<double>(oracle.row(0, h, i).lse);
            CHECK(std::abs(lse(0, h, i) - exact) <= 1e-14 * std::max(1.0, std::abs(exact)));
        }
    }
}
