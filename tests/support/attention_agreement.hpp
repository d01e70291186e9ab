// SPDX-License-Identifier: BSD-3-Clause
// Whether attention agrees with the oracle: every row of the right kind, every number within what rounding explains.
#ifndef SCALEDOT_TESTS_SUPPORT_ATTENTION_AGREEMENT_HPP
#define SCALEDOT_TESTS_SUPPORT_ATTENTION_AGREEMENT_HPP

#include <scaledot/attention.hpp>
#include <scaledot/kernel/scores.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <sstream>
#include <string>
#include <type_traits>

#include "attention_cases.hpp"
#include "attention_oracle.hpp"

namespace test_support {

/// Rounding's share in one row: u per step for each step of the scores' chains, at both ends of a difference, and of
/// the weights' sums over blocks and chunks.
struct row_bound {
    double output = 0;
    double lse = 0;
    bool representable = true; ///< no score near the largest number of the arithmetic
};

template <class T>
row_bound bound_of(const oracle_row& row, const plain_heads& q, const plain_heads& k, const plain_heads& v,
                   std::size_t b, std::size_t h, std::size_t i, const scaledot::attention_options& options)
{
    const double unit = static_cast<double>(std::numeric_limits<T>::epsilon()) / 2;
    const std::size_t key_head = h / (q.heads / k.heads);
    const double scale = std::abs(options.scale.value_or(1 / std::sqrt(static_cast<double>(q.size))));
    double magnitude = options.sinks.empty() ? 0 : std::abs(options.sinks[h]);
    double value = 0;
    double product = 0;
    for (std::size_t j = 0; j < row.seen.size(); ++j) {
        if (!row.seen[j]) {
            continue;
        }
        double sum = 0;
        for (std::size_t c = 0; c < q.size; ++c) {
            sum += std::abs(q.row(b, h, i)[c] * k.row(b, key_head, j)[c]);
        }
        product = std::max(product, sum);
        const double bias = std::abs(static_cast<double>(row.masked[j] - row.capped[j]));
        magnitude = std::max(magnitude,
                             (options.softcap > 0 ? std::min(sum * scale, 4 * options.softcap) : sum * scale) + bias);
        for (std::size_t c = 0; c < v.size; ++c) {
            value = std::max(value, std::abs(v.row(b, key_head, j)[c]));
        }
    }
    const double steps = static_cast<double>(q.size) + 12;
    const double of_scores = 2 * steps * magnitude * unit;
    const double of_sums = (256 + static_cast<double>(row.seen.size()) / 128) * unit;
    const double smallest = static_cast<double>(std::numeric_limits<T>::min());
    row_bound bound;
    bound.output =
        value * (2 * of_scores + of_sums) + static_cast<double>(row.seen.size() + 1) * smallest * (value + 1);
    bound.lse = of_scores + of_sums;
    const double limit = static_cast<double>(std::numeric_limits<T>::max()) / 8;
    bound.representable = product < limit && product * scale < limit && magnitude < limit &&
                          value < limit / static_cast<double>(row.seen.size() + 1);
    return bound;
}

/// What disagrees, in words; empty when nothing does. Rows whose scores leave the range of the arithmetic are not
/// judged, nor are rows whose exact output is not finite, but for not being finite.
template <class Q, class K, class V>
std::string disagreement(const Q& q, const K& k, const V& v, const scaledot::attention_options& options = {},
                         const plain_mask& mask = {})
{
    using element = typename Q::value_type;
    using T = scaledot::detail::arithmetic_t<element, typename K::value_type, typename V::value_type>;
    const auto result = scaledot::attention_with_lse(q, k, v, options);
    const plain_heads query = plain(q), key = plain(k), value = plain(v), output = plain(result.output);
    scaledot::attention_options rounded = options;
    if (options.scale) {
        rounded.scale = static_cast<double>(scaledot::kernel::in_range<T>(*options.scale));
    }
    const attention_oracle oracle(query, key, value, rounded, mask);
    std::size_t flat = 0;
    for (std::size_t b = 0; b < query.batch; ++b) {
        for (std::size_t h = 0; h < query.heads; ++h) {
            for (std::size_t i = 0; i < query.length; ++i, ++flat) {
                const oracle_row exact = oracle.row(b, h, i);
                const double lse = static_cast<double>(result.lse.data()[flat]);
                std::ostringstream where;
                where << "batch entry " << b << ", head " << h << ", query " << i << ": ";
                if (exact.kind == row_kind::empty) {
                    const double identity =
                        options.sinks.empty() ? scaledot::kernel::negative_infinity<double> : options.sinks[h];
                    const auto as_lse = scaledot::kernel::in_range<std::decay_t<decltype(result.lse(0))>>(identity);
                    const bool same = std::memcmp(&as_lse, &result.lse.data()[flat], sizeof as_lse) == 0 ||
                                      (as_lse == 0 && lse == 0) || // of either sign
                                      (scaledot::detail::is_nan(lse) && scaledot::detail::is_nan(identity));
                    if (!same) {
                        return where.str() + "lse of a row without a key";
                    }
                } else if (exact.kind == row_kind::not_a_number && !scaledot::detail::is_nan(lse)) {
                    return where.str() + "lse should be NaN";
                }
                const row_bound bound = bound_of<T>(exact, query, key, value, b, h, i, options);
                const bool judged = exact.kind == row_kind::ordinary && bound.representable;
                if (judged && !(std::abs(lse - static_cast<double>(exact.lse)) <=
                                bound.lse + std::abs(lse) * static_cast<double>(std::numeric_limits<T>::epsilon()))) {
                    where << "lse " << lse << ", exactly " << exact.lse;
                    return where.str();
                }
                for (std::size_t c = 0; c < value.size; ++c) {
                    const double computed = output.row(b, h, i)[c];
                    const bool fits = exact.kind == row_kind::empty          ? all_zero(std::array{computed})
                                      : exact.kind == row_kind::not_a_number ? scaledot::detail::is_nan(computed)
                                                                             : true;
                    if (!fits) {
                        where << "output[" << c << "] " << computed << " in a row that is "
                              << (exact.kind == row_kind::empty ? "without a key" : "NaN");
                        return where.str();
                    }
                    if (!judged) {
                        continue;
                    }
                    const auto exact_output = static_cast<double>(exact.output[c]);
                    const double stored_exact = as_double(from_double<element>(exact_output));
                    if (!scaledot::detail::is_finite(stored_exact)) {
                        continue;
                    }
                    const double stored = std::is_same_v<element, T> ? 0 : std::abs(exact_output) * 0x1p-8 + 0x1p-24;
                    if (!scaledot::detail::is_finite(computed) ||
                        std::abs(computed - exact_output) > bound.output + stored) {
                        where << "output[" << c << "] " << computed << ", exactly " << exact_output << ", bound "
                              << bound.output;
                        return where.str();
                    }
                }
            }
        }
    }
    return {};
}

} // namespace test_support

#endif
