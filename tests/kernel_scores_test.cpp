// SPDX-License-Identifier: BSD-3-Clause
#include <scaledot/kernel/scores.hpp>

#include <scaledot/kernel/largest.hpp>
#include <scaledot/kernel/step.hpp>

#include "support/attention_cases.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <initializer_list>
#include <limits>
#include <numeric>
#include <type_traits>
#include <vector>

namespace kernel = scaledot::kernel;
using namespace test_support;
using arch = scaledot::native_architecture;

namespace {

template <class T>
std::vector<T> numbers(std::size_t count, unsigned seed, double deviation = 1)
{
    const auto x = gaussians<T, 1>({count}, seed, deviation);
    return std::vector<T>(x.begin(), x.end());
}

template <class T>
kernel::bits_of<T> bits(T x)
{
    return std::bit_cast<kernel::bits_of<T>>(x);
}

template <class T>
bool is_minus_infinity(T x)
{
    return bits(x) == kernel::negative_infinity_bits<T>;
}

template <class T>
auto lanes_of(const kernel::batch<arch, T>& x)
{
    std::array<kernel::bits_of<T>, kernel::lanes<arch, T>> values;
    kernel::as_bits(x).store_unaligned(values.data());
    return values;
}

/// weight is exp(fall), up to exp_negative's bound, an error of the exponent of `roundings` times epsilon, which exp
/// makes relative, and another relative error; results below the normal range may be 0.
template <class T>
bool is_exponential_of(T weight, long double fall, double roundings, double relative = 0)
{
    constexpr auto epsilon = static_cast<double>(std::numeric_limits<T>::epsilon());
    const auto exact = static_cast<double>(std::exp(fall));
    const double bound = (std::expm1(roundings * epsilon) + kernel::exp_negative_max_ulp * epsilon + relative) * exact;
    return std::abs(static_cast<double>(weight) - exact) <= bound + static_cast<double>(std::numeric_limits<T>::min());
}

/// Of x / cap, tanh and the product with cap: a unit in the last place each, and hyperbolic_tangent's few.
constexpr double softcap_max_ulp = 6;

} // namespace

TEST_CASE("in_range: finite numbers stay finite, infinities and NaN stay what they are")
{
    CHECK(kernel::in_range<float>(1e300) == std::numeric_limits<float>::max());
    CHECK(kernel::in_range<float>(-1e300) == std::numeric_limits<float>::lowest());
    CHECK(kernel::in_range<float>(0.1) == 0.1f);
    CHECK(kernel::in_range<float>(1e-300) == 0.f);
    CHECK(scaledot::detail::is_negative_infinity(
        static_cast<double>(kernel::in_range<float>(minus_infinity_of<double>()))));
    CHECK(scaledot::detail::is_positive_infinity(static_cast<double>(kernel::in_range<float>(infinity_of<double>()))));
    CHECK(scaledot::detail::is_nan(static_cast<double>(kernel::in_range<float>(nan_of<double>()))));
    CHECK(kernel::in_range<double>(1e300) == 1e300);
    CHECK(kernel::in_range<float>(from_double<scaledot::bfloat16>(-3e38)) < -2.9e38f);
}

TEST_CASE_TEMPLATE("softcap_row: cap tanh(score / cap) from tiny to saturated scores", T, float, double)
{
    constexpr std::size_t count = 4 * kernel::lanes<arch, T>;
    for (const double cap : {1e-20, 1.0, 30.0, 1e20}) {
        for (const double size : {1e-30, 1e-6, 1e-3, 1.0, 1e3, 1e30}) {
            auto scores = numbers<T>(count, 1, size);
            const auto input = scores;
            kernel::softcap_row<arch>(scores.data(), count, static_cast<T>(cap));
            for (std::size_t i = 0; i < count; ++i) {
                const long double c = static_cast<T>(cap);
                const auto exact = static_cast<double>(c * std::tanh(static_cast<long double>(input[i]) / c));
                CAPTURE(input[i]);
                CAPTURE(cap);
                CHECK(std::abs(static_cast<double>(scores[i]) - exact) <=
                      softcap_max_ulp * std::abs(exact) * static_cast<double>(std::numeric_limits<T>::epsilon()));
            }
        }
    }
    std::vector<T> special(count, T(0));
    special[0] = infinity_of<T>();
    special[1] = minus_infinity_of<T>();
    special[2] = nan_of<T>();
    special[3] = T(-0.0);
    kernel::softcap_row<arch>(special.data(), count, T(5));
    CHECK(special[0] == T(5));
    CHECK(special[1] == T(-5));
    CHECK(scaledot::detail::is_nan(static_cast<double>(special[2])));
    CHECK(special[3] == T(0));
}

