// SPDX-License-Identifier: BSD-3-Clause
#include <scaledot/kernel/bfloat16_rows.hpp>
#include <scaledot/kernel/norm_rows.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <random>
#include <type_traits>
#include <vector>

#include <xtl/xhalf_float.hpp>

namespace sd = scaledot;
using namespace scaledot::kernel;
using arch = sd::native_architecture;
using F = batch<arch, float>;
using pairs = bfloat16_pairs<arch>;

namespace {

/// parameter as pairs, and room behind for no more than whole pairs of vectors.
template <class P>
std::unique_ptr<float[], void (*)(float*)> ordered(const std::vector<P>& parameter)
{
    const std::size_t room = (parameter.size() + pairs::size - 1) / pairs::size * pairs::size;
    std::unique_ptr<float[], void (*)(float*)> result(new (std::align_val_t{64}) float[room],
                                                      [](float* x) { ::operator delete[](x, std::align_val_t{64}); });
    order_as_pairs<arch>(result.get(), parameter.data(), parameter.size());
    return result;
}

} // namespace

TEST_CASE_TEMPLATE("order_as_pairs: of as many neighbours as two vectors hold the even ones come first", P, float,
                   xtl::half_float, sd::bfloat16)
{
    for (const std::size_t count : {std::size_t{1}, F::size, pairs::size, 3 * pairs::size - 1, 3 * pairs::size + 5}) {
        std::vector<P> parameter(count);
        for (std::size_t i = 0; i < count; ++i) {
            parameter[i] = P(static_cast<float>(i % 100));
        }
        const auto result = ordered(parameter);
        for (std::size_t i = 0; i < count; ++i) {
            const std::size_t in_pairs = i % pairs::size;
            const std::size_t place = i - in_pairs + in_pairs % 2 * F::size + in_pairs / 2;
            CHECK(result[place] == static_cast<float>(i % 100));
        }
    }
}

TEST_CASE("order_as_pairs: NaN comes without the payload that rounding would carry away")
{
    std::vector<float> parameter(pairs::size + 3, 2.0f);
    for (std::size_t i = 0; i < parameter.size(); i += 3) {
        parameter[i] = std::bit_cast<float>(i % 2 == 0 ? 0x7fffffffu : 0xff800001u);
    }
    const auto result = ordered(parameter);
    for (std::size_t i = 0; i < parameter.size(); ++i) {
        const std::size_t in_pairs = i % pairs::size;
        const auto bits = std::bit_cast<std::uint32_t>(result[i - in_pairs + in_pairs % 2 * F::size + in_pairs / 2]);
        CHECK(bits == (i % 3 == 0 ? 0x7fc00000u : std::bit_cast<std::uint32_t>(2.0f)));
    }
}

TEST_CASE("bfloat16_output: the bits of row_output at every length, in place or not")
{
    row_normalizations<arch> n{};
    n.mean[1] = 0.3f;
    n.offset[1] = 1e-9f;
    n.inverse[1] = 1.7f;
    std::mt19937 generator(2);
    std::normal_distribution<float> normal(0.3f, 0.6f);
    for (std::size_t count = 1; count <= 3 * pairs::size + 1; ++count) {
        const auto x = std::make_unique<sd::bfloat16[]>(count);
        const auto y = std::make_unique<sd::bfloat16[]>(count);
        const auto expected = std::make_unique<sd::bfloat16[]>(count);
        std::vector<float> gamma(count);
        std::vector<sd::bfloat16> beta(count);
        for (std::size_t i = 0; i < count; ++i) {
            x[i] = sd::bfloat16(i % 7 == 0 ? 0.0f : normal(generator));
            gamma[i] = i % 5 == 0 ? -0.0f : normal(generator);
            beta[i] = sd::bfloat16(i % 11 == 0 ? 0.0f : normal(generator));
        }
        const auto check = [&]<bool Centred, class G, class B>(const G* g, const B* b, const auto* ordered_gamma,
                                                               const auto* ordered_beta) {
            row_output<arch, Centred, store_kind::cached, sd::bfloat16, sd::bfloat16, G, B>(expected.get(), x.get(), g,
                                                                                            b, count, n, 1)
                .finish();
            const auto write = [&](sd::bfloat16* to, const sd::bfloat16* from) {
                bfloat16_output<arch, Centred, std::remove_cvref_t<decltype(*ordered_gamma)>,
                                std::remove_cvref_t<decltype(*ordered_beta)>>(to, from, ordered_gamma, ordered_beta,
                                                                              count, n, 1)
                    .finish();
                for (std::size_t i = 0; i < count; ++i) {
                    CHECK(to[i].bits() == expected[i].bits());
                }
            };
            write(y.get(), x.get());
            std::copy_n(x.get(), count, y.get());
            write(y.get(), y.get());
        };
        constexpr const absent* none = nullptr;
        const auto paired_gamma = ordered(gamma);
        const auto paired_beta = ordered(beta);
        check.template operator()<true>(gamma.data(), beta.data(), paired_gamma.get(), paired_beta.get());
        check.template operator()<true>(gamma.data(), none, paired_gamma.get(), none);
        check.template operator()<true>(none, none, none, none);
        check.template operator()<false>(gamma.data(), none, paired_gamma.get(), none);
        check.template operator()<false>(none, none, none, none);
    }
}
