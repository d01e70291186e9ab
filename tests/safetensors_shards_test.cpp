// SPDX-License-Identifier: BSD-3-Clause
#include <scaledot/safetensors_shards.hpp>

#include "support/safetensors_bytes.hpp"
#include "support/temporary_directory.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace sd = scaledot;
using test_support::bytes;
using test_support::file_of;
using test_support::message_of;
using test_support::raw;
using test_support::temporary_directory;
using test_support::tensor;

namespace {

static_assert(!std::is_copy_constructible_v<sd::safetensors_shards>);
static_assert(std::is_move_constructible_v<sd::safetensors_shards>);

tensor vector_named(const std::string& name, float value)
{
    return {name, "F32", "[2]", raw<float>({value, value})};
}

std::string complaint_of_index(const temporary_directory& directory, const std::string& index)
{
    const std::filesystem::path path = directory.write("model.safetensors.index.json", index);
    std::string text = message_of<std::runtime_error>([&] { const sd::safetensors_shards shards(path); });
    const std::string prefix = "scaledot: " + path.string() + ": ";
    if (text.starts_with(prefix)) {
        text.erase(0, prefix.size());
    }
    return text;
}

/// A directory with files "a" (tensors x, y) and "b" (z).
struct two_shards : temporary_directory {
    two_shards()
    {
        write("a", file_of({vector_named("x", 1), vector_named("y", 2)}));
        write("b", file_of({vector_named("z", 3)}));
    }
};

} // namespace

TEST_CASE("safetensors_shards: several files read as one")
{
    const two_shards directory;
    const auto index = directory.write(
        "i.json", R"({"metadata": {"total_size": 24, "more": [{"weight_map": {"q": 1}}, null, -1, 2.5, true]},
                      "weight_map": {"z": "b", "x": "a", "y": "a"}, "later": {"weight_map": "no"}, "last": "text"})");
    sd::safetensors_shards opened(index);
    const sd::safetensors_shards shards = std::move(opened);
    CHECK(shards.names() == std::vector<std::string>{"x", "y", "z"});
    CHECK(shards.contains("z"));
    CHECK_FALSE(shards.contains("q"));
    CHECK(shards.shape("z") == std::vector<std::size_t>{2});
    CHECK(shards.dtype("x") == "F32");
    CHECK(shards.read<float>("y")(1) == 2.f);
    CHECK(shards.read<double>("z")(0) == 3.0);
    CHECK(shards.file_name() == index.string());
    CHECK(shards.shards().size() == 2);
    CHECK(shards.shards().at("a").contains("y"));
    CHECK(message_of<std::invalid_argument>([&] { shards.read<float>("q"); }) ==
          "scaledot: name was \"q\", must be one of the 3 tensors of " + index.string());
    CHECK(message_of<std::invalid_argument>([&] { shards.shape("q"); }) != "");
}

TEST_CASE("safetensors_shards: an index in the working directory, links as in a download cache, an empty map")
{
    const two_shards directory;
    std::filesystem::create_directory(directory.path() / "snapshot");
    std::filesystem::create_symlink("../a", directory.path() / "snapshot" / "link");
    directory.write("snapshot/i.json", R"({"weight_map": {"x": "link", "y": "link"}})");
    const std::filesystem::path before = std::filesystem::current_path();
    std::filesystem::current_path(directory.path() / "snapshot");
    CHECK(sd::safetensors_shards("i.json").read<float>("x")(0) == 1.f);
    std::filesystem::current_path(before);
    const auto empty = directory.write("empty.json", R"({"weight_map": {}})");
    CHECK(sd::safetensors_shards(empty).names().empty());
}

TEST_CASE("safetensors_shards: index and files must agree")
{
    const two_shards directory;
    CHECK(complaint_of_index(directory, R"({"weight_map": {"x": "a", "y": "b", "z": "b"}})") ==
          "tensor \"y\" must be in \"b\", which does not have it");
    CHECK(complaint_of_index(directory, R"({"weight_map": {"x": "a", "z": "b"}})") ==
          "tensor \"y\" of \"a\" is not in the index");
    directory.write("c", file_of({vector_named("w", 5), vector_named("x", 4)}));
    CHECK(complaint_of_index(directory, R"({"weight_map": {"x": "a", "y": "a", "w": "c"}})") ==
          "tensor \"x\" is in \"c\" and in \"a\"");
    CHECK(complaint_of_index(directory, R"({"weight_map": {"x": "missing"}})") ==
          "scaledot: " + (directory.path() / "missing").string() + ": cannot open: No such file or directory");
    directory.write("broken", std::string("not a safetensors file"));
    CHECK(complaint_of_index(directory, R"({"weight_map": {"x": "broken"}})").find("broken: header length is") !=
          std::string::npos);
    std::filesystem::create_directory(directory.path() / "folder");
    CHECK(complaint_of_index(directory, R"({"weight_map": {"x": "folder"}})").ends_with("cannot read: Is a directory"));
}

