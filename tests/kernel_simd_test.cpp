// SPDX-License-Identifier: BSD-3-Clause
#include <scaledot/kernel/choice.hpp>
#include <scaledot/kernel/partial_vectors.hpp>
#include <scaledot/kernel/simd.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <random>
#include <type_traits>
#include <vector>

namespace sd = scaledot;
using namespace scaledot::kernel;
using arch = sd::native_architecture;

namespace {

template <class T>
auto values_of(const batch<arch, T>& x)
{
    std::array<T, lanes<arch, T>> values;
    x.store_unaligned(values.data());
    return values;
}

/// 1, 2, 3, ...
template <class T>
batch<arch, T> counting()
{
    std::array<T, lanes<arch, T>> values;
    for (std::size_t i = 0; i < values.size(); ++i) {
        values[i] = static_cast<T>(i + 1);
    }
    return batch<arch, T>::load_unaligned(values.data());
}

} // namespace

TEST_CASE_TEMPLATE("simd: barrier gives back what it is given", T, float, double)
{
    CHECK(barrier(T(1.25)) == T(1.25));
    CHECK(values_of<T>(barrier(counting<T>())) == values_of<T>(counting<T>()));
}

TEST_CASE_TEMPLATE("simd: bit patterns go to vectors of integers and back", T, float, double)
{
    using I = batch<arch, bits_of<T>>;
    const I bits = as_bits(batch<arch, T>(T(-1.5)));
    std::array<bits_of<T>, lanes<arch, T>> stored;
    bits.store_unaligned(stored.data());
    for (const auto pattern : stored) {
        CHECK(pattern == std::bit_cast<bits_of<T>>(T(-1.5)));
    }
    CHECK(values_of<T>(from_bits<T>(as_bits(counting<T>()))) == values_of<T>(counting<T>()));
}

TEST_CASE_TEMPLATE("simd: select_bits takes the first where the comparison holds", T, float, double)
{
    using I = batch<arch, bits_of<T>>;
    const I a = as_bits(counting<T>());
    const I limit = as_bits(batch<arch, T>(T(2)));
    const auto chosen = values_of<T>(from_bits<T>(I(select_bits(a > limit, a, limit))));
    for (std::size_t i = 0; i < chosen.size(); ++i) {
        CHECK(chosen[i] == static_cast<T>(std::max<std::size_t>(i + 1, 2)));
    }
}

TEST_CASE_TEMPLATE("simd: count_where adds 1 where the comparison holds, zero_where leaves the other lanes", T, float,
                   double)
{
    using I = batch<arch, bits_of<T>>;
    const auto x = counting<T>();
    const auto which = x == batch<arch, T>(T(2));
    std::array<bits_of<T>, lanes<arch, T>> counts;
    count_where<T>(which, I(7)).store_unaligned(counts.data());
    const auto rest = values_of<T>(zero_where(which, x));
    for (std::size_t i = 0; i < counts.size(); ++i) {
        CHECK(counts[i] == (i == 1 ? 8 : 7));
        CHECK(rest[i] == (i == 1 ? T(0) : static_cast<T>(i + 1)));
    }
}

TEST_CASE_TEMPLATE("simd: multiply_add rounds once where it says so, twice elsewhere", T, float, double)
{
    using V = batch<arch, T>;
    std::mt19937_64 engine(2);
    std::uniform_real_distribution<T> uniform(-1, 1);
    for (int i = 0; i < 1000; ++i) {
        const T a = uniform(engine);
        const T b = uniform(engine);
        const T c = -a * b;
        const T expected = fused<V> ? std::fma(a, b, c) : barrier(T(barrier(T(a * b)) + c));
        CHECK(values_of<T>(multiply_add(V(a), V(b), V(c)))[0] == expected);
        const T negative = fused<V> ? std::fma(-a, b, -c) : barrier(T(barrier(T(-a * b)) - c));
        CHECK(values_of<T>(negative_multiply_add(V(a), V(b), V(-c)))[0] == negative);
    }
}

TEST_CASE_TEMPLATE("simd: shift_left multiplies bit patterns by powers of two, the top bits fall out", T, float, double)
{
    using I = bits_of<T>;
    using U = std::make_unsigned_t<I>;
    constexpr auto top = static_cast<I>(U{3} << (sizeof(I) * 8 - 2));
    const auto check = [&]<int Count>(std::integral_constant<int, Count>) {
        std::array<I, lanes<arch, T>> bits;
        for (std::size_t i = 0; i < bits.size(); ++i) {
            bits[i] = static_cast<I>(top ^ static_cast<I>(i + 1));
        }
        const auto shifted = shift_left<Count>(batch<arch, I>::load_unaligned(bits.data()));
        std::array<I, lanes<arch, T>> result;
        shifted.store_unaligned(result.data());
        for (std::size_t i = 0; i < bits.size(); ++i) {
            CHECK(result[i] == static_cast<I>(static_cast<U>(bits[i]) << Count));
        }
    };
    check(std::integral_constant<int, 1>{});
    check(std::integral_constant<int, 19>{});
    check(std::integral_constant<int, 23>{});
    check(std::integral_constant<int, sizeof(I) * 8 - 1>{});
}

