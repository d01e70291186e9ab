// SPDX-License-Identifier: BSD-3-Clause
#include <scaledot/kernel/partial.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <limits>
#include <random>
#include <vector>

using namespace scaledot;
using namespace scaledot::kernel;
using arch = native_architecture;

namespace {

/// A partial result with memory of its own, computed in long double from scores and one value vector per key.
template <class T>
struct part {
    static constexpr std::size_t size = 2 * lanes<arch, T>;
    std::vector<T> output = std::vector<T>(size, T(0));
    T maximum = negative_infinity<T>;
    T sum = 0;
    score_statistics statistics;

    partial_row<T> row() { return {output.data(), &maximum, &sum, &statistics}; }
};

template <class T>
part<T> part_of(const std::vector<double>& scores, const std::vector<std::vector<double>>& values)
{
    part<T> result;
    if (scores.empty()) {
        return result;
    }
    long double maximum = *std::max_element(scores.begin(), scores.end());
    long double sum = 0;
    std::vector<long double> output(part<T>::size, 0);
    for (std::size_t j = 0; j < scores.size(); ++j) {
        const long double weight = std::exp(scores[j] - maximum);
        sum += weight;
        for (std::size_t c = 0; c < part<T>::size; ++c) {
            output[c] += weight * values[j][c];
        }
    }
    result.maximum = static_cast<T>(maximum);
    result.sum = static_cast<T>(sum);
    std::transform(output.begin(), output.end(), result.output.begin(), [](long double x) { return static_cast<T>(x); });
    return result;
}

template <class T>
bool same_bits(const part<T>& a, const part<T>& b)
{
    const auto bits = [](T x) { return std::bit_cast<bits_of<T>>(x); };
    bool same = bits(a.maximum) == bits(b.maximum) && bits(a.sum) == bits(b.sum);
    for (std::size_t c = 0; c < part<T>::size; ++c) {
        same = same && bits(a.output[c]) == bits(b.output[c]);
    }
    return same;
}

} // namespace

TEST_CASE_TEMPLATE("partial: two parts merge into the result over both", T, float, double)
{
    std::mt19937 generator(3);
    std::normal_distribution<double> draw;
    for (const double shift : {-300.0, -20.0, 0.0, 5.0, 60.0}) {
        std::vector<double> scores[2];
        std::vector<std::vector<double>> values[2];
        for (int side = 0; side < 2; ++side) {
            for (int j = 0; j < 20; ++j) {
                // floats, so that rounding to T loses nothing of the inputs
                scores[side].push_back(static_cast<double>(static_cast<float>(draw(generator) + (side ? shift : 0))));
                values[side].emplace_back();
                for (std::size_t c = 0; c < part<T>::size; ++c) {
                    values[side].back().push_back(std::abs(draw(generator)));
                }
            }
        }
        part<T> left = part_of<T>(scores[0], values[0]);
        part<T> right = part_of<T>(scores[1], values[1]);
        scores[0].insert(scores[0].end(), scores[1].begin(), scores[1].end());
        values[0].insert(values[0].end(), values[1].begin(), values[1].end());
        const part<T> both = part_of<T>(scores[0], values[0]);
        merge<arch>(left.row(), right.row(), part<T>::size);
        CHECK(left.maximum == both.maximum);
        // the parts' rounding, the factors' bound (and the rounding of their argument), two products and a sum
        const double bound = (4 + 2 * exp_negative_max_ulp + std::abs(shift) / 2) * std::numeric_limits<T>::epsilon();
        CHECK(std::abs(left.sum - both.sum) <= bound * both.sum);
        for (std::size_t c = 0; c < part<T>::size; ++c) {
            CHECK(std::abs(left.output[c] - both.output[c]) <= bound * both.output[c]);
        }
    }
}

TEST_CASE_TEMPLATE("partial: merging with an empty part changes no bit", T, float, double)
{
    part<T> full = part_of<T>({1.0, 2.0}, {std::vector<double>(part<T>::size, -0.5), std::vector<double>(part<T>::size, 3.0)});
    full.output[0] = T(-0.0);
    full.output[1] = std::numeric_limits<T>::denorm_min();
    part<T> empty;
    clear(empty.row(), part<T>::size);
    part<T> merged = full;
    merge<arch>(merged.row(), empty.row(), part<T>::size);
    CHECK(same_bits(merged, full));
    part<T> other = empty;
    merge<arch>(other.row(), full.row(), part<T>::size);
    CHECK(same_bits(other, full));
    part<T> nothing = empty;
    merge<arch>(nothing.row(), empty.row(), part<T>::size);
    CHECK(same_bits(nothing, empty));
}

TEST_CASE_TEMPLATE("partial: a NaN part makes the whole NaN, from either side", T, float, double)
{
    const part<T> full = part_of<T>({0.0}, {std::vector<double>(part<T>::size, 1.0)});
    part<T> invalid = full;
    invalid.maximum = invalid.sum = quiet_nan<T>();
    std::fill(invalid.output.begin(), invalid.output.end(), quiet_nan<T>());
    for (const bool first : {true, false}) {
        part<T> into = first ? invalid : full;
        part<T> from = first ? full : invalid;
        merge<arch>(into.row(), from.row(), part<T>::size);
        CHECK(has_nan_bits(into.maximum));
        CHECK(has_nan_bits(into.sum));
        CHECK(has_nan_bits(into.output[part<T>::size - 1]));
    }
}

TEST_CASE_TEMPLATE("partial: exp of one number has the bits of exp in a vector", T, float, double)
{
    for (const T x : {T(0), T(-0.3), T(-1), T(-20.5), T(-87), T(-1000)}) {
        alignas(64) std::array<T, lanes<arch, T>> vector;
        exp_negative(batch<arch, T>(x)).store_unaligned(vector.data());
        CHECK(std::bit_cast<bits_of<T>>(exp_of<arch>(x)) == std::bit_cast<bits_of<T>>(vector[lanes<arch, T> - 1]));
    }
    CHECK(exp_of<arch>(T(0)) == T(1));
}
