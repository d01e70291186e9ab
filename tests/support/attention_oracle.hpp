// SPDX-License-Identifier: BSD-3-Clause
// Attention by its definition, one row at a time in long double: dot products, every option on its own, softmax, sum.
// And what it takes to hand it any array. Special values are told apart by their bits, so that -ffast-math changes
// nothing.
#ifndef SCALEDOT_TESTS_SUPPORT_ATTENTION_ORACLE_HPP
#define SCALEDOT_TESTS_SUPPORT_ATTENTION_ORACLE_HPP

#include <scaledot/attention_options.hpp>
#include <scaledot/detail/check.hpp>
#include <scaledot/detail/xtensor.hpp>

#include <cmath>
#include <cstddef>
#include <limits>
#include <type_traits>
#include <utility>
#include <vector>

#include "norm_rows.hpp"

#if __has_include(<xtensor/core/xexpression.hpp>)
#include <xtensor/views/xbroadcast.hpp>
#else
#include <xtensor/xbroadcast.hpp>
#endif

namespace test_support {

/// [batch, heads, length, size] in row-major order: any array of rank 2 or more, its leading axes flattened.
struct plain_heads {
    std::size_t batch = 1;
    std::size_t heads = 1;
    std::size_t length = 0;
    std::size_t size = 0;
    std::vector<double> numbers;

    const double* row(std::size_t b, std::size_t h, std::size_t i) const
    {
        return numbers.data() + ((b * heads + h) * length + i) * size;
    }
};

template <class E>
plain_heads plain(const E& e)
{
    const xt::xarray<typename E::value_type, xt::layout_type::row_major> copy = e;
    const std::size_t rank = copy.dimension();
    plain_heads result;
    result.size = copy.shape(rank - 1);
    result.length = copy.shape(rank - 2);
    result.heads = rank > 2 ? copy.shape(rank - 3) : 1;
    for (std::size_t axis = 0; axis + 3 < rank; ++axis) {
        result.batch *= copy.shape(axis);
    }
    for (const auto x : copy) {
        result.numbers.push_back(as_double(x));
    }
    return result;
}

/// What a mask does to each score [batch, heads, queries, keys]; empty: nothing.
struct plain_mask {
    std::vector<char> excluded;
    std::vector<double> bias;
};

/// A mask broadcast by xtensor to the shape of the scores of q and k.
template <class M, class Q, class K>
plain_mask plain_mask_of(const M& mask, const Q& q, const K& k)
{
    std::vector<std::size_t> shape(q.shape().begin(), q.shape().end());
    shape.back() = static_cast<std::size_t>(k.shape()[k.dimension() - 2]);
    const xt::xarray<typename M::value_type, xt::layout_type::row_major> whole = xt::broadcast(mask, shape);
    plain_mask result;
    for (const auto x : whole) {
        if constexpr (std::is_same_v<typename M::value_type, bool>) {
            result.excluded.push_back(!x);
            result.bias.push_back(0);
        } else {
            const bool excludes = scaledot::detail::is_negative_infinity(as_double(x));
            result.excluded.push_back(excludes);
            result.bias.push_back(excludes ? 0 : as_double(x));
        }
    }
    return result;
}

enum class row_kind { ordinary, empty, not_a_number };

struct oracle_row {
    row_kind kind = row_kind::empty;
    std::vector<long double> scaled;
    std::vector<long double> capped;
    std::vector<long double> masked; ///< meaningless where not seen
    std::vector<char> seen;
    std::vector<long double> probabilities; ///< of an ordinary row
    long double sink_probability = 0;
    long double lse = 0;             ///< of an ordinary row
    std::vector<long double> output; ///< of an ordinary row
};

class attention_oracle {
public:
    attention_oracle(plain_heads q, plain_heads k, plain_heads v, const scaledot::attention_options& options,
                     plain_mask mask = {})
        : q_(std::move(q)), k_(std::move(k)), v_(std::move(v)), options_(options), mask_(std::move(mask))
    {
    }

    std::size_t batch() const { return q_.batch; }
    std::size_t heads() const { return q_.heads; }
    std::size_t queries() const { return q_.length; }
    std::size_t value_size() const { return v_.size; }

