// SPDX-License-Identifier: BSD-3-Clause
#include <scaledot/rms_norm.hpp>

#include "support/mpfr_number.hpp"
#include "support/norm_rows.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <vector>

#if __has_include(<xtensor/views/xview.hpp>)
#include <xtensor/misc/xmanipulation.hpp>
#include <xtensor/views/xview.hpp>
#else
#include <xtensor/xmanipulation.hpp>
#include <xtensor/xview.hpp>
#endif

namespace sd = scaledot;
using namespace test_support;
using scaledot::detail::is_nan;

namespace {

template <class Row>
mpfr_number exact_inverse(const Row& row, double epsilon)
{
    mpfr_number squares(0);
    for (const auto x : row) {
        const mpfr_number value(as_double(x));
        squares += value * value;
    }
    return mpfr_number(1) / sqrt(squares / mpfr_number(static_cast<double>(row.size())) + mpfr_number(epsilon));
}

/// The largest error of y, of every step-th element, in ulp of the exact value; a NaN counts as infinitely wrong.
template <class Y, class Row, class Gamma>
double worst_error(const Y& y, const Row& x, const Gamma& gamma, double epsilon, std::size_t step = 1)
{
    using element = typename Y::value_type;
    const mpfr_number inverse = exact_inverse(x, epsilon);
    double worst = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
        if (is_nan(as_double(y(i)))) {
            return 1e300;
        }
        if (i % step != 0) {
            continue;
        }
        const mpfr_number exact = mpfr_number(as_double(x(i))) * inverse * mpfr_number(as_double(gamma(i)));
#if defined(__FAST_MATH__) // which flushes subnormal numbers
        if (abs(exact) < smallest_normal<element>()) {
            continue;
        }
#endif
        worst = std::max(worst, error_in_ulp<element>(as_double(y(i)), exact, exact));
    }
    return worst;
}

template <class A, class B>
bool same_bits(const A& a, const B& b)
{
    return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(), [](double x, double y) {
               return std::bit_cast<std::uint64_t>(x) == std::bit_cast<std::uint64_t>(y);
           });
}

} // namespace

TEST_CASE_TEMPLATE("rms_norm: the error is at most rms_norm_max_ulp at every length and for every hurtful row", T,
                   float, double, xtl::half_float, sd::bfloat16)
{
    const std::size_t vector = sd::kernel::lanes<sd::native_architecture, float>;
    for (std::size_t length = 1; length <= 4 * vector + 2; ++length) {
        const std::size_t n = length == 4 * vector + 2 ? 768 : length;
        const auto gamma = gaussian<T>(n, 0, 1, 1);
        for (const auto& row : hurtful_rows<T>(n)) {
            const auto x = rounded_to<T>(row.values);
            const bool zero = std::all_of(x.begin(), x.end(), [](T value) { return as_double(value) == 0; });
            for (const double epsilon : {0.0, 1e-6}) {
                if (epsilon == 0 && zero) {
                    continue;
                }
                CAPTURE(row.name);
                CAPTURE(n);
                CAPTURE(epsilon);
                CHECK(worst_error(sd::rms_norm(x, gamma, {.epsilon = epsilon}), x, gamma, epsilon) <=
                      sd::rms_norm_max_ulp);
            }
        }
    }
}

TEST_CASE_TEMPLATE("rms_norm: the bound holds for numbers next to 0 beside others, times any gamma", T, float, double,
                   sd::bfloat16)
{
    for (const std::size_t length : {5u, 40u, 64u, 65u, 300u}) {
        for (const int largest : {-120, -60, 0, 60, 120}) {
            for (const int gamma_range : {0, 40, 130}) {
                xt::xtensor<T, 1> x = gaussian<T>(length, 0, 1, 5);
                xt::xtensor<T, 1> gamma = gaussian<T>(length, 0, 1, 6);
                for (std::size_t i = 0; i < length; ++i) {
                    const int down = static_cast<int>(i * 37 % 140);
                    const int along = static_cast<int>(i * 11 % 13) - 6;
                    x(i) = from_double<T>(std::ldexp(as_double(x(i)), largest - (i == 1 ? 0 : down)));
                    gamma(i) = from_double<T>(std::ldexp(as_double(gamma(i)), along * gamma_range / 7));
#if defined(__FAST_MATH__) // which takes subnormal numbers for 0
                    const double least = 0x1p-126;
                    x(i) = std::abs(as_double(x(i))) < least ? from_double<T>(least) : x(i);
                    gamma(i) = std::abs(as_double(gamma(i))) < least ? from_double<T>(least) : gamma(i);
#endif
                }
                CAPTURE(length);
                CAPTURE(largest);
                CAPTURE(gamma_range);
                for (const double epsilon : {0.0, 1e-6}) {
                    CHECK(worst_error(sd::rms_norm(x, gamma, {.epsilon = epsilon}), x, gamma, epsilon) <=
                          sd::rms_norm_max_ulp);
                }
            }
        }
    }
}

