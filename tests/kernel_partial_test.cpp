// SPDX-License-Identifier: BSD-3-Clause
#include <scaledot/kernel/partial.hpp>

#include "support/attention_cases.hpp"
#include "support/guarded_memory.hpp"
#include "support/mpfr_number.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <initializer_list>
#include <limits>
#include <vector>

namespace kernel = scaledot::kernel;
using namespace test_support;
using arch = scaledot::native_architecture;

namespace {

template <class T>
struct partial {
    std::vector<T> output = std::vector<T>(2 * kernel::lanes<arch, T>);
    T maximum = minus_infinity_of<T>();
    T sum = 0;

    partial() = default;
    partial(T value, T largest, T weights) : maximum(largest), sum(weights)
    {
        for (std::size_t c = 0; c < output.size(); ++c) {
            output[c] = value * static_cast<T>(c + 1);
        }
    }

    kernel::partial_row<T> row() { return {output.data(), &maximum, &sum, nullptr}; }

    bool same(const partial& other) const
    {
        return std::memcmp(output.data(), other.output.data(), output.size() * sizeof(T)) == 0 &&
               std::memcmp(&maximum, &other.maximum, sizeof maximum) == 0 &&
               std::memcmp(&sum, &other.sum, sizeof sum) == 0;
    }
};

template <class T>
partial<T> merged(partial<T> into, partial<T> from)
{
    kernel::merge<arch>(into.row(), from.row(), into.output.size());
    return into;
}

} // namespace

TEST_CASE_TEMPLATE("has_nan_bits and is_negative_infinity_bits tell NaN of either sign and -inf from the rest", T,
                   float, double)
{
    CHECK(kernel::has_nan_bits(nan_of<T>()));
    CHECK(kernel::has_nan_bits(std::copysign(nan_of<T>(), T(-1))));
    for (const T x : {infinity_of<T>(), minus_infinity_of<T>(), T(0), T(-1), std::numeric_limits<T>::max()}) {
        CHECK(!kernel::has_nan_bits(x));
    }
    CHECK(kernel::is_negative_infinity_bits(minus_infinity_of<T>()));
    for (const T x : {infinity_of<T>(), nan_of<T>(), T(0), std::numeric_limits<T>::lowest()}) {
        CHECK(!kernel::is_negative_infinity_bits(x));
    }
}

TEST_CASE_TEMPLATE("exp_of: exactly 1 at 0, 0 at -inf, exp between", T, float, double)
{
    CHECK(kernel::exp_of<arch>(T(0)) == 1);
    CHECK(kernel::exp_of<arch>(T(-0.0)) == 1);
    CHECK(kernel::exp_of<arch>(minus_infinity_of<T>()) == 0);
    CHECK(kernel::exp_of<arch>(T(-1)) == doctest::Approx(std::exp(-1.0)));
}

TEST_CASE_TEMPLATE("merge: an empty partial changes no bit of the other, from either side", T, float, double)
{
    for (const T value : {T(1), T(-0.0), infinity_of<T>(), nan_of<T>()}) {
        for (const T maximum : {T(2), std::numeric_limits<T>::lowest(), nan_of<T>()}) {
            const partial<T> some(value, maximum, T(1.5));
            CHECK(merged(some, partial<T>()).same(some));
            CHECK(merged(partial<T>(), some).same(some));
        }
    }
    CHECK(merged(partial<T>(), partial<T>()).same(partial<T>()));
}