    oracle_row row(std::size_t b, std::size_t h, std::size_t i) const
    {
        oracle_row result;
        const std::size_t valid = options_.key_lengths.empty() ? k_.length : options_.key_lengths[b];
        const std::size_t key_head = h / (q_.heads / k_.heads);
        long double largest = 0;
        bool any = false;
        bool poisoned = false;
        for (std::size_t j = 0; j < valid; ++j) {
            const long double scaled = scale() * dot(q_.row(b, h, i), k_.row(b, key_head, j));
            const long double cap = options_.softcap;
            const long double capped = options_.softcap > 0 ? cap * std::tanh(scaled / cap) : scaled;
            const std::size_t place = ((b * q_.heads + h) * q_.length + i) * k_.length + j;
            const long double masked = mask_.bias.empty() ? capped : capped + mask_.bias[place];
            const double judged = static_cast<double>(masked);
            const bool seen = reaches(b, i, j) && (mask_.excluded.empty() || !mask_.excluded[place]) &&
                              !scaledot::detail::is_negative_infinity(judged);
            result.scaled.push_back(scaled);
            result.capped.push_back(capped);
            result.masked.push_back(masked);
            result.seen.push_back(seen);
            if (seen) {
                poisoned = poisoned || !scaledot::detail::is_finite(judged);
                largest = !any || masked > largest ? masked : largest;
                any = true;
            }
        }
        if (!any) {
            result.output.assign(v_.size, 0);
            return result;
        }
        const double sink = options_.sinks.empty() ? 0 : options_.sinks[h];
        const bool with_sink = !options_.sinks.empty() && !scaledot::detail::is_negative_infinity(sink);
        if (poisoned || (with_sink && !scaledot::detail::is_finite(sink))) {
            result.kind = row_kind::not_a_number;
            return result;
        }
        result.kind = row_kind::ordinary;
        weigh(result, b, key_head, largest, with_sink, sink);
        return result;
    }

private:
    long double scale() const
    {
        return options_.scale ? static_cast<long double>(*options_.scale)
                              : 1 / std::sqrt(static_cast<long double>(q_.size));
    }

    long double dot(const double* a, const double* b) const
    {
        long double sum = 0;
        for (std::size_t c = 0; c < q_.size; ++c) {
            sum += static_cast<long double>(a[c]) * static_cast<long double>(b[c]);
        }
        return sum;
    }

    /// By position alone. All differences are integers below 2^64, which long double holds.
    bool reaches(std::size_t b, std::size_t i, std::size_t j) const
    {
        static_assert(std::numeric_limits<long double>::digits >= 64);
        long double position = static_cast<long double>(i);
        if (options_.query_offset) {
            position += static_cast<long double>(*options_.query_offset);
        } else if (options_.align == scaledot::alignment::bottom_right) {
            const std::size_t valid = options_.key_lengths.empty() ? k_.length : options_.key_lengths[b];
            position += static_cast<long double>(valid) - static_cast<long double>(q_.length);
        }
        const long double behind = position - static_cast<long double>(j);
        return (!options_.causal || behind >= 0) &&
               (!options_.window_left || behind <= static_cast<long double>(*options_.window_left)) &&
               (!options_.window_right || -behind <= static_cast<long double>(*options_.window_right));
    }

    void weigh(oracle_row& row, std::size_t b, std::size_t key_head, long double largest, bool with_sink,
               long double sink) const
    {
        largest = with_sink && sink > largest ? sink : largest;
        long double sum = with_sink ? std::exp(sink - largest) : 0;
        for (std::size_t j = 0; j < row.seen.size(); ++j) {
            row.probabilities.push_back(row.seen[j] ? std::exp(row.masked[j] - largest) : 0);
            sum += row.probabilities.back();
        }
        row.output.assign(v_.size, 0);
        for (std::size_t j = 0; j < row.seen.size(); ++j) {
            row.probabilities[j] /= sum;
            for (std::size_t c = 0; c < v_.size && row.seen[j]; ++c) {
                row.output[c] += row.probabilities[j] * static_cast<long double>(v_.row(b, key_head, j)[c]);
            }
        }
        row.sink_probability = with_sink ? std::exp(sink - largest) / sum : 0;
        row.lse = largest + std::log(sum);
    }

    plain_heads q_;
    plain_heads k_;
    plain_heads v_;
    scaledot::attention_options options_;
    plain_mask mask_;
};

} // namespace test_support

#endif
