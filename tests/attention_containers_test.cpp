// SPDX-License-Identifier: BSD-3-Clause
// Attention over every kind of array: what holds the numbers changes none of them.
#include <scaledot/attention.hpp>

#include "support/attention_agreement.hpp"
#include "support/attention_cases.hpp"

#include <doctest/doctest.h>

#include <array>
#include <cstddef>
#include <type_traits>
#include <vector>

#if __has_include(<xtensor/views/xstrided_view.hpp>)
#include <xtensor/containers/xfixed.hpp>
#include <xtensor/misc/xmanipulation.hpp>
#else
#include <xtensor/xfixed.hpp>
#include <xtensor/xmanipulation.hpp>
#endif

namespace sd = scaledot;
using namespace test_support;

namespace {

const auto q = gaussians<float, 3>({2, 7, 8}, 1);
const auto k = gaussians<float, 3>({2, 13, 8}, 2);
const auto v = gaussians<float, 3>({2, 13, 5}, 3);
const auto expected = sd::attention_with_lse(q, k, v);

template <class Q, class K, class V>
bool as_expected(const Q& query, const K& key, const V& value)
{
    const auto result = sd::attention_with_lse(query, key, value);
    return same_bits(dense<float, 3>(result.output), expected.output) &&
           same_bits(dense<float, 2>(result.lse), expected.lse);
}

} // namespace

TEST_CASE("attention: ranks 2 to 6; the axes before heads are the batch")
{
    CHECK(disagreement(gaussians<float, 2>({7, 8}, 1), gaussians<float, 2>({13, 8}, 2),
                       gaussians<float, 2>({13, 5}, 3)) == "");
    CHECK(disagreement(q, k, v) == "");
    CHECK(disagreement(gaussians<float, 5>({2, 3, 4, 7, 8}, 1), gaussians<float, 5>({2, 3, 2, 13, 8}, 2),
                       gaussians<float, 5>({2, 3, 2, 13, 5}, 3)) == "");
    CHECK(disagreement(gaussians<float, 6>({2, 1, 3, 4, 2, 8}, 1), gaussians<float, 6>({2, 1, 3, 2, 13, 8}, 2),
                       gaussians<float, 6>({2, 1, 3, 2, 13, 5}, 3)) == "");
    const xt::xarray<float> q2 = gaussians<float, 2>({7, 8}, 1);
    const xt::xarray<float> k2 = gaussians<float, 2>({13, 8}, 2);
    CHECK(disagreement(q2, k2, k2) == "");
}

TEST_CASE("attention: xtensor gives xtensor, xarray and the rest of unknown rank give xarray, of q's element type")
{
    const xt::xarray<float> any = q;
    static_assert(std::is_same_v<decltype(sd::attention(q, k, v)), xt::xtensor<float, 3>>);
    static_assert(std::is_same_v<decltype(sd::attention(any, k, v)), xt::xarray<float>>);
    static_assert(std::is_same_v<decltype(sd::attention_with_lse(q, k, v).lse), xt::xtensor<float, 2>>);
    static_assert(std::is_same_v<decltype(sd::attention_with_lse(any, k, v).lse), xt::xarray<float>>);
    static_assert(std::is_same_v<decltype(sd::attention(xt::xtensor<xtl::half_float, 3>(), k, v)),
                                 xt::xtensor<xtl::half_float, 3>>);
    CHECK(as_expected(any, k, v));
    CHECK(as_expected(q, xt::xarray<float>(k), v));
    CHECK(as_expected(any, xt::xarray<float>(k), xt::xarray<float>(v)));
}

TEST_CASE("attention: fixed, column-major and adapted arrays")
{
    xt::xtensor_fixed<float, xt::xshape<2, 7, 8>> fixed;
    fixed = q;
    CHECK(as_expected(fixed, k, v));
    const xt::xtensor<float, 3, xt::layout_type::column_major> column_major_k = k;
    const xt::xarray<float, xt::layout_type::column_major> column_major_v = v;
    CHECK(as_expected(q, column_major_k, column_major_v));
    const xt::xtensor<float, 3, xt::layout_type::column_major> column_major_q = q;
    CHECK(as_expected(column_major_q, k, v));
    const std::vector<float> memory(k.begin(), k.end());
    CHECK(as_expected(q, xt::adapt(memory, std::array<std::size_t, 3>{2, 13, 8}), v));
    CHECK(as_expected(
        q, xt::adapt(memory.data(), memory.size(), xt::no_ownership(), std::vector<std::size_t>{2, 13, 8}), v));
}

