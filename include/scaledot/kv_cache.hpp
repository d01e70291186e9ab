// SPDX-License-Identifier: BSD-3-Clause
// Keys and values kept between calls of attention while a sequence is decoded.
#ifndef SCALEDOT_KV_CACHE_HPP
#define SCALEDOT_KV_CACHE_HPP

#include <scaledot/detail/aligned_buffer.hpp>
#include <scaledot/detail/attention_problem.hpp>
#include <scaledot/detail/check.hpp>
#include <scaledot/detail/config.hpp>
#include <scaledot/detail/element.hpp>
#include <scaledot/detail/overlap.hpp>
#include <scaledot/detail/view.hpp>
#include <scaledot/kernel/convert.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <utility>

namespace scaledot::inline SCALEDOT_BUILD {

/// The sizes of a kv_cache. `capacity` keys have room from the start; more are made room for as they come.
struct kv_cache_options {
    std::size_t batch = 1;      ///< sequences
    std::size_t heads = 1;      ///< key heads
    std::size_t key_size = 0;   ///< numbers of a key, 1 or more
    std::size_t value_size = 0; ///< numbers of a value
    std::size_t capacity = 0;   ///< keys there is room for from the start
};

/// Keys [batch, heads, length, key_size] and values [batch, heads, length, value_size] in storage type T (float,
/// double, half or bfloat16), which grow by append. Numbers of another type are rounded to T as they come in, once;
/// attention computes in float (double where T or the queries are double).
///
/// Growth doubles the capacity, so that appending n keys one by one copies each about twice. An append that throws
/// leaves the cache as it was. A copy has keys and values of its own; a cache moved from is empty. Views from keys()
/// and values() are valid until the next append, reserve, assignment or move: reset alone leaves what they show, and
/// append may be given them, or parts of them, as its arguments.
template <class T>
class kv_cache {
    static_assert(detail::element<T>, "scaledot: kv_cache stores float, double, half or bfloat16");

public:
    /// @throws std::invalid_argument  key_size is 0
    explicit kv_cache(const kv_cache_options& options) : options_(options)
    {
        if (options.key_size == 0) {
            detail::reject("key_size", 0, "1 or more");
        }
        options_.capacity = 0;
        reserve(options.capacity);
    }

    /// Keys, values and capacity of its own.
    kv_cache(const kv_cache& other)
        : options_(other.options_), length_(other.length_), keys_(other.resized(other.keys_, key_size(), capacity())),
          values_(other.resized(other.values_, value_size(), capacity()))
    {
    }

    /// Leaves other empty, without capacity.
    kv_cache(kv_cache&& other) noexcept
        : options_(other.options_), length_(std::exchange(other.length_, 0)), keys_(std::move(other.keys_)),
          values_(std::move(other.values_))
    {
        other.options_.capacity = 0;
    }

    /// By copy or by move, sizes included.
    kv_cache& operator=(kv_cache other) noexcept
    {
        std::swap(options_, other.options_);
        std::swap(length_, other.length_);
        std::swap(keys_, other.keys_);
        std::swap(values_, other.values_);
        return *this;
    }

    ~kv_cache() = default;

    std::size_t batch() const { return options_.batch; }           ///< sequences
    std::size_t heads() const { return options_.heads; }           ///< key heads
    std::size_t key_size() const { return options_.key_size; }     ///< numbers of a key
    std::size_t value_size() const { return options_.value_size; } ///< numbers of a value
    std::size_t length() const { return length_; }                 ///< keys stored
    std::size_t capacity() const { return options_.capacity; }     ///< keys there is room for

    /// Forgets all keys and values; keeps the memory.
    void reset() { length_ = 0; }

    /// Makes room for `capacity` keys in all.
    void reserve(std::size_t capacity)
    {
        if (capacity <= options_.capacity) {
            return;
        }
        replace(resized(keys_, key_size(), capacity), resized(values_, value_size(), capacity), capacity);
    }

