// SPDX-License-Identifier: BSD-3-Clause
// What attention refuses, and that it says which argument was what and had to be what.
#include <scaledot/attention.hpp>

#include <scaledot/scores.hpp>

#include "support/attention_cases.hpp"

#include <doctest/doctest.h>

#include <array>
#include <cstddef>
#include <initializer_list>
#include <limits>
#include <span>
#include <string>
#include <vector>

#if __has_include(<xtensor/views/xstrided_view.hpp>)
#include <xtensor/misc/xmanipulation.hpp>
#else
#include <xtensor/xmanipulation.hpp>
#endif

namespace sd = scaledot;
using namespace test_support;

namespace {

const auto q = gaussians<float, 4>({2, 4, 3, 8}, 1);
const auto k = gaussians<float, 4>({2, 2, 5, 8}, 2);
const auto v = gaussians<float, 4>({2, 2, 5, 6}, 3);

/// "<argument> was <was>, must be <must>..." for a call.
template <class F>
bool says(F&& call, const std::string& argument, const std::string& was, const std::string& must)
{
    const std::string message = complaint_of(call);
    const bool matches = message.find("scaledot: " + argument + " was " + was + ", must be " + must) == 0;
    if (!matches) {
        MESSAGE("said: ", message);
    }
    return matches;
}

/// The same, for options.
bool refuses(const sd::attention_options& options, const std::string& argument, const std::string& was,
             const std::string& must)
{
    return says([&] { sd::attention(q, k, v, options); }, argument, was, must);
}

template <std::size_t N>
auto zeros(const std::array<std::size_t, N>& shape)
{
    return filled<float, N>(shape, 0);
}

} // namespace

TEST_CASE("attention: shapes that do not fit are named")
{
    const xt::xarray<float> line = xt::zeros<float>({4});
    const xt::xarray<float> plane = xt::zeros<float>({4, 8});
    const xt::xarray<float> heads = xt::zeros<float>({2, 4, 8});
    CHECK(says([&] { sd::attention(line, plane, plane); }, "the rank of q", "1", "2 or more"));
    CHECK(says([&] { sd::attention(plane, line, plane); }, "the rank of k", "1", "2 or more"));
    CHECK(says([&] { sd::attention(plane, plane, line); }, "the rank of v", "1", "2 or more"));
    CHECK(says([&] { sd::attention(plane, heads, heads); }, "the rank of k", "3", "2, that of q"));
    CHECK(says([&] { sd::attention(plane, plane, heads); }, "the rank of v", "3", "2, that of q"));
    CHECK(says([&] { sd::attention(q, zeros<4>({3, 2, 5, 8}), v); }, "axis 0 of k", "3", "2, that of q"));
    CHECK(says([&] { sd::attention(q, zeros<4>({1, 2, 5, 8}), v); }, "axis 0 of k", "1", "2, that of q"));
    CHECK(says([&] { sd::attention(q, zeros<4>({2, 2, 5, 7}), v); }, "the head size of k", "7", "8, that of q"));
    CHECK(says(
        [&] {
            sd::attention(zeros<4>({2, 4, 3, 0}), zeros<4>({2, 2, 5, 0}), v);
        },
        "the head size of q", "0", "1 or more"));
    CHECK(says(
        [&] {
            sd::attention(q, zeros<4>({2, 3, 5, 8}), zeros<4>({2, 3, 5, 6}));
        },
        "the number of heads of q", "4", "a multiple of 3"));
    CHECK(says(
        [&] {
            sd::attention(q, zeros<4>({2, 0, 5, 8}), zeros<4>({2, 0, 5, 6}));
        },
        "the number of heads of q", "4", "a multiple of 0"));
    CHECK(says([&] { sd::attention(q, k, zeros<4>({2, 2, 4, 6})); }, "axis 2 of v", "4", "5, that of k"));
    CHECK(says([&] { sd::attention(q, k, zeros<4>({2, 1, 5, 6})); }, "axis 1 of v", "1", "2, that of k"));
    auto out = zeros<4>({2, 4, 3, 5});
    CHECK(says([&] { sd::attention_into(out, q, k, v); }, "the shape of out", "(2, 4, 3, 5)", "(2, 4, 3, 6)"));
    auto flat = zeros<3>({2, 4, 18});
    CHECK(says([&] { sd::attention_into(flat, q, k, v); }, "the shape of out", "(2, 4, 18)", "(2, 4, 3, 6)"));
    auto right = zeros<4>({2, 4, 3, 6});
    auto lse = zeros<3>({2, 4, 4});
    CHECK(
        says([&] { sd::attention_with_lse_into(right, lse, q, k, v); }, "the shape of lse", "(2, 4, 4)", "(2, 4, 3)"));
}

