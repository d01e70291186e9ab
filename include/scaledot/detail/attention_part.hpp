// SPDX-License-Identifier: BSD-3-Clause
// What one thread of a call of attention works with, and where it hands what it has finished.
#ifndef SCALEDOT_DETAIL_ATTENTION_PART_HPP
#define SCALEDOT_DETAIL_ATTENTION_PART_HPP

#include <scaledot/detail/attention_problem.hpp>
#include <scaledot/detail/attention_tile.hpp>
#include <scaledot/detail/config.hpp>
#include <scaledot/detail/function_ref.hpp>
#include <scaledot/detail/partial_rows.hpp>
#include <scaledot/detail/scratch.hpp>
#include <scaledot/kernel/partial.hpp>

#include <cstddef>

namespace scaledot::inline SCALEDOT_BUILD::detail {

/// What one thread of a call works with.
template <class Arch, class T, class Q, class K, class V>
struct attention_part {
    using worker = attention_worker<Arch, T, Q, K, V>;
    using key_element = typename worker::key_element;

    worker work;
    partial_rows<T> total;
    partial_rows<T> chunk;
    key_element* packed;

    /// `packed_elements` are those of a packed head, where the part has keys of its own.
    attention_part(const attention_plan& plan, const head_view<const Q>& q, const head_view<const K>& k,
                   const head_view<const V>& v, bool with_values, bool with_statistics, std::size_t packed_elements,
                   scratch& memory)
        : work(plan, q, k, v, with_values, with_statistics, memory),
          total(long_run_rows<Arch, T>, work.padded_value_size(), with_statistics, memory),
          chunk(long_run_rows<Arch, T>, work.padded_value_size(), with_statistics, memory),
          packed(packed_elements == 0 ? nullptr : memory.take<key_element>(packed_elements, 1))
    {
    }
};

/// Rows [first, last) of a run, finished: their places and partial results, all of which `value_scale` applies to.
template <class T>
struct finished_rows {
    std::size_t entry;
    row_places places;
    const partial_rows<T>& results;
    std::size_t first;
    std::size_t last;
    T value_scale;
};

/// Where finished rows go: told of each row once, from several threads at once.
template <class T>
using row_receiver = function_ref<void(const finished_rows<T>&)>;

} // namespace scaledot::inline SCALEDOT_BUILD::detail

#endif
