// SPDX-License-Identifier: BSD-3-Clause
// One pass over a row of float, half or bfloat16 that adds up, in double, what layer_norm and rms_norm need of it, and
// folds of several rows' vectors into one with a row a lane.
#ifndef SCALEDOT_KERNEL_ROW_SUMS_HPP
#define SCALEDOT_KERNEL_ROW_SUMS_HPP

#include <scaledot/detail/config.hpp>
#include <scaledot/kernel/convert.hpp>
#include <scaledot/kernel/cut_sums.hpp>
#include <scaledot/kernel/pair.hpp>
#include <scaledot/kernel/shuffle.hpp>
#include <scaledot/kernel/simd.hpp>
#include <scaledot/kernel/stream.hpp>
#include <scaledot/kernel/unroll.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <utility>

SCALEDOT_KERNELS_BEGIN
namespace scaledot::inline SCALEDOT_BUILD::kernel {

namespace shuffles {

/// Lanes First, First + 2, First + 4, ... of a and b as one.
template <std::size_t Count, int First, class Sequence = std::make_index_sequence<Count>>
struct every_other;
template <std::size_t Count, int First, std::size_t... I>
struct every_other<Count, First, std::index_sequence<I...>> : pattern<(2 * static_cast<int>(I) + First)...> {};

} // namespace shuffles

/// x[0] op x[1], x[2] op x[3], ... of the lanes of a, then those of b.
template <class T, class A, class Operation>
[[gnu::always_inline]] inline xsimd::batch<T, A> fold_pairs(const xsimd::batch<T, A>& a, const xsimd::batch<T, A>& b,
                                                            Operation&& operation)
{
    using V = xsimd::batch<T, A>;
    return operation(V(shuffles::every_other<V::size, 0>::apply(a.data, b.data)),
                     V(shuffles::every_other<V::size, 1>::apply(a.data, b.data)));
}

/// The lanes of row r folded by one tree, as lane r.
template <class V, class Operation>
[[gnu::always_inline]] inline V fold_rows(std::array<V, V::size> rows, Operation&& operation)
{
    unroll<std::bit_width(V::size) - 1>([&](auto level) __attribute__((always_inline)) {
        unroll<(V::size >> (level + 1))>([&](auto i) __attribute__((always_inline)) {
            rows[i] = fold_pairs(rows[2 * i], rows[2 * i + 1], operation);
        });
    });
    return rows[0];
}

/// The same for pairs: the rounding errors of sums are kept.
template <class V>
[[gnu::always_inline]] inline pair<V> sum_rows(std::array<pair<V>, V::size> rows)
{
    using even = shuffles::every_other<V::size, 0>;
    using odd = shuffles::every_other<V::size, 1>;
    unroll<std::bit_width(V::size) - 1>([&](auto level) __attribute__((always_inline)) {
        unroll<(V::size >> (level + 1))>([&](auto i) __attribute__((always_inline)) {
            const pair<V>& a = rows[2 * i];
            const pair<V>& b = rows[2 * i + 1];
            const auto sum = two_sum(V(even::apply(a.high.data, b.high.data)), V(odd::apply(a.high.data, b.high.data)));
            const V low = V(even::apply(a.low.data, b.low.data)) + V(odd::apply(a.low.data, b.low.data));
            rows[i] = {sum.high, sum.low + low};
        });
    });
    return rows[0];
}

/// Floats as two vectors of double, the lower lanes first.
template <class A>
[[gnu::always_inline]] inline std::array<xsimd::batch<double, A>, 2> widen_halves(const xsimd::batch<float, A>& x)
{
    using D = xsimd::batch<double, A>;
#if defined(__AVX512F__)
    if constexpr (sizeof(D) == 64) {
        return {D(_mm512_cvtps_pd(_mm512_castps512_ps256(x.data))),
                D(_mm512_cvtps_pd(_mm512_extractf32x8_ps(x.data, 1)))};
    }
#endif
#if defined(__AVX__)
    if constexpr (sizeof(D) == 32) {
        return {D(_mm256_cvtps_pd(_mm256_castps256_ps128(x.data))),
                D(_mm256_cvtps_pd(_mm256_extractf128_ps(x.data, 1)))};
    }
#endif
    alignas(A::alignment()) std::array<double, 2 * D::size> wide;
    alignas(A::alignment()) std::array<float, 2 * D::size> values;
    x.store_aligned(values.data());
    std::copy(values.begin(), values.end(), wide.begin());
    return {D::load_aligned(wide.data()), D::load_aligned(wide.data() + D::size)};
}

/// The smaller of unsigned numbers.
template <std::size_t Count>
[[gnu::always_inline]] inline vector_of_t<std::uint32_t, Count>
smaller_unsigned(const vector_of_t<std::uint32_t, Count>& a, const vector_of_t<std::uint32_t, Count>& b)
{
#if defined(__AVX512F__)
    if constexpr (Count == 16) {
        return std::bit_cast<vector_of_t<std::uint32_t, Count>>(
            _mm512_min_epu32(std::bit_cast<__m512i>(a), std::bit_cast<__m512i>(b)));
    }
#endif
    return a < b ? a : b;
}

/// 32 bits each in 64.
template <class D>
[[gnu::always_inline]] inline xsimd::batch<std::int64_t, typename D::arch_type>
widen_unsigned(const vector_of_t<std::uint32_t, D::size>& x)
{
    using I = xsimd::batch<std::int64_t, typename D::arch_type>;
#if defined(__AVX512F__)
    if constexpr (D::size == 8) {
        return I(_mm512_cvtepu32_epi64(std::bit_cast<__m256i>(x)));
    }
#endif
    return std::bit_cast<I>(__builtin_convertvector(x, vector_of_t<std::int64_t, D::size>));
}

/// What one pass over a row adds up, lane by lane.
template <class Arch>
struct row_sums {
    using D = batch<Arch, double>;
    using I = batch<Arch, std::int64_t>;
    pair<D> sum{D(0), D(0)};
    D squares = D(0);
    D largest_squares = D(0); ///< of the chains of additions; only where these are joined in pairs
    I smallest = I(std::numeric_limits<std::uint32_t>::max()); ///< of 2 |x|'s bits - 1, which passes over zeros
};

/// What is left of a row's exact sum when its chains of additions are joined: all of it in one number where rows are
/// short, a pair for long ones.
enum class join_kind { plain, paired };

/// Sums in double of a row of floats, halves or bfloat16, two vectors of floats a step: four chains of additions a
/// lane. Without Centred only squares. Ahead: what follows the row in memory is asked for.
template <class Arch, bool Centred, bool Ahead, class S>
class row_summation {
    using D = batch<Arch, double>;
    using F = batch<Arch, float>;
    using U = vector_of_t<std::uint32_t, F::size>;

public:
    static constexpr std::size_t step_size = 2 * F::size;

