// SPDX-License-Identifier: BSD-3-Clause
// The last pass of layer_norm and rms_norm over contiguous elements, and the numbers it needs from the passes before
// (kernel/moments.hpp). Float, half and bfloat16 are normalised in double; double in pairs of doubles.
#ifndef SCALEDOT_KERNEL_NORM_HPP
#define SCALEDOT_KERNEL_NORM_HPP

#include <scaledot/detail/config.hpp>
#include <scaledot/kernel/moments.hpp>
#include <scaledot/kernel/pair.hpp>
#include <scaledot/kernel/shuffle.hpp>
#include <scaledot/kernel/simd.hpp>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>

SCALEDOT_KERNELS_BEGIN
namespace scaledot::inline SCALEDOT_BUILD::kernel {

/// Normalised elements are (x * scale - mean) * inverse,
/// with inverse = 1 / sqrt(mean square deviation + epsilon * scale^2).
struct normalization {
    kernel::centre centre;
    pair<double> inverse{1, 0};
    double unscaled_inverse = 1;
    double unscaled_mean = 0;
};

/// The magnitude whose bits are reduce_magnitude's; 0 for infinity and NaN.
inline double finite_magnitude(std::int64_t largest)
{
    return largest < exponent_mask<double> ? std::bit_cast<double>(largest) : 0;
}

/// The scale of elements of type double, for which neither their squares nor epsilon overflow or vanish where they
/// count; `largest` is reduce_magnitude's.
inline double norm_scale(std::int64_t largest, double epsilon)
{
    return scale_for(std::max(finite_magnitude(largest), std::sqrt(epsilon)));
}

/// Sets the mean from the sum of `count` elements times sum_scale, which is at least the scale and not less for the
/// sake of epsilon: the mean itself stays, where beside epsilon all elements vanish.
inline void set_mean(normalization& n, const pair<double>& sum, double count, double sum_scale)
{
    const pair<double> mean = divide(sum, count);
    const double factor = n.centre.scale / sum_scale;
    n.centre.mean = {mean.high * factor, mean.low * factor};
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
    return {{1, {nan, nan}}, {nan, nan}, nan, nan};
}

/// The sum of all lanes; without pairs there is nothing in the lower parts.
template <bool Pairs, class V>
inline pair<double> total_squares(const pair<V>& squares)
{
    if constexpr (Pairs) {
        return reduce(squares);
    } else {
        return {sum_of_lanes(squares.high), 0};
    }
}

/// Sets the inverse from the sum of squared deviations of `count` elements.
template <bool Pairs>
void set_inverse(normalization& n, const pair<double>& squares, double count, double epsilon)
{
    if constexpr (Pairs) {
        const pair<double> variance = divide(squares, count);
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

/// The element type of a gamma or beta that is not there.
struct absent {};

template <class Arch, class S>
[[gnu::always_inline]] inline batch<Arch, double> load_lanes(const S* source, std::size_t count)
{
    return count == lanes<Arch, double> ? load_vector<Arch, double>(source)
                                        : load_partial<Arch, double>(source, count, 0.0);
}

template <class Arch, class S>
[[gnu::always_inline]] inline void store_lanes(S* target, std::size_t count, const batch<Arch, double>& x)
{
    if (count == lanes<Arch, double>) {
        store_vector<Arch, double>(target, x);
    } else {
        store_partial<Arch, double>(target, count, x);
    }
}

/// y = normalised x * gamma + beta, where gamma or beta may be absent. y may be x itself.
template <class Arch, bool Pairs, class O, class S, class G, class B>
void normalize(O* y, const S* x, const G* gamma, const B* beta, std::size_t count, const normalization& n)
{
    using V = batch<Arch, double>;
    const V mean(n.centre.mean.high);
    const V inverse(n.inverse.high);
    const V inverse_low(n.inverse.low);
    const V offset(barrier(-(n.centre.mean.low * n.inverse.high))); // of the mean's low part
    std::size_t i = 0;
    for_each_vector<Arch>(x, count, [&](const V& v, std::size_t kept) {
        V result;
        if constexpr (Pairs) {
            const auto d = deviation(v, n.centre);
            const V small = multiply_add(d.high, inverse_low, barrier(V(d.low * inverse)));
            result = multiply_add(d.high, inverse, barrier(small));
        } else {
            result = multiply_add(barrier(V(v - mean)), inverse, offset);
        }
        if constexpr (!std::is_same_v<G, absent> && !std::is_same_v<B, absent>) {
            result = multiply_add(barrier(result), load_lanes<Arch>(gamma + i, kept), load_lanes<Arch>(beta + i, kept));
        } else if constexpr (!std::is_same_v<G, absent>) {
            result = barrier(result) * load_lanes<Arch>(gamma + i, kept);
        }
        store_lanes<Arch>(y + i, kept, result);
        i += kept;
    });
}

} // namespace scaledot::inline SCALEDOT_BUILD::kernel
SCALEDOT_KERNELS_END

#endif
