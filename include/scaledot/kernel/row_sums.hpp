// SPDX-License-Identifier: BSD-3-Clause
// One pass over a row of float, half or bfloat16 that adds up, in double, what layer_norm and rms_norm need of it, and
// folds of several rows' vectors into one with a row a lane.
#ifndef SCALEDOT_KERNEL_ROW_SUMS_HPP
#define SCALEDOT_KERNEL_ROW_SUMS_HPP

#include <scaledot/detail/config.hpp>
#include <scaledot/kernel/bfloat16_pairs.hpp>
#include <scaledot/kernel/choice.hpp>
#include <scaledot/kernel/convert.hpp>
#include <scaledot/kernel/cut_sums.hpp>
#include <scaledot/kernel/pair.hpp>
#include <scaledot/kernel/prefetch.hpp>
#include <scaledot/kernel/shuffle.hpp>
#include <scaledot/kernel/simd.hpp>
#include <scaledot/kernel/stream.hpp>
#include <scaledot/kernel/unroll.hpp>

#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>

SCALEDOT_KERNELS_BEGIN
namespace scaledot::inline SCALEDOT_BUILD::kernel {

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

/// The same of a single row, to the bit, in every lane.
template <class V, class Operation>
[[gnu::always_inline]] inline V fold_row(V row, Operation&& operation)
{
    unroll<std::bit_width(V::size) - 1>([&](auto)
                                            __attribute__((always_inline)) { row = fold_pairs(row, row, operation); });
    return row;
}

/// fold_pairs for sums of pairs: the rounding errors of sums are kept.
template <class V>
[[gnu::always_inline]] inline pair<V> sum_pairs(const pair<V>& a, const pair<V>& b)
{
    using even = shuffles::every_other<V::size, 0>;
    using odd = shuffles::every_other<V::size, 1>;
    const auto sum = two_sum(V(even::apply(a.high.data, b.high.data)), V(odd::apply(a.high.data, b.high.data)));
    const V low = V(even::apply(a.low.data, b.low.data)) + V(odd::apply(a.low.data, b.low.data));
    return {sum.high, sum.low + low};
}

template <class V>
[[gnu::always_inline]] inline pair<V> sum_rows(std::array<pair<V>, V::size> rows)
{
    unroll<std::bit_width(V::size) - 1>([&](auto level) __attribute__((always_inline)) {
        unroll<(V::size >> (level + 1))>([&](auto i) __attribute__((always_inline)) {
            rows[i] = sum_pairs(rows[2 * i], rows[2 * i + 1]);
        });
    });
    return rows[0];
}
template <class V>
[[gnu::always_inline]] inline pair<V> sum_row(pair<V> row)
{
    unroll<std::bit_width(V::size) - 1>([&](auto) __attribute__((always_inline)) { row = sum_pairs(row, row); });
    return row;
}

/// The smaller of unsigned numbers of 32 or 16 bits.
template <class V>
[[gnu::always_inline]] inline V smaller_unsigned(const V& a, const V& b)
{
#if defined(__AVX512BW__)
    if constexpr (sizeof(V) == 64) {
        const __m512i x = std::bit_cast<__m512i>(a);
        const __m512i y = std::bit_cast<__m512i>(b);
        return std::bit_cast<V>(sizeof(a[0]) == 4 ? _mm512_min_epu32(x, y) : _mm512_min_epu16(x, y));
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

/// What one pass over a row adds up, lane by lane, or over several rows, a row a lane.
template <class Arch>
struct row_sums {
    using D = batch<Arch, double>;
    using I = batch<Arch, std::int64_t>;
    D first = D(0); ///< what elements are less by in sum and squares
    pair<D> sum{D(0), D(0)};
    D squares = D(0);
    D largest_squares = D(0); ///< of the chains of additions; only where these are joined in pairs
    I smallest = I(std::numeric_limits<std::uint32_t>::max()); ///< of 2 |x|'s bits - 1, which passes over zeros
};

/// The smallest magnitude but 0 of each lane, as 2 |x|'s bits - 1, which passes over zeros.
template <class F>
class smallest_magnitude {
    using U = vector_of_t<std::uint32_t, F::size>;
    using half = vector_of_t<std::uint32_t, F::size / 2>;

public:
    [[gnu::always_inline]] void look_at(const F& v)
    {
        const U bits = std::bit_cast<U>(v);
        look_at_doubled(U(bits + bits));
    }
    [[gnu::always_inline]] void look_at_doubled(const U& bits) { bits_ = smaller_unsigned(bits_, U(bits - 1)); }

    [[gnu::always_inline]] std::array<half, 2> halves() const { return std::bit_cast<std::array<half, 2>>(bits_); }

    /// For half as many lanes.
    template <class D>
    [[gnu::always_inline]] auto lanes() const
    {
        return widen_unsigned<D>(smaller_unsigned(halves()[0], halves()[1]));
    }

private:
    U bits_ = ~U{};
};

/// x - first, exact where the sum of all of these is.
template <class D>
[[gnu::always_inline]] inline D difference_to_first(const D& x, const D& first)
{
    return barrier(D(x - first));
}

/// What of a row is added up: squares alone, for rms_norm; elements and squares; or elements less the first one and
/// squares of these, where variances would cancel otherwise.
enum class sum_kind { squares, elements, differences };

/// True for rows, of four elements or more, that begin with numbers close to each other: their mean is far from 0, or
/// they are so by chance.
template <class S>
bool begins_far_from_0(const S* x)
{
    const auto first = to_arithmetic<float>(x[0]);
    const auto is_close = [&](std::size_t i) {
        return std::fabs(to_arithmetic<float>(x[i]) - first) <= 0.25f * std::fabs(first);
    };
    return is_close(1) && is_close(2) && is_close(3);
}

/// What is left of a row's exact sum when its chains of additions are joined: all of it in one number where rows are
/// short, a pair for long ones.
enum class join_kind { plain, paired };

/// Sums in double of a row of floats, halves or bfloat16, two vectors of floats a step: four chains of additions a
/// lane. Which element comes to which chain depends on its place and its type only. Beside squares alone there is no
/// smallest magnitude. What follows in memory is asked for.
template <class Arch, sum_kind Kind, class S>
class row_summation {
    static constexpr bool centred = Kind != sum_kind::squares;
    static constexpr bool shifted = Kind == sum_kind::differences;
    using D = batch<Arch, double>;
    using F = batch<Arch, float>;
    using U = vector_of_t<std::uint32_t, F::size>;
    using W = vector_of_t<std::uint16_t, 2 * F::size>;

public:
    static constexpr std::size_t step_size = 2 * F::size;

    [[gnu::always_inline]] row_summation(const S* x, std::size_t count) : x_(x), count_(count)
    {
        unroll<4>([&](auto c) __attribute__((always_inline)) { sums_[c] = squares_[c] = D(0); });
        if constexpr (shifted) {
            first_ = D(to_arithmetic<float>(x[0]));
        }
    }

    [[gnu::always_inline]] bool has_step() const { return i_ + step_size <= count_; }

    [[gnu::always_inline]] void step()
    {
        constexpr std::size_t distance = 2048;
        ask_for_bytes<step_size * sizeof(S)>(x_ + i_, distance);
        if constexpr (std::is_same_v<S, bfloat16>) {
            add_pairs();
        } else {
            add_at(i_, std::integral_constant<std::size_t, 0>{});
            add_at(i_ + F::size, std::integral_constant<std::size_t, 2>{});
        }
        i_ += step_size;
    }

    /// What is left, and the chains joined. Of `result` nothing is written but what this kind of sums has.
    [[gnu::always_inline]] void finish(join_kind kind, row_sums<Arch>& result)
    {
        while (has_step()) {
            step();
        }
        if (i_ + F::size <= count_) {
            add_at(i_, std::integral_constant<std::size_t, 0>{});
            i_ += F::size;
        }
        if (i_ < count_) {
            const F v = load_first<Arch, float>(x_ + i_, count_ - i_, shifted ? x_[0] : S{});
            look_at(v);
            add(widen_halves(v), std::integral_constant<std::size_t, 2>{});
        }
        if constexpr (centred && std::is_same_v<S, bfloat16>) {
            const U pairs = std::bit_cast<U>(smallest_words_);
            smallest_.look_at_doubled(U((pairs >> 16) + 1) << 16);
            smallest_.look_at_doubled(U(pairs + 1) << 16);
        }
        result.squares = (squares_[0] + squares_[1]) + (squares_[2] + squares_[3]);
        if constexpr (centred) {
            result.first = first_;
            result.smallest = smallest_.template lanes<D>();
            if (kind == join_kind::plain) {
                result.sum.high = (sums_[0] + sums_[1]) + (sums_[2] + sums_[3]);
            } else {
                result.sum = join(two_sum(sums_[0], sums_[1]), two_sum(sums_[2], sums_[3]));
                result.largest_squares = larger(larger(squares_[0], squares_[1]), larger(squares_[2], squares_[3]));
            }
        }
    }

private:
    [[gnu::always_inline]] void look_at([[maybe_unused]] const F& v)
    {
        if constexpr (centred) {
            smallest_.look_at(v);
        }
    }

    template <std::size_t First>
    [[gnu::always_inline]] void add_at(std::size_t i, std::integral_constant<std::size_t, First> first)
    {
        const F v = load_vector<Arch, float>(x_ + i);
        look_at(v);
        if constexpr (std::is_same_v<S, float>) {
            add({load_vector<Arch, double>(x_ + i), load_vector<Arch, double>(x_ + i + D::size)}, first);
        } else {
            add(widen_by_memory(v), first);
        }
    }

    /// A step of bfloat16: numbers at even places and those at odd ones.
    [[gnu::always_inline]] void add_pairs()
    {
        const bfloat16_pairs<Arch> pairs(x_ + i_);
        if constexpr (centred) {
            const W words = std::bit_cast<W>(pairs.bits());
            smallest_words_ = smaller_unsigned(smallest_words_, W(words + words - 1));
        }
        add(widen_by_memory(pairs.even()), std::integral_constant<std::size_t, 0>{});
        add(widen_by_memory(pairs.odd()), std::integral_constant<std::size_t, 2>{});
    }

    /// widen_halves by a store and two loads, which convert on their way: that takes fewer shuffles.
    [[gnu::always_inline]] static std::array<D, 2> widen_by_memory(const F& v)
    {
        alignas(alignment_of<Arch>) std::array<float, F::size> values;
        v.store_aligned(values.data());
        asm("" : "+m"(values)); // compilers would see through it
        return {load_vector<Arch, double>(values.data()), load_vector<Arch, double>(values.data() + D::size)};
    }

    template <std::size_t First>
    [[gnu::always_inline]] void add(const std::array<D, 2>& wide, std::integral_constant<std::size_t, First>)
    {
        unroll<2>([&](auto half) __attribute__((always_inline)) {
            D term = wide[half];
            if constexpr (shifted) {
                term = difference_to_first(term, first_);
            }
            if constexpr (centred) {
                sums_[First + half] = sums_[First + half] + term;
            }
            squares_[First + half] = multiply_add(term, term, squares_[First + half]);
        });
    }

    const S* x_;
    std::size_t count_;
    std::size_t i_ = 0;
    D first_ = D(0);
    std::array<D, 4> sums_;
    std::array<D, 4> squares_;
    smallest_magnitude<F> smallest_;
    W smallest_words_ = ~W{}; // the same in 16 bits, of bfloat16
};

} // namespace scaledot::inline SCALEDOT_BUILD::kernel
SCALEDOT_KERNELS_END

#endif
