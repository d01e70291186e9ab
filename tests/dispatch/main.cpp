// SPDX-License-Identifier: BSD-3-Clause
// Runs with SCALEDOT_ARCHITECTURE set by ctest, and EXPECTED: the instruction set to be picked; empty where there is
// none of that name.
#include <scaledot/dispatch.hpp>
#include <scaledot/scaledot.hpp>

#include "odr/unit.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdlib>
#include <random>
#include <stdexcept>
#include <string>
#include <string_view>

#if !defined(SCALEDOT_DISPATCH)
#error "a program that links scaledot::dispatch calls its kernels"
#endif

namespace sd = scaledot;

namespace {

std::string expected()
{
    const char* const name = std::getenv("EXPECTED");
    REQUIRE(name != nullptr);
    return name;
}

xt::xtensor<float, 3> uniform(const std::array<std::size_t, 3>& shape, unsigned seed)
{
    auto result = xt::xtensor<float, 3>::from_shape(shape);
    std::mt19937 generator(seed);
    std::uniform_real_distribution<float> law(-1.0f, 1.0f);
    std::generate(result.begin(), result.end(), [&] { return law(generator); });
    return result;
}

template <class A, class B>
double largest_difference(const A& a, const B& b)
{
    REQUIRE(a.size() == b.size());
    double largest = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
        largest = std::max(largest, std::abs(double(a.storage()[i]) - double(b.storage()[i])));
    }
    return largest;
}

} // namespace

TEST_CASE("dispatch: the instruction set that the environment names, or the machine's fastest")
{
    if (expected().empty()) {
        try {
            sd::dispatched_architecture();
            FAIL("an unknown instruction set was accepted");
        } catch (const std::runtime_error& error) {
            const std::string message = error.what();
            CAPTURE(message);
            CHECK(message.find("SCALEDOT_ARCHITECTURE is \"mmx\"") != std::string::npos);
            CHECK(message.find("sse2") != std::string::npos);
        }
        const auto x = uniform({2, 3, 4}, 1);
        CHECK_THROWS_AS(sd::softmax(x), std::runtime_error);
    } else {
        CHECK(sd::dispatched_architecture() == expected());
    }
}

TEST_CASE("dispatch: agrees to rounding with a unit of the same program that is built without it")
{
    if (expected().empty()) {
        return;
    }
    odr_input input;
    input.rows = xt::reshape_view(uniform({1, 5, 77}, 1), {5, 77});
    input.gamma = xt::reshape_view(uniform({1, 1, 77}, 2), {77});
    input.beta = xt::reshape_view(uniform({1, 1, 77}, 3), {77});
    input.query = uniform({2, 40, 24}, 4);
    input.key = uniform({2, 40, 24}, 5);
    input.value = uniform({2, 40, 17}, 6);
    const odr_results plain = narrow(input);
    const double bound = 1e-5; // of numbers below 1; tests/odr derives smaller ones
    CHECK(largest_difference(sd::softmax(input.rows), plain.probabilities) < bound);
    CHECK(largest_difference(sd::layer_norm(input.rows, input.gamma, input.beta), plain.normalized) < bound);
    const auto attended = sd::attention(input.query, input.key, input.value, {.causal = true, .softcap = 20.0});
    CHECK(largest_difference(attended, plain.attended) < bound);
}
