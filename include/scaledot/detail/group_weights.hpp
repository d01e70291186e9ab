// SPDX-License-Identifier: BSD-3-Clause
// The weights of a group of rows with one block of keys after another: relative to references that rise with the rows'
// maxima, added up, and their scores taken into statistics where they are asked for.
#ifndef SCALEDOT_DETAIL_GROUP_WEIGHTS_HPP
#define SCALEDOT_DETAIL_GROUP_WEIGHTS_HPP

#include <scaledot/detail/config.hpp>
#include <scaledot/detail/partial_rows.hpp>
#include <scaledot/detail/score_tile.hpp>
#include <scaledot/detail/scratch.hpp>
#include <scaledot/kernel/diagnostics.hpp>
#include <scaledot/kernel/largest.hpp>
#include <scaledot/kernel/partial.hpp>
#include <scaledot/kernel/score_sums.hpp>
#include <scaledot/kernel/scores.hpp>
#include <scaledot/kernel/shuffle.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>

namespace scaledot::inline SCALEDOT_BUILD::detail {

/// Of a run's rows over a chunk of keys. For each group and block: look_at the scores of all its rows, raise, and weigh
/// them. A row has its place in the run, and its slot in the group; rows of scores are padded_block apart. Weights are
/// elements of Step.
template <class Arch, class T, class Step>
class group_weights {
public:
    using sum = typename Step::sum;

    group_weights(bool with_statistics, scratch& memory)
        : with_statistics_(with_statistics), sums_(memory.take<T>(long_run_rows<Arch, T>, lanes)),
          observed_(with_statistics ? memory.take<kernel::score_sums<Arch, T>>(long_run_rows<Arch, T>, 1) : nullptr)
    {
    }

    /// Begins a chunk of keys for the first `rows` of the run.
    void start(std::size_t rows)
    {
        std::fill_n(sums_, rows * lanes, T(0));
        if (with_statistics_) {
            std::fill_n(observed_, rows, kernel::score_sums<Arch, T>{});
        }
    }

    /// Takes from the scores of some rows what has to be known before they become weights: their maxima, and
    /// `carefully`, which of them are excluded. There may be none: width is 0.
    void look_at(std::size_t slot, std::size_t rows, const T* scores, std::size_t width, bool carefully)
    {
        for (std::size_t r = 0; carefully && r < rows; ++r) {
            const T* const of_row = scores + r * kernel::padded_block;
            std::transform(of_row, of_row + width, excluded_[slot + r].begin(),
                           [](T score) { return kernel::is_negative_infinity_bits(score); });
        }
        if (with_statistics_) {
            for (std::size_t r = 0; r < rows; ++r) {
                const auto extremes = kernel::extremes_of<Arch>(scores + r * kernel::padded_block, width);
                maxima_[slot + r] = extremes.largest;
                minima_[slot + r] = extremes.smallest;
            }
            return;
        }
        T* largest = largest_.data() + slot * lanes;
        for (std::size_t r = 0; r < rows; ++r, largest += lanes) {
            kernel::largest_in_lanes<Arch, T>(scores + r * kernel::padded_block, width).store_aligned(largest);
        }
    }

    /// Raises the references of the group's rows, `count` from `row` on, where factor times a maximum is larger.
    void raise(std::size_t row, std::size_t count, T factor, const partial_rows<T>& chunk)
    {
        const std::size_t padded = (count + lanes - 1) / lanes * lanes;
        std::fill(maxima_.begin() + count, maxima_.begin() + padded, kernel::negative_infinity<T>);
        std::fill(largest_.begin() + count * lanes, largest_.begin() + padded * lanes, kernel::negative_infinity<T>);
        for (std::size_t slot = 0; !with_statistics_ && slot < count; slot += lanes) {
            kernel::largest_of_rows<Arch>(largest_.data() + slot * lanes).store_unaligned(maxima_.data() + slot);
        }
        T* const references = chunk.maxima() + row;
        if (with_statistics_) {
            std::copy_n(references, count, before_.begin());
        }
        kernel::raise_references<Arch>(references, maxima_.data(), factor, count, kept_.data());
    }