TEST_CASE_TEMPLATE("merge: rescales the part with the smaller maximum and adds", T, float, double)
{
    for (const double gap : {0.0, 0.5, 3.0, 50.0, 1000.0}) {
        const partial<T> high(T(3), T(10), T(1.25));
        const partial<T> low(T(-7), static_cast<T>(10 - gap), T(2));
        for (const auto& p : {merged(high, low), merged(low, high)}) {
            CHECK(p.maximum == T(10));
            const double weight = std::exp(-gap);
            const double epsilon = static_cast<double>(std::numeric_limits<T>::epsilon());
            CHECK(std::abs(static_cast<double>(p.sum) - (1.25 + 2 * weight)) <= 4 * epsilon);
            for (std::size_t c = 0; c < p.output.size(); ++c) {
                const double n = static_cast<double>(c + 1);
                CHECK(std::abs(static_cast<double>(p.output[c]) - (3 - 7 * weight) * n) <= 4 * epsilon * 10 * n);
            }
        }
    }
    const partial<T> high(T(3), std::numeric_limits<T>::max(), T(1));
    const partial<T> low(T(7), std::numeric_limits<T>::lowest(), T(1)); // the difference overflows: weight 0
    CHECK(merged(high, low).same(high));
    CHECK(merged(low, high).same(high));
}

TEST_CASE_TEMPLATE("merge: a NaN part makes the whole NaN", T, float, double)
{
    const partial<T> some(T(1), T(2), T(3));
    const partial<T> bad(nan_of<T>(), nan_of<T>(), nan_of<T>());
    for (const auto& p : {merged(some, bad), merged(bad, some), merged(bad, bad)}) {
        CHECK(all_nan(p.output));
        CHECK(all_nan(std::vector<T>{p.maximum, p.sum}));
    }
}

namespace {

/// Sums of weights in lanes, a vector for each of some rows, and the maxima and sums of as many rows, whole vectors.
template <class T>
struct open_rows {
    static constexpr std::size_t lanes = kernel::lanes<arch, T>;
    static constexpr std::size_t most = 3 * lanes;

    alignas(64) std::array<T, most * lanes> weights{};
    std::array<T, most> maxima{};
    std::array<T, most> sums{};

    void close(std::size_t count) { kernel::close_rows<arch>(weights.data(), count, maxima.data(), sums.data()); }
};

} // namespace

TEST_CASE_TEMPLATE("close_rows: sums of lanes become the sums, by the tree of sum_of_lanes; maxima stay", T, float,
                   double)
{
    using rows = open_rows<T>;
    for (std::size_t count = 1; count <= 2 * rows::lanes + 1; ++count) {
        rows open;
        for (std::size_t i = 0; i < open.weights.size(); ++i) {
            open.weights[i] = static_cast<T>(1 + i % 7) / static_cast<T>(3 + i % 11);
        }
        const std::array maxima{T(-3), std::numeric_limits<T>::lowest(), minus_infinity_of<T>(), T(7)};
        for (std::size_t r = 0; r < open.maxima.size(); ++r) {
            open.maxima[r] = maxima[r % maxima.size()];
        }
        const rows before = open;
        open.close(count);
        for (std::size_t r = 0; r < count; ++r) {
            const T* const of_row = before.weights.data() + r * rows::lanes;
            CHECK(open.sums[r] == kernel::sum_of_lanes(kernel::batch<arch, T>::load_unaligned(of_row)));
            CHECK(std::memcmp(&open.maxima[r], &before.maxima[r], sizeof(T)) == 0);
        }
    }
#if !defined(__FAST_MATH__) // which takes a zero's sign for nothing
    rows open;
    open.weights.fill(T(1));
    open.maxima.fill(T(-0.0));
    open.close(1);
    CHECK(all_zero(std::vector<T>{open.maxima[0]}));
#endif
}

TEST_CASE_TEMPLATE("close_rows: NaN or an infinity in any lane makes maximum and sum of its row NaN, whatever the "
                   "maximum is",
                   T, float, double)
{
    using rows = open_rows<T>;
    for (std::size_t lane = 0; lane < rows::lanes; ++lane) {
        for (const T bad : {nan_of<T>(), std::copysign(nan_of<T>(), T(-1)), infinity_of<T>()}) {
            for (const T maximum : {T(1), minus_infinity_of<T>(), infinity_of<T>()}) {
                for (const std::size_t row : {std::size_t{0}, rows::lanes - 1, rows::lanes}) {
                    rows open;
                    open.weights.fill(T(1));
                    open.maxima.fill(T(2));
                    open.weights[row * rows::lanes + lane] = bad;
                    open.maxima[row] = maximum;
                    open.close(rows::lanes + 1);
                    for (std::size_t r = 0; r <= rows::lanes; ++r) {
                        if (r == row) {
                            CHECK(all_nan(std::vector<T>{open.maxima[r], open.sums[r]}));
                        } else {
                            CHECK(open.maxima[r] == T(2));
                            CHECK(open.sums[r] == static_cast<T>(rows::lanes));
                        }
                    }
                }
            }
        }
    }
}

