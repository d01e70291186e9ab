// SPDX-License-Identifier: BSD-3-Clause
// The exact softmax, log_softmax and logsumexp of a row, the textbook's in the row's own precision, and rows that hurt.
#ifndef SCALEDOT_TESTS_SUPPORT_SOFTMAX_ORACLE_HPP
#define SCALEDOT_TESTS_SUPPORT_SOFTMAX_ORACLE_HPP

#include "support/mpfr_number.hpp"
#include "support/norm_rows.hpp"

#include <scaledot/detail/check.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <map>
#include <random>
#include <string>
#include <type_traits>
#include <vector>

namespace test_support {

template <class T>
using row = xt::xtensor<T, 1>;

/// exp(x / T) / sum exp(x / T) in 384 bits and MPFR's exponents, without the maximum wherever these reach (|x / T| up
/// to 1e9). Logits occur once with a multiplicity. Temperatures are positive and finite, logits finite.
class exact_softmax {
public:
    template <class Row>
    exact_softmax(const Row& row, double temperature) : temperature_(temperature)
    {
        for (const auto x : row) {
            ++entries_[as_double(x)].count;
        }
        const double maximum = entries_.rbegin()->first;
        const double reach = std::max(std::abs(entries_.begin()->first), std::abs(maximum));
        shift_ = reach / temperature <= 1e9 ? mpfr_number(0) : mpfr_number(maximum);
        mpfr_number others(0);
        for (auto& [x, entry] : entries_) {
            entry.weight = exp((mpfr_number(x) - shift_) / temperature_);
            others += entry.weight * mpfr_number(x == maximum ? entry.count - 1 : entry.count);
        }
        const mpfr_number& one = entries_.rbegin()->second.weight;
        sum_ = others + one;
        logarithm_of_sum_ = log(sum_);
        logarithm_of_largest_ = mpfr_number(0) - log1p(others / one);
    }

    mpfr_number probability(double x) const { return entries_.at(x).weight / sum_; }

    /// x / T - ln sum, but of the largest -ln(1 + the others' weights): there the difference cancels.
    mpfr_number logarithm(double x) const
    {
        return x == entries_.rbegin()->first ? logarithm_of_largest_
                                             : (mpfr_number(x) - shift_) / temperature_ - logarithm_of_sum_;
    }

    mpfr_number logsumexp() const { return shift_ / temperature_ + logarithm_of_sum_; }
    mpfr_number largest_exponent() const { return mpfr_number(entries_.rbegin()->first) / temperature_; }

private:
    struct logit {
        double count = 0;
        mpfr_number weight;
    };

    std::map<double, logit> entries_;
    mpfr_number temperature_;
    mpfr_number shift_;
    mpfr_number sum_;
    mpfr_number logarithm_of_sum_;
    mpfr_number logarithm_of_largest_;
};

/// The largest error met and where.
struct worst_case {
    double ulp = 0;
    std::string where;

