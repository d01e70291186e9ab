// SPDX-License-Identifier: BSD-3-Clause
#include <scaledot/layer_norm.hpp>

#include "support/mpfr_number.hpp"
#include "support/norm_rows.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
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

/// The textbook's E[x^2] - E[x]^2 in 384 bits.
struct exact_moments {
    mpfr_number mean;
    mpfr_number inverse;

    template <class Row>
    exact_moments(const Row& row, double epsilon) : mean(0), inverse(0)
    {
        mpfr_number squares(0);
        for (const auto x : row) {
            const mpfr_number value(as_double(x));
            mean += value;
            squares += value * value;
        }
        const mpfr_number n(static_cast<double>(row.size()));
        mean = mean / n;
        inverse = mpfr_number(1) / sqrt(squares / n - mean * mean + mpfr_number(epsilon));
    }
};

/// The largest error of y, of every step-th element, in ulp of max(|y|, |gamma * normalised x|, |beta|); a NaN counts
/// as infinitely wrong.
template <class Y, class Row, class Gamma, class Beta>
double worst_error(const Y& y, const Row& x, const Gamma& gamma, const Beta& beta, double epsilon, std::size_t step = 1)
{
    using element = typename Y::value_type;
    const exact_moments exact(x, epsilon);
    double worst = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
        if (is_nan(as_double(y(i)))) {
            return 1e300;
        }
        if (i % step != 0) {
            continue;
        }
        const mpfr_number scaled =
            (mpfr_number(as_double(x(i))) - exact.mean) * exact.inverse * mpfr_number(as_double(gamma(i)));
        const mpfr_number offset(as_double(beta(i)));
        const mpfr_number sum = scaled + offset;
        const mpfr_number reference = std::max({abs(sum), abs(scaled), abs(offset)});
        worst = std::max(worst, error_in_ulp<element>(as_double(y(i)), sum, reference));
    }
    return worst;
}

template <class T>
bool varies(const xt::xtensor<T, 1>& row)
{
    return std::any_of(row.begin(), row.end(), [&](T x) { return as_double(x) != as_double(row(0)); });
}

std::vector<std::size_t> lengths_around_vectors()
{
    std::vector<std::size_t> lengths;
    for (std::size_t n = 1; n <= 4 * sd::kernel::lanes<sd::native_architecture, float> + 1; ++n) {
        lengths.push_back(n);
    }
    lengths.push_back(768);
    return lengths;
}

template <class A, class B>
bool same_bits(const A& a, const B& b)
{
    return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(), [](double x, double y) {
               return std::bit_cast<std::uint64_t>(x) == std::bit_cast<std::uint64_t>(y);
           });
}

} // namespace

TEST_CASE_TEMPLATE("layer_norm: the error is at most layer_norm_max_ulp at every length and for every hurtful row", T,
                   float, double, xtl::half_float, sd::bfloat16)
{
    for (const std::size_t length : lengths_around_vectors()) {
        const auto gamma = gaussian<T>(length, 0, 1, 1);
        const auto beta = gaussian<T>(length, 0, 0.1, 2);
        for (const auto& row : hurtful_rows<T>(length)) {
            const auto x = rounded_to<T>(row.values);
            for (const double epsilon : {0.0, 1e-5}) {
                if (epsilon == 0 && !varies(x)) {
                    continue;
                }
                CAPTURE(row.name);
                CAPTURE(length);
                CAPTURE(epsilon);
                const auto y = sd::layer_norm(x, gamma, beta, {.epsilon = epsilon});
                CHECK(worst_error(y, x, gamma, beta, epsilon) <= sd::layer_norm_max_ulp);
            }
        }
    }
}

