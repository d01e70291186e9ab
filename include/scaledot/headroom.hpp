// SPDX-License-Identifier: BSD-3-Clause
// What half and bfloat16 have left for the scores of a head: significant bits, and range for the products before the
// scale.
#ifndef SCALEDOT_HEADROOM_HPP
#define SCALEDOT_HEADROOM_HPP

#include <scaledot/bfloat16.hpp>
#include <scaledot/detail/check.hpp>
#include <scaledot/detail/config.hpp>
#include <scaledot/detail/head_rows.hpp>
#include <scaledot/detail/xtensor.hpp>
#include <scaledot/kernel/simd.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace scaledot::inline SCALEDOT_BUILD {

/// A storage format.
struct number_format {
    std::string_view name; ///< "half" or "bfloat16"
    int digits;            ///< of the significand in bits, the hidden one included
    double largest;        ///< finite number
};

/// The format of xtl::half_float or bfloat16.
template <class T>
constexpr number_format format_of()
{
    static_assert(std::is_same_v<T, xtl::half_float> || std::is_same_v<T, bfloat16>,
                  "scaledot: headroom is about xtl::half_float or scaledot::bfloat16");
    return std::is_same_v<T, bfloat16> ? number_format{"bfloat16", 8, 0x1.fep127} : number_format{"half", 11, 65504.0};
}

/// What a format has left for a head.
struct precision_headroom {
    number_format format;   ///< whose headroom it is
    double max_score;       ///< the largest magnitude of a row's maximum score, as measured
    int significant_bits;   ///< left to a weight exp(s - m) by a score of that size in this format
    double largest_product; ///< the largest |q.k| before the scale
    double room;            ///< format.largest / largest_product: below 1, the products overflow
    bool overflows;         ///< largest_product > format.largest: QK^T in this format has infinities
};

/// The headroom of T = xtl::half_float or bfloat16 for scores up to max_score and products up to largest_product.
///
/// A score s with 2^e <= |s| < 2^(e+1), rounded to p significant bits, is off by at most 2^(e-p), and so is its weight,
/// relatively: p - e bits of it are right, p of them for |s| < 2, none from 2^p on, where neighbouring scores differ by
/// a factor e^2 and more in their weights. It is the scores near the maximum that carry weight, whatever their sign.
///
/// @param max_score        magnitude of the scores that matter, after the scale
/// @param largest_product  magnitude of q.k before the scale
/// @throws std::invalid_argument  either negative or NaN; +infinity is a score or product that is out of range already
template <class T>
precision_headroom headroom(double max_score, double largest_product)
{
    if (!detail::is_non_negative(max_score)) {
        detail::reject("max_score", max_score, "at least 0");
    }
    if (!detail::is_non_negative(largest_product)) {
        detail::reject("largest_product", largest_product, "at least 0");
    }
    constexpr number_format format = format_of<T>();
    int bits = 0;
    if (detail::is_finite(max_score)) {
        const int exponent = max_score < 1 ? 0 : std::ilogb(max_score);
        bits = std::clamp(format.digits - exponent, 0, format.digits);
    }
    const bool fits = detail::is_finite(largest_product) && largest_product <= format.largest;
    const double room = largest_product == 0                 ? kernel::infinity<double>
                        : detail::is_finite(largest_product) ? format.largest / largest_product
                                                             : 0;
    return {format, max_score, bits, largest_product, room, !fits};
}

/// The headroom of each head, from its rows' largest and smallest scores.
///
/// The measured scores are those of visible keys, capped: for the range of the products that a kernel forms before it
/// masks and caps, diagnose without mask, causality and softcap.
///
/// @param diagnostics  of attention_diagnostics, [..., heads, queries]: the last axis is one head's
/// @param scale        the factor they were computed with, 1 / sqrt(head size) unless another was given
/// @return             one per head and batch entry, in row-major order; a head without visible keys has all its room,
///                     one with a NaN or infinite score none
/// @throws std::invalid_argument  scale 0 or not finite
template <class T, class Diagnostics>
std::vector<precision_headroom> headroom_of_heads(const Diagnostics& diagnostics, double scale)
{
    if (!detail::is_finite(scale) || scale == 0) {
        detail::reject("scale", scale, "finite and not 0");
    }
    const detail::head_rows size = detail::head_rows_of(diagnostics.max_logit);
    std::vector<precision_headroom> result;
    result.reserve(size.heads);
    for (std::size_t head = 0; head < size.heads; ++head) {
        double score = 0;
        double magnitude = 0;
        for (std::size_t row = head * size.queries; row < (head + 1) * size.queries; ++row) {
            if (diagnostics.visible_keys.data()[row] == 0) {
                continue;
            }
            const auto high = static_cast<double>(diagnostics.max_logit.data()[row]);
            const auto low = static_cast<double>(diagnostics.min_logit.data()[row]);
            if (!detail::is_finite(high) || !detail::is_finite(low)) {
                score = magnitude = kernel::infinity<double>;
                break;
            }
            score = std::max(score, std::abs(high));
            magnitude = std::max({magnitude, std::abs(high), std::abs(low)});
        }
        const bool known = detail::is_finite(magnitude);
        result.push_back(headroom<T>(score, known ? magnitude / std::abs(scale) : magnitude));
    }
    return result;
}

/// A headroom as a sentence: "half: a score of 100 leaves 5 of 11 significant bits (weights to 3.12 %); products up to
/// 800 are inside its range, 81.9 times over".
inline std::string to_string(const precision_headroom& h)
{
    using detail::short_number;
    std::string sentence = detail::text(h.format.name, ": a score of ", short_number(h.max_score), " leaves ",
                                        h.significant_bits, " of ", h.format.digits, " significant bits (weights to ",
                                        short_number(100 * std::exp2(-h.significant_bits)), " %); products up to ",
                                        short_number(h.largest_product));
    if (h.overflows) {
        return sentence + detail::text(" overflow before the scale (", h.format.largest,
                                       " is the largest number): scale the queries first");
    }
    return sentence + (h.largest_product == 0
                           ? std::string(" are inside its range")
                           : detail::text(" are inside its range, ", short_number(h.room), " times over"));
}

} // namespace scaledot::inline SCALEDOT_BUILD

#endif
