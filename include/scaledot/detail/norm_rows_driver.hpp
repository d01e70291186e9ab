// SPDX-License-Identifier: BSD-3-Clause
// Contiguous rows through kernel/norm_rows.hpp and kernel/double_rows.hpp: in groups, one of which is written while the
// next is summed, or, where rows are too short for that to pay, one after the other.
#ifndef SCALEDOT_DETAIL_NORM_ROWS_DRIVER_HPP
#define SCALEDOT_DETAIL_NORM_ROWS_DRIVER_HPP

#include <scaledot/bfloat16.hpp>
#include <scaledot/detail/check.hpp>
#include <scaledot/detail/config.hpp>
#include <scaledot/detail/norm_blocks.hpp>
#include <scaledot/detail/scratch.hpp>
#include <scaledot/detail/view.hpp>
#include <scaledot/kernel/bfloat16_rows.hpp>
#include <scaledot/kernel/double_rows.hpp>
#include <scaledot/kernel/norm.hpp>
#include <scaledot/kernel/norm_rows.hpp>
#include <scaledot/kernel/row_sums.hpp>
#include <scaledot/kernel/short_row_sums.hpp>
#include <scaledot/kernel/stream.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <type_traits>

namespace scaledot::inline SCALEDOT_BUILD::detail {

/// A parameter from a column on.
template <class P>
const P* parameter_at(const P* parameter, std::size_t column)
{
    if constexpr (std::is_same_v<P, kernel::absent>) {
        return nullptr;
    } else {
        return parameter + column;
    }
}

/// gamma and beta as row_output reads them: where they are.
template <class G, class B>
class norm_parameters {
public:
    norm_parameters(const G* gamma, const B* beta, std::size_t) : gamma_(gamma), beta_(beta) {}

    const G* gamma(std::size_t column) const { return parameter_at(gamma_, column); }
    const B* beta(std::size_t column) const { return parameter_at(beta_, column); }

private:
    const G* gamma_;
    const B* beta_;
};

/// The same as bfloat16_output reads them: in memory of their own, in another order.
template <class Arch, class G, class B>
class bfloat16_norm_parameters {
    static constexpr std::size_t step = kernel::bfloat16_pairs<Arch>::size;
    static constexpr std::size_t parameters = !std::is_same_v<G, kernel::absent> + !std::is_same_v<B, kernel::absent>;

public:
    template <class P>
    using ordered = std::conditional_t<std::is_same_v<P, kernel::absent>, kernel::absent, float>;

    bfloat16_norm_parameters(const G* gamma, const B* beta, std::size_t count)
        : room_((count + step - 1) / step * step),
          memory_(checked_product(room_, parameters * sizeof(float), "scratch memory")),
          gamma_(in_order(gamma, 0, count)), beta_(in_order(beta, parameters - 1, count))
    {
    }

    /// `column`: a multiple of a step.
    const ordered<G>* gamma(std::size_t column) const { return parameter_at(gamma_, column); }
    const ordered<B>* beta(std::size_t column) const { return parameter_at(beta_, column); }

private:
    template <class P>
    const ordered<P>* in_order(const P* parameter, std::size_t place, std::size_t count) const
    {
        if constexpr (std::is_same_v<P, kernel::absent>) {
            return nullptr;
        } else {
            float* const target = reinterpret_cast<float*>(memory_.data()) + place * room_;
            kernel::order_as_pairs<Arch>(target, parameter, count);
            return target;
        }
    }

    std::size_t room_;
    scratch_lease memory_;
    const ordered<G>* gamma_;
    const ordered<B>* beta_;
};

/// One array of rows to normalise with arithmetic of T: where row i is in x and out, and the parameters.
template <class Arch, norm_kind Kind, class T, class O, class S, class G, class B>
class row_normalizer {
public:
    static constexpr bool centred = Kind == norm_kind::centred;
    static constexpr bool pairs = std::is_same_v<T, double>;
    static constexpr bool all_bfloat16 =
        std::is_same_v<S, bfloat16> && std::is_same_v<O, bfloat16> && std::is_same_v<T, float>;
    /// Rows of a range that one thread takes, or more: the first group of a range is summed while none is written.
    static constexpr std::size_t shortest_range = 4 * kernel::lanes<Arch, double>;