TEST_CASE_TEMPLATE("layer_norm: the bound holds for elements next to the mean, which then ends in digits of 1 / length",
                   T, float, double)
{
    // 49 * (1 / 49.0) is not 1: there the mean of a balanced row is met only by a corrected quotient.
    for (const std::size_t length : {std::size_t{3}, std::size_t{9}, std::size_t{31}, std::size_t{49}, std::size_t{100},
                                     std::size_t{127}, std::size_t{769}, std::size_t{2500}}) {
        const xt::xtensor<T, 1> one = xt::ones<T>({length});
        const xt::xtensor<T, 1> none = xt::zeros<T>({length});
        for (unsigned seed = 0; seed < (length < 1000 ? 30u : 6u); ++seed) {
            CAPTURE(length);
            CAPTURE(seed);
            const T digits = static_cast<T>(seed % 3) * std::numeric_limits<T>::epsilon();
            const xt::xtensor<T, 1> numbers = gaussian<T>(length, 0, 0.1, seed);
            xt::xtensor<T, 1> equal = one + numbers(0);
            equal(length / 2) += digits;
            CHECK(worst_error(sd::layer_norm(equal), equal, one, none, 1e-5) <= sd::layer_norm_max_ulp);
            xt::xtensor<T, 1> balanced = one; // but for a last digit
            for (std::size_t i = 2; i + 2 < length; i += 2) {
                balanced(i) += std::clamp(numbers(i), T(-0.4), T(0.4));
                balanced(i + 1) -= balanced(i) - 1;
            }
            balanced(0) += digits;
            CHECK(worst_error(sd::layer_norm(balanced), balanced, one, none, 1e-5) <= sd::layer_norm_max_ulp);
            xt::xtensor<T, 1> cancelling = none; // to a mean of 0, which one element or more are
            for (std::size_t i = 1; i + 2 < length; i += 3) {
                cancelling(i) = cancelling(i + 1) = numbers(i);
                cancelling(i + 2) = -2 * numbers(i);
            }
            CHECK(worst_error(sd::layer_norm(cancelling), cancelling, one, none, 1e-5) <= sd::layer_norm_max_ulp);
        }
    }
}

