// SPDX-License-Identifier: BSD-3-Clause
#include <scaledot/detail/softmax_driver.hpp>

#include "support/norm_rows.hpp"

#include <scaledot/softmax.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#if __has_include(<xtensor/containers/xfixed.hpp>)
#include <xtensor/containers/xfixed.hpp>
#include <xtensor/misc/xmanipulation.hpp>
#else
#include <xtensor/xfixed.hpp>
#include <xtensor/xmanipulation.hpp>
#endif

namespace sd = scaledot;
using namespace test_support;

namespace {

template <class A, class B>
bool same_bits(const A& a, const B& b)
{
    return std::equal(a.shape().begin(), a.shape().end(), b.shape().begin(), b.shape().end()) &&
           std::equal(a.begin(), a.end(), b.begin(), [](auto x, auto y) { return std::memcmp(&x, &y, sizeof x) == 0; });
}

template <class T>
xt::xarray<T> gaussian_array(const std::vector<std::size_t>& shape, unsigned seed)
{
    const std::size_t size = std::accumulate(shape.begin(), shape.end(), std::size_t{1}, std::multiplies<>());
    xt::xarray<T> result = gaussian<T>(size, 0, 3, seed);
    result.reshape(shape);
    return result;
}

/// Rows that kernels treat alike, 32 of them, and then 32 that they do not: the logits of every third are all near 0.
xt::xarray<float> narrow_and_other_rows(std::size_t rows, std::size_t columns)
{
    xt::xarray<float> x = gaussian_array<float>({rows, columns}, 8);
    for (std::size_t row = 0; row < rows; row += 3) {
        if (row / 32 % 2 == 1) {
            xt::view(x, row, xt::all()) *= 0.3f;
        }
    }
    return x;
}

/// Calls use(row of x along the axis, its index in the other axes) for all of them.
template <class T, class Use>
void for_each_row(const xt::xarray<T>& x, std::size_t axis, Use&& use)
{
    const std::size_t length = x.shape(axis);
    const std::size_t rows = length == 0 ? 0 : x.size() / length;
    for (std::size_t r = 0; r < rows; ++r) {
        xt::xstrided_slice_vector slices;
        std::size_t flat = r;
        std::vector<std::size_t> index(x.dimension());
        for (std::size_t i = x.dimension(); i-- > 0;) {
            if (i != axis) {
                index[i] = flat % x.shape(i);
                flat /= x.shape(i);
            }
        }
        for (std::size_t i = 0; i < x.dimension(); ++i) {
            if (i == axis) {
                slices.push_back(xt::all());
            } else {
                slices.push_back(static_cast<std::ptrdiff_t>(index[i]));
            }
        }
        use(slices, r);
    }
}

const std::vector<std::vector<std::size_t>> shapes = {{1},
                                                      {37},
                                                      {1, 1},
                                                      {5, 1},
                                                      {1, 5},
                                                      {7, 33},
                                                      {33, 7},
                                                      {2, 70},
                                                      {3, 4, 5},
                                                      {19, 3, 2},
                                                      {2, 19, 1},
                                                      {2, 1, 19},
                                                      {1, 19, 40},
                                                      {2, 3, 4, 5},
                                                      {2, 1, 9, 1},
                                                      {2, 3, 1, 5, 33},
                                                      {2, 2, 17, 1, 1},
                                                      {1, 1, 1, 1, 6},
                                                      {3, 1, 2, 20, 5}};

} // namespace

