// SPDX-License-Identifier: BSD-3-Clause
// layer_norm and rms_norm of rows at the speed of memory, for machines with fused multiply-add: what several rows of
// float, half or bfloat16 at once are normalised with in float, from sums in double (kernel/row_sums.hpp), and the pass
// that does, also in double (kernel/double_rows.hpp). A row whose numbers would not make this exact enough is told, and
// left to kernel/norm.hpp. docs/numerics.md#layer_norm derives the conditions and the bound.
#ifndef SCALEDOT_KERNEL_NORM_ROWS_HPP
#define SCALEDOT_KERNEL_NORM_ROWS_HPP

#include <scaledot/detail/config.hpp>
#include <scaledot/kernel/choice.hpp>
#include <scaledot/kernel/moments.hpp>
#include <scaledot/kernel/norm.hpp>
#include <scaledot/kernel/pair.hpp>
#include <scaledot/kernel/partial_vectors.hpp>
#include <scaledot/kernel/row_sums.hpp>
#include <scaledot/kernel/short_row_sums.hpp>
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

SCALEDOT_KERNELS_BEGIN
namespace scaledot::inline SCALEDOT_BUILD::kernel {

/// What as many rows as a vector has doubles are normalised with.
template <class Arch>
struct row_normalizations {
    static constexpr std::size_t size = lanes<Arch, double>;
    std::array<float, size> mean;
    std::array<float, size> offset; ///< -(the mean - that rounded to float) * inverse
    std::array<float, size> inverse;
    std::array<double, size> exact_mean;
    std::array<double, size> exact_inverse;
    std::array<std::int64_t, size> verdict; ///< negative: this row is kernel/norm.hpp's
};

/// The magnitudes of numbers other than 0 and NaN. A subnormal one counts as 0.
struct magnitude_range {
    double least = 1;
    double largest = 1;
};

template <class Arch, class G>
magnitude_range magnitudes_of(const G* x, std::size_t count)
{
    using F = batch<Arch, float>;
    constexpr float smallest_normal = std::numeric_limits<float>::min();
    constexpr std::size_t chains = 4;
    auto least = filled<chains>(F(std::numeric_limits<float>::max()));
    auto largest = filled<chains>(F(0.0f));
    const auto look_at = [&](std::size_t chain, const F& v) __attribute__((always_inline))
    {
        least[chain] = smaller_magnitude(v, least[chain]);
        largest[chain] = larger_magnitude(v, largest[chain]);
    };
    std::size_t i = 0;
    for (; i + chains * F::size <= count; i += chains * F::size) {
        unroll<chains>([&](auto chain) __attribute__((always_inline)) {
            look_at(chain, load_vector<Arch, float>(x + i + chain * F::size));
        });
    }
    for (; i < count; i += F::size) {
        look_at(0, load_some<Arch, float>(x + i, std::min(F::size, count - i)));
    }
    const F least_of_lane = smaller(smaller(least[0], least[1]), smaller(least[2], least[3]));
    const F largest_of_lane = larger(larger(largest[0], largest[1]), larger(largest[2], largest[3]));
    magnitude_range range{-largest_lane(F(-least_of_lane)), largest_lane(largest_of_lane)};
    if (range.largest == 0) {
        return {};
    }
    if (range.least < smallest_normal) { // 0 hides what else there is
        range.least = range.largest;
        for (std::size_t k = 0; k < count; ++k) {
            const auto bits = std::bit_cast<std::uint32_t>(to_arithmetic<float>(x[k])) & 0x7fffffffu;
            if (bits != 0 && bits <= std::bit_cast<std::uint32_t>(infinity<float>)) {
                const bool normal = bits >= std::bit_cast<std::uint32_t>(smallest_normal);
                range.least = std::min(range.least, normal ? double{std::bit_cast<float>(bits)} : 0.0);
            }
        }
    }
    return range;
}

/// How many bits a float, half or bfloat16 has from its first to its last.
template <class S>
inline constexpr int significant_bits = std::is_same_v<S, bfloat16> ? 8
                                        : sizeof(S) == 2            ? 11
                                                                    : 24;

/// From sums with a row of S a lane.
template <class Arch, class S, bool Centred, join_kind Join>
[[gnu::always_inline]] inline row_normalizations<Arch> normalizations_of(const row_sums<Arch>& sums, std::size_t count,
                                                                         double epsilon, const magnitude_range& gamma)
{
    using D = batch<Arch, double>;
    using I = batch<Arch, std::int64_t>;
    const auto elements = static_cast<double>(count);
    const D share(1 / elements);
    const D mean_square = sums.squares * share;
    D usual = D(0x1p200) - sums.squares;
    D variance = mean_square;
    pair<D> mean{D(0), D(0)};
    // The smallest magnitude but 0 as a double, right for normal floats, below 2^-125 for others.
    const D magnitude = from_bits<double>(I(shift_left<28>(I(sums.smallest + I(1))) + I(std::int64_t{896} << 52)));
    usual = smaller(usual, D(magnitude - D(0x1p-60)));
    if constexpr (Centred) {
        constexpr bool paired = Join == join_kind::paired;
        const double chain = paired ? elements / static_cast<double>(4 * D::size) + 1 : elements;
        const D& chain_squares = paired ? sums.largest_squares : sums.squares;
        const pair<D> sum = paired ? two_sum(sums.sum.high, sums.sum.low) : sums.sum;
        const triple<D> from_first = mean_of(sum, elements);
        mean = two_sum(sums.first, from_first.high);
        mean.low = mean.low + from_first.low;
        const D rough = sum.high * share; // what the root need not wait for the rest of
        variance = multiply_add(D(-rough), rough, mean_square);
        const D grid = magnitude * D(std::uint64_t{1} << (std::numeric_limits<double>::digits - significant_bits<S>));
        usual = smaller(usual, D(grid * grid - D(chain * 1.001) * chain_squares));
        usual = smaller(usual, D(variance - mean_square * D((elements + 512) * 0x1p-21)));
    }
    // Rounding can leave a constant row a variance below 0, and not every machine's NaN has the sign of a doubt.
    const D inverse = barrier(D(D(1) / barrier(xsimd::sqrt(larger(D(variance + D(epsilon)), D(0))))));
    usual = smaller(usual, smaller(D(D(0x1p100) - inverse), D(inverse - D(0x1p-100))));
    usual = smaller(usual, D(magnitude * inverse - D(elements * 0x1p-97)));
    if constexpr (!Centred) { // whose factors are inverse * gamma
        usual = smaller(usual,
                        smaller(D(inverse * D(gamma.least) - D(0x1p-120)), D(D(0x1p120) - inverse * D(gamma.largest))));
    }
    const I infinite(exponent_mask<double>);
    const I finite = (as_bits(sums.squares) & infinite) - infinite; // negative where squares are
    row_normalizations<Arch> result;
    I(as_bits(usual) | ~finite).store_unaligned(result.verdict.data());

    store_vector<Arch, double>(result.mean.data(), mean.high);
    const D lost = barrier(D(mean.high - load_vector<Arch, double>(result.mean.data()))) + mean.low;
    store_vector<Arch, double>(result.offset.data(), D(-lost * inverse));
    store_vector<Arch, double>(result.inverse.data(), inverse);
    D(mean.high + mean.low).store_unaligned(result.exact_mean.data());
    inverse.store_unaligned(result.exact_inverse.data());
    return result;
}

/// From the sums of each row, lane by lane.
template <class Arch, class S, bool Centred, join_kind Join>
row_normalizations<Arch> normalizations_of(const std::array<row_sums<Arch>, lanes<Arch, double>>& rows,
                                           std::size_t count, double epsilon, const magnitude_range& gamma)
{
    using D = batch<Arch, double>;
    using I = batch<Arch, std::int64_t>;
    const auto fold = [&](auto&& member, auto&& operation) __attribute__((always_inline))
    {
        std::array<std::remove_cvref_t<decltype(member(rows[0]))>, D::size> each;
        unroll<D::size>([&](auto r) __attribute__((always_inline)) { each[r] = member(rows[r]); });
        return fold_rows(each, operation);
    };
    const auto plus = [](const D& a, const D& b) { return D(a + b); };
    row_sums<Arch> sums;
    sums.squares = fold([](const auto& row) { return row.squares; }, plus);
    if constexpr (Centred) {
        sums.smallest = fold([](const auto& row) { return row.smallest; },
                             [](const I& a, const I& b) { return select_bits(a < b, a, b); });
        alignas(alignment_of<Arch>) std::array<double, D::size> first;
        unroll<D::size>([&](auto r) __attribute__((always_inline)) { first[r] = rows[r].first.data[0]; });
        sums.first = D::load_aligned(first.data());
    }
    if constexpr (Centred && Join == join_kind::paired) {
        std::array<pair<D>, D::size> each;
        unroll<D::size>([&](auto r) __attribute__((always_inline)) { each[r] = rows[r].sum; });
        sums.sum = sum_rows(each);
        sums.largest_squares = fold([](const auto& row) { return row.largest_squares; },
                                    [](const D& a, const D& b) { return larger(a, b); });
    } else if constexpr (Centred) {
        sums.sum.high = fold([](const auto& row) { return row.sum.high; }, plus);
    }
    return normalizations_of<Arch, S, Centred, Join>(sums, count, epsilon, gamma);
}

/// Of as many short rows, `stride` elements apart, as a vector has floats.
template <class Arch, bool Centred, class S>
std::array<row_normalizations<Arch>, 2> normalizations_of_short_rows(const S* rows, std::ptrdiff_t stride,
                                                                     std::size_t count, double epsilon,
                                                                     const magnitude_range& gamma)
{
    const auto sums = sums_of_short_rows<Arch, Centred>(rows, stride, count);
    return {normalizations_of<Arch, S, Centred, join_kind::plain>(sums[0], count, epsilon, gamma),
            normalizations_of<Arch, S, Centred, join_kind::plain>(sums[1], count, epsilon, gamma)};
}

/// ((x - mean) * inverse + offset) * gamma + beta, whose vectors load() gets; without Centred mean and offset are 0,
/// and in float it is x * (inverse * gamma): what is next to 0 is rounded once.
template <bool Centred, class G, class B, class F, class Load>
[[gnu::always_inline]] inline F normalized(const F& x, const F& mean, const F& inverse, const F& offset,
                                           [[maybe_unused]] const G* gamma, [[maybe_unused]] const B* beta,
                                           [[maybe_unused]] Load&& load)
{
    constexpr bool scaled = !std::is_same_v<G, absent>;
    constexpr bool shifted = !std::is_same_v<B, absent>;
    if constexpr (!Centred && scaled && std::is_same_v<typename F::value_type, float>) {
        return x * barrier(F(inverse * load(gamma)));
    }
    F z;
    if constexpr (Centred) {
        z = multiply_add(barrier(F(x - mean)), inverse, offset);
    } else {
        z = x * inverse;
    }
    if constexpr (scaled && shifted) {
        z = multiply_add(barrier(z), load(gamma), load(beta));
    } else if constexpr (scaled) {
        z = barrier(z) * load(gamma);
    }
    return z;
}

/// Rows of `normalized` in T, so many vectors a step. y may be x itself.
template <class Arch, bool Centred, store_kind Store, class O, class S, class G, class B, class T = float,
          std::size_t Step = 2>
class row_output {
    using F = batch<Arch, T>;

public:
    static constexpr std::size_t step_size = Step * F::size;

