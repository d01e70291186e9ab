// SPDX-License-Identifier: BSD-3-Clause
// From xtensor expressions to raw memory: a pointer, a shape, strides. Everything below this file sees no xtensor.
#ifndef SCALEDOT_DETAIL_VIEW_HPP
#define SCALEDOT_DETAIL_VIEW_HPP

#include <scaledot/detail/check.hpp>
#include <scaledot/detail/config.hpp>
#include <scaledot/detail/element.hpp>
#include <scaledot/detail/strided_view.hpp>
#include <scaledot/detail/xtensor.hpp>

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>

namespace scaledot::inline SCALEDOT_BUILD::detail {

template <class E>
concept tensor = xt::is_xexpression<std::decay_t<E>>::value;

template <class E>
using element_of = std::remove_cv_t<typename std::decay_t<E>::value_type>;

/// Rank known at compile time, or dynamic_rank.
inline constexpr std::size_t dynamic_rank = std::numeric_limits<std::size_t>::max();

template <class E>
inline constexpr std::size_t rank_of = xt::get_rank<std::decay_t<E>>::value;

/// The container a result of T with the rank of E (or another static rank) lives in: xtensor for xtensor, else xarray.
template <class E, class T, std::size_t Rank = rank_of<E>>
using container_like = std::conditional_t<rank_of<E> == dynamic_rank, xt::xarray<T>, xt::xtensor<T, Rank>>;

/// An uninitialised container of that kind and the given shape.
template <class E, class T, std::size_t Rank = rank_of<E>, class Shape>
auto make_like(const Shape& shape)
{
    using container = container_like<E, T, Rank>;
    auto extents = xtl::make_sequence<typename container::shape_type>(shape.size());
    std::transform(shape.begin(), shape.end(), extents.begin(),
                   [](auto extent) { return static_cast<std::size_t>(extent); });
    element_count(extents);
    return container::from_shape(extents);
}

/// Expressions with elements in memory: containers, adaptors, strided views of either.
template <class E>
concept in_memory = tensor<E> && requires(E&& e) {
    e.data();
    e.data_offset();
    e.strides();
};

template <class E>
auto view_of(E&& e)
{
    using pointee = std::remove_pointer_t<decltype(e.data())>;
    strided_view<pointee> view;
    view.data = e.data() + e.data_offset();
    view.shape.resize(e.dimension());
    view.strides.resize(e.dimension());
    for (std::size_t i = 0; i < e.dimension(); ++i) {
        view.shape[i] = static_cast<std::size_t>(e.shape()[i]);
        view.strides[i] = static_cast<std::ptrdiff_t>(e.strides()[i]);
    }
    return view;
}

/// When an argument that must be copied is: with its declaration, or once read() is called, until when its view is good
/// for its shape only.
enum class reading { now, later };

/// An argument that is read: used in place when its last axis is contiguous, copied to a row-major array otherwise
/// (lazy expressions and views with another innermost axis).
template <tensor E>
class input {
public:
    using value_type = element_of<E>;

    explicit input(const E& e, reading when = reading::now) : source_(e)
    {
        if constexpr (in_memory<const E&>) {
            view_ = view_of(e);
            in_place_ = last_axis_contiguous(view_);
        } else {
            view_.shape.assign(e.shape().begin(), e.shape().end());
            view_.strides.resize(view_.rank());
        }
        if (when == reading::now) {
            read();
        }
    }

    input(const input&) = delete;
    input& operator=(const input&) = delete;

    const strided_view<const value_type>& view() const { return view_; }

    /// Reads what must be copied.
    void read()
    {
        if (in_place_) {
            return;
        }
        if constexpr (in_memory<const E&>) {
            copy_.emplace(copy::from_shape(view_.shape));
            copy_elements(view_, view_of(*copy_));
        } else {
            copy_.emplace(source_);
        }
        view_ = view_of(std::as_const(*copy_));
    }

    /// The same of [batch..., heads, length, size], where of batch entry b only the first lengths[b] rows of each head
    /// may be read; none of them is left out when there are no lengths.
    void read(std::span<const std::size_t> lengths)
    {
        if (lengths.empty()) {
            read();
        } else if (!in_place_) {
            copy_.emplace(copy::from_shape(view_.shape));
            const std::size_t heads = view_.rank() > 2 ? view_.extent(-3) : 1;
            for (std::size_t line = 0; line < lengths.size() * heads; ++line) {
                for (std::size_t row = 0; row < lengths[line / heads]; ++row) {
                    copy_row(line * view_.extent(-2) + row);
                }
            }
            view_ = view_of(std::as_const(*copy_));
        }
    }

private:
    using copy = xt::xarray<value_type, xt::layout_type::row_major>;

    void copy_row(std::size_t row)
    {
        const std::size_t size = view_.extent(-1);
        value_type* const target = copy_->data() + row * size;
        if constexpr (in_memory<const E&>) {
            const value_type* source = view_.data + offset_of(view_, row, 1);
            for (std::size_t i = 0; i < size; ++i) {
                target[i] = source[static_cast<std::ptrdiff_t>(i) * view_.stride(-1)];
            }
        } else {
            shape_vector index(view_.rank());
            for (std::size_t axis = view_.rank() - 1; axis-- > 0; row /= view_.shape[axis]) {
                index[axis] = row % view_.shape[axis];
            }
            for (std::size_t i = 0; i < size; ++i) {
                index[view_.rank() - 1] = i;
                target[i] = source_.element(index.begin(), index.end());
            }
        }
    }

    const E& source_;
    bool in_place_ = false;
    std::optional<copy> copy_;
    strided_view<const value_type> view_;
};

/// An argument that is written: in place when its last axis is contiguous, through a row-major array otherwise;
/// commit() copies that array to its place.
template <in_memory E>
class output {
public:
    using value_type = element_of<E>;

    explicit output(E& e) : target_(e)
    {
        static_assert(!std::is_const_v<std::remove_pointer_t<decltype(e.data())>>, "scaledot: the output is const");
        view_ = view_of(e);
        if (!last_axis_contiguous(view_)) {
            copy_.emplace(xt::xarray<value_type, xt::layout_type::row_major>::from_shape(view_.shape));
            view_ = view_of(*copy_);
        }
    }

    output(const output&) = delete;
    output& operator=(const output&) = delete;

    const strided_view<value_type>& view() const { return view_; }

    void commit()
    {
        if (copy_) {
            copy_elements(view_of(std::as_const(*copy_)), view_of(target_));
        }
    }

private:
    E& target_;
    std::optional<xt::xarray<value_type, xt::layout_type::row_major>> copy_;
    strided_view<value_type> view_;
};

/// Throws unless the two shapes are equal.
template <class Shape, class Expected>
void require_shape(const char* argument, const Shape& shape, const Expected& expected, const char* why)
{
    bool equal = shape.size() == expected.size();
    for (std::size_t i = 0; equal && i < shape.size(); ++i) {
        equal = static_cast<std::size_t>(shape[i]) == static_cast<std::size_t>(expected[i]);
    }
    if (!equal) {
        reject(text("the shape of ", argument), shape_text(shape), text(shape_text(expected), ", ", why));
    }
}

} // namespace scaledot::inline SCALEDOT_BUILD::detail

#endif
