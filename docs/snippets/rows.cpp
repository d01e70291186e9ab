// SPDX-License-Identifier: BSD-3-Clause
// Snippets of the documentation: softmax and the norms, as PyTorch and ONNX spell them.
#include <scaledot/scaledot.hpp>

#include "support.hpp"

#include <limits>

namespace {

constexpr double close = 1e-5;

void softmax()
{
    const auto logits = numbers<3>({2, 5, 7});
    // begin: softmax
    auto p = scaledot::softmax(logits);                      // F.softmax(logits, dim=-1), Softmax(axis=-1)
    auto over_rows = scaledot::softmax(logits, {.axis = 1}); // F.softmax(logits, dim=1)
    auto log_p = scaledot::log_softmax(logits);              // F.log_softmax(logits, dim=-1), LogSoftmax
    auto lse = scaledot::logsumexp(logits);                  // torch.logsumexp(logits, dim=-1), [2, 5]

    // F.softmax(logits / 0.7, dim=-1), without a rounding between
    auto cooler = scaledot::softmax(logits, {.temperature = 0.7});

    xt::xtensor<float, 3> in_place = logits;
    scaledot::softmax_into(in_place, in_place);
    // end: softmax
    for (std::size_t i = 0; i < 2; ++i) {
        for (std::size_t j = 0; j < 5; ++j) {
            double sum = 0, cooler_sum = 0;
            for (std::size_t c = 0; c < 7; ++c) {
                sum += std::exp(static_cast<double>(logits(i, j, c)));
                cooler_sum += std::exp(static_cast<double>(logits(i, j, c)) / 0.7);
            }
            CHECK(std::abs(static_cast<double>(lse(i, j)) - std::log(sum)) < close);
            for (std::size_t c = 0; c < 7; ++c) {
                const auto z = static_cast<double>(logits(i, j, c));
                CHECK(std::abs(static_cast<double>(p(i, j, c)) - std::exp(z) / sum) < close);
                CHECK(std::abs(static_cast<double>(log_p(i, j, c)) - (z - std::log(sum))) < close);
                CHECK(std::abs(static_cast<double>(cooler(i, j, c)) - std::exp(z / 0.7) / cooler_sum) < close);
            }
        }
        for (std::size_t c = 0; c < 7; ++c) {
            double sum = 0;
            for (std::size_t j = 0; j < 5; ++j) {
                sum += static_cast<double>(over_rows(i, j, c));
            }
            CHECK(std::abs(sum - 1) < close);
        }
    }
    CHECK(in_place == p);
}

void layer_norm()
{
    const auto x = numbers<3>({2, 3, 8});
    const auto weight = numbers<2>({3, 8});
    const auto bias = numbers<2>({3, 8});
    const auto weight_of_last = numbers<1>({8});
    // begin: layer_norm
    // F.layer_norm(x, normalized_shape=(3, 8), weight, bias, eps=1e-5): the last two axes, from axis -2 on
    auto y = scaledot::layer_norm(x, weight, bias, {.axis = -2, .epsilon = 1e-5});

    // F.layer_norm(x, (8,)): without weight and bias
    auto normalised = scaledot::layer_norm(x);

    // LayerNormalization with all three outputs: Y, Mean [2, 3, 1] and InvStdDev [2, 3, 1]
    auto [Y, Mean, InvStdDev] = scaledot::layer_norm_with_statistics(x, weight_of_last);
    // end: layer_norm
    for (std::size_t i = 0; i < 2; ++i) {
        double mean = 0, square = 0;
        for (std::size_t j = 0; j < 24; ++j) {
            mean += static_cast<double>(x(i, j / 8, j % 8)) / 24;
        }
        for (std::size_t j = 0; j < 24; ++j) {
            square += std::pow(static_cast<double>(x(i, j / 8, j % 8)) - mean, 2) / 24;
        }
        for (std::size_t j = 0; j < 24; ++j) {
            const double expected = (static_cast<double>(x(i, j / 8, j % 8)) - mean) / std::sqrt(square + 1e-5) *
                                        static_cast<double>(weight(j / 8, j % 8)) +
                                    static_cast<double>(bias(j / 8, j % 8));
            CHECK(std::abs(static_cast<double>(y(i, j / 8, j % 8)) - expected) < close);
        }
    }
    CHECK(Mean.shape(2) == 1);
    const auto reconstructed = (x(1, 2, 3) - Mean(1, 2, 0)) * InvStdDev(1, 2, 0);
    CHECK(std::abs(static_cast<double>(normalised(1, 2, 3) - reconstructed)) < close);
    CHECK(std::abs(static_cast<double>(Y(1, 2, 3) - reconstructed * weight_of_last(3))) < close);
}

void rms_norm()
{
    const auto x = numbers<2>({4, 16});
    const auto weight = numbers<1>({16});
    // begin: rms_norm
    // F.rms_norm(x, (16,), weight, eps=1e-6), RMSNormalization(axis=-1, epsilon=1e-6)
    auto y = scaledot::rms_norm(x, weight, {.epsilon = 1e-6});

    // F.rms_norm(x, (16,), weight): eps=None is the machine epsilon of x's type there, and 1e-5 here
    auto as_torch = scaledot::rms_norm(x, weight, {.epsilon = std::numeric_limits<float>::epsilon()});
    // end: rms_norm
    for (std::size_t i = 0; i < 4; ++i) {
        double square = 0;
        for (std::size_t c = 0; c < 16; ++c) {
            square += std::pow(static_cast<double>(x(i, c)), 2) / 16;
        }
        for (std::size_t c = 0; c < 16; ++c) {
            const double scaled = static_cast<double>(x(i, c)) * static_cast<double>(weight(c));
            CHECK(std::abs(static_cast<double>(y(i, c)) - scaled / std::sqrt(square + 1e-6)) < close);
            CHECK(std::abs(static_cast<double>(as_torch(i, c)) - scaled / std::sqrt(square + 0x1p-23)) < close);
        }
    }
}

} // namespace

int main()
{
    softmax();
    layer_norm();
    rms_norm();
    return failures;
}
