// SPDX-License-Identifier: BSD-3-Clause
#include <scaledot/softmax.hpp>

#include "support/mpfr_number.hpp"
#include "support/norm_rows.hpp"
#include "support/softmax_oracle.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <limits>
#include <map>
#include <random>
#include <string>
#include <type_traits>
#include <vector>

namespace sd = scaledot;
using namespace test_support;
using sd::detail::is_nan;
using sd::detail::is_negative_infinity;
using sd::detail::is_positive_infinity;

namespace {

constexpr double infinity = sd::kernel::infinity<double>;
constexpr double positive_nan = std::bit_cast<double>(0x7ff8000000000000u);
constexpr double negative_nan = std::bit_cast<double>(0xfff8000000000000u);

template <class A, class B>
bool all_same_bits(const A& a, const B& b)
{
    return a.size() == b.size() &&
           std::equal(a.begin(), a.end(), b.begin(), [](auto x, auto y) { return same_bits(x, y); });
}

template <class T>
results<T> computed(const row<T>& x, double temperature)
{
    const sd::softmax_options options{.temperature = temperature};
    return {sd::softmax(x, options), sd::log_softmax(x, options), sd::logsumexp(x, options)()};
}

std::vector<double> temperatures()
{
    std::vector<double> all = {1, 0.1, 0.75, 1.9, 7.3, 1e-30, 1e30, 1e-80, 1e-300, 1e300};
#if !defined(__FAST_MATH__)
    all.push_back(0x1p-1074);
    all.push_back(3e-310);
#endif
    return all;
}

/// Calls use(logits, temperature, name) for all inputs of the accuracy tests.
template <class T, class Use>
void for_each_input(Use&& use)
{
    const auto rows = [&](std::size_t length, const std::vector<double>& all) {
        for (const auto& named : logit_rows<T>(length)) {
            const row<T> x = rounded_to<T>(named.values);
            for (const double t : all) {
                use(x, t, named.name + ", " + std::to_string(length) + " logits, T = " + sd::detail::text(t));
            }
        }
    };
    for (std::size_t length = 1; length <= 4 * sd::kernel::lanes<sd::native_architecture, T> + 1; ++length) {
        rows(length, {1.0});
    }
    rows(2, temperatures());
    rows(19, temperatures());
    rows(300, temperatures());
    rows(1000, {1, 7.3});
    std::mt19937_64 engine(7);
    std::uniform_real_distribution<double> logarithm(std::log(1e-3), std::log(80));
    for (int i = 0; i < 5000; ++i) {
        const row<T> two = {T(1), T(1.0 - std::exp(logarithm(engine)))};
        use(two, 1.0, sd::detail::text("the logits 1 and ", static_cast<double>(two(1))));
    }
    for (const double deviation : {1.0, 4.0}) {
        use(drawn_logits<T>(100'000, 4096, deviation, 3), 1.0,
            sd::detail::text("100,000 logits, deviation ", deviation));
    }
    use(drawn_logits<T>(1'000'000, 4096, 1, 5), 1.9, "1,000,000 logits, deviation 1, T = 1.9");
}

} // namespace

TEST_CASE_TEMPLATE("softmax, log_softmax, logsumexp: no error exceeds its stated bound", T, float, double)
{
    accuracy ours;
    accuracy textbooks;
    for_each_input<T>([&](const row<T>& x, double t, const std::string& name) {
        measure(ours, x, t, name, computed(x, t));
        if (t >= 0.1 && t <= 7.3 && name.find("overflow") == std::string::npos &&
            name.find("far below") == std::string::npos) {
            measure(textbooks, x, t, name, textbook(x, t)); // elsewhere it overflows
        }
    });
    CHECK_MESSAGE(ours.softmax.ulp <= sd::softmax_max_ulp, ours.softmax.where);
    CHECK_MESSAGE(ours.log_softmax.ulp <= sd::log_softmax_max_ulp, ours.log_softmax.where);
    CHECK_MESSAGE(ours.logsumexp.ulp <= sd::logsumexp_max_ulp, ours.logsumexp.where);
    MESSAGE("softmax: ", ours.softmax.ulp, " ulp (", ours.softmax.where, "); textbook: ", textbooks.softmax.ulp, " (",
            textbooks.softmax.where, ")");
    MESSAGE("log_softmax: ", ours.log_softmax.ulp, " ulp (", ours.log_softmax.where,
            "); textbook: ", textbooks.log_softmax.ulp, " (", textbooks.log_softmax.where, ")");
    MESSAGE("logsumexp: ", ours.logsumexp.ulp, " ulp (", ours.logsumexp.where, "); textbook: ", textbooks.logsumexp.ulp,
            " (", textbooks.logsumexp.where, ")");
}

TEST_CASE_TEMPLATE("softmax, log_softmax, logsumexp: half and bfloat16 are float's results rounded once", T,
                   xtl::half_float, sd::bfloat16)
{
    // 2 ulp of float are at most 2^-12 ulp of a type with 13 bits less
    constexpr double rounded_once = 0.5 + 0x1p-12;
    accuracy a;
    for (const std::size_t length : {std::size_t{1}, std::size_t{2}, std::size_t{19}, std::size_t{300}}) {
        for (const auto& named : logit_rows<T>(length)) {
            const row<T> x = rounded_to<T>(named.values);
            for (const double t : {1.0, 0.75, 7.3}) {
                measure(a, x, t, named.name + ", " + std::to_string(length) + " logits, T = " + sd::detail::text(t),
                        computed(x, t));
            }
        }
    }
    CHECK_MESSAGE(a.softmax.ulp <= rounded_once, a.softmax.where);
    CHECK_MESSAGE(a.log_softmax.ulp <= rounded_once, a.log_softmax.where);
    CHECK_MESSAGE(a.logsumexp.ulp <= rounded_once, a.logsumexp.where);
}

#if !defined(__FAST_MATH__)
TEST_CASE_TEMPLATE("softmax: results below the normal range are within the bound as well", T, float, double)
{
    const double lowest = std::is_same_v<T, float> ? -103.9 : -744.9;
    const double highest = std::is_same_v<T, float> ? -87.4 : -708.5;
    row<T> x = xt::xtensor<T, 1>::from_shape({1000});
    for (std::size_t i = 0; i < x.size(); ++i) {
        x(i) = static_cast<T>(lowest + (highest - lowest) * static_cast<double>(i) / 999);
    }
    x(500) = 0;
    const auto y = sd::softmax(x);
    const exact_softmax exact(x, 1);
    for (std::size_t i = 0; i < x.size(); ++i) {
        const mpfr_number p = exact.probability(as_double(x(i)));
        CHECK(error_in_ulp<T>(as_double(y(i)), p, p) <= sd::softmax_max_ulp);
    }
}
#endif

TEST_CASE_TEMPLATE("softmax, log_softmax, logsumexp: NaN of either sign and +inf spoil their row", T, float, double,
                   xtl::half_float, sd::bfloat16)
{
    for (const double t : {1.0, 0.5, 3e8, 0.0, infinity}) {
        for (const double bad : {positive_nan, negative_nan, infinity}) {
            for (std::size_t at = 0; at < 37; ++at) {
                xt::xtensor<T, 2> x = xt::reshape_view(gaussian<T>(3 * 37, 0, 1, 1), {3, 37});
                const auto clean = sd::softmax(x, {.temperature = t});
                x(1, at) = from_double<T>(bad);
                const auto p = sd::softmax(x, {.temperature = t});
                const auto l = sd::log_softmax(x, {.temperature = t});
                for (std::size_t i = 0; i < 37; ++i) {
                    REQUIRE(is_nan(as_double(p(1, i))));
                    REQUIRE(is_nan(as_double(l(1, i))));
                    REQUIRE(same_bits(p(0, i), clean(0, i)));
                    REQUIRE(same_bits(p(2, i), clean(2, i)));
                }
                const double lse = as_double(sd::logsumexp(x, {.temperature = t})(1));
                CHECK((is_nan(bad) ? is_nan(lse) : is_positive_infinity(lse)));
            }
        }
    }
}

TEST_CASE_TEMPLATE("softmax: a -inf logit gets probability 0, its logarithm is -inf, and the others do not notice", T,
                   float, double, xtl::half_float, sd::bfloat16)
{
    const T none = from_double<T>(-infinity);
    for (const double t : {1.0, 0.3, 1e30, 0.0, infinity}) {
        const row<T> x = gaussian<T>(40, 0, 3, 2);
        row<T> kept = row<T>::from_shape({39});
        for (std::size_t at = 0; at < 40; ++at) {
            row<T> masked = x;
            masked(at) = none;
            for (std::size_t i = 0; i < 39; ++i) {
                kept(i) = x(i < at ? i : i + 1);
            }
            const auto p = sd::softmax(masked, {.temperature = t});
            const auto l = sd::log_softmax(masked, {.temperature = t});
            const auto expected = sd::softmax(kept, {.temperature = t});
            CHECK(same_bits(p(at), from_double<T>(0.0)));
            CHECK(is_negative_infinity(as_double(l(at))));
            CHECK(std::abs(as_double(p((at + 1) % 40)) - as_double(expected(at == 39 ? 0 : at))) <=
                  2 * as_double(expected(at == 39 ? 0 : at)) * std::exp2(-static_cast<double>(format_of<T>().digits)));
        }
    }
}

TEST_CASE("log_softmax: finite next to logits of the type's largest magnitude")
{
    constexpr float largest = std::numeric_limits<float>::max();
    const row<float> two = {largest, 1.6170910911646871e37f};
    const row<float> logarithms = sd::log_softmax(two);
    CHECK(logarithms(0) == 0);
    CHECK(logarithms(1) == -3.2411144e38f);
    constexpr double largest_double = std::numeric_limits<double>::max();
    const row<double> doubles = {largest_double, 0x1.8p970}; // the difference is halfway between two numbers
    CHECK(sd::log_softmax(doubles)(0) == 0);
    CHECK(sd::log_softmax(doubles)(1) == 0x1.8p970 - largest_double);
}

TEST_CASE_TEMPLATE("softmax: a row of -inf only is NaN, its logsumexp -inf", T, float, double, xtl::half_float,
                   sd::bfloat16)
{
    for (const double t : {1.0, 0.3, 0.0, infinity}) {
        for (const std::size_t length : {std::size_t{1}, std::size_t{5}, std::size_t{70}}) {
            const row<T> x = row<T>({length}, from_double<T>(-infinity));
            const auto p = sd::softmax(x, {.temperature = t});
            const auto l = sd::log_softmax(x, {.temperature = t});
            CHECK(std::all_of(p.begin(), p.end(), [](T y) { return is_nan(as_double(y)); }));
            CHECK(std::all_of(l.begin(), l.end(), [](T y) { return is_nan(as_double(y)); }));
            CHECK(is_negative_infinity(as_double(sd::logsumexp(x, {.temperature = t})())));
        }
    }
}

TEST_CASE_TEMPLATE("softmax: T = 0 shares among the maxima, T = inf among all above -inf", T, float, double)
{
    const T none = from_double<T>(-infinity);
    const row<T> x = {2, 5, none, 5, -1, 5};
    for (const double zero : {0.0, -0.0}) {
        CHECK(
            all_same_bits(sd::softmax(x, {.temperature = zero}), row<T>{0, T(1.0 / 3), 0, T(1.0 / 3), 0, T(1.0 / 3)}));
        const auto l = sd::log_softmax(x, {.temperature = zero});
        CHECK(l(1) == static_cast<T>(-std::log(3.0)));
        CHECK(is_negative_infinity(as_double(l(0))));
        CHECK(is_negative_infinity(as_double(l(2))));
    }
    CHECK(all_same_bits(sd::softmax(x, {.temperature = infinity}), row<T>{T(0.2), T(0.2), 0, T(0.2), T(0.2), T(0.2)}));
    const auto l = sd::log_softmax(x, {.temperature = infinity});
    CHECK(l(0) == static_cast<T>(-std::log(5.0)));
    CHECK(is_negative_infinity(as_double(l(2))));
    CHECK(sd::logsumexp(x, {.temperature = infinity})() == static_cast<T>(std::log(5.0)));
    CHECK(is_positive_infinity(as_double(sd::logsumexp(x, {.temperature = 0})())));
    CHECK(is_negative_infinity(as_double(sd::logsumexp(row<T>{-3, -2}, {.temperature = 0})())));
    CHECK(sd::logsumexp(row<T>{-3, 0, 0}, {.temperature = 0})() == static_cast<T>(std::log(2.0)));
}

TEST_CASE_TEMPLATE("softmax: a single logit has probability 1 and logarithm 0 at any temperature", T, float, double,
                   xtl::half_float, sd::bfloat16)
{
    for (const double t : {0.0, 1e-300, 0.1, 1.0, 1e300, infinity}) {
        for (const double logit : {-3e4, 0.0, 17.0}) {
            CHECK(as_double(sd::softmax(row<T>{from_double<T>(logit)}, {.temperature = t})(0)) == 1);
            CHECK(as_double(sd::log_softmax(row<T>{from_double<T>(logit)}, {.temperature = t})(0)) == 0);
        }
    }
}

TEST_CASE_TEMPLATE("softmax: shifting all logits exactly changes nothing beyond the bounds", T, float, double)
{
    std::mt19937_64 engine(3);
    row<T> x = row<T>::from_shape({333});
    for (auto& logit : x) {
        logit = static_cast<T>(static_cast<double>(engine() % 4096) / 256);
    }
    const auto same_within = [](const row<T>& a, const row<T>& b, double ulps) {
        for (std::size_t i = 0; i < a.size(); ++i) {
            CHECK(std::abs(a(i) - b(i)) <= ulps * std::abs(a(i)) * std::numeric_limits<T>::epsilon());
        }
    };
    for (const double shift : {512.0, -700.0, 3.0, 400.0}) {
        for (const double t : {1.0, 0.3, 7.3}) {
            const row<T> shifted = x + static_cast<T>(shift);
            const sd::softmax_options options{.temperature = t};
            same_within(sd::softmax(shifted, options), sd::softmax(x, options), 2 * sd::softmax_max_ulp);
            same_within(sd::log_softmax(shifted, options), sd::log_softmax(x, options), 2 * sd::log_softmax_max_ulp);
        }
    }
}

TEST_CASE_TEMPLATE("softmax: softmax(x, T) is softmax(x / T), to the bit where x / T is exact", T, float, double)
{
    const auto x = gaussian<T>(333, 0, 5, 4);
    for (const double t : {0x1p-20, 0.25, 2.0, 0x1p12}) {
        const row<T> divided = x / static_cast<T>(t);
        CHECK(all_same_bits(sd::softmax(x, {.temperature = t}), sd::softmax(divided)));
        CHECK(all_same_bits(sd::log_softmax(x, {.temperature = t}), sd::log_softmax(divided)));
        CHECK(sd::logsumexp(x, {.temperature = t})() == sd::logsumexp(divided)());
    }
}

TEST_CASE("softmax: entropy grows with the temperature")
{
    const auto x = gaussian<double>(100, 0, 4, 5);
    double previous = -1;
    for (double t = 0.01; t < 1e4; t *= 1.1) {
        const auto p = sd::softmax(x, {.temperature = t});
        const auto l = sd::log_softmax(x, {.temperature = t});
        double entropy = 0;
        for (std::size_t i = 0; i < x.size(); ++i) {
            entropy -= p(i) > 0 ? p(i) * l(i) : 0;
        }
        CHECK(entropy > previous);
        previous = entropy;
    }
    CHECK(previous <= std::log(100.0));
}

TEST_CASE_TEMPLATE("softmax: no probability exceeds 1, and one that outweighs all others is next to it", T, float,
                   double)
{
    for (int i = 0; i < 3000; ++i) {
        const auto logit = static_cast<T>(-40 + 0.0271828 * i);
        CHECK(sd::softmax(row<T>{T(logit - 17), logit, T(logit - 17)})(1) <= 1);
        const T alone = sd::softmax(row<T>{T(logit - 70), logit, T(logit - 70)})(1);
        CHECK(alone <= 1);
        CHECK(alone >= T(1) - std::numeric_limits<T>::epsilon());
    }
}

TEST_CASE_TEMPLATE("softmax: probabilities sum to 1", T, float, double)
{
    for (const std::size_t length : {std::size_t{1}, std::size_t{33}, std::size_t{1000}, std::size_t{100'000}}) {
        const auto p = sd::softmax(gaussian<T>(length, 0, 3, 6));
        long double sum = 0;
        for (const T probability : p) {
            sum += static_cast<long double>(probability);
        }
        // softmax_max_ulp of each probability are at most this share of it
        const double allowed = sd::softmax_max_ulp * static_cast<double>(std::numeric_limits<T>::epsilon());
        CHECK(std::abs(static_cast<double>(sum) - 1) <= allowed);
    }
}

TEST_CASE_TEMPLATE("softmax: equal logits get equal bits wherever they stand, other orders of a row at most an ulp", T,
                   float, double)
{
    row<T> x = drawn_logits<T>(517, 9, 3, 7);
    const auto p = sd::softmax(x);
    const auto l = sd::log_softmax(x);
    std::map<T, std::size_t> first;
    for (std::size_t i = 0; i < x.size(); ++i) {
        const std::size_t other = first.emplace(x(i), i).first->second;
        CHECK(same_bits(p(i), p(other)));
        CHECK(same_bits(l(i), l(other)));
    }
    std::mt19937_64 engine(8);
    for (int round = 0; round < 20; ++round) {
        std::shuffle(x.begin(), x.end(), engine);
        const auto q = sd::softmax(x);
        for (std::size_t i = 0; i < x.size(); ++i) {
            const T before = p(first.at(x(i)));
            CHECK(std::abs(q(i) - before) <= before * std::numeric_limits<T>::epsilon());
        }
    }
}

TEST_CASE("softmax: bad arguments are named, with what they were and what they must be")
{
    xt::xtensor<float, 2> x = xt::ones<float>({4, 6});
    CHECK(complaint_of([&] { sd::softmax(x, {.axis = 2}); }) ==
          "scaledot: axis was 2, must be in [-2, 1] for an array of rank 2");
    CHECK(complaint_of([&] { sd::log_softmax(x, {.axis = -3}); }).find("axis was -3") != std::string::npos);
    CHECK(complaint_of([&] { sd::logsumexp(x, {.axis = 2}); }).find("axis was 2") != std::string::npos);
    for (const double t : {-1.0, -1e-300, positive_nan, negative_nan, -infinity}) {
        CHECK(complaint_of([&] { sd::softmax(x, {.temperature = t}); }).find("temperature was") != std::string::npos);
        CHECK(complaint_of([&] { sd::log_softmax(x, {.temperature = t}); }).find("0 or more") != std::string::npos);
        CHECK(complaint_of([&] { sd::logsumexp(x, {.temperature = t}); }).find("temperature was") != std::string::npos);
    }
    xt::xtensor<float, 2> small = xt::ones<float>({4, 5});
    CHECK(complaint_of([&] { sd::softmax_into(small, x); }) ==
          "scaledot: the shape of out was (4, 5), must be (4, 6), that of x");
    xt::xtensor<float, 1> three = xt::ones<float>({3});
    CHECK(complaint_of([&] { sd::logsumexp_into(three, x); }) ==
          "scaledot: the shape of out was (3,), must be (4,), that of x without the axis");
    CHECK(complaint_of([&] { sd::softmax(xt::xarray<float>(1.f)); }).find("rank 0") != std::string::npos);
}