    /// Appends new keys [batch, heads, n, key_size] and values [batch, heads, n, value_size]; rank 3 ([heads, n, size])
    /// where batch is 1, rank 2 where heads is 1 as well.
    /// @throws std::invalid_argument  shapes that do not fit the cache or each other
    template <detail::tensor K, detail::tensor V>
    void append(const K& k, const V& v)
    {
        static_assert(detail::element<detail::element_of<K>> && detail::element<detail::element_of<V>>,
                      "scaledot: kv_cache appends float, double, half or bfloat16 elements");
        const detail::input<K> key(k);
        const detail::input<V> value(v);
        check(key.view(), "k", options_.key_size);
        check(value.view(), "v", options_.value_size);
        const std::size_t added = key.view().extent(-2);
        if (value.view().extent(-2) != added) {
            detail::reject("the length of v", value.view().extent(-2), detail::text(added, ", that of k"));
        }
        if (added <= capacity() - length_ && !overwrites(key.view(), added) && !overwrites(value.view(), added)) {
            copy_in(key.view(), keys_, key_size(), capacity());
            copy_in(value.view(), values_, value_size(), capacity());
        } else {
            // The old memory lives until the new keys are copied: they may be views of it.
            const std::size_t needed = detail::checked_sum(length_, added, "the length of the cache");
            const std::size_t room = needed <= capacity()      ? capacity()
                                     : capacity() > needed / 2 ? 2 * capacity()
                                                               : needed;
            detail::aligned_buffer<T> keys = resized(keys_, key_size(), room);
            detail::aligned_buffer<T> values = resized(values_, value_size(), room);
            copy_in(key.view(), keys, key_size(), room);
            copy_in(value.view(), values, value_size(), room);
            replace(std::move(keys), std::move(values), room);
        }
        length_ += added;
    }

    /// A view [batch, heads, length, key_size] of the keys.
    auto keys() const { return view(keys_, options_.key_size); }
    /// A view [batch, heads, length, value_size] of the values.
    auto values() const { return view(values_, options_.value_size); }

private:
    std::size_t lines() const { return detail::checked_product(options_.batch, options_.heads, "batch * heads"); }

    /// A copy of a buffer's used part with room for `capacity` keys.
    detail::aligned_buffer<T> resized(const detail::aligned_buffer<T>& old, std::size_t size,
                                      std::size_t capacity) const
    {
        const std::size_t line = detail::checked_product(capacity, size, "the size of the cache");
        detail::aligned_buffer<T> buffer(detail::checked_product(lines(), line, "the size of the cache"));
        for (std::size_t i = 0; length_ > 0 && i < lines(); ++i) {
            std::copy_n(old.data() + i * options_.capacity * size, length_ * size, buffer.data() + i * line);
        }
        return buffer;
    }

    void replace(detail::aligned_buffer<T> keys, detail::aligned_buffer<T> values, std::size_t capacity) noexcept
    {
        keys_ = std::move(keys);
        values_ = std::move(values);
        options_.capacity = capacity;
    }

    template <class S>
    void check(const detail::strided_view<S>& x, const char* name, std::size_t size) const
    {
        if (x.rank() < 2 || x.rank() > 4) {
            detail::reject(detail::text("the rank of ", name), x.rank(), "4: [batch, heads, length, size]");
        }
        const std::size_t heads = x.rank() > 2 ? x.extent(-3) : 1;
        const std::size_t batch = x.rank() > 3 ? x.extent(-4) : 1;
        if (batch != options_.batch || heads != options_.heads || x.extent(-1) != size) {
            detail::reject(detail::text("the shape of ", name), detail::shape_text(x.shape),
                           detail::text("(", options_.batch, ", ", options_.heads, ", length, ", size, ")"));
        }
    }

    /// The next `added` keys' or values' place in a buffer.
    detail::strided_view<const T> next(const detail::aligned_buffer<T>& buffer, std::size_t size,
                                       std::size_t added) const
    {
        return {buffer.data() + length_ * size,
                {lines(), added * size},
                {static_cast<std::ptrdiff_t>(capacity() * size), 1}};
    }