TEST_CASE_TEMPLATE("all_finite: finds a single NaN or infinity wherever it stands, in any number of vectors", T, float,
                   double)
{
    constexpr std::size_t lanes = kernel::lanes<arch, T>;
    for (std::size_t count = 0; count <= 9 * lanes; count += lanes) {
        std::vector<T> x(count + 1, T(-1.5));
        x[count] = nan_of<T>(); // past the end
        CHECK(kernel::all_finite<arch>(x.data(), count));
        for (std::size_t i = 0; i < count; ++i) {
            for (const T bad :
                 {nan_of<T>(), std::copysign(nan_of<T>(), T(-1)), infinity_of<T>(), minus_infinity_of<T>()}) {
                auto y = x;
                y[i] = bad;
                CHECK(!kernel::all_finite<arch>(y.data(), count));
            }
            for (const T good : {std::numeric_limits<T>::max(), std::numeric_limits<T>::lowest(), T(0)}) {
                auto y = x;
                y[i] = good;
                CHECK(kernel::all_finite<arch>(y.data(), count));
            }
        }
    }
}

namespace {

/// A double that is a few roundings away from exact.
bool is_close(double computed, const mpfr_number& exact)
{
    return error_in_ulp<double>(computed, exact, exact) <= 4;
}

} // namespace

TEST_CASE_TEMPLATE("total_of: a sink of -inf is none, and the row stays what it is", T, float, double)
{
    for (const T maximum : {T(2), T(-1e4), std::numeric_limits<T>::max()}) {
        partial<T> p(T(1), maximum, T(1.25));
        const auto total = kernel::total_of(p.maximum, p.sum, minus_infinity_of<double>());
        CHECK(total.maximum == static_cast<double>(maximum));
        CHECK(total.sum == 1.25);
        CHECK(total.kept == 1);
    }
}

TEST_CASE_TEMPLATE("total_of: a sink is one more exponential in the sum, smaller or larger than the maximum", T, float,
                   double)
{
    for (const double sink : {-1e300, -100.0, -3.0, 1.5, 2.0, 2.5, 10.0, 600.0, 1e300}) {
        partial<T> p(T(1), T(2), T(1.25));
        const auto total = kernel::total_of(p.maximum, p.sum, sink);
        CAPTURE(sink);
        CHECK(total.maximum == std::max(2.0, sink));
        const mpfr_number largest(std::max(2.0, sink));
        const mpfr_number kept = exp(mpfr_number(2) - largest);
        const mpfr_number sum = mpfr_number(1.25) * kept + exp(mpfr_number(sink) - largest);
        CHECK(is_close(total.sum, sum));
        if (smallest_normal<double>() < kept) {
            CHECK(is_close(total.kept, kept));
        } else {
            CHECK(total.kept == 0);
        }
        CHECK(total.kept <= 1);
        CHECK(is_close(kernel::lse_of(total), largest + log(sum)));
    }
}

TEST_CASE_TEMPLATE("total_of: NaN for a row that is NaN, and for a sink of NaN or +inf", T, float, double)
{
    const auto all_of_total = [](T maximum, T sum, double sink) {
        partial<T> p(T(1), maximum, sum);
        const auto total = kernel::total_of(p.maximum, p.sum, sink);
        return std::array{total.maximum, total.sum, total.kept, kernel::lse_of(total)};
    };
    for (const double sink : {minus_infinity_of<double>(), 0.0, infinity_of<double>(), nan_of<double>()}) {
        const auto total = all_of_total(nan_of<T>(), nan_of<T>(), sink);
        CHECK(all_nan(std::array{total[0], total[1], total[3]}));
    }
    CHECK(all_nan(all_of_total(T(2), T(1), nan_of<double>())));
    CHECK(all_nan(all_of_total(T(2), T(1), std::copysign(nan_of<double>(), -1.0))));
    CHECK(all_nan(all_of_total(T(2), T(1), infinity_of<double>())));
}