TEST_CASE("attention: views, strided, transposed, flipped, broadcast, and of views")
{
    auto large = filled<float, 3>({4, 30, 20}, 99);
    auto window = xt::view(large, xt::range(1, 3), xt::range(4, 17), xt::range(2, 10));
    window = k;
    CHECK(as_expected(q, window, v));
    auto sparse = filled<float, 3>({4, 26, 8}, 99);
    auto every_other = xt::strided_view(sparse, {xt::range(0, 4, 2), xt::range(1, 26, 2), xt::all()});
    xt::noalias(every_other) = k;
    CHECK(as_expected(q, every_other, v));
    const dense<float, 3> lengths_first = xt::transpose(k, {1, 0, 2});
    CHECK(as_expected(q, xt::transpose(lengths_first, {1, 0, 2}), v));
    const dense<float, 3> sizes_first = xt::transpose(k, {2, 0, 1});
    CHECK(as_expected(q, xt::transpose(sizes_first, {1, 2, 0}), v)); // copied: its last axis is not contiguous
    const dense<float, 3> reversed_k = xt::flip(k, 1);
    CHECK(as_expected(q, xt::flip(reversed_k, 1), v)); // negative row stride
    const dense<float, 3> reversed_v = xt::flip(xt::flip(v, 0), 2);
    CHECK(as_expected(q, k, xt::flip(xt::flip(reversed_v, 0), 2)));
    const dense<float, 3> reversed_q = xt::flip(q, 0);
    CHECK(as_expected(xt::flip(reversed_q, 0), k, v));
    const auto nested = xt::view(window, xt::all(), xt::range(0, 13), xt::all());
    CHECK(as_expected(q, nested, v));
    const dense<float, 2> one_k = xt::view(k, 1);
    const dense<float, 3> repeated = xt::broadcast(one_k, {2, 13, 8});
    CHECK(same_bits(sd::attention(q, xt::broadcast(one_k, {2, 13, 8}), v), sd::attention(q, repeated, v)));
}

TEST_CASE("attention: lazy expressions are evaluated first")
{
    const dense<float, 3> half_q = q * 0.5f;
    CHECK(as_expected(half_q + half_q, k, v));
    CHECK(as_expected(q, k + 0.f, v));
    CHECK(as_expected(q, k, xt::eval(v) * 1.f));
    CHECK(as_expected(2.f * half_q, xt::cast<float>(k), v * 1.f));
}

TEST_CASE("attention: outputs may be views of any strides; what lies between stays")
{
    auto large = filled<float, 3>({4, 30, 20}, 99);
    const auto untouched = [&] { return std::count(large.begin(), large.end(), 99.f) == 4 * 30 * 20 - 2 * 7 * 5; };
    const auto check = [&](auto&& view) {
        large.fill(99);
        sd::attention_into(view, q, k, v);
        CHECK(same_bits(dense<float, 3>(view), expected.output));
        CHECK(untouched());
    };
    check(xt::view(large, xt::range(1, 3), xt::range(4, 11), xt::range(2, 7)));
    check(xt::strided_view(large, {xt::range(0, 4, 2), xt::range(1, 15, 2), xt::range(3, 8)}));
    check(xt::strided_view(large, {xt::range(0, 4, 2), xt::range(1, 15, 2), xt::range(3, 13, 2)}));
    check(xt::flip(xt::view(large, xt::range(1, 3), xt::range(4, 11), xt::range(2, 7)), 1));
    check(xt::flip(xt::view(large, xt::range(1, 3), xt::range(4, 11), xt::range(2, 7)), 2));
    check(xt::transpose(xt::view(large, xt::range(1, 3), xt::range(4, 9), xt::range(2, 9)), {0, 2, 1}));
    xt::xarray<float, xt::layout_type::column_major> column_major = xt::zeros<float>({2, 7, 5});
    sd::attention_into(column_major, q, k, v);
    CHECK(same_bits(dense<float, 3>(column_major), expected.output));

    auto sums = filled<float, 3>({2, 7, 4}, 99);
    auto lse = xt::flip(xt::view(sums, xt::all(), xt::all(), 1), 1);
    auto output = dense<float, 3>::from_shape({2, 7, 5});
    sd::attention_with_lse_into(output, lse, q, k, v);
    CHECK(same_bits(dense<float, 2>(lse), expected.lse));
    CHECK(std::count(sums.begin(), sums.end(), 99.f) == 2 * 7 * 3);
}

TEST_CASE("attention: the output may have an element type of its own")
{
    auto wide = dense<double, 3>::from_shape({2, 7, 5});
    sd::attention_into(wide, q, k, v);
    CHECK(same_bits(dense<float, 3>(wide), expected.output));
    auto narrow = dense<sd::bfloat16, 3>::from_shape({2, 7, 5});
    sd::attention_into(narrow, q, k, v);
    CHECK(std::equal(narrow.begin(), narrow.end(), expected.output.begin(),
                     [](sd::bfloat16 x, float y) { return x.bits() == sd::bfloat16(y).bits(); }));
    auto lse = dense<double, 2>::from_shape({2, 7});
    sd::attention_with_lse_into(wide, lse, q, k, v);
    CHECK(same_bits(dense<float, 2>(lse), expected.lse));
}
