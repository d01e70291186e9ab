// SPDX-License-Identifier: BSD-3-Clause
#include <scaledot/split_heads.hpp>

#include <scaledot/attention.hpp>

#include "support/attention_cases.hpp"

#include <doctest/doctest.h>

#include <array>
#include <cstddef>
#include <initializer_list>
#include <type_traits>
#include <utility>
#include <vector>

#if __has_include(<xtensor/views/xstrided_view.hpp>)
#include <xtensor/misc/xmanipulation.hpp>
#else
#include <xtensor/xmanipulation.hpp>
#endif

namespace sd = scaledot;
using namespace test_support;

namespace {

/// Where an element lies. (xtensor's own access adds negative strides as if they were positive, which sanitizers
/// report.)
template <class Y, std::size_t N>
const void* address(const Y& y, const std::array<std::size_t, N>& index)
{
    auto offset = static_cast<std::ptrdiff_t>(y.data_offset());
    for (std::size_t axis = 0; axis < N; ++axis) {
        offset += static_cast<std::ptrdiff_t>(index[axis]) * static_cast<std::ptrdiff_t>(y.strides()[axis]);
    }
    return y.data() + offset;
}

/// y[b, h, i, c] = x[b, i, h * size + c], the same elements and not copies of them.
template <class X>
bool splits(X& x, std::size_t heads)
{
    const auto y = sd::split_heads(x, heads);
    const std::size_t size = x.shape(2) / heads;
    bool right = y.dimension() == 4 && y.shape(0) == x.shape(0) && y.shape(1) == heads && y.shape(2) == x.shape(1) &&
                 y.shape(3) == size;
    for (std::size_t b = 0; b < x.shape(0); ++b) {
        for (std::size_t h = 0; h < heads; ++h) {
            for (std::size_t i = 0; i < x.shape(1); ++i) {
                for (std::size_t c = 0; c < size; ++c) {
                    right = right && address(y, std::array{b, h, i, c}) == address(x, std::array{b, i, h * size + c});
                }
            }
        }
    }
    return right;
}

} // namespace

TEST_CASE("split_heads: the elements of [..., length, heads * size] as [..., heads, length, size]")
{
    auto x = gaussians<float, 3>({2, 5, 12}, 1);
    for (const std::size_t heads : std::initializer_list<std::size_t>{1, 2, 3, 4, 6, 12}) {
        CAPTURE(heads);
        CHECK(splits(x, heads));
        CHECK(splits(std::as_const(x), heads));
    }
    xt::xarray<double> any = x;
    CHECK(splits(any, 4));
    auto plane = gaussians<float, 2>({5, 12}, 1);
    const auto heads = sd::split_heads(plane, 3);
    CHECK(heads.dimension() == 3);
    CHECK(&heads(2, 4, 3) == &plane(4, 11));
    auto deep = gaussians<float, 5>({2, 1, 3, 5, 12}, 1);
    CHECK(&sd::split_heads(deep, 3)(1, 0, 2, 1, 4, 2) == &deep(1, 0, 2, 4, 6));
}

TEST_CASE("split_heads: views split where they are, whatever their strides")
{
    auto large = gaussians<float, 3>({4, 9, 40}, 1);
    auto part = xt::view(large, xt::range(1, 3), xt::range(2, 7), xt::range(5, 17));
    CHECK(splits(part, 3));
    auto backwards = xt::flip(part, 1);
    CHECK(splits(backwards, 4));
    auto all_backwards = xt::flip(xt::flip(part, 2), 0);
    CHECK(splits(all_backwards, 4));
    auto sparse = xt::strided_view(large, {xt::all(), xt::all(), xt::range(0, 36, 3)});
    CHECK(splits(sparse, 6));
    auto one_row = xt::view(large, xt::all(), xt::range(3, 4), xt::range(0, 12));
    CHECK(splits(one_row, 2));
}

TEST_CASE("split_heads: elements written through it arrive; const arrays give const views")
{
    auto x = filled<float, 3>({2, 5, 12}, 0);
    auto y = sd::split_heads(x, 3);
    y(1, 2, 4, 3) = 7;
    CHECK(x(1, 4, 11) == 7);
    const auto& fixed = x;
    static_assert(std::is_const_v<std::remove_reference_t<decltype(*sd::split_heads(fixed, 3).data())>>);
    static_assert(!std::is_const_v<std::remove_reference_t<decltype(*sd::split_heads(x, 3).data())>>);
}

TEST_CASE("split_heads: empty arrays keep their shapes")
{
    auto x = filled<float, 3>({2, 0, 12}, 0);
    CHECK(splits(x, 3));
    auto narrow = filled<float, 3>({2, 5, 0}, 0);
    CHECK(splits(narrow, 3));
}

TEST_CASE("split_heads: packed projections go through attention and come out packed")
{
    const auto q = gaussians<float, 3>({2, 6, 12}, 1);
    const auto k = gaussians<float, 3>({2, 9, 12}, 2);
    const auto v = gaussians<float, 3>({2, 9, 15}, 3);
    auto packed = filled<float, 3>({2, 6, 15}, 99);
    sd::attention_into(sd::split_heads(packed, 3), sd::split_heads(q, 3), sd::split_heads(k, 3), sd::split_heads(v, 3));
    const auto unpacked = [](const dense<float, 3>& x) { return dense<float, 4>(sd::split_heads(x, 3)); };
    CHECK(same_bits(unpacked(packed), sd::attention(unpacked(q), unpacked(k), unpacked(v))));

    const auto fused = gaussians<float, 3>({2, 6, 36}, 4); // q | k | v of one projection
    const auto part = [&](std::size_t n) {
        return xt::view(fused, xt::all(), xt::all(), xt::range(12 * n, 12 * n + 12));
    };
    const dense<float, 3> own_q = part(0), own_k = part(1), own_v = part(2);
    CHECK(same_bits(sd::attention(sd::split_heads(own_q, 3), sd::split_heads(own_k, 3), sd::split_heads(own_v, 3),
                                  {.causal = true}),
                    sd::attention(unpacked(own_q), unpacked(own_k), unpacked(own_v), {.causal = true})));
    const auto q_part = part(0), k_part = part(1), v_part = part(2);
    CHECK(same_bits(sd::attention(sd::split_heads(q_part, 3), sd::split_heads(k_part, 3), sd::split_heads(v_part, 3)),
                    sd::attention(unpacked(own_q), unpacked(own_k), unpacked(own_v))));
}

TEST_CASE("split_heads: heads that do not divide the last axis are named")
{
    auto x = filled<float, 3>({2, 5, 12}, 0);
    CHECK(complaint_of([&] { sd::split_heads(x, 5); }).find("scaledot: heads was 5, must be a divisor of 12") == 0);
    CHECK(complaint_of([&] { sd::split_heads(x, 0); }).find("scaledot: heads was 0, must be a divisor of 12") == 0);
    CHECK(complaint_of([&] { sd::split_heads(x, 24); }).find("scaledot: heads was 24, must be a divisor of 12") == 0);
    xt::xarray<float> line = xt::zeros<float>({12});
    CHECK(complaint_of([&] {
              sd::split_heads(line, 3);
          }).find("scaledot: the rank of packed was 1, must be 2 or more") == 0);
}