    [[gnu::always_inline]] row_summation(const S* x, std::size_t count) : x_(x), count_(count)
    {
        unroll<4>([&](auto c) __attribute__((always_inline)) { sums_[c] = squares_[c] = D(0); });
    }

    [[gnu::always_inline]] bool has_step() const { return i_ + step_size <= count_; }

    [[gnu::always_inline]] void step()
    {
        if constexpr (Ahead) {
            constexpr std::size_t distance = 2048;
            const auto ahead = reinterpret_cast<std::uintptr_t>(x_ + i_) + distance;
            for (std::size_t line = 0; line < step_size * sizeof(S); line += 64) {
                __builtin_prefetch(reinterpret_cast<const void*>(ahead + line));
            }
        }
        add_at(i_, std::integral_constant<std::size_t, 0>{});
        add_at(i_ + F::size, std::integral_constant<std::size_t, 2>{});
        i_ += step_size;
    }

    /// What is left, and the chains joined.
    [[gnu::always_inline]] row_sums<Arch> finish(join_kind kind)
    {
        while (has_step()) {
            step();
        }
        if (i_ + F::size <= count_) {
            add_at(i_, std::integral_constant<std::size_t, 0>{});
            i_ += F::size;
        }
        if (i_ < count_) {
            const F v = load_first<Arch, float>(x_ + i_, count_ - i_);
            add(v, widen_halves(v), std::integral_constant<std::size_t, 2>{});
        }
        row_sums<Arch> result;
        if constexpr (Centred) {
            if (kind == join_kind::plain) {
                result.sum.high = (sums_[0] + sums_[1]) + (sums_[2] + sums_[3]);
            } else {
                result.sum = join(two_sum(sums_[0], sums_[1]), two_sum(sums_[2], sums_[3]));
                result.largest_squares = larger(larger(squares_[0], squares_[1]), larger(squares_[2], squares_[3]));
            }
        }
        using half = vector_of_t<std::uint32_t, F::size / 2>;
        const auto halves = std::bit_cast<std::array<half, 2>>(smallest_);
        result.smallest = widen_unsigned<D>(smaller_unsigned<F::size / 2>(halves[0], halves[1]));
        result.squares = (squares_[0] + squares_[1]) + (squares_[2] + squares_[3]);
        return result;
    }

private:
    template <std::size_t First>
    [[gnu::always_inline]] void add_at(std::size_t i, std::integral_constant<std::size_t, First> first)
    {
        const F v = load_vector<Arch, float>(x_ + i);
        if constexpr (std::is_same_v<S, float>) {
            add(v, {load_vector<Arch, double>(x_ + i), load_vector<Arch, double>(x_ + i + D::size)}, first);
        } else {
            add(v, widen_halves(v), first);
        }
    }

    template <std::size_t First>
    [[gnu::always_inline]] void add(const F& v, const std::array<D, 2>& wide,
                                    std::integral_constant<std::size_t, First>)
    {
        const U bits = std::bit_cast<U>(v);
        smallest_ = smaller_unsigned<F::size>(smallest_, bits + bits - 1);
        if constexpr (Centred) {
            sums_[First] = sums_[First] + wide[0];
            sums_[First + 1] = sums_[First + 1] + wide[1];
        }
        squares_[First] = multiply_add(wide[0], wide[0], squares_[First]);
        squares_[First + 1] = multiply_add(wide[1], wide[1], squares_[First + 1]);
    }

    const S* x_;
    std::size_t count_;
    std::size_t i_ = 0;
    std::array<D, 4> sums_;
    std::array<D, 4> squares_;
    U smallest_ = ~U{};
};

} // namespace scaledot::inline SCALEDOT_BUILD::kernel
SCALEDOT_KERNELS_END

#endif
