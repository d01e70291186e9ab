// SPDX-License-Identifier: BSD-3-Clause
// The last pass of layer_norm and rms_norm over contiguous elements, and the numbers it needs from the passes before
// (kernel/moments.hpp, kernel/cut_sums.hpp), in double: for what is not kernel/norm_rows.hpp's.
#ifndef SCALEDOT_KERNEL_NORM_HPP
#define SCALEDOT_KERNEL_NORM_HPP

#include <scaledot/detail/config.hpp>
#include <scaledot/kernel/cut_sums.hpp>
#include <scaledot/kernel/moments.hpp>
#include <scaledot/kernel/pair.hpp>
#include <scaledot/kernel/shuffle.hpp>
#include <scaledot/kernel/simd.hpp>
#include <scaledot/kernel/stream.hpp>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <type_traits>

SCALEDOT_KERNELS_BEGIN
namespace scaledot::inline SCALEDOT_BUILD::kernel {

/// Normalised elements are (x * scale - mean) * inverse,
/// with inverse = 1 / sqrt(mean square deviation + epsilon * scale^2).
struct normalization {
    kernel::centre centre;
    double mean_rest = 0; ///< of the mean, below both numbers of the pair
    pair<double> inverse{1, 0};
    double unscaled_inverse = 1;
    double unscaled_mean = 0;
};

/// The largest magnitude of elements in that range; 0 where it is infinite or NaN.
inline double finite_magnitude(const extremes<double>& range)
{
    const double largest = std::fabs(std::max(-range.smallest, range.largest));
    return std::bit_cast<std::int64_t>(largest) < exponent_mask<double> ? largest : 0;
}

/// The scale of elements of type double, for which neither their squares nor epsilon overflow or vanish where they
/// count.
inline double norm_scale(double magnitude, double epsilon)
{
    return scale_for(std::max(magnitude, std::sqrt(epsilon)));
}

/// A power of two that is larger than the deviations of all elements in that range.
inline double reach_of(const extremes<double>& range, const centre& c)
{
    const double largest = std::max(c.mean.high - range.smallest * c.scale, range.largest * c.scale - c.mean.high);
    const auto bits = std::bit_cast<std::int64_t>(std::clamp(largest, 0x1p-300, 8.0));
    return 4 * std::bit_cast<double>(bits & exponent_mask<double>);
}

/// Sets the mean from the sum of `count` elements times sum_scale, which is at least the scale and not less for the
/// sake of epsilon: the mean itself stays, where beside epsilon all elements vanish.
inline void set_mean(normalization& n, const pair<double>& sum, double count, double sum_scale)
{
    const triple<double> mean = mean_of(sum, count);
    const double factor = n.centre.scale / sum_scale;
    n.centre.mean = {mean.high * factor, mean.low * factor};
    n.mean_rest = mean.lowest * factor;
    n.unscaled_mean = mean.high / sum_scale;
}

/// True when a sum is infinite or NaN: then one of its elements was.
inline bool is_spoilt(const pair<double>& sum)
{
    return (std::bit_cast<std::int64_t>(barrier(sum.high + sum.low)) & exponent_mask<double>) == exponent_mask<double>;
}

/// What every element of a block with NaN or infinity is normalised with: the result is NaN.
inline normalization spoilt_normalization()
{
    const double nan = barrier(quiet_nan<double>());
    return {{1, {nan, nan}}, nan, {nan, nan}, nan, nan};
}

/// The sum of all lanes; without pairs there is nothing in the lower parts.
template <bool Pairs, class V>
inline pair<double> total_squares(const pair<V>& squares)
{
    if constexpr (Pairs) {
        return join_lanes(squares);
    } else {
        return {sum_of_lanes(squares.high), 0};
    }
}

/// The sum of squared deviations from the mean, from those to its high part.
inline pair<double> squares_about_mean(const pair<double>& squares, const centre& c, double count)
{
    const auto sum = two_sum(squares.high, barrier(-(count * barrier(c.mean.low * c.mean.low))));
    return fast_two_sum(sum.high, barrier(sum.low + squares.low));
}

/// Sets the inverse from the sum of squared deviations of `count` elements.
template <bool Pairs>
void set_inverse(normalization& n, const pair<double>& squares, double count, double epsilon)
{
    if constexpr (Pairs) {
        const triple<double> variance = mean_of(squares, count);
        const auto sum = two_sum(variance.high, barrier(barrier(epsilon * n.centre.scale) * n.centre.scale));
        n.inverse = inverse_root(fast_two_sum(sum.high, barrier(sum.low + variance.low)));
        n.unscaled_inverse = n.inverse.high * n.centre.scale;
        if (sum.high == 0 && epsilon > 0) {
            // equal elements so large that epsilon vanished beside them: all deviations are 0, whatever divides them
            n.inverse = {1, 0};
            n.unscaled_inverse = 1 / std::sqrt(epsilon);
        }
    } else {
        n.inverse = {barrier(1 / barrier(std::sqrt(barrier(squares.high / count) + epsilon))), 0};
        n.unscaled_inverse = n.inverse.high;
    }
}

/// -(the mean's lower parts) * inverse, rounded once: all there is of an element that is the mean's high part.
inline double offset_of_mean(const normalization& n)
{
    const double low = -n.centre.mean.low;
    const double least = barrier(std::fma(low, n.inverse.low, barrier(-n.mean_rest * n.inverse.high)));
    return barrier(std::fma(low, n.inverse.high, least));
}

/// The element type of a gamma or beta that is not there.
struct absent {};

/// y = normalised x * gamma + beta, where gamma or beta may be absent. y may be x itself.
template <class Arch, bool Pairs, store_kind Store = store_kind::cached, class O, class S, class G, class B>
void normalize(O* y, const S* x, const G* gamma, const B* beta, std::size_t count, const normalization& n)
{
    using V = batch<Arch, double>;
    const V scale(n.centre.scale);
    const V minus_mean(-n.centre.mean.high);
    const V inverse(n.inverse.high);
    const V inverse_low(n.inverse.low);
    const V offset(offset_of_mean(n));
    std::size_t i = 0;
    const auto result = [&](auto&& load) __attribute__((always_inline))
    {
        const V v = load(x);
        V z;
        if constexpr (Pairs && fused<V>) {
            const V d = rounded_deviation(v, scale, minus_mean);
            z = multiply_add(d, inverse, multiply_add(d, inverse_low, offset));
        } else if constexpr (Pairs) {
            const auto d = deviation(v, n.centre);
            const V small = multiply_add(d.high, inverse_low, barrier(V(d.low * inverse)));
            z = multiply_add(d.high, inverse, barrier(small));
        } else {
            z = multiply_add(barrier(V(v + minus_mean)), inverse, offset);
        }
        if constexpr (!std::is_same_v<G, absent> && !std::is_same_v<B, absent>) {
            z = multiply_add(barrier(z), load(gamma), load(beta));
        } else if constexpr (!std::is_same_v<G, absent>) {
            z = barrier(z) * load(gamma);
        }
        return z;
    };
    const auto some = [&](std::size_t kept) __attribute__((always_inline))
    {
        const V z =
            result([&](const auto* p) __attribute__((always_inline)) { return load_first<Arch, double>(p + i, kept); });
        store_first<Arch, double>(y + i, kept, z);
        i += kept;
    };
    if constexpr (Store == store_kind::streamed) {
        if (const std::size_t before = elements_before_stream<Arch, double>(y)) {
            some(std::min(before, count));
        }
    }
    for (; i + V::size <= count; i += V::size) {
        const V z =
            result([&](const auto* p) __attribute__((always_inline)) { return load_vector<Arch, double>(p + i); });
        if constexpr (Store == store_kind::streamed) {
            stream_vector<Arch, double>(y + i, z);
        } else {
            store_vector<Arch, double>(y + i, z);
        }
    }
    if (i < count) {
        some(count - i);
    }
}

} // namespace scaledot::inline SCALEDOT_BUILD::kernel
SCALEDOT_KERNELS_END

#endif