TEST_CASE_TEMPLATE("rms_norm: the bound holds for a row of 10^6 elements", T, float, double)
{
    const std::size_t length = 1'000'000;
    const auto x = gaussian<T>(length, 3, 100, 7);
    const auto gamma = gaussian<T>(length, 0.3, 0.1, 8);
    CHECK(worst_error(sd::rms_norm(x, gamma), x, gamma, 1e-5, 23) <= sd::rms_norm_max_ulp);
}

TEST_CASE("rms_norm: a row of doubles has the same bits whatever its neighbours, and wherever it lies")
{
    for (std::size_t length = 1; length <= 70; ++length) {
        const auto kinds = hurtful_rows<double>(length);
        const std::size_t rows = kinds.size() + 5;
        xt::xtensor<double, 2> x = xt::xtensor<double, 2>::from_shape({rows, length + 1});
        for (std::size_t r = 0; r < rows; ++r) {
            xt::view(x, r, xt::range(0, length)) = kinds[r % kinds.size()].values;
        }
        x(kinds.size(), length / 2) = sd::kernel::quiet_nan<double>();
        const auto gamma = gaussian<double>(length, 0, 1, 4);
        const auto y = sd::rms_norm(xt::view(x, xt::all(), xt::range(0, length)), gamma);
        CAPTURE(length);
        CHECK(is_nan(y(kinds.size(), 0)));
        for (std::size_t r = 0; r < rows; ++r) {
            if (r != kinds.size()) {
                const xt::xtensor<double, 1> alone = xt::view(x, r, xt::range(0, length));
                CHECK(same_bits(sd::rms_norm(alone, gamma), xt::xtensor<double, 1>(xt::view(y, r, xt::all()))));
            }
        }
    }
}

TEST_CASE("rms_norm: epsilon counts where the mean square is small, and neither overflows")
{
    const xt::xtensor<double, 1> ones = xt::ones<double>({19});
    for (const double epsilon : {1e-300, 1e-5, 1e10}) {
        for (const double size : {1e-150, 1e-6, 1.0, 1e150, 1e307}) {
            const auto x = gaussian<double>(19, 0, size, 5);
            CAPTURE(epsilon);
            CAPTURE(size);
            CHECK(worst_error(sd::rms_norm(x, {.epsilon = epsilon}), x, ones, epsilon) <= sd::rms_norm_max_ulp);
        }
    }
}

TEST_CASE("rms_norm: x, gamma and out may each have an element type of their own; without gamma it is 1")
{
    const auto x = gaussian<sd::bfloat16>(77, 3, 2, 1);
    const auto gamma = gaussian<double>(77, 1, 0.5, 2);
    auto wide = xt::xtensor<double, 1>::from_shape({77});
    sd::rms_norm_into(wide, x, gamma);
    CHECK(worst_error(wide, x, gamma, 1e-5) <= sd::rms_norm_max_ulp);
    static_assert(std::is_same_v<decltype(sd::rms_norm(x, gamma)), xt::xtensor<sd::bfloat16, 1>>);
    const xt::xtensor<double, 1> ones = xt::ones<double>({77});
    sd::rms_norm_into(wide, gamma);
    CHECK(same_bits(wide, sd::rms_norm(gamma, ones)));
}

