// SPDX-License-Identifier: BSD-3-Clause
// Writes a row of results a vector at a time, between the steps of other work.
#ifndef SCALEDOT_KERNEL_ROW_WRITER_HPP
#define SCALEDOT_KERNEL_ROW_WRITER_HPP

#include <scaledot/detail/config.hpp>
#include <scaledot/kernel/partial_vectors.hpp>
#include <scaledot/kernel/simd.hpp>
#include <scaledot/kernel/stream.hpp>

#include <algorithm>
#include <cstddef>
#include <type_traits>

SCALEDOT_KERNELS_BEGIN
namespace scaledot::inline SCALEDOT_BUILD::kernel {

/// Writes value(i, count), which gives elements i ... i + count - 1 of a row, to y + i: first a few, so that vectors
/// are aligned where they are streamed around the caches; then a vector at each step, the last one short. Streamed
/// vectors are a step late: while a store is under way, the machine takes loads of the same place in another page for
/// its readers, and where x and y lie alike in their pages the next logits to be read would be in that place.
template <class Arch, class T, class R, class Value>
class row_writer {
    static constexpr std::size_t width = lanes<Arch, T>;

public:
    row_writer(R* y, std::size_t length, bool streaming, const Value& value)
        : y_(y), length_(length), streaming_(streaming && std::is_same_v<R, T>), value_(value)
    {
        if (const std::size_t before = elements_before_stream<Arch, T>(y); streaming_ && before != 0) {
            first_ = std::min(length_, before);
            ask_to_write(y_ + length_ - 1);
            write_some(y_, 0, first_, value_);
        }
        vectors_ = (length_ - first_) / width;
    }

    [[gnu::always_inline]] void step(std::size_t i)
    {
        const std::size_t at = first_ + i * width;
        if (i >= vectors_) {
            if (i == vectors_ && at < length_) {
                write_some(y_, at, length_ - at, value_);
            }
            return;
        }
        const auto value = value_(at, width);
        if constexpr (std::is_same_v<R, T>) {
            if (streaming_) {
                if (i > 0) {
                    stream_vector<Arch, T>(y_ + at - width, late_);
                }
                late_ = value;
                return;
            }
        }
        store_vector<Arch, T>(y_ + at, value);
    }

    /// The steps from `steps` on, and what is late.
    void finish(std::size_t steps)
    {
        for (; steps <= vectors_; ++steps) {
            step(steps);
        }
        if constexpr (std::is_same_v<R, T>) {
            if (streaming_ && vectors_ > 0) {
                stream_vector<Arch, T>(y_ + first_ + (vectors_ - 1) * width, late_);
            }
        }
    }

private:
    [[gnu::noinline]] static void write_some(R* y, std::size_t at, std::size_t count, Value value)
    {
        store_partial<Arch, T>(y + at, count, value(at, count));
    }

    R* y_;
    std::size_t length_;
    std::size_t first_ = 0;
    std::size_t vectors_ = 0;
    bool streaming_;
    Value value_;
    batch<Arch, T> late_{};
};

} // namespace scaledot::inline SCALEDOT_BUILD::kernel
SCALEDOT_KERNELS_END

#endif
