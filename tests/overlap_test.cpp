// SPDX-License-Identifier: BSD-3-Clause
#include <scaledot/detail/overlap.hpp>

#include "support/norm_rows.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <iterator>
#include <random>
#include <string>
#include <vector>

using namespace scaledot::detail;
using test_support::complaint_of;

namespace {

/// A view of rank 0 to 3 somewhere into a buffer, with any strides that stay inside.
template <class T>
strided_view<T> random_view(std::mt19937& engine, std::vector<T>& buffer)
{
    for (;;) {
        strided_view<T> view;
        std::ptrdiff_t low = 0;
        std::ptrdiff_t high = 0;
        for (std::size_t axis = engine() % 4; axis > 0; --axis) {
            const std::size_t extent = engine() % 8 == 0 ? engine() % 2 : 1 + engine() % 4;
            const auto stride = static_cast<std::ptrdiff_t>(engine() % 13) - 4;
            view.shape.push_back(extent);
            view.strides.push_back(stride);
            const std::ptrdiff_t reach = stride * (static_cast<std::ptrdiff_t>(extent) - 1);
            (reach < 0 ? low : high) += extent == 0 ? 0 : reach;
        }
        const auto size = static_cast<std::ptrdiff_t>(buffer.size());
        if (high - low < size) {
            view.data = buffer.data() +
                        static_cast<std::ptrdiff_t>(engine() % static_cast<unsigned>(size - (high - low))) - low;
            return view;
        }
    }
}

/// The addresses of all bytes of a view, one after another.
template <class T>
std::vector<const char*> bytes_of(const strided_view<T>& view)
{
    std::vector<const char*> bytes;
    for (std::size_t flat = 0; flat < element_count(view.shape); ++flat) {
        const auto* element = reinterpret_cast<const char*>(view.data + offset_of(view, flat, 0));
        for (std::size_t i = 0; i < sizeof(T); ++i) {
            bytes.push_back(element + i);
        }
    }
    std::sort(bytes.begin(), bytes.end());
    return bytes;
}

} // namespace

TEST_CASE("overlaps: exactly where some byte belongs to both views, for any strides and element types")
{
    std::mt19937 engine(1);
    std::vector<float> floats(40);
    std::size_t found = 0;
    for (int i = 0; i < 20000; ++i) {
        const auto a = random_view(engine, floats);
        const auto b = random_view(engine, floats);
        const auto bytes_a = bytes_of(a), bytes_b = bytes_of(b);
        std::vector<const char*> both;
        std::set_intersection(bytes_a.begin(), bytes_a.end(), bytes_b.begin(), bytes_b.end(), std::back_inserter(both));
        const bool right = overlaps(a, b) == !both.empty() && overlaps(b, a) == !both.empty();
        found += both.empty() ? 0 : 1;
        REQUIRE(right);
    }
    CHECK(found > 1000);
    CHECK(found < 19000);

    std::vector<double> doubles(4);
    strided_view<double> wide{doubles.data(), {4}, {1}};
    strided_view<float> narrow{reinterpret_cast<float*>(doubles.data()) + 7, {1}, {1}};
    CHECK(overlaps(wide, narrow));
    narrow.data += 1;
    CHECK(!overlaps(wide, narrow));
}

TEST_CASE("require_distinct_elements: throws exactly where two indices meet in one element")
{
    std::mt19937 engine(2);
    std::vector<float> floats(40);
    std::size_t thrown = 0;
    for (int i = 0; i < 20000; ++i) {
        const auto view = random_view(engine, floats);
        const auto bytes = bytes_of(view);
        const bool repeated = std::adjacent_find(bytes.begin(), bytes.end()) != bytes.end();
        const bool refused = !complaint_of([&] { require_distinct_elements(view); }).empty();
        thrown += refused ? 1 : 0;
        REQUIRE(refused == repeated);
    }
    CHECK(thrown > 1000);
    CHECK(thrown < 19000);
}

TEST_CASE("require_disjoint_or_identical: the very same elements are fine, others that meet are not")
{
    std::vector<float> floats(40);
    const strided_view<float> out{floats.data(), {2, 2}, {5, 1}};
    strided_view<const float> in{floats.data(), {2, 2}, {5, 1}};
    CHECK_NOTHROW(require_disjoint_or_identical(out, in, "x"));
    in.data += 1;
    CHECK(complaint_of([&] { require_disjoint_or_identical(out, in, "x"); }) ==
          "scaledot: the memory of out was shared in part with x, must be its own, or exactly that of x");
    in.data += 2;
    CHECK_NOTHROW(require_disjoint_or_identical(out, in, "x")); // between the rows
    in = {floats.data(), {2, 2}, {6, 1}};
    CHECK_THROWS(require_disjoint_or_identical(out, in, "x"));
}

TEST_CASE("require_disjoint and require_apart: name both arguments")
{
    xt::xtensor<float, 2> x = xt::zeros<float>({3, 4});
    CHECK(complaint_of([&] { require_apart(x, x, "k", "lse"); }) ==
          "scaledot: the memory of lse was shared with k, must be its own");
    CHECK_NOTHROW(require_apart(x, x + 1.f, "k"));
    const auto view = view_of(x);
    CHECK(complaint_of([&] { require_disjoint(view, view, "q"); }) ==
          "scaledot: the memory of out was shared with q, must be its own");
}
