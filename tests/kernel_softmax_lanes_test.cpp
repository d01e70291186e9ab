// SPDX-License-Identifier: BSD-3-Clause
#include <scaledot/kernel/softmax_lanes.hpp>

#include "support/softmax_kernels.hpp"

#include <doctest/doctest.h>

#include <cstddef>
#include <vector>

using namespace scaledot::kernel;
using namespace test_support;
using arch = softmax_arch;

namespace {

/// A column of vectors in memory, one row a lane.
template <class T>
struct column {
    static constexpr bool keeps = true;
    using B = batch<arch, T>;

    T* data;

    B load(std::size_t i) const { return B::load_unaligned(data + i * B::size); }
    void store(std::size_t i, const B& value) const { value.store_unaligned(data + i * B::size); }
};

/// The same, results elsewhere, weights computed twice.
template <class T>
struct column_apart {
    static constexpr bool keeps = false;
    using B = batch<arch, T>;

    const T* data;
    T* results;

    B load(std::size_t i) const { return B::load_unaligned(data + i * B::size); }
    void store(std::size_t i, const B& value) const { value.store_unaligned(results + i * B::size); }
};

} // namespace

TEST_CASE_TEMPLATE("softmax_lanes: a row's bits do not depend on the rows in other lanes, nor on where weights wait", T,
                   float, double)
{
    const unit_temperature<T> temperature;
    const std::size_t width = lanes<arch, T>;
    for (const std::size_t length : {std::size_t{1}, std::size_t{8}, std::size_t{9}, std::size_t{50}}) {
        std::vector<T> together(length * width);
        for (std::size_t lane = 0; lane < width; ++lane) {
            const auto row = softmax_row<T>(length, lane);
            for (std::size_t i = 0; i < length; ++i) {
                together[i * width + lane] = row[i];
            }
        }
        const auto run = [&](const std::vector<T>& x, auto&& member) {
            std::vector<T> y = x;
            softmax_lanes<arch, T, column<T>> rows(column<T>{y.data()}, length, temperature.scale);
            member(rows, y);
            return y;
        };
        const auto probabilities = [](auto& rows, std::vector<T>&) { rows.probabilities(); };
        const auto logarithms = [&](auto& rows, std::vector<T>&) { rows.logarithms(temperature); };
        const auto logsumexp = [&](auto& rows, std::vector<T>& y) {
            std::vector<T> lse(width);
            rows.logsumexp(temperature.value, lse.data(), 1, width, [](std::size_t) { return T(-1); });
            y = lse;
        };
        const auto p = run(together, probabilities);
        const auto l = run(together, logarithms);
        const auto lse = run(together, logsumexp);
        std::vector<T> apart(together.size());
        softmax_lanes<arch, T, column_apart<T>>(column_apart<T>{together.data(), apart.data()}, length,
                                                temperature.scale)
            .probabilities();
        CHECK(equal_bits(apart.data(), p.data(), p.size()));
        for (std::size_t lane = 0; lane < width; ++lane) {
            std::vector<T> alone(together.size(), T(0));
            for (std::size_t i = 0; i < length; ++i) {
                alone[i * width + lane] = together[i * width + lane];
            }
            const auto p_alone = run(alone, probabilities);
            const auto l_alone = run(alone, logarithms);
            for (std::size_t i = lane; i < alone.size(); i += width) {
                CHECK(equal_bits(&p_alone[i], &p[i], 1));
                CHECK(equal_bits(&l_alone[i], &l[i], 1));
            }
            CHECK(equal_bits(&run(alone, logsumexp)[lane], &lse[lane], 1));
        }
    }
}
