// SPDX-License-Identifier: BSD-3-Clause
#include <scaledot/detail/scratch.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <initializer_list>
#include <limits>
#include <memory>
#include <new>
#include <numeric>
#include <optional>
#include <stdexcept>
#include <thread>
#include <vector>

using scaledot::detail::aligned_buffer;
using scaledot::detail::bytes_apart;
using scaledot::detail::scratch;
using scaledot::detail::scratch_lease;

namespace {

/// Cache lines allocated and not yet freed, and all allocations of them.
std::atomic<std::ptrdiff_t> live_lines = 0;
std::atomic<std::size_t> allocations = 0;

bool is_on_cache_line(const void* memory)
{
    return reinterpret_cast<std::uintptr_t>(memory) % 64 == 0;
}

/// Takes arrays of several types and sizes, as an operation would.
struct arrays {
    explicit arrays(scratch& memory)
        : floats(memory.take<float>(7, 5)), bytes(memory.take<unsigned char>(1, 1)), none(memory.take<double>(3, 0)),
          doubles(memory.take<double>(1, 8)), halves(memory.take<std::uint16_t>(33, 1))
    {
    }
    float* floats;
    unsigned char* bytes;
    double* none;
    double* doubles;
    std::uint16_t* halves;
};

constexpr std::size_t large = std::size_t{3} << 20;

} // namespace

// Only what asks for cache lines is counted: that is scratch memory. Not inlined, or g++ sees free() meet operator new.
[[gnu::noinline]] void* operator new(std::size_t size, std::align_val_t alignment)
{
    const auto line = static_cast<std::size_t>(alignment);
    void* const memory = std::aligned_alloc(line, std::max(line, (size + line - 1) / line * line));
    if (memory == nullptr) {
        throw std::bad_alloc();
    }
    ++live_lines;
    ++allocations;
    return memory;
}
[[gnu::noinline]] void operator delete(void* memory, std::align_val_t) noexcept
{
    live_lines -= memory == nullptr ? 0 : 1;
    std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, std::size_t, std::align_val_t alignment) noexcept
{
    operator delete(memory, alignment);
}

TEST_CASE("scratch: without memory it hands out nothing and counts")
{
    scratch counting;
    CHECK(counting.bytes() == 0);
    const arrays none(counting);
    CHECK(none.floats == nullptr);
    CHECK(none.doubles == nullptr);
    CHECK(counting.bytes() == 192 + 64 + 0 + 64 + 128); // cache lines
}

TEST_CASE("scratch: counting and handing out agree; arrays lie on cache lines of their own")
{
    scratch counting;
    arrays{counting};
    const aligned_buffer<std::byte> buffer(counting.bytes());
    scratch handing_out(buffer.data());
    const arrays taken(handing_out);
    CHECK(handing_out.bytes() == counting.bytes());

    struct extent {
        const void* begin;
        std::size_t bytes;
    };
    const extent extents[] = {{taken.floats, 35 * sizeof(float)},
                              {taken.bytes, 1},
                              {taken.doubles, 8 * sizeof(double)},
                              {taken.halves, 33 * sizeof(std::uint16_t)}};
    const auto* end = buffer.data();
    for (const extent& e : extents) {
        const auto* const begin = static_cast<const std::byte*>(e.begin);
        CHECK(is_on_cache_line(begin));
        CHECK(begin >= end);
        end = begin + e.bytes;
    }
    CHECK(end <= buffer.data() + counting.bytes());
}

TEST_CASE("scratch: sizes that do not fit std::size_t are refused, whichever product or sum it is")
{
    constexpr std::size_t most = std::numeric_limits<std::size_t>::max();
    scratch counting;
    CHECK_THROWS_AS(counting.take<char>(most, 2), std::length_error);
    CHECK_THROWS_AS(counting.take<double>(most / 4, 1), std::length_error);
    CHECK_THROWS_AS(counting.take<char>(most, 1), std::length_error);
    counting.take<char>(most / 2, 1);
    CHECK_THROWS_AS(counting.take<char>(most / 2 + 1, 1), std::length_error);
}

