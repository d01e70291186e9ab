// SPDX-License-Identifier: BSD-3-Clause
// Puts rows together that the same kernel takes, as many as it takes at a time.
#ifndef SCALEDOT_DETAIL_SOFTMAX_GROUPS_HPP
#define SCALEDOT_DETAIL_SOFTMAX_GROUPS_HPP

#include <scaledot/detail/config.hpp>
#include <scaledot/kernel/narrow_weights.hpp>
#include <scaledot/kernel/softmax.hpp>
#include <scaledot/kernel/softmax_limits.hpp>
#include <scaledot/kernel/softmax_narrow.hpp>
#include <scaledot/kernel/softmax_results.hpp>
#include <scaledot/kernel/softmax_rows.hpp>

#include <algorithm>
#include <cstddef>

namespace scaledot::inline SCALEDOT_BUILD::detail {

using kernel::softmax_output;

/// Rows of `length` logits, narrow ones apart from others. Rows wait until `size` of their kind are there: no bit of
/// theirs depends on which these are.
template <class Arch, softmax_output Output, class S, class R, class T, class Temperature>
class softmax_groups {
    using rows_type = kernel::softmax_rows<S, R>;
    using narrow = kernel::narrow_rows<Arch, T>;
    using any_rows = kernel::softmax_along<Arch, T, S, R>;
    static constexpr bool may_be_narrow = narrow::exist;

public:
    /// `scratch`: memory for the weights of a group, or nullptr, where they wait in the results.
    softmax_groups(std::size_t length, std::size_t size, const Temperature& temperature, T* scratch, bool streaming)
        : temperature_(temperature), narrow_(temperature.scale), narrow_rows_(length), others_(length), size_(size),
          scratch_(scratch), streaming_(streaming)
    {
    }

    /// Takes `count` rows, `input_stride` and `output_stride` apart, and writes some of the results.
    [[gnu::noinline]] void take(const S* x, std::ptrdiff_t input_stride, R* y, std::ptrdiff_t output_stride,
                                std::size_t count)
    {
        const line rows{x, input_stride, y, output_stride, count};
        for (std::size_t first = 0; first < count; first += size_) {
            const std::size_t end = std::min(first + size_, count);
            if constexpr (may_be_narrow) {
                if (are_others(rows, first, end)) {
                    continue;
                }
            }
            sort(rows, first, end);
        }
    }

    /// Writes the results of the rows that wait.
    void finish()
    {
        run_narrow();
        run_others();
    }

private:
    struct line {
        const S* x;
        std::ptrdiff_t input_stride;
        R* y;
        std::ptrdiff_t output_stride;
        std::size_t count;

        const S* logits(std::size_t row) const { return x + static_cast<std::ptrdiff_t>(row) * input_stride; }
        R* result(std::size_t row) const { return y + static_cast<std::ptrdiff_t>(row) * output_stride; }

        void fetch_from(std::size_t row, rows_type& group) const
        {
            if (row < count) {
                group.fetch(logits(row), input_stride, count - row);
            }
        }
    };

    /// Whether no row of a full group is narrow, after a group without a narrow row, as far as the largest logits tell,
    /// which most often is enough: others need them anyway. Then they are written.
    bool are_others(const line& rows, std::size_t first, std::size_t end)
    {
        if (!expect_others_ || end - first < kernel::lanes<Arch, T>) {
            return false;
        }
        rows_type all(others_.length());
        for (std::size_t row = first; row < end; ++row) {
            all.add(rows.logits(row), rows.result(row));
        }
        rows.fetch_from(end, all);
        any_rows group(all, temperature_.scale);
        if (!group.all_beyond(narrow_.limit())) {
            return false;
        }
        run(group);
        return true;
    }

    void sort(const line& rows, std::size_t first, std::size_t end)
    {
        expect_others_ = may_be_narrow;
        for (std::size_t row = first; row < end; ++row) {
            const S* const x = rows.logits(row);
            if constexpr (may_be_narrow) {
                if (narrow_.contain(x, narrow_rows_.length())) {
                    expect_others_ = false;
                    narrow_rows_.add(x, rows.result(row));
                    if (narrow_rows_.count() == size_) {
                        rows.fetch_from(row + 1, narrow_rows_);
                        run_narrow();
                    }
                    continue;
                }
            }
            others_.add(x, rows.result(row));
            if (others_.count() == size_) {
                rows.fetch_from(row + 1, others_);
                run_others();
            }
        }
    }

    void run_narrow()
    {
        if constexpr (may_be_narrow) {
            if (narrow_rows_.count() == 0) {
                return;
            }
            const kernel::softmax_narrow<Arch, T, S, R> kernel(temperature_.scale);
            if constexpr (Output == softmax_output::probabilities) {
                kernel.probabilities(narrow_rows_, scratch_, streaming_);
            } else if constexpr (Output == softmax_output::logarithms) {
                kernel.logarithms(narrow_rows_, temperature_, streaming_);
            } else {
                kernel.logsumexp(narrow_rows_, temperature_.value);
            }
            narrow_rows_.clear();
        }
    }

    void run_others()
    {
        if (others_.count() != 0) {
            any_rows group(others_, temperature_.scale);
            run(group);
            others_.clear();
        }
    }

    void run(any_rows& group) const
    {
        if constexpr (Output == softmax_output::probabilities) {
            group.probabilities(scratch_, streaming_);
        } else if constexpr (Output == softmax_output::logarithms) {
            group.logarithms(temperature_, streaming_);
        } else {
            group.logsumexp(temperature_.value);
        }
    }

    const Temperature& temperature_;
    narrow narrow_;
    rows_type narrow_rows_;
    rows_type others_;
    std::size_t size_;
    T* scratch_;
    bool streaming_;
    bool expect_others_ = false;
};

} // namespace scaledot::inline SCALEDOT_BUILD::detail

#endif
