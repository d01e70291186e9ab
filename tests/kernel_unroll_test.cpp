// SPDX-License-Identifier: BSD-3-Clause
#include <scaledot/kernel/unroll.hpp>

#include <doctest/doctest.h>

#include <array>
#include <cstddef>
#include <vector>

TEST_CASE("unroll: calls the body once for each index, in order, with the index a constant")
{
    std::vector<std::size_t> seen;
    scaledot::kernel::unroll<4>([&](auto i) {
        const std::array<int, i + 1> sized_by_index{};
        seen.push_back(sized_by_index.size());
    });
    CHECK(seen == std::vector<std::size_t>{1, 2, 3, 4});
    scaledot::kernel::unroll<0>([&](auto) { seen.clear(); });
    CHECK(seen.size() == 4);
}