TEST_CASE("attention: options out of range are named")
{
    const double inf = infinity_of<double>();
    const double nan = nan_of<double>();
    CHECK(refuses({.scale = inf}, "scale", "inf", "finite"));
    CHECK(refuses({.scale = nan}, "scale", "nan", "finite"));
    CHECK(refuses({.softcap = -1.0}, "softcap", "-1", "finite, and 0 (off) or more"));
    CHECK(refuses({.softcap = inf}, "softcap", "inf", "finite"));
    CHECK(refuses({.softcap = nan}, "softcap", "nan", "finite"));
    const std::vector<float> sinks(3);
    CHECK(refuses({.sinks = sinks}, "the number of sinks", "3", "4, one per query head"));
    const std::vector<std::size_t> one = {5};
    CHECK(refuses({.key_lengths = one}, "the number of key_lengths", "1", "2, one per batch entry"));
    const std::vector<std::size_t> long_second = {5, 6};
    CHECK(refuses({.key_lengths = long_second}, "key_lengths[1]", "6", "at most 5, the number of keys"));
    const auto mask = filled<bool, 2>({4, 5}, 1);
    CHECK(refuses({.mask = mask}, "the shape of mask", "(4, 5)", "broadcastable to that of the scores, (2, 4, 3, 5)"));
    const auto deep = filled<float, 5>({1, 1, 1, 1, 1}, 0);
    CHECK(refuses({.mask = deep}, "the shape of mask", "(1, 1, 1, 1, 1)", "broadcastable"));
    const auto none = filled<float, 1>({0}, 0);
    CHECK(refuses({.mask = none}, "the shape of mask", "(0,)", "broadcastable"));
}

TEST_CASE("attention: nobody gets a silent choice of where queries stand")
{
    const std::vector<std::size_t> lengths = {5, 2};
    CHECK(refuses({.causal = true}, "align", "absent for 3 queries and 5 keys", "top_left or bottom_right"));
    CHECK(refuses({.window_left = 3}, "align", "absent for 3 queries and 5 keys", "top_left or bottom_right"));
    CHECK(refuses({.window_right = 0}, "align", "absent for 3 queries and 5 keys", "top_left or bottom_right"));
    CHECK(refuses({.align = sd::alignment::top_left, .query_offset = 0}, "align", "given together with query_offset",
                  "the only one"));
    CHECK(refuses({.causal = true, .align = sd::alignment::bottom_right, .query_offset = 2}, "align",
                  "given together with query_offset", "the only one"));
    // as many queries as keys is not enough where lengths cut the keys
    const auto square = zeros<4>({2, 2, 5, 8});
    CHECK(says([&] { sd::attention(square, k, v, {.causal = true, .key_lengths = lengths}); }, "align",
               "absent for 5 queries and 5 keys", "top_left"));
    CHECK_NOTHROW(sd::attention(square, k, v, {.causal = true}));
    CHECK_NOTHROW(sd::attention(q, k, v, {.align = sd::alignment::top_left}));
    CHECK_NOTHROW(sd::attention(q, k, v, {.query_offset = 7}));
    constexpr auto largest = std::numeric_limits<std::ptrdiff_t>::max();
    CHECK(refuses({.causal = true, .query_offset = largest}, "query_offset", std::to_string(largest),
                  "so small that the positions of 3 queries fit"));
    CHECK(refuses({.query_offset = largest - 1}, "query_offset", std::to_string(largest - 1), "so small"));
    CHECK_NOTHROW(sd::attention(q, k, v, {.causal = true, .query_offset = largest - 2}));
}

TEST_CASE("attention: a cache that does not fit the queries is named")
{
    sd::kv_cache<float> cache({.batch = 2, .heads = 2, .key_size = 8, .value_size = 6});
    cache.append(k, v);
    CHECK(says(
        [&] {
            sd::attention(zeros<4>({3, 2, 1, 8}), cache);
        },
        "the batch size of q", "3", "2, that of the cache"));
    CHECK(says([&] { sd::attention(zeros<4>({2, 2, 1, 7}), cache); }, "the head size of k", "8", "7, that of q"));
    sd::kv_cache<float> single({.batch = 1, .heads = 2, .key_size = 8, .value_size = 6});
    CHECK(says(
        [&] {
            sd::attention(zeros<2>({1, 8}), single);
        },
        "the rank of q", "2", "3 or more for a cache of 2 heads"));
    const xt::xarray<float> line = xt::zeros<float>({8});
    CHECK(says([&] { sd::attention(line, single); }, "the rank of q", "1", "2 or more"));
}

