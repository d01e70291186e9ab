// SPDX-License-Identifier: BSD-3-Clause
// Rows of numbers that hurt a careless normalisation, and other input for the norms' tests.
#ifndef SCALEDOT_TESTS_SUPPORT_NORM_ROWS_HPP
#define SCALEDOT_TESTS_SUPPORT_NORM_ROWS_HPP

#include <scaledot/detail/element.hpp>
#include <scaledot/detail/xtensor.hpp>
#include <scaledot/executor.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <exception>
#include <random>
#include <string>
#include <thread>
#include <type_traits>
#include <vector>

namespace test_support {

template <class T>
double as_double(T x)
{
    return static_cast<double>(static_cast<std::conditional_t<std::is_same_v<T, double>, double, float>>(x));
}

template <class T>
T from_double(double x)
{
    if constexpr (std::is_same_v<T, double>) {
        return x;
    } else {
        return T(static_cast<float>(x));
    }
}

/// Gaussian numbers rounded to T.
template <class T>
xt::xtensor<T, 1> gaussian(std::size_t length, double mean, double standard_deviation, unsigned seed)
{
    std::mt19937_64 engine(seed);
    std::normal_distribution<double> normal(mean, standard_deviation);
    xt::xtensor<T, 1> row = xt::xtensor<T, 1>::from_shape({length});
    for (auto& x : row) {
        x = from_double<T>(normal(engine));
    }
    return row;
}

template <class T>
xt::xtensor<T, 1> rounded_to(const xt::xtensor<double, 1>& values)
{
    xt::xtensor<T, 1> result = xt::xtensor<T, 1>::from_shape({values.size()});
    std::transform(values.begin(), values.end(), result.begin(), from_double<T>);
    return result;
}

struct named_row {
    std::string name;
    xt::xtensor<double, 1> values;
};

/// The largest power of two that T holds.
template <class T>
double large_power()
{
    return std::is_same_v<T, double> ? 0x1p1023 : std::is_same_v<T, xtl::half_float> ? 0x1p15 : 0x1p127;
}

template <class T>
double small_power()
{
    return std::is_same_v<T, double> ? 0x1p-1074 : std::is_same_v<T, xtl::half_float> ? 0x1p-24 : 0x1p-133;
}

/// Rows of that length, to be rounded to T, that make sums cancel, squares overflow or underflow, and means round
/// badly.
template <class T>
std::vector<named_row> hurtful_rows(std::size_t length)
{
    const auto row_of = [&](auto&& value) {
        xt::xtensor<double, 1> row = xt::xtensor<double, 1>::from_shape({length});
        for (std::size_t i = 0; i < length; ++i) {
            row(i) = value(i);
        }
        return row;
    };
    const bool wide = std::is_same_v<T, double> || std::is_same_v<T, float>;
    const auto seed = static_cast<unsigned>(length);
    std::vector<named_row> rows = {
        {"standard normal", gaussian<double>(length, 0, 1, seed)},
        {"mean 1e6 deviations", gaussian<double>(length, wide ? 1e6 : 1e3, 1, seed)},
        {"one outlier", row_of([](std::size_t i) { return i == 0 ? 30000.0 : std::sin(static_cast<double>(i)); })},
        {"alternating signs",
         row_of([](std::size_t i) { return (i % 2 ? -1000.0 : 1000.0) + static_cast<double>(i % 3); })},
        {"all equal but one", row_of([](std::size_t i) { return i == 0 ? 1.0078125 : 1.0; })},
        {"magnitudes far apart", row_of([](std::size_t i) { return std::exp2(static_cast<double>(i % 23) - 11); })},
        {"half the largest", row_of([](std::size_t i) { return large_power<T>() * (i % 3 ? 0.75 : -0.5); })},
    };
    if (wide) {
        rows.push_back({"1e30", gaussian<double>(length, 1e30, 1e29, seed)});
        rows.push_back({"1e-30", gaussian<double>(length, 0, 1e-30, seed)});
    }
#if !defined(__FAST_MATH__) // which makes the processor take subnormal numbers for 0
    rows.push_back({"subnormal", row_of([](std::size_t i) { return small_power<T>() * static_cast<double>(i % 5); })});
#endif
    return rows;
}

/// Runs each task on a thread of its own, the last first.
class thread_per_task : public scaledot::executor {
public:
    explicit thread_per_task(std::size_t concurrency) : concurrency_(concurrency) {}

    std::size_t concurrency() const override { return concurrency_; }

    void run(std::size_t tasks, void (*task)(void* context, std::size_t index), void* context) override
    {
        std::vector<std::thread> threads;
        for (std::size_t i = tasks; i-- > 0;) {
            threads.emplace_back(task, context, i);
        }
        for (auto& thread : threads) {
            thread.join();
        }
    }

private:
    std::size_t concurrency_;
};

/// What an exception thrown by f says; empty without one.
template <class F>
std::string complaint_of(F&& f)
{
    try {
        f();
    } catch (const std::exception& error) {
        return error.what();
    }
    return {};
}

} // namespace test_support

#endif
