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

TEST_CASE("filled: so many times the same")
{
    CHECK(scaledot::kernel::filled<3>(7) == std::array<int, 3>{7, 7, 7});
    CHECK(scaledot::kernel::filled<0>(7).empty());
    CHECK(scaledot::kernel::filled<2>(scaledot::kernel::filled<1>(5.5)) ==
          std::array<std::array<double, 1>, 2>{{{5.5}, {5.5}}});
}