    /// Keys or values to append lie where they or the others go: in views from before a reset.
    template <class S>
    bool overwrites(const detail::strided_view<S>& source, std::size_t added) const
    {
        return detail::overlaps(source, next(keys_, key_size(), added)) ||
               detail::overlaps(source, next(values_, value_size(), added));
    }

    template <class S>
    void copy_in(const detail::strided_view<S>& source, const detail::aligned_buffer<T>& target, std::size_t size,
                 std::size_t capacity) const
    {
        const detail::head_view<S> rows{source};
        for (std::size_t i = 0; i < lines(); ++i) {
            T* line = target.data() + (i * capacity + length_) * size;
            for (std::size_t row = 0; row < rows.length(); ++row, line += size) {
                const S* from = rows.row(i / options_.heads, i % options_.heads, row);
                for (std::size_t c = 0; c < size; ++c) {
                    line[c] = kernel::convert_element<T>(from[c]);
                }
            }
        }
    }

    auto view(const detail::aligned_buffer<T>& buffer, std::size_t size) const
    {
        const std::array<std::size_t, 4> shape = {options_.batch, options_.heads, length_, size};
        const auto line = static_cast<std::ptrdiff_t>(options_.capacity * size);
        const std::array<std::ptrdiff_t, 4> strides = {
            shape[0] == 1 ? 0 : line * static_cast<std::ptrdiff_t>(options_.heads), shape[1] == 1 ? 0 : line,
            shape[2] == 1 ? 0 : static_cast<std::ptrdiff_t>(size), size == 1 ? 0 : 1};
        const T* data = buffer.data();
        return xt::adapt(data, detail::element_count(shape), xt::no_ownership(), shape, strides);
    }

    kv_cache_options options_;
    std::size_t length_ = 0;
    detail::aligned_buffer<T> keys_;
    detail::aligned_buffer<T> values_;
};

namespace detail {

/// A cache's keys or values with as many axes as q has: leading axes of q are the batch.
template <class Q, class T, class View>
auto cached_like(const Q& q, const kv_cache<T>& cache, const View& view)
{
    const std::size_t rank = q.dimension();
    if (rank < 2) {
        reject("the rank of q", rank, "2 or more: [..., heads, queries, head size]");
    }
    std::size_t batch = 1;
    for (std::size_t axis = 0; axis + 3 < rank; ++axis) {
        batch = checked_product(batch, q.shape()[axis], "the batch size");
    }
    if (batch != cache.batch()) {
        reject("the batch size of q", batch, text(cache.batch(), ", that of the cache"));
    }
    if (rank == 2 && cache.heads() != 1) {
        reject("the rank of q", rank, text("3 or more for a cache of ", cache.heads(), " heads"));
    }
    using Shape = std::conditional_t<rank_of<Q> == dynamic_rank, shape_vector, std::array<std::size_t, rank_of<Q>>>;
    using Strides =
        std::conditional_t<rank_of<Q> == dynamic_rank, stride_vector, std::array<std::ptrdiff_t, rank_of<Q>>>;
    auto shape = xtl::make_sequence<Shape>(rank);
    auto strides = xtl::make_sequence<Strides>(rank);
    for (std::size_t i = 1; i <= std::min<std::size_t>(rank, 3); ++i) {
        shape[rank - i] = view.shape()[4 - i];
        strides[rank - i] = view.strides()[4 - i];
    }
    std::ptrdiff_t step = view.strides()[0];
    for (std::size_t axis = rank - std::min<std::size_t>(rank, 3); axis-- > 0;) {
        shape[axis] = q.shape()[axis];
        strides[axis] = shape[axis] == 1 ? 0 : step;
        step *= static_cast<std::ptrdiff_t>(shape[axis]);
    }
    return xt::adapt(view.data(), element_count(view.shape()), xt::no_ownership(), shape, strides);
}

} // namespace detail
} // namespace scaledot::inline SCALEDOT_BUILD

#endif