    row_normalizer(const strided_view<O>& out, const strided_view<const S>& x, const G* gamma, const B* beta,
                   const norm_segments& segments, std::size_t inner, double epsilon, const norm_report& report)
        : target(out, inner), source(x, inner), x_(x), gamma_(gamma), beta_(beta), segments_(segments),
          length_(segments.length()), parameters_(gamma, beta, length_), epsilon_(epsilon), report_(report),
          reported_(report)
    {
        if constexpr (!centred && !pairs && !std::is_same_v<G, kernel::absent>) {
            magnitudes_ = kernel::magnitudes_of<Arch>(gamma, length_);
        }
    }

    void run(std::size_t begin, std::size_t end, bool large) const
    {
        using enum kernel::store_kind;
        if constexpr (!all_bfloat16) {
            if (large) {
                run_to<streamed>(begin, end);
                kernel::fence_stream();
                return;
            }
        }
        run_to<cached>(begin, end);
    }

private:
    static constexpr std::size_t group_size = kernel::lanes<Arch, double>;
    /// Rows of double that were not double before are not summed a row a lane.
    static constexpr bool widened = pairs && !std::is_same_v<S, double>;
    static constexpr std::size_t short_group_size = kernel::lanes<Arch, T>;
    static constexpr std::size_t longest_short = widened ? 4 * kernel::lanes<Arch, T> : 64;

    using sums_of_row = std::conditional_t<pairs, kernel::double_sums<Arch>, kernel::row_sums<Arch>>;
    using group_of_sums = std::array<sums_of_row, group_size>;
    using normalizations =
        std::conditional_t<pairs, kernel::double_normalizations<Arch>, kernel::row_normalizations<Arch>>;

    template <kernel::sum_kind Sum>
    using summation =
        std::conditional_t<pairs, kernel::double_summation<Arch, centred, S>, kernel::row_summation<Arch, Sum, S>>;
    static constexpr kernel::sum_kind usual = centred ? kernel::sum_kind::elements : kernel::sum_kind::squares;

    static constexpr std::size_t vectors_a_step = summation<usual>::step_size / kernel::lanes<Arch, T>;

    template <class P>
    using ordered = typename bfloat16_norm_parameters<Arch, G, B>::template ordered<P>;
    template <kernel::store_kind Store>
    using output = std::conditional_t<all_bfloat16, kernel::bfloat16_output<Arch, centred, ordered<G>, ordered<B>>,
                                      kernel::row_output<Arch, centred, Store, O, S, G, B, T, vectors_a_step>>;
    using parameters = std::conditional_t<all_bfloat16, bfloat16_norm_parameters<Arch, G, B>, norm_parameters<G, B>>;

    template <kernel::store_kind Store>
    void run_to(std::size_t begin, std::size_t end) const
    {
        length_ <= longest_short ? run_short<Store>(begin, end) : run_groups<Store>(begin, end);
    }

    kernel::join_kind join() const { return length_ <= 2048 ? kernel::join_kind::plain : kernel::join_kind::paired; }

    /// Calls body with a summation of the first `count` elements of a row, of the kind that the row asks for.
    template <class Body>
    [[gnu::always_inline]] static void with_summation(const S* x, std::size_t count, Body&& body)
    {
        if constexpr (centred && !pairs) {
            if (kernel::begins_far_from_0(x)) {
                summation<kernel::sum_kind::differences> sum(x, count);
                body(sum);
                return;
            }
        }
        summation<usual> sum(x, count);
        body(sum);
    }

