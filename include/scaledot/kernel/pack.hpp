// SPDX-License-Identifier: BSD-3-Clause
// Rows of storage types into the elements products are made of (kernel/step.hpp): queries as rows, keys as panels of
// neighbouring keys component by component, values as rows of whole vectors.
#ifndef SCALEDOT_KERNEL_PACK_HPP
#define SCALEDOT_KERNEL_PACK_HPP

#include <scaledot/detail/config.hpp>
#include <scaledot/kernel/partial_vectors.hpp>
#include <scaledot/kernel/prefetch.hpp>
#include <scaledot/kernel/products.hpp>
#include <scaledot/kernel/shuffle.hpp>
#include <scaledot/kernel/simd.hpp>
#include <scaledot/kernel/step.hpp>
#include <scaledot/kernel/unroll.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

SCALEDOT_KERNELS_BEGIN
namespace scaledot::inline SCALEDOT_BUILD::kernel {

/// Elements that hold `count` numbers, as many as are multiplied.
template <class Step>
constexpr std::size_t steps_of(std::size_t count)
{
    constexpr std::size_t at_once = Step::depth * Step::together;
    return (count + at_once - 1) / at_once * Step::together;
}

/// One element from up to Step::depth numbers; missing ones are 0.
template <class Step, class S>
typename Step::element make_element(const S* numbers, std::size_t count)
{
    if constexpr (Step::depth == 1) {
        return count == 0 ? typename Step::element(0) : to_arithmetic<typename Step::element>(*numbers);
    } else {
        typename Step::element element = 0;
        std::memcpy(&element, static_cast<const void*>(numbers), std::min(count, Step::depth) * sizeof(S));
        return element;
    }
}

/// A row of `count` numbers as elements, with zeros up to steps_of them; of opposite sign where `negate` says so.
template <class Step, class S>
void pack_row(const S* numbers, std::size_t count, bool negate, typename Step::element* row)
{
    using E = typename Step::element;
    std::size_t i = 0;
    if constexpr (Step::depth == 1) {
        using arch = typename Step::arch;
        const auto pack = [&](std::size_t many) __attribute__((always_inline))
        {
            const auto x = load_some<arch, E>(numbers + i, many);
            store_some<arch, E>(row + i, many, negate ? -x : x);
        };
        for (; i + Step::lanes <= count; i += Step::lanes) {
            pack(Step::lanes);
        }
        if (i < count) {
            pack(count - i);
        }
    } else {
        const std::size_t steps = steps_of<Step>(count);
        std::fill(row + count / Step::depth, row + steps, E(0));
        if (count > 0) {
            std::memcpy(row, static_cast<const void*>(numbers), count * sizeof(S));
        }
        for (; negate && i < steps; ++i) {
            row[i] ^= E{0x80008000u};
        }
    }
}

/// As many keys as a vector has lanes, component by component: packed[i * width + lane] is element i of key `lane`.
template <class Step, class K>
void pack_lanes(const K* keys, std::ptrdiff_t key_stride, std::size_t count, std::size_t head_size,
                typename Step::element* packed, std::size_t width)
{
    using E = typename Step::element;
    constexpr std::size_t group = transposed_at_once<E, K>;
    const std::size_t steps = steps_of<Step>(head_size);
    const std::size_t present = (head_size + Step::depth - 1) / Step::depth;
    std::size_t done = 0;
    if (count == Step::lanes && head_size >= group * Step::depth) {
        row_prefetcher next(keys, Step::lanes, key_stride, head_size);
        const auto transpose = [&](std::size_t i) __attribute__((always_inline))
        {
            next.template ask<group * Step::depth * sizeof(K) * Step::lanes / cache_line>();
            const auto columns = load_transposed<typename Step::arch, E>(keys + i * Step::depth, key_stride);
            unroll<group>([&](auto c)
                              __attribute__((always_inline)) { columns[c].store_unaligned(packed + (i + c) * width); });
        };
        const std::size_t whole = head_size / Step::depth;
        for (; done + group <= whole; done += group) {
            transpose(done);
        }
        if (done < whole) {
            transpose(whole - group);
            done = whole;
        }
    }
    for (std::size_t i = done; i < steps; ++i) {
        std::fill_n(packed + i * width, Step::lanes, E(0));
    }
    for (std::size_t lane = 0; lane < count; ++lane, keys += key_stride) {
        for (std::size_t i = done; i < present; ++i) {
            packed[i * width + lane] = make_element<Step>(keys + i * Step::depth, head_size - i * Step::depth);
        }
    }
}

/// Packs up to block_keys keys for score_tile: panels of `width` keys, element by element; missing keys of the vectors
/// that tiles multiply are 0.
template <class Step, class T, class K>
void pack_keys(const K* keys, std::ptrdiff_t key_stride, std::size_t count, std::size_t head_size,
               typename Step::element* packed)
{
    constexpr std::size_t width = register_tile<typename Step::arch, T>::width;
    const std::size_t steps = steps_of<Step>(head_size);
    for (std::size_t first = 0; first < count; first += width, packed += width * steps) {
        const std::size_t multiplied = vectors_for<typename Step::arch, T>(count - first) * Step::lanes;
        for (std::size_t lane = 0; lane < multiplied; lane += Step::lanes) {
            const std::size_t from = first + lane;
            if (from < count) {
                pack_lanes<Step>(keys + static_cast<std::ptrdiff_t>(from) * key_stride, key_stride,
                                 std::min(Step::lanes, count - from), head_size, packed + lane, width);
            } else {
                for (std::size_t i = 0; i < steps; ++i) {
                    std::fill_n(packed + i * width + lane, Step::lanes, typename Step::element(0));
                }
            }
        }
    }
}

/// score_tile with keys that lie as rows, as many as a panel has: where a row or a few see them once, packing would
/// only be written and read again. The keys of a vector are transposed a line of each at a time, which is not the order
/// the machine's own prefetching follows. `steps` is a multiple of what load_transposed takes at once.
template <class Step, std::size_t Rows, class T, class K>
void score_tile_of_rows(const typename Step::element* queries, std::size_t query_stride, const K* keys,
                        std::ptrdiff_t key_stride, std::size_t steps, T* scores, std::size_t score_stride)
{
    using E = typename Step::element;
    using arch = typename Step::arch;
    constexpr std::size_t vectors = register_tile<arch, T>::vectors;
    constexpr std::size_t group = transposed_at_once<E, K>;
    constexpr std::size_t line = cache_line / sizeof(K) / Step::depth;
    for (std::size_t first = 0; first < vectors * Step::lanes; first += Step::lanes) {
        row_prefetcher after_next(keys, 2 * Step::lanes, key_stride, steps * Step::depth);
        auto sums = filled<Rows>(typename Step::sum(0));
        const auto multiply = [&](std::size_t i) __attribute__((always_inline))
        {
            const auto columns = load_transposed<arch, E>(keys + i * Step::depth, key_stride);
            unroll<group>([&](auto c) __attribute__((always_inline)) {
                unroll<Rows>([&](auto r) __attribute__((always_inline)) {
                    sums[r] = Step::multiply_add(Step::load_left(queries + r * query_stride + (i + c) * Step::copies),
                                                 columns[c], sums[r]);
                });
            });
        };
        std::size_t i = 0;
        for (; i + line <= steps; i += line) {
            after_next.template ask<Step::lanes>();
            unroll<line / group>([&](auto g) __attribute__((always_inline)) { multiply(i + g * group); });
        }
        for (; i < steps; i += group) {
            after_next.template ask<group * Step::lanes / line>();
            multiply(i);
        }
        unroll<Rows>([&](auto r) __attribute__((always_inline)) {
            sums[r].store_unaligned(scores + r * score_stride + first);
        });
        keys += static_cast<std::ptrdiff_t>(Step::lanes) * key_stride;
    }
}

/// Lanes of pairs (low[i], high[i]) of 16 bits each.
template <std::size_t Lanes, class S>
[[gnu::always_inline]] inline void interleave_pairs(const S* low, const S* high, bool has_high, std::uint32_t* pairs)
{
    auto bits = load_16_bits<Lanes>(low);
    if (has_high) {
        bits |= load_16_bits<Lanes>(high) << 16;
    }
    std::memcpy(pairs, &bits, sizeof bits);
}

/// Packs the values of `count` keys: rows of Step::depth keys, component by component, `row_size` components (whole
/// vectors), steps_of the keys; missing keys and components are 0. `Ask` fetches rows ahead.
template <class Step, bool Ask = false, class V>
void pack_values(const V* values, std::ptrdiff_t value_stride, std::size_t count, std::size_t value_size,
                 std::size_t row_size, typename Step::element* packed)
{
    using E = typename Step::element;
    for (std::size_t first = 0; first < count; first += Step::depth, packed += row_size) {
        const V* row = values + static_cast<std::ptrdiff_t>(first) * value_stride;
        if constexpr (Step::depth == 1) {
            pack_row<Step>(row, value_size, false, packed);
        } else {
            const bool has_second = first + 1 < count;
            const V* second = has_second ? row + value_stride : row;
            std::size_t c = 0;
            for (; has_second && c + 2 * Step::lanes <= value_size; c += 2 * Step::lanes) {
                if constexpr (Ask) {
                    ask_ahead(row + c, bytes_of_rows<V>(value_stride, rows_ahead));
                    ask_ahead(second + c, bytes_of_rows<V>(value_stride, rows_ahead));
                }
                Step::store_pairs(row + c, second + c, packed + c);
            }
            for (; c + Step::lanes <= value_size; c += Step::lanes) {
                interleave_pairs<Step::lanes>(row + c, second + c, has_second, packed + c);
            }
            for (; c < value_size; ++c) {
                const E low = std::bit_cast<std::uint16_t>(row[c]);
                const E high = has_second ? std::bit_cast<std::uint16_t>(second[c]) : std::uint16_t{0};
                packed[c] = low | high << 16;
            }
        }
        std::fill(packed + value_size, packed + row_size, E(0));
    }
    const std::size_t present = (count + Step::depth - 1) / Step::depth;
    std::fill_n(packed, (steps_of<Step>(count) - present) * row_size, E(0));
}

} // namespace scaledot::inline SCALEDOT_BUILD::kernel
SCALEDOT_KERNELS_END

#endif