TEST_CASE("attention: an output that shares elements with another argument is refused")
{
    const auto small = gaussians<float, 2>({4, 4}, 4);
    auto memory = gaussians<float, 2>({4, 4}, 5);
    CHECK(says([&] { sd::attention_into(memory, memory, small, small); }, "the memory of out", "shared with q",
               "its own"));
    CHECK(says([&] { sd::attention_into(memory, small, memory, small); }, "the memory of out", "shared with k",
               "its own"));
    CHECK(says([&] { sd::attention_into(memory, small, small, memory); }, "the memory of out", "shared with v",
               "its own"));
    const auto kept = memory;
    // also where out or the input is used through a copy
    CHECK(says([&] { sd::attention_into(xt::transpose(memory), memory, small, small); }, "the memory of out",
               "shared with q", "its own"));
    CHECK(says([&] { sd::attention_into(memory, xt::transpose(memory), small, small); }, "the memory of out",
               "shared with q", "its own"));
    CHECK(says([&] { sd::attention_into(xt::flip(memory, 1), small, xt::flip(memory, 0), small); }, "the memory of out",
               "shared with k", "its own"));
    CHECK(same_bits(memory, kept));

    auto row = gaussians<float, 1>({4}, 6);
    CHECK(says([&] { sd::attention_with_lse_into(memory, xt::view(memory, 0), small, small, small); },
               "the memory of lse", "shared with out", "its own"));
    auto large = gaussians<float, 2>({7, 4}, 7);
    auto above = xt::view(large, xt::range(0, 4));
    auto below = xt::view(large, xt::range(3, 7));
    CHECK(
        says([&] { sd::attention_into(above, below, small, small); }, "the memory of out", "shared with q", "its own"));
    CHECK(says([&] { sd::attention_with_lse_into(memory, xt::view(large, 1), above, small, small); },
               "the memory of lse", "shared with q", "its own"));
}

TEST_CASE("attention: outputs that share elements with a mask, sinks or key lengths are refused")
{
    const auto small = gaussians<float, 3>({1, 4, 4}, 4);
    auto out = small;
    auto lse = filled<float, 2>({1, 4}, 0);
    auto memory = gaussians<float, 3>({1, 4, 4}, 5);
    auto line = gaussians<float, 2>({1, 4}, 6);
    const auto kept = memory;
    const auto kept_line = line;

    const sd::attention_options masked{.mask = memory};
    const auto mine = std::string("its own");
    CHECK(says([&] { sd::attention_into(memory, small, small, small, masked); }, "the memory of out",
               "shared with mask", mine));
    CHECK(says(
        [&] {
            sd::attention_with_lse_into(out, xt::view(memory, xt::all(), xt::all(), 2), small, small, small, masked);
        },
        "the memory of lse", "shared with mask", mine));
    CHECK(says([&] { sd::attention_scores_into(memory, small, small, sd::score_stage::scaled, masked); },
               "the memory of out", "shared with mask", mine));

    const sd::attention_options with_sinks{.sinks = std::span<const float>(line.data() + 3, 1)};
    CHECK(says([&] { sd::attention_with_lse_into(out, line, small, small, small, with_sinks); }, "the memory of lse",
               "shared with sinks", mine));
    const sd::attention_options sink_in_memory{.sinks = std::span<const float>(memory.data() + 7, 1)};
    CHECK(says([&] { sd::attention_into(memory, small, small, small, sink_in_memory); }, "the memory of out",
               "shared with sinks", mine));
    CHECK(says([&] { sd::attention_scores_into(memory, small, small, sd::score_stage::scaled, sink_in_memory); },
               "the memory of out", "shared with sinks", mine));

    std::array<std::size_t, 8> lengths = {2, 2};
    const sd::attention_options cut{.key_lengths = std::span<const std::size_t>(lengths).first(1)};
    const auto over_lengths = [&] {
        return xt::adapt(reinterpret_cast<float*>(lengths.data()), 16, xt::no_ownership(),
                         std::array<std::size_t, 3>{1, 4, 4});
    };
    auto sums =
        xt::adapt(reinterpret_cast<float*>(lengths.data()), 4, xt::no_ownership(), std::array<std::size_t, 2>{1, 4});
    CHECK(says([&] { sd::attention_into(over_lengths(), small, small, small, cut); }, "the memory of out",
               "shared with key_lengths", mine));
    CHECK(says([&] { sd::attention_with_lse_into(out, sums, small, small, small, cut); }, "the memory of lse",
               "shared with key_lengths", mine));
    CHECK(says([&] { sd::attention_scores_into(over_lengths(), small, small, sd::score_stage::scaled, cut); },
               "the memory of out", "shared with key_lengths", mine));

    CHECK(same_bits(memory, kept));
    CHECK(same_bits(line, kept_line));
    CHECK(lengths[0] == 2);
    // between the mask's elements there is room
    auto comb = gaussians<float, 3>({1, 4, 8}, 7);
    const auto even = xt::strided_view(comb, {xt::all(), xt::all(), xt::range(0, 8, 2)});
    CHECK_NOTHROW(sd::attention_into(xt::strided_view(comb, {xt::all(), xt::all(), xt::range(1, 8, 2)}), small, small,
                                     small, {.mask = even}));
}

