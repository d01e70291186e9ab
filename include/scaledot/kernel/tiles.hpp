// SPDX-License-Identifier: BSD-3-Clause
// The two matrix products of attention on AMX, whose registers are tiles of 16 rows of 64 bytes: 16 x 32 bfloat16 times
// 32 x 16, in pairs, added to 16 x 16 floats. A result is a chain over tiles, in each of which the products at even and
// at odd places are chains of multiply-adds of their own; subnormals count as 0. Rows do not see each other. Formats
// are those of bfloat16_step, so that packing knows nothing of tiles. Source: Intel 64 and IA-32 Architectures Software
// Developer's Manual, TDPBF16PS.
#ifndef SCALEDOT_KERNEL_TILES_HPP
#define SCALEDOT_KERNEL_TILES_HPP

#include <scaledot/detail/config.hpp>
#include <scaledot/kernel/pack.hpp>
#include <scaledot/kernel/prefetch.hpp>
#include <scaledot/kernel/products.hpp>
#include <scaledot/kernel/shuffle.hpp>
#include <scaledot/kernel/simd.hpp>
#include <scaledot/kernel/step.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#if defined(SCALEDOT_MULTIPLIES_TILES)
#include <immintrin.h>
#endif

SCALEDOT_KERNELS_BEGIN
namespace scaledot::inline SCALEDOT_BUILD::kernel {

template <class Step>
struct tile_products;

/// The registers that products of Step need set up before, on each thread.
template <class Step>
struct needed_registers {};

#if defined(SCALEDOT_MULTIPLIES_TILES)

/// Eight tile registers of full size, for the life of this object, on the thread that made it.
class tile_registers {
public:
    tile_registers()
    {
        alignas(64) static constexpr layout all_full;
        _tile_loadconfig(&all_full);
    }
    ~tile_registers() { _tile_release(); }
    tile_registers(const tile_registers&) = delete;
    tile_registers& operator=(const tile_registers&) = delete;

private:
    /// As the processor reads it.
    struct layout {
        std::uint8_t palette = 1;
        std::uint8_t start_row = 0;
        std::array<std::uint8_t, 14> reserved{};
        std::array<std::uint16_t, 16> bytes_of_row{64, 64, 64, 64, 64, 64, 64, 64};
        std::array<std::uint8_t, 16> rows{16, 16, 16, 16, 16, 16, 16, 16};
    };
    static_assert(sizeof(layout) == 64);
};

/// Rows of a tile register, and elements of one of its rows.
inline constexpr std::size_t tile_size = 16;

constexpr long bytes_of_elements(std::ptrdiff_t count)
{
    return static_cast<long>(count) * 4;
}

/// Registers 0 ... Vectors - 1 += left right, 16 rows and 16 * Vectors columns; `steps` is a multiple of 16. Reads what
/// was written before, of which the compiler does not know.
template <std::size_t Vectors>
[[gnu::always_inline]] inline void multiply_tiles(const std::uint32_t* left, std::size_t left_stride,
                                                  const std::uint32_t* right, std::ptrdiff_t right_stride,
                                                  std::size_t steps)
{
    static_assert(Vectors >= 1 && Vectors <= 4);
    const long left_bytes = bytes_of_elements(static_cast<std::ptrdiff_t>(left_stride));
    const long right_bytes = bytes_of_elements(right_stride);
    std::atomic_signal_fence(std::memory_order_seq_cst);
    for (std::size_t i = 0; i < steps; i += tile_size, right += static_cast<std::ptrdiff_t>(tile_size) * right_stride) {
        _tile_loadd(4, left + i, left_bytes);
        _tile_loadd(5, right, right_bytes);
        _tile_dpbf16ps(0, 4, 5);
        if constexpr (Vectors > 1) {
            _tile_loadd(6, right + tile_size, right_bytes);
            _tile_dpbf16ps(1, 4, 6);
        }
        if constexpr (Vectors > 2) {
            _tile_loadd(5, right + 2 * tile_size, right_bytes);
            _tile_dpbf16ps(2, 4, 5);
        }
        if constexpr (Vectors > 3) {
            _tile_loadd(6, right + 3 * tile_size, right_bytes);
            _tile_dpbf16ps(3, 4, 6);
        }
    }
}

/// The same of two tiles of rows and two of columns, for which four are loaded instead of five: registers 0 and 1 are
/// those of the upper rows, 2 and 3 of the lower ones.
[[gnu::always_inline]] inline void multiply_pair(const std::uint32_t* left, std::size_t left_stride,
                                                 const std::uint32_t* right, std::ptrdiff_t right_stride,
                                                 std::size_t steps)
{
    const long left_bytes = bytes_of_elements(static_cast<std::ptrdiff_t>(left_stride));
    const long right_bytes = bytes_of_elements(right_stride);
    const std::uint32_t* const lower = left + tile_size * left_stride;
    std::atomic_signal_fence(std::memory_order_seq_cst);
    for (std::size_t i = 0; i < steps; i += tile_size, right += static_cast<std::ptrdiff_t>(tile_size) * right_stride) {
        _tile_loadd(4, left + i, left_bytes);
        _tile_loadd(6, right, right_bytes);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(7, right + tile_size, right_bytes);
        _tile_dpbf16ps(1, 4, 7);
        _tile_loadd(5, lower + i, left_bytes);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
}

/// Reads or writes the registers of multiply_pair.
[[gnu::always_inline]] inline void load_pair(const float* x, std::size_t stride)
{
    const long bytes = bytes_of_elements(static_cast<std::ptrdiff_t>(stride));
    std::atomic_signal_fence(std::memory_order_seq_cst);
    _tile_loadd(0, x, bytes);
    _tile_loadd(1, x + tile_size, bytes);
    _tile_loadd(2, x + tile_size * stride, bytes);
    _tile_loadd(3, x + tile_size * stride + tile_size, bytes);
}
[[gnu::always_inline]] inline void store_pair(float* x, std::size_t stride)
{
    const long bytes = bytes_of_elements(static_cast<std::ptrdiff_t>(stride));
    _tile_stored(0, x, bytes);
    _tile_stored(1, x + tile_size, bytes);
    _tile_stored(2, x + tile_size * stride, bytes);
    _tile_stored(3, x + tile_size * stride + tile_size, bytes);
    std::atomic_signal_fence(std::memory_order_seq_cst);
}

/// Sets registers 0 ... Vectors - 1 to 0.
template <std::size_t Vectors>
[[gnu::always_inline]] inline void clear_tiles()
{
    _tile_zero(0);
    if constexpr (Vectors > 1) {
        _tile_zero(1);
    }
    if constexpr (Vectors > 2) {
        _tile_zero(2);
    }
    if constexpr (Vectors > 3) {
        _tile_zero(3);
    }
}

/// Reads registers 0 ... Vectors - 1, side by side.
template <std::size_t Vectors>
[[gnu::always_inline]] inline void load_tiles(const float* x, std::size_t stride)
{
    const long bytes = bytes_of_elements(static_cast<std::ptrdiff_t>(stride));
    std::atomic_signal_fence(std::memory_order_seq_cst);
    _tile_loadd(0, x, bytes);
    if constexpr (Vectors > 1) {
        _tile_loadd(1, x + tile_size, bytes);
    }
    if constexpr (Vectors > 2) {
        _tile_loadd(2, x + 2 * tile_size, bytes);
    }
    if constexpr (Vectors > 3) {
        _tile_loadd(3, x + 3 * tile_size, bytes);
    }
}

/// Writes registers 0 ... Vectors - 1, side by side.
template <std::size_t Vectors>
[[gnu::always_inline]] inline void store_tiles(float* x, std::size_t stride)
{
    const long bytes = bytes_of_elements(static_cast<std::ptrdiff_t>(stride));
    _tile_stored(0, x, bytes);
    if constexpr (Vectors > 1) {
        _tile_stored(1, x + tile_size, bytes);
    }
    if constexpr (Vectors > 2) {
        _tile_stored(2, x + 2 * tile_size, bytes);
    }
    if constexpr (Vectors > 3) {
        _tile_stored(3, x + 3 * tile_size, bytes);
    }
    std::atomic_signal_fence(std::memory_order_seq_cst);
}

/// The products of attention in tiles of Step.
template <class Step>
    requires multiplies_tiles<Step>
struct tile_products<Step> {
    using element = std::uint32_t;
    using sum = typename Step::sum;

    /// score_tile for 16 rows: all of them are there to be read and written, whether they mean something or not.
    template <std::size_t Vectors>
    static void score(const element* queries, std::size_t query_stride, const element* panel, std::size_t steps,
                      float* scores, std::size_t score_stride)
    {
        clear_tiles<Vectors>();
        multiply_tiles<Vectors>(queries, query_stride, panel, register_tile<typename Step::arch, float>::width, steps);
        store_tiles<Vectors>(scores, score_stride);
    }

    /// score for 32 rows.
    template <std::size_t Vectors>
    static void score_pair(const element* queries, std::size_t query_stride, const element* panel, std::size_t steps,
                           float* scores, std::size_t score_stride)
    {
        constexpr std::size_t width = register_tile<typename Step::arch, float>::width;
        if constexpr (Vectors % 2 == 0) {
            for (std::size_t first = 0; first < Vectors * tile_size; first += 2 * tile_size) {
                clear_tiles<4>();
                multiply_pair(queries, query_stride, panel + first, width, steps);
                store_pair(scores + first, score_stride);
            }
        } else {
            score<Vectors>(queries, query_stride, panel, steps, scores, score_stride);
            score<Vectors>(queries + tile_size * query_stride, query_stride, panel, steps,
                           scores + tile_size * score_stride, score_stride);
        }
    }

    /// Queries as columns: element i of row r at i * tile_size + r; missing rows are 0.
    static void pack_columns(const element* rows, std::size_t count, std::size_t steps, element* columns)
    {
        std::fill_n(columns, steps * tile_size, element(0));
        for (std::size_t r = 0; r < count; ++r) {
            for (std::size_t i = 0; i < steps; ++i) {
                columns[i * tile_size + r] = rows[r * steps + i];
            }
        }
    }

    /// score_tile_of_rows for up to 16 queries, packed as columns: keys are left factors, and nothing but the scores is
    /// transposed. A sum is the same either way.
    template <class K>
    static void score_rows(const element* columns, std::size_t rows, const K* keys, std::ptrdiff_t key_stride,
                           std::size_t steps, float* scores, std::size_t score_stride)
    {
        constexpr std::size_t width = register_tile<typename Step::arch, float>::width;
        constexpr std::size_t group = transposed_at_once<float, float>;
        const long bytes = static_cast<long>(key_stride) * static_cast<long>(sizeof(K));
        row_prefetcher next(keys, width, key_stride, steps * Step::depth);
        alignas(64) std::array<float, tile_size * tile_size> products;
        for (std::size_t first = 0; first < width; first += tile_size) {
            std::atomic_signal_fence(std::memory_order_seq_cst);
            _tile_zero(0);
            for (std::size_t i = 0; i < steps; i += tile_size) {
                next.template ask<tile_size>();
                _tile_loadd(4, keys + i * Step::depth, bytes);
                _tile_loadd(5, columns + i * tile_size, cache_line);
                _tile_dpbf16ps(0, 4, 5);
            }
            store_tiles<1>(products.data(), tile_size);
            for (std::size_t r = 0; r < rows; r += group) {
                const auto of_rows = load_transposed<typename Step::arch, float>(products.data() + r, tile_size);
                for (std::size_t i = 0; i < std::min(group, rows - r); ++i) {
                    of_rows[i].store_unaligned(scores + (r + i) * score_stride + first);
                }
            }
            keys += static_cast<std::ptrdiff_t>(tile_size) * key_stride;
        }
    }

    /// value_rows for up to 16 rows; 16 rows of weights are there to be read.
    static void add_values(std::size_t rows, const element* weights, std::size_t weight_stride, const element* values,
                           std::ptrdiff_t value_stride, std::size_t steps, const float* kept, std::size_t value_vectors,
                           float* output, std::size_t output_stride)
    {
        if (kept) {
            scale(output, output_stride, rows, value_vectors, kept);
        }
        if (rows == tile_size) {
            add_tiles(weights, weight_stride, values, value_stride, steps, !kept, value_vectors, output, output_stride);
            return;
        }
        with_whole_tiles(rows, value_vectors, !kept, output, output_stride,
                         [&](std::size_t v, std::size_t vectors, float* whole) {
                             add_tiles(weights, weight_stride, values + v * tile_size, value_stride, steps, !kept,
                                       vectors, whole, widest_whole);
                         });
    }

    /// add_values for 32 rows.
    static void add_values_of_pair(const element* weights, std::size_t weight_stride, const element* values,
                                   std::ptrdiff_t value_stride, std::size_t steps, const float* kept,
                                   std::size_t value_vectors, float* output, std::size_t output_stride)
    {
        if (kept) {
            scale(output, output_stride, 2 * tile_size, value_vectors, kept);
        }
        std::size_t v = 0;
        for (; v + 2 <= value_vectors; v += 2) {
            float* const at = output + v * tile_size;
            if (kept) {
                load_pair(at, output_stride);
            } else {
                clear_tiles<4>();
            }
            multiply_pair(weights, weight_stride, values + v * tile_size, value_stride, steps);
            store_pair(at, output_stride);
        }
        for (std::size_t row = 0; v < value_vectors && row < 2 * tile_size; row += tile_size) {
            add_tiles(weights + row * weight_stride, weight_stride, values + v * tile_size, value_stride, steps, !kept,
                      1, output + row * output_stride + v * tile_size, output_stride);
        }
    }

    /// add_values of values that lie as rows of `value_size` numbers, one for each of `keys` keys: packed a few keys at
    /// a time, where no other tile of rows shares them.
    template <class V>
    static void add_stored_values(std::size_t rows, const element* weights, std::size_t weight_stride, const V* values,
                                  std::ptrdiff_t value_stride, std::size_t keys, const float* kept,
                                  std::size_t value_size, std::size_t value_vectors, float* output,
                                  std::size_t output_stride)
    {
        constexpr std::size_t at_once = 64;
        alignas(64) std::array<element, at_once / Step::depth * widest_whole> packed;
        if (kept) {
            scale(output, output_stride, rows, value_vectors, kept);
        }
        with_whole_tiles(
            rows, value_vectors, !kept, output, output_stride, [&](std::size_t v, std::size_t vectors, float* whole) {
                const std::size_t width = vectors * tile_size;
                const std::size_t present = std::min(width, value_size - v * tile_size);
                for (std::size_t first = 0; first < keys; first += at_once) {
                    const std::size_t count = std::min(at_once, keys - first);
                    pack_values<Step, true>(values + static_cast<std::ptrdiff_t>(first) * value_stride + v * tile_size,
                                            value_stride, count, present, width, packed.data());
                    add_tiles(weights + first / Step::depth, weight_stride, packed.data(),
                              static_cast<std::ptrdiff_t>(width), steps_of<Step>(count), !kept && first == 0, vectors,
                              whole, widest_whole);
                }
            });
    }

    /// value_row_selected.
    static void add_selected_values(const element* weights, const bool* excluded, const element* values,
                                    std::ptrdiff_t value_stride, std::size_t steps, float kept,
                                    std::size_t value_vectors, float* output)
    {
        alignas(64) std::array<element, block_keys / Step::depth * tile_size> selected;
        scale(output, 0, 1, value_vectors, &kept);
        with_whole_tiles(1, value_vectors, false, output, 0, [&](std::size_t first, std::size_t vectors, float* whole) {
            for (std::size_t v = 0; v < vectors; ++v) {
                for (std::size_t i = 0; i < steps; ++i) {
                    const auto value =
                        Step::load(values + static_cast<std::ptrdiff_t>(i) * value_stride + (first + v) * tile_size);
                    Step::without(value, excluded + i * Step::depth).store_aligned(selected.data() + i * tile_size);
                }
                add_tiles(weights, 0, selected.data(), tile_size, steps, false, 1, whole + v * tile_size, widest_whole);
            }
        });
    }

    /// Ends `count` numbers of output, whole vectors: a sum that underflowed may be -0, which more keys of weight 0
    /// would turn into +0. They leave no trace.
    static void finish(float* output, std::size_t count)
    {
        for (std::size_t i = 0; i < count; i += Step::lanes) {
            sum(sum::load_unaligned(output + i) + barrier(sum(0))).store_unaligned(output + i);
        }
    }

private:
    /// How many components of rows that do not fill a tile are worked on together.
    static constexpr std::size_t widest_whole = 8 * tile_size;

    /// Multiplies each of `rows` rows of `vectors` vectors by its own factor. Adding 0 turns a -0 into +0.
    static void scale(float* output, std::size_t stride, std::size_t rows, std::size_t vectors, const float* factors)
    {
        for (std::size_t r = 0; r < rows; ++r, output += stride) {
            if (std::bit_cast<std::uint32_t>(factors[r]) == std::bit_cast<std::uint32_t>(1.0F)) {
                continue;
            }
            for (std::size_t v = 0; v < vectors; ++v) {
                const sum scaled = barrier(sum(sum::load_unaligned(output + v * Step::lanes) * sum(factors[r])));
                sum(scaled + barrier(sum(0))).store_unaligned(output + v * Step::lanes);
            }
        }
    }

    /// Calls add(first vector, vectors, whole) for all vectors of up to 16 rows: whole are as many rows as tiles have,
    /// widest_whole apart, which end up in `output`, and begin as it is where that is not `fresh`.
    template <class Add>
    static void with_whole_tiles(std::size_t rows, std::size_t value_vectors, bool fresh, float* output,
                                 std::size_t output_stride, const Add& add)
    {
        alignas(64) std::array<float, tile_size * widest_whole> whole{};
        for (std::size_t v = 0; v < value_vectors; v += widest_whole / tile_size) {
            const std::size_t vectors = std::min(widest_whole / tile_size, value_vectors - v);
            float* const of_rows = output + v * tile_size;
            for (std::size_t r = 0; !fresh && r < rows; ++r) {
                std::copy_n(of_rows + r * output_stride, vectors * tile_size, whole.data() + r * widest_whole);
            }
            add(v, vectors, whole.data());
            for (std::size_t r = 0; r < rows; ++r) {
                std::copy_n(whole.data() + r * widest_whole, vectors * tile_size, of_rows + r * output_stride);
            }
        }
    }

    /// Adds the products of 16 rows of weights with values to as many rows of `vectors` vectors, or writes them there
    /// where those are `fresh`.
    static void add_tiles(const element* weights, std::size_t weight_stride, const element* values,
                          std::ptrdiff_t value_stride, std::size_t steps, bool fresh, std::size_t vectors,
                          float* output, std::size_t output_stride)
    {
        std::size_t v = 0;
        const auto next = [&]<std::size_t Vectors>(std::integral_constant<std::size_t, Vectors>) {
            float* const at = output + v * tile_size;
            if (fresh) {
                clear_tiles<Vectors>();
            } else {
                load_tiles<Vectors>(at, output_stride);
            }
            multiply_tiles<Vectors>(weights, weight_stride, values + v * tile_size, value_stride, steps);
            store_tiles<Vectors>(at, output_stride);
            v += Vectors;
        };
        while (vectors - v >= 4) {
            next(std::integral_constant<std::size_t, 4>{});
        }
        if (vectors - v >= 2) {
            next(std::integral_constant<std::size_t, 2>{});
        }
        if (vectors - v == 1) {
            next(std::integral_constant<std::size_t, 1>{});
        }
    }
};

template <class Step>
    requires multiplies_tiles<Step>
struct needed_registers<Step> : tile_registers {};

#endif

} // namespace scaledot::inline SCALEDOT_BUILD::kernel
SCALEDOT_KERNELS_END

#endif
