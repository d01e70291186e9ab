// SPDX-License-Identifier: BSD-3-Clause
// Where kernel/softmax.hpp finds rows that lie one a lane: in a tile of scratch memory, to which short rows come
// transposed and rows along an outer axis as they are, or, where these are too long for that, in the arrays themselves.
#ifndef SCALEDOT_DETAIL_SOFTMAX_TILE_HPP
#define SCALEDOT_DETAIL_SOFTMAX_TILE_HPP

#include <scaledot/detail/config.hpp>
#include <scaledot/kernel/partial_vectors.hpp>
#include <scaledot/kernel/shuffle.hpp>
#include <scaledot/kernel/simd.hpp>
#include <scaledot/kernel/unroll.hpp>

#include <algorithm>
#include <array>
#include <cstddef>

SCALEDOT_KERNELS_BEGIN
namespace scaledot::inline SCALEDOT_BUILD::detail {

/// Vectors `step` elements apart in a tile.
template <class Arch, class T>
struct tile_column {
    static constexpr bool keeps = true;

    T* data;
    std::size_t step;

    [[gnu::always_inline]] kernel::batch<Arch, T> load(std::size_t i) const
    {
        return kernel::batch<Arch, T>::load_aligned(data + i * step);
    }
    [[gnu::always_inline]] void store(std::size_t i, const kernel::batch<Arch, T>& value) const
    {
        value.store_aligned(data + i * step);
    }
};

/// Up to a vector of rows side by side in arrays. Results replace logits only one by one: weights are not kept.
template <class Arch, class T, class S, class R>
struct strided_column {
    static constexpr bool keeps = false;

    const S* x;
    R* y;
    std::ptrdiff_t input_step;
    std::ptrdiff_t output_step;
    std::size_t rows;

    [[gnu::always_inline]] kernel::batch<Arch, T> load(std::size_t i) const
    {
        const S* const at = x + static_cast<std::ptrdiff_t>(i) * input_step;
        return rows == kernel::lanes<Arch, T> ? kernel::load_vector<Arch, T>(at)
                                              : kernel::load_partial<Arch, T>(at, rows, T(0));
    }
    [[gnu::always_inline]] void store(std::size_t i, const kernel::batch<Arch, T>& value) const
    {
        kernel::store_partial<Arch, T>(y + static_cast<std::ptrdiff_t>(i) * output_step, rows, value);
    }
};

/// `length` vectors, or rows of several vectors, in scratch memory: logits of up to `width` rows, one a lane. Lanes
/// that share a vector with rows, but hold none, are 0.
template <class Arch, class T>
class softmax_tile {
    using B = kernel::batch<Arch, T>;
    static constexpr std::size_t lanes = kernel::lanes<Arch, T>;

public:
    softmax_tile(T* data, std::size_t width, std::size_t length) : data_(data), width_(width), length_(length) {}

    tile_column<Arch, T> column(std::size_t lane) const { return {data_ + lane, width_}; }

    /// Lane l of vector i becomes x[i * step + l * stride].
    template <class S>
    void load_columns(const S* x, std::ptrdiff_t step, std::ptrdiff_t stride, std::size_t rows) const
    {
        for (std::size_t i = 0; i < length_; ++i) {
            const S* const source = x + static_cast<std::ptrdiff_t>(i) * step;
            std::size_t lane = 0;
            for (; stride == 1 && lane + lanes <= rows; lane += lanes) {
                kernel::load_vector<Arch, T>(source + lane).store_aligned(data_ + i * width_ + lane);
            }
            for (; lane < rows; lane += lanes) {
                load_some(source + static_cast<std::ptrdiff_t>(lane) * stride, stride, std::min(lanes, rows - lane),
                          data_ + i * width_ + lane);
            }
        }
    }

    template <class R>
    void store_columns(R* y, std::ptrdiff_t step, std::ptrdiff_t stride, std::size_t rows) const
    {
        for (std::size_t i = 0; i < length_; ++i) {
            R* const target = y + static_cast<std::ptrdiff_t>(i) * step;
            std::size_t lane = 0;
            for (; stride == 1 && lane + lanes <= rows; lane += lanes) {
                kernel::store_vector<Arch, T>(target + lane, B::load_aligned(data_ + i * width_ + lane));
            }
            for (; lane < rows; lane += lanes) {
                store_some(target + static_cast<std::ptrdiff_t>(lane) * stride, stride, std::min(lanes, rows - lane),
                           data_ + i * width_ + lane);
            }
        }
    }

    /// The same of rows of contiguous logits: lane l of vector i becomes x[i + l * stride]. The tile is a vector wide.
    template <class S>
    void load_rows(const S* x, std::ptrdiff_t stride, std::size_t rows) const
    {
        constexpr std::size_t at_once = kernel::transposed_at_once<T, S>;
        if (rows < lanes || length_ < at_once) {
            load_columns(x, 1, stride, rows);
            return;
        }
        for_each_group<at_once>([&](std::size_t i) __attribute__((always_inline)) {
            const auto components = kernel::load_transposed<Arch, T>(x + i, stride);
            kernel::unroll<at_once>([&](auto k) __attribute__((always_inline)) {
                components[k].store_aligned(data_ + (i + k) * lanes);
            });
        });
    }

    template <class R>
    void store_rows(R* y, std::ptrdiff_t stride, std::size_t rows) const
    {
        constexpr std::size_t at_once = kernel::group_lanes<T>;
        if constexpr (std::is_same_v<R, T>) {
            if (rows == lanes && length_ >= at_once) {
                for_each_group<at_once>([&](std::size_t i) __attribute__((always_inline)) {
                    std::array<B, at_once> components;
                    kernel::unroll<at_once>([&](auto k) __attribute__((always_inline)) {
                        components[k] = B::load_aligned(data_ + (i + k) * lanes);
                    });
                    kernel::store_transposed<Arch, T>(y + i, stride, components);
                });
                return;
            }
        }
        store_columns(y, 1, stride, rows);
    }

private:
    /// Calls use(i) for groups i ... i + Count - 1 that cover the length, the last of which may overlap the one before.
    template <std::size_t Count, class Use>
    void for_each_group(Use&& use) const
    {
        std::size_t i = 0;
        for (; i + Count <= length_; i += Count) {
            use(i);
        }
        if (i < length_) {
            use(length_ - Count);
        }
    }

    /// A vector of `count` numbers and zeros. They are converted all at once.
    template <class S>
    static void load_some(const S* source, std::ptrdiff_t stride, std::size_t count, T* vector)
    {
        std::array<S, lanes> some{};
        for (std::size_t k = 0; k < count; ++k) {
            some[k] = source[static_cast<std::ptrdiff_t>(k) * stride];
        }
        kernel::load_vector<Arch, T>(some.data()).store_aligned(vector);
    }

    /// The first `count` numbers of a vector.
    template <class R>
    static void store_some(R* target, std::ptrdiff_t stride, std::size_t count, const T* vector)
    {
        std::array<R, lanes> some;
        kernel::store_vector<Arch, T>(some.data(), B::load_aligned(vector));
        for (std::size_t k = 0; k < count; ++k) {
            target[static_cast<std::ptrdiff_t>(k) * stride] = some[k];
        }
    }

    T* data_;
    std::size_t width_;
    std::size_t length_;
};

} // namespace scaledot::inline SCALEDOT_BUILD::detail
SCALEDOT_KERNELS_END

#endif
