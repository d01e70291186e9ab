// SPDX-License-Identifier: BSD-3-Clause
// A checked call of attention in terms of raw memory: what the driver works on. Every check of shapes and options is
// here, before anything is read.
#ifndef SCALEDOT_DETAIL_ATTENTION_PROBLEM_HPP
#define SCALEDOT_DETAIL_ATTENTION_PROBLEM_HPP

#include <scaledot/attention_options.hpp>
#include <scaledot/detail/check.hpp>
#include <scaledot/detail/config.hpp>
#include <scaledot/detail/element.hpp>
#include <scaledot/detail/view.hpp>
#include <scaledot/kernel/simd.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <utility>

namespace scaledot::inline SCALEDOT_BUILD::detail {

/// A view [batch..., heads, length, size] of rank >= 2 with its batch axes flattened; rank 2 is one head.
template <class T>
struct head_view {
    strided_view<T> view;

    std::size_t heads() const { return view.rank() > 2 ? view.extent(-3) : 1; }
    std::size_t length() const { return view.extent(-2); }
    std::size_t size() const { return view.extent(-1); }
    std::ptrdiff_t row_stride() const { return view.stride(-2); }

    /// The first row of a head.
    T* head(std::size_t batch, std::size_t h) const
    {
        const std::ptrdiff_t of_head = view.rank() > 2 ? static_cast<std::ptrdiff_t>(h) * view.stride(-3) : 0;
        const std::ptrdiff_t of_batch = view.rank() == 4
                                            ? static_cast<std::ptrdiff_t>(batch) * view.strides[0]
                                            : offset_of(view, batch, std::min<std::size_t>(view.rank(), 3));
        return view.data + of_batch + of_head;
    }
    T* row(std::size_t batch, std::size_t h, std::size_t i) const
    {
        return head(batch, h) + static_cast<std::ptrdiff_t>(i) * row_stride();
    }
};

/// Keys a query may see by its position: [first, last).
struct key_range {
    std::size_t first;
    std::size_t last;
};

/// Sizes and options of one call, checked and with defaults filled in.
struct attention_plan {
    std::size_t batch = 1;
    std::size_t heads = 1;
    std::size_t key_heads = 1;
    std::size_t queries = 0;
    std::size_t keys = 0;
    std::size_t head_size = 0;
    double scale = 1;
    const attention_options* options = nullptr;

    std::size_t group() const { return key_heads == 0 ? 0 : heads / key_heads; }

    std::size_t valid_keys(std::size_t entry) const
    {
        return options->key_lengths.empty() ? keys : options->key_lengths[entry];
    }

    /// Whether queries of an entry see different keys.
    bool depends_on_position() const { return options->causal || options->window_left || options->window_right; }

    /// The keys that key length, causality and window leave to query i of a batch entry.
    key_range visible(std::size_t entry, std::size_t i) const
    {
        const std::size_t valid = valid_keys(entry);
        std::ptrdiff_t offset = options->query_offset.value_or(0);
        if (options->align == alignment::bottom_right) {
            offset = static_cast<std::ptrdiff_t>(valid) - static_cast<std::ptrdiff_t>(queries);
        }
        const std::ptrdiff_t position = offset + static_cast<std::ptrdiff_t>(i);
        const bool before_keys = position < 0;
        const auto distance =
            before_keys ? static_cast<std::size_t>(-(position + 1)) + 1 : static_cast<std::size_t>(position);

        key_range range{0, valid};
        if (options->causal) {
            range.last = before_keys ? 0 : std::min(range.last, distance + 1);
        }
        if (const auto right = options->window_right) {
            if (before_keys) {
                range.last = *right < distance ? 0 : std::min(range.last, *right - distance + 1);
            } else if (*right < valid) {
                range.last = std::min(range.last, distance + *right + 1);
            }
        }
        if (const auto left = options->window_left; left && !before_keys && distance > *left) {
            range.first = std::min(distance - *left, range.last);
        }
        return range;
    }