TEST_CASE_TEMPLATE("layer_norm: the bound holds for rows of 10^5 and 10^6 elements whose mean is 10^6 deviations", T,
                   float, double)
{
    for (const std::size_t length : {std::size_t{100'000}, std::size_t{1'000'000}}) {
        const auto x = gaussian<T>(length, 1e6, 1, 7);
        const auto gamma = gaussian<T>(length, 0.3, 0.1, 8);
        const auto beta = gaussian<T>(length, 0, 0.1, 9);
        CAPTURE(length);
        CHECK(worst_error(sd::layer_norm(x, gamma, beta), x, gamma, beta, 1e-5, 23) <= sd::layer_norm_max_ulp);
    }
}

TEST_CASE(
    "layer_norm: the bound holds, and statistics are rounded once, however many deviations the mean of doubles is")
{
    for (const std::size_t length : {std::size_t{3}, std::size_t{8}, std::size_t{61}, std::size_t{300}}) {
        const auto gamma = gaussian<double>(length, 0, 1, 1);
        const xt::xtensor<double, 1> none = xt::zeros<double>({length});
        for (double mean = 1; mean < 1e9; mean *= 5) {
            for (const double size : {1e-70, 1.0, 1e70}) {
                CAPTURE(length);
                CAPTURE(mean);
                CAPTURE(size);
                const auto x = gaussian<double>(length, mean * size, size, 4);
                const auto result = sd::layer_norm_with_statistics(x, gamma, {.epsilon = 0.0});
                CHECK(worst_error(result.output, x, gamma, none, 0) <= sd::layer_norm_max_ulp);
                const exact_moments exact(x, 0);
                CHECK(error_in_ulp<double>(result.mean(0), exact.mean, exact.mean) <= 0.5001);
                CHECK(error_in_ulp<double>(result.inverse_standard_deviation(0), exact.inverse, exact.inverse) <=
                      0.5001);
            }
        }
    }
}

TEST_CASE("layer_norm: x, gamma, beta and out may each have an element type of their own")
{
    const auto x = gaussian<xtl::half_float>(77, 3, 2, 1);
    const auto gamma = gaussian<sd::bfloat16>(77, 1, 0.5, 2);
    const auto beta = gaussian<float>(77, 0, 1, 3);
    const auto precise_beta = gaussian<double>(77, 0, 1, 3);
    auto narrow = xt::xtensor<float, 1>::from_shape({77});
    sd::layer_norm_into(narrow, x, gamma, beta);
    CHECK(worst_error(narrow, x, gamma, beta, 1e-5) <= sd::layer_norm_max_ulp);
    auto wide = xt::xtensor<double, 1>::from_shape({77});
    sd::layer_norm_into(wide, x, gamma, precise_beta);
    CHECK(worst_error(wide, x, gamma, precise_beta, 1e-5) <= sd::layer_norm_max_ulp);
    static_assert(std::is_same_v<decltype(sd::layer_norm(x, gamma, precise_beta)), xt::xtensor<xtl::half_float, 1>>);
}

TEST_CASE("layer_norm: epsilon counts where the variance is small, and neither it nor its scaling overflows")
{
    for (const double epsilon : {1e-300, 1e-12, 1e-5, 1.0, 1e10, 1e300}) {
        for (const double size : {1e-150, 1e-6, 1.0, 1e150}) {
            const auto x = gaussian<double>(19, size, size, 5);
            const xt::xtensor<double, 1> one = xt::ones<double>({19});
            const xt::xtensor<double, 1> none = xt::zeros<double>({19});
#if defined(__FAST_MATH__) // which flushes subnormal numbers, here the last bits of y = 1e-300
            if (size / std::sqrt(epsilon) < 1e-290) {
                continue;
            }
#endif
            CAPTURE(epsilon);
            CAPTURE(size);
            CHECK(worst_error(sd::layer_norm(x, {.epsilon = epsilon}), x, one, none, epsilon) <=
                  sd::layer_norm_max_ulp);
        }
    }
}

TEST_CASE("layer_norm: gamma alone is gamma with beta 0, and neither is gamma 1 with beta 0")
{
    const auto x = gaussian<float>(50, 2, 3, 1);
    const auto gamma = gaussian<float>(50, 0, 1, 2);
    const xt::xtensor<float, 1> zeros = xt::zeros<float>({50});
    const xt::xtensor<float, 1> ones = xt::ones<float>({50});
    CHECK(same_bits(sd::layer_norm(x, gamma), sd::layer_norm(x, gamma, zeros)));
    CHECK(same_bits(sd::layer_norm(x), sd::layer_norm(x, ones, zeros)));
    auto out = xt::xtensor<float, 1>::from_shape({50});
    sd::layer_norm_into(out, x, gamma, {.epsilon = 0.0});
    CHECK(same_bits(out, sd::layer_norm(x, gamma, zeros, {.epsilon = 0.0})));
    sd::layer_norm_into(out, x);
    CHECK(same_bits(out, sd::layer_norm(x)));
}

TEST_CASE("layer_norm: axis names the first normalised axis; the block is all axes from it on")
{
    const auto data = gaussian<float>(2 * 3 * 4, 0, 1, 3);
    xt::xarray<float> x = xt::reshape_view(data, {2, 3, 4});
    const xt::xarray<float> two = sd::layer_norm(x, {.axis = 1});
    const xt::xarray<float> whole = sd::layer_norm(x, {.axis = 0});
    CHECK(same_bits(two, sd::layer_norm(xt::xarray<float>(xt::reshape_view(data, {2, 12})))));
    CHECK(same_bits(whole, sd::layer_norm(data)));
    CHECK(same_bits(two, sd::layer_norm(x, {.axis = -2})));
    CHECK(two.shape() == x.shape());
    xt::xtensor<float, 2> gamma = xt::ones<float>({3, 4});
    gamma(2, 1) = 2;
    CHECK(sd::layer_norm(x, gamma, {.axis = 1})(1, 2, 1) == 2 * two(1, 2, 1));
}

TEST_CASE("layer_norm: strided views are read and written in place, also when a block is several segments")
{
    const std::size_t rows = 3, inner = 5, columns = 21;
    const auto data = gaussian<float>(rows * 9 * 40, 1, 2, 3);
    const xt::xtensor<float, 3> large = xt::reshape_view(data, {rows, std::size_t{9}, std::size_t{40}});
    const auto part = xt::view(large, xt::all(), xt::range(2, 7), xt::range(3, 24));
    const xt::xtensor<float, 3> x = part;
    const xt::xtensor<float, 2> gamma = xt::reshape_view(gaussian<float>(inner * columns, 0, 1, 5), {inner, columns});
    const xt::xtensor<float, 2> beta = xt::reshape_view(gaussian<float>(inner * columns, 0, 1, 6), {inner, columns});

    xt::xtensor<float, 3> target = xt::zeros<float>({rows, std::size_t{8}, std::size_t{30}});
    sd::layer_norm_into(xt::view(target, xt::all(), xt::range(1, 6), xt::range(4, 25)), part, gamma, beta, {.axis = 1});
    for (std::size_t r = 0; r < rows; ++r) {
        const auto flat = [&](const auto& e) { return xt::xtensor<float, 1>(xt::flatten(e)); };
        const xt::xtensor<float, 2> y = xt::view(target, r, xt::range(1, 6), xt::range(4, 25));
        CHECK(worst_error(flat(y), flat(xt::view(x, r, xt::all(), xt::all())), flat(gamma), flat(beta), 1e-5) <=
              sd::layer_norm_max_ulp);
    }
    float outside = 0;
    for (std::size_t r = 0; r < rows; ++r) {
        for (std::size_t i = 0; i < 8; ++i) {
            for (std::size_t j = 0; j < 30; ++j) {
                outside += (i < 1 || i >= 6 || j < 4 || j >= 25) ? std::abs(target(r, i, j)) : 0;
            }
        }
    }
    CHECK(outside == 0);
    CHECK(same_bits(sd::layer_norm(part), sd::layer_norm(x)));
}

TEST_CASE("layer_norm: views whose last axis is not contiguous, other layouts and lazy expressions give the same")
{
    const auto data = gaussian<float>(6 * 40, 1, 2, 3);
    const xt::xtensor<float, 2> x = xt::reshape_view(data, {6, 40});
    const xt::xtensor<float, 2> y = sd::layer_norm(x);
    const xt::xtensor<float, 2> transposed = xt::transpose(x);
    CHECK(same_bits(sd::layer_norm(xt::transpose(transposed)), y));
    const xt::xtensor<float, 2, xt::layout_type::column_major> columns = x;
    CHECK(same_bits(sd::layer_norm(columns), y));
    CHECK(same_bits(sd::layer_norm(x + 0.f), y));
    xt::xtensor<float, 2> wide = xt::zeros<float>({6, 80});
    sd::layer_norm_into(xt::view(wide, xt::all(), xt::range(0, 80, 2)), x);
    CHECK(same_bits(xt::xtensor<float, 2>(xt::view(wide, xt::all(), xt::range(0, 80, 2))), y));
    CHECK(xt::sum(xt::abs(xt::view(wide, xt::all(), xt::range(1, 80, 2))))() == 0);
}

TEST_CASE("layer_norm: no bit depends on the alignment, the row's position or the number of threads")
{
    const std::size_t rows = 67, columns = 1001;
    const auto data = gaussian<float>(rows * columns, 1, 2, 3);
    const xt::xtensor<float, 2> x = xt::reshape_view(data, {rows, columns});
    const auto gamma = gaussian<float>(columns, 0, 1, 4);
    const auto beta = gaussian<float>(columns, 0, 1, 5);
    const xt::xtensor<float, 2> y = sd::layer_norm(x, gamma, beta);
    for (std::size_t r = 0; r < rows; ++r) {
        const xt::xtensor<float, 1> alone = xt::view(x, r, xt::all());
        CHECK(same_bits(sd::layer_norm(alone, gamma, beta), xt::xtensor<float, 1>(xt::view(y, r, xt::all()))));
    }
    for (const std::size_t threads : {std::size_t{2}, std::size_t{3}, std::size_t{8}}) {
        thread_per_task pool(threads);
        const sd::executor_scope scope(pool);
        CHECK(same_bits(sd::layer_norm(x, gamma, beta), y));
    }
    std::vector<float> buffer(columns + 32);
    for (std::size_t shift = 0; shift < 17; ++shift) {
        std::copy_n(data.begin(), columns, buffer.begin() + static_cast<std::ptrdiff_t>(shift));
        const auto shifted = xt::adapt(buffer.data() + shift, columns, xt::no_ownership(), std::array{columns});
        CHECK(same_bits(sd::layer_norm(shifted, gamma, beta), xt::xtensor<float, 1>(xt::view(y, 0, xt::all()))));
    }
}

TEST_CASE("layer_norm: a row of doubles has the same bits whatever its neighbours, and wherever it lies")
{
    for (const std::size_t length : lengths_around_vectors()) {
        const auto kinds = hurtful_rows<double>(length);
        const std::size_t rows = 2 * kinds.size() + 2;
        xt::xtensor<double, 2> x = xt::xtensor<double, 2>::from_shape({rows, length});
        for (std::size_t r = 0; r < rows; ++r) {
            xt::view(x, r, xt::all()) = kinds[r % kinds.size()].values;
        }
        x(rows - 1, 0) = sd::kernel::quiet_nan<double>();
        x(rows - 2, length - 1) = sd::kernel::infinity<double>;
        const auto gamma = gaussian<double>(length, 0, 1, 4);
        const auto beta = gaussian<double>(length, 0, 1, 5);
        const auto whole = sd::layer_norm_with_statistics(x, gamma, beta);
        CHECK(is_nan(whole.output(rows - 1, length - 1)));
        CHECK(is_nan(whole.output(rows - 2, 0)));
        CAPTURE(length);
        const auto row_of = [](const auto& y, std::size_t r) {
            return xt::xtensor<double, 1>(xt::view(y, r, xt::all()));
        };
        for (std::size_t r = 0; r < rows - 2; ++r) {
            const auto alone = sd::layer_norm_with_statistics(row_of(x, r), gamma, beta);
            CHECK(same_bits(alone.output, row_of(whole.output, r)));
            CHECK(same_bits(alone.mean, row_of(whole.mean, r)));
            CHECK(same_bits(alone.inverse_standard_deviation, row_of(whole.inverse_standard_deviation, r)));
        }
        const auto check = [&](const xt::xtensor<double, 2>& y, std::size_t first, bool backwards) {
            for (std::size_t i = 0; i < y.shape(0); ++i) {
                const std::size_t r = backwards ? rows - 1 - i : first + i;
                CHECK((r >= rows - 2 || same_bits(row_of(y, i), row_of(whole.output, r))));
            }
        };
        check(sd::layer_norm(xt::view(x, xt::range(3, rows), xt::all()), gamma, beta), 3, false);
        check(sd::layer_norm(xt::view(x, xt::range(rows - 1, xt::placeholders::_, -1), xt::all()), gamma, beta), 0,
              true);
        xt::xtensor<double, 3> apart = xt::zeros<double>({std::size_t{2}, rows, length + 3});
        auto part = xt::view(apart, xt::all(), xt::range(0, rows - 3), xt::range(1, length + 1));
        part = xt::view(x, xt::newaxis(), xt::range(0, rows - 3), xt::all());
        sd::layer_norm_into(part, part, gamma, beta);
        check(xt::view(part, 0, xt::all(), xt::all()), 0, false);
        check(xt::view(part, 1, xt::all(), xt::all()), 0, false);
    }
}

TEST_CASE_TEMPLATE("layer_norm: a row has the same bits in an array so large that it is written past the caches", T,
                   float, double, sd::bfloat16)
{
    const std::size_t columns = 4099; // rows begin at every address a vector can
    const std::size_t rows = sd::kernel::cached_bytes / (2 * sizeof(T) * columns) + 1;
    const auto numbers = gaussian<T>(columns + rows, 1, 2, 3);
    const auto gamma = gaussian<T>(columns, 0, 1, 4);
    const auto beta = gaussian<T>(columns, 0, 1, 5);
    xt::xtensor<T, 2> x = xt::xtensor<T, 2>::from_shape({rows, columns});
    for (std::size_t r = 0; r < rows; ++r) {
        std::copy_n(numbers.data() + r, columns, x.data() + r * columns);
    }
    const xt::xtensor<T, 2> y = sd::layer_norm(x, gamma, beta);
    for (std::size_t r = 0; r < rows; r += r < 20 ? 1 : rows / 7) {
        const xt::xtensor<T, 1> alone = xt::view(x, r, xt::all());
        const xt::xtensor<T, 1> found = xt::view(y, r, xt::all());
        CHECK(same_bits(sd::layer_norm(alone, gamma, beta), found));
    }
}

TEST_CASE("layer_norm: out may be x itself")
{
    xt::xtensor<double, 2> x = xt::reshape_view(gaussian<double>(4 * 33, 1, 2, 3), {4, 33});
    const xt::xtensor<double, 2> y = sd::layer_norm(x);
    sd::layer_norm_into(x, x);
    CHECK(same_bits(x, y));
}

TEST_CASE_TEMPLATE("layer_norm: NaN or infinity spoils its row and no other", T, float, double, xtl::half_float,
                   sd::bfloat16)
{
    const xt::xtensor<T, 1> data = gaussian<T>(3 * 37, 1, 2, 3);
    const xt::xtensor<T, 2> clean = xt::reshape_view(data, {3, 37});
    const auto expected = sd::layer_norm(clean);
    const double infinity = sd::kernel::infinity<double>;
    for (const double bad : {sd::kernel::quiet_nan<double>(), infinity, -infinity}) {
        for (const std::size_t column : {std::size_t{0}, std::size_t{20}, std::size_t{36}}) {
            xt::xtensor<T, 2> x = clean;
            x(1, column) = from_double<T>(bad);
            const auto result = sd::layer_norm_with_statistics(x);
            for (std::size_t i = 0; i < 37; ++i) {
                CHECK(is_nan(as_double(result.output(1, i))));
                CHECK(as_double(result.output(0, i)) == as_double(expected(0, i)));
                CHECK(as_double(result.output(2, i)) == as_double(expected(2, i)));
            }
            CHECK(is_nan(static_cast<double>(result.mean(1, 0))));
            CHECK(is_nan(static_cast<double>(result.inverse_standard_deviation(1, 0))));
            CHECK(!is_nan(static_cast<double>(result.mean(2, 0))));
        }
    }
}

TEST_CASE_TEMPLATE("layer_norm: NaN in gamma or beta, whatever its bits, spoils its column and no other", T, float,
                   xtl::half_float, sd::bfloat16)
{
    for (const std::uint32_t bits : {0x7fc00000u, 0xffc00000u, 0x7fffffffu, 0xffffffffu}) {
        for (const std::size_t length : {std::size_t{9}, std::size_t{64}, std::size_t{301}}) {
            const xt::xtensor<T, 2> x = xt::reshape_view(gaussian<T>(3 * length, 1, 2, 3), {std::size_t{3}, length});
            xt::xtensor<float, 1> gamma = xt::ones<float>({length});
            xt::xtensor<float, 1> beta = xt::zeros<float>({length});
            gamma(2) = std::bit_cast<float>(bits);
            beta(length - 1) = std::bit_cast<float>(bits);
            const auto y = sd::layer_norm(x, gamma, beta);
            for (std::size_t row = 0; row < 3; ++row) {
                for (std::size_t i = 0; i < length; ++i) {
                    CHECK(is_nan(as_double(y(row, i))) == (i == 2 || i == length - 1));
                }
            }
        }
    }
}

TEST_CASE_TEMPLATE("layer_norm: a constant row is beta, and NaN when epsilon is 0", T, float, double, xtl::half_float,
                   sd::bfloat16)
{
    for (const std::size_t length :
         {std::size_t{1}, std::size_t{7}, std::size_t{49}, std::size_t{768}, std::size_t{100'000}}) {
        for (const double value : {0.0, 0.1, -3.3, 1e4}) {
            const T element = from_double<T>(value);
            const xt::xtensor<T, 1> x = xt::xtensor<T, 1>({length}, element);
            const auto gamma = gaussian<T>(length, 0, 1, 2);
            const auto beta = gaussian<T>(length, 0, 1, 3);
            CAPTURE(length);
            CAPTURE(value);
            const auto y = sd::layer_norm(x, gamma, beta);
            CHECK(std::equal(y.begin(), y.end(), beta.begin(), [](T a, T b) { return as_double(a) == as_double(b); }));
            const auto bare = sd::layer_norm(x);
            CHECK(std::all_of(bare.begin(), bare.end(), [](T a) { return as_double(a) == 0; }));
            const auto result = sd::layer_norm_with_statistics(x, {.epsilon = 0.0});
            CHECK(std::all_of(result.output.begin(), result.output.end(), [](T a) { return is_nan(as_double(a)); }));
            CHECK(static_cast<double>(result.mean(0)) == as_double(element));
            CHECK(sd::detail::is_positive_infinity(static_cast<double>(result.inverse_standard_deviation(0))));
        }
    }
}

TEST_CASE_TEMPLATE("layer_norm: the statistics are the exact ones rounded once, of x's rank, in float or double", T,
                   float, double, xtl::half_float, sd::bfloat16)
{
    using statistic = std::conditional_t<std::is_same_v<T, double>, double, float>;
    constexpr double rounded_once = 0.5001; // the number rounded carries at least 12 bits more
    for (const std::size_t length :
         {std::size_t{1}, std::size_t{2}, std::size_t{3}, std::size_t{17}, std::size_t{768}}) {
        for (const auto& row : hurtful_rows<T>(length)) {
            CAPTURE(row.name);
            CAPTURE(length);
            const auto x = rounded_to<T>(row.values);
            const auto result = sd::layer_norm_with_statistics(x);
            static_assert(std::is_same_v<std::decay_t<decltype(result.mean(0))>, statistic>);
            const exact_moments exact(x, 1e-5);
            const auto mean = static_cast<double>(result.mean(0));
            const auto inverse = static_cast<double>(result.inverse_standard_deviation(0));
            CHECK(error_in_ulp<statistic>(mean, exact.mean, exact.mean) <= rounded_once);
            if (exact.inverse < smallest_normal<statistic>()) {
                continue; // subnormal numbers are rounded twice, and flushed to 0 under -ffast-math
            }
            CHECK(error_in_ulp<statistic>(inverse, exact.inverse, exact.inverse) <= rounded_once);
        }
    }
    const xt::xarray<T> x = xt::reshape_view(gaussian<T>(2 * 3 * 4, 0, 1, 1), {2, 3, 4});
    const auto result = sd::layer_norm_with_statistics(x, {.axis = 1});
    CHECK(result.mean.dimension() == 3);
    CHECK(result.mean.shape(0) == 2);
    CHECK(result.mean.shape(1) == 1);
    CHECK(result.inverse_standard_deviation.shape(2) == 1);
}

TEST_CASE("layer_norm: the statistics are right where the elements vanish beside epsilon")
{
    for (const double size : {1e-297, 1e-200, 1e-10}) {
        CAPTURE(size);
        const xt::xtensor<double, 1> x = {size, 3 * size, 2 * size, 2 * size};
        const auto result = sd::layer_norm_with_statistics(x, {.epsilon = 1e300});
        CHECK(std::abs(result.mean(0) - 2 * size) <= 4e-16 * size);
        CHECK(std::abs(result.inverse_standard_deviation(0) - 1e-150) <= 1e-165);
    }
}

TEST_CASE("layer_norm: no rows give no output, rows without elements a mean that is NaN")
{
    const xt::xtensor<float, 2> no_rows = xt::xtensor<float, 2>::from_shape({0, 5});
    const xt::xtensor<float, 1> gamma = xt::ones<float>({5});
    CHECK(sd::layer_norm(no_rows, gamma).shape(1) == 5);
    CHECK(sd::layer_norm_with_statistics(no_rows).mean.size() == 0);
    const xt::xtensor<float, 2> no_elements = xt::xtensor<float, 2>::from_shape({3, 0});
    const auto result = sd::layer_norm_with_statistics(no_elements);
    CHECK(result.output.size() == 0);
    CHECK(result.mean.size() == 3);
    CHECK(is_nan(static_cast<double>(result.mean(2, 0))));
    CHECK(is_nan(static_cast<double>(result.inverse_standard_deviation(0, 0))));
}

TEST_CASE("layer_norm: bad arguments are named, with what they were and what they must be")
{
    xt::xtensor<float, 2> x = xt::ones<float>({4, 6});
    const xt::xtensor<float, 1> six = xt::ones<float>({6});
    const xt::xtensor<float, 1> seven = xt::ones<float>({7});
    const xt::xtensor<float, 2> row = xt::ones<float>({1, 6});
    CHECK(complaint_of([&] { sd::layer_norm(x, {.axis = 2}); }) ==
          "scaledot: axis was 2, must be in [-2, 1] for an array of rank 2");
    CHECK(complaint_of([&] { sd::layer_norm_with_statistics(x, {.axis = -3}); }).find("axis was -3") !=
          std::string::npos);
    for (const double epsilon : {-1e-5, sd::kernel::quiet_nan<double>(), sd::kernel::infinity<double>}) {
        CHECK(complaint_of([&] { sd::layer_norm(x, {.epsilon = epsilon}); }).find("epsilon was") != std::string::npos);
    }
    CHECK(complaint_of([&] { sd::layer_norm(x, seven); }) ==
          "scaledot: the shape of gamma was (7,), must be (6,), that of x from axis on");
    CHECK(complaint_of([&] { sd::layer_norm(x, six, row); }) ==
          "scaledot: the shape of beta was (1, 6), must be (6,), that of x from axis on");
    CHECK(complaint_of([&] { sd::layer_norm(x, six, {.axis = 0}); }).find("the shape of gamma") != std::string::npos);
    xt::xtensor<float, 2> small = xt::ones<float>({4, 5});
    CHECK(complaint_of([&] { sd::layer_norm_into(small, x); }) ==
          "scaledot: the shape of out was (4, 5), must be (4, 6), that of x");
    xt::xtensor<float, 2> large = xt::ones<float>({5, 6});
    CHECK(complaint_of([&] {
              sd::layer_norm_into(xt::view(large, xt::range(1, 5), xt::all()),
                                  xt::view(large, xt::range(0, 4), xt::all()));
          }).find("the memory of out was shared in part with x") != std::string::npos);
    CHECK(complaint_of([&] { sd::layer_norm_into(x, x, xt::view(x, 1, xt::all())); }).find("shared with gamma") !=
          std::string::npos);
    CHECK(complaint_of([&] { sd::layer_norm_into(x, x, six, xt::view(x, 0, xt::all())); }).find("shared with beta") !=
          std::string::npos);
}

TEST_CASE("layer_norm: shared or repeated elements are an error also where the last axis is not contiguous")
{
    xt::xtensor<float, 2> x = xt::reshape_view(xt::arange<float>(60), {6, 10});
    const xt::xtensor<float, 2> before = x;
    const auto columns = [&](std::size_t from) {
        return xt::transpose(xt::view(x, xt::all(), xt::range(from, from + 6)));
    };
    CHECK(complaint_of([&] { sd::layer_norm_into(columns(1), columns(0)); }) ==
          "scaledot: the memory of out was shared in part with x, must be its own, or exactly that of x");
    const xt::xtensor<float, 2> other = xt::ones<float>({6, 6});
    CHECK(complaint_of([&] {
              sd::layer_norm_into(columns(1), other, xt::view(x, xt::all(), 2));
          }).find("shared with gamma") != std::string::npos);
    const xt::xtensor<float, 1> six = xt::ones<float>({6});
    CHECK(complaint_of([&] {
              sd::layer_norm_into(columns(1), other, six, xt::view(x, xt::all(), 2));
          }).find("shared with beta") != std::string::npos);
    CHECK(x == before);

    std::vector<float> memory(36);
    const auto strided = [&](std::array<std::ptrdiff_t, 2> strides) {
        return xt::adapt(memory.data(), 36, xt::no_ownership(), std::array<std::size_t, 2>{6, 6}, strides);
    };
    CHECK(complaint_of([&] {
              sd::layer_norm_into(strided({1, 0}), other);
          }).find("the stride of axis 1 of out was 0") != std::string::npos);
    CHECK(complaint_of([&] {
              sd::layer_norm_into(strided({2, 2}), other);
          }).find("several indices for one") != std::string::npos);
    CHECK(complaint_of([&] { sd::layer_norm_into(xt::transpose(x), xt::transpose(x)); }).empty());
}