TEST_CASE("scratch_lease: as much memory as asked for, on cache lines")
{
    for (const std::size_t bytes : std::initializer_list<std::size_t>{0, 1, 64, 1000, std::size_t{1} << 20, large}) {
        const scratch_lease lease(bytes);
        REQUIRE(lease.data() != nullptr);
        CHECK(is_on_cache_line(lease.data()));
        std::fill_n(lease.data(), bytes, std::byte{7}); // for the address sanitizer to watch
    }
}

TEST_CASE("scratch_lease: small calls one after another share memory and allocate nothing")
{
    const std::byte* const first = scratch_lease(100).data();
    const std::size_t before = allocations;
    for (const std::size_t bytes : std::initializer_list<std::size_t>{1, 5000, std::size_t{1} << 20}) {
        CHECK(scratch_lease(bytes).data() == first);
    }
    CHECK(allocations == before);
}

TEST_CASE("scratch_lease: a second one while the first is held has memory of its own, and gives it back")
{
    std::optional<scratch_lease> first(1000);
    const std::byte* const shared = first->data();
    std::fill_n(first->data(), 1000, std::byte{1});
    const std::ptrdiff_t held = live_lines;
    {
        const scratch_lease second(1000);
        const scratch_lease third(1000);
        CHECK(live_lines == held + 2);
        std::fill_n(second.data(), 1000, std::byte{2});
        std::fill_n(third.data(), 1000, std::byte{3});
        CHECK(std::all_of(second.data(), second.data() + 1000, [](std::byte b) { return b == std::byte{2}; }));
    }
    CHECK(live_lines == held);
    CHECK(std::all_of(first->data(), first->data() + 1000, [](std::byte b) { return b == std::byte{1}; }));
    // A call within a call that has ended leaves the buffer in use.
    CHECK(scratch_lease(10).data() != shared);
    first.reset();
    CHECK(scratch_lease(10).data() == shared);
}

TEST_CASE("scratch_lease: large memory is not kept, nor does it take the kept one's place")
{
    const std::byte* const shared = scratch_lease(100).data();
    const std::ptrdiff_t before = live_lines;
    {
        const scratch_lease one(large);
        CHECK(live_lines == before + 1);
        CHECK(scratch_lease(100).data() == shared); // which a large lease does not occupy
    }
    CHECK(live_lines == before);
}

TEST_CASE("scratch_lease: its memory is there for the threads that work for the one that asked")
{
    for (const std::size_t bytes : {std::size_t{4096}, large}) {
        const scratch_lease lease(bytes);
        auto* const numbers = reinterpret_cast<std::uint32_t*>(lease.data());
        const std::size_t count = bytes / sizeof(std::uint32_t);
        std::vector<std::thread> threads;
        for (std::size_t t = 0; t < 4; ++t) {
            threads.emplace_back([=] {
                const scratch_lease own(bytes); // of this thread, another buffer
                std::fill_n(own.data(), bytes, std::byte{255});
                std::iota(numbers + t * count / 4, numbers + (t + 1) * count / 4,
                          static_cast<std::uint32_t>(t * count / 4));
            });
        }
        for (auto& thread : threads) {
            thread.join();
        }
        std::size_t right = 0;
        for (std::size_t i = 0; i < count; ++i) {
            right += numbers[i] == i ? 1 : 0;
        }
        CHECK(right == count);
    }
}

TEST_CASE("scratch_lease: a thread's kept memory ends with it")
{
    const std::ptrdiff_t before = live_lines;
    std::thread([] { CHECK(scratch_lease(10).data() != nullptr); }).join();
    CHECK(live_lines == before);
}

TEST_CASE("bytes_apart: whole cache lines, and a page between what two threads use; sizes that leave the range are "
          "rejected")
{
    for (const std::size_t bytes : {std::size_t{0}, std::size_t{1}, std::size_t{64}, std::size_t{65}, large}) {
        CHECK(bytes_apart(bytes) % 64 == 0);
        CHECK(bytes_apart(bytes) >= bytes + 4096);
        CHECK(bytes_apart(bytes) < bytes + 4096 + 64);
    }
    CHECK_THROWS_AS(bytes_apart(std::numeric_limits<std::size_t>::max() - 4000), std::length_error);
}
