// SPDX-License-Identifier: BSD-3-Clause
#include <scaledot/attention_options.hpp>

#include <scaledot/attention.hpp>

#include "support/attention_agreement.hpp"
#include "support/attention_cases.hpp"
#include "support/attention_oracle.hpp"

#include <doctest/doctest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
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

constexpr std::ptrdiff_t smallest = std::numeric_limits<std::ptrdiff_t>::min();
constexpr std::ptrdiff_t largest = std::numeric_limits<std::ptrdiff_t>::max();
constexpr std::size_t unbounded = std::numeric_limits<std::size_t>::max();

// Two batch entries, four heads on two key heads, nine queries, and keys of which the last lie past a block of 128.
constexpr std::size_t queries = 9;
constexpr std::size_t keys = 137;
const auto q = gaussians<float, 4>({2, 4, queries, 6}, 1);
const auto k = gaussians<float, 4>({2, 2, keys, 6}, 2);
const auto v = gaussians<float, 4>({2, 2, keys, 5}, 3);

/// A mask of zeros and ones, or of biases with a -inf here and there.
template <class M>
xt::xarray<M> mask_of(const std::vector<std::size_t>& shape, unsigned seed)
{
    std::mt19937 engine(seed);
    xt::xarray<M> mask = xt::xarray<M>::from_shape(shape);
    for (auto& x : mask) {
        const auto draw = engine() % 16;
        if constexpr (std::is_same_v<M, bool>) {
            x = draw > 6;
        } else {
            x = draw == 0 ? minus_infinity_of<M>() : from_double<M>(static_cast<double>(draw) / 4 - 2);
        }
    }
    return mask;
}

template <class M>
std::string disagreement_with(const M& mask, sd::attention_options options = {})
{
    options.mask = mask;
    return disagreement(q, k, v, options, plain_mask_of(mask, q, k));
}

} // namespace

TEST_CASE_TEMPLATE("attention: a mask of any type broadcasts from the right to [batch, heads, queries, keys]", M, bool,
                   float, double, xtl::half_float, sd::bfloat16)
{
    const std::vector<std::vector<std::size_t>> shapes = {{},
                                                          {1},
                                                          {keys},
                                                          {1, 1},
                                                          {queries, 1},
                                                          {1, keys},
                                                          {queries, keys},
                                                          {1, queries, keys},
                                                          {4, queries, keys},
                                                          {4, 1, keys},
                                                          {4, 1, 1},
                                                          {2, 1, 1, 1},
                                                          {2, 1, 1, keys},
                                                          {1, 4, queries, keys},
                                                          {2, 1, queries, keys},
                                                          {2, 4, queries, keys}};
    for (const auto& shape : shapes) {
        CAPTURE(sd::detail::shape_text(shape));
        CHECK(disagreement_with(mask_of<M>(shape, 5)) == "");
        CHECK(disagreement_with(mask_of<M>(shape, 6), {.softcap = 2, .sinks = std::array{0.5f, -1.f, 2.f, 0.f}}) == "");
    }
}

TEST_CASE("attention: a mask may be a strided view of something that lives on")
{
    const xt::xarray<bool> wide = mask_of<bool>({2, 4, queries, 2 * keys}, 1);
    const auto every_other =
        xt::strided_view(wide, {xt::all(), xt::all(), xt::all(), xt::range(0, 2 * static_cast<int>(keys), 2)});
    CHECK(disagreement_with(every_other) == "");
    const xt::xarray<float> sideways = mask_of<float>({keys, queries}, 2);
    const auto turned = xt::transpose(sideways);
    CHECK(disagreement_with(turned) == "");
    const auto backwards = xt::flip(turned, 1);
    CHECK(disagreement_with(backwards) == "");
    const xt::xtensor<double, 2, xt::layout_type::column_major> column_major = mask_of<double>({queries, keys}, 3);
    CHECK(disagreement_with(column_major) == "");
}

TEST_CASE("attention: leading axes of a mask are those of the batch, however many")
{
    const auto many_q = gaussians<float, 6>({2, 1, 3, 2, 4, 6}, 1);
    const auto many_k = gaussians<float, 6>({2, 1, 3, 2, 20, 6}, 2);
    const auto many_v = gaussians<float, 6>({2, 1, 3, 2, 20, 3}, 3);
    for (const auto& shape : std::vector<std::vector<std::size_t>>{
             {2, 1, 3, 2, 4, 20}, {3, 1, 1, 20}, {2, 1, 1, 1, 4, 1}, {1, 1, 3, 1, 1, 1}}) {
        const auto mask = mask_of<bool>(shape, 4);
        CAPTURE(sd::detail::shape_text(shape));
        CHECK(disagreement(many_q, many_k, many_v, {.mask = mask}, plain_mask_of(mask, many_q, many_k)) == "");
    }
    const auto one_q = gaussians<float, 2>({4, 6}, 1);
    const auto one_k = gaussians<float, 2>({20, 6}, 2);
    const auto mask = mask_of<float>({4, 20}, 4);
    CHECK(disagreement(one_q, one_k, one_k, {.mask = mask}, plain_mask_of(mask, one_q, one_k)) == "");
}

