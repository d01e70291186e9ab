// SPDX-License-Identifier: BSD-3-Clause
// Softmax, its logarithms and logsumexp, LayerNorm and RMSNorm of any shapes, strides, options and numbers either are
// refused for a reason, or are within their bounds of a slow reference in 128 bits.
#include <scaledot/layer_norm.hpp>
#include <scaledot/rms_norm.hpp>
#include <scaledot/softmax.hpp>

#include "choices.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <vector>

namespace sd = scaledot;
using namespace test_support;

namespace {

using wide = __float128;

/// A view of rank 3 with gaps, backwards or transposed, over its own memory.
template <class T>
struct strided_cube {
    std::vector<T> memory;
    std::array<std::size_t, 3> shape;
    std::array<std::ptrdiff_t, 3> strides{};
    std::ptrdiff_t first = 0;

    explicit strided_cube(choices& input)
    {
        shape = {input.below(3), 1 + input.below(9), 1 + input.below(input.one_in(4) ? 250 : 40)};
        const std::array<std::size_t, 3> order =
            input.one_in(4) ? std::array<std::size_t, 3>{2, 1, 0} : std::array<std::size_t, 3>{0, 1, 2};
        std::ptrdiff_t step = input.one_in(4) ? 2 : 1;
        for (std::size_t i = 3; i-- > 0;) {
            strides[order[i]] = step;
            step = step * static_cast<std::ptrdiff_t>(std::max<std::size_t>(shape[order[i]], 1)) +
                   static_cast<std::ptrdiff_t>(input.below(3));
        }
        memory.resize(static_cast<std::size_t>(step) + 8);
        const double scale = std::pow(10.0, static_cast<double>(input.below(7)) - 3);
        const double shift = input.one_in(4) ? 100 * scale * static_cast<double>(input.below(100)) : 0;
        std::mt19937 engine(static_cast<unsigned>(input.below(256)));
        for (T& x : memory) {
            x = static_cast<T>(scale * (static_cast<double>(engine() % 4096) / 1024 - 2) + shift);
        }
        for (std::size_t i = input.below(8); i > 0; --i) {
            memory[(input.below(256) * 256 + input.below(256)) % memory.size()] = static_cast<T>(input.number());
        }
        const std::size_t axis = input.below(6);
        if (axis < 3 && shape[axis] > 1) {
            first = strides[axis] * static_cast<std::ptrdiff_t>(shape[axis] - 1);
            strides[axis] = -strides[axis];
        }
        for (std::size_t i = 0; i < 3; ++i) {
            strides[i] = shape[i] == 1 ? 0 : strides[i];
        }
    }

    /// The elements of the row along `axis` at the index of one of them.
    std::vector<double> row(std::array<std::size_t, 3> index, std::size_t axis) const
    {
        std::vector<double> result;
        for (index[axis] = 0; index[axis] < shape[axis]; ++index[axis]) {
            std::ptrdiff_t place = first;
            for (std::size_t i = 0; i < 3; ++i) {
                place += static_cast<std::ptrdiff_t>(index[i]) * strides[i];
            }
            result.push_back(static_cast<double>(memory[static_cast<std::size_t>(place)]));
        }
        return result;
    }