    /// `error` of a result that is NaN counts as infinitely wrong.
    void meet(double error, bool valid, const std::string& description, std::size_t index)
    {
        if (!valid || error > ulp) {
            ulp = valid ? error : 1e300;
            where = description + ", element " + std::to_string(index);
        }
    }
};

/// Rows of that length, to be rounded to T, that make a softmax overflow, cancel, tie or lose its small terms.
template <class T>
std::vector<named_row> logit_rows(std::size_t length)
{
    const auto row_of = [&](auto&& value) {
        xt::xtensor<double, 1> row = xt::xtensor<double, 1>::from_shape({length});
        for (std::size_t i = 0; i < length; ++i) {
            row(i) = value(i);
        }
        return row;
    };
    const auto seed = static_cast<unsigned>(length);
    std::mt19937_64 engine(seed);
    std::uniform_real_distribution<double> uniform(-10, 10);
    const double largest = large_power<T>() * 1.75;
    std::vector<named_row> rows = {
        {"Gaussian, deviation 1e-3", gaussian<double>(length, 0, 1e-3, seed)},
        {"Gaussian, deviation 1", gaussian<double>(length, 0, 1, seed)},
        {"Gaussian, deviation 30", gaussian<double>(length, 0, 30, seed)},
        {"Gaussian, deviation 1e3", gaussian<double>(length, 0, 1e3, seed)},
        {"uniform in [-10, 10]", row_of([&](std::size_t) { return uniform(engine); })},
        {"one outlier",
         row_of([&](std::size_t i) { return i == length / 2 ? 60000.0 : std::sin(static_cast<double>(i)); })},
        {"equal", row_of([](std::size_t) { return -1.1; })},
        {"two values", row_of([](std::size_t i) { return i % 3 ? 4.3 : -1.7; })},
        {"alternating signs",
         row_of([](std::size_t i) { return (i % 2 ? -1 : 1) * (40 + 0.1 * static_cast<double>(i % 17)); })},
        {"nearly overflowing", row_of([&](std::size_t i) { return largest * (i % 3 ? 1 : -1) * (i % 5 ? 1 : 0.75); })},
        {"far below 0", row_of([&](std::size_t i) { return -largest * (i % 7 ? 1 : 0.5); })},
        {"magnitudes far apart", row_of([](std::size_t i) { return std::exp2(static_cast<double>(i % 29) - 14); })},
    };
#if !defined(__FAST_MATH__) // which makes the processor take subnormal numbers for 0
    rows.push_back({"subnormal", row_of([](std::size_t i) { return small_power<T>() * static_cast<double>(i % 5); })});
#endif
    return rows;
}

/// `length` logits drawn from `distinct` Gaussian ones, so that the oracle stays quick.
template <class T>
xt::xtensor<T, 1> drawn_logits(std::size_t length, std::size_t distinct, double deviation, unsigned seed)
{
    const auto values = gaussian<T>(distinct, 0, deviation, seed);
    std::mt19937_64 engine(seed + 1);
    xt::xtensor<T, 1> row = xt::xtensor<T, 1>::from_shape({length});
    for (auto& x : row) {
        x = values(engine() % distinct);
    }
    return row;
}

template <class T>
bool same_bits(T a, T b)
{
    return std::memcmp(&a, &b, sizeof(T)) == 0;
}

/// What a row gives: by the library, or by others.
template <class T>
struct results {
    row<T> probabilities;
    row<T> logarithms;
    T logsumexp;
};

/// The textbook's formulas in the row's own precision: maximum, std::exp, one sum, std::log.
template <class T>
results<T> textbook(const row<T>& x, double temperature)
{
    const T divisor = static_cast<T>(temperature);
    const T maximum = *std::max_element(x.begin(), x.end());
    results<T> r{x, x, 0};
    T sum = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
        r.probabilities(i) = std::exp((x(i) - maximum) / divisor);
        sum += r.probabilities(i);
    }
    for (std::size_t i = 0; i < x.size(); ++i) {
        r.probabilities(i) /= sum;
        r.logarithms(i) = (x(i) - maximum) / divisor - std::log(sum);
    }
    r.logsumexp = maximum / divisor + std::log(sum);
    return r;
}

struct accuracy {
    worst_case softmax;
    worst_case log_softmax;
    worst_case logsumexp;
};

template <class T>
double largest_of()
{
    return std::is_same_v<T, xtl::half_float>      ? 65504.0
           : std::is_same_v<T, scaledot::bfloat16> ? 0x1.fep127
           : std::is_same_v<T, float>              ? 0x1.fffffep127
                                                   : 0x1.fffffffffffffp1023;
}

/// Counts an error, where the exact value is normal; where it overflows, the result must be the infinity of its sign.
template <class T>
void meet(worst_case& worst, T result, const mpfr_number& exact, const mpfr_number& reference, const std::string& name,
          std::size_t index)
{
    const double value = as_double(result);
    if (mpfr_number(largest_of<T>()) < abs(exact)) {
        worst.meet(0,
                   exact < mpfr_number(0) ? scaledot::detail::is_negative_infinity(value)
                                          : scaledot::detail::is_positive_infinity(value),
                   name, index);
    } else if (!(abs(reference) < smallest_normal<T>())) {
        worst.meet(error_in_ulp<T>(value, exact, reference), scaledot::detail::is_finite(value), name, index);
    }
}

/// Equal logits with equal results are looked at once.
template <class T>
void measure(accuracy& a, const row<T>& x, double temperature, const std::string& name, const results<T>& r)
{
    const exact_softmax exact(x, temperature);
    std::map<double, std::size_t> seen;
    for (std::size_t i = 0; i < x.size(); ++i) {
        const double logit = as_double(x(i));
        const auto [first, is_new] = seen.emplace(logit, i);
        if (!is_new && same_bits(r.probabilities(i), r.probabilities(first->second)) &&
            same_bits(r.logarithms(i), r.logarithms(first->second))) {
            continue;
        }
        const mpfr_number probability = exact.probability(logit);
        const mpfr_number logarithm = exact.logarithm(logit);
        meet(a.softmax, r.probabilities(i), probability, probability, name, i);
        meet(a.log_softmax, r.logarithms(i), logarithm, logarithm, name, i);
    }
    const mpfr_number lse = exact.logsumexp();
    meet(a.logsumexp, r.logsumexp, lse, std::max(abs(lse), abs(exact.largest_exponent())), name, 0);
}

} // namespace test_support

#endif
