// SPDX-License-Identifier: BSD-3-Clause
// Calls the same operations from two translation units built for two instruction sets and compares what they return.
#include "unit.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <random>

namespace {

constexpr std::size_t heads = 2, keys = 40, head_size = 24, value_size = 17, columns = 77;
constexpr double epsilon = std::numeric_limits<float>::epsilon();

template <class Container>
void fill(Container& container, std::mt19937& generator)
{
    std::uniform_real_distribution<float> uniform(-1.0f, 1.0f);
    std::generate(container.storage().begin(), container.storage().end(), [&] { return uniform(generator); });
}

odr_input make_input()
{
    std::mt19937 generator(17);
    odr_input input;
    input.rows.resize({std::size_t{5}, columns});
    input.gamma.resize({columns});
    input.beta.resize({columns});
    input.query.resize({heads, keys, head_size});
    input.key.resize({heads, keys, head_size});
    input.value.resize({heads, keys, value_size});
    fill(input.rows, generator);
    fill(input.gamma, generator);
    fill(input.beta, generator);
    fill(input.query, generator);
    fill(input.key, generator);
    fill(input.value, generator);
    return input;
}

template <class Container>
double largest_difference(const Container& a, const Container& b)
{
    double largest = 0;
    REQUIRE(a.shape() == b.shape());
    for (std::size_t i = 0; i < a.size(); ++i) {
        REQUIRE(std::isfinite(a.storage()[i]));
        largest = std::max(largest, std::abs(double(a.storage()[i]) - double(b.storage()[i])));
    }
    return largest;
}

} // namespace

TEST_CASE("odr: two instruction sets in one program agree to rounding")
{
    const odr_input input = make_input();
    const odr_results a = narrow(input), b = wide(input);

    // Each side is within 2 units in the last place of a probability, which is below 1.
    CHECK(largest_difference(a.probabilities, b.probabilities) <= 2 * 2 * epsilon);

    // Each side is within 4 units of max(|y|, |gamma x|, |beta|); |x| < sqrt(columns), |gamma| and |beta| <= 1.
    CHECK(largest_difference(a.normalized, b.normalized) <= 2 * 4 * epsilon * (std::sqrt(double(columns)) + 1));

    // A score is a sum of head_size products below 1 divided by sqrt(head_size), rounded head_size times; its error is
    // relative in the exponential. The weighted sum of values below 1 adds one rounding per key.
    const double score = std::sqrt(double(head_size));
    const double bound = 2 * epsilon * (2 * head_size * score + keys);
    CHECK(largest_difference(a.attended, b.attended) <= bound);
    CHECK(largest_difference(a.attended_half, b.attended_half) <= bound);
}
