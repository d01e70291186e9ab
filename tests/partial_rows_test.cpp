// SPDX-License-Identifier: BSD-3-Clause
#include <scaledot/detail/partial_rows.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <vector>

namespace detail = scaledot::detail;
namespace kernel = scaledot::kernel;

TEST_CASE_TEMPLATE("partial_rows: cleared rows have seen no key, those after them keep what they had", T, float, double)
{
    constexpr std::size_t rows = 5, cleared = 3, size = 7;
    detail::scratch counting;
    detail::partial_rows<T>(rows, size, true, counting);
    const detail::scratch_lease lease(counting.bytes());
    detail::scratch memory(lease.data());
    const detail::partial_rows<T> partial(rows, size, true, memory);
    for (std::size_t r = 0; r < rows; ++r) {
        const kernel::partial_row<T> row = partial.row(r);
        std::fill_n(row.output, size, T(3));
        *row.maximum = T(4);
        *row.sum = T(5);
        *row.statistics = {.maximum = 7, .count = 3};
    }
    partial.clear(cleared);
    for (std::size_t r = 0; r < rows; ++r) {
        CAPTURE(r);
        const kernel::partial_row<T> row = partial.row(r);
        const bool kept = r >= cleared;
        CHECK(std::vector<T>(row.output, row.output + size) == std::vector<T>(size, kept ? T(3) : T(0)));
        CHECK((kept ? *row.maximum == T(4) : kernel::is_negative_infinity_bits(*row.maximum)));
        CHECK(*row.sum == (kept ? T(5) : T(0)));
        CHECK(row.statistics->count == (kept ? 3 : 0));
    }
}
