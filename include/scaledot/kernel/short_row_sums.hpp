// SPDX-License-Identifier: BSD-3-Clause
// kernel/row_sums.hpp of rows too short for several chains of additions, one at a time or as many as a vector has
// floats.
#ifndef SCALEDOT_KERNEL_SHORT_ROW_SUMS_HPP
#define SCALEDOT_KERNEL_SHORT_ROW_SUMS_HPP

#include <scaledot/detail/config.hpp>
#include <scaledot/kernel/convert.hpp>
#include <scaledot/kernel/row_sums.hpp>
#include <scaledot/kernel/shuffle.hpp>
#include <scaledot/kernel/simd.hpp>
#include <scaledot/kernel/stream.hpp>
#include <scaledot/kernel/unroll.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <type_traits>

SCALEDOT_KERNELS_BEGIN
namespace scaledot::inline SCALEDOT_BUILD::kernel {

/// Sums in double of a short row of floats, halves or bfloat16, less the first where Centred: element i comes to lane
/// i mod the vector's size, one chain of additions a lane.
template <class Arch, bool Centred, class S>
[[gnu::always_inline]] inline row_sums<Arch> sums_of_short_row(const S* x, std::size_t count)
{
    using D = batch<Arch, double>;
    using F = batch<Arch, float>;
    row_sums<Arch> result;
    if constexpr (Centred) {
        result.first = D(to_arithmetic<float>(x[0]));
    }
    smallest_magnitude<F> smallest;
    for (std::size_t i = 0; i < count; i += F::size) {
        const F v = load_first<Arch, float>(x + i, std::min(F::size, count - i), Centred ? x[0] : S{});
        if constexpr (Centred) {
            smallest.look_at(v);
        }
        for (D term : widen_halves(v)) {
            if constexpr (Centred) {
                term = difference_to_first(term, result.first);
                result.sum.high = result.sum.high + term;
            }
            result.squares = multiply_add(term, term, result.squares);
        }
    }
    result.smallest = smallest.template lanes<D>();
    return result;
}

/// The same of as many rows, `stride` elements apart, as a vector has floats, to the bit what fold_rows makes of each,
/// a row a lane. The lower half of the rows comes first.
template <class Arch, bool Centred, class S>
[[gnu::always_inline]] inline std::array<row_sums<Arch>, 2> sums_of_short_rows(const S* rows, std::ptrdiff_t stride,
                                                                               std::size_t count)
{
    using D = batch<Arch, double>;
    using F = batch<Arch, float>;
    constexpr std::size_t at_once = transposed_at_once<float, S>;
    constexpr std::size_t block = std::max(at_once, D::size);
    std::array<row_sums<Arch>, 2> result;
    auto squares = filled<2>(filled<D::size>(D(0)));
    smallest_magnitude<F> smallest;
    std::size_t i = 0;
    const auto add = [&](auto place, const F& column) __attribute__((always_inline))
    {
        if constexpr (Centred) {
            smallest.look_at(column);
        }
        const auto wide = widen_halves(column);
        unroll<2>([&](auto half) __attribute__((always_inline)) {
            D term = wide[half];
            if constexpr (Centred) {
                if (place == 0 && i == 0) {
                    result[half].first = term;
                }
                term = difference_to_first(term, result[half].first);
                result[half].sum.high = result[half].sum.high + term;
            }
            D& sum = squares[half][place % D::size];
            sum = multiply_add(term, term, sum);
        });
    };
    for (; i + block <= count; i += block) {
        unroll<block / at_once>([&](auto part) __attribute__((always_inline)) {
            const auto columns = load_transposed<Arch, float>(rows + (i + part * at_once), stride);
            unroll<at_once>([&](auto c) __attribute__((always_inline)) {
                add(std::integral_constant<std::size_t, part * at_once + c>{}, columns[c]);
            });
        });
    }
    unroll<block>([&](auto c) __attribute__((always_inline)) {
        if (i + c < count) {
            alignas(alignment_of<Arch>) std::array<float, F::size> column;
            const S* const x = rows + (i + c);
            for (std::size_t row = 0; row < F::size; ++row) {
                column[row] = to_arithmetic<float>(x[static_cast<std::ptrdiff_t>(row) * stride]);
            }
            add(c, F::load_aligned(column.data()));
        }
    });
    const auto halves = smallest.halves();
    unroll<2>([&](auto half) __attribute__((always_inline)) {
        unroll<std::bit_width(D::size) - 1>([&](auto level) __attribute__((always_inline)) {
            unroll<(D::size >> (level + 1))>([&](auto k) __attribute__((always_inline)) {
                squares[half][k] = barrier(D(squares[half][2 * k] + squares[half][2 * k + 1]));
            });
        });
        result[half].squares = squares[half][0];
        result[half].smallest = widen_unsigned<D>(halves[half]);
    });
    return result;
}

} // namespace scaledot::inline SCALEDOT_BUILD::kernel
SCALEDOT_KERNELS_END

#endif
