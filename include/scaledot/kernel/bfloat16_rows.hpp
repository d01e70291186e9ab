// SPDX-License-Identifier: BSD-3-Clause
// The pass of kernel/norm_rows.hpp that writes a row, from bfloat16 to bfloat16, numbers at even and at odd places
// apart (kernel/bfloat16_pairs.hpp). gamma and beta are put in that order once a call.
#ifndef SCALEDOT_KERNEL_BFLOAT16_ROWS_HPP
#define SCALEDOT_KERNEL_BFLOAT16_ROWS_HPP

#include <scaledot/bfloat16.hpp>
#include <scaledot/detail/config.hpp>
#include <scaledot/kernel/bfloat16_pairs.hpp>
#include <scaledot/kernel/norm.hpp>
#include <scaledot/kernel/norm_rows.hpp>
#include <scaledot/kernel/partial_vectors.hpp>
#include <scaledot/kernel/shuffle.hpp>
#include <scaledot/kernel/simd.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <type_traits>

SCALEDOT_KERNELS_BEGIN
namespace scaledot::inline SCALEDOT_BUILD::kernel {

/// x, or the NaN that arithmetic makes where x is NaN.
template <class F>
[[gnu::always_inline]] inline F with_plain_nan(const F& x)
{
    using I = std::decay_t<decltype(as_bits(x))>;
    const I bits = as_bits(x);
    const auto is_nan = (bits & I(0x7fffffff)) > I(exponent_mask<float>);
    return from_bits<float>(select_bits(is_nan, I(std::bit_cast<std::int32_t>(quiet_nan<float>())), bits));
}

/// gamma or beta as bfloat16_pairs has it: of as many neighbours the ones at even places first. `target` has room for
/// whole pairs of vectors.
template <class Arch, class P>
void order_as_pairs(float* target, const P* parameter, std::size_t count)
{
    using F = batch<Arch, float>;
    constexpr std::size_t step = 2 * F::size;
    const auto order = [](float* to, const P* from) __attribute__((always_inline))
    {
        const F a = with_plain_nan(load_vector<Arch, float>(from));
        const F b = with_plain_nan(load_vector<Arch, float>(from + F::size));
        F(shuffles::every_other<F::size, 0>::apply(a.data, b.data)).store_aligned(to);
        F(shuffles::every_other<F::size, 1>::apply(a.data, b.data)).store_aligned(to + F::size);
    };
    std::size_t i = 0;
    for (; i + step <= count; i += step) {
        order(target + i, parameter + i);
    }
    if (i < count) {
        std::array<P, step> last{};
        std::copy_n(parameter + i, count - i, last.begin());
        order(target + i, last.data());
    }
}

/// row_output of kernel/norm_rows.hpp for rows of bfloat16, which take longer when they are streamed. y may be x
/// itself.
template <class Arch, bool Centred, class G, class B>
class bfloat16_output {
    using F = batch<Arch, float>;
    using pairs = bfloat16_pairs<Arch>;

public:
    static constexpr std::size_t step_size = pairs::size;

    /// gamma and beta, where they are not absent, are floats ordered as pairs.
    template <class Normalizations>
    [[gnu::always_inline]] bfloat16_output(bfloat16* y, const bfloat16* x, const G* gamma, const B* beta,
                                           std::size_t count, const Normalizations& n, std::size_t row)
        : y_(y), x_(x), gamma_(gamma), beta_(beta), count_(count), mean_(n.mean[row]), offset_(n.offset[row]),
          inverse_(n.inverse[row])
    {
    }

    [[gnu::always_inline]] bool has_step() const { return i_ + step_size <= count_; }

    [[gnu::always_inline]] void step()
    {
        result(pairs(x_ + i_)).store(y_ + i_);
        i_ += step_size;
    }

    [[gnu::always_inline]] void finish()
    {
        while (has_step()) {
            step();
        }
        if (i_ < count_) {
            result(pairs::first(x_ + i_, count_ - i_)).store_first(y_ + i_, count_ - i_);
        }
    }

private:
    [[gnu::always_inline]] pairs result(const pairs& x) const
    {
        return pairs(result(x.even(), i_), result(x.odd(), i_ + F::size));
    }

    [[gnu::always_inline]] F result(const F& x, std::size_t parameter) const
    {
        const auto load = [&](const float* p) __attribute__((always_inline))
        {
            return F::load_aligned(p + parameter);
        };
        return normalized<Centred, G, B>(x, mean_, inverse_, offset_, gamma_, beta_, load);
    }

    bfloat16* y_;
    const bfloat16* x_;
    const G* gamma_;
    const B* beta_;
    std::size_t count_;
    std::size_t i_ = 0;
    F mean_;
    F offset_;
    F inverse_;
};

} // namespace scaledot::inline SCALEDOT_BUILD::kernel
SCALEDOT_KERNELS_END

#endif