    /// The sink's logit of a query head; -inf when there are none.
    double sink(std::size_t head) const
    {
        return options->sinks.empty() ? kernel::negative_infinity<double> : options->sinks[head];
    }
};

template <class E>
void check_attention_type()
{
    static_assert(element<element_of<E>>, "scaledot: attention needs float, double, half or bfloat16 elements");
    static_assert(rank_of<E> >= 2,
                  "scaledot: attention needs arrays of rank 2 or more: [..., heads, length, head size]");
}

template <class T>
void require_rank(const char* argument, const strided_view<T>& view, std::size_t rank)
{
    if (view.rank() < 2) {
        reject(text("the rank of ", argument), view.rank(), "2 or more: [..., heads, length, head size]");
    }
    if (view.rank() != rank) {
        reject(text("the rank of ", argument), view.rank(), text(rank, ", that of q"));
    }
}

template <class T>
void require_axis(const char* argument, const strided_view<T>& view, std::size_t axis, std::size_t must,
                  const char* why)
{
    if (view.shape[axis] != must) {
        reject(text("axis ", axis, " of ", argument), view.shape[axis], text(must, ", ", why));
    }
}

inline void require_extent(const char* what, std::size_t was, std::size_t must, const char* why)
{
    if (was != must) {
        reject(what, was, text(must, ", ", why));
    }
}

inline void check_mask(const attention_plan& plan, const shape_vector& q_shape)
{
    shape_vector scores = q_shape;
    scores[scores.size() - 1] = plan.keys;
    plan.options->mask.visit([&](const auto& mask) {
        bool broadcasts = mask.rank() <= scores.size();
        for (std::size_t i = 0; broadcasts && i < mask.rank(); ++i) {
            const std::size_t extent = mask.shape[mask.rank() - 1 - i];
            broadcasts = extent == 1 || extent == scores[scores.size() - 1 - i];
        }
        if (!broadcasts) {
            reject("the shape of mask", shape_text(mask.shape),
                   text("broadcastable to that of the scores, ", shape_text(scores)));
        }
    });
}

inline void check_options(const attention_plan& plan)
{
    const attention_options& options = *plan.options;
    if (!is_finite(plan.scale)) {
        reject("scale", plan.scale, "finite");
    }
    if (!is_non_negative(options.softcap) || !is_finite(options.softcap)) {
        reject("softcap", options.softcap, "finite, and 0 (off) or more");
    }
    if (!options.sinks.empty() && options.sinks.size() != plan.heads) {
        reject("the number of sinks", options.sinks.size(), text(plan.heads, ", one per query head"));
    }
    if (!options.key_lengths.empty() && options.key_lengths.size() != plan.batch) {
        reject("the number of key_lengths", options.key_lengths.size(), text(plan.batch, ", one per batch entry"));
    }
    for (std::size_t i = 0; i < options.key_lengths.size(); ++i) {
        if (options.key_lengths[i] > plan.keys) {
            reject(text("key_lengths[", i, "]"), options.key_lengths[i],
                   text("at most ", plan.keys, ", the number of keys"));
        }
    }
    if (options.align && options.query_offset) {
        reject("align", "given together with query_offset", "the only one of the two");
    }
    const bool positional = options.causal || options.window_left || options.window_right;
    if (positional && !options.align && !options.query_offset &&
        (plan.queries != plan.keys || !options.key_lengths.empty())) {
        reject("align", text("absent for ", plan.queries, " queries and ", plan.keys, " keys"),
               "top_left or bottom_right (or query_offset given): causal and windows need to know where queries stand");
    }
    const auto largest = std::numeric_limits<std::ptrdiff_t>::max();
    if (options.query_offset && *options.query_offset > 0 && plan.queries > 0 &&
        plan.queries - 1 > static_cast<std::size_t>(largest - *options.query_offset)) {
        reject("query_offset", *options.query_offset,
               text("so small that the positions of ", plan.queries, " queries fit"));
    }
}

/// Checks q and k against each other and the options against both.
template <class Q, class K>
attention_plan plan_attention(const strided_view<Q>& q, const strided_view<K>& k, const attention_options& options)
{
    require_rank("q", q, q.rank());
    require_rank("k", k, q.rank());
    attention_plan plan;
    plan.options = &options;
    for (std::size_t axis = 0; axis + 3 < q.rank(); ++axis) {
        require_axis("k", k, axis, q.shape[axis], "that of q");
        plan.batch = checked_product(plan.batch, q.shape[axis], "the batch size");
    }
    plan.heads = q.rank() > 2 ? q.extent(-3) : 1;
    plan.key_heads = k.rank() > 2 ? k.extent(-3) : 1;
    plan.queries = q.extent(-2);
    plan.keys = k.extent(-2);
    plan.head_size = q.extent(-1);
    require_extent("the head size of k", k.extent(-1), plan.head_size, "that of q");
    if (plan.head_size == 0) {
        reject("the head size of q", 0, "1 or more");
    }
    if (plan.key_heads == 0 ? plan.heads != 0 : plan.heads % plan.key_heads != 0) {
        reject("the number of heads of q", plan.heads, text("a multiple of ", plan.key_heads, ", that of k"));
    }
    plan.scale = options.scale.value_or(1.0 / std::sqrt(static_cast<double>(plan.head_size)));
    check_options(plan);
    shape_vector q_shape(q.shape);
    check_mask(plan, q_shape);
    return plan;
}

/// Checks v against k.
template <class K, class V>
void check_values(const strided_view<K>& k, const strided_view<V>& v)
{
    require_rank("v", v, k.rank());
    for (std::size_t axis = 0; axis + 1 < k.rank(); ++axis) {
        require_axis("v", v, axis, k.shape[axis], "that of k");
    }
}

} // namespace scaledot::inline SCALEDOT_BUILD::detail

#endif