TEST_CASE_TEMPLATE("softmax: each row along any axis is the softmax of that row alone", T, float, double,
                   xtl::half_float)
{
    for (const auto& shape : shapes) {
        const xt::xarray<T> x = gaussian_array<T>(shape, 1);
        for (std::size_t axis = 0; axis < shape.size(); ++axis) {
            const auto forwards = static_cast<std::ptrdiff_t>(axis);
            const auto backwards = forwards - static_cast<std::ptrdiff_t>(shape.size());
            for (const double t : {1.0, 0.7, 0.0}) {
                const xt::xarray<T> p = sd::softmax(x, {.axis = forwards, .temperature = t});
                const xt::xarray<T> l = sd::log_softmax(x, {.axis = backwards, .temperature = t});
                const xt::xarray<T> lse = sd::logsumexp(x, {.axis = forwards, .temperature = t});
                REQUIRE(lse.dimension() == shape.size() - 1);
                // in-row sums are added in another order: the last bit may differ
                const double tolerance = std::is_same_v<T, double> ? 4e-16 : std::is_same_v<T, float> ? 3e-7 : 1e-3;
                for_each_row(x, axis, [&](const xt::xstrided_slice_vector& row, std::size_t index) {
                    const xt::xtensor<T, 1> alone = xt::strided_view(x, row);
                    const xt::xtensor<T, 1> expected = sd::softmax(alone, {.temperature = t});
                    const xt::xtensor<T, 1> expected_log = sd::log_softmax(alone, {.temperature = t});
                    const xt::xtensor<T, 1> got = xt::strided_view(p, row);
                    const xt::xtensor<T, 1> got_log = xt::strided_view(l, row);
                    for (std::size_t i = 0; i < alone.size(); ++i) {
                        REQUIRE(as_double(got(i)) == doctest::Approx(as_double(expected(i))).epsilon(tolerance));
                        REQUIRE(
                            (as_double(got_log(i)) == as_double(expected_log(i)) ||
                             as_double(got_log(i)) == doctest::Approx(as_double(expected_log(i))).epsilon(tolerance)));
                    }
                    const double sum = as_double(sd::logsumexp(alone, {.temperature = t})());
                    const double got_sum = as_double(*(lse.begin() + static_cast<std::ptrdiff_t>(index)));
                    REQUIRE((got_sum == sum || got_sum == doctest::Approx(sum).epsilon(tolerance)));
                });
            }
        }
    }
}

TEST_CASE_TEMPLATE("log_softmax: temperatures beyond 2^39 and 2^-40 give what they give near 1, in rows of any length",
                   T, float, double)
{
    for (const std::size_t length : {1u, 5u, 40u, 1000u, 40000u}) {
        const xt::xarray<T> x = gaussian_array<T>({3, length}, 4);
        const xt::xarray<T> expected = sd::log_softmax(x);
        for (const T t : {T(0x1p60), T(0x1p-60)}) {
            xt::xarray<T> y = x * t;
            const xt::xarray<T> columns = xt::transpose(y);
            sd::log_softmax_into(y, y, {.temperature = static_cast<double>(t)});
            const xt::xarray<T> of_columns =
                xt::transpose(sd::log_softmax(columns, {.axis = 0, .temperature = static_cast<double>(t)}));
            const double tolerance = 4 * static_cast<double>(std::numeric_limits<T>::epsilon());
            CHECK(xt::allclose(y, expected, tolerance, tolerance));
            CHECK(xt::allclose(of_columns, expected, tolerance, tolerance));
        }
    }
}

TEST_CASE("softmax: rows side by side agree to the bit with each of them in a column alone")
{
    const xt::xarray<float> x = gaussian_array<float>({41, 37}, 2);
    const xt::xarray<float> p = sd::softmax(x, {.axis = 0});
    for (std::size_t column = 0; column < 37; ++column) {
        // extent 2 along the last axis keeps the row from being contiguous
        const xt::xtensor<float, 2> pair =
            xt::view(x, xt::all(), xt::range(column, std::min<std::size_t>(column + 2, 37)));
        const xt::xtensor<float, 2> alone = sd::softmax(pair, {.axis = 0});
        if (column < 36) {
            CHECK(same_bits(xt::xtensor<float, 1>(xt::view(alone, xt::all(), 0)),
                            xt::xtensor<float, 1>(xt::view(p, xt::all(), column))));
        }
    }
}

TEST_CASE("softmax: containers of every kind and layout give the same bits")
{
    const xt::xarray<double> x = gaussian_array<double>({6, 5, 11}, 3);
    for (const std::ptrdiff_t axis : {0, 1, 2}) {
        const xt::xarray<double> p = sd::softmax(x, {.axis = axis});
        const xt::xtensor<double, 3> tensor = x;
        CHECK(same_bits(sd::softmax(tensor, {.axis = axis}), p));
        const xt::xtensor_fixed<double, xt::xshape<6, 5, 11>> fixed = x;
        CHECK(same_bits(sd::softmax(fixed, {.axis = axis}), p));
        const xt::xtensor<double, 3, xt::layout_type::column_major> columns = x;
        CHECK(same_bits(sd::softmax(columns, {.axis = axis}), p));
        CHECK(same_bits(sd::softmax(x + 0.0, {.axis = axis}), p));
        const xt::xtensor<double, 3> turned = xt::transpose(tensor, {2, 0, 1});
        CHECK(same_bits(sd::softmax(xt::transpose(turned, {1, 2, 0}), {.axis = axis}), p));
        xt::xtensor<double, 3, xt::layout_type::column_major> out = columns;
        sd::softmax_into(out, tensor, {.axis = axis});
        CHECK(same_bits(out, p));
    }
    static_assert(std::is_same_v<decltype(sd::softmax(xt::xtensor<float, 2>())), xt::xtensor<float, 2>>);
    static_assert(std::is_same_v<decltype(sd::softmax(xt::xarray<float>())), xt::xarray<float>>);
    static_assert(std::is_same_v<decltype(sd::logsumexp(xt::xtensor<double, 3>())), xt::xtensor<double, 2>>);
}

