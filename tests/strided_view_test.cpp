// SPDX-License-Identifier: BSD-3-Clause
#include <scaledot/detail/strided_view.hpp>

#include <doctest/doctest.h>

#include <cstddef>
#include <numeric>
#include <utility>
#include <vector>

using namespace scaledot::detail;

namespace {

/// An array in a vector of its own, `gap` elements between neighbours, its axes laid out in the given order from the
/// outermost to the innermost; a negative step on the axes of `reversed`.
struct laid_out {
    std::vector<int> memory;
    strided_view<int> view;

    laid_out(const shape_vector& shape, const std::vector<std::size_t>& order, std::ptrdiff_t gap,
             const std::vector<bool>& reversed)
    {
        view.shape = shape;
        view.strides.resize(shape.size());
        std::ptrdiff_t step = gap;
        std::ptrdiff_t first = 0;
        for (std::size_t i = order.size(); i-- > 0;) {
            const std::size_t axis = order[i];
            view.strides[axis] = reversed[axis] ? -step : step;
            first += reversed[axis] ? step * static_cast<std::ptrdiff_t>(shape[axis] - 1) : 0;
            step *= static_cast<std::ptrdiff_t>(shape[axis]);
        }
        memory.assign(static_cast<std::size_t>(step), -1);
        view.data = memory.data() + first;
    }

    int& at(std::size_t flat) { return view.data[offset_of(view, flat, 0)]; }
};

strided_view<const int> constant(const strided_view<int>& view)
{
    return {view.data, view.shape, view.strides};
}

} // namespace

TEST_CASE("copy_elements: every element to its place, whatever the strides, and nothing else")
{
    const shape_vector shape{3, 37, 18}; // more than two groups of rows and columns, and a rest
    const std::size_t count = element_count(shape);
    const std::vector<std::vector<std::size_t>> orders{{0, 1, 2}, {0, 2, 1}, {2, 1, 0}, {1, 0, 2}};
    for (const auto& from : orders) {
        for (const auto& to : orders) {
            for (const std::ptrdiff_t gap : {1, 3}) {
                laid_out source(shape, from, gap, {false, gap == 3, true});
                laid_out target(shape, to, gap, {true, false, gap == 3});
                for (std::size_t i = 0; i < count; ++i) {
                    source.at(i) = static_cast<int>(i);
                }
                copy_elements(constant(source.view), target.view);
                std::size_t right = 0;
                for (std::size_t i = 0; i < count; ++i) {
                    right += target.at(i) == static_cast<int>(i) ? 1 : 0;
                }
                CHECK(right == count);
                const auto written = std::accumulate(target.memory.begin(), target.memory.end(), std::size_t{0},
                                                     [](std::size_t sum, int x) { return sum + (x >= 0 ? 1 : 0); });
                CHECK(written == count);
            }
        }
    }
}

TEST_CASE("copy_elements: broadcast axes, few axes, none, and no elements")
{
    std::vector<int> source{7, 8, 9};
    std::vector<int> target(6, 0);
    copy_elements(strided_view<const int>{source.data(), {2, 3}, {0, 1}},
                  strided_view<int>{target.data(), {2, 3}, {3, 1}});
    CHECK(target == std::vector<int>{7, 8, 9, 7, 8, 9});
    copy_elements(strided_view<const int>{source.data() + 2, {3}, {-1}}, strided_view<int>{target.data(), {3}, {2}});
    CHECK(target == std::vector<int>{9, 8, 8, 7, 7, 9});
    copy_elements(strided_view<const int>{source.data() + 1, {}, {}}, strided_view<int>{target.data(), {}, {}});
    CHECK(target.front() == 8);
    copy_elements(strided_view<const int>{nullptr, {4, 0}, {0, 1}}, strided_view<int>{nullptr, {4, 0}, {0, 1}});
    copy_elements(strided_view<const int>{nullptr, {0}, {1}}, strided_view<int>{nullptr, {0}, {1}});
}
