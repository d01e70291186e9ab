// SPDX-License-Identifier: BSD-3-Clause
// Chooses how an array of blocks is normalised, and hands ranges of blocks to threads.
#ifndef SCALEDOT_DETAIL_NORM_DRIVER_HPP
#define SCALEDOT_DETAIL_NORM_DRIVER_HPP

#include <scaledot/detail/config.hpp>
#include <scaledot/detail/norm_blocks.hpp>
#include <scaledot/detail/norm_rows_driver.hpp>
#include <scaledot/detail/shared_work.hpp>
#include <scaledot/detail/view.hpp>
#include <scaledot/executor.hpp>
#include <scaledot/kernel/norm.hpp>
#include <scaledot/kernel/stream.hpp>

#include <algorithm>
#include <cstddef>
#include <type_traits>

namespace scaledot::inline SCALEDOT_BUILD::detail {

/// Normalises the blocks of x along its axes from `axis` on into out, and tells report.
/// Arithmetic is that of T: double in pairs when T is double.
template <class Arch, norm_kind Kind, class T, class O, class S, class G, class B>
void drive_norm(const strided_view<O>& out, const strided_view<const S>& x, const G& gamma, const B& beta,
                std::size_t axis, double epsilon, const norm_report& report)
{
    constexpr bool pairs = std::is_same_v<T, double>;
    constexpr double operations_per_element = 10;
    constexpr double operations_per_row = 256;
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
    const std::size_t parts = part_count(
        blocks, static_cast<double>(count) * static_cast<double>(length) * operations_per_element + operations_per_row);
    const bool large = blocks * count * length * (sizeof(S) + sizeof(O)) >
                       std::max(kernel::cached_bytes, parts * kernel::cached_bytes_of_thread);
    if constexpr (kernel::fused<kernel::batch<Arch, T>>) {
        if (count == 1 && length > 0) {
            const auto* first_gamma = segment_of(gamma, segments, 0);
            const auto* first_beta = segment_of(beta, segments, 0);
            const row_normalizer<Arch, Kind, T, O, S, std::remove_cvref_t<decltype(*first_gamma)>,
                                 std::remove_cvref_t<decltype(*first_beta)>>
                rows(out, x, first_gamma, first_beta, segments, inner, epsilon, report);
            run_ranges(blocks, parts, rows.shortest_range,
                       [&](std::size_t, std::size_t begin, std::size_t end) { rows.run(begin, end, large); });
            return;
        }
    }
    const block_statistics<Arch, Kind, pairs, S> statistics(x, segments, epsilon, static_cast<bool>(report));
    const block_places<const S> source(x, inner);
    const block_places<O> target(out, inner);
    constexpr std::size_t bytes_together = 24576; // less than a first-level cache
    const std::size_t block_bytes = std::max<std::size_t>(count * length * sizeof(S), 1);
    const std::size_t together = std::clamp<std::size_t>(bytes_together / block_bytes, 1, statistics.largest_group);
    run_ranges(blocks, parts, 1, [&](std::size_t, std::size_t begin, std::size_t end) {
        for (std::size_t block = begin; block < end; block += together) {
            const std::size_t group = std::min(together, end - block);
            typename decltype(statistics)::blocks sources{};
            for (std::size_t b = 0; b < group; ++b) {
                sources[b] = source(block + b);
            }
            const auto n = statistics(sources, group);
            for (std::size_t b = 0; b < group; ++b) {
                if (report) {
                    report(block + b, n[b]);
                }
                for (std::size_t i = 0; i < count; ++i) {
                    const auto normalize = [&](auto store) {
                        kernel::normalize<Arch, pairs, store()>(
                            target(block + b) + segments.offset(out, i), sources[b] + segments.offset(x, i),
                            segment_of(gamma, segments, i), segment_of(beta, segments, i), length, n[b]);
                    };
                    if (large) {
                        normalize(std::integral_constant<kernel::store_kind, kernel::store_kind::streamed>{});
                    } else {
                        normalize(std::integral_constant<kernel::store_kind, kernel::store_kind::cached>{});
                    }
                }
            }
        }
        if (large) {
            kernel::fence_stream();
        }
    });
}

} // namespace scaledot::inline SCALEDOT_BUILD::detail

#endif