TEST_CASE("softmax: trailing axes of extent 1 in other layouts")
{
    const xt::xarray<float> x = gaussian_array<float>({3, 20, 1}, 4);
    const xt::xtensor<float, 3, xt::layout_type::column_major> columns = x;
    xt::xtensor<float, 3, xt::layout_type::column_major> out = columns;
    for (const std::ptrdiff_t axis : {0, 1, 2}) {
        const xt::xarray<float> p = sd::softmax(x, {.axis = axis});
        const auto close = [&](const auto& y) { return xt::allclose(y, p, 1e-6, 0.0); };
        CHECK(close(sd::softmax(columns, {.axis = axis})));
        sd::softmax_into(out, x, {.axis = axis});
        CHECK(close(out));
        CHECK(xt::allclose(sd::logsumexp(columns, {.axis = axis}), sd::logsumexp(x, {.axis = axis}), 1e-6, 0.0));
    }
}

TEST_CASE("softmax: strided views are read and written in place, and nothing beside them is touched")
{
    const xt::xarray<float> large = gaussian_array<float>({4, 9, 50}, 5);
    const auto part = xt::view(large, xt::all(), xt::range(2, 7), xt::range(3, 40));
    const xt::xtensor<float, 3> x = part;
    for (const std::ptrdiff_t axis : {0, 1, 2}) {
        for (const int step : {1, 2}) {
            xt::xtensor<float, 3> target = xt::ones<float>({4, 8, 80}) * 7.f;
            const auto written = [&] {
                return xt::view(target, xt::all(), xt::range(1, 6), xt::range(5, 5 + 37 * step, step));
            };
            sd::softmax_into(written(), part, {.axis = axis});
            CHECK(same_bits(xt::xtensor<float, 3>(written()), sd::softmax(x, {.axis = axis})));
            written() = 7.f;
            CHECK(xt::all(xt::equal(target, 7.f)));
        }
    }
    CHECK(same_bits(sd::softmax(xt::view(large, xt::all(), xt::all(), xt::range(49, xt::placeholders::_, -1))),
                    sd::softmax(xt::xtensor<float, 3>(xt::flip(large, 2)))));
}

TEST_CASE("logsumexp: is written through views, along any axis")
{
    const xt::xarray<float> x = gaussian_array<float>({4, 9, 21}, 6);
    for (const std::ptrdiff_t axis : {0, 1, 2}) {
        const auto expected = sd::logsumexp(x, {.axis = axis});
        xt::xtensor<float, 2> target = xt::ones<float>({expected.shape(0) + 2, 2 * expected.shape(1)}) * 7.f;
        const auto written = [&] {
            return xt::view(target, xt::range(std::size_t{1}, expected.shape(0) + 1),
                            xt::range(std::size_t{0}, 2 * expected.shape(1), std::size_t{2}));
        };
        sd::logsumexp_into(written(), x, {.axis = axis});
        CHECK(same_bits(xt::xarray<float>(written()), expected));
        written() = 7.f;
        CHECK(xt::all(xt::equal(target, 7.f)));
    }
}