    template <class Summation>
    [[gnu::always_inline]] void finish(Summation& sum, sums_of_row& result) const
    {
        if constexpr (pairs) {
            result = sum.finish();
        } else {
            sum.finish(join(), result);
        }
    }

    [[gnu::always_inline]] normalizations normalizations_of(const group_of_sums& sums, kernel::join_kind kind) const
    {
        using enum kernel::join_kind;
        if constexpr (pairs) {
            return kernel::normalizations_of<Arch, centred>(sums, length_, epsilon_);
        } else {
            return kind == plain
                       ? kernel::normalizations_of<Arch, S, centred, plain>(sums, length_, epsilon_, magnitudes_)
                       : kernel::normalizations_of<Arch, S, centred, paired>(sums, length_, epsilon_, magnitudes_);
        }
    }

    /// Rows in groups: one is written while the next is summed.
    template <kernel::store_kind Store>
    void run_groups(std::size_t begin, std::size_t end) const
    {
        constexpr std::size_t bytes_together = 12288; // a first-level cache holds them, their results and parameters
        // Long rows share the parameters' way from the second-level cache among four, if they fit it.
        const std::size_t fewest = length_ * sizeof(S) <= 65536 ? 4 : 1;
        const std::size_t together =
            std::clamp<std::size_t>(bytes_together / (length_ * sizeof(S)), std::min(fewest, group_size), group_size);
        group_of_sums sums;
        for (std::size_t r = 0; r < std::min(together, end - begin); ++r) {
            with_summation(source(begin + r), length_, [&](auto& sum) { finish(sum, sums[r]); });
        }
        for (std::size_t row = begin; row < end; row += together) {
            write<Store>(row, std::min(together, end - row), normalizations_of(sums, join()), sums, end);
        }
    }

    template <kernel::store_kind Store>
    void run_short(std::size_t begin, std::size_t end) const
    {
        for (std::size_t first = begin; first < end;) {
            if constexpr (!widened) {
                if (end - first >= short_group_size && source.even()) {
                    for (const normalizations& n : of_short_rows(source(first), source(first + 1) - source(first))) {
                        write_short<Store>(first, group_size, n);
                        first += group_size;
                    }
                    continue;
                }
            }
            const std::size_t count = std::min(group_size, end - first);
            write_short<Store>(first, count, of_few_short_rows(first, count));
            first += count;
        }
    }

    [[gnu::always_inline]] auto of_short_rows(const S* rows, std::ptrdiff_t stride) const
    {
        if constexpr (pairs) {
            return kernel::normalizations_of_short_rows<Arch, centred>(rows, stride, length_, epsilon_);
        } else {
            return kernel::normalizations_of_short_rows<Arch, centred>(rows, stride, length_, epsilon_, magnitudes_);
        }
    }

    template <kernel::store_kind Store>
    void write_short(std::size_t first, std::size_t count, const normalizations& n) const
    {
        for (std::size_t r = 0; r < count; ++r) {
            const std::size_t row = first + r;
            if (n.verdict[r] >= 0) {
                if (reported_) {
                    report(row, n, r);
                }
                output<Store>(target(row), source(row), parameters_.gamma(0), parameters_.beta(0), length_, n, r)
                    .finish();
            } else {
                carefully(row);
            }
        }
    }

    [[gnu::always_inline]] normalizations of_few_short_rows(std::size_t first, std::size_t count) const
    {
        if constexpr (pairs && !widened) {
            std::array<double, group_size * longest_short> rows;
            for (std::size_t r = 0; r < group_size; ++r) {
                std::copy_n(source(first + std::min(r, count - 1)), length_, rows.data() + r * length_);
            }
            return of_short_rows(rows.data(), static_cast<std::ptrdiff_t>(length_))[0];
        } else {
            group_of_sums sums;
            for (std::size_t r = 0; r < count; ++r) {
                if constexpr (pairs) {
                    sums[r] = summation<usual>(source(first + r), length_).finish();
                } else {
                    sums[r] = kernel::sums_of_short_row<Arch, centred>(source(first + r), length_);
                }
            }
            return normalizations_of(sums, kernel::join_kind::plain);
        }
    }

