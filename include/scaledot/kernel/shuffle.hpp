// SPDX-License-Identifier: BSD-3-Clause
// Movements of lanes inside registers, written with the compiler's own shuffle: folds of a vector onto itself, and the
// transposition that turns rows in memory into vectors with a row a lane.
#ifndef SCALEDOT_KERNEL_SHUFFLE_HPP
#define SCALEDOT_KERNEL_SHUFFLE_HPP

#include <scaledot/detail/config.hpp>
#include <scaledot/kernel/choice.hpp>
#include <scaledot/kernel/simd.hpp>
#include <scaledot/kernel/unroll.hpp>

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

SCALEDOT_KERNELS_BEGIN
namespace scaledot::inline SCALEDOT_BUILD::kernel {

/// Lanes of T in 128 bits: registers of any width are so many of these groups, and shuffles inside them are cheap.
template <class T>
inline constexpr std::size_t group_lanes = 16 / sizeof(T);

namespace shuffles {

template <int... Index>
struct pattern {
    template <class V>
    [[gnu::always_inline]] static auto apply(V a, V b)
    {
        return __builtin_shufflevector(a, b, Index...);
    }
};

template <std::size_t Step, std::size_t Count, class Sequence = std::make_index_sequence<Count>>
struct rotation;
template <std::size_t Step, std::size_t Count, std::size_t... I>
struct rotation<Step, Count, std::index_sequence<I...>> : pattern<static_cast<int>((I + Step) % Count)...> {};

/// Lanes First, First + 2, First + 4, ... of a and b as one.
template <std::size_t Count, int First, class Sequence = std::make_index_sequence<Count>>
struct every_other;
template <std::size_t Count, int First, std::size_t... I>
struct every_other<Count, First, std::index_sequence<I...>> : pattern<(2 * static_cast<int>(I) + First)...> {};

/// Index of result lane i when units of `Unit` lanes are taken in turn from a and from b, from the lower or upper half
/// of each group of `Group` lanes.
template <std::size_t Count, std::size_t Group, std::size_t Unit, bool Upper>
constexpr int interleaved(std::size_t i)
{
    const std::size_t in_group = i % Group;
    const std::size_t unit = in_group / Unit;
    const std::size_t lane = i / Group * Group + (Upper ? Group / 2 : 0) + unit / 2 * Unit + in_group % Unit;
    return static_cast<int>(lane + (unit % 2 == 1 ? Count : 0));
}

template <std::size_t Count, std::size_t Group, std::size_t Unit, bool Upper,
          class Sequence = std::make_index_sequence<Count>>
struct interleaving;
template <std::size_t Count, std::size_t Group, std::size_t Unit, bool Upper, std::size_t... I>
struct interleaving<Count, Group, Unit, Upper, std::index_sequence<I...>>
    : pattern<interleaved<Count, Group, Unit, Upper>(I)...> {};

template <std::size_t Count, class Sequence = std::make_index_sequence<2 * Count>>
struct joining;
template <std::size_t Count, std::size_t... I>
struct joining<Count, std::index_sequence<I...>> : pattern<static_cast<int>(I)...> {};

} // namespace shuffles

/// x[0] op x[1] op ..., halves folded onto each other: the same tree on every architecture of this width.
template <class T, class A, class Operation>
[[gnu::always_inline]] inline T fold_lanes(xsimd::batch<T, A> x, Operation&& operation)
{
    constexpr std::size_t count = xsimd::batch<T, A>::size;
    const auto fold = [&]<std::size_t Half>(std::integral_constant<std::size_t, Half>) __attribute__((always_inline))
    {
        x = operation(x, xsimd::batch<T, A>(shuffles::rotation<Half, count>::apply(x.data, x.data)));
    };
    [&]<std::size_t... I>(std::index_sequence<I...>) __attribute__((always_inline))
    {
        (fold(std::integral_constant<std::size_t, (count >> (I + 1))>{}), ...);
    }
    (std::make_index_sequence<std::bit_width(count) - 1>{});
    return x.data[0];
}

/// x[0] + x[1] + ...
template <class T, class A>
[[gnu::always_inline]] inline T sum_of_lanes(const xsimd::batch<T, A>& x)
{
    return fold_lanes(
        x, [](const auto& a, const auto& b) __attribute__((always_inline)) { return a + b; });
}

/// The largest lane; lanes must not be NaN.
template <class T, class A>
[[gnu::always_inline]] inline T largest_lane(const xsimd::batch<T, A>& x)
{
    return fold_lanes(
        x, [](const auto& a, const auto& b) __attribute__((always_inline)) { return larger(a, b); });
}

/// The group of T at `source`, converted from storage type S; pairs of 16 bits are taken as they are.
template <class T, class S>
[[gnu::always_inline]] inline vector_of_t<T, group_lanes<T>> load_group(const S* source)
{
    vector_of_t<T, group_lanes<T>> group;
    if constexpr (std::is_same_v<S, T> || std::is_same_v<T, std::uint32_t>) {
        std::memcpy(&group, static_cast<const void*>(source), sizeof group);
    } else {
        for (std::size_t i = 0; i < group_lanes<T>; ++i) {
            group[i] = to_arithmetic<T>(source[i]);
        }
    }
    return group;
}

/// Groups of Count lanes in all, one from each row: the first from rows + 0 stride, the next from rows + step, ...
template <class T, std::size_t Count, class S>
[[gnu::always_inline]] inline vector_of_t<T, Count> load_groups(const S* rows, std::ptrdiff_t step)
{
    if constexpr (Count == group_lanes<T>) {
        return load_group<T>(rows);
    }
#if defined(__AVX512F__)
    else if constexpr (Count == 4 * group_lanes<T>) {
        // Insertions into 256 bits from memory take no shuffle.
        const auto group = [&](std::ptrdiff_t row) __attribute__((always_inline))
        {
            return std::bit_cast<__m128>(load_group<T>(rows + row * step));
        };
        const __m256 low = _mm256_insertf128_ps(_mm256_castps128_ps256(group(0)), group(1), 1);
        const __m256 high = _mm256_insertf128_ps(_mm256_castps128_ps256(group(2)), group(3), 1);
        const __m512 joined = _mm512_insertf32x8(_mm512_castps256_ps512(low), high, 1);
        return std::bit_cast<vector_of_t<T, Count>>(joined);
    }
#endif
    else {
        constexpr std::size_t half = Count / 2;
        const auto low = load_groups<T, half>(rows, step);
        const auto high = load_groups<T, half>(rows + static_cast<std::ptrdiff_t>(half / group_lanes<T>) * step, step);
        return shuffles::joining<half>::apply(low, high);
    }
}

namespace shuffles {

/// Lane j of group l of vector i becomes lane i of group l of vector j.
template <class Arch, class T>
[[gnu::always_inline]] inline void
transpose_inside_groups(std::array<vector_of_t<T, lanes<Arch, T>>, group_lanes<T>>& x)
{
    constexpr std::size_t count = lanes<Arch, T>;
    constexpr std::size_t group = group_lanes<T>;
    using lower = shuffles::interleaving<count, group, 1, false>;
    using upper = shuffles::interleaving<count, group, 1, true>;
    if constexpr (group == 2) {
        x = {lower::apply(x[0], x[1]), upper::apply(x[0], x[1])};
    } else {
        static_assert(group == 4);
        using lower_pairs = shuffles::interleaving<count, group, 2, false>;
        using upper_pairs = shuffles::interleaving<count, group, 2, true>;
        const auto a = lower::apply(x[0], x[1]);
        const auto b = upper::apply(x[0], x[1]);
        const auto c = lower::apply(x[2], x[3]);
        const auto d = upper::apply(x[2], x[3]);
        x = {lower_pairs::apply(a, c), upper_pairs::apply(a, c), lower_pairs::apply(b, d), upper_pairs::apply(b, d)};
    }
}

/// A group of T from each of as many rows as a vector has lanes, transposed.
template <class Arch, class T, class S>
[[gnu::always_inline]] inline std::array<batch<Arch, T>, group_lanes<T>> transpose_groups(const S* rows,
                                                                                          std::ptrdiff_t stride)
{
    constexpr std::size_t count = lanes<Arch, T>;
    constexpr std::size_t group = group_lanes<T>;
    // Row group * l + i goes to group l of vector i, so that transposing inside groups is all there is to do.
    std::array<vector_of_t<T, count>, group> x;
    unroll<group>([&](auto i) __attribute__((always_inline)) {
        x[i] = load_groups<T, count>(rows + static_cast<std::ptrdiff_t>(i) * stride,
                                     static_cast<std::ptrdiff_t>(group) * stride);
    });
    transpose_inside_groups<Arch, T>(x);
    std::array<batch<Arch, T>, group> result;
    unroll<group>([&](auto i) __attribute__((always_inline)) { result[i] = std::bit_cast<batch<Arch, T>>(x[i]); });
    return result;
}

/// The 16-bit numbers of S in the lower (or upper) halves of 32-bit lanes, as floats.
template <class S, class A>
[[gnu::always_inline]] inline xsimd::batch<float, A> widen_halves(const xsimd::batch<std::uint32_t, A>& pairs,
                                                                  bool upper)
{
    using B = xsimd::batch<float, A>;
    const auto bits = std::bit_cast<vector_of_t<std::uint32_t, B::size>>(pairs);
    if constexpr (std::is_same_v<S, bfloat16>) {
        return std::bit_cast<B>(upper ? bits & 0xffff0000u : bits << 16);
    } else {
        const auto narrow = lower_halves<B::size>(upper ? bits >> 16 : bits & 0xffffu);
        std::array<S, B::size> halves;
        std::memcpy(static_cast<void*>(halves.data()), &narrow, sizeof halves);
        return widen<B>(halves.data());
    }
}

} // namespace shuffles

template <class T, class S>
inline constexpr bool widens_halves = std::is_same_v<T, float> && sizeof(S) == 2;

/// Components that load_transposed takes of a row at once: 16 bytes of it, or of it as T.
template <class T, class S>
inline constexpr std::size_t transposed_at_once = widens_halves<T, S> ? 8 : group_lanes<T>;

/// Transposes some components of as many rows as a vector has lanes: vector i of the result holds component i, lane j
/// of it row j. `rows` points to the first component of the first row, rows are `stride` elements apart. With T
/// uint32_t, a component is a pair of 16-bit numbers.
template <class Arch, class T, class S>
[[gnu::always_inline]] inline auto load_transposed(const S* rows, std::ptrdiff_t stride)
{
    if constexpr (widens_halves<T, S>) {
        const auto pairs = shuffles::transpose_groups<Arch, std::uint32_t>(rows, stride);
        std::array<batch<Arch, T>, transposed_at_once<T, S>> result;
        unroll<pairs.size()>([&](auto i) __attribute__((always_inline)) {
            result[2 * i] = shuffles::widen_halves<S>(pairs[i], false);
            result[2 * i + 1] = shuffles::widen_halves<S>(pairs[i], true);
        });
        return result;
    } else {
        return shuffles::transpose_groups<Arch, T>(rows, stride);
    }
}

/// fold_lanes of as many vectors as a vector has lanes, one after another in memory; lane i of the result is that of
/// vector i.
template <class Arch, class T, class Operation>
[[gnu::always_inline]] inline batch<Arch, T> fold_lanes_of_rows(const T* rows, Operation&& operation)
{
    constexpr std::size_t width = lanes<Arch, T>;
    constexpr std::size_t group = group_lanes<T>;
    std::array<batch<Arch, T>, width> columns;
    unroll<width / group>([&](auto g) __attribute__((always_inline)) {
        const auto some = load_transposed<Arch, T>(rows + g * group, static_cast<std::ptrdiff_t>(width));
        unroll<group>([&](auto i) __attribute__((always_inline)) { columns[g * group + i] = some[i]; });
    });
    const auto fold = [&]<std::size_t Half>(std::integral_constant<std::size_t, Half>) __attribute__((always_inline))
    {
        unroll<Half>([&](auto i)
                         __attribute__((always_inline)) { columns[i] = operation(columns[i], columns[i + Half]); });
    };
    [&]<std::size_t... I>(std::index_sequence<I...>) __attribute__((always_inline))
    {
        (fold(std::integral_constant<std::size_t, (width >> (I + 1))>{}), ...);
    }
    (std::make_index_sequence<std::bit_width(width) - 1>{});
    return columns[0];
}

/// sum_of_lanes of as many rows as a vector has lanes, a vector long each.
template <class Arch, class T>
[[gnu::always_inline]] inline batch<Arch, T> sums_of_rows(const T* rows)
{
    return fold_lanes_of_rows<Arch>(
        rows, [](const auto& a, const auto& b) __attribute__((always_inline)) { return a + b; });
}

/// largest_lane of as many rows.
template <class Arch, class T>
[[gnu::always_inline]] inline batch<Arch, T> largest_of_rows(const T* rows)
{
    return fold_lanes_of_rows<Arch>(
        rows, [](const auto& a, const auto& b) __attribute__((always_inline)) { return larger(a, b); });
}

/// The way back, of a group: lane j of vector i goes to component i of row j.
template <class Arch, class T>
[[gnu::always_inline]] inline void store_transposed(T* rows, std::ptrdiff_t stride,
                                                    const std::array<batch<Arch, T>, group_lanes<T>>& components)
{
    constexpr std::size_t group = group_lanes<T>;
    constexpr std::size_t count = lanes<Arch, T>;
    std::array<vector_of_t<T, count>, group> x;
    unroll<group>([&](auto i)
                      __attribute__((always_inline)) { x[i] = std::bit_cast<vector_of_t<T, count>>(components[i]); });
    shuffles::transpose_inside_groups<Arch, T>(x);
    unroll<group>([&](auto i) __attribute__((always_inline)) {
        const auto groups = std::bit_cast<std::array<vector_of_t<T, group>, count / group>>(x[i]);
        unroll<groups.size()>([&](auto l) __attribute__((always_inline)) {
            std::memcpy(rows + static_cast<std::ptrdiff_t>(group * l + i) * stride, &groups[l], sizeof groups[l]);
        });
    });
}

} // namespace scaledot::inline SCALEDOT_BUILD::kernel
SCALEDOT_KERNELS_END

#endif