TEST_CASE_TEMPLATE("softmax: out may be x itself, contiguous or not", T, float, double, xtl::half_float)
{
    for (const std::ptrdiff_t axis : {0, 1}) {
        xt::xarray<T> x = gaussian_array<T>({37, 70}, 7);
        const xt::xarray<T> p = sd::softmax(x, {.axis = axis});
        const xt::xarray<T> l = sd::log_softmax(x, {.axis = axis});
        xt::xarray<T> y = x;
        sd::softmax_into(y, y, {.axis = axis});
        CHECK(same_bits(y, p));
        y = x;
        sd::log_softmax_into(y, y, {.axis = axis});
        CHECK(same_bits(y, l));
        y = x;
        sd::softmax_into(xt::transpose(y), xt::transpose(y), {.axis = 1 - axis});
        CHECK(xt::allclose(xt::cast<double>(y), xt::cast<double>(p), 1e-3, 1e-3));
    }
}

TEST_CASE("softmax: memory shared in part, or an output that repeats elements, is an error")
{
    xt::xtensor<float, 2> x = xt::ones<float>({6, 30});
    const auto shifted = [&](std::size_t by) { return xt::view(x, xt::all(), xt::range(by, by + 20)); };
    CHECK(complaint_of([&] { sd::softmax_into(shifted(1), shifted(0)); }).find("shared in part with x") !=
          std::string::npos);
    CHECK(complaint_of([&] { sd::softmax_into(shifted(0), shifted(9), {.axis = 0}); }).find("in part") !=
          std::string::npos);
    CHECK(complaint_of([&] { sd::log_softmax_into(xt::view(x, xt::range(0, 5)), xt::view(x, xt::range(1, 6))); }) !=
          std::string());
    CHECK(complaint_of([&] { sd::logsumexp_into(xt::view(x, 0, xt::range(0, 6)), x); }).find("shared with x") !=
          std::string::npos);
    const auto half = [&](int from) { return xt::view(x, xt::all(), xt::range(from, from + 15)); };
    CHECK(complaint_of([&] { sd::softmax_into(half(0), half(15)); }).empty());
    xt::xtensor<float, 1> one = xt::ones<float>({30});
    const auto repeated = [&] {
        return xt::strided_view(one, std::vector<std::size_t>{3, 30}, std::vector<std::ptrdiff_t>{0, 1}, 0,
                                xt::layout_type::dynamic);
    };
    CHECK(complaint_of([&] {
              sd::softmax_into(repeated(), xt::xtensor<float, 2>(xt::ones<float>({3, 30})));
          }).find("the stride of axis 0 of out was 0") != std::string::npos);
    CHECK(same_bits(sd::softmax(repeated()), sd::softmax(xt::xtensor<float, 2>(repeated()))));
}

TEST_CASE("softmax: shared or repeated elements are an error also where the last axis is not contiguous")
{
    const xt::xtensor<float, 2> before = xt::reshape_view(xt::arange<float>(60), {6, 10});
    xt::xtensor<float, 2> x = before;
    const auto columns = [&](std::size_t from) {
        return xt::transpose(xt::view(x, xt::all(), xt::range(from, from + 6)));
    };
    CHECK(complaint_of([&] { sd::softmax_into(columns(1), columns(0)); }) ==
          "scaledot: the memory of out was shared in part with x, must be its own, or exactly that of x");
    CHECK(complaint_of([&] {
              sd::log_softmax_into(columns(4), xt::view(x, xt::range(0, 6), xt::range(0, 6)));
          }).find("shared in part with x") != std::string::npos);
    CHECK(complaint_of([&] { sd::logsumexp_into(xt::view(x, xt::all(), 3), columns(0)); }).find("shared with x") !=
          std::string::npos);

    xt::xtensor<float, 1> one = xt::ones<float>({30});
    const auto strided = [&](std::vector<std::ptrdiff_t> strides) {
        return xt::strided_view(one, std::vector<std::size_t>{3, 4}, std::move(strides), 0, xt::layout_type::dynamic);
    };
    const xt::xtensor<float, 2> logits = xt::ones<float>({3, 4});
    CHECK(complaint_of([&] {
              sd::softmax_into(strided({4, 0}), logits);
          }).find("the stride of axis 1 of out was 0") != std::string::npos);
    CHECK(complaint_of([&] {
              sd::log_softmax_into(strided({2, 2}), logits);
          }).find("several indices for one") != std::string::npos);
    CHECK(complaint_of([&] {
              sd::logsumexp_into(strided({2, 2}), xt::xtensor<float, 3>(xt::ones<float>({3, 4, 2})));
          }).find("several indices for one") != std::string::npos);
    CHECK(xt::all(xt::equal(one, 1.f)));
    CHECK(same_bits(x, before));

    const auto all = [&] { return xt::transpose(x); };
    CHECK(complaint_of([&] { sd::softmax_into(all(), all()); }).empty()); // the very same elements
    CHECK(complaint_of([&] { sd::softmax_into(x, x + 1.f); }).empty());   // an expression is computed first
}

