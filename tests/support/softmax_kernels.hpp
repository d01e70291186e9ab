// SPDX-License-Identifier: BSD-3-Clause
// Rows that take every way through the softmax kernels, and what softmax_along makes of one of them alone.
#ifndef SCALEDOT_TESTS_SUPPORT_SOFTMAX_KERNELS_HPP
#define SCALEDOT_TESTS_SUPPORT_SOFTMAX_KERNELS_HPP

#include "support/norm_rows.hpp"

#include <scaledot/kernel/softmax.hpp>
#include <scaledot/kernel/temperature.hpp>

#include <cstddef>
#include <cstring>
#include <limits>
#include <vector>

namespace test_support {

using softmax_arch = scaledot::native_architecture;

/// Row `kind` mod 8 of `length` logits: plain, far from 0, far apart, masked, with NaN or +inf, of -inf only,
/// subnormal, nearly overflowing.
template <class T>
std::vector<T> softmax_row(std::size_t length, std::size_t kind)
{
    namespace sk = scaledot::kernel;
    const auto drawn =
        gaussian<T>(length, kind % 8 == 1 ? -5000 : 0, kind % 8 == 2 ? 300 : 3, static_cast<unsigned>(length + kind));
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

/// The results of one row by itself.
template <class T>
struct softmax_results {
    std::vector<T> probabilities;
    std::vector<T> logarithms;
    T logsumexp;
};

template <class T, class Temperature>
softmax_results<T> softmax_alone(const std::vector<T>& x, const Temperature& temperature)
{
    namespace sk = scaledot::kernel;
    softmax_results<T> r{x, x, 0};
    sk::softmax_along<softmax_arch, T, T> along({x.data(), 0, 1, x.size()}, temperature.scale);
    along.probabilities(r.probabilities.data(), 0, {}, false);
    along.logarithms(temperature, r.logarithms.data(), 0, false);
    along.logsumexp(temperature.value, &r.logsumexp, 1);
    return r;
}

} // namespace test_support

#endif
