// SPDX-License-Identifier: BSD-3-Clause
// The rows that kernels take several at a time, each along the vectors.
#ifndef SCALEDOT_KERNEL_SOFTMAX_ROWS_HPP
#define SCALEDOT_KERNEL_SOFTMAX_ROWS_HPP

#include <scaledot/detail/config.hpp>
#include <scaledot/kernel/convert.hpp>
#include <scaledot/kernel/partial_vectors.hpp>
#include <scaledot/kernel/simd.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <type_traits>

SCALEDOT_KERNELS_BEGIN
namespace scaledot::inline SCALEDOT_BUILD::kernel {

/// Rows of contiguous logits, at most `most` of them, wherever they lie, and where their results go.
template <class S, class R>
class softmax_rows {
public:
    static constexpr std::size_t most = 16;

    explicit softmax_rows(std::size_t length) : length_(length) {}

    /// A single one.
    softmax_rows(const S* x, R* y, std::size_t length) : length_(length) { add(x, y); }

    void add(const S* x, R* y)
    {
        logits_[count_] = x;
        results_[count_] = y;
        ++count_;
    }

    void clear()
    {
        count_ = 0;
        fetched_ = 0;
    }

    /// `count` rows of the same length from x on, `stride` apart, are brought near while these are read.
    void fetch(const S* x, std::ptrdiff_t stride, std::size_t count)
    {
        fetched_ = std::min(count, count_);
        for (std::size_t row = 0; row < fetched_; ++row) {
            next_[row] = x + static_cast<std::ptrdiff_t>(row) * stride;
        }
    }

    std::size_t count() const { return count_; }
    std::size_t length() const { return length_; }
    const S* logits(std::size_t row) const { return logits_[row]; }
    R* result(std::size_t row) const { return results_[row]; }

    /// The row that is fetched beside this one, or this one.
    const S* next(std::size_t row) const { return row < fetched_ ? next_[row] : logits_[row]; }

    /// Where the row's weights wait for their sum: in `scratch`, row after row, or without it in the results.
    template <class T>
    T* weights(std::size_t row, T* scratch) const
    {
        if constexpr (std::is_same_v<R, T>) {
            if (scratch == nullptr) {
                return results_[row];
            }
        }
        return scratch + row * length_;
    }

private:
    std::size_t length_;
    std::size_t count_ = 0;
    std::size_t fetched_ = 0;
    std::array<const S*, most> logits_;
    std::array<R*, most> results_;
    std::array<const S*, most> next_;
};

/// A keeper of weights that are only added up: keeper_of(row)(i, count, weights).
inline constexpr auto nothing_kept = [](std::size_t) { return [](std::size_t, std::size_t, const auto&) {}; };

/// A keeper of weights where they wait for their sum.
template <class Arch, class T, class S, class R>
auto weights_kept(const softmax_rows<S, R>& rows, T* scratch)
{
    return [&rows, scratch](std::size_t row) {
        return [weights = rows.weights(row, scratch)](std::size_t i, std::size_t count, const batch<Arch, T>& w)
            __attribute__((always_inline))
        {
            store_some<Arch, T>(weights + i, count, w);
        };
    };
}

} // namespace scaledot::inline SCALEDOT_BUILD::kernel
SCALEDOT_KERNELS_END

#endif
