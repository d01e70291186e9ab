// SPDX-License-Identifier: BSD-3-Clause
// What rows in double are normalised with, for several rows at once, from their sums (kernel/double_sums.hpp);
// kernel/norm_rows.hpp has the pass that normalises. A row whose numbers would not make this exact enough is told, and
// left to kernel/norm.hpp. docs/numerics.md#layer_norm derives the conditions and the bound.
#ifndef SCALEDOT_KERNEL_DOUBLE_ROWS_HPP
#define SCALEDOT_KERNEL_DOUBLE_ROWS_HPP

#include <scaledot/detail/config.hpp>
#include <scaledot/kernel/choice.hpp>
#include <scaledot/kernel/double_sums.hpp>
#include <scaledot/kernel/moments.hpp>
#include <scaledot/kernel/pair.hpp>
#include <scaledot/kernel/row_sums.hpp>
#include <scaledot/kernel/simd.hpp>
#include <scaledot/kernel/unroll.hpp>

#include <array>
#include <cstddef>
#include <cstdint>

SCALEDOT_KERNELS_BEGIN
namespace scaledot::inline SCALEDOT_BUILD::kernel {

/// What as many rows as a vector has doubles are normalised with, and the verdicts on these numbers.
template <class Arch>
struct double_normalizations {
    static constexpr std::size_t size = lanes<Arch, double>;
    std::array<double, size> mean;
    std::array<double, size> offset; ///< -(the mean - that rounded to double) * inverse
    std::array<double, size> inverse;
    std::array<std::int64_t, size> verdict; ///< negative: this row is kernel/norm.hpp's
    std::array<std::int64_t, size> rounded; ///< negative: the inverse may not be the exact one rounded once
};

/// 1 / sqrt(v), rounded once: one Newton step from the exact residual 1 - v r^2.
template <class V>
[[gnu::always_inline]] inline V rounded_inverse_root(const pair<V>& v)
{
    const V estimate = barrier(V(V(1) / barrier(xsimd::sqrt(v.high))));
    const auto root = two_product(v.high, estimate);
    const V root_low = barrier(multiply_add(v.low, estimate, root.low));
    const V rough_residual = barrier(negative_multiply_add(root.high, estimate, V(1)));
    const V residual = barrier(negative_multiply_add(root_low, estimate, rough_residual));
    return barrier(multiply_add(barrier(V(V(0.5) * estimate)), residual, estimate));
}

/// From sums with a row a lane, whose squares are wrong by no more than `error` of themselves.
template <class Arch, bool Centred>
[[gnu::always_inline]] inline double_normalizations<Arch> normalizations_of(const double_sums<Arch>& sums, double error,
                                                                            std::size_t count, double epsilon)
{
    using D = batch<Arch, double>;
    using I = batch<Arch, std::int64_t>;
    const auto elements = static_cast<double>(count);
    const triple<D> mean_square = mean_of(sums.squares, elements);
    pair<D> variance{mean_square.high, mean_square.low};
    const D variance_error = variance.high * D(error);
    triple<D> mean{D(0), D(0), D(0)};
    if constexpr (Centred) {
        mean = mean_of(two_sum(sums.elements.high, sums.elements.low), elements); // they may have cancelled
        const auto square = two_product(mean.high, mean.high);
        const D square_low = barrier(multiply_add(D(mean.high + mean.high), mean.low, square.low));
        const auto difference = two_sum(variance.high, negated(square.high));
        variance = {difference.high, barrier(D(difference.low + barrier(D(variance.low - square_low))))};
    }
    const auto with_epsilon = two_sum(variance.high, D(epsilon));
    variance = fast_two_sum(with_epsilon.high, barrier(D(with_epsilon.low + variance.low)));
    const D inverse = rounded_inverse_root(variance);
    D usual = smaller(D(D(0x1p400) - sums.squares.high), D(sums.squares.high - D(0x1p-400)));
    usual = smaller(usual, D(D(0x1p400) - variance.high));
    usual = smaller(usual, D(variance.high - variance_error * D(0x1p54)));
    const I infinite(exponent_mask<double>);
    const I finite = (as_bits(sums.squares.high) & infinite) - infinite; // negative where squares are
    double_normalizations<Arch> result;
    I(as_bits(usual) | ~finite).store_unaligned(result.verdict.data());
    as_bits(D(variance.high - variance_error * D(0x1p66))).store_unaligned(result.rounded.data());
    mean.high.store_unaligned(result.mean.data());
    const D lowest = barrier(D(mean.lowest * inverse));
    D(negated(multiply_add(mean.low, inverse, lowest))).store_unaligned(result.offset.data());
    inverse.store_unaligned(result.inverse.data());
    return result;
}

/// From the sums of each row, lane by lane.
template <class Arch, bool Centred>
double_normalizations<Arch> normalizations_of(const std::array<double_sums<Arch>, lanes<Arch, double>>& rows,
                                              std::size_t count, double epsilon)
{
    using D = batch<Arch, double>;
    using summation = double_summation<Arch, Centred, double>;
    std::array<pair<D>, D::size> each;
    double_sums<Arch> sums;
    unroll<D::size>([&](auto r) __attribute__((always_inline)) { each[r] = rows[r].squares; });
    sums.squares = sum_rows(each);
    if constexpr (Centred) {
        unroll<D::size>([&](auto r) __attribute__((always_inline)) { each[r] = rows[r].elements; });
        sums.elements = sum_rows(each);
    }
    const double blocks = static_cast<double>(count) / static_cast<double>(summation::step_size) + 1;
    return normalizations_of<Arch, Centred>(sums, (2048 + blocks * (330 + blocks)) * 0x1p-106, count, epsilon);
}

/// Of as many short rows, `stride` elements apart, as a vector has doubles.
template <class Arch, bool Centred>
std::array<double_normalizations<Arch>, 1> normalizations_of_short_rows(const double* rows, std::ptrdiff_t stride,
                                                                        std::size_t count, double epsilon)
{
    using summation = short_rows_summation<Arch, Centred>;
    const double blocks = static_cast<double>(count) / static_cast<double>(summation::block) + 1;
    return {normalizations_of<Arch, Centred>(summation(rows, stride)(count), (256 + blocks * (80 + blocks)) * 0x1p-106,
                                             count, epsilon)};
}

} // namespace scaledot::inline SCALEDOT_BUILD::kernel
SCALEDOT_KERNELS_END

#endif