TEST_CASE_TEMPLATE("total_of: without a key the sink is all there is, nothing of the output is kept", T, float, double)
{
    for (const double sink : {minus_infinity_of<double>(), -3.0, 1e300}) {
        const auto total = kernel::total_of(minus_infinity_of<T>(), T(0), sink);
        const double lse = kernel::lse_of(total);
        CHECK(std::memcmp(&total.maximum, &sink, sizeof sink) == 0);
        CHECK(std::memcmp(&lse, &sink, sizeof sink) == 0);
        CHECK(total.kept == 0);
        const auto factor = kernel::factor_of(total, T(1));
        CHECK(all_zero(std::vector<T>{factor.high, factor.low}));
    }
}

TEST_CASE("lse_of: the maximum plus the logarithm of the sum")
{
    for (const double maximum : {-700.0, -0.5, 0.0, 3.0, 1e10}) {
        for (const double sum : {1.0, 1.0000001, 2.5, 1e6}) {
            const mpfr_number exact = mpfr_number(maximum) + log(mpfr_number(sum));
            // of the larger of both terms: they may cancel
            const double error = error_in_ulp<double>(kernel::lse_of({maximum, sum, 1}), exact,
                                                      mpfr_number(std::max(std::abs(maximum), std::log(sum) + 1)));
            CHECK(error <= 2);
        }
    }
}

namespace {

/// Of write_row, in units in the last place: the rounding of the product, and next to nothing of the quotient. Where
/// the machine has no fused multiply-add, the product and its correction round one after the other.
template <class T>
constexpr double write_row_max_ulp = (kernel::fused<kernel::batch<arch, T>> ? 0.5 : 1.0) + 0x1p-20;

/// Rounding to a narrower type comes on top.
template <class T, class O>
constexpr double narrowed_max_ulp = std::is_same_v<T, O> ? write_row_max_ulp<T> : 0.5 + 0x1p-10;

/// A storage type for results of arithmetic in T.
template <class Arithmetic, class Output>
struct written_as {
    using arithmetic = Arithmetic;
    using output = Output;
};

} // namespace

TEST_CASE_TEMPLATE("find_factors: those of each row's total, to the bit; none where a row is unusual", T, float, double)
{
    constexpr std::size_t rows = 6 * kernel::lanes<arch, T>;
    const auto drawn = gaussians<T, 1>({2 * rows}, 3);
    std::vector<T> maxima(drawn.begin(), drawn.begin() + rows);
    std::vector<T> sums(rows);
    std::transform(drawn.begin() + rows, drawn.end(), sums.begin(), [](T x) { return 1 + std::abs(x) * 9; });
    kernel::row_factors<T, rows> factors;
    for (std::size_t count = 1; count <= rows; ++count) {
        for (const T scale : {T(1), T(0x1p-12)}) {
            REQUIRE(kernel::find_factors<arch>(maxima.data(), sums.data(), count, scale, factors));
            for (std::size_t r = 0; r < count; ++r) {
                const auto total = kernel::total_of(maxima[r], sums[r], minus_infinity_of<double>());
                const auto expected = kernel::factor_of(total, scale);
                CHECK(factors[r].high == expected.high);
                CHECK(factors[r].low == expected.low);
            }
        }
        for (const T unusual : {nan_of<T>(), infinity_of<T>(), minus_infinity_of<T>()}) {
            auto some = maxima;
            some[count - 1] = kernel::barrier(unusual);
            CHECK_FALSE(kernel::find_factors<arch>(some.data(), sums.data(), rows, T(1), factors));
            CHECK((count == 1 || kernel::find_factors<arch>(some.data(), sums.data(), count - 1, T(1), factors)));
        }
    }
}