TEST_CASE_TEMPLATE("attention: a finite bias excludes no key, however negative", M, float, double, xtl::half_float,
                   sd::bfloat16)
{
    xt::xtensor<M, 1> mask = xt::xtensor<M, 1>::from_shape({keys});
    mask.fill(std::numeric_limits<M>::lowest());
    CHECK(disagreement_with(mask) == "");
    const auto result = sd::attention_with_lse(q, k, v, {.mask = mask});
    CHECK(all_finite(result.lse));
    CHECK(!all_zero(result.output));
    mask(0) = minus_infinity_of<M>();
    const auto without_first = sd::attention_with_lse(q, k, v, {.mask = mask});
    CHECK(all_finite(without_first.lse));
    CHECK(all_finite(without_first.output));
}

TEST_CASE("attention: a bias beyond float's range is as large as float's largest, of either sign")
{
    xt::xtensor<double, 1> mask = xt::zeros<double>({keys});
    mask(keys - 1) = 1e300;
    const auto output = sd::attention(q, k, v, {.mask = mask});
    for (std::size_t c = 0; c < 5; ++c) {
        CHECK(output(1, 3, 2, c) == v(1, 1, keys - 1, c));
    }
    mask.fill(-1e300);
    CHECK(all_finite(sd::attention_with_lse(q, k, v, {.mask = mask}).lse));
}

TEST_CASE("attention: causality and windows for every alignment and offset")
{
    const std::vector<std::optional<std::ptrdiff_t>> offsets = {0,  5,    100,      130,          200,        -1,
                                                                -5, -200, smallest, smallest + 7, largest - 8};
    const std::vector<std::optional<std::size_t>> sides = {{}, 0, 1, 3, 40, 131, unbounded - 1, unbounded};
    for (const bool causal : {false, true}) {
        for (const auto left : sides) {
            for (const auto right : sides) {
                CAPTURE(causal);
                CAPTURE(left.value_or(7777));
                CAPTURE(right.value_or(7777));
                for (const auto align : {sd::alignment::top_left, sd::alignment::bottom_right}) {
                    CHECK(disagreement(
                              q, k, v,
                              {.causal = causal, .align = align, .window_left = left, .window_right = right}) == "");
                }
                if (causal && right && *right % 3 != 0) {
                    continue; // causality leaves little to the right
                }
                for (const auto offset : offsets) {
                    CAPTURE(*offset);
                    CHECK(disagreement(
                              q, k, v,
                              {.causal = causal, .query_offset = offset, .window_left = left, .window_right = right}) ==
                          "");
                }
            }
        }
    }
}

TEST_CASE("attention: more queries than keys, and as many, stand where they are told")
{
    const auto few = gaussians<float, 4>({2, 2, 5, 6}, 4);
    for (const auto align : {sd::alignment::top_left, sd::alignment::bottom_right}) {
        CHECK(disagreement(q, few, few, {.causal = true, .align = align}) == "");
        CHECK(disagreement(q, few, few, {.align = align, .window_left = 1, .window_right = 0}) == "");
    }
    CHECK(disagreement(q, q, q, {.causal = true}) == "");
    CHECK(disagreement(q, q, q, {.window_left = 2, .window_right = 1}) == "");
    CHECK(same_bits(sd::attention(q, q, q, {.causal = true}),
                    sd::attention(q, q, q, {.causal = true, .align = sd::alignment::bottom_right})));
}

TEST_CASE("attention: key lengths cut each batch entry's keys, and bottom_right counts from what is left")
{
    for (const auto& lengths :
         std::vector<std::vector<std::size_t>>{{keys, keys}, {1, 128}, {0, 129}, {127, 0}, {136, 3}}) {
        CAPTURE(lengths[0]);
        CAPTURE(lengths[1]);
        CHECK(disagreement(q, k, v, {.key_lengths = lengths}) == "");
        CHECK(disagreement(q, k, v, {.causal = true, .align = sd::alignment::top_left, .key_lengths = lengths}) == "");
        CHECK(disagreement(q, k, v, {.causal = true, .align = sd::alignment::bottom_right, .key_lengths = lengths}) ==
              "");
        CHECK(disagreement(q, k, v, {.query_offset = 3, .window_left = 4, .window_right = 2, .key_lengths = lengths}) ==
              "");
        CHECK(disagreement(q, k, v, {.align = sd::alignment::bottom_right, .window_left = 4, .key_lengths = lengths}) ==
              "");
    }
    const auto many_q = gaussians<float, 5>({2, 3, 1, 4, 6}, 1);
    const auto many_k = gaussians<float, 5>({2, 3, 1, 8, 6}, 2);
    const std::vector<std::size_t> lengths = {8, 0, 3, 5, 1, 7}; // row-major over the batch axes
    CHECK(disagreement(many_q, many_k, many_k, {.key_lengths = lengths}) == "");
}

