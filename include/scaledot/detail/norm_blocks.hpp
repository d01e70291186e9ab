// SPDX-License-Identifier: BSD-3-Clause
// The blocks that layer_norm and rms_norm normalise: where they lie, the contiguous segments they are cut into, and the
// statistics of any of them by the passes of kernel/moments.hpp.
#ifndef SCALEDOT_DETAIL_NORM_BLOCKS_HPP
#define SCALEDOT_DETAIL_NORM_BLOCKS_HPP

#include <scaledot/detail/config.hpp>
#include <scaledot/detail/function_ref.hpp>
#include <scaledot/detail/view.hpp>
#include <scaledot/kernel/cut_sums.hpp>
#include <scaledot/kernel/moments.hpp>
#include <scaledot/kernel/norm.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <utility>

namespace scaledot::inline SCALEDOT_BUILD::detail {

/// What is normalised: deviations from the mean (layer_norm), or the elements themselves (rms_norm).
enum class norm_kind { centred, root_mean_square };

/// Is told what each block was normalised with, where anybody asks for that.
using norm_report = function_ref<void(std::size_t block, const kernel::normalization&)>;

/// The view of a gamma or beta that is not there.
struct no_parameter {};

/// The trailing axes of some views as segments that are contiguous in each of them.
class norm_segments {
public:
    explicit norm_segments(shape_vector shape) : outer_(std::move(shape)) {}

    /// Takes the shape and the strides of a view's last axes into account.
    template <class T>
    void add(const strided_view<T>& view)
    {
        std::size_t length = 1;
        std::size_t axis = outer_.size();
        for (; axis > 0; --axis) {
            const std::size_t from_end = outer_.size() - axis;
            const std::size_t at = view.rank() - 1 - from_end;
            if (view.shape[at] != 1 && view.strides[at] != static_cast<std::ptrdiff_t>(length)) {
                break;
            }
            length *= view.shape[at];
        }
        split_ = std::max(split_, axis);
    }

    void add(const no_parameter&) {}

    std::size_t count() const { return product(0, split_); }
    std::size_t length() const { return product(split_, outer_.size()); }

    /// Where segment i of a block of this view begins, from where the block begins.
    template <class T>
    std::ptrdiff_t offset(const strided_view<T>& view, std::size_t i) const
    {
        const std::size_t leading = view.rank() - outer_.size();
        std::ptrdiff_t offset = 0;
        for (std::size_t axis = split_; axis-- > 0;) {
            offset += static_cast<std::ptrdiff_t>(i % outer_[axis]) * view.strides[leading + axis];
            i /= outer_[axis];
        }
        return offset;
    }

private:
    std::size_t product(std::size_t begin, std::size_t end) const
    {
        std::size_t result = 1;
        for (std::size_t axis = begin; axis < end; ++axis) {
            result *= outer_[axis];
        }
        return result;
    }

    shape_vector outer_;
    std::size_t split_ = 0; // axes from here on are walked as one
};

template <class T>
const T* segment_of(const strided_view<const T>& view, const norm_segments& segments, std::size_t i)
{
    return view.data + segments.offset(view, i);
}

inline const kernel::absent* segment_of(const no_parameter&, const norm_segments&, std::size_t)
{
    return nullptr;
}

/// Where the blocks of a view's trailing axes begin: at even distances, unless outer axes have gaps of their own.
template <class T>
class block_places {
public:
    block_places(const strided_view<T>& view, std::size_t inner) : view_(view), data_(view.data), inner_(inner)
    {
        const std::size_t outer = view.rank() - inner;
        even_ = true;
        for (std::size_t axis = outer; axis-- > 0;) {
            if (view.shape[axis] == 1) {
                continue;
            }
            even_ = even_ && (extent_ == 0 || view.strides[axis] == extent_);
            distance_ = extent_ == 0 ? view.strides[axis] : distance_;
            extent_ = view.strides[axis] * static_cast<std::ptrdiff_t>(view.shape[axis]);
        }
    }

    /// Whether all distances between blocks that follow one another are the same.
    bool even() const { return even_; }

    [[gnu::always_inline]] T* operator()(std::size_t block) const
    {
        return even_ ? data_ + static_cast<std::ptrdiff_t>(block) * distance_ : among_uneven(block);
    }

private:
    [[gnu::noinline]] T* among_uneven(std::size_t block) const { return data_ + offset_of(view_, block, inner_); }

    const strided_view<T>& view_;
    T* data_;
    std::size_t inner_;
    std::ptrdiff_t distance_ = 0;
    std::ptrdiff_t extent_ = 0;
    bool even_;
};

/// What blocks of x are normalised with: scale, mean, inverse root. Each pass runs over all blocks of a group, for one
/// block's last steps to overlap with the next one's first. Numbers that are `reported` are correctly rounded; of pairs
/// that takes a pass of its own.
template <class Arch, norm_kind Kind, bool Pairs, class S>
class block_statistics {
    using V = kernel::batch<Arch, double>;

public:
    static constexpr std::size_t largest_group = 4;