    template <class Normalizations>
    [[gnu::always_inline]] row_output(O* y, const S* x, const G* gamma, const B* beta, std::size_t count,
                                      const Normalizations& n, std::size_t row)
        : y_(y), x_(x), gamma_(gamma), beta_(beta), count_(count), mean_(n.mean[row]), offset_(n.offset[row]),
          inverse_(n.inverse[row])
    {
        if constexpr (Store == store_kind::streamed) {
            if (const std::size_t before = elements_before_stream<Arch, T>(y)) {
                ask_to_write(y + count - 1);
                some(std::min(before, count));
            }
        }
    }

    [[gnu::always_inline]] bool has_step() const { return i_ + step_size <= count_; }

    [[gnu::always_inline]] void step()
    {
        unroll<Step>([&](auto) __attribute__((always_inline)) { whole(); });
    }

    [[gnu::always_inline]] void finish()
    {
        while (i_ + F::size <= count_) {
            whole();
        }
        if (i_ < count_) {
            some(count_ - i_);
        }
    }

private:
    [[gnu::always_inline]] void whole()
    {
        const F z = result([&](const auto* p) __attribute__((always_inline)) { return load_vector<Arch, T>(p + i_); });
        if constexpr (Store == store_kind::streamed) {
            stream_vector<Arch, T>(y_ + i_, z);
        } else {
            store_vector<Arch, T>(y_ + i_, z);
        }
        i_ += F::size;
    }

    [[gnu::always_inline]] void some(std::size_t kept)
    {
        const F z =
            result([&](const auto* p) __attribute__((always_inline)) { return load_first<Arch, T>(p + i_, kept); });
        store_first<Arch, T>(y_ + i_, kept, z);
        i_ += kept;
    }

    template <class Load>
    [[gnu::always_inline]] F result(Load&& load) const
    {
        return normalized<Centred, G, B>(load(x_), mean_, inverse_, offset_, gamma_, beta_, load);
    }

    O* y_;
    const S* x_;
    const G* gamma_;
    const B* beta_;
    std::size_t count_;
    std::size_t i_ = 0;
    F mean_;
    F offset_;
    F inverse_;
};

/// Writes while it sums: the one waits for stores where the other waits for arithmetic, and memory is read without a
/// pause.
template <class Output, class Summation>
[[gnu::always_inline]] inline void write_and_sum(Output&& output, Summation& summation)
{
    while (output.has_step() && summation.has_step()) {
        summation.step();
        output.step();
    }
    output.finish();
}

} // namespace scaledot::inline SCALEDOT_BUILD::kernel
SCALEDOT_KERNELS_END

#endif
