// SPDX-License-Identifier: BSD-3-Clause
// Half to float and back by integer steps, one number or a vector, for machines that have no instruction for it. Both
// directions round to nearest, ties to even.
#ifndef SCALEDOT_KERNEL_HALF_HPP
#define SCALEDOT_KERNEL_HALF_HPP

#include <scaledot/detail/config.hpp>
#include <scaledot/kernel/xsimd.hpp>

#include <bit>
#include <cstddef>
#include <cstdint>

SCALEDOT_KERNELS_BEGIN
namespace scaledot::inline SCALEDOT_BUILD::kernel {

/// Count lanes of T as the compiler's own vector.
template <class T, std::size_t Count>
struct vector_of {
    typedef T type __attribute__((vector_size(Count * sizeof(T))));
};
template <class T, std::size_t Count>
using vector_of_t = typename vector_of<T, Count>::type;

/// Half bits to float, exactly. Works on normal floats only, so that flushed subnormals (-ffast-math) do no harm.
constexpr float half_to_float(std::uint16_t half)
{
    const std::uint32_t sign = static_cast<std::uint32_t>(half & 0x8000u) << 16;
    const std::uint32_t magnitude = half & 0x7fffu;
    if (magnitude >= 0x7c00u) {
        return std::bit_cast<float>(sign | 0x7f800000u | ((magnitude & 0x3ffu) << 13));
    }
    if (magnitude >= 0x0400u) {
        return std::bit_cast<float>(sign | ((magnitude << 13) + (112u << 23)));
    }
    const float subnormal = static_cast<float>(magnitude) * 0x1p-24f;
    return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(subnormal));
}

/// Float to half bits: nearest, ties to even; overflow gives infinity, NaN stays NaN.
constexpr std::uint16_t float_to_half(float value)
{
    const auto bits = std::bit_cast<std::uint32_t>(value);
    const std::uint32_t sign = (bits >> 16) & 0x8000u;
    const std::uint32_t magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) {
        return static_cast<std::uint16_t>(sign | 0x7e00u | ((magnitude >> 13) & 0x3ffu));
    }
    if (magnitude >= 0x477ff000u) { // 65520 and above round to infinity
        return static_cast<std::uint16_t>(sign | 0x7c00u);
    }
    if (magnitude >= 0x38800000u) { // normal halves
        const std::uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);
        return static_cast<std::uint16_t>(sign | ((rounded - (112u << 23)) >> 13));
    }
    if (magnitude < 0x33000000u) { // below half of the smallest subnormal
        return static_cast<std::uint16_t>(sign);
    }
    const std::uint32_t shift = 126u - (magnitude >> 23); // 14 … 24: a fraction of 24 bits to units of 2^-24
    const std::uint32_t fraction = (magnitude & 0x7fffffu) | 0x800000u;
    const std::uint32_t kept = fraction >> shift;
    const std::uint32_t rest = fraction & ((1u << shift) - 1u);
    const std::uint32_t middle = 1u << (shift - 1u);
    const std::uint32_t up = rest > middle || (rest == middle && (kept & 1u)) ? 1u : 0u;
    return static_cast<std::uint16_t>(sign | (kept + up));
}

/// half_to_float of bits in the lower halves of words; their upper ones are 0.
template <std::size_t Count>
[[gnu::always_inline]] inline vector_of_t<float, Count>
halves_to_floats(const vector_of_t<std::uint32_t, Count>& halves)
{
    using words = vector_of_t<std::uint32_t, Count>;
    using integers = vector_of_t<std::int32_t, Count>;
    using floats = vector_of_t<float, Count>;
    constexpr std::uint32_t bias = 112u << 23; // of float's exponents over those of half
    const words magnitude = halves & 0x7fffu;
    const integers number = std::bit_cast<integers>(magnitude);
    const floats subnormal = __builtin_convertvector(number, floats) * 0x1p-24f;
    const words normal = (magnitude << 13) + bias;
    const words finite = number < 0x0400 ? std::bit_cast<words>(subnormal) : normal;
    const words result = number < 0x7c00 ? finite : normal + bias;
    return std::bit_cast<floats>(result | ((halves & 0x8000u) << 16));
}

/// float_to_half, into the lower halves of words; their upper ones are 0.
template <std::size_t Count>
[[gnu::always_inline]] inline vector_of_t<std::uint32_t, Count> floats_to_halves(const vector_of_t<float, Count>& x)
{
    using words = vector_of_t<std::uint32_t, Count>;
    using integers = vector_of_t<std::int32_t, Count>;
    using floats = vector_of_t<float, Count>;
    const words bits = std::bit_cast<words>(x);
    const words magnitude = bits & 0x7fffffffu;
    const integers number = std::bit_cast<integers>(magnitude);
    const words normal = (magnitude + 0xfffu + ((magnitude >> 13) & 1u) - (112u << 23)) >> 13;
    // The last bit of numbers from 1/2 to 1 is that of subnormal halves: adding 1/2 rounds to it.
    const floats raised = std::bit_cast<floats>(magnitude) + 0.5f;
    const words subnormal = std::bit_cast<words>(raised) - std::bit_cast<std::uint32_t>(0.5f);
    const words infinity = words{} + 0x7c00u;
    const words finite = number < 0x38800000 ? subnormal : normal;
    const words rounded = number < 0x477ff000 ? finite : infinity; // 65520 and above
    const words nan = ((magnitude >> 13) & 0x3ffu) | 0x7e00u;
    return (number > 0x7f800000 ? nan : rounded) | ((bits >> 16) & 0x8000u);
}

} // namespace scaledot::inline SCALEDOT_BUILD::kernel
SCALEDOT_KERNELS_END

#endif
