// SPDX-License-Identifier: BSD-3-Clause
// What attention can be asked for: masks, causality, windows, lengths, scale, softcap, sinks.
#ifndef SCALEDOT_ATTENTION_OPTIONS_HPP
#define SCALEDOT_ATTENTION_OPTIONS_HPP

#include <scaledot/detail/config.hpp>
#include <scaledot/detail/element.hpp>
#include <scaledot/detail/ownership.hpp>
#include <scaledot/detail/view.hpp>

#include <concepts>
#include <cstddef>
#include <optional>
#include <span>
#include <type_traits>
#include <variant>

namespace scaledot::inline SCALEDOT_BUILD {

/// Which key a query stands at when there are more keys than queries (or fewer).
enum class alignment {
    top_left,    ///< query i stands at key i
    bottom_right ///< the last query stands at the last valid key of its batch entry
};

/// How far attention_scores goes.
enum class score_stage {
    scaled,       ///< scale q.k
    capped,       ///< and the softcap
    masked,       ///< and mask, causality, windows and key lengths: excluded scores are -inf
    probabilities ///< and the softmax, with the sink in its denominator
};

/// A view of a mask that broadcasts, from the right, to [batch..., heads, queries, keys]; empty by default. Of bool:
/// true may attend. Of float, double, half or bfloat16: added to the capped scores; -inf excludes the key as false
/// does, a finite number never does. The container must outlive the call: temporaries that own their elements and lazy
/// expressions do not compile.
class mask_view {
public:
    mask_view() = default; ///< no mask

    /// A view of mask's elements.
    template <class E>
        requires(detail::tensor<E> && !std::same_as<std::decay_t<E>, mask_view>)
    mask_view(E&& mask)
    {
        using value_type = detail::element_of<E>;
        static_assert(std::same_as<value_type, bool> || detail::element<value_type>,
                      "scaledot: a mask has bool, float, double, half or bfloat16 elements");
        static_assert(detail::in_memory<E>,
                      "scaledot: a mask must be in memory: evaluate the lazy expression into a container first");
        static_assert(std::is_lvalue_reference_v<E> || !detail::owns_elements<std::decay_t<E>>,
                      "scaledot: a mask must outlive the call: a temporary container does not, give it a name");
        if constexpr (detail::in_memory<E> && (std::same_as<value_type, bool> || detail::element<value_type>)) {
            const auto view = detail::view_of(mask);
            view_ = detail::strided_view<const value_type>{view.data, view.shape, view.strides};
        }
    }

    /// Of elements in memory, without a container.
    template <class T>
    explicit mask_view(const detail::strided_view<const T>& mask) : view_(mask)
    {
    }

    /// There is a mask.
    explicit operator bool() const { return !std::holds_alternative<std::monostate>(view_); }

    /// Its elements are added to scores.
    bool is_additive() const { return *this && !std::holds_alternative<detail::strided_view<const bool>>(view_); }

    /// Calls visit(strided_view) with the mask's view; not called when there is no mask.
    template <class Visitor>
    void visit(Visitor&& visitor) const
    {
        std::visit(
            [&](const auto& view) {
                if constexpr (!std::is_same_v<std::decay_t<decltype(view)>, std::monostate>) {
                    visitor(view);
                }
            },
            view_);
    }

private:
    std::variant<std::monostate, detail::strided_view<const bool>, detail::strided_view<const float>,
                 detail::strided_view<const double>, detail::strided_view<const xtl::half_float>,
                 detail::strided_view<const bfloat16>>
        view_;
};

/// One raw logit per query head, float or double, in contiguous memory that outlives the call; empty by default.
class sinks_view {
public:
    sinks_view() = default; ///< no sinks

    /// A view of a vector, array or span of float, or of double.
    template <class Range>
        requires(std::convertible_to<const Range&, std::span<const float>>)
    sinks_view(const Range& sinks) : values_(std::span<const float>(sinks))
    {
    }

    /// @cond  The same signature but for what it requires.
    template <class Range>
        requires(std::convertible_to<const Range&, std::span<const double>>)
    sinks_view(const Range& sinks) : values_(std::span<const double>(sinks))
    {
    }
    /// @endcond

    /// One for each query head, or 0.
    std::size_t size() const
    {
        return std::visit([](const auto& values) { return values.size(); }, values_);
    }
    bool empty() const { return size() == 0; } ///< there are no sinks
    /// The logit of a query head.
    double operator[](std::size_t head) const
    {
        return std::visit([&](const auto& values) { return static_cast<double>(values[head]); }, values_);
    }

    /// Calls visit(span) with the logits.
    template <class Visitor>
    void visit(Visitor&& visitor) const
    {
        std::visit(visitor, values_);
    }

private:
    std::variant<std::span<const float>, std::span<const double>> values_;
};

/// Every option of attention, attention_scores and attention_diagnostics. The order of steps is
/// scale, softcap, mask and causality and window and lengths, softmax with sink, product with the values.
struct attention_options {
    /// bool or additive mask, see mask_view
    mask_view mask = {};
    /// keys after a query's position are excluded
    bool causal = false;
    /// where queries stand among the keys; needed for causal and windows unless queries = keys without key_lengths
    std::optional<alignment> align = {};
    /// the first query's key position, outright; may be negative. Excludes align
    std::optional<std::ptrdiff_t> query_offset = {};
    /// a query at position p sees keys from p - window_left; absent: unbounded
    std::optional<std::size_t> window_left = {};
    /// a query at position p sees keys to p + window_right; absent: unbounded
    std::optional<std::size_t> window_right = {};
    /// valid keys of each batch entry, in row-major order of the batch axes; keys past it are never read
    std::span<const std::size_t> key_lengths = {};
    /// factor of the products q.k, any finite number, rounded to the type of the arithmetic; absent:
    /// 1 / sqrt(head size)
    std::optional<double> scale = {};
    /// scores s become c tanh(s / c); 0: off
    double softcap = 0.0;
    /// one logit per query head that takes part in the softmax and carries no value
    sinks_view sinks = {};
};

} // namespace scaledot::inline SCALEDOT_BUILD

#endif