    block_statistics(const strided_view<const S>& x, const norm_segments& segments, double epsilon, bool reported)
        : x_(x), segments_(segments), epsilon_(epsilon), reported_(reported),
          elements_(static_cast<double>(segments.count()) * static_cast<double>(segments.length()))
    {
    }

    using blocks = std::array<const S*, largest_group>;
    using results = std::array<kernel::normalization, largest_group>;

    results operator()(const blocks& group, std::size_t count) const
    {
        results n;
        std::array<double, largest_group> sum_scale;
        sum_scale.fill(1);
        std::array<kernel::extremes<double>, largest_group> range{};
        if (elements_ == 0) {
            n.fill(kernel::spoilt_normalization());
            return n;
        }
        if constexpr (Pairs) {
            for (std::size_t b = 0; b < count; ++b) {
                range[b] = range_of(group[b]);
                const double magnitude = kernel::finite_magnitude(range[b]);
                n[b].centre.scale = kernel::norm_scale(magnitude, epsilon_);
                sum_scale[b] = kernel::scale_for(magnitude);
            }
        }
        if constexpr (Kind == norm_kind::centred) {
            for (std::size_t b = 0; b < count; ++b) {
                const kernel::pair<double> sum = kernel::join_lanes(sum_of(group[b], sum_scale[b]));
                if (kernel::is_spoilt(sum)) {
                    n[b] = kernel::spoilt_normalization();
                    continue;
                }
                kernel::set_mean(n[b], sum, elements_, sum_scale[b]);
            }
        }
        for (std::size_t b = 0; b < count; ++b) {
            const kernel::pair<double> squares =
                kernel::total_squares<Pairs>(squares_of(group[b], n[b].centre, range[b]));
            if (kernel::is_spoilt(squares)) {
                n[b] = kernel::spoilt_normalization();
                continue;
            }
            set_inverse(n[b], squares);
            if (Pairs && reported_) {
                kernel::normalization exact = n[b];
                kernel::set_inverse<Pairs>(exact, kernel::join_lanes(exact_squares_of(group[b], n[b].centre)),
                                           elements_, epsilon_);
                n[b].unscaled_inverse = exact.unscaled_inverse;
            }
        }
        return n;
    }

private:
    template <class Pass>
    void each(const S* block, Pass&& pass) const
    {
        for (std::size_t i = 0; i < segments_.count(); ++i) {
            pass(block + segments_.offset(x_, i));
        }
    }

    kernel::extremes<double> range_of(const S* block) const
    {
        const V first(kernel::to_arithmetic<double>(*block));
        kernel::extremes<V> range{first, first};
        each(block, [&](const S* x) { kernel::accumulate_extremes<Arch>(x, segments_.length(), range); });
        return kernel::reduce(range);
    }

    kernel::pair<V> sum_of(const S* block, double scale) const
    {
        kernel::pair<V> sum{V(0), V(0)};
        each(block, [&](const S* x) {
            if constexpr (Pairs) {
                kernel::accumulate_cut_sum<Arch>(x, segments_.length(), scale, sum);
            } else {
                kernel::accumulate_sum<Arch, Pairs>(x, segments_.length(), scale, sum);
            }
        });
        return sum;
    }

    kernel::pair<V> squares_of(const S* block, const kernel::centre& centre,
                               const kernel::extremes<double>& range) const
    {
        if constexpr (Pairs) {
            const double reach = kernel::reach_of(range, centre);
            kernel::pair<V> squares{V(0), V(0)};
            each(block, [&](const S* x) {
                kernel::accumulate_rounded_squares<Arch>(x, segments_.length(), centre, reach, squares);
            });
            return squares;
        } else {
            return exact_squares_of(block, centre);
        }
    }

    kernel::pair<V> exact_squares_of(const S* block, const kernel::centre& centre) const
    {
        kernel::pair<V> squares{V(0), V(0)};
        each(block,
             [&](const S* x) { kernel::accumulate_squares<Arch, Pairs>(x, segments_.length(), centre, squares); });
        return squares;
    }

    void set_inverse(kernel::normalization& n, const kernel::pair<double>& squares) const
    {
        if constexpr (Pairs) {
            kernel::set_inverse<Pairs>(n, kernel::squares_about_mean(squares, n.centre, elements_), elements_,
                                       epsilon_);
        } else {
            kernel::set_inverse<Pairs>(n, squares, elements_, epsilon_);
        }
    }

    const strided_view<const S>& x_;
    const norm_segments& segments_;
    double epsilon_;
    bool reported_;
    double elements_;
};

} // namespace scaledot::inline SCALEDOT_BUILD::detail

#endif
