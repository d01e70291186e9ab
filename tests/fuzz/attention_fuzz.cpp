// SPDX-License-Identifier: BSD-3-Clause
// Any shapes, strides, options and numbers either are refused for a reason, or give what the oracle gives.
#include <scaledot/attention.hpp>

#include "../support/attention_agreement.hpp"
#include "../support/attention_cases.hpp"
#include "../support/attention_oracle.hpp"
#include "choices.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

namespace sd = scaledot;
using namespace test_support;

namespace {

/// A view [batch, heads, length, size] with gaps between its rows, turned around, or repeating one head, over its own
/// memory.
template <class T>
struct strided_array {
    std::vector<T> memory;
    std::array<std::size_t, 4> shape;
    std::array<std::ptrdiff_t, 4> strides{};
    std::ptrdiff_t first = 0;

    strided_array(choices& input, const std::array<std::size_t, 4>& extents, unsigned seed) : shape(extents)
    {
        const bool backwards = input.one_in(4);
        const bool one_head = input.one_in(8);
        const bool sparse = input.one_in(8); // last axis not contiguous: copied
        strides[3] = sparse ? 2 : 1;
        strides[2] = static_cast<std::ptrdiff_t>(shape[3]) * strides[3] + static_cast<std::ptrdiff_t>(input.below(3));
        strides[1] = one_head ? 0 : strides[2] * static_cast<std::ptrdiff_t>(shape[2]);
        strides[0] = std::max(strides[1] * static_cast<std::ptrdiff_t>(shape[1]),
                              strides[2] * static_cast<std::ptrdiff_t>(shape[2]));
        memory.resize(static_cast<std::size_t>(strides[0]) * shape[0] + 8);
        std::mt19937 engine(seed);
        for (T& x : memory) {
            x = from_double<T>(static_cast<double>(engine() % 1024) / 256 - 2);
        }
        for (std::size_t i = input.below(6); i > 0; --i) {
            const std::size_t place = input.below(256) * 256 + input.below(256);
            memory[place % memory.size()] = from_double<T>(input.number());
        }
        if (backwards && shape[2] > 0) {
            first = strides[2] * static_cast<std::ptrdiff_t>(shape[2] - 1);
            strides[2] = -strides[2];
        }
        for (std::size_t axis = 0; axis < 4; ++axis) {
            strides[axis] = shape[axis] == 1 ? 0 : strides[axis];
        }
    }

    auto view() const
    {
        const std::size_t count = shape[0] * shape[1] * shape[2] * shape[3];
        return xt::adapt(memory.data() + first, count, xt::no_ownership(), shape, strides);
    }
};

/// A mask's shape: each axis broadcast, left out from the left, or now and then wrong.
std::vector<std::size_t> mask_shape(choices& input, const std::array<std::size_t, 4>& scores, bool& fits)
{
    std::vector<std::size_t> shape;
    for (std::size_t axis = input.below(5); axis < 4; ++axis) {
        const std::size_t kind = input.below(16);
        const std::size_t extent = kind < 10 ? scores[axis] : kind < 15 ? 1 : scores[axis] + 1;
        fits = fits && (extent == 1 || extent == scores[axis]);
        shape.push_back(extent);
    }
    return shape;
}

struct problem {
    sd::attention_options options;
    std::vector<std::size_t> lengths;
    std::vector<double> sinks;
    bool valid = true;