TEST_CASE("rms_norm: strided blocks of two axes are normalised in place, a column view through a copy")
{
    const auto data = gaussian<float>(4 * 9 * 40, 1, 2, 3);
    const xt::xtensor<float, 3> large = xt::reshape_view(data, {4, 9, 40});
    const auto part = xt::view(large, xt::all(), xt::range(2, 7), xt::range(3, 24));
    const xt::xtensor<float, 2> gamma = xt::reshape_view(gaussian<float>(5 * 21, 0, 1, 5), {5, 21});
    xt::xtensor<float, 3> target = xt::zeros<float>({4, 8, 30});
    sd::rms_norm_into(xt::view(target, xt::all(), xt::range(1, 6), xt::range(4, 25)), part, gamma, {.axis = -2});
    const auto flat = [](const auto& e) { return xt::xtensor<float, 1>(xt::flatten(e)); };
    for (std::size_t r = 0; r < 4; ++r) {
        const auto y = flat(xt::view(target, r, xt::range(1, 6), xt::range(4, 25)));
        CHECK(worst_error(y, flat(xt::view(part, r, xt::all(), xt::all())), flat(gamma), 1e-5) <= sd::rms_norm_max_ulp);
    }
    CHECK(target(0, 0, 5) == 0);
    CHECK(target(3, 1, 25) == 0);
    const auto column = xt::view(large, 0, xt::all(), 7);
    CHECK(same_bits(sd::rms_norm(column), sd::rms_norm(xt::xtensor<float, 1>(column))));
}

TEST_CASE("rms_norm: no bit depends on the row's position or the number of threads, and out may be x")
{
    xt::xtensor<float, 2> x = xt::reshape_view(gaussian<float>(67 * 1001, 1, 2, 3), {67, 1001});
    const xt::xtensor<float, 2> y = sd::rms_norm(x);
    for (std::size_t r = 0; r < 67; r += 11) {
        const xt::xtensor<float, 1> alone = xt::view(x, r, xt::all());
        CHECK(same_bits(sd::rms_norm(alone), xt::xtensor<float, 1>(xt::view(y, r, xt::all()))));
    }
    thread_per_task pool(3);
    const sd::executor_scope scope(pool);
    CHECK(same_bits(sd::rms_norm(x), y));
    sd::rms_norm_into(x, x);
    CHECK(same_bits(x, y));
}

TEST_CASE_TEMPLATE("rms_norm: NaN or infinity spoils its row and no other; zeros are NaN only when epsilon is 0", T,
                   float, double, xtl::half_float, sd::bfloat16)
{
    const xt::xtensor<T, 2> clean = xt::reshape_view(gaussian<T>(3 * 37, 1, 2, 3), {3, 37});
    const auto expected = sd::rms_norm(clean);
    for (const double bad : {sd::kernel::quiet_nan<double>(), sd::kernel::infinity<double>}) {
        xt::xtensor<T, 2> x = clean;
        x(1, 20) = from_double<T>(bad);
        const auto result = sd::rms_norm_with_statistics(x);
        for (std::size_t i = 0; i < 37; ++i) {
            CHECK(is_nan(as_double(result.output(1, i))));
            CHECK(as_double(result.output(0, i)) == as_double(expected(0, i)));
            CHECK(as_double(result.output(2, i)) == as_double(expected(2, i)));
        }
        CHECK(is_nan(static_cast<double>(result.inverse_root_mean_square(1, 0))));
    }
    const xt::xtensor<T, 1> zeros = xt::xtensor<T, 1>({37}, from_double<T>(0));
    for (const T y : sd::rms_norm(zeros)) {
        CHECK(as_double(y) == 0);
    }
    for (const T y : sd::rms_norm(zeros, {.epsilon = 0.0})) {
        CHECK(is_nan(as_double(y)));
    }
}

