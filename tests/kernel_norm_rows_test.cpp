// SPDX-License-Identifier: BSD-3-Clause
#include <scaledot/kernel/norm_rows.hpp>

#include <doctest/doctest.h>
#include <xtl/xhalf_float.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <vector>

namespace sd = scaledot;
using namespace scaledot::kernel;
using arch = sd::native_architecture;
constexpr std::size_t rows = lanes<arch, double>;
constexpr std::size_t vector = lanes<arch, float>;

namespace {

constexpr const absent* none = nullptr;

template <sum_kind Kind = sum_kind::differences, join_kind Join = join_kind::plain, class S = float>
row_normalizations<arch> normalizations(const std::vector<S>& x, double epsilon, const magnitude_range& gamma = {})
{
    std::array<row_sums<arch>, rows> sums;
    row_summation<arch, Kind, S>(x.data(), x.size()).finish(Join, sums[1]);
    return normalizations_of<arch, S, Kind != sum_kind::squares, Join>(sums, x.size(), epsilon, gamma);
}

template <class S = float, sum_kind Kind = sum_kind::differences>
bool is_usual(const std::vector<S>& x, double epsilon = 1e-5)
{
    return normalizations<Kind>(x, epsilon).verdict[1] >= 0;
}

bool is_usual_of_elements(const std::vector<float>& x, double epsilon = 1e-5)
{
    return is_usual<float, sum_kind::elements>(x, epsilon);
}

} // namespace

TEST_CASE("normalizations_of: mean, the rest of the mean, inverse, in the lane of the row")
{
    std::vector<float> x(100);
    for (std::size_t i = 0; i < x.size(); ++i) {
        x[i] = (i % 4 == 0 ? 4.0f : i % 2 == 0 ? 2.0f : 3.0f) + 0x1p-21f;
    }
    x[0] += 0x1p-21f; // the mean is 3 + 1.01 * 2^-21, which floats are too coarse for
    const auto check = [&](const row_normalizations<arch>& n) {
        REQUIRE(n.verdict[1] >= 0);
        CHECK(n.mean[1] == 3 + 0x1p-21f);
        CHECK(std::abs(n.exact_mean[1] - (3 + 1.01 * 0x1p-21)) <= 0x1p-52);
        CHECK(std::abs(n.exact_inverse[1] - std::sqrt(2.0)) <= 1e-6);
        CHECK(n.inverse[1] == static_cast<float>(n.exact_inverse[1]));
        if (fused<batch<arch, double>>) {
            CHECK(std::abs(static_cast<double>(n.offset[1]) / (-0.01 * 0x1p-21 * n.exact_inverse[1]) - 1) <= 0x1p-23);
        }
    };
    check(normalizations<sum_kind::elements>(x, 0));
    check(normalizations<sum_kind::elements, join_kind::paired>(x, 0));
    check(normalizations<sum_kind::differences>(x, 0));
    check(normalizations<sum_kind::differences, join_kind::paired>(x, 0));
    const auto n = normalizations<sum_kind::squares>({3, 4, 5, 0, 0}, 6);
    REQUIRE(n.verdict[1] >= 0);
    CHECK(n.mean[1] == 0);
    CHECK(n.offset[1] == 0);
    CHECK(n.inverse[1] == 0.25f);
}

TEST_CASE("normalizations_of_short_rows: those of normalizations_of, each in the lane of its row")
{
    constexpr std::size_t length = 19;
    std::vector<float> x(vector * length);
    for (std::size_t i = 0; i < x.size(); ++i) {
        x[i] = static_cast<float>(i * i % 23) - 7.5f;
    }
    x[3 * length + 4] = sd::kernel::infinity<float>;
    x[(vector - 1) * length] = 0x1p-60f; // beside which the others' sum need not be exact
    const auto short_rows = normalizations_of_short_rows<arch, true>(x.data(), length, length, 1e-5, {});
    for (std::size_t row = 0; row < vector; ++row) {
        const auto begin = x.begin() + static_cast<std::ptrdiff_t>(row * length);
        const auto alone = normalizations({begin, begin + length}, 1e-5);
        const auto& n = short_rows[row / rows];
        CHECK((n.verdict[row % rows] < 0) == (row == 3 || row == vector - 1));
        CHECK((alone.verdict[1] < 0) == (row == 3 || row == vector - 1));
        if (alone.verdict[1] >= 0) {
            CHECK(n.mean[row % rows] == alone.mean[1]);
            CHECK(n.offset[row % rows] == doctest::Approx(alone.offset[1]).epsilon(1e-6));
            CHECK(n.exact_inverse[row % rows] == doctest::Approx(alone.exact_inverse[1]).epsilon(1e-15));
        }
    }
}