TEST_CASE("softmax: axes without elements give results without elements, or logsumexp -inf")
{
    for (const auto& shape : std::vector<std::vector<std::size_t>>{{0}, {3, 0}, {0, 3}, {2, 0, 4}, {0, 0}}) {
        const xt::xarray<float> x = xt::xarray<float>::from_shape(shape);
        for (std::size_t axis = 0; axis < shape.size(); ++axis) {
            for (const double t : {1.0, 0.5, 0.0, sd::kernel::infinity<double>}) {
                const sd::softmax_options options{.axis = static_cast<std::ptrdiff_t>(axis), .temperature = t};
                CHECK(sd::softmax(x, options).size() == 0);
                CHECK(sd::log_softmax(x, options).size() == 0);
                const auto lse = sd::logsumexp(x, options);
                CHECK(std::all_of(lse.begin(), lse.end(),
                                  [](float y) { return std::bit_cast<std::uint32_t>(y) == 0xff800000u; }));
            }
        }
    }
    CHECK(sd::logsumexp(xt::xtensor<float, 2>::from_shape({3, 0})).size() == 3);
}

TEST_CASE("softmax: no bit depends on the alignment, the row's position or the number of threads")
{
    const std::size_t rows = 67;
    const std::size_t columns = 1001;
    const xt::xarray<float> x = narrow_and_other_rows(rows, columns);
    for (const std::ptrdiff_t axis : {0, 1}) {
        const xt::xarray<float> p = sd::softmax(x, {.axis = axis});
        const xt::xarray<float> l = sd::log_softmax(x, {.axis = axis});
        const xt::xarray<float> lse = sd::logsumexp(x, {.axis = axis});
        const auto unchanged = [&] {
            return same_bits(sd::softmax(x, {.axis = axis}), p) && same_bits(sd::log_softmax(x, {.axis = axis}), l) &&
                   same_bits(sd::logsumexp(x, {.axis = axis}), lse);
        };
        for (const std::size_t threads : {std::size_t{1}, std::size_t{2}, std::size_t{3}, std::size_t{8}}) {
            thread_per_task pool(threads);
            const sd::executor_scope scope(pool);
            CHECK(unchanged());
        }
#if defined(_OPENMP)
        const int before = omp_get_max_threads();
        for (const int threads : {1, 2, 5}) {
            omp_set_num_threads(threads);
            CHECK(unchanged());
        }
        omp_set_num_threads(before);
#endif
    }
    const auto p = sd::softmax(x);
    for (std::size_t r = 0; r < rows; ++r) {
        CHECK(same_bits(sd::softmax(xt::xtensor<float, 1>(xt::view(x, r, xt::all()))),
                        xt::xtensor<float, 1>(xt::view(p, r, xt::all()))));
    }
    std::vector<float> buffer(columns + 32);
    for (std::size_t shift = 0; shift < 17; ++shift) {
        std::copy_n(x.data(), columns, buffer.data() + shift);
        const auto shifted = xt::adapt(buffer.data() + shift, columns, xt::no_ownership(), std::array{columns});
        CHECK(same_bits(sd::softmax(shifted), xt::xtensor<float, 1>(xt::view(p, 0, xt::all()))));
    }
}

TEST_CASE("softmax: no bit depends on how many rows there are")
{
    for (const auto& [rows, columns] :
         {std::array<std::size_t, 2>{200, 40}, {200, 70}, {40, 700}, {4200, 1000}, {1100, 4000}}) {
        const xt::xarray<float> x = narrow_and_other_rows(rows, columns);
        const auto p = sd::softmax(x);
        const auto l = sd::log_softmax(x);
        for (std::size_t row = rows - std::min<std::size_t>(rows, 100); row < rows; ++row) {
            const xt::xtensor<float, 1> alone = xt::view(x, row, xt::all());
            CHECK(same_bits(sd::softmax(alone), xt::xtensor<float, 1>(xt::view(p, row, xt::all()))));
            CHECK(same_bits(sd::log_softmax(alone), xt::xtensor<float, 1>(xt::view(l, row, xt::all()))));
        }
    }
}