TEST_CASE_TEMPLATE("write_row: kept / sum times the output within write_row_max_ulp, at every length, nothing past it",
                   W, written_as<float, float>, written_as<double, double>, written_as<float, xtl::half_float>,
                   written_as<float, scaledot::bfloat16>, written_as<double, float>)
{
    using T = typename W::arithmetic;
    using O = typename W::output;
    constexpr std::size_t lanes = kernel::lanes<arch, T>;
    double worst = 0;
    for (std::size_t size = 0; size <= 4 * lanes + 1; ++size) {
        const std::size_t padded = (size + lanes - 1) / lanes * lanes;
        for (const T scale : {T(1), T(0x1p-12)}) {
            const auto random = gaussians<T, 1>({padded + 2}, static_cast<unsigned>(size + 1));
            std::vector<T> output(random.begin(), random.end());
            const T sum = std::abs(output[padded]) + 1;
            // A sum of keys alone is a number of T, one with a sink in it a double.
            const double kept = size % 2 == 0 ? 1 : std::exp(-std::abs(static_cast<double>(output[padded + 1])));
            const kernel::row_total total{0, size % 2 == 0 ? static_cast<double>(sum) : 1 + kept / 3, kept};
            const guarded_memory<O> written(size, 0);
            kernel::write_row<arch>(output.data(), kernel::factor_of(total, scale), size, written.data(), 0);
            for (std::size_t c = 0; c < size; ++c) {
                const mpfr_number exact = mpfr_number(static_cast<double>(output[c])) * mpfr_number(kept) /
                                          mpfr_number(total.sum) / mpfr_number(static_cast<double>(scale));
                worst = std::max(worst, error_in_ulp<O>(as_double(written.data()[c]), exact, exact));
            }
        }
    }
    MESSAGE("write_row: ", worst, " ulp");
    CHECK(worst <= narrowed_max_ulp<T, O>);
}

TEST_CASE_TEMPLATE("write_row: a row with one key of weight 1 is that key's value, bit for bit", T, float, double)
{
    constexpr std::size_t size = 3 * kernel::lanes<arch, T> - 1;
    const auto values = gaussians<T, 1>({size + 1}, 5);
    std::vector<T> output(values.begin(), values.end());
    for (const T scale : {T(1), T(0x1p-9)}) {
        std::vector<T> scaled(size + 1), written(size, T(99));
        std::transform(output.begin(), output.end(), scaled.begin(), [&](T x) { return x * scale; });
        kernel::write_row<arch>(scaled.data(), kernel::factor_of({0, 1, 1}, scale), size, written.data(), 0);
        CHECK(std::equal(written.begin(), written.end(), output.begin()));
    }
}

TEST_CASE_TEMPLATE("write_row: a row or a sink that is NaN, or a sink of +inf, makes all of it NaN", T, float, double)
{
    constexpr std::size_t size = kernel::lanes<arch, T> + 1;
    struct {
        T output, maximum, sum;
        double sink;
    } const cases[] = {
        {nan_of<T>(), nan_of<T>(), nan_of<T>(), minus_infinity_of<double>()},
        {nan_of<T>(), nan_of<T>(), nan_of<T>(), 0.5},
        {T(1), T(2), T(3), nan_of<double>()},
        {T(1), T(2), T(3), infinity_of<double>()},
    };
    for (const auto& c : cases) {
        partial<T> p(kernel::barrier(c.output), kernel::barrier(c.maximum), kernel::barrier(c.sum));
        std::vector<T> written(size, T(99));
        const auto total = kernel::total_of(p.maximum, p.sum, kernel::barrier(c.sink));
        kernel::write_row<arch>(p.output.data(), kernel::factor_of(total, T(1)), size, written.data(), 0);
        CHECK(all_nan(written));
    }
}