TEST_CASE_TEMPLATE("restrict_rows: keeps [first, last), also where that lies outside the row or is empty", T, float,
                   double)
{
    constexpr std::size_t count = 3 * kernel::lanes<arch, T>;
    const T nan = std::numeric_limits<T>::quiet_NaN();
    for (std::size_t first = 0; first <= count + 4; ++first) {
        for (std::size_t last = 0; last <= count + 4; ++last) {
            constexpr std::size_t rows = 3;
            std::vector<T> scores(rows * (count + 1), nan); // excluded whatever they are, kept as they are
            std::iota(scores.begin() + 1, scores.end(), T(1));
            const std::vector<T> before = scores;
            kernel::restrict_rows<arch>(scores.data(), count + 1, rows, count, first, last);
            bool right = true;
            for (std::size_t j = 0; j < scores.size(); ++j) {
                const std::size_t key = j % (count + 1);
                const bool excluded = key < count && (key < first || key >= last);
                const T expected = excluded ? kernel::negative_infinity<T> : before[j];
                right = right && std::memcmp(&scores[j], &expected, sizeof expected) == 0;
            }
            CHECK(right);
        }
    }
}

TEST_CASE_TEMPLATE("finite_reference: -inf becomes 0, everything else stays, bit for bit", T, float, double)
{
    using B = kernel::batch<arch, T>;
    for (const T x : {T(-0.0), T(3), std::numeric_limits<T>::lowest(), std::numeric_limits<T>::max(), infinity_of<T>(),
                      nan_of<T>()}) {
        CHECK(lanes_of<T>(kernel::finite_reference(B(x))) == lanes_of<T>(B(x)));
    }
    CHECK(lanes_of<T>(kernel::finite_reference(B(minus_infinity_of<T>()))) == lanes_of<T>(B(T(0))));
}

TEST_CASE_TEMPLATE("raise_references: to factor times the maximum where that is larger, keeping exp(old - new)", T,
                   float, double)
{
    constexpr std::size_t lanes = kernel::lanes<arch, T>;
    const T untouched = T(99);
    for (std::size_t count = 1; count <= 2 * lanes + 1; ++count) {
        const std::size_t padded = (count + lanes - 1) / lanes * lanes;
        for (const T factor : {T(1), T(0.125), T(0.3)}) {
            const auto maxima = numbers<T>(padded, static_cast<unsigned>(count), 10);
            auto references = numbers<T>(padded + 1, static_cast<unsigned>(count + 100), 2);
            const auto before = references;
            std::vector<T> kept(padded + 1, untouched);
            kernel::raise_references<arch>(references.data(), maxima.data(), factor, count, kept.data());
            for (std::size_t r = 0; r < padded; ++r) {
                const T raised = kernel::barrier(maxima[r] * factor);
                REQUIRE(references[r] == std::max(raised, before[r]));
                if (raised <= before[r]) {
                    REQUIRE(kept[r] == T(1));
                    continue;
                }
                const long double fall = static_cast<long double>(before[r]) - static_cast<long double>(raised);
                REQUIRE(is_exponential_of(kept[r], fall, static_cast<double>(raised - before[r]) / 2));
            }
            CHECK(kept[padded] == untouched);
            CHECK(references[padded] == before[padded]);
        }
    }
}

TEST_CASE_TEMPLATE("raise_references: rows without keys stay at -inf, the first key keeps nothing, +inf keeps nothing",
                   T, float, double)
{
    constexpr std::size_t lanes = kernel::lanes<arch, T>;
    const T none = minus_infinity_of<T>();
    const T most = std::numeric_limits<T>::max();
    struct {
        T before, maximum, after;
        double kept;
    } const cases[] = {
        {none, T(-3), T(-3), 0}, {none, -most, -most, 0},     {none, infinity_of<T>(), infinity_of<T>(), 0},
        {T(2), none, T(2), 1},   {-most, none, -most, 1},     {T(2), infinity_of<T>(), infinity_of<T>(), 0},
        {T(2), T(2), T(2), 1},   {-most, most, most, 0},      {T(-0.0), T(-1), T(-0.0), 1},
        {most, T(2), most, 1},   {T(1), T(1000), T(1000), 0},
    };
    for (const auto& c : cases) {
        for (std::size_t row = 0; row < lanes; ++row) {
            // The other lanes are rows that see no key: what they have is left alone.
            std::vector<T> references(lanes, T(5)), maxima(lanes, none), kept(lanes);
            references[row] = c.before;
            maxima[row] = c.maximum;
            kernel::raise_references<arch>(references.data(), maxima.data(), T(1), row + 1, kept.data());
            for (std::size_t r = 0; r < lanes; ++r) {
                CHECK(references[r] == (r == row ? c.after : T(5)));
                CHECK(kept[r] == (r == row ? static_cast<T>(c.kept) : T(1)));
            }
        }
    }
    std::vector<T> references(lanes, none), maxima(lanes, none), kept(lanes);
    kernel::raise_references<arch>(references.data(), maxima.data(), T(0.5), lanes, kept.data());
    CHECK(std::all_of(references.begin(), references.end(), is_minus_infinity<T>));
    CHECK(std::none_of(kept.begin(), kept.end(), [](T x) { return all_nan(std::vector<T>{x}); }));
}

