// SPDX-License-Identifier: BSD-3-Clause
#include <scaledot/kernel/stream.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <memory>
#include <vector>

namespace sd = scaledot;
using namespace scaledot::kernel;
using arch = sd::native_architecture;

namespace {

template <class T>
using arithmetic = sd::detail::arithmetic_t<T>;

template <class T>
T number(std::size_t i)
{
    return to_storage<T>(static_cast<arithmetic<T>>(i) + static_cast<arithmetic<T>>(0.5));
}

} // namespace

TEST_CASE_TEMPLATE("load_first: the first lanes from memory, the others 0 or what is given, nothing read past them", T,
                   float, double, xtl::half_float, sd::bfloat16)
{
    using V = batch<arch, arithmetic<T>>;
    for (std::size_t count = 0; count <= V::size; ++count) {
        const auto x = std::make_unique<T[]>(count); // on the heap, for the address sanitizer to watch the end
        for (std::size_t i = 0; i < count; ++i) {
            x[i] = number<T>(i);
        }
        std::array<arithmetic<T>, V::size> found;
        load_first<arch, arithmetic<T>>(x.get(), count).store_unaligned(found.data());
        for (std::size_t i = 0; i < V::size; ++i) {
            CHECK(found[i] == (i < count ? to_arithmetic<arithmetic<T>>(number<T>(i)) : 0));
        }
        load_first<arch, arithmetic<T>>(x.get(), count, T(-2.5f)).store_unaligned(found.data());
        for (std::size_t i = 0; i < V::size; ++i) {
            CHECK(found[i] == (i < count ? to_arithmetic<arithmetic<T>>(number<T>(i)) : -2.5f));
        }
    }
}

TEST_CASE_TEMPLATE("store_first: the first lanes to memory, nothing written past them", T, float, double,
                   xtl::half_float, sd::bfloat16)
{
    using V = batch<arch, arithmetic<T>>;
    std::array<arithmetic<T>, V::size> values;
    for (std::size_t i = 0; i < V::size; ++i) {
        values[i] = to_arithmetic<arithmetic<T>>(number<T>(i));
    }
    for (std::size_t count = 0; count <= V::size; ++count) {
        const auto y = std::make_unique<T[]>(count);
        store_first<arch, arithmetic<T>>(y.get(), count, V::load_unaligned(values.data()));
        for (std::size_t i = 0; i < count; ++i) {
            CHECK(to_arithmetic<arithmetic<T>>(y[i]) == values[i]);
        }
    }
}

TEST_CASE_TEMPLATE("stream_vector: what store_vector writes, also for other types than the arithmetic's", T, float,
                   double, xtl::half_float, sd::bfloat16)
{
    const auto check = [&]<class A>(A) {
        using V = batch<arch, A>;
        alignas(64) std::array<T, V::size> streamed;
        alignas(64) std::array<T, V::size> stored;
        std::array<A, V::size> values;
        for (std::size_t i = 0; i < V::size; ++i) {
            values[i] = static_cast<A>(i) + static_cast<A>(0.1);
        }
        const V x = V::load_unaligned(values.data());
        stream_vector<arch, A>(streamed.data(), x);
        fence_stream();
        store_vector<arch, A>(stored.data(), x);
        for (std::size_t i = 0; i < V::size; ++i) {
            CHECK(to_arithmetic<A>(streamed[i]) == to_arithmetic<A>(stored[i]));
        }
    };
    check(arithmetic<T>{});
    check(double{});
}

TEST_CASE_TEMPLATE("elements_before_stream: fewer than a vector's, up to the first aligned for one", T, float, double,
                   xtl::half_float, sd::bfloat16)
{
    const auto check = [&]<class A>(A) {
        constexpr std::size_t size = lanes<arch, A>;
        alignas(128) std::array<T, 2 * size> y;
        for (std::size_t i = 0; i <= size; ++i) {
            CHECK(elements_before_stream<arch, A>(y.data() + i) == (size - i) % size);
        }
    };
    check(arithmetic<T>{});
    check(double{});
}