TEST_CASE("normalizations_of: rows that need more care are told")
{
    CHECK(is_usual({1, -2, 0, 3}));
    CHECK(is_usual({0, 0, 0, 0}));
    CHECK(!is_usual({0, 0, 0, 0}, 0.0)); // infinite inverse
    CHECK(is_usual({1, 1, 1, 1}));
    CHECK(!is_usual({1, 1, 1, 1}, 0.0)); // so it is
    CHECK(is_usual({1e4f, 1e4f + 0x1p-10f, 1e4f, 1e4f}));
    CHECK(!is_usual({1, 2, 3, 0x1p-50f}, 0));                      // the sum need not be exact
    CHECK(!is_usual({0x1p-65f, 0x1p-66f, 0x1p-65f, 0x1p-64f}));    // next to underflow
    CHECK(!is_usual({0x1p102f, 0x1p101f, 0x1p102f, 0x1p102f}, 0)); // next to overflow
    CHECK(is_usual({0x1.8p127f, 0x1.8p127f, 0x1.8p127f}, 1e-5));
    CHECK(!is_usual({0x1p-50f, 0x1p-49f, 0x1p-50f, 0}, 1e30)); // results next to underflow
    CHECK(!is_usual({1, 2, sd::kernel::infinity<float>, 3}));
    CHECK(!is_usual({1, 2, sd::kernel::quiet_nan<float>(), 3}));
    CHECK(!is_usual({1, 2, std::bit_cast<float>(0xffc00000u), 3})); // a negative NaN
}

TEST_CASE("normalizations_of: the variance cancels where the mean is far from 0; of differences, where it is far from "
          "the first "
          "element of many")
{
    CHECK(is_usual_of_elements({1, -2, 0, 3}));
    CHECK(!is_usual_of_elements({1, 1, 1, 1}));
    CHECK(!is_usual_of_elements({1e4f, 1e4f + 1, 1e4f, 1e4f + 1}));
    const auto with_first = [](float first, std::size_t length) {
        std::vector<float> x(length);
        for (std::size_t i = 0; i < length; ++i) {
            x[i] = i % 2 ? 1.0f : -1.0f;
        }
        x[0] = first;
        return x;
    };
    CHECK(is_usual(with_first(1000, 1000))); // a mean of 31 deviations is all there can be
    CHECK(is_usual(with_first(10, 16384)));
    CHECK(!is_usual(with_first(16, 16384)));
}

TEST_CASE_TEMPLATE("normalizations_of: a sum that double holds is exact, the better the fewer bits elements have", S,
                   float, sd::bfloat16, xtl::half_float)
{
    // 15 partial sums are below 16, and multiples of the smallest element's last bit.
    const int last_exact = std::numeric_limits<double>::digits - significant_bits<S> - 4;
    const auto with_smallest = [](int exponent) {
        std::vector<S> x(16, S(1.0f));
        x[3] = S(-1.0f);
        x[7] = S(std::ldexp(1.0f, -exponent));
        return x;
    };
    CHECK(is_usual<S>(with_smallest(std::is_same_v<S, xtl::half_float> ? 24 : last_exact - 1)));
    if (!std::is_same_v<S, xtl::half_float>) { // whose smallest is far above that
        CHECK(!is_usual<S>(with_smallest(last_exact + 1)));
    }
}

TEST_CASE("magnitudes_of: the smallest but 0 and the largest, at every length and place; subnormal ones count as 0")
{
    const auto of = [](const std::vector<float>& gamma) { return magnitudes_of<arch>(gamma.data(), gamma.size()); };
    for (std::size_t length = 2; length <= 5 * vector; ++length) {
        for (std::size_t i = 0; i < length; ++i) {
            std::vector<float> gamma(length, -3.0f);
            gamma[i] = 0x1p-126f;
            gamma[(i + 1) % length] = -0x1.8p100f;
            CHECK(of(gamma).least == 0x1p-126);
            CHECK(of(gamma).largest == 0x1.8p100);
            gamma[i] = i % 2 ? 0.0f : -0.0f;
            CHECK(of(gamma).least == (length == 2 ? 0x1.8p100 : 3));
            gamma[i] = std::bit_cast<float>(std::uint32_t{0x80000001});
            CHECK(of(gamma).least == 0);
            gamma[i] = barrier(sd::kernel::quiet_nan<float>());
            CHECK(of(gamma).least == (length == 2 ? 0x1.8p100 : 3));
            CHECK(of(gamma).largest == 0x1.8p100);
            gamma[i] = barrier(sd::kernel::infinity<float>);
            CHECK(of(gamma).largest >= 0x1p128);
        }
    }
    CHECK(of({0, -0.0f, 0}).least == 1);
    CHECK(of({0, -0.0f, 0}).largest == 1);
}

