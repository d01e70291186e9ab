// SPDX-License-Identifier: BSD-3-Clause
// Contiguous rows through kernel/norm_rows.hpp: in groups, one of which is written while the next is summed.
#ifndef SCALEDOT_DETAIL_NORM_ROWS_DRIVER_HPP
#define SCALEDOT_DETAIL_NORM_ROWS_DRIVER_HPP

#include <scaledot/detail/config.hpp>
#include <scaledot/detail/norm_blocks.hpp>
#include <scaledot/detail/view.hpp>
#include <scaledot/kernel/norm.hpp>
#include <scaledot/kernel/norm_rows.hpp>
#include <scaledot/kernel/row_sums.hpp>
#include <scaledot/kernel/stream.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <type_traits>

namespace scaledot::inline SCALEDOT_BUILD::detail {

/// One array of rows to normalise: where row i is in x and out, and the parameters.
template <class Arch, norm_kind Kind, class O, class S, class G, class B, class Report>
class row_normalizer {
public:
    static constexpr bool centred = Kind == norm_kind::centred;

    row_normalizer(const strided_view<O>& out, const strided_view<const S>& x, const G* gamma, const B* beta,
                   const norm_segments& segments, std::size_t inner, double epsilon, const Report& report)
        : target(out, inner), source(x, inner), x_(x), gamma_(gamma), beta_(beta), segments_(segments),
          epsilon_(epsilon), report_(report)
    {
    }

    void run(std::size_t begin, std::size_t end, bool large) const
    {
        using enum kernel::store_kind;
        using enum kernel::join_kind;
        const bool short_rows = segments_.length() <= 2048;
        if (large) {
            short_rows ? run_as<streamed, plain>(begin, end) : run_as<streamed, paired>(begin, end);
        } else {
            short_rows ? run_as<cached, plain>(begin, end) : run_as<cached, paired>(begin, end);
        }
    }

private:
    using group_of_sums = std::array<kernel::row_sums<Arch>, kernel::lanes<Arch, double>>;

    template <kernel::store_kind Store>
    using summation = kernel::row_summation<Arch, centred, Store == kernel::store_kind::streamed, S>;

    /// Rows in groups: one is written while the next is summed.
    template <kernel::store_kind Store, kernel::join_kind Join>
    void run_as(std::size_t begin, std::size_t end) const
    {
        constexpr std::size_t bytes_together = 24576; // less than a first-level cache
        const std::size_t length = segments_.length();
        // Long rows share the parameters' way from the second-level cache among four, if they fit it.
        const std::size_t fewest = length * sizeof(S) <= 65536 ? 4 : 1;
        const std::size_t together =
            std::clamp<std::size_t>(bytes_together / (length * sizeof(S)), fewest, kernel::lanes<Arch, double>);
        group_of_sums sums;
        for (std::size_t r = 0; r < std::min(together, end - begin); ++r) {
            sums[r] = summation<Store>(source(begin + r), length).template finish<Join>();
        }
        for (std::size_t row = begin; row < end; row += together) {
            const auto n = kernel::normalizations_of<Arch, centred, Join>(sums, length, epsilon_);
            write<Store, Join>(row, std::min(together, end - row), n, sums, end);
        }
        if constexpr (Store == kernel::store_kind::streamed) {
            kernel::fence_stream();
        }
    }

    /// Writes a group of rows, in panels of columns whose parameters stay in the first-level cache, and sums the next.
    template <kernel::store_kind Store, kernel::join_kind Join>
    void write(std::size_t first, std::size_t count, const kernel::row_normalizations<Arch>& n, group_of_sums& sums,
               std::size_t end) const
    {
        constexpr std::size_t panel = 1024;
        using output = kernel::row_output<Arch, centred, Store, O, S, G, B>;
        const std::size_t length = segments_.length();
        std::size_t column = 0;
        std::size_t row = 0;
        for (std::size_t r = 0; r < count; ++r) {
            const std::size_t next = first + count + r;
            summation<Store> sum(source(std::min(next, end - 1)), next < end ? length : 0);
            for (std::size_t part = 0; part < length; part += panel) {
                if (n.verdict[row] >= 0) {
                    kernel::write_and_sum(output(target(first + row) + column, source(first + row) + column,
                                                 gamma_at(column), beta_at(column), std::min(panel, length - column), n,
                                                 row),
                                          sum);
                } else if (column == 0) {
                    carefully(first + row);
                }
                if (column == 0 && n.verdict[row] >= 0) {
                    report_(first + row, exact(n, row));
                }
                if (++row == count) {
                    row = 0;
                    column += panel;
                }
            }
            sums[r] = sum.template finish<Join>();
        }
    }

    const G* gamma_at(std::size_t column) const
    {
        if constexpr (std::is_same_v<G, kernel::absent>) {
            return nullptr;
        } else {
            return gamma_ + column;
        }
    }

    const B* beta_at(std::size_t column) const
    {
        if constexpr (std::is_same_v<B, kernel::absent>) {
            return nullptr;
        } else {
            return beta_ + column;
        }
    }

    static kernel::normalization exact(const kernel::row_normalizations<Arch>& n, std::size_t r)
    {
        kernel::normalization result;
        result.unscaled_mean = n.exact_mean[r];
        result.unscaled_inverse = n.exact_inverse[r];
        return result;
    }

    void carefully(std::size_t row) const
    {
        const block_statistics<Arch, Kind, false, false, S> statistics(x_, segments_, epsilon_);
        const kernel::normalization n = statistics({source(row)}, 1)[0];
        report_(row, n);
        kernel::normalize<Arch, false>(target(row), source(row), gamma_, beta_, segments_.length(), n);
    }

    block_places<O> target;
    block_places<const S> source;
    const strided_view<const S>& x_;
    const G* gamma_;
    const B* beta_;
    const norm_segments& segments_;
    double epsilon_;
    const Report& report_;
};

} // namespace scaledot::inline SCALEDOT_BUILD::detail

#endif
