// SPDX-License-Identifier: BSD-3-Clause
#include <scaledot/detail/safetensors_header.hpp>

#include "support/safetensors_bytes.hpp"
#include "support/safetensors_complaint.hpp"

#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>

using test_support::bytes;
using test_support::check_says;
using test_support::complaint;
using test_support::file_of;

namespace {

/// What opening a file of this header and 8 bytes of data has to say against it.
std::string header_complaint(const std::string& header)
{
    return complaint(file_of(header, bytes(8)));
}

} // namespace

TEST_CASE("safetensors: a truncated file is refused at any length")
{
    const bytes whole = file_of({{"a", "F32", "[2]", bytes(8)}, {"b", "I16", "[1]", bytes(2)}});
    CHECK(complaint(whole).empty());
    for (std::size_t size = 0; size < whole.size(); ++size) {
        CHECK_FALSE(complaint(bytes(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size))).empty());
    }
    bytes longer = whole;
    longer.push_back(std::byte(0));
    check_says(complaint(longer), "has 11 bytes of data, the tensors cover only 10");
}

TEST_CASE("safetensors: the header's length has to be possible")
{
    check_says(complaint(bytes(7)), "has 7 bytes, a safetensors file has at least 8");
    check_says(complaint(file_of("{}", {}, 0)), "header must begin with '{'");
    check_says(complaint(file_of("{}", {}, 3)), "header length is 3, the file has only 2 bytes after it");
    check_says(complaint(file_of("{}", {}, 100'000'001)), "header length is 100000001, must be at most 100000000");
    check_says(complaint(file_of("{}", {}, std::numeric_limits<std::int64_t>::max())),
               "header length is 9223372036854775807");
    check_says(complaint(bytes(8, std::byte(0xff))), "header length is 18446744073709551615");
}

TEST_CASE("safetensors: a header that is not one JSON object is refused")
{
    for (const char* header : {" {}", "[]", "\"{}\"", "null", "{}x", "{}\n", "", "    ", "\xEF\xBB\xBF{}"}) {
        CAPTURE(header);
        check_says(complaint(file_of(header)), "header must begin with '{' and end with '}'");
    }
    check_says(complaint(file_of("{}}")), "header is not valid JSON at byte 3");
    check_says(complaint(file_of("{} {}")), "header is not valid JSON");
    check_says(complaint(file_of("{/* comment */}")), "header is not valid JSON");
    check_says(complaint(file_of("{\"a}")), "header is not valid JSON");
    check_says(complaint(file_of("{\"\xff\":{}}")), "header is not valid JSON");
    check_says(complaint(file_of("{\"\\ud800\":{}}")), "header is not valid JSON");
    check_says(complaint(file_of(std::string("{}\0}", 4))), "header has a zero byte at 2");
    check_says(complaint(file_of("{\"a\":" + std::string(1'000'000, '[') + "}")),
               "tensor \"a\" is an array, must be an object");
    std::string objects = "{";
    for (int i = 0; i < 200'000; ++i) {
        objects += "\"a\":{";
    }
    check_says(complaint(file_of(objects + "}")), "tensor \"a\" has the key \"a\"");
}

TEST_CASE("safetensors: names and keys may not come twice")
{
    const std::string entry = R"({"dtype":"F32","shape":[2],"data_offsets":[0,8]})";
    check_says(header_complaint("{\"a\":" + entry + ",\"a\":" + entry + "}"), "header has the name \"a\" twice");
    check_says(header_complaint("{\"a\":" + entry + ",\"\\u0061\":" + entry + "}"), "header has the name \"a\" twice");
    check_says(header_complaint(R"({"__metadata__":{},"__metadata__":{}})"),
               "header has the name \"__metadata__\" twice");
    check_says(header_complaint(R"({"__metadata__":{"k":"1","k":"2"}})"), "__metadata__ has the key \"k\" twice");
    for (const char* twice : {R"("dtype":"F32")", R"("shape":[2])", R"("data_offsets":[0,8])"}) {
        check_says(
            header_complaint(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8],)" + std::string(twice) + "}}"),
            "twice");
    }
}

TEST_CASE("safetensors: an entry has dtype, shape and data_offsets, and nothing else")
{
    check_says(header_complaint(R"({"a":{"shape":[2],"data_offsets":[0,8]}})"),
               "tensor \"a\" must have dtype, shape and data_offsets");
    check_says(header_complaint(R"({"a":{"dtype":"F32","data_offsets":[0,8]}})"), "tensor \"a\" must have");
    check_says(header_complaint(R"({"a":{"dtype":"F32","shape":[2]}})"), "tensor \"a\" must have");
    check_says(header_complaint(R"({"a":{}})"), "tensor \"a\" must have");
    check_says(header_complaint(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"device":"cpu"}})"),
               "tensor \"a\" has the key \"device\"");
}

