// SPDX-License-Identifier: BSD-3-Clause
// The three textbook steps of attention in a given precision (scores, softmax by max, exp, sum, divide, weighted sum),
// and how far they and scaledot are from exact attention.
#ifndef SCALEDOT_TESTS_SUPPORT_TEXTBOOK_ATTENTION_HPP
#define SCALEDOT_TESTS_SUPPORT_TEXTBOOK_ATTENTION_HPP

#include <scaledot/detail/compiled_calls.hpp>
#include <scaledot/detail/element.hpp>
#include <scaledot/dispatch.hpp>
#include <scaledot/kernel/simd.hpp>
#include <scaledot/kernel/step.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <type_traits>
#include <vector>

#include "attention_oracle.hpp"

namespace test_support {

/// One row of the three steps in T; with Weight bfloat16, exponentials are rounded to that before they are summed and
/// multiplied. The barriers keep each sum the chain it is written as, also under -ffast-math.
template <class T, class Weight>
std::vector<T> textbook_row(const plain_heads& q, const plain_heads& k, const plain_heads& v, std::size_t b,
                            std::size_t h, std::size_t i, T scale)
{
    using scaledot::kernel::barrier;
    const std::size_t key_head = h / (q.heads / k.heads);
    std::vector<T> weights(k.length);
    for (std::size_t j = 0; j < k.length; ++j) {
        T sum = 0;
        for (std::size_t c = 0; c < q.size; ++c) {
            sum = barrier(sum + static_cast<T>(q.row(b, h, i)[c]) * static_cast<T>(k.row(b, key_head, j)[c]));
        }
        weights[j] = sum * scale;
    }
    const T largest = *std::max_element(weights.begin(), weights.end());
    T total = 0;
    for (T& weight : weights) {
        weight = static_cast<T>(static_cast<Weight>(std::exp(weight - largest)));
        total = barrier(total + weight);
    }
    std::vector<T> output(v.size, T(0));
    for (std::size_t j = 0; j < k.length; ++j) {
        const T probability = barrier(weights[j] / total);
        for (std::size_t c = 0; c < v.size; ++c) {
            output[c] = barrier(output[c] + probability * static_cast<T>(v.row(b, key_head, j)[c]));
        }
    }
    return output;
}

/// Errors against exact attention over a whole case.
struct error_figures {
    long double largest = 0;
    long double squares = 0;
    std::size_t count = 0;

    void add(double computed, long double exact)
    {
        const long double error = std::abs(static_cast<long double>(computed) - exact);
        largest = std::max(largest, error);
        squares += error * error;
        ++count;
    }
    void add(const error_figures& other)
    {
        largest = std::max(largest, other.largest);
        squares += other.squares;
        count += other.count;
    }
    double root_mean_square() const
    {
        return count == 0 ? 0 : static_cast<double>(std::sqrt(squares / static_cast<long double>(count)));
    }
};

struct accuracy {
    error_figures ours;
    error_figures textbook;
    double largest_output = 0;

    void add(const accuracy& other)
    {
        ours.add(other.ours);
        textbook.add(other.textbook);
        largest_output = std::max(largest_output, other.largest_output);
    }
};

/// Whether attention rounds weights to bfloat16 before it multiplies them with values.
template <class T, class Q, class V>
bool rounds_weights()
{
#if defined(SCALEDOT_DISPATCH)
    if constexpr (scaledot::detail::attention_is_compiled<Q, V, V>) {
        const auto architecture = scaledot::dispatched_architecture();
        return std::is_same_v<Q, scaledot::bfloat16> && (architecture == "avx512_bf16" || architecture == "avx512_amx");
    }
#endif
    bool rounds = false;
    scaledot::detail::with_widest<Q, V, V>(
        [&]<class Arch>(Arch) { rounds = scaledot::kernel::step_for_t<Arch, T, Q, V>::depth == 2; });
    return rounds;
}

/// Of `output`, attention's result for q, k, v with the default options, arithmetic in T and weights in
/// Weight.
template <class T, class Weight = T>
accuracy accuracy_of(const plain_heads& output, const plain_heads& q, const plain_heads& k, const plain_heads& v)
{
    accuracy result;
    const attention_oracle exact(q, k, v, {});
    const T scale = static_cast<T>(1 / std::sqrt(static_cast<long double>(q.size)));
    for (std::size_t b = 0; b < q.batch; ++b) {
        for (std::size_t h = 0; h < q.heads; ++h) {
            for (std::size_t i = 0; i < q.length; ++i) {
                const auto exact_row = exact.row(b, h, i);
                const auto textbook = textbook_row<T, Weight>(q, k, v, b, h, i, scale);
                for (std::size_t c = 0; c < v.size; ++c) {
                    result.ours.add(output.row(b, h, i)[c], exact_row.output[c]);
                    result.textbook.add(static_cast<double>(textbook[c]), exact_row.output[c]);
                    result.largest_output =
                        std::max(result.largest_output, std::abs(static_cast<double>(exact_row.output[c])));
                }
            }
        }
    }
    return result;
}

} // namespace test_support

#endif
