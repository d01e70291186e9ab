// SPDX-License-Identifier: BSD-3-Clause
#include <scaledot/kernel/double_sums.hpp>

#include "support/mpfr_pairs.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <memory>
#include <vector>

namespace sd = scaledot;
using namespace scaledot::kernel;
using test_support::gaussian;
using test_support::mpfr_number;
using test_support::value_of;
using arch = sd::native_architecture;
using vector = batch<arch, double>;

namespace {

constexpr std::size_t block = double_summation<arch, true, double>::step_size;

/// What docs/numerics.md promises of the squares, relative to them, and of elements, relative to the largest sum there
/// could be. Without fused multiply-add nothing is.
constexpr double tolerance = fused<vector> ? 0x1p-90 : 0x1p-40;

struct exact_sums {
    mpfr_number elements{0};
    mpfr_number magnitudes{0};
    mpfr_number squares{0};

    explicit exact_sums(const std::vector<double>& x)
    {
        for (const double value : x) {
            const mpfr_number number(value);
            elements += number;
            magnitudes += abs(number);
            squares += number * number;
        }
    }
};

void check(const sd::kernel::pair<double>& elements, const sd::kernel::pair<double>& squares,
           const std::vector<double>& x)
{
    const exact_sums exact(x);
    CHECK(abs(value_of(elements) - exact.elements).to_double() <= tolerance * exact.magnitudes.to_double());
    CHECK(abs(value_of(squares) - exact.squares).to_double() <= tolerance * exact.squares.to_double());
}

sd::kernel::pair<double> lane(const sd::kernel::pair<vector>& x, std::size_t i)
{
    std::array<double, vector::size> high;
    std::array<double, vector::size> low;
    x.high.store_unaligned(high.data());
    x.low.store_unaligned(low.data());
    return {high[i], low[i]};
}

/// Rows that hurt: a large mean, one outlier, zeros before it, magnitudes far apart, next to the largest squares.
std::vector<std::vector<double>> rows_of(std::size_t length)
{
    std::vector<std::vector<double>> rows = {gaussian(length, 0, 1), gaussian(length, 1e6, 1),
                                             gaussian(length, 0, 1), std::vector<double>(length, 0.0),
                                             gaussian(length, 0, 1), gaussian(length, 0x1p195, 0x1p195)};
    rows[2][length / 2] = 1e9;
    rows[3][length - 1] = -3.7;
    for (std::size_t i = 0; i < length; ++i) {
        rows[4][i] = std::ldexp(rows[4][i], static_cast<int>(i * 37 % 120) - 60);
    }
    return rows;
}

} // namespace

TEST_CASE("above_root: at least the square root and not much more")
{
    for (double x = 0x1p-1000; x < 0x1p1000; x *= 1.37) {
        const double root = above_root(vector(x)).data[0];
        CHECK(root >= std::sqrt(x));
        CHECK(root <= 1.07 * std::sqrt(x));
    }
}

TEST_CASE("double_summation: sums and squares to twice the precision of double, of every kind of row at every length")
{
    std::vector<std::size_t> lengths = {block - 1, block, block + 1, 3 * block + 7, 5 * block, 100'003};
    for (std::size_t length = 1; length <= 9 * vector::size + 1; ++length) {
        lengths.push_back(length);
    }
    for (const std::size_t length : lengths) {
        for (const auto& x : rows_of(length)) {
            CAPTURE(length);
            // exactly so many on the heap, for the address sanitizer to watch the end
            const auto heap = std::make_unique<double[]>(length);
            std::copy(x.begin(), x.end(), heap.get());
            const auto sums = double_summation<arch, true, double>(heap.get(), length).finish();
            check(join_lanes(sums.elements), join_lanes(sums.squares), x);
            const auto squares = double_summation<arch, false, double>(heap.get(), length).finish();
            CHECK(join_lanes(squares.squares).high == join_lanes(sums.squares).high);
            CHECK(join_lanes(squares.elements).high == 0);
        }
    }
}

TEST_CASE("double_summation: steps taken elsewhere change nothing, elements may be narrower, none give 0")
{
    const auto x = gaussian(3 * block + 5, 2, 1);
    double_summation<arch, true, double> in_steps(x.data(), x.size());
    while (in_steps.has_step()) {
        in_steps.step();
    }
    const auto a = join_lanes(in_steps.finish().elements);
    const auto b = join_lanes(double_summation<arch, true, double>(x.data(), x.size()).finish().elements);
    CHECK(a.high == b.high);
    CHECK(a.low == b.low);
    const std::vector<float> narrow(2 * block + 3, 0.1f);
    const auto sum = double_summation<arch, true, float>(narrow.data(), narrow.size()).finish();
    CHECK(join_lanes(sum.elements).high == static_cast<double>(0.1f) * static_cast<double>(narrow.size()));
    CHECK(join_lanes(double_summation<arch, true, float>(narrow.data(), 0).finish().squares).high == 0);
}

TEST_CASE("short_rows_summation: the sums of each row in its lane, whatever its neighbours and the stride")
{
    for (std::size_t length = 1; length <= 70; ++length) {
        const auto kinds = rows_of(length);
        for (const std::size_t stride : {length, length + 3}) {
            const auto heap = std::make_unique<double[]>((vector::size - 1) * stride + length);
            const auto sums_after = [&](std::size_t shift) {
                for (std::size_t r = 0; r < vector::size; ++r) {
                    const auto& row = kinds[(r + shift) % kinds.size()];
                    std::copy(row.begin(), row.end(), heap.get() + r * stride);
                }
                return short_rows_summation<arch, true>(heap.get(), static_cast<std::ptrdiff_t>(stride))(length);
            };
            const auto sums = sums_after(0);
            for (std::size_t r = 0; r < vector::size; ++r) {
                CAPTURE(length);
                CAPTURE(r);
                check(lane(sums.elements, r), lane(sums.squares, r), kinds[r % kinds.size()]);
                for (std::size_t shift = 1; r < kinds.size() && shift < kinds.size(); ++shift) {
                    const std::size_t moved = (r + kinds.size() - shift) % kinds.size(); // where row r lies now
                    if (moved < vector::size) {
                        const auto others = sums_after(shift);
                        CHECK(lane(others.elements, moved).high == lane(sums.elements, r).high);
                        CHECK(lane(others.squares, moved).low == lane(sums.squares, r).low);
                    }
                }
            }
            const auto again = sums_after(0);
            const auto squares =
                short_rows_summation<arch, false>(heap.get(), static_cast<std::ptrdiff_t>(stride))(length);
            CHECK(lane(squares.squares, vector::size - 1).high == lane(again.squares, vector::size - 1).high);
            CHECK(lane(squares.elements, 0).high == 0);
        }
    }
}
