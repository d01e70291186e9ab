// SPDX-License-Identifier: BSD-3-Clause
#include <scaledot/kernel/choice.hpp>
#include <scaledot/kernel/row_sums.hpp>
#include <scaledot/kernel/short_row_sums.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <random>
#include <vector>

namespace sd = scaledot;
using namespace scaledot::kernel;
using arch = sd::native_architecture;
using D = batch<arch, double>;
using I = batch<arch, std::int64_t>;
constexpr std::size_t rows = D::size;

namespace {

template <class V>
auto lanes_of(const V& x)
{
    std::array<typename V::value_type, V::size> values;
    x.store_unaligned(values.data());
    return values;
}

double total(const D& x)
{
    double sum = 0;
    for (const double lane : lanes_of(x)) {
        sum += lane;
    }
    return sum;
}

template <sum_kind Kind, join_kind Join = join_kind::plain, class S>
row_sums<arch> sums_of(const S* x, std::size_t count)
{
    row_sums<arch> sums;
    row_summation<arch, Kind, S>(x, count).finish(Join, sums);
    return sums;
}

} // namespace

TEST_CASE("fold_rows: lane r is the fold of row r")
{
    std::array<D, rows> x;
    for (std::size_t r = 0; r < rows; ++r) {
        std::array<double, rows> values;
        for (std::size_t i = 0; i < rows; ++i) {
            values[i] = std::exp2(static_cast<double>(i)) * static_cast<double>(r + 1);
        }
        x[r] = D::load_unaligned(values.data());
    }
    const auto sums = lanes_of(fold_rows(x, [](const D& a, const D& b) { return D(a + b); }));
    const auto largest = lanes_of(fold_rows(x, [](const D& a, const D& b) { return larger(a, b); }));
    for (std::size_t r = 0; r < rows; ++r) {
        CHECK(sums[r] == (std::exp2(static_cast<double>(rows)) - 1) * static_cast<double>(r + 1));
        CHECK(largest[r] == std::exp2(static_cast<double>(rows - 1)) * static_cast<double>(r + 1));
    }
}

TEST_CASE("fold_row and sum_row: the bits of fold_rows and sum_rows, in every lane")
{
    std::mt19937_64 engine(11);
    std::normal_distribution<double> normal;
    std::array<D, rows> x;
    std::array<sd::kernel::pair<D>, rows> pairs;
    for (std::size_t r = 0; r < rows; ++r) {
        std::array<double, rows> high;
        std::array<double, rows> low;
        for (std::size_t i = 0; i < rows; ++i) {
            high[i] = normal(engine);
            low[i] = normal(engine) * 0x1p-53;
        }
        x[r] = D::load_unaligned(high.data());
        pairs[r] = {x[r], D::load_unaligned(low.data())};
    }
    const auto add = [](const D& a, const D& b) { return D(a + b); };
    const auto folded = lanes_of(fold_rows(x, add));
    const auto sums = sum_rows(pairs);
    for (std::size_t r = 0; r < rows; ++r) {
        for (const double lane : lanes_of(fold_row(x[r], add))) {
            CHECK(lane == folded[r]);
        }
        const auto sum = sum_row(pairs[r]);
        for (std::size_t i = 0; i < rows; ++i) {
            CHECK(sum.high.get(i) == sums.high.get(r));
            CHECK(sum.low.get(i) == sums.low.get(r));
        }
    }
}

TEST_CASE("sum_rows: the rounding errors of a row's sum are kept")
{
    std::array<sd::kernel::pair<D>, rows> x;
    for (std::size_t r = 0; r < rows; ++r) {
        std::array<double, rows> values;
        values.fill(0x1p-60 * static_cast<double>(r + 1));
        values[0] = 1;
        x[r] = {D::load_unaligned(values.data()), D(0x1p-80)};
    }
    const auto sum = sum_rows(x);
    const auto high = lanes_of(sum.high);
    const auto low = lanes_of(sum.low);
    for (std::size_t r = 0; r < rows; ++r) {
        CHECK(high[r] == 1);
        CHECK(low[r] == 0x1p-60 * static_cast<double>((r + 1) * (rows - 1)) + 0x1p-80 * static_cast<double>(rows));
    }
}