TEST_CASE("attention: any finite scale")
{
    for (const double scale : {0.0, -0.0, -1.0, 0.125, 50.0, -1e4, 1e-30, 1e-60, 1e30}) {
        CAPTURE(scale);
        CHECK(disagreement(q, k, v, {.scale = scale}) == "");
    }
    CHECK(same_bits(sd::attention(q, k, v, {.scale = 0.0}), sd::attention(q, k, v, {.scale = 1e-300})));
    const auto zeros = filled<float, 4>({2, 4, queries, 6}, 0);
    CHECK(same_bits(sd::attention(zeros, k, v, {.scale = 1e300}), sd::attention(zeros, k, v)));
}

TEST_CASE("attention: any softcap, from far below the scores to far beyond them; 0 is off")
{
    for (const double scale : {1.0, 300.0}) {
        for (const double softcap : {1e-3, 0.5, 1.0, 30.0, 1e4, 1e20, 1e37, 1e38}) {
            CAPTURE(scale);
            CAPTURE(softcap);
            CHECK(disagreement(q, k, v, {.scale = scale, .softcap = softcap}) == "");
            CHECK(disagreement(xt::xtensor<double, 4>(q), k, v, {.scale = scale, .softcap = softcap}) == "");
        }
    }
    CHECK(same_bits(sd::attention(q, k, v, {.softcap = 0.0}), sd::attention(q, k, v)));
    CHECK(same_bits(sd::attention(q, k, v, {.softcap = -0.0}), sd::attention(q, k, v)));
    CHECK(disagreement(q, k, v, {.softcap = 1e300}) == "");
    CHECK(disagreement(q, k, v, {.softcap = 1e-300}) == "");
    CHECK(disagreement(xt::xtensor<double, 4>(q), k, v, {.softcap = 1e-300}) == "");
    CHECK(disagreement(xt::xtensor<double, 4>(q), k, v, {.softcap = 1e300}) == "");
}

TEST_CASE("attention: a sink takes part in the softmax and carries no value, float or double")
{
    const std::vector<float> sinks = {0, 3, -4, 20};
    const std::vector<double> precise = {-200, 0.1, 100, 1e4};
    CHECK(disagreement(q, k, v, {.sinks = sinks}) == "");
    CHECK(disagreement(q, k, v, {.sinks = precise}) == "");
    CHECK(disagreement(xt::xtensor<double, 4>(q), k, v, {.sinks = precise}) == "");
    CHECK(disagreement(q, k, v, {.causal = true, .query_offset = -3, .sinks = sinks}) == "");
}

TEST_CASE("attention: a sink of -inf is none; beyond float's range it is as good as alone, or as none")
{
    const std::vector<float> none(4, minus_infinity_of<float>());
    CHECK(same_bits(sd::attention(q, k, v, {.sinks = none}), sd::attention(q, k, v)));
    const std::vector<double> vanishing(4, -1e300), alone(4, 1e300);
    CHECK(same_bits(sd::attention(q, k, v, {.sinks = vanishing}), sd::attention(q, k, v)));
    const auto nothing = sd::attention(q, k, v, {.sinks = alone});
    for (const float x : nothing) {
        CHECK(x == 0);
    }
}

TEST_CASE("attention: all options at once, in the order scale, softcap, mask and position, softmax with sink")
{
    const std::vector<float> sinks = {0, 3, -4, 1};
    const std::vector<std::size_t> lengths = {131, 60};
    for (const bool causal : {false, true}) {
        const sd::attention_options options = {.mask = {},
                                               .causal = causal,
                                               .align = sd::alignment::bottom_right,
                                               .query_offset = {},
                                               .window_left = 50,
                                               .window_right = 4,
                                               .key_lengths = lengths,
                                               .scale = -1.5,
                                               .softcap = 4.0,
                                               .sinks = sinks};
        CHECK(disagreement_with(mask_of<bool>({4, queries, keys}, 3), options) == "");
        CHECK(disagreement_with(mask_of<double>({2, 1, queries, keys}, 3), options) == "");
    }
}
