// SPDX-License-Identifier: BSD-3-Clause
// One pass over rows in double that adds up, to about twice the precision of double, what layer_norm and rms_norm need
// of them: elements and their squares. For machines with fused multiply-add.
#ifndef SCALEDOT_KERNEL_DOUBLE_SUMS_HPP
#define SCALEDOT_KERNEL_DOUBLE_SUMS_HPP

#include <scaledot/detail/config.hpp>
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
#include <cstddef>
#include <cstdint>
#include <type_traits>

SCALEDOT_KERNELS_BEGIN
namespace scaledot::inline SCALEDOT_BUILD::kernel {

/// What is added up, lane by lane. Without Centred nothing but squares.
template <class Arch>
struct double_sums {
    using D = batch<Arch, double>;
    pair<D> elements{D(0), D(0)};
    pair<D> squares{D(0), D(0)};
};

template <class Arch, bool Centred>
[[gnu::always_inline]] inline double_sums<Arch> join(const double_sums<Arch>& a, const double_sums<Arch>& b)
{
    return {Centred ? join(a.elements, b.elements) : a.elements, join(a.squares, b.squares)};
}

/// At least sqrt(x) and at most 1.07 of it, for normal x: half the exponent.
template <class A>
[[gnu::always_inline]] inline xsimd::batch<double, A> above_root(const xsimd::batch<double, A>& x)
{
    using U = vector_of_t<std::uint64_t, xsimd::batch<double, A>::size>;
    return std::bit_cast<xsimd::batch<double, A>>((std::bit_cast<U>(x) >> 1) + (std::uint64_t{1023} << 51));
}

/// Sums of up to 32 elements, for which it takes a first look at them: the sum of their squares as double gives it.
template <class Arch, bool Centred>
class cut_moments {
    using D = batch<Arch, double>;

public:
    /// By Cauchy and Schwarz no sum of some of the elements exceeds sqrt(32 * squares).
    [[gnu::always_inline]] explicit cut_moments(const D& squares)
        : elements_(D(D(20) * above_root(squares))), squares_(D(D(4) * squares))
    {
    }

    [[gnu::always_inline]] void add(const D& x)
    {
        if constexpr (Centred) {
            elements_.add(x, D(1));
        }
        squares_.add(x, x);
    }

    [[gnu::always_inline]] double_sums<Arch> take()
    {
        double_sums<Arch> sums;
        if constexpr (Centred) {
            sums.elements = elements_.take();
        }
        sums.squares = squares_.take();
        return sums;
    }

private:
    cut_sum<D> elements_;
    cut_sum<D> squares_;
};

/// Sums of a row, a block of vectors a step. What follows in memory is asked for.
template <class Arch, bool Centred, class S>
class double_summation {
    using D = batch<Arch, double>;

public:
    static constexpr std::size_t block = 32;
    static constexpr std::size_t step_size = block * D::size;

    [[gnu::always_inline]] double_summation(const S* x, std::size_t count) : x_(x), count_(count) {}

    [[gnu::always_inline]] bool has_step() const { return i_ + step_size <= count_; }

    void step()
    {
        constexpr std::size_t bytes = step_size * sizeof(S);
        ask_for_bytes<bytes>(x_ + i_, bytes);
        add_block(block, D(0));
        i_ += step_size;
    }

    /// The sums, after what is left.
    [[gnu::always_inline]] double_sums<Arch> finish()
    {
        while (has_step()) {
            step();
        }
        const std::size_t vectors = (count_ - i_) / D::size;
        const std::size_t rest = (count_ - i_) % D::size;
        const D last = rest == 0 ? D(0) : load_first<Arch, double>(x_ + i_ + vectors * D::size, rest);
        if (i_ == 0 && vectors <= 4) {
            add_few(vectors, last);
        } else if (i_ < count_) {
            add_block(vectors, last);
        }
        return sums_;
    }

private:
    [[gnu::always_inline]] D load(std::size_t vector) const
    {
        return load_vector<Arch, double>(x_ + i_ + vector * D::size);
    }

    /// Calls each(chain, vector) on so many vectors from i_ on, chains in turns, and on the last of less than a block.
    template <std::size_t Chains, class Each>
    [[gnu::always_inline]] void in_turns(std::size_t vectors, const D& last, Each&& each) const
    {
        std::size_t v = 0;
        for (; v + Chains <= vectors; v += Chains) {
            unroll<Chains>([&](auto c) __attribute__((always_inline)) { each(c, load(v + c)); });
        }
        unroll<Chains - 1>([&](auto c) __attribute__((always_inline)) {
            if (v + c < vectors) {
                each(c, load(v + c));
            }
        });
        if (vectors < block) {
            each(std::integral_constant<std::size_t, Chains - 1>{}, last);
        }
    }