TEST_CASE("attention: views of one buffer that share no element are fine")
{
    auto packed = gaussians<float, 2>({4, 13}, 1); // q | k | v | out | lse, row by row
    const auto part = [&](std::size_t first, std::size_t last) {
        return xt::view(packed, xt::all(), xt::range(first, last));
    };
    const dense<float, 2> query = part(0, 3), key = part(3, 6), value = part(6, 9);
    const auto expected = sd::attention_with_lse(query, key, value);
    sd::attention_with_lse_into(part(9, 12), xt::view(packed, xt::all(), 12), part(0, 3), part(3, 6), part(6, 9));
    CHECK(same_bits(dense<float, 2>(part(9, 12)), expected.output));
    CHECK(same_bits(dense<float, 1>(xt::view(packed, xt::all(), 12)), expected.lse));
    auto comb = gaussians<float, 2>({4, 6}, 1); // out in the even columns, q in the odd ones
    const dense<float, 2> odd = xt::strided_view(comb, {xt::all(), xt::range(1, 6, 2)});
    sd::attention_into(xt::strided_view(comb, {xt::all(), xt::range(0, 6, 2)}),
                       xt::strided_view(comb, {xt::all(), xt::range(1, 6, 2)}), key, value);
    CHECK(same_bits(dense<float, 2>(xt::strided_view(comb, {xt::all(), xt::range(0, 6, 2)})),
                    sd::attention(odd, key, value)));
}

TEST_CASE("attention: an output with two indices for one element is refused")
{
    const auto small = gaussians<float, 2>({4, 4}, 4);
    std::vector<float> memory(40);
    const auto strided = [&](std::array<std::ptrdiff_t, 2> strides) {
        return xt::adapt(memory.data(), 16, xt::no_ownership(), std::array<std::size_t, 2>{4, 4}, strides);
    };
    CHECK(says(
        [&] {
            sd::attention_into(strided({0, 1}), small, small, small);
        },
        "the stride of axis 0 of out", "0", "other than 0"));
    CHECK(says(
        [&] {
            sd::attention_into(strided({4, 0}), small, small, small);
        },
        "the stride of axis 1 of out", "0", "other than 0"));
    CHECK(says(
        [&] {
            sd::attention_into(strided({2, 1}), small, small, small);
        },
        "the memory of out", "several indices for one element", "one for each"));
    CHECK(says(
        [&] {
            sd::attention_into(strided({3, 3}), small, small, small);
        },
        "the memory of out", "several indices for one element", "one for each"));
    CHECK_NOTHROW(sd::attention_into(strided({1, 4}), small, small, small));
    CHECK_NOTHROW(sd::attention_into(strided({3, 4}), small, small, small)); // interleaved, yet all different
    std::array<float, 4> sums;
    const auto repeated =
        xt::adapt(sums.data(), 4, xt::no_ownership(), std::array<std::size_t, 1>{4}, std::array<std::ptrdiff_t, 1>{0});
    auto out = small;
    auto lse = repeated;
    CHECK(says([&] { sd::attention_with_lse_into(out, lse, small, small, small); }, "the stride of axis 0 of lse", "0",
               "other than 0"));
}