TEST_CASE("safetensors_shards: names that leave the index's directory are refused, also where they lead back")
{
    const two_shards directory;
    const std::string absolute = (directory.path() / "a").string();
    for (const std::string& name : {std::string("../a"), std::string("./a"), absolute, std::string("x/../a"),
                                    std::string(".."), std::string("."), std::string(""), std::string("..\\\\a"),
                                    std::string("C:\\\\a"), std::string("/etc/passwd"), std::string("a/")}) {
        CAPTURE(name);
        const std::string text = complaint_of_index(directory, R"({"weight_map": {"x": ")" + name + R"("}})");
        CHECK(text.starts_with("tensor \"x\" is in \""));
        CHECK(text.ends_with("must be in a file next to the index, named without its directory"));
    }
    CHECK(complaint_of_index(directory, R"({"weight_map": {"x": "a\u0000/../b"}})").find("next to the index") !=
          std::string::npos);
}

TEST_CASE("safetensors_shards: duplicates in the index are refused, not the last one taken")
{
    const two_shards directory;
    CHECK(complaint_of_index(directory, R"({"weight_map": {"x": "a", "y": "a", "x": "a"}})") ==
          "the index has the tensor \"x\" twice");
    CHECK(complaint_of_index(directory, R"({"weight_map": {"x": "a", "y": "a"}, "weight_map": {"z": "b"}})") ==
          "the index has \"weight_map\" twice");
}

TEST_CASE("safetensors_shards: what is no index is refused")
{
    const two_shards directory;
    const auto complaint = [&](const std::string& index) { return complaint_of_index(directory, index); };
    CHECK(complaint("{}") == "the index has no \"weight_map\"");
    CHECK(complaint(R"({"metadata": {"weight_map": {"x": "a"}}})") == "the index has no \"weight_map\"");
    CHECK(complaint("[]") == "the index is an array, must be an object");
    CHECK(complaint("3") == "the index is a number, must be an object");
    CHECK(complaint(R"("a")") == "the index is a string, must be an object");
    CHECK(complaint(R"({"weight_map": ["x", "a"]})") == "\"weight_map\" is an array, must be an object");
    CHECK(complaint(R"({"weight_map": "a"})") == "\"weight_map\" is a string, must be an object");
    CHECK(complaint(R"({"weight_map": null})") == "\"weight_map\" is null, must be an object");
    for (const auto& [value, what] : std::vector<std::pair<std::string, std::string>>{{"1", "a number"},
                                                                                      {"-1", "a number"},
                                                                                      {"1.5", "a number"},
                                                                                      {"true", "a bool"},
                                                                                      {"null", "null"},
                                                                                      {R"(["a"])", "an array"},
                                                                                      {R"({"x": "a"})", "an object"}}) {
        CHECK(complaint(R"({"weight_map": {"x": )" + value + "}}") ==
              "tensor \"x\" is in " + what + ", must be in a file, named by a string");
    }
    for (const char* broken : {"", "{", "{\"weight_map\": {\"x\": \"a\"}", "{\"weight_map\": {}} more", "\xff\xfe{}"}) {
        CAPTURE(broken);
        CHECK(complaint(broken).starts_with("the index is not valid JSON at byte "));
    }
    CHECK(complaint(std::string("{\"weight_map\": {}}\0", 19)) == "the index has a zero byte at 18");
    CHECK(complaint(R"({"weight_map": {"x\n": "../a"}})").starts_with("tensor \"x\\x0a\" is in \"../a\""));
    // nesting costs no stack
    CHECK(
        complaint("{\"weight_map\": {}, \"deep\": " + std::string(300'000, '[')).starts_with("the index is not valid"));
    CHECK(complaint("{\"deep\": " + std::string(300'000, '[') + std::string(300'000, ']') + "}") ==
          "the index has no \"weight_map\"");
    CHECK(message_of<std::runtime_error>([&] {
              sd::safetensors_shards(directory.path() / "none.json");
          }).ends_with("none.json: cannot open: No such file or directory"));
}