TEST_CASE_TEMPLATE("simd: larger and smaller choose lane by lane, also between infinities", T, float, double)
{
    using V = batch<arch, T>;
    const std::vector<T> numbers = {barrier(negative_infinity<T>),
                                    std::numeric_limits<T>::lowest(),
                                    T(-1),
                                    T(0),
                                    std::numeric_limits<T>::min(),
                                    T(2),
                                    barrier(infinity<T>)}; // in order
    const auto bits = [](T x) { return std::bit_cast<bits_of<T>>(x); };
    for (std::size_t i = 0; i < numbers.size(); ++i) {
        for (std::size_t j = 0; j < numbers.size(); ++j) {
            for (std::size_t lane = 0; lane < lanes<arch, T>; ++lane) {
                std::array<T, lanes<arch, T>> left;
                left.fill(numbers[j]);
                left[lane] = numbers[i];
                const V a = V::load_unaligned(left.data());
                const V b(barrier(numbers[j]));
                for (std::size_t k = 0; k < left.size(); ++k) {
                    const std::size_t at = k == lane ? i : j;
                    REQUIRE(bits(values_of<T>(larger(a, b))[k]) == bits(numbers[std::max(at, j)]));
                    REQUIRE(bits(values_of<T>(smaller(a, b))[k]) == bits(numbers[std::min(at, j)]));
                }
            }
        }
    }
}

#if !defined(__FAST_MATH__) // which takes comparisons for symmetric
TEST_CASE_TEMPLATE("simd: larger and smaller give the second where either is NaN", T, float, double)
{
    using V = batch<arch, T>;
    const V nan(barrier(quiet_nan<T>()));
    for (const T x : {barrier(negative_infinity<T>), T(-1), T(3), barrier(infinity<T>)}) {
        for (const T value : values_of<T>(larger(nan, V(x)))) {
            CHECK(value == x);
        }
        for (const T value : values_of<T>(smaller(nan, V(x)))) {
            CHECK(value == x);
        }
        for (const T value : values_of<T>(larger(V(x), nan))) {
            CHECK(value != value);
        }
        for (const T value : values_of<T>(smaller(V(x), nan))) {
            CHECK(value != value);
        }
    }
}
#endif

TEST_CASE_TEMPLATE("simd: partial loads fill, partial stores leave alone, and neither goes past its end", T, float,
                   double)
{
    constexpr std::size_t size = lanes<arch, T>;
    for (std::size_t count = 0; count <= size; ++count) {
        const auto check = [&]<class S>(S) {
            // exactly `count` elements on the heap, for the address sanitizer to watch the end
            const auto source = std::make_unique<S[]>(count);
            for (std::size_t i = 0; i < count; ++i) {
                source[i] = S(static_cast<float>(i + 1));
            }
            const batch<arch, T> loaded = load_partial<arch, T>(source.get(), count, T(-7));
            const auto values = values_of<T>(loaded);
            for (std::size_t i = 0; i < size; ++i) {
                CHECK(values[i] == (i < count ? static_cast<T>(i + 1) : T(-7)));
            }
            const auto target = std::make_unique<S[]>(count);
            store_partial<arch, T>(target.get(), count, loaded);
            for (std::size_t i = 0; i < count; ++i) {
                CHECK(static_cast<float>(target[i]) == static_cast<float>(i + 1));
            }
        };
        check(T{});
        check(xtl::half_float{});
        check(sd::bfloat16{});
    }
}

TEST_CASE_TEMPLATE("simd: whole vectors are loaded and stored at any alignment", T, float, double)
{
    constexpr std::size_t size = lanes<arch, T>;
    std::vector<T> buffer(3 * size);
    for (std::size_t i = 0; i < buffer.size(); ++i) {
        buffer[i] = static_cast<T>(i);
    }
    for (std::size_t shift = 0; shift <= size; ++shift) {
        const batch<arch, T> x = load_vector<arch, T>(buffer.data() + shift);
        CHECK(values_of<T>(x)[0] == static_cast<T>(shift));
        std::vector<T> target(3 * size, T(-1));
        store_vector<arch, T>(target.data() + shift, x);
        for (std::size_t i = 0; i < target.size(); ++i) {
            CHECK(target[i] == (i >= shift && i < shift + size ? static_cast<T>(i) : T(-1)));
        }
    }
}

TEST_CASE("simd: halves of floats are widened exactly, the lower one first, and narrowed with one rounding")
{
    using D = sd::kernel::batch<sd::native_architecture, double>;
    using F = sd::kernel::batch<sd::native_architecture, float>;
    std::array<float, F::size> values;
    for (std::size_t i = 0; i < values.size(); ++i) {
        values[i] = 0.1f * static_cast<float>(i) - 1;
    }
    const auto wide = sd::kernel::widen_halves(F::load_unaligned(values.data()));
    const D third(1.0 / 3);
    const F narrow = sd::kernel::narrow_halves(std::array<D, 2>{wide[0] + third, wide[1] + third});
    for (std::size_t i = 0; i < values.size(); ++i) {
        CHECK(wide[i / D::size].get(i % D::size) == static_cast<double>(values[i]));
        CHECK(narrow.get(i) == static_cast<float>(static_cast<double>(values[i]) + 1.0 / 3));
    }
}

TEST_CASE_TEMPLATE("simd: infinities and NaN are what their bits say, whatever the compiler assumes", T, float, double)
{
    const auto bits = [](T x) { return std::bit_cast<bits_of<T>>(barrier(x)); };
    CHECK(bits(infinity<T>) == exponent_mask<T>);
    CHECK(bits(negative_infinity<T>) == negative_infinity_bits<T>);
    CHECK((bits(quiet_nan<T>()) & exponent_mask<T>) == exponent_mask<T>);
    CHECK(bits(quiet_nan<T>()) > exponent_mask<T>);
}
