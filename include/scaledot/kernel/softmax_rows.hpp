// SPDX-License-Identifier: BSD-3-Clause
// What the kernels that take several rows at a time, each along the vectors, are told of them.
#ifndef SCALEDOT_KERNEL_SOFTMAX_ROWS_HPP
#define SCALEDOT_KERNEL_SOFTMAX_ROWS_HPP

#include <scaledot/detail/config.hpp>
#include <scaledot/kernel/convert.hpp>
#include <scaledot/kernel/simd.hpp>

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

SCALEDOT_KERNELS_BEGIN
namespace scaledot::inline SCALEDOT_BUILD::kernel {

/// Rows of contiguous logits, no more than a vector has lanes, out of some that lie `stride` apart.
template <class S>
class rows_of_logits {
public:
    /// Those at the places that have their bit set in `places`, of 16 rows from `from` on. Rows at the same places from
    /// `next` on are fetched meanwhile.
    rows_of_logits(const S* from, const S* next, std::ptrdiff_t stride, std::size_t length, std::uint32_t places)
        : from_(from), next_(next), stride_(stride), length_(length)
    {
        for (; places != 0; places &= places - 1) {
            places_[count_++] = static_cast<std::uint8_t>(std::countr_zero(places));
        }
    }

    /// A single one.
    rows_of_logits(const S* row, std::size_t length) : rows_of_logits(row, row, 0, length, 1) {}

    std::size_t count() const { return count_; }
    std::size_t length() const { return length_; }
    const S* row(std::size_t row) const { return at(from_, stride_, row); }
    const S* next_row(std::size_t row) const { return at(next_, stride_, row); }

    /// Where the row's place is in other memory.
    template <class E>
    E* at(E* from, std::ptrdiff_t stride, std::size_t row) const
    {
        return from + static_cast<std::ptrdiff_t>(places_[row]) * stride;
    }

private:
    const S* from_;
    const S* next_;
    std::ptrdiff_t stride_;
    std::size_t length_;
    std::size_t count_ = 0;
    std::array<std::uint8_t, 16> places_;
};

/// Where the weights of rows wait for their sum, rows `stride` apart. Without memory they are computed twice.
template <class T>
struct kept_weights {
    T* data = nullptr;
    std::ptrdiff_t stride = 0;

    template <class S>
    T* row(const rows_of_logits<S>& rows, std::size_t index) const
    {
        return data ? rows.at(data, stride, index) : nullptr;
    }
};

/// The first `count` lanes of logits or weights, the others x[0].
template <class Arch, class T, class E>
[[gnu::always_inline]] inline batch<Arch, T> load_logits(const E* x, std::size_t count)
{
    return count == lanes<Arch, T> ? load_vector<Arch, T>(x) : load_partial<Arch, T>(x, count, to_arithmetic<T>(x[0]));
}

/// Writes the first `count` lanes.
template <class Arch, class T, class E>
[[gnu::always_inline]] inline void store_some(E* y, std::size_t count, const batch<Arch, T>& values)
{
    count == lanes<Arch, T> ? store_vector<Arch, T>(y, values) : store_partial<Arch, T>(y, count, values);
}

} // namespace scaledot::inline SCALEDOT_BUILD::kernel
SCALEDOT_KERNELS_END

#endif
