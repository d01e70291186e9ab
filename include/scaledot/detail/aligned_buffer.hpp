// SPDX-License-Identifier: BSD-3-Clause
// Scratch memory on cache lines of its own, uninitialised.
#ifndef SCALEDOT_DETAIL_ALIGNED_BUFFER_HPP
#define SCALEDOT_DETAIL_ALIGNED_BUFFER_HPP

#include <scaledot/detail/check.hpp>
#include <scaledot/detail/config.hpp>

#include <cstddef>
#include <memory>
#include <new>
#include <type_traits>

namespace scaledot::inline SCALEDOT_BUILD::detail {

template <class T>
class aligned_buffer {
    static_assert(std::is_trivially_destructible_v<T> && std::is_trivially_copyable_v<T>);

public:
    aligned_buffer() = default;

    explicit aligned_buffer(std::size_t size)
        : data_(static_cast<T*>(
              ::operator new(checked_product(size, sizeof(T), "the size of a buffer"), std::align_val_t{64})))
    {
    }

    T* data() const { return data_.get(); }

private:
    struct release {
        void operator()(T* data) const { ::operator delete(data, std::align_val_t{64}); }
    };
    std::unique_ptr<T[], release> data_;
};

} // namespace scaledot::inline SCALEDOT_BUILD::detail

#endif