#if !defined(__FAST_MATH__) // which takes comparisons for symmetric
TEST_CASE_TEMPLATE("raise_references: a NaN maximum raises nothing", T, float, double)
{
    constexpr std::size_t lanes = kernel::lanes<arch, T>;
    for (const T before : {T(2), std::numeric_limits<T>::lowest()}) {
        std::vector<T> references(lanes, before), maxima(lanes, nan_of<T>()), kept(lanes);
        kernel::raise_references<arch>(references.data(), maxima.data(), T(0.5), lanes, kept.data());
        CHECK(references == std::vector<T>(lanes, before));
        CHECK(kept == std::vector<T>(lanes, T(1)));
    }
}
#endif

TEST_CASE_TEMPLATE("scale_row: each score times the scale, -inf stays, nothing past the count", T, float, double)
{
    constexpr std::size_t lanes = kernel::lanes<arch, T>;
    auto scores = numbers<T>(3 * lanes + 1, 1);
    scores[1] = minus_infinity_of<T>();
    const auto input = scores;
    kernel::scale_row<arch>(scores.data(), 3 * lanes, T(0.3));
    for (std::size_t j = 0; j < 3 * lanes; ++j) {
        CHECK((j == 1 ? is_minus_infinity(scores[j]) : scores[j] == kernel::barrier(input[j] * T(0.3))));
    }
    CHECK(scores[3 * lanes] == input[3 * lanes]);
}

TEST_CASE_TEMPLATE("rounds_coarsely: only references whose half unit in the last place is above 1/16", T, float, double)
{
    const T limit = 1 / (4 * std::numeric_limits<T>::epsilon());
    for (const T sign : {T(1), T(-1)}) {
        CHECK(!kernel::rounds_coarsely(sign * T(0)));
        CHECK(!kernel::rounds_coarsely(sign * T(1000)));
        CHECK(!kernel::rounds_coarsely(sign * limit));
        CHECK(kernel::rounds_coarsely(sign * std::nextafter(limit, 2 * limit)));
        CHECK(kernel::rounds_coarsely(sign * std::numeric_limits<T>::max()));
    }
    const T below = std::nextafter(limit, T(0));
    CHECK((limit - below) / 2 == T(0x1p-4));
}

namespace {

/// Weights of a row of scores and the sums they were added to.
template <class Step>
struct weighed {
    using T = typename Step::sum::value_type;
    std::vector<T> weights;
    std::vector<T> sums;
};

/// What weigh_row makes of scores, whose sums before are `before` in each lane.
template <class Step, class T>
weighed<Step> weigh(std::vector<T> scores, T factor, T reference, T before = 0)
{
    using sum = typename Step::sum;
    const auto sums = kernel::weigh_row<Step>(scores.data(), scores.size(), factor, reference, sum(before));
    weighed<Step> result{std::vector<T>(scores.size()), std::vector<T>(Step::lanes)};
    sums.store_unaligned(result.sums.data());
    if constexpr (Step::depth == 1) {
        result.weights = scores;
    } else {
        std::vector<scaledot::bfloat16> rounded(scores.size());
        std::memcpy(static_cast<void*>(rounded.data()), scores.data(), rounded.size() * sizeof rounded[0]);
        std::copy(rounded.begin(), rounded.end(), result.weights.begin());
    }
    return result;
}

#if defined(__AVX512BF16__)
#define SCALEDOT_STEPS kernel::number_step<arch, float>, kernel::number_step<arch, double>, kernel::bfloat16_step<arch>
#else
#define SCALEDOT_STEPS kernel::number_step<arch, float>, kernel::number_step<arch, double>
#endif

} // namespace