    problem(choices& input, const std::array<std::size_t, 4>& q_shape, std::size_t keys)
    {
        if (input.one_in(3)) {
            lengths.resize(q_shape[0] + (input.one_in(32) ? 1 : 0));
            valid = valid && (lengths.empty() || lengths.size() == q_shape[0]);
            for (auto& length : lengths) {
                length = input.one_in(32) ? keys + 1 : input.below(keys + 1);
                valid = valid && length <= keys;
            }
            options.key_lengths = lengths;
        }
        if (input.one_in(3)) {
            sinks.resize(q_shape[1] + (input.one_in(32) ? 1 : 0));
            valid = valid && (sinks.empty() || sinks.size() == q_shape[1]);
            std::generate(sinks.begin(), sinks.end(), [&] { return input.number(); });
            options.sinks = sinks;
        }
        options.causal = input.one_in(2);
        options.window_left = side(input);
        options.window_right = side(input);
        if (input.below(4) != 0) {
            options.align = input.one_in(2) ? sd::alignment::bottom_right : sd::alignment::top_left;
        }
        if (!options.align ? input.one_in(2) : input.one_in(32)) {
            constexpr std::array far = {std::numeric_limits<std::ptrdiff_t>::min(),
                                        std::numeric_limits<std::ptrdiff_t>::max(),
                                        std::numeric_limits<std::ptrdiff_t>::max() - 3};
            options.query_offset =
                input.one_in(8) ? far[input.below(3)] : static_cast<std::ptrdiff_t>(input.below(256)) - 80;
            const auto room = static_cast<std::size_t>(std::numeric_limits<std::ptrdiff_t>::max()) -
                              static_cast<std::size_t>(std::max<std::ptrdiff_t>(*options.query_offset, 0));
            valid = valid && !options.align && (q_shape[2] == 0 || q_shape[2] - 1 <= room);
        }
        if (options.causal || options.window_left || options.window_right) {
            valid = valid && (options.align || options.query_offset || (q_shape[2] == keys && lengths.empty()));
        }
        if (input.one_in(4)) {
            options.scale = input.number();
            valid = valid && std::isfinite(*options.scale);
        }
        if (input.one_in(4)) {
            options.softcap = input.number();
            valid = valid && std::isfinite(options.softcap) && options.softcap >= 0;
        }
    }

private:
    static std::optional<std::size_t> side(choices& input)
    {
        switch (input.below(8)) {
        case 0:
            return 0;
        case 1:
            return input.below(160);
        case 2:
            return std::numeric_limits<std::size_t>::max() - input.below(2);
        default:
            return {};
        }
    }
};

template <class M, class Q, class K, class V>
void run(choices& input, problem& p, const Q& q, const K& k, const V& v, const std::vector<std::size_t>& shape,
         bool with_mask)
{
    xt::xarray<M> mask = xt::xarray<M>::from_shape(shape);
    for (auto& x : mask) {
        if constexpr (std::is_same_v<M, bool>) {
            x = !input.one_in(4);
        } else {
            x = from_double<M>(input.number());
        }
    }
    if (with_mask) {
        p.options.mask = mask;
    }
    std::string wrong;
    if (!computed_as_is_due(p.valid, [&] {
            wrong = disagreement(q, k, v, p.options, with_mask && p.valid ? plain_mask_of(mask, q, k) : plain_mask{});
        })) {
        return;
    }
    if (!wrong.empty()) {
        fail(wrong);
    }
}

template <class Q, class K, class V>
void run_types(choices& input)
{
    const std::size_t batch = input.below(3);
    const std::size_t key_heads = input.below(4);
    const std::size_t heads = key_heads * (1 + input.below(3)) + (input.one_in(32) ? 1 : 0);
    const std::size_t keys = input.one_in(4) ? input.below(200) : input.below(20);
    const std::size_t head_size = input.one_in(64) ? 0 : 1 + input.below(9);
    const std::size_t key_head_size = head_size + (input.one_in(64) ? 1 : 0);
    const std::array<std::size_t, 4> q_shape = {batch, heads, input.below(10), head_size};
    const std::array<std::size_t, 4> v_shape = {batch, key_heads, keys, input.below(36)};
    const strided_array<Q> q(input, q_shape, 1);
    const strided_array<K> k(input, {batch, key_heads, keys, key_head_size}, 2);
    const strided_array<V> v(input, v_shape, 3);
    problem p(input, q_shape, keys);
    p.valid = p.valid && head_size > 0 && key_head_size == head_size &&
              (key_heads == 0 ? heads == 0 : heads % key_heads == 0);
    const bool with_mask = input.one_in(2);
    bool mask_fits = true;
    const auto shape = mask_shape(input, {batch, heads, q_shape[2], keys}, mask_fits);
    p.valid = p.valid && (!with_mask || mask_fits);
    switch (input.below(3)) {
    case 0:
        return run<bool>(input, p, q.view(), k.view(), v.view(), shape, with_mask);
    case 1:
        return run<float>(input, p, q.view(), k.view(), v.view(), shape, with_mask);
    default:
        return run<double>(input, p, q.view(), k.view(), v.view(), shape, with_mask);
    }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size)
{
    choices input(data, size);
    switch (input.below(3)) {
    case 0:
        run_types<float, float, float>(input);
        break;
    case 1:
        run_types<double, double, double>(input);
        break;
    default:
        run_types<xtl::half_float, sd::bfloat16, float>(input);
        break;
    }
    return 0;
}
