// SPDX-License-Identifier: BSD-3-Clause
// Comparisons by bits, which -ffast-math cannot drop.
#ifndef SCALEDOT_TESTS_SUPPORT_BITS_HPP
#define SCALEDOT_TESTS_SUPPORT_BITS_HPP

#include <scaledot/kernel/convert.hpp>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace test_support {

template <class T>
bool equal_bits(const T* a, const T* b, std::size_t count)
{
    return std::memcmp(a, b, count * sizeof(T)) == 0;
}

/// Of a number of any element type.
template <class T>
bool is_nan_of(T x)
{
    const auto bits = std::bit_cast<std::uint64_t>(scaledot::kernel::to_arithmetic<double>(x));
    return (bits & 0x7fffffffffffffffu) > 0x7ff0000000000000u;
}

} // namespace test_support

#endif