TEST_CASE_TEMPLATE("rms_norm: the statistic is the exact one rounded once, of x's rank, in float or double", T, float,
                   double, xtl::half_float, sd::bfloat16)
{
    using statistic = std::conditional_t<std::is_same_v<T, double>, double, float>;
    constexpr double rounded_once = 0.5001; // the number rounded carries at least 12 bits more
    for (const std::size_t length : {std::size_t{1}, std::size_t{3}, std::size_t{768}}) {
        for (const auto& row : hurtful_rows<T>(length)) {
            CAPTURE(row.name);
            CAPTURE(length);
            const auto x = rounded_to<T>(row.values);
            const auto result = sd::rms_norm_with_statistics(x);
            static_assert(std::is_same_v<std::decay_t<decltype(result.inverse_root_mean_square(0))>, statistic>);
            const mpfr_number exact = exact_inverse(x, 1e-5);
            if (exact < smallest_normal<statistic>()) {
                continue; // subnormal numbers are rounded twice, and flushed to 0 under -ffast-math
            }
            const auto inverse = static_cast<double>(result.inverse_root_mean_square(0));
            CHECK(error_in_ulp<statistic>(inverse, exact, exact) <= rounded_once);
        }
    }
    const xt::xtensor<T, 3> x = xt::reshape_view(gaussian<T>(2 * 3 * 4, 0, 1, 1), {2, 3, 4});
    const auto result = sd::rms_norm_with_statistics(x, {.axis = 1});
    CHECK(result.inverse_root_mean_square.shape(0) == 2);
    CHECK(result.inverse_root_mean_square.shape(1) == 1);
}

TEST_CASE("rms_norm: no rows give no output, rows without elements a statistic that is NaN")
{
    const xt::xtensor<float, 2> no_rows = xt::xtensor<float, 2>::from_shape({0, 5});
    CHECK(sd::rms_norm(no_rows).shape(1) == 5);
    const xt::xtensor<float, 2> no_elements = xt::xtensor<float, 2>::from_shape({3, 0});
    const auto result = sd::rms_norm_with_statistics(no_elements);
    CHECK(result.output.size() == 0);
    CHECK(is_nan(static_cast<double>(result.inverse_root_mean_square(2, 0))));
}

TEST_CASE("rms_norm: bad arguments are named, with what they were and what they must be")
{
    xt::xtensor<float, 2> x = xt::ones<float>({4, 6});
    const xt::xtensor<float, 1> seven = xt::ones<float>({7});
    CHECK(complaint_of([&] { sd::rms_norm(x, {.axis = 2}); }) ==
          "scaledot: axis was 2, must be in [-2, 1] for an array of rank 2");
    for (const double epsilon : {-1e-5, sd::kernel::quiet_nan<double>(), sd::kernel::infinity<double>}) {
        CHECK(complaint_of([&] { sd::rms_norm(x, {.epsilon = epsilon}); }).find("epsilon was") != std::string::npos);
    }
    CHECK(complaint_of([&] { sd::rms_norm(x, seven); }) ==
          "scaledot: the shape of gamma was (7,), must be (6,), that of x from axis on");
    xt::xtensor<float, 2> small = xt::ones<float>({4, 5});
    CHECK(complaint_of([&] { sd::rms_norm_into(small, x); }) ==
          "scaledot: the shape of out was (4, 5), must be (4, 6), that of x");
    CHECK(complaint_of([&] { sd::rms_norm_into(x, x, xt::view(x, 1, xt::all())); }).find("shared with gamma") !=
          std::string::npos);
}

TEST_CASE("rms_norm: shared or repeated elements are an error also where the last axis is not contiguous")
{
    xt::xtensor<float, 2> x = xt::ones<float>({6, 10});
    const auto columns = [&](std::size_t from) {
        return xt::transpose(xt::view(x, xt::all(), xt::range(from, from + 6)));
    };
    CHECK(complaint_of([&] { sd::rms_norm_into(columns(1), columns(0)); }).find("shared in part with x") !=
          std::string::npos);
    std::array<float, 36> memory{};
    const auto repeated = [&] {
        return xt::adapt(memory.data(), 36, xt::no_ownership(), std::array<std::size_t, 2>{6, 6},
                         std::array<std::ptrdiff_t, 2>{2, 2});
    };
    CHECK(complaint_of([&] {
              sd::rms_norm_into(repeated(), xt::xtensor<float, 2>(xt::ones<float>({6, 6})));
          }).find("several indices for one") != std::string::npos);
}
