// SPDX-License-Identifier: BSD-3-Clause
// Rows that take every way through the softmax kernels, and what softmax_along makes of one of them alone.
#ifndef SCALEDOT_TESTS_SUPPORT_SOFTMAX_KERNELS_HPP
#define SCALEDOT_TESTS_SUPPORT_SOFTMAX_KERNELS_HPP

#include "support/norm_rows.hpp"

#include <scaledot/kernel/narrow_weights.hpp>
#include <scaledot/kernel/softmax.hpp>
#include <scaledot/kernel/softmax_narrow.hpp>
#include <scaledot/kernel/softmax_rows.hpp>
#include <scaledot/kernel/temperature.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

namespace test_support {

using softmax_arch = scaledot::native_architecture;

/// Row `kind` mod 8 of `length` logits: plain (narrow, too, every other time), far from 0, far apart, masked, with NaN
/// or +inf, of -inf only, subnormal, nearly overflowing.
template <class T>
std::vector<T> softmax_row(std::size_t length, std::size_t kind)
{
    namespace sk = scaledot::kernel;
    const double deviation = kind % 8 == 2 ? 300 : kind % 16 == 8 ? 1 : 3;
    const auto drawn = gaussian<T>(length, kind % 8 == 1 ? -5000 : 0, deviation, static_cast<unsigned>(length + kind));
    std::vector<T> x(drawn.begin(), drawn.end());
    for (std::size_t i = 0; i < length; ++i) {
        if ((kind % 8 == 3 && i % 3 != 0) || kind % 8 == 5) {
            x[i] = sk::negative_infinity<T>;
        } else if (kind % 8 == 4 && i == length / 2) {
            x[i] = kind % 16 == 4 ? sk::quiet_nan<T>() : sk::infinity<T>;
        } else if (kind % 8 == 6) {
            x[i] *= std::numeric_limits<T>::min();
        } else if (kind % 8 == 7) {
            x[i] = std::numeric_limits<T>::max() * (i % 2 ? T(0.5) : T(-1));
        }
    }
    return x;
}

template <class T>
bool equal_bits(const T* a, const T* b, std::size_t count)
{
    return std::memcmp(a, b, count * sizeof(T)) == 0;
}

/// `count` rows from x on.
template <class T>
scaledot::kernel::rows_of_logits<T> rows_of(const T* x, std::ptrdiff_t stride, std::size_t count, std::size_t length)
{
    return {x, x, stride, length, (std::uint32_t{1} << count) - 1};
}

template <class T>
bool is_narrow(const std::vector<T>& x, const scaledot::kernel::exponent_scale<T>& scale)
{
    using narrow = scaledot::kernel::narrow_rows<softmax_arch, T>;
    return narrow::exist && narrow(scale).contain(x.data(), x.size());
}

/// The results of one row by itself.
template <class T>
struct softmax_results {
    std::vector<T> probabilities;
    std::vector<T> logarithms;
    T logsumexp;
};

/// Those of softmax_along, narrow or not.
template <class T, class Temperature>
softmax_results<T> softmax_of_any(const std::vector<T>& x, const Temperature& temperature)
{
    namespace sk = scaledot::kernel;
    softmax_results<T> r{x, x, 0};
    sk::softmax_along<softmax_arch, T, T> along({x.data(), x.size()}, temperature.scale);
    along.probabilities(r.probabilities.data(), 0, {}, false);
    along.logarithms(temperature, r.logarithms.data(), 0, false);
    along.logsumexp(temperature.value, &r.logsumexp, 1);
    return r;
}

/// Those of the kernel that its logits call for.
template <class T, class Temperature>
softmax_results<T> softmax_alone(const std::vector<T>& x, const Temperature& temperature)
{
    namespace sk = scaledot::kernel;
    if (!is_narrow(x, temperature.scale)) {
        return softmax_of_any(x, temperature);
    }
    softmax_results<T> r{x, x, 0};
    const sk::softmax_narrow<softmax_arch, T, T> narrow(temperature.scale);
    const sk::rows_of_logits<T> row(x.data(), x.size());
    narrow.probabilities(row, r.probabilities.data(), 0, {}, false);
    narrow.logarithms(row, temperature, r.logarithms.data(), 0, false);
    narrow.logsumexp(row, temperature.value, &r.logsumexp, 1);
    return r;
}

} // namespace test_support

#endif
