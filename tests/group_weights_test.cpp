// SPDX-License-Identifier: BSD-3-Clause
#include <scaledot/detail/group_weights.hpp>
#include <scaledot/kernel/step.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <random>
#include <vector>

namespace sd = scaledot;
namespace detail = scaledot::detail;
namespace kernel = scaledot::kernel;
using arch = sd::native_architecture;

namespace {

template <class T>
using weights_of = detail::group_weights<arch, T, kernel::number_step<arch, T, T>>;

/// The weights of a run and its results so far, in memory of their own.
template <class T>
struct weighed_run {
    explicit weighed_run(bool with_statistics)
        : lease(bytes(with_statistics)), memory(lease.data()), weights(with_statistics, memory),
          chunk(detail::run_rows<arch, T>, 0, with_statistics, memory)
    {
        chunk.clear_sums(detail::run_rows<arch, T>);
        weights.start(detail::run_rows<arch, T>);
    }

    static std::size_t bytes(bool with_statistics)
    {
        detail::scratch counting;
        const weights_of<T> w(with_statistics, counting);
        const detail::partial_rows<T> rows(detail::run_rows<arch, T>, 0, with_statistics, counting);
        return counting.bytes();
    }

    detail::scratch_lease lease;
    detail::scratch memory;
    weights_of<T> weights;
    detail::partial_rows<T> chunk;
};

/// Rows of scores are as far apart.
constexpr std::size_t stride = kernel::padded_block;

/// Blocks of scores of a group, row after row. Every fifth score of odd rows is excluded, and so is all of the first
/// block of row 2.
template <class T>
std::vector<std::vector<T>> blocks_of_scores(std::size_t blocks, std::size_t rows, std::size_t width)
{
    std::mt19937 engine(1);
    std::normal_distribution<T> normal(0, 4);
    std::vector<std::vector<T>> all(blocks, std::vector<T>(rows * stride));
    for (std::size_t block = 0; block < blocks; ++block) {
        for (std::size_t row = 0; row < rows; ++row) {
            for (std::size_t i = 0; i < width; ++i) {
                const bool excluded = (row % 2 == 1 && (row * width + i) % 5 == 0) || (row == 2 && block == 0);
                all[block][row * stride + i] =
                    excluded ? kernel::negative_infinity<T> : normal(engine) + static_cast<T>(block);
            }
        }
    }
    return all;
}

} // namespace