TEST_CASE("safetensors: values of the wrong kind are refused where they stand")
{
    const auto entry = [](const std::string& dtype, const std::string& shape, const std::string& offsets) {
        return header_complaint("{\"a\":{\"dtype\":" + dtype + ",\"shape\":" + shape + ",\"data_offsets\":" + offsets +
                                "}}");
    };
    CHECK(entry("\"F32\"", "[2]", "[0,8]").empty());
    check_says(entry("32", "[2]", "[0,8]"), "tensor \"a\" dtype is a number, must be a string");
    check_says(entry("null", "[2]", "[0,8]"), "tensor \"a\" dtype is null");
    check_says(entry("[\"F32\"]", "[2]", "[0,8]"), "tensor \"a\" dtype is an array");
    check_says(entry("\"F32\"", "2", "[0,8]"), "tensor \"a\" shape is a number, must be an array");
    check_says(entry("\"F32\"", "{}", "[0,8]"), "tensor \"a\" shape is an object");
    check_says(entry("\"F32\"", "[[2]]", "[0,8]"), "tensor \"a\" shape holds an array");
    check_says(entry("\"F32\"", "[-2]", "[0,8]"), "tensor \"a\" shape holds a negative number");
    check_says(entry("\"F32\"", "[2.0]", "[0,8]"), "tensor \"a\" shape holds the number \"2.0\"");
    check_says(entry("\"F32\"", "[true]", "[0,8]"), "tensor \"a\" shape holds a bool");
    check_says(entry("\"F32\"", "[18446744073709551616]", "[0,8]"),
               "tensor \"a\" shape holds the number \"18446744073709551616\"");
    check_says(entry("\"F32\"", "[1e999]", "[0,8]"), "1e999");
    check_says(entry("\"F32\"", "[\"2\"]", "[0,8]"), "tensor \"a\" shape holds a string");
    check_says(entry("\"F32\"", "[2]", "[0]"), "tensor \"a\" data_offsets has 1 numbers, must have 2");
    check_says(entry("\"F32\"", "[2]", "[0,8,8]"), "tensor \"a\" data_offsets has 3 numbers");
    check_says(entry("\"F32\"", "[2]", "[-0,8]"), "tensor \"a\" data_offsets holds a negative number");
    check_says(entry("\"F32\"", "[2]", "\"0,8\""), "tensor \"a\" data_offsets is a string");
    check_says(header_complaint(R"({"a":7})"), "tensor \"a\" is a number, must be an object");
    check_says(header_complaint(R"({"__metadata__":"x"})"), "__metadata__ is a string, must be an object");
    check_says(header_complaint(R"({"__metadata__":{"k":1}})"), "__metadata__ \"k\" is a number, must be a string");
    check_says(header_complaint(R"({"__metadata__":{"k":{"l":"m"}}})"), "__metadata__ \"k\" is an object");
}

TEST_CASE("safetensors: the tensors cover the data once, without overlap or hole")
{
    const auto one = [](const std::string& shape, const std::string& offsets) {
        return header_complaint("{\"a\":{\"dtype\":\"F32\",\"shape\":" + shape + ",\"data_offsets\":" + offsets + "}}");
    };
    check_says(one("[2]", "[8,0]"), "tensor \"a\": data_offsets [8, 0] end before they begin");
    check_says(one("[3]", "[0,12]"), "tensor \"a\": data_offsets [0, 12] reach past the file's 8 bytes");
    check_says(one("[2]", "[18446744073709551608,18446744073709551615]"), "reach past");
    check_says(one("[1]", "[0,8]"), "tensor \"a\": shape (1,) of F32 needs 4 bytes, data_offsets [0, 8] hold 8");
    check_says(one("[0]", "[0,8]"), "needs 0 bytes");
    check_says(one("[4294967296,4294967296]", "[0,8]"), "tensor \"a\": shape (4294967296, 4294967296) overflows");
    check_says(one("[0,9223372036854775807,9223372036854775807]", "[0,0]"), "overflows");
    check_says(one("[1]", "[4,8]"),
               "tensor \"a\": data_offsets begin at 4, must begin at 0 where the tensor before it ends (hole)");
    check_says(one("[1]", "[0,4]"), "has 8 bytes of data, the tensors cover only 4");

    const auto two = [](const std::string& first, const std::string& second) {
        return header_complaint(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":)" + first +
                                R"(},"b":{"dtype":"U8","shape":[4],"data_offsets":)" + second + "}}");
    };
    CHECK(two("[4,8]", "[0,4]").empty());
    check_says(two("[0,4]", "[3,7]"),
               "tensor \"b\": data_offsets begin at 3, must begin at 4 where the tensor before it ends (overlap)");
    check_says(two("[0,4]", "[0,4]"), "(overlap)");
    check_says(
        complaint(file_of(
            R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"e":{"dtype":"U8","shape":[0],"data_offsets":[2,2]}})",
            bytes(4))),
        "(overlap)");
}

TEST_CASE("safetensors: what a hostile file calls its tensors cannot garble or flood a message")
{
    const std::string name(100'000, 'n');
    const std::string text = header_complaint("{\"\\u001b[2J" + name + "\":7}");
    check_says(text, "tensor \"\\x1b[2J");
    CHECK(text.size() < 400);
    std::string ones = "[2";
    for (int i = 0; i < 100'000; ++i) {
        ones += ",2";
    }
    const std::string rank =
        header_complaint("{\"a\":{\"dtype\":\"F32\",\"shape\":" + ones + "],\"data_offsets\":[0,8]}}");
    check_says(rank, "shape of rank 100001 overflows");
    CHECK(header_complaint("{\"" + name).size() < 400);
}
