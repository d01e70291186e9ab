// SPDX-License-Identifier: BSD-3-Clause
// Rows that take every way through the softmax kernels, and what softmax_along makes of one of them alone.
#ifndef SCALEDOT_TESTS_SUPPORT_SOFTMAX_KERNELS_HPP
#define SCALEDOT_TESTS_SUPPORT_SOFTMAX_KERNELS_HPP

#include "support/bits.hpp"
#include "support/norm_rows.hpp"

#include <scaledot/kernel/narrow_weights.hpp>
#include <scaledot/kernel/softmax.hpp>
#include <scaledot/kernel/softmax_narrow.hpp>
#include <scaledot/kernel/softmax_rows.hpp>
#include <scaledot/kernel/temperature.hpp>

#include <cstddef>
#include <cstdint>
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

/// Those of the rows from x and y on, `input_stride` and `output_stride` apart, that have their bit set in `places`.
template <class T>
scaledot::kernel::softmax_rows<T, T> rows_at(std::uint32_t places, const T* x, std::ptrdiff_t input_stride, T* y,
                                             std::ptrdiff_t output_stride, std::size_t length)
{
    scaledot::kernel::softmax_rows<T, T> rows(length);
    for (std::ptrdiff_t row = 0; places >> row != 0; ++row) {
        if ((places >> row & 1) != 0) {
            rows.add(x + row * input_stride, y + row * output_stride);
        }
    }
    return rows;
}

/// The first `count` of them.
template <class T>
scaledot::kernel::softmax_rows<T, T> rows_of(std::size_t count, const T* x, std::ptrdiff_t input_stride, T* y,
                                             std::ptrdiff_t output_stride, std::size_t length)
{
    return rows_at((std::uint32_t{1} << count) - 1, x, input_stride, y, output_stride, length);
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
    const auto along = [&](T* y) {
        const sk::softmax_rows<T, T> row(x.data(), y, x.size());
        return sk::softmax_along<softmax_arch, T, T, T>(row, temperature.scale);
    };
    along(r.probabilities.data()).probabilities(nullptr, false);
    along(r.logarithms.data()).logarithms(temperature, false);
    along(&r.logsumexp).logsumexp(temperature.value);
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
    const sk::softmax_narrow<softmax_arch, T, T, T> narrow(temperature.scale);
    const auto row = [&](T* y) { return sk::softmax_rows<T, T>(x.data(), y, x.size()); };
    narrow.probabilities(row(r.probabilities.data()), nullptr, false);
    narrow.logarithms(row(r.logarithms.data()), temperature, false);
    narrow.logsumexp(row(&r.logsumexp), temperature.value);
    return r;
}

} // namespace test_support

#endif