TEST_CASE_TEMPLATE(
    "row_summation: sum and squares of elements, as they are or less the first, the smallest magnitude but 0", T, float,
    xtl::half_float, sd::bfloat16)
{
    constexpr double first = -3;
    for (std::size_t count = 1; count <= 17 * rows + 1; ++count) {
        // on the heap, for the address sanitizer to watch the end; all numbers and their sums are exact
        const auto x = std::make_unique<T[]>(count);
        double sum = 0;
        double squares = 0;
        double sum_about_first = 0;
        double squares_about_first = 0;
        for (std::size_t i = 0; i < count; ++i) {
            const double value = i == 0       ? first
                                 : i % 7 == 0 ? 0
                                 : i % 7 == 6 ? -0.5
                                              : static_cast<double>(i % 7) - 3.25;
            x[i] = to_storage<T>(static_cast<float>(value));
            sum += value;
            sum_about_first += value - first;
            squares += value * value;
            squares_about_first += (value - first) * (value - first);
        }
        const auto check = [&](const row_sums<arch>& found, double less_by) {
            CHECK(lanes_of(found.first)[0] == less_by);
            CHECK(total(found.sum.high) + total(found.sum.low) == (less_by == 0 ? sum : sum_about_first));
            CHECK(total(found.squares) == (less_by == 0 ? squares : squares_about_first));
            std::int64_t smallest = std::numeric_limits<std::int64_t>::max();
            for (const std::int64_t lane : lanes_of(found.smallest)) {
                smallest = std::min(smallest, lane);
            }
            const float magnitude = count == 1 ? 3.0f : count == 2 ? 2.25f : count == 3 ? 1.25f : 0.25f;
            CHECK(smallest == 2 * std::int64_t{std::bit_cast<std::int32_t>(magnitude)} - 1);
        };
        check(sums_of<sum_kind::elements>(x.get(), count), 0);
        check(sums_of<sum_kind::elements, join_kind::paired>(x.get(), count), 0);
        check(sums_of<sum_kind::differences>(x.get(), count), first);
        check(sums_of<sum_kind::differences, join_kind::paired>(x.get(), count), first);
        CHECK(total(sums_of<sum_kind::squares>(x.get(), count).squares) == squares);
    }
}

TEST_CASE_TEMPLATE("begins_far_from_0: the first four are within a quarter of the first", T, float, xtl::half_float,
                   sd::bfloat16)
{
    const auto begins = [](float a, float b, float c, float d) {
        const std::array<T, 4> x{T(a), T(b), T(c), T(d)};
        return begins_far_from_0(x.data());
    };
    CHECK(begins(4, 5, 3, 4));
    CHECK(begins(-4, -5, -3, -4));
    CHECK(begins(0, 0, 0, 0));
    CHECK(!begins(4, 5.25f, 3, 4));
    CHECK(!begins(4, 5, 2.75f, 4));
    CHECK(!begins(4, 5, 3, -4));
    CHECK(!begins(0, 0, 0, 1));
}

TEST_CASE("row_summation: paired chains keep what a sum of them loses")
{
    std::vector<float> x(16 * rows, 0x1p-30f);
    std::fill_n(x.begin(), 2 * rows, 0x1p30f); // the first two chains'
    const auto found = sums_of<sum_kind::elements, join_kind::paired>(x.data(), x.size());
    CHECK(lanes_of(found.sum.high)[0] == 0x1p31);
    CHECK(lanes_of(found.sum.low)[0] == 8 * 0x1p-30); // those of the other two
    CHECK(lanes_of(found.largest_squares)[0] == 0x1p60);
}

TEST_CASE_TEMPLATE("sums_of_short_row, sums_of_short_rows: the same bits of one row and of many, at every length", T,
                   float, xtl::half_float, sd::bfloat16)
{
    constexpr std::size_t vector = 2 * rows;
    for (std::size_t count = 1; count <= 64; count += count < 18 ? 1 : 23) {
        for (const std::size_t gap : {0u, 3u}) {
            // on the heap, for the address sanitizer to watch the end; sums are exact, squares are not
            const std::size_t stride = count + gap;
            const std::size_t size = (vector - 1) * stride + count;
            const auto x = std::make_unique<T[]>(size);
            for (std::size_t i = 0; i < size; ++i) {
                x[i] = to_storage<T>(i % 11 == 0 ? 0.0f : std::sin(static_cast<float>(i)));
            }
            const auto step = static_cast<std::ptrdiff_t>(stride);
            const auto found = sums_of_short_rows<arch, true>(x.get(), step, count);
            const auto not_centred = sums_of_short_rows<arch, false>(x.get(), step, count);
            for (std::size_t row = 0; row < vector; ++row) {
                const T* const of_row = x.get() + row * stride;
                std::array<D, rows> alone;
                const auto fold = [&](const D& lanes) {
                    alone.fill(lanes);
                    return lanes_of(fold_rows(alone, [](const D& a, const D& b) { return D(a + b); }))[0];
                };
                const double squares = fold(sums_of_short_row<arch, true>(of_row, count).squares);
                const auto expected = sums_of<sum_kind::differences>(of_row, count);
                const auto smallest = lanes_of(expected.smallest);
                const auto& sums = found[row / rows];
                CHECK(lanes_of(sums.squares)[row % rows] == squares);
                CHECK(lanes_of(sums.first)[row % rows] == static_cast<double>(to_arithmetic<float>(of_row[0])));
                CHECK(lanes_of(not_centred[row / rows].squares)[row % rows] ==
                      fold(sums_of_short_row<arch, false>(of_row, count).squares));
                CHECK(squares == doctest::Approx(total(expected.squares)).epsilon(1e-15));
                CHECK(lanes_of(sums.sum.high)[row % rows] == total(expected.sum.high));
                CHECK(total(sums_of_short_row<arch, true>(of_row, count).sum.high) == total(expected.sum.high));
                CHECK(lanes_of(not_centred[row / rows].sum.high)[row % rows] == 0);
                CHECK(lanes_of(sums.smallest)[row % rows] == *std::min_element(smallest.begin(), smallest.end()));
            }
        }
    }
}