    /// Turns the scores of `rows` rows from this slot on, of the group that begins with `row`, into weights.
    void weigh(std::size_t row, std::size_t slot, std::size_t rows, T* scores, std::size_t width, T factor,
               const partial_rows<T>& chunk)
    {
        const T* const references = chunk.maxima() + row + slot;
        T* const sums = sums_ + (row + slot) * lanes;
        if (!with_statistics_ && std::none_of(references, references + rows, kernel::rounds_coarsely<T>)) {
            kernel::weigh_rows<Step>(scores, kernel::padded_block, rows, width, factor, references, kept_.data() + slot,
                                     sums);
            return;
        }
        for (std::size_t r = 0; r < rows; ++r) {
            T* const scores_of_row = scores + r * kernel::padded_block;
            const sum before = sum::load_aligned(sums + r * lanes) * sum(kept_[slot + r]);
            const auto after = with_statistics_ && width > 0
                                   ? observe(row + slot + r, slot + r, scores_of_row, width, factor, chunk, before)
                                   : weigh_row(scores_of_row, width, factor, references[r], before);
            after.store_aligned(sums + r * lanes);
        }
    }

    /// Ends a chunk: the sums of the rows' weights and their statistics.
    void finish(std::size_t rows, T factor, const partial_rows<T>& chunk) const
    {
        for (std::size_t r = 0; with_statistics_ && r < rows; ++r) {
            kernel::merge(*chunk.row(r).statistics, observed_[r].statistics(factor, chunk.maxima()[r]));
        }
        kernel::close_rows<Arch>(sums_, rows, chunk.maxima(), chunk.sums());
    }

    /// What is kept of weights relative to the references before they were raised, from this slot on.
    const T* kept(std::size_t slot) const { return kept_.data() + slot; }

    /// Of each score of a row that was looked at carefully.
    const bool* excluded(std::size_t slot) const { return excluded_[slot].data(); }

private:
    static constexpr std::size_t lanes = kernel::lanes<Arch, T>;
    static constexpr std::size_t padded_group = (group_rows<Arch, T> + lanes - 1) / lanes * lanes;
    static_assert(long_run_rows<Arch, T> % lanes == 0); // sums of rows are added up in whole vectors

    static sum weigh_row(T* scores, std::size_t width, T factor, T reference, const sum& before)
    {
        if (kernel::rounds_coarsely(reference)) {
            kernel::scale_row<Arch>(scores, width, factor);
            factor = 1;
        }
        return kernel::weigh_row<Step>(scores, width, factor, reference, before);
    }

    /// weigh_row that takes the scores into the statistics of the row as well.
    sum observe(std::size_t r, std::size_t slot, T* scores, std::size_t width, T factor, const partial_rows<T>& chunk,
                const sum& before)
    {
        using bound = kernel::summable_scores<T>;
        const T reference = chunk.maxima()[r];
        kernel::score_sums<Arch, T>& sums = observed_[r];
        const bool all_visible = !kernel::is_negative_infinity_bits(minima_[slot]);
        const T smallest = all_visible ? minima_[slot] : kernel::smallest_visible<Arch>(scores, width);
        const bool holds_reference = factor * maxima_[slot] == reference;
        const bool summable = !kernel::has_nan_bits(reference) && std::abs(reference) <= bound::highest &&
                              factor * smallest >= bound::lowest && factor <= bound::largest_factor &&
                              factor * bound::largest_factor >= T(1) && (holds_reference || sums.count > 0);
        if (!summable) {
            kernel::score_statistics& statistics = *chunk.row(r).statistics;
            kernel::merge(statistics, sums.statistics(factor, before_[slot]));
            sums = {};
            kernel::merge(statistics, kernel::statistics_of_scaled_block<Arch>(scores, width, factor));
            return weigh_row(scores, width, factor, reference, before);
        }
        sums.raise(reference - before_[slot], kept_[slot]);
        const kernel::block_extent<T> extent{maxima_[slot], smallest};
        const auto weigh = [&]<bool AllVisible, bool HoldsReference>() {
            return kernel::weigh_row_into<Step, AllVisible, HoldsReference>(sums, scores, width, factor, reference,
                                                                            extent, before);
        };
        if (holds_reference) {
            return all_visible ? weigh.template operator()<true, true>() : weigh.template operator()<false, true>();
        }
        return all_visible ? weigh.template operator()<true, false>() : weigh.template operator()<false, false>();
    }

    bool with_statistics_;
    T* sums_;
    kernel::score_sums<Arch, T>* observed_; ///< of the scores of the chunk so far
    alignas(kernel::alignment_of<Arch>) std::array<T, padded_group * lanes> largest_; ///< scores in each lane
    std::array<T, padded_group> maxima_;
    std::array<T, padded_group> minima_;
    std::array<T, padded_group> before_; ///< references before they were raised
    std::array<T, padded_group> kept_;
    std::array<std::array<bool, kernel::block_keys>, group_rows<Arch, T>> excluded_;
};

} // namespace scaledot::inline SCALEDOT_BUILD::detail

#endif
