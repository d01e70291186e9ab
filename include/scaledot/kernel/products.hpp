// SPDX-License-Identifier: BSD-3-Clause
// The two matrix products of attention on register tiles: scores of some query rows with a panel of keys, and weights
// with the rows of values. Every result is one chain of multiply-adds in a fixed order, whatever the tile around it.
#ifndef SCALEDOT_KERNEL_PRODUCTS_HPP
#define SCALEDOT_KERNEL_PRODUCTS_HPP

#include <scaledot/detail/config.hpp>
#include <scaledot/kernel/prefetch.hpp>
#include <scaledot/kernel/simd.hpp>
#include <scaledot/kernel/step.hpp>
#include <scaledot/kernel/unroll.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <type_traits>

SCALEDOT_KERNELS_BEGIN
namespace scaledot::inline SCALEDOT_BUILD::kernel {

/// Keys are visited in blocks of this many, at multiples of it: results do not depend on how work is cut.
inline constexpr std::size_t block_keys = 256;

/// How far apart rows of a block's scores lie: for floats an odd number of lines, so that rows that have become
/// weights, of which those of bfloat16 take half the place, do not all compete for the same sets of the first-level
/// cache.
inline constexpr std::size_t padded_block = block_keys + 16;

/// A register tile: query rows x vectors of keys (or of value components). 24 accumulators where there are 32
/// registers, 12 where there are 16; or four tile registers.
template <class Arch, class T>
struct register_tile {
    static constexpr bool in_tiles = Arch::product == bfloat16_product::tiles;
    static constexpr std::size_t rows = in_tiles ? 16 : 6;
    static constexpr std::size_t vectors = sizeof(batch<Arch, T>) == 64 ? 4 : 2;
    static constexpr std::size_t width = vectors * lanes<Arch, T>;
    static_assert(block_keys % width == 0);
};

/// How many vectors of a panel are multiplied where `keys` of them are asked for: tiles have one, half of all or all.
template <class Arch, class T>
constexpr std::size_t vectors_for(std::size_t keys)
{
    constexpr std::size_t all = register_tile<Arch, T>::vectors;
    return keys <= lanes<Arch, T> ? 1 : keys <= all / 2 * lanes<Arch, T> ? all / 2 : all;
}

/// Calls body(rows, first row) for tiles of 6 rows, then 4, 2 and 1, that make up `count` rows; `rows` is a constant
/// each time.
template <class Arch, class T, class Body>
[[gnu::always_inline]] inline void for_each_tile(std::size_t count, Body&& body)
{
    constexpr std::size_t most = register_tile<Arch, T>::rows;
    std::size_t row = 0;
    for (; row + most <= count; row += most) {
        body(std::integral_constant<std::size_t, most>{}, row);
    }
    static_assert(most < 8);
    const auto rest = [&]<std::size_t Rows>(std::integral_constant<std::size_t, Rows> rows) {
        if ((count - row) & Rows) {
            body(rows, row);
            row += Rows;
        }
    };
    rest(std::integral_constant<std::size_t, 4>{});
    rest(std::integral_constant<std::size_t, 2>{});
    rest(std::integral_constant<std::size_t, 1>{});
}

template <class Step, std::size_t Rows, std::size_t Vectors>
using accumulators = std::array<std::array<typename Step::sum, Vectors>, Rows>;

/// Copies each of `count` elements Step::copies times; `row` may be the end of what is written.
template <class Step>
void spread_row(const typename Step::element* row, std::size_t count, typename Step::element* spread)
{
    static_assert(Step::copies == Step::lanes);
    for (std::size_t i = 0; i < count; ++i) {
        Step::broadcast(row + i).store_unaligned(spread + i * Step::copies);
    }
}

/// sums[r][v] += left[r, i] right[i, v], one chain over i = 0 ... steps - 1. Element i of a row of `left` is at
/// i * Step::copies. `Ask` fetches rows of `right` ahead.
template <class Step, std::size_t Rows, std::size_t Vectors, bool Ask = false>
[[gnu::always_inline]] inline void multiply_tile(const typename Step::element* left, std::size_t left_stride,
                                                 const typename Step::right_element* right, std::ptrdiff_t right_stride,
                                                 std::size_t steps, accumulators<Step, Rows, Vectors>& sums)
{
#pragma GCC unroll 2
    for (std::size_t i = 0; i < steps; ++i, right += right_stride) {
        if constexpr (Ask) {
            ask_ahead(right, bytes_of_rows<typename Step::right_element>(right_stride, rows_ahead));
        }
        std::array<typename Step::vector, Vectors> of_right;
        unroll<Vectors>([&](auto v) __attribute__((always_inline)) {
            of_right[v] = Step::load(right + v * Step::lanes);
            if constexpr (Rows == 2 || Rows == 4) {
                of_right[v] = barrier(of_right[v]); // else GCC reads it from memory once for each row
            }
        });
        unroll<Rows>([&](auto r) __attribute__((always_inline)) {
            auto of_left = Step::load_left(left + r * left_stride + i * Step::copies);
            if constexpr (Step::copies > 1) {
                of_left = barrier(of_left); // else GCC reads it from memory once for each vector
            }
            unroll<Vectors>([&](auto v) __attribute__((always_inline)) {
                sums[r][v] = Step::multiply_add(of_left, of_right[v], sums[r][v]);
            });
        });
    }
}

/// scores[r, j] = sum_i queries[r, i] panel[i, j] for Rows rows and the first Vectors vectors of a panel of keys, each
/// one chain over i. Queries are spread (spread_row).
template <class Step, std::size_t Rows, std::size_t Vectors, class T>
void score_tile(const typename Step::element* queries, std::size_t query_stride,
                const typename Step::right_element* panel, std::size_t steps, T* scores, std::size_t score_stride)
{
    accumulators<Step, Rows, Vectors> sums;
    unroll<Rows>([&](auto r) __attribute__((always_inline)) {
        unroll<Vectors>([&](auto v) __attribute__((always_inline)) { sums[r][v] = typename Step::sum(0); });
    });
    multiply_tile<Step, Rows, Vectors>(queries, query_stride, panel, register_tile<typename Step::arch, T>::width,
                                       steps, sums);
    unroll<Rows>([&](auto r) __attribute__((always_inline)) {
        unroll<Vectors>([&](auto v) __attribute__((always_inline)) {
            sums[r][v].store_unaligned(scores + r * score_stride + v * Step::lanes);
        });
    });
}

/// output[r, c] = kept[r] output[r, c] + sum_i weights[r, i] values[i, c] for Rows rows and Vectors vectors of
/// components, one chain over i that starts from the first term, which is 0 without `kept`. Adding 0 last (behind a
/// barrier, or -ffast-math drops it) turns a -0 into +0: keys of weight 0 leave no trace. Weights are spread
/// (spread_row).
template <class Step, std::size_t Rows, std::size_t Vectors, bool Ask = false, class T>
void value_tile(const typename Step::element* weights, std::size_t weight_stride,
                const typename Step::right_element* values, std::ptrdiff_t value_stride, std::size_t steps,
                const T* kept, T* output, std::size_t output_stride)
{
    using sum = typename Step::sum;
    accumulators<Step, Rows, Vectors> sums;
    if (kept) {
        unroll<Rows>([&](auto r) __attribute__((always_inline)) {
            unroll<Vectors>([&](auto v) __attribute__((always_inline)) {
                sums[r][v] = sum(kept[r]) * sum::load_unaligned(output + r * output_stride + v * Step::lanes);
            });
        });
    } else {
        unroll<Rows>([&](auto r) __attribute__((always_inline)) {
            unroll<Vectors>([&](auto v) __attribute__((always_inline)) { sums[r][v] = sum(0); });
        });
    }
    multiply_tile<Step, Rows, Vectors, Ask>(weights, weight_stride, values, value_stride, steps, sums);
    unroll<Rows>([&](auto r) __attribute__((always_inline)) {
        unroll<Vectors>([&](auto v) __attribute__((always_inline)) {
            const sum finished = sums[r][v] + barrier(sum(0));
            finished.store_unaligned(output + r * output_stride + v * Step::lanes);
        });
    });
}

/// The same for all components, output rows of `value_vectors` vectors.
template <class Step, std::size_t Rows, class T>
void value_tiles(const typename Step::element* weights, std::size_t weight_stride,
                 const typename Step::right_element* values, std::ptrdiff_t value_stride, std::size_t steps,
                 const T* kept, std::size_t value_vectors, T* output, std::size_t output_stride)
{
    constexpr std::size_t all = register_tile<typename Step::arch, T>::vectors * (Rows <= 2 ? 2 : 1);
    static_assert(all <= 8);
    std::size_t v = 0;
    const auto multiply = [&]<std::size_t Vectors, bool Ask>(std::integral_constant<std::size_t, Vectors>,
                                                             std::bool_constant<Ask>) {
        value_tile<Step, Rows, Vectors, Ask>(weights, weight_stride, values + v * Step::lanes, value_stride, steps,
                                             kept, output + v * Step::lanes, output_stride);
        v += Vectors;
    };
    const auto next = [&]<std::size_t Vectors>(std::integral_constant<std::size_t, Vectors> vectors) {
        multiply(vectors, std::false_type{});
    };
    if constexpr (Rows <= 2) {
        if (all <= value_vectors) {
            multiply(std::integral_constant<std::size_t, all>{}, std::true_type{});
        }
    }
    while (v + all <= value_vectors) {
        next(std::integral_constant<std::size_t, all>{});
    }
    if constexpr (all > 4) {
        if (value_vectors - v >= 4) {
            next(std::integral_constant<std::size_t, 4>{});
        }
    }
    if constexpr (all > 2) {
        if (value_vectors - v == 3) {
            return next(std::integral_constant<std::size_t, 3>{});
        }
        if (value_vectors - v == 2) {
            return next(std::integral_constant<std::size_t, 2>{});
        }
    }
    if (value_vectors - v == 1) {
        next(std::integral_constant<std::size_t, 1>{});
    }
}

/// How many of a row's weights are spread at once, to stay in the first-level cache.
inline constexpr std::size_t spread_steps = 64;

/// value_tiles of weights that are not spread, at most spread_steps of each row if they have to be.
template <class Step, std::size_t Rows, class T>
void spread_and_multiply(const typename Step::element* weights, std::size_t weight_stride,
                         const typename Step::right_element* values, std::ptrdiff_t value_stride, std::size_t steps,
                         const T* kept, std::size_t value_vectors, T* output, std::size_t output_stride)
{
    if constexpr (Step::copies == 1) {
        value_tiles<Step, Rows>(weights, weight_stride, values, value_stride, steps, kept, value_vectors, output,
                                output_stride);
    } else {
        constexpr std::size_t stride = spread_steps * Step::copies;
        std::array<typename Step::element, Rows * stride> spread;
        for (std::size_t r = 0; r < Rows; ++r) {
            spread_row<Step>(weights + r * weight_stride, steps, spread.data() + r * stride);
        }
        value_tiles<Step, Rows>(spread.data(), stride, values, value_stride, steps, kept, value_vectors, output,
                                output_stride);
    }
}

/// The same for any number of steps.
template <class Step, std::size_t Rows, class T>
void value_rows(const typename Step::element* weights, std::size_t weight_stride,
                const typename Step::right_element* values, std::ptrdiff_t value_stride, std::size_t steps,
                const T* kept, std::size_t value_vectors, T* output, std::size_t output_stride)
{
    // Values that few rows see come from memory: they are to be read in order, all components of a key together.
    constexpr bool few = Rows == 4;
    constexpr std::size_t rows = few ? 2 : Rows;
    constexpr std::size_t together = few ? 16 : Step::copies == 1 ? block_keys : spread_steps;
    constexpr std::array<T, 6> all_kept{1, 1, 1, 1, 1, 1};
    std::size_t i = 0;
    do {
        const std::size_t count = std::min(together, steps - i);
        for (std::size_t r = 0; r < Rows; r += rows) {
            spread_and_multiply<Step, rows>(weights + r * weight_stride + i, weight_stride,
                                            values + static_cast<std::ptrdiff_t>(i) * value_stride, value_stride, count,
                                            i > 0  ? all_kept.data()
                                            : kept ? kept + r
                                                   : nullptr,
                                            value_vectors, output + r * output_stride, output_stride);
        }
        i += count;
    } while (i < steps);
}

/// The same for one row, with 0 for the values of excluded keys: where values are not all finite, since 0 * inf is NaN.
/// excluded[j] is of key j; there are Step::depth keys a step.
template <class Step, class T>
void value_row_selected(const typename Step::element* weights, const bool* excluded,
                        const typename Step::right_element* values, std::ptrdiff_t value_stride, std::size_t steps,
                        T kept, std::size_t value_vectors, T* output)
{
    using sum = typename Step::sum;
    for (std::size_t v = 0; v < value_vectors; ++v) {
        sum total = sum(kept) * sum::load_unaligned(output + v * Step::lanes);
        for (std::size_t i = 0; i < steps; ++i) {
            const auto value = Step::load(values + static_cast<std::ptrdiff_t>(i) * value_stride + v * Step::lanes);
            total = Step::multiply_add(Step::broadcast(weights + i), Step::without(value, excluded + i * Step::depth),
                                       total);
        }
        total = total + barrier(sum(0));
        total.store_unaligned(output + v * Step::lanes);
    }
}

} // namespace scaledot::inline SCALEDOT_BUILD::kernel
SCALEDOT_KERNELS_END

#endif
