// SPDX-License-Identifier: BSD-3-Clause
// Snippets of the documentation: attention over arrays of many origins, and as PyTorch and ONNX spell it.
#include <scaledot/scaledot.hpp>

#include "support.hpp"

#include <exception>
#include <string>

using std::size_t;

namespace {

constexpr double close = 1e-5;

void causal()
{
    const auto q = numbers<4>({2, 4, 6, 8});
    const auto k = numbers<4>({2, 4, 6, 8});
    const auto v = numbers<4>({2, 4, 6, 8});
    // begin: causal
    // [batch, heads, length, head size], as many queries as keys: query i stands at key i
    auto y = scaledot::attention(q, k, v, {.causal = true});
    // end: causal
    CHECK(largest_difference(y, textbook(q, k, v, where([](size_t, size_t, size_t i, size_t j) { return j <= i; }))) <
          close);
}

void masks()
{
    const auto q = numbers<4>({2, 2, 4, 8});
    const auto k = numbers<4>({2, 2, 6, 8});
    const auto v = numbers<4>({2, 2, 6, 8});
    // begin: masks
    // bool: true may attend. A mask broadcasts from the right to [batch, heads, queries, keys].
    xt::xtensor<bool, 2> may_attend = xt::ones<bool>({4, 6});
    may_attend(0, 5) = false;
    auto masked = scaledot::attention(q, k, v, {.mask = may_attend});

    // float: added to the scaled scores (ALiBi, T5's position bias); -infinity excludes
    xt::xtensor<float, 3> bias = xt::zeros<float>({2, 4, 6}); // one for each head
    bias(1, 0, 5) = -std::numeric_limits<float>::infinity();
    bias(1, 0, 4) = -2.f;
    auto biased = scaledot::attention(q, k, v, {.mask = bias});

    // padding on the right: how many keys of each batch entry are valid. The others are never read.
    std::vector<std::size_t> key_lengths = {6, 4};
    auto padded = scaledot::attention(q, k, v, {.key_lengths = key_lengths});
    // end: masks
    CHECK(largest_difference(masked, textbook(q, k, v, where([](size_t, size_t, size_t i, size_t j) {
                                                  return !(i == 0 && j == 5);
                                              }))) < close);
    CHECK(largest_difference(biased, textbook(q, k, v, [&](size_t, size_t h, size_t i, size_t j) {
                                 return static_cast<double>(bias(h, i, j));
                             })) < close);
    CHECK(largest_difference(padded, textbook(q, k, v, where([](size_t b, size_t, size_t, size_t j) {
                                                  return j < (b == 0 ? 6u : 4u);
                                              }))) < close);
}

void cross()
{
    const auto decoder = numbers<3>({2, 3, 32});
    const auto encoder_k = numbers<3>({2, 7, 32});
    const auto encoder_v = numbers<3>({2, 7, 48});
    // begin: cross
    // queries of the decoder, keys and values of the encoder: [batch, length, heads * size], where the two lengths
    // differ, and so may the size of a key and that of a value
    std::vector<std::size_t> source_lengths = {7, 5}; // sentences padded to 7 tokens
    auto q = scaledot::split_heads(decoder, 4);       // [2, 4, 3, 8]
    auto k = scaledot::split_heads(encoder_k, 4);     // [2, 4, 7, 8]
    auto v = scaledot::split_heads(encoder_v, 4);     // [2, 4, 7, 12]
    auto y = scaledot::attention(q, k, v, {.key_lengths = source_lengths});

    // which source tokens a target token looks at
    auto weights =
        scaledot::attention_scores(q, k, scaledot::score_stage::probabilities, {.key_lengths = source_lengths});
    // end: cross
    CHECK(y.shape(3) == 12 && weights.shape(3) == 7);
    CHECK(weights(1, 0, 0, 5) == 0.f && weights(0, 0, 0, 5) > 0.f);
    CHECK(largest_difference(y, textbook(q, k, v, where([](size_t b, size_t, size_t, size_t j) {
                                             return j < (b == 0 ? 7u : 5u);
                                         }))) < close);
}

void packed()
{
    const auto qkv = numbers<3>({2, 6, 96});
    // begin: packed
    // One projection for all three: [batch, length, 3 * heads * size]. Nothing of it is copied.
    constexpr std::size_t heads = 4, width = 32;
    auto q = xt::view(qkv, xt::all(), xt::all(), xt::range(0, width));
    auto k = xt::view(qkv, xt::all(), xt::all(), xt::range(width, 2 * width));
    auto v = xt::view(qkv, xt::all(), xt::all(), xt::range(2 * width, 3 * width));

    // The output is written packed as well, [batch, length, heads * size], for the projection that follows.
    xt::xtensor<float, 3> out = xt::zeros<float>({2, 6, 32});
    scaledot::attention_into(scaledot::split_heads(out, heads), scaledot::split_heads(q, heads),
                             scaledot::split_heads(k, heads), scaledot::split_heads(v, heads), {.causal = true});
    // end: packed
    const auto expected =
        textbook(scaledot::split_heads(q, heads), scaledot::split_heads(k, heads), scaledot::split_heads(v, heads),
                 where([](size_t, size_t, size_t i, size_t j) { return j <= i; }));
    CHECK(largest_difference(scaledot::split_heads(out, heads), expected) < close);
}

void grouped_packed()
{
    const auto qkv = numbers<2>({6, 64});
    // begin: grouped
    // Grouped heads, as a decoder's fused projection has them: 4 query heads, 2 key heads and 2 value heads of size 8
    auto q = xt::view(qkv, xt::all(), xt::range(0, 32));
    auto k = xt::view(qkv, xt::all(), xt::range(32, 48));
    auto v = xt::view(qkv, xt::all(), xt::range(48, 64));
    auto y = scaledot::attention(scaledot::split_heads(q, 4), scaledot::split_heads(k, 2), scaledot::split_heads(v, 2),
                                 {.causal = true}); // [4, 6, 8]
    // end: grouped
    const auto expand = [](const auto& x, size_t heads) {
        const auto view = scaledot::split_heads(x, heads);
        return xt::xtensor<float, 4>(xt::view(view, xt::newaxis(), xt::all(), xt::all(), xt::all()));
    };
    CHECK(largest_difference(y, textbook(expand(q, 4), expand(k, 2), expand(v, 2),
                                         where([](size_t, size_t, size_t i, size_t j) { return j <= i; }))) < close);
}

void memory()
{
    std::vector<float> query_storage(2 * 4 * 8), key_storage(2 * 6 * 8), value_storage(2 * 6 * 8);
    for (auto* storage : {&query_storage, &key_storage, &value_storage}) {
        const auto some = numbers<1>({storage->size()});
        std::copy(some.begin(), some.end(), storage->begin());
    }
    std::vector<float> output_storage(2 * 4 * 8);
    // begin: vector
    // std::vector, with the shape [heads, length, size]: no copy, the vector stays yours
    std::array<std::size_t, 3> q_shape = {2, 4, 8}, k_shape = {2, 6, 8};
    auto q = xt::adapt(query_storage, q_shape);
    auto k = xt::adapt(key_storage, k_shape);
    auto v = xt::adapt(value_storage, k_shape);
    auto out = xt::adapt(output_storage, q_shape);
    scaledot::attention_into(out, q, k, v);
    // end: vector

    const float* key_pointer = key_storage.data();
    const float* value_pointer = value_storage.data();
    float* output_pointer = output_storage.data();
    // begin: pointer
    // raw pointers: xt::no_ownership(), the number of elements and the shape
    auto keys = xt::adapt(key_pointer, 2 * 6 * 8, xt::no_ownership(), k_shape);
    auto values = xt::adapt(value_pointer, 2 * 6 * 8, xt::no_ownership(), k_shape);
    scaledot::attention_into(xt::adapt(output_pointer, 2 * 4 * 8, xt::no_ownership(), q_shape), q, keys, values);
    // end: pointer
    const std::vector<float> first = output_storage;

    // begin: strides
    // strides in elements: keys stored as [length, heads, size] read as [heads, length, size]
    std::array<std::ptrdiff_t, 3> strides = {8, 2 * 8, 1};
    auto interleaved = xt::adapt(key_pointer, 2 * 6 * 8, xt::no_ownership(), k_shape, strides);
    auto y = scaledot::attention(q, interleaved, values);
    // end: strides
    const auto whole = [](const auto& x) {
        return xt::xtensor<float, 4>(xt::view(x, xt::newaxis(), xt::all(), xt::all(), xt::all()));
    };
    const auto everything = [](size_t, size_t, size_t, size_t) { return 0.0; };
    CHECK(largest_difference(first, textbook(whole(q), whole(k), whole(v), everything)) < close);
    CHECK(largest_difference(y, textbook(whole(q), whole(interleaved), whole(v), everything)) < close);
}

void pytorch()
{
    const auto q = numbers<4>({2, 4, 3, 8});
    const auto k = numbers<4>({2, 2, 6, 8});
    const auto v = numbers<4>({2, 2, 6, 8});
    // begin: sdpa
    // F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.25, enable_gqa=True)
    auto y = scaledot::attention(q, k, v, {.causal = true, .align = scaledot::alignment::top_left, .scale = 0.25});
    // end: sdpa
    xt::xtensor<float, 4> stretched = q * (0.25f * std::sqrt(8.f));
    CHECK(largest_difference(
              y, textbook(stretched, k, v, where([](size_t, size_t, size_t i, size_t j) { return j <= i; }))) < close);
}

void multihead()
{
    constexpr std::size_t num_heads = 4;
    const auto query = numbers<3>({2, 3, 32}); // after the in-projection
    const auto key = numbers<3>({2, 5, 32});
    const auto value = numbers<3>({2, 5, 32});
    xt::xtensor<bool, 2> key_padding_mask = xt::zeros<bool>({2, 5});
    key_padding_mask(1, 4) = true;
    // begin: multihead
    // what nn.MultiheadAttention(32, num_heads, batch_first=True)(query, key, value, key_padding_mask) does between
    // its projections
    xt::xtensor<bool, 4> may_attend(std::array<std::size_t, 4>{2, 1, 1, 5});
    for (std::size_t b = 0; b < 2; ++b) {
        for (std::size_t j = 0; j < 5; ++j) {
            may_attend(b, 0, 0, j) = !key_padding_mask(b, j); // there, true is to be ignored
        }
    }
    auto q = scaledot::split_heads(query, num_heads);
    auto k = scaledot::split_heads(key, num_heads);
    xt::xtensor<float, 3> context = xt::zeros<float>({2, 3, 32});
    scaledot::attention_into(scaledot::split_heads(context, num_heads), q, k, scaledot::split_heads(value, num_heads),
                             {.mask = may_attend});

    // need_weights=True, average_attn_weights=True
    auto weights = scaledot::attention_scores(q, k, scaledot::score_stage::probabilities, {.mask = may_attend});
    xt::xtensor<float, 3> averaged = xt::mean(weights, {1});
    // end: multihead
    CHECK(largest_difference(scaledot::split_heads(context, num_heads),
                             textbook(q, k, scaledot::split_heads(value, num_heads),
                                      where([](size_t b, size_t, size_t, size_t j) { return b == 0 || j < 4; }))) <
          close);
    CHECK(averaged.shape(1) == 3 && averaged(1, 0, 4) == 0.f);
}

void onnx()
{
    constexpr std::size_t past_sequence_length = 4;
    const auto past_key = numbers<4>({2, 2, past_sequence_length, 8});
    const auto past_value = numbers<4>({2, 2, past_sequence_length, 8});
    const auto Q = numbers<4>({2, 4, 3, 8});
    const auto K = numbers<4>({2, 2, 3, 8});
    const auto V = numbers<4>({2, 2, 3, 8});
    // begin: onnx_past
    // past_key, past_value in; Y, present_key, present_value, qk_matmul_output out
    scaledot::kv_cache<float> cache({.batch = 2, .heads = 2, .key_size = 8, .value_size = 8});
    cache.append(past_key, past_value);
    cache.append(K, V);
    scaledot::attention_options options = {.causal = true, .query_offset = past_sequence_length};
    auto Y = scaledot::attention(Q, cache, options);
    auto present_key = cache.keys(); // views, valid until the cache changes
    auto present_value = cache.values();
    // qk_matmul_output_mode: 0 scaled, 1 capped, 2 masked, 3 probabilities
    auto qk_matmul_output = scaledot::attention_scores(Q, present_key, scaledot::score_stage::probabilities, options);
    // end: onnx_past
    const auto sees = where([](size_t, size_t, size_t i, size_t j) { return j <= i + past_sequence_length; });
    CHECK(largest_difference(Y, textbook(Q, present_key, present_value, sees)) < close);
    CHECK(present_key.shape()[2] == 7 && qk_matmul_output(0, 0, 0, 6) == 0.f);

    // begin: onnx_external
    // a cache of the caller's: nonpad_kv_seqlen (opset 24), and a sliding window (opset 25)
    std::vector<std::size_t> nonpad_kv_seqlen = {7, 5};
    auto y = scaledot::attention(Q, present_key, present_value,
                                 {.causal = true,
                                  .align = scaledot::alignment::bottom_right, // per batch entry: its last valid key
                                  .window_left = 2,                           // left_window_size
                                  .key_lengths = nonpad_kv_seqlen});
    // end: onnx_external
    CHECK(
        largest_difference(y, textbook(Q, present_key, present_value, where([&](size_t b, size_t, size_t i, size_t j) {
                                           const size_t place = nonpad_kv_seqlen[b] - 3 + i;
                                           return j <= place && j + 2 >= place;
                                       }))) < close);
}

void errors()
{
    const auto q = numbers<3>({2, 3, 8});
    const auto k = numbers<3>({2, 6, 8});
    std::string message;
    // begin: errors
    try {
        scaledot::attention(q, k, k, {.causal = true}); // 3 queries, 6 keys: where do the queries stand?
    } catch (const std::invalid_argument& error) {
        message = error.what();
    }
    // end: errors
    CHECK(message.find("align") != std::string::npos);
}

} // namespace

int main()
{
    causal();
    masks();
    cross();
    packed();
    grouped_packed();
    memory();
    pytorch();
    multihead();
    onnx();
    errors();
    return failures;
}