TEST_CASE_TEMPLATE(
    "group_weights: weights relative to the largest score so far, their sums, what is kept of earlier ones", T, float,
    double)
{
    const T factor = T(0.75);
    const std::size_t rows = detail::group_rows<arch, T>;
    const std::size_t first = rows; // the second group of its run
    const std::size_t width = 2 * kernel::lanes<arch, T>;
    const double epsilon = 8 * static_cast<double>(std::numeric_limits<T>::epsilon());
    for (const bool with_statistics : {false, true}) {
        weighed_run<T> run(with_statistics);
        std::vector<double> maximum(rows, -std::numeric_limits<double>::max());
        std::vector<std::vector<double>> seen(rows);
        for (auto& scores : blocks_of_scores<T>(3, rows, width)) {
            const auto original = scores;
            run.weights.look_at(0, rows, scores.data(), width, true);
            run.weights.raise(first, rows, factor, run.chunk);
            run.weights.weigh(first, 0, 5, scores.data(), width, factor, run.chunk);
            run.weights.weigh(first, 5, rows - 5, scores.data() + 5 * stride, width, factor, run.chunk);
            for (std::size_t slot = 0; slot < rows; ++slot) {
                T* const row = scores.data() + slot * stride;
                const double before = maximum[slot];
                for (std::size_t i = 0; i < width; ++i) {
                    const T score = original[slot * stride + i];
                    const bool excluded = kernel::is_negative_infinity_bits(score);
                    CHECK(run.weights.excluded(slot)[i] == excluded);
                    if (!excluded) {
                        seen[slot].push_back(static_cast<double>(factor) * static_cast<double>(score));
                        maximum[slot] = std::max(maximum[slot], seen[slot].back());
                    }
                }
                if (seen[slot].empty()) {
                    CHECK(std::all_of(row, row + width, [](T weight) { return weight == 0; }));
                    continue;
                }
                CHECK(static_cast<double>(run.chunk.maxima()[first + slot]) == doctest::Approx(maximum[slot]));
                CHECK(static_cast<double>(*run.weights.kept(slot)) ==
                      doctest::Approx(std::exp(before - maximum[slot])).epsilon(10 * epsilon));
                for (std::size_t i = 0; i < width; ++i) {
                    const T score = original[slot * stride + i];
                    const double expected =
                        kernel::is_negative_infinity_bits(score)
                            ? 0
                            : std::exp(static_cast<double>(factor) * static_cast<double>(score) - maximum[slot]);
                    CHECK(static_cast<double>(row[i]) == doctest::Approx(expected).epsilon(10 * epsilon));
                }
            }
        }
        run.weights.finish(detail::run_rows<arch, T>, factor, run.chunk);
        for (std::size_t slot = 0; slot < rows; ++slot) {
            double sum = 0;
            double mean = 0;
            for (const double score : seen[slot]) {
                sum += std::exp(score - maximum[slot]);
                mean += score / static_cast<double>(seen[slot].size());
            }
            CHECK(static_cast<double>(run.chunk.sums()[first + slot]) == doctest::Approx(sum).epsilon(10 * epsilon));
            if (with_statistics) {
                const kernel::score_statistics& found = *run.chunk.row(first + slot).statistics;
                CHECK(found.count == static_cast<double>(seen[slot].size()));
                CHECK(found.maximum == doctest::Approx(maximum[slot]));
                CHECK(found.mean == doctest::Approx(mean).epsilon(1e-4));
            }
        }
        CHECK(run.chunk.sums()[0] == 0);
    }
}

TEST_CASE_TEMPLATE("group_weights: references beyond the digits of scores leave equal scores equal weights", T, float,
                   double)
{
    weighed_run<T> run(false);
    const std::size_t width = kernel::lanes<arch, T>;
    const T large = T(3) / std::numeric_limits<T>::epsilon();
    std::vector<T> scores(2 * stride, large); // of two rows, the second's of usual size
    scores[1] = scores[stride] = T(0);
    std::fill_n(scores.begin() + stride + 1, width - 1, T(-2000));
    run.weights.look_at(0, 2, scores.data(), width, false);
    run.weights.raise(0, 2, T(0.7), run.chunk);
    run.weights.weigh(0, 0, 2, scores.data(), width, T(0.7), run.chunk);
    for (std::size_t i = 0; i < width; ++i) {
        CHECK(scores[i] == (i == 1 ? T(0) : T(1)));
        CHECK(scores[stride + i] == (i == 0 ? T(1) : T(0)));
    }
    run.weights.finish(2, T(0.7), run.chunk);
    CHECK(run.chunk.sums()[0] == static_cast<T>(width - 1));
    CHECK(run.chunk.sums()[1] == T(1));
}

TEST_CASE_TEMPLATE("group_weights: rows that see nothing of a block keep what they had", T, float, double)
{
    for (const bool with_statistics : {false, true}) {
        weighed_run<T> run(with_statistics);
        const std::size_t width = kernel::lanes<arch, T>;
        const std::size_t rows = 3;
        for (const std::size_t seen : {width, std::size_t{0}}) {
            std::vector<T> scores(rows * stride, T(2));
            run.weights.look_at(0, rows, scores.data(), seen, false);
            run.weights.raise(0, rows, T(1), run.chunk);
            run.weights.weigh(0, 0, rows, scores.data(), seen, T(1), run.chunk);
        }
        run.weights.finish(rows, T(1), run.chunk);
        for (std::size_t row = 0; row < rows; ++row) {
            CHECK(*run.weights.kept(row) == T(1));
            CHECK(run.chunk.maxima()[row] == T(2));
            CHECK(run.chunk.sums()[row] == static_cast<T>(width));
        }
    }
}
