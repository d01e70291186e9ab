// SPDX-License-Identifier: BSD-3-Clause
// From products to scores: softcap, and which keys a query may see. Works on one row of one block of keys.
#ifndef SCALEDOT_KERNEL_SCORES_HPP
#define SCALEDOT_KERNEL_SCORES_HPP

#include <scaledot/detail/config.hpp>
#include <scaledot/kernel/choice.hpp>
#include <scaledot/kernel/exp.hpp>
#include <scaledot/kernel/shuffle.hpp>
#include <scaledot/kernel/simd.hpp>
#include <scaledot/kernel/step.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <type_traits>

SCALEDOT_KERNELS_BEGIN
namespace scaledot::inline SCALEDOT_BUILD::kernel {

/// x as T, where finite numbers stay finite: beyond T's range they become its largest number of their sign.
template <class T, class S>
T in_range(S x)
{
    if constexpr (std::is_same_v<T, float> && std::is_same_v<S, double>) {
        const bool finite = (std::bit_cast<std::int64_t>(x) & exponent_mask<double>) != exponent_mask<double>;
        constexpr double largest = std::numeric_limits<float>::max();
        return static_cast<float>(!finite || (x <= largest && x >= -largest) ? x : x > 0 ? largest : -largest);
    } else {
        return to_arithmetic<T>(x);
    }
}

/// scores = cap tanh(scores / cap); `count` is a multiple of the lanes, cap > 0. tanh(x) is x to all digits for x below
/// the square root of epsilon: those scores are left alone, the quotient might be subnormal.
template <class Arch, class T>
void softcap_row(T* scores, std::size_t count, T cap)
{
    using B = batch<Arch, T>;
    const B unchanged(cap * (sizeof(T) == 8 ? T(0x1p-27) : T(0x1p-13)));
    for (std::size_t j = 0; j < count; j += lanes<Arch, T>) {
        const B score = B::load_unaligned(scores + j);
        const B capped = B(cap) * hyperbolic_tangent(quotient(score, B(cap)));
        B(xsimd::select(xsimd::abs(score) < unchanged, score, capped)).store_unaligned(scores + j);
    }
}

/// References as numbers to subtract: -inf, which no key has raised yet, as 0.
template <class T, class A>
[[gnu::always_inline]] inline xsimd::batch<T, A> finite_reference(const xsimd::batch<T, A>& reference)
{
    using I = xsimd::batch<bits_of<T>, A>;
    const I bits = as_bits(reference);
    return from_bits<T>(select_bits(bits == I(negative_infinity_bits<T>), I(0), bits));
}

/// scores = scale * scores; `count` is a multiple of the lanes.
template <class Arch, class T>
void scale_row(T* scores, std::size_t count, T scale)
{
    using B = batch<Arch, T>;
    for (std::size_t j = 0; j < count; j += lanes<Arch, T>) {
        B(B::load_unaligned(scores + j) * B(scale)).store_unaligned(scores + j);
    }
}

/// Excludes what lies before `first` and from `last` on, in each of `rows` rows; `count` scores, whole vectors.
template <class Arch, class T>
void restrict_rows(T* scores, std::size_t stride, std::size_t rows, std::size_t count, std::size_t first,
                   std::size_t last)
{
    using B = batch<Arch, T>;
    using I = batch<Arch, bits_of<T>>;
    constexpr std::size_t width = lanes<Arch, T>;
    alignas(alignment_of<Arch>) static constexpr auto numbers = [] {
        std::array<bits_of<T>, width> result{};
        std::iota(result.begin(), result.end(), bits_of<T>(0));
        return result;
    }();
    const I lane = I::load_aligned(numbers.data());
    const I excluded(negative_infinity_bits<T>);
    const auto restrict_vectors = [&](std::size_t j) {
        const auto from = static_cast<bits_of<T>>(std::clamp(first, j, j + width) - j);
        const auto to = static_cast<bits_of<T>>(std::clamp(last, j, j + width) - j);
        const auto before = lane < I(from);
        const auto within = lane < I(to);
        T* of_row = scores + j;
        for (std::size_t r = 0; r < rows; ++r, of_row += stride) {
            const I bits = select_bits(before, excluded, as_bits(B::load_unaligned(of_row)));
            from_bits<T>(select_bits(within, bits, excluded)).store_unaligned(of_row);
        }
    };
    for (std::size_t j = 0; j < std::min(first, count); j += width) {
        restrict_vectors(j);
    }
    for (std::size_t j = last / width * width; j < count; j += width) {
        restrict_vectors(j);
    }
}

/// Raises the references of `count` rows (rounded up to whole vectors) to factor * maximum where that is larger, and
/// says what is kept of weights relative to the old ones: exp(old - new), exactly 1 where a finite one stays.
template <class Arch, class T>
void raise_references(T* references, const T* maxima, T factor, std::size_t count, T* kept)
{
    using B = batch<Arch, T>;
    for (std::size_t r = 0; r < count; r += lanes<Arch, T>) {
        const B before = B::load_unaligned(references + r);
        const B after = larger(B(B::load_unaligned(maxima + r) * B(factor)), before);
        exp_negative(barrier(B(before - finite_reference(after)))).store_unaligned(kept + r);
        after.store_unaligned(references + r);
    }
}

/// A reference so large that rounding it moves weights far from those of rounded scores: factor * score - reference
/// might even overflow the exponential. Then scores are rounded before the reference is subtracted.
template <class T>
bool rounds_coarsely(T reference)
{
    return std::abs(reference) > 1 / (4 * std::numeric_limits<T>::epsilon());
}

/// Replaces scores by weights exp(factor * score - reference), as elements of Step; `count` is a multiple of the lanes.
/// Returns sums + the weights, lane by lane. Excluded scores (-inf) weigh +0. NaN or +inf among them: NaN in the sums.
template <class Step, class T>
[[gnu::always_inline]] inline typename Step::sum weigh_row(T* scores, std::size_t count, T factor, T reference,
                                                           typename Step::sum sums)
{
    using B = typename Step::sum;
    const B minus_reference = -finite_reference(B(reference));
    auto* const weights = reinterpret_cast<typename Step::element*>(scores);
    for (std::size_t j = 0; j < count; j += Step::lanes) {
        const B weight = exp_negative(barrier(multiply_add(B::load_unaligned(scores + j), B(factor), minus_reference)));
        sums = sums + Step::store_weights(weights, j, weight);
    }
    return sums;
}

/// The same of `rows` rows, none of which rounds coarsely, with a vector of sums each, of which kept[r] is kept.
template <class Step, class T>
void weigh_rows(T* scores, std::size_t stride, std::size_t rows, std::size_t count, T factor, const T* references,
                const T* kept, T* sums)
{
    using B = typename Step::sum;
    for (std::size_t r = 0; r < rows; ++r, scores += stride, sums += Step::lanes) {
        const B before = B::load_aligned(sums) * B(kept[r]);
        weigh_row<Step>(scores, count, factor, references[r], before).store_aligned(sums);
    }
}

} // namespace scaledot::inline SCALEDOT_BUILD::kernel
SCALEDOT_KERNELS_END

#endif