TEST_CASE_TEMPLATE("weigh_row: weights exp(factor * score - reference), +0 for excluded scores, summed lane by lane",
                   Step, SCALEDOT_STEPS)
{
    using T = typename Step::sum::value_type;
    constexpr std::size_t lanes = Step::lanes;
    for (const std::size_t count : std::initializer_list<std::size_t>{lanes, 2 * lanes, 256}) {
        for (const double deviation : {0.0, 1.0, 30.0, 1e4}) {
            for (const T factor : {T(1), T(0.125), T(0.3)}) {
                auto scores = numbers<T>(count, 1, deviation);
                scores[1] = scores[count - 1] = minus_infinity_of<T>();
                // Never below the largest product: a reference that earlier keys have raised may be above.
                const T largest = kernel::largest_lane(kernel::largest_in_lanes<arch, T>(scores.data(), count));
                for (const T reference : {T(factor * largest), T(factor * std::abs(largest) + T(0.7))}) {
                    const auto result = weigh<Step>(scores, factor, reference, T(0.25));
                    std::vector<T> sums(lanes, T(0.25));
                    for (std::size_t j = 0; j < count; ++j) {
                        sums[j % lanes] = kernel::barrier(sums[j % lanes] + result.weights[j]);
                        if (j == 1 || j == count - 1) {
                            REQUIRE(all_zero(std::vector<T>{result.weights[j]}));
                            continue;
                        }
                        const long double fall =
                            static_cast<long double>(factor) * static_cast<long double>(scores[j]) -
                            static_cast<long double>(reference);
                        // The product rounds as well where the machine has no fused multiply-add.
                        const auto product = std::abs(static_cast<double>(factor * scores[j]));
                        const double exponent =
                            (std::abs(static_cast<double>(fall)) + (kernel::fused<typename Step::sum> ? 0 : product)) /
                            2;
                        REQUIRE(is_exponential_of<T>(result.weights[j], fall, exponent, Step::depth == 2 ? 0x1p-8 : 0));
                    }
                    REQUIRE(result.sums == sums);
                }
            }
        }
    }
}

TEST_CASE_TEMPLATE("weigh_row: NaN or +inf anywhere among the scores is NaN in the sums", Step, SCALEDOT_STEPS)
{
    using T = typename Step::sum::value_type;
    constexpr std::size_t count = 3 * Step::lanes;
    for (std::size_t i = 0; i < count; ++i) {
        for (const T others : {T(1), minus_infinity_of<T>(), std::numeric_limits<T>::lowest()}) {
            std::vector<T> scores(count, others);
            const auto is_nan_in_its_lane = [&](T bad, T reference) {
                scores[i] = bad;
                const auto sums = weigh<Step>(scores, T(0.5), reference).sums;
                return all_nan(std::vector<T>{sums[i % Step::lanes]});
            };
            // A NaN may have raised no reference; +inf has.
            CHECK(is_nan_in_its_lane(nan_of<T>(), T(0.5)));
            CHECK(is_nan_in_its_lane(nan_of<T>(), minus_infinity_of<T>()));
            CHECK(is_nan_in_its_lane(nan_of<T>(), infinity_of<T>()));
            CHECK(is_nan_in_its_lane(infinity_of<T>(), infinity_of<T>()));
        }
    }
}

TEST_CASE_TEMPLATE("weigh_row: a row of excluded scores weighs nothing; differences beyond the type's range weigh 0",
                   Step, SCALEDOT_STEPS)
{
    using T = typename Step::sum::value_type;
    constexpr std::size_t count = 3 * Step::lanes;
    std::vector<T> scores(count, minus_infinity_of<T>());
    for (const T reference : {minus_infinity_of<T>(), T(2), std::numeric_limits<T>::lowest()}) {
        const auto result = weigh<Step>(scores, T(0.5), reference);
        CHECK(all_zero(result.weights));
        CHECK(all_zero(result.sums));
    }
    std::fill(scores.begin(), scores.end(), std::numeric_limits<T>::lowest());
    scores[1] = std::numeric_limits<T>::max();
    const auto result = weigh<Step>(scores, T(1), std::numeric_limits<T>::max());
    CHECK(std::count(result.weights.begin(), result.weights.end(), T(0)) == count - 1);
    CHECK(result.weights[1] == T(1));
    CHECK(result.sums[1] == T(1));
}

TEST_CASE_TEMPLATE("weigh_row: as long as no reference rounds coarsely, no weight is above exp(1/16)", Step,
                   SCALEDOT_STEPS)
{
    using T = typename Step::sum::value_type;
    const T limit = 1 / (4 * std::numeric_limits<T>::epsilon());
    for (const T factor : {T(0.3), T(0.7), T(0.11)}) {
        auto scores = numbers<T>(64 * Step::lanes, 3);
        for (T& score : scores) {
            score = (T(1) - std::abs(score) * T(1e-3)) * limit / factor;
        }
        for (std::size_t j = 0; j < scores.size(); ++j) {
            const T reference = kernel::barrier(factor * scores[j]);
            REQUIRE(!kernel::rounds_coarsely(reference));
            const auto result = weigh<Step>(std::vector<T>(Step::lanes, scores[j]), factor, reference);
            REQUIRE(result.weights[0] <= T(1.066));
            REQUIRE(result.weights[0] >= T(0.938));
        }
    }
}
