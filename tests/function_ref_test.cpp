// SPDX-License-Identifier: BSD-3-Clause
#include <scaledot/detail/function_ref.hpp>

#include <doctest/doctest.h>

#include <string>
#include <type_traits>

using scaledot::detail::function_ref;

namespace {

struct counted {
    int copies = 0;
    counted() = default;
    counted(const counted& other) : copies(other.copies + 1) {}
};

using receiver = function_ref<void(const counted&, int)>;

} // namespace

TEST_CASE("function_ref calls what it refers to, with the arguments themselves")
{
    const counted original;
    const counted* seen = nullptr;
    int sum = 0;
    const auto callable = [&](const counted& c, int n) {
        seen = &c;
        sum += n;
    };
    const receiver call(callable);
    REQUIRE(call);
    call(original, 3);
    const receiver copy = call;
    copy(original, 4);
    CHECK(seen == &original);
    CHECK(sum == 7);
    CHECK(original.copies == 0);
}

TEST_CASE("function_ref of a function_ref's type is a copy, not a reference to a reference")
{
    int calls = 0;
    const auto callable = [&](const counted&, int) { ++calls; };
    receiver call;
    CHECK_FALSE(call);
    {
        const receiver inner(callable);
        call = inner;
    }
    REQUIRE(call);
    call({}, 0);
    CHECK(calls == 1);
}

TEST_CASE("function_ref takes what can be called with its arguments, and nothing else")
{
    const auto wrong = [](const std::string&) {};
    CHECK_FALSE(std::is_convertible_v<decltype(wrong), receiver>);
    const auto changes_itself = [n = 0](const counted&, int) mutable { return ++n; };
    CHECK_FALSE(std::is_convertible_v<decltype(changes_itself), receiver>);
    CHECK(std::is_convertible_v<void (*)(const counted&, int), receiver>);
}