    /// Writes a group of rows, in panels of columns whose parameters stay in the first-level cache, and sums the next.
    template <kernel::store_kind Store>
    void write(std::size_t first, std::size_t count, const normalizations& n, group_of_sums& sums,
               std::size_t end) const
    {
        constexpr std::size_t panel = 4096 / sizeof(T);
        static_assert(panel % output<Store>::step_size == 0);
        const auto sum_beside = [&](std::size_t r, const auto& write_parts) __attribute__((always_inline))
        {
            const std::size_t next = first + count + r;
            const auto write_and_finish = [&](auto& sum) __attribute__((always_inline))
            {
                write_parts(sum);
                finish(sum, sums[r]);
            };
            with_summation(source(std::min(next, end - 1)), next < end ? length_ : 0, write_and_finish);
        };
        if (length_ <= panel) {
            for (std::size_t r = 0; r < count; ++r) {
                const auto write_row = [&](auto& sum) __attribute__((always_inline))
                {
                    write_part<Store>(first + r, 0, length_, n, r, sum);
                };
                sum_beside(r, write_row);
            }
            return;
        }
        std::size_t column = 0;
        std::size_t row = 0;
        const auto write_parts = [&](auto& sum) __attribute__((always_inline))
        {
            for (std::size_t part = 0; part < length_; part += panel) {
                write_part<Store>(first + row, column, std::min(panel, length_ - column), n, row, sum);
                if (++row == count) {
                    row = 0;
                    column += panel;
                }
            }
        };
        for (std::size_t r = 0; r < count; ++r) {
            sum_beside(r, write_parts);
        }
    }

    /// Writes some columns of a row, the r-th of its group, and sums another row.
    template <kernel::store_kind Store, class Summation>
    [[gnu::always_inline]] void write_part(std::size_t row, std::size_t column, std::size_t columns,
                                           const normalizations& n, std::size_t r, Summation& sum) const
    {
        if (n.verdict[r] >= 0) {
            if (reported_ && column == 0) {
                report(row, n, r);
            }
            kernel::write_and_sum(output<Store>(target(row) + column, source(row) + column, parameters_.gamma(column),
                                                parameters_.beta(column), columns, n, r),
                                  sum);
        } else if (column == 0) {
            carefully(row);
        }
    }

    /// Reports a row that has not been written yet: it may be written over.
    [[gnu::noinline]] void report(std::size_t row, const normalizations& n, std::size_t r) const
    {
        kernel::normalization result;
        if constexpr (!pairs) {
            result.unscaled_mean = n.exact_mean[r];
            result.unscaled_inverse = n.exact_inverse[r];
        } else if (n.rounded[r] < 0) {
            result = careful(row);
        } else {
            result.unscaled_mean = n.mean[r];
            result.unscaled_inverse = n.inverse[r];
        }
        report_(row, result);
    }

    kernel::normalization careful(std::size_t row) const
    {
        const block_statistics<Arch, Kind, pairs, S> statistics(x_, segments_, epsilon_, reported_);
        return statistics({source(row)}, 1)[0];
    }

    [[gnu::noinline]] void carefully(std::size_t row) const
    {
        const kernel::normalization n = careful(row);
        if (reported_) {
            report_(row, n);
        }
        kernel::normalize<Arch, pairs>(target(row), source(row), gamma_, beta_, length_, n);
    }

    block_places<O> target;
    block_places<const S> source;
    const strided_view<const S>& x_;
    const G* gamma_;
    const B* beta_;
    const norm_segments& segments_;
    std::size_t length_;
    parameters parameters_;
    double epsilon_;
    const norm_report& report_;
    bool reported_;
    kernel::magnitude_range magnitudes_; ///< of gamma, where rows are multiplied by inverse * gamma
};

} // namespace scaledot::inline SCALEDOT_BUILD::detail

#endif