TEST_CASE(
    "normalizations_of: without a mean rows may hold any numbers, but no factor may be next to under- or overflow")
{
    const auto is_usual_for = [](const std::vector<float>& x, const magnitude_range& gamma) {
        return normalizations<sum_kind::squares>(x, 0, gamma).verdict[1] >= 0;
    };
    CHECK(is_usual_for({1, 2, 3, 0x1p-126f}, {}));
    CHECK(is_usual_for({1, 1, 1, 1}, {0x1p-119, 0x1p119}));
    CHECK(!is_usual_for({1, 1, 1, 1}, {0x1p-121, 1}));
    CHECK(!is_usual_for({1, 1, 1, 1}, {1, 0x1p121}));
    CHECK(!is_usual_for({1, 1, 1, 1}, {0, 1}));
    CHECK(is_usual_for({0x1p-30f, 0x1p-30f}, {0x1p-140, 1}));
    CHECK(!is_usual_for({0x1p-30f, 0x1p-30f}, {1, 0x1p100}));
    CHECK(!is_usual_for({1, sd::kernel::infinity<float>}, {}));
}

TEST_CASE_TEMPLATE(
    "row_output: ((x - mean) * inverse + offset) * gamma + beta at every length, place and kind of store", T, float,
    xtl::half_float, sd::bfloat16)
{
    row_normalizations<arch> n{};
    n.mean[1] = 3;
    n.offset[1] = 0.25f;
    n.inverse[1] = 0.5f;
    for (std::size_t count = 1; count <= 5 * vector + 1; ++count) {
        for (const std::size_t shift : {std::size_t{0}, std::size_t{1}, vector - 1}) {
            // exactly so many on the heap, for the address sanitizer to watch the end; all numbers are exact
            const auto x = std::make_unique<T[]>(count);
            const auto gamma = std::make_unique<float[]>(count);
            const auto beta = std::make_unique<sd::bfloat16[]>(count);
            const auto y = std::make_unique<T[]>(shift + count);
            for (std::size_t i = 0; i < count; ++i) {
                x[i] = T(static_cast<float>(i % 8));
                gamma[i] = static_cast<float>(i % 3);
                beta[i] = sd::bfloat16(static_cast<float>(i % 5) - 2);
            }
            const auto check = [&](auto&& expected) {
                for (std::size_t i = 0; i < count; ++i) {
                    const float z = (static_cast<float>(i % 8) - 3) * 0.5f;
                    CHECK(to_arithmetic<float>(y[shift + i]) == expected(z, i));
                }
                std::fill_n(y.get(), shift + count, T(0.0f));
            };
            const auto write = [&]<bool Centred, store_kind Store>(const auto* g, const auto* b) {
                row_output<arch, Centred, Store, T, T, std::remove_cvref_t<decltype(*g)>,
                           std::remove_cvref_t<decltype(*b)>>(y.get() + shift, x.get(), g, b, count, n, 1)
                    .finish();
                fence_stream();
            };
            write.template operator()<true, store_kind::cached>(gamma.get(), beta.get());
            check([&](float z, std::size_t i) { return (z + 0.25f) * gamma[i] + static_cast<float>(beta[i]); });
            write.template operator()<true, store_kind::streamed>(gamma.get(), beta.get());
            check([&](float z, std::size_t i) { return (z + 0.25f) * gamma[i] + static_cast<float>(beta[i]); });
            write.template operator()<true, store_kind::streamed>(gamma.get(), none);
            check([&](float z, std::size_t i) { return (z + 0.25f) * gamma[i]; });
            write.template operator()<false, store_kind::cached>(none, none);
            check([&](float z, std::size_t) { return z + 1.5f; });
        }
    }
}

TEST_CASE("write_and_sum: the row that is written and the one that is summed may be of different lengths")
{
    std::vector<float> x(9 * vector + 3, 2.0f);
    row_normalizations<arch> n{};
    n.inverse.fill(0.5f);
    for (const std::size_t written : {std::size_t{0}, vector, 9 * vector + 3}) {
        for (const std::size_t summed : {std::size_t{0}, 3 * vector, 9 * vector + 3}) {
            std::vector<float> y(x.size(), -1.0f);
            row_summation<arch, sum_kind::elements, float> sum(x.data(), summed);
            write_and_sum(row_output<arch, false, store_kind::cached, float, float, absent, absent>(
                              y.data(), x.data(), none, none, written, n, 0),
                          sum);
            row_sums<arch> total;
            sum.finish(join_kind::plain, total);
            CHECK(sum_of_lanes(total.sum.high) == 2 * static_cast<double>(summed));
            CHECK(std::count(y.begin(), y.end(), 1.0f) == static_cast<std::ptrdiff_t>(written));
        }
    }
}