    auto view() const
    {
        return xt::adapt(memory.data() + first, shape[0] * shape[1] * shape[2], xt::no_ownership(), shape, strides);
    }
};

/// The distance of a number from the next.
template <class T>
wide spacing(wide x)
{
    const T magnitude = std::abs(static_cast<T>(x));
    return static_cast<wide>(std::nextafter(magnitude, std::numeric_limits<T>::infinity())) -
           static_cast<wide>(magnitude);
}

template <class T>
bool is_out_of_range(wide x)
{
    const auto largest = static_cast<wide>(std::numeric_limits<T>::max()) * (1 - 1e-6);
    return x > largest || x < -largest;
}

/// Fails when a number is further from the exact one than `bound` of its spacing at `magnitude`.
template <class T>
void compare(const char* what, T got, wide exact, wide magnitude, double bound)
{
    if (is_out_of_range<T>(exact) || is_out_of_range<T>(magnitude)) {
        return;
    }
    const wide error = static_cast<wide>(got) > exact ? static_cast<wide>(got) - exact : exact - static_cast<wide>(got);
    if (!(error <= static_cast<wide>(bound) * spacing<T>(magnitude))) {
        fail(std::string(what) + " is " + std::to_string(got) + ", exactly " +
             std::to_string(static_cast<long double>(exact)));
    }
}

void require_nan(const char* what, bool is_nan)
{
    if (!is_nan) {
        fail(std::string(what) + " must be NaN");
    }
}

bool is_poisoned(const std::vector<double>& row)
{
    const auto is_bad = [](double x) { return std::isnan(x) || (std::isinf(x) && x > 0); };
    const auto is_nothing = [](double x) { return std::isinf(x) && x < 0; };
    return std::any_of(row.begin(), row.end(), is_bad) || std::all_of(row.begin(), row.end(), is_nothing);
}

/// e^x for x <= 0, of more than long double's digits: its own result corrected by two terms of what it left.
wide exp_of(wide x)
{
    const auto whole = static_cast<long double>(x);
    const wide rest = x - static_cast<wide>(whole);
    return static_cast<wide>(std::exp(whole)) * (1 + rest + rest * rest / 2);
}

template <class T>
void check_softmax(choices& input)
{
    constexpr std::array<double, 8> temperatures = {1, 1, 1, 0.125, 0.3, 7, 1e-3, 1e4};
    const strided_cube<T> cube(input);
    const auto x = cube.view();
    const std::ptrdiff_t axis = static_cast<std::ptrdiff_t>(input.below(8)) - 4;
    double temperature = temperatures[input.below(8)];
    if (input.one_in(16)) {
        temperature = -temperature;
    }
    const bool valid = axis >= -3 && axis < 3 && temperature > 0;
    const sd::softmax_options options{.axis = axis, .temperature = temperature};
    xt::xtensor<T, 3> p, l;
    if (!computed_as_is_due(valid, [&] {
            p = sd::softmax(x, options);
            l = sd::log_softmax(x, options);
        })) {
        return;
    }
    const auto along = static_cast<std::size_t>(axis < 0 ? axis + 3 : axis);
    std::array<std::size_t, 3> index;
    for (index[0] = 0; index[0] < cube.shape[0]; ++index[0]) {
        for (index[1] = 0; index[1] < cube.shape[1]; ++index[1]) {
            for (index[2] = 0; index[2] < cube.shape[2]; ++index[2]) {
                const std::vector<double> row = cube.row(index, along);
                const T got = p(index[0], index[1], index[2]);
                if (is_poisoned(row)) {
                    require_nan("softmax", std::isnan(got));
                    require_nan("log_softmax", std::isnan(l(index[0], index[1], index[2])));
                    continue;
                }
                const double largest = *std::max_element(row.begin(), row.end());
                const double own = row[index[along]];
                wide sum = 0;
                for (const double logit : row) {
                    sum += std::isinf(logit)
                               ? 0
                               : exp_of((static_cast<wide>(logit) - static_cast<wide>(largest)) / temperature);
                }
                const wide exponent = (static_cast<wide>(own) - static_cast<wide>(largest)) / temperature;
                const wide exact = std::isinf(own) ? 0 : exp_of(exponent) / sum;
                compare("a probability", got, exact, exact, sd::softmax_max_ulp);
                if (!std::isinf(own)) {
                    // The reference's logarithm is long double's, so its own error counts where little is left of it.
                    const wide logarithm = exponent - static_cast<wide>(std::log(static_cast<long double>(sum)));
                    const wide known = static_cast<wide>(std::numeric_limits<long double>::epsilon()) * 64;
                    const wide size = logarithm < 0 ? -logarithm : logarithm;
                    const wide resolved = size > known / std::numeric_limits<T>::epsilon() ? size : wide(1);
                    compare("a logarithm", l(index[0], index[1], index[2]), logarithm, resolved,
                            sd::log_softmax_max_ulp);
                }
            }
        }
    }
}

/// The square root by Newton's method from long double's.
wide root_of(wide x)
{
    const wide start = static_cast<wide>(std::sqrt(static_cast<long double>(x)));
    return start == 0 ? start : (start + x / start) / 2;
}

template <class T>
void check_norms(choices& input)
{
    const strided_cube<T> cube(input);
    const auto x = cube.view();
    const bool centred = input.one_in(2);
    const double epsilon = input.one_in(16) ? -1 : input.one_in(4) ? 0 : 1e-5;
    const std::size_t length = cube.shape[2] + (input.one_in(32) ? 1 : 0);
    xt::xtensor<T, 1> gamma = xt::xtensor<T, 1>::from_shape({length}), beta = gamma;
    for (std::size_t i = 0; i < length; ++i) {
        gamma(i) = static_cast<T>(static_cast<double>(input.below(256)) / 64 - 2);
        beta(i) = centred ? static_cast<T>(static_cast<double>(input.below(256)) / 64 - 2) : T(0);
    }
    const bool valid = epsilon >= 0 && length == cube.shape[2];
    xt::xtensor<T, 3> y;
    if (!computed_as_is_due(valid, [&] {
            y = centred ? sd::layer_norm(x, gamma, beta, {.epsilon = epsilon})
                        : sd::rms_norm(x, gamma, {.epsilon = epsilon});
        })) {
        return;
    }
    for (std::size_t a = 0; a < cube.shape[0]; ++a) {
        for (std::size_t b = 0; b < cube.shape[1]; ++b) {
            const std::vector<double> row = cube.row({a, b, 0}, 2);
            const bool finite = std::all_of(row.begin(), row.end(), [](double v) { return std::isfinite(v); });
            wide mean = 0, square = 0;
            for (const double value : row) {
                mean += finite && centred ? static_cast<wide>(value) / row.size() : 0;
            }
            for (const double value : row) {
                const wide distance = finite ? static_cast<wide>(value) - mean : 0;
                square += distance * distance / row.size();
            }
            const wide spread = square + static_cast<wide>(epsilon);
            for (std::size_t c = 0; c < row.size(); ++c) {
                if (!finite || spread == 0) {
                    require_nan("a norm", std::isnan(y(a, b, c)));
                    continue;
                }
                const wide scaled = (static_cast<wide>(row[c]) - mean) / root_of(spread) * static_cast<wide>(gamma(c));
                const wide exact = scaled + static_cast<wide>(beta(c));
                const auto size = [](wide v) { return v < 0 ? -v : v; };
                const wide magnitude = std::max({size(exact), size(scaled), size(static_cast<wide>(beta(c)))});
                compare("a norm", y(a, b, c), exact, magnitude, sd::layer_norm_max_ulp);
            }
        }
    }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size)
{
    choices input(data, size);
    switch (input.below(4)) {
    case 0:
        check_softmax<float>(input);
        break;
    case 1:
        check_softmax<double>(input);
        break;
    case 2:
        check_norms<float>(input);
        break;
    default:
        check_norms<double>(input);
        break;
    }
    return 0;
}