    /// A row too short for a look at it to pay: additions whose errors are kept.
    [[gnu::always_inline]] void add_few(std::size_t vectors, const D& last)
    {
        sums_ = {{Centred ? last : D(0), D(0)}, two_product(last, last)};
        for (std::size_t v = 0; v < vectors; ++v) {
            const D x = load(v);
            sums_ = join<Arch, Centred>(sums_, {{x, D(0)}, two_product(x, x)});
        }
    }

    [[gnu::always_inline]] void add_block(std::size_t vectors, const D& last)
    {
        std::array<D, 4> rough{D(0), D(0), D(0), D(0)};
        in_turns<4>(
            vectors,
            last, [&](auto c, const D& x) __attribute__((always_inline)) { rough[c] = multiply_add(x, x, rough[c]); });
        const cut_moments<Arch, Centred> start(D((rough[0] + rough[1]) + (rough[2] + rough[3])));
        std::array<cut_moments<Arch, Centred>, 2> sums{start, start};
        in_turns<2>(
            vectors, last, [&](auto c, const D& x) __attribute__((always_inline)) { sums[c].add(x); });
        const double_sums<Arch> a = sums[0].take();
        const double_sums<Arch> b = sums[1].take();
        // Sums from one start, which is so large that their high parts add up exactly.
        sums_ = join<Arch, Centred>(sums_, {{a.elements.high + b.elements.high, a.elements.low + b.elements.low},
                                            {a.squares.high + b.squares.high, a.squares.low + b.squares.low}});
    }

    const S* x_;
    std::size_t count_;
    std::size_t i_ = 0;
    double_sums<Arch> sums_;
};

/// Sums of as many short rows as a vector has doubles, a row a lane. Rows are `stride` elements apart.
template <class Arch, bool Centred>
class short_rows_summation {
    using D = batch<Arch, double>;

public:
    static constexpr std::size_t block = 8; // columns

    [[gnu::always_inline]] short_rows_summation(const double* rows, std::ptrdiff_t stride)
        : rows_(rows), stride_(stride)
    {
    }

    [[gnu::always_inline]] double_sums<Arch> operator()(std::size_t count) const
    {
        std::array<D, block> x;
        double_sums<Arch> sums;
        std::size_t i = 0;
        for (; i + block <= count; i += block) {
            unroll<block / 2>([&](auto c) __attribute__((always_inline)) { load_two(i + 2 * c, &x[2 * c]); });
            sums = i == 0 ? sums_of(x) : join<Arch, Centred>(sums, sums_of(x));
        }
        if (i < count) {
            sums = join<Arch, Centred>(sums, sums_of(last_columns(i, count)));
        }
        return sums;
    }

private:
    [[gnu::always_inline]] void load_two(std::size_t column, D* x) const
    {
        const auto two = load_transposed<Arch, double>(rows_ + column, stride_);
        static_assert(two.size() == 2);
        x[0] = two[0];
        x[1] = two[1];
    }

    /// Less than a block of them, and zeros.
    [[gnu::always_inline]] std::array<D, block> last_columns(std::size_t i, std::size_t count) const
    {
        auto x = filled<block>(D(0));
        std::size_t c = 0;
        for (; i + c + 2 <= count; c += 2) {
            load_two(i + c, &x[c]);
        }
        if (i + c < count) {
            alignas(alignment_of<Arch>) std::array<double, D::size> last;
            for (std::size_t row = 0; row < D::size; ++row) {
                last[row] = rows_[static_cast<std::ptrdiff_t>(row) * stride_ + static_cast<std::ptrdiff_t>(i + c)];
            }
            x[c] = D::load_aligned(last.data());
        }
        return x;
    }

    [[gnu::always_inline]] static double_sums<Arch> sums_of(const std::array<D, block>& x)
    {
        std::array<D, 2> rough{D(0), D(0)};
        unroll<block>([&](auto c)
                          __attribute__((always_inline)) { rough[c % 2] = multiply_add(x[c], x[c], rough[c % 2]); });
        cut_moments<Arch, Centred> sums(D(rough[0] + rough[1]));
        unroll<block>([&](auto c) __attribute__((always_inline)) { sums.add(x[c]); });
        return sums.take();
    }

    const double* rows_;
    std::ptrdiff_t stride_;
};

} // namespace scaledot::inline SCALEDOT_BUILD::kernel
SCALEDOT_KERNELS_END

#endif
