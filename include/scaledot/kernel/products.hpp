// SPDX-License-Identifier: BSD-3-Clause
// The two matrix products of attention on register tiles: scores of some query rows with a panel of keys, and weights
// with the rows of values. Every result is one chain of multiply-adds in a fixed order, whatever the tile around it.
#ifndef SCALEDOT_KERNEL_PRODUCTS_HPP
#define SCALEDOT_KERNEL_PRODUCTS_HPP

#include <scaledot/detail/config.hpp>
#include <scaledot/kernel/simd.hpp>
#include <scaledot/kernel/unroll.hpp>

#include <array>
#include <cstddef>

SCALEDOT_KERNELS_BEGIN
namespace scaledot::inline SCALEDOT_BUILD::kernel {

/// Keys are visited in blocks of this many, at multiples of it: results do not depend on how work is cut.
inline constexpr std::size_t block_keys = 128;

/// A register tile: query rows x vectors of keys (or of value components). 24 accumulators where there are 32
/// registers, 12 where there are 16.
template <class Arch, class T>
struct register_tile {
    static constexpr std::size_t rows = 6;
    static constexpr std::size_t vectors = sizeof(batch<Arch, T>) == 64 ? 4 : 2;
    static constexpr std::size_t width = vectors * lanes<Arch, T>;
    static_assert(block_keys % width == 0);
};

/// Packs up to block_keys keys for score_tile: panels of `width` keys, component by component; missing keys are 0.
template <class Arch, class T, class K>
void pack_keys(const K* keys, std::ptrdiff_t key_stride, std::size_t count, std::size_t head_size, T* packed)
{
    constexpr std::size_t width = register_tile<Arch, T>::width;
    for (std::size_t first = 0; first < block_keys; first += width, packed += width * head_size) {
        if (first >= count) {
            return;
        }
        for (std::size_t lane = 0; lane < width; ++lane) {
            if (first + lane < count) {
                const K* key = keys + static_cast<std::ptrdiff_t>(first + lane) * key_stride;
                for (std::size_t c = 0; c < head_size; ++c) {
                    packed[c * width + lane] = to_arithmetic<T>(key[c]);
                }
            } else {
                for (std::size_t c = 0; c < head_size; ++c) {
                    packed[c * width + lane] = T(0);
                }
            }
        }
    }
}

/// scores[r, j] = scale * sum_c queries[r, c] panel[c, j], the sum one chain over c, for Rows rows and one panel of
/// keys.
template <class Arch, std::size_t Rows, class T>
void score_tile(const T* queries, std::size_t query_stride, const T* panel, std::size_t head_size, T scale, T* scores,
                std::size_t score_stride)
{
    using B = batch<Arch, T>;
    using tile = register_tile<Arch, T>;
    constexpr std::size_t vectors = tile::vectors;
    std::array<std::array<B, vectors>, Rows> sums;
    unroll<Rows>([&](auto r) { unroll<vectors>([&](auto v) { sums[r][v] = B(0); }); });
    for (std::size_t c = 0; c < head_size; ++c, panel += tile::width) {
        std::array<B, vectors> key;
        unroll<vectors>([&](auto v) { key[v] = B::load_unaligned(panel + v * lanes<Arch, T>); });
        unroll<Rows>([&](auto r) {
            const B query(queries[r * query_stride + c]);
            unroll<vectors>([&](auto v) { sums[r][v] = multiply_add(query, key[v], sums[r][v]); });
        });
    }
    unroll<Rows>([&](auto r) {
        unroll<vectors>([&](auto v) {
            const B score = sums[r][v] * B(scale);
            score.store_unaligned(scores + r * score_stride + v * lanes<Arch, T>);
        });
    });
}

/// output[r, c] = sum_j weights[r, j] values[j, c] for Rows rows and Vectors vectors of components, one chain over j
/// from +0. Adding 0 last (behind a barrier, or -ffast-math drops it) turns a -0 into +0: keys of weight 0 leave no
/// trace.
template <class Arch, std::size_t Rows, std::size_t Vectors, class T>
void value_tile(const T* weights, std::size_t weight_stride, const T* values, std::ptrdiff_t value_stride,
                std::size_t keys, T* output, std::size_t output_stride)
{
    using B = batch<Arch, T>;
    std::array<std::array<B, Vectors>, Rows> sums;
    unroll<Rows>([&](auto r) { unroll<Vectors>([&](auto v) { sums[r][v] = B(0); }); });
    for (std::size_t j = 0; j < keys; ++j, values += value_stride) {
        std::array<B, Vectors> value;
        unroll<Vectors>([&](auto v) { value[v] = B::load_unaligned(values + v * lanes<Arch, T>); });
        unroll<Rows>([&](auto r) {
            const B weight(weights[r * weight_stride + j]);
            unroll<Vectors>([&](auto v) { sums[r][v] = multiply_add(weight, value[v], sums[r][v]); });
        });
    }
    unroll<Rows>([&](auto r) {
        unroll<Vectors>([&](auto v) {
            const B sum = sums[r][v] + barrier(B(0));
            sum.store_unaligned(output + r * output_stride + v * lanes<Arch, T>);
        });
    });
}

/// The same for all components: output rows of `value_vectors` vectors.
template <class Arch, std::size_t Rows, class T>
void value_rows(const T* weights, std::size_t weight_stride, const T* values, std::ptrdiff_t value_stride,
                std::size_t keys, std::size_t value_vectors, T* output, std::size_t output_stride)
{
    constexpr std::size_t vectors = register_tile<Arch, T>::vectors;
    std::size_t v = 0;
    for (; v + vectors <= value_vectors; v += vectors) {
        value_tile<Arch, Rows, vectors>(weights, weight_stride, values + v * lanes<Arch, T>, value_stride, keys,
                                        output + v * lanes<Arch, T>, output_stride);
    }
    for (; v < value_vectors; ++v) {
        value_tile<Arch, Rows, 1>(weights, weight_stride, values + v * lanes<Arch, T>, value_stride, keys,
                                  output + v * lanes<Arch, T>, output_stride);
    }
}

/// The same for one row, skipping the keys that are excluded: for values that are not all finite, since 0 * inf is NaN.
template <class Arch, class T>
void value_row_selected(const T* weights, const bool* excluded, const T* values, std::ptrdiff_t value_stride,
                        std::size_t keys, std::size_t value_vectors, T* output)
{
    using B = batch<Arch, T>;
    for (std::size_t v = 0; v < value_vectors; ++v) {
        B sum(0);
        for (std::size_t j = 0; j < keys; ++j) {
            if (!excluded[j]) {
                const T* value = values + static_cast<std::ptrdiff_t>(j) * value_stride + v * lanes<Arch, T>;
                sum = multiply_add(B(weights[j]), B::load_unaligned(value), sum);
            }
        }
        sum = sum + barrier(B(0));
        sum.store_unaligned(output + v * lanes<Arch, T>);
    }
}

/// True when the `count` numbers at `values` are all finite.
template <class Arch, class T>
bool all_finite(const T* values, std::size_t count)
{
    using I = batch<Arch, bits_of<T>>;
    I found(0);
    for (std::size_t i = 0; i < count; i += lanes<Arch, T>) {
        const auto x = count - i >= lanes<Arch, T> ? load_vector<Arch, T>(values + i)
                                                   : load_partial<Arch, T>(values + i, count - i, T(0));
        const I exponent = as_bits(x) & I(exponent_mask<T>);
        found = select_bits(exponent == I(exponent_mask<T>), I(1), found);
    }
    return !xsimd::any(found != I(0));
}

} // namespace scaledot::inline SCALEDOT_BUILD::kernel
SCALEDOT_KERNELS_END

#endif
