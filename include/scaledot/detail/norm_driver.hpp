// SPDX-License-Identifier: BSD-3-Clause
// Cuts an array into blocks to normalise, blocks into contiguous segments for kernel/norm.hpp, and hands ranges of
// blocks to threads.
#ifndef SCALEDOT_DETAIL_NORM_DRIVER_HPP
#define SCALEDOT_DETAIL_NORM_DRIVER_HPP

#include <scaledot/detail/config.hpp>
#include <scaledot/detail/element.hpp>
#include <scaledot/detail/view.hpp>
#include <scaledot/executor.hpp>
#include <scaledot/kernel/norm.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace scaledot::inline SCALEDOT_BUILD::detail {

/// What is normalised: deviations from the mean (layer_norm), or the elements themselves (rms_norm).
enum class norm_kind { centred, root_mean_square };

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

/// The numbers one block of x is normalised with: scale, mean, inverse root.
template <class Arch, norm_kind Kind, bool Pairs, class S>
kernel::normalization block_normalization(const S* block, const strided_view<const S>& x, const norm_segments& segments,
                                          double epsilon)
{
    using V = kernel::batch<Arch, double>;
    const std::size_t count = segments.count();
    const std::size_t length = segments.length();
    const auto elements = static_cast<double>(count) * static_cast<double>(length);
    const auto each = [&](auto&& pass) {
        for (std::size_t i = 0; i < count; ++i) {
            pass(block + segments.offset(x, i));
        }
    };
    kernel::normalization n;
    double sum_scale = 1;
    if constexpr (Pairs) {
        kernel::batch<Arch, std::int64_t> largest(0);
        each([&](const S* segment) { kernel::accumulate_magnitude<Arch>(segment, length, largest); });
        const std::int64_t magnitude = kernel::reduce_magnitude(largest);
        n.centre.scale = kernel::norm_scale(magnitude, epsilon);
        sum_scale = kernel::scale_for(kernel::finite_magnitude(magnitude));
    }
    if constexpr (Kind == norm_kind::centred) {
        kernel::pair<V> sum{V(0), V(0)};
        each([&](const S* segment) { kernel::accumulate_sum<Arch, Pairs>(segment, length, sum_scale, sum); });
        const kernel::pair<double> total = kernel::reduce(sum);
        if (elements == 0 || kernel::is_spoilt(total)) {
            return kernel::spoilt_normalization();
        }
        kernel::set_mean(n, total, elements, sum_scale);
    }
    kernel::pair<V> squares{V(0), V(0)};
    each([&](const S* segment) { kernel::accumulate_squares<Arch, Pairs>(segment, length, n.centre, squares); });
    const kernel::pair<double> total = kernel::total_squares<Pairs>(squares);
    if (elements == 0 || kernel::is_spoilt(total)) {
        return kernel::spoilt_normalization();
    }
    kernel::set_inverse<Pairs>(n, total, elements, epsilon);
    return n;
}

/// Normalises the blocks of x along its axes from `axis` on into out, and calls report(block index, normalization).
/// Arithmetic is that of T: double in pairs when T is double.
template <class Arch, norm_kind Kind, class T, class O, class S, class G, class B, class Report>
void run_norm(const strided_view<O>& out, const strided_view<const S>& x, const G& gamma, const B& beta,
              std::size_t axis, double epsilon, const Report& report)
{
    constexpr bool pairs = std::is_same_v<T, double>;
    constexpr double operations_per_element = 30;
    const std::size_t inner = x.rank() - axis;
    const auto first_inner = x.shape.begin() + static_cast<std::ptrdiff_t>(axis);
    norm_segments segments(shape_vector(first_inner, x.shape.end()));
    segments.add(x);
    segments.add(out);
    segments.add(gamma);
    segments.add(beta);
    const std::size_t count = segments.count();
    const std::size_t length = segments.length();
    const std::size_t blocks = element_count(shape_vector(x.shape.begin(), first_inner));
    const double operations = static_cast<double>(count) * static_cast<double>(length) * operations_per_element;
    run_ranges(blocks, part_count(blocks, operations), [&](std::size_t, std::size_t begin, std::size_t end) {
        for (std::size_t block = begin; block < end; ++block) {
            const S* const source = x.data + offset_of(x, block, inner);
            O* const target = out.data + offset_of(out, block, inner);
            const kernel::normalization n = block_normalization<Arch, Kind, pairs>(source, x, segments, epsilon);
            report(block, n);
            for (std::size_t i = 0; i < count; ++i) {
                kernel::normalize<Arch, pairs>(target + segments.offset(out, i), source + segments.offset(x, i),
                                               segment_of(gamma, segments, i), segment_of(beta, segments, i), length,
                                               n);
            }
        }
    });
}

} // namespace scaledot::inline SCALEDOT_BUILD::detail

#endif
