// SPDX-License-Identifier: BSD-3-Clause
// Partial results of attention, merged in any binary tree, give what the definition over all of them gives.
#include <scaledot/merge.hpp>

#include "choices.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

namespace sd = scaledot;
using namespace test_support;

namespace {

template <class T>
using part = sd::attention_result<xt::xtensor<T, 3>, xt::xtensor<double, 2>>;

/// lse: mostly moderate, now and then far away, of nothing (-inf), or no number.
double lse_of(choices& input)
{
    switch (input.below(16)) {
    case 0:
        return -std::numeric_limits<double>::infinity();
    case 1:
        return input.one_in(8) ? std::numeric_limits<double>::quiet_NaN() : -1e300;
    case 2:
        return input.one_in(8) ? std::numeric_limits<double>::infinity() : 1e300;
    case 3:
        return 700 * (static_cast<double>(input.below(3)) - 1);
    default:
        return static_cast<double>(input.below(256)) / 8 - 16;
    }
}

/// One element of the whole by its definition, in long double. `magnitude` becomes what its rounding is relative to.
long double exact(const std::vector<double>& lse, const std::vector<long double>& values, long double& magnitude)
{
    const double largest = *std::max_element(lse.begin(), lse.end());
    long double sum = 0, weighted = 0;
    magnitude = 0;
    for (std::size_t i = 0; i < lse.size(); ++i) {
        const long double weight =
            std::isinf(largest) ? 0 : std::exp(static_cast<long double>(lse[i]) - static_cast<long double>(largest));
        sum += weight;
        if (weight > 0) {
            weighted += weight * values[i];
            magnitude = std::max(magnitude, std::abs(values[i]));
        }
    }
    return sum > 0 ? weighted / sum : 0;
}

template <class T>
void run(choices& input)
{
    const std::size_t count = 1 + input.below(8), heads = 1 + input.below(2), queries = 1 + input.below(3);
    const std::size_t size = input.below(20);
    std::vector<part<T>> parts;
    for (std::size_t p = 0; p < count; ++p) {
        part<T> next{xt::xtensor<T, 3>::from_shape({heads, queries, size}),
                     xt::xtensor<double, 2>::from_shape({heads, queries})};
        for (auto& x : next.lse) {
            x = lse_of(input);
        }
        for (std::size_t i = 0; i < next.output.size(); ++i) {
            // As attention writes it: a row of no keys is 0.
            const bool empty = std::isinf(next.lse.data()[i / size]) && next.lse.data()[i / size] < 0;
            next.output.data()[i] = empty ? T(0) : T(static_cast<double>(input.below(256)) / 16 - 8);
        }
        parts.push_back(std::move(next));
    }
    std::vector<part<T>> trees = parts;
    while (trees.size() > 1) {
        const std::size_t i = input.below(trees.size() - 1);
        trees[i] = sd::merge(trees[i], trees[i + 1]);
        trees.erase(trees.begin() + static_cast<std::ptrdiff_t>(i) + 1);
    }
    const part<T>& whole = trees.front();
    // Each level of the tree rounds a share, an lse and an element.
    const long double steps = 4 * static_cast<long double>(count) * std::numeric_limits<T>::epsilon();
    for (std::size_t row = 0; row < heads * queries; ++row) {
        std::vector<double> lse;
        for (const auto& p : parts) {
            lse.push_back(p.lse.data()[row]);
        }
        const bool poisoned = count > 1 && std::any_of(lse.begin(), lse.end(), [](double x) {
                                  return std::isnan(x) || (std::isinf(x) && x > 0);
                              });
        for (std::size_t c = 0; c < size; ++c) {
            const auto got = static_cast<long double>(whole.output.data()[row * size + c]);
            if (poisoned) {
                if (!std::isnan(got)) {
                    fail("a part that is no number did not make its row NaN");
                }
                continue;
            }
            if (count == 1) {
                continue;
            }
            std::vector<long double> values;
            for (const auto& p : parts) {
                values.push_back(static_cast<long double>(p.output.data()[row * size + c]));
            }
            long double magnitude = 0;
            const long double expected = exact(lse, values, magnitude);
            // A share's exponent is as exact as the lse of merged parts, which are rounded at each level.
            const double reach = 1 + std::abs(*std::max_element(lse.begin(), lse.end()));
            if (std::isinf(reach)) { // no part has a key
                continue;
            }
            const long double of_lse = static_cast<long double>(count) * reach * std::numeric_limits<double>::epsilon();
            if (!(std::abs(got - expected) <= (steps + 4 * of_lse) * magnitude)) {
                fail("merged " + std::to_string(got) + ", exact " + std::to_string(expected));
            }
        }
    }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size)
{
    choices input(data, size);
    input.one_in(2) ? run<float>(input) : run<double>(input);
    return 0;
}
