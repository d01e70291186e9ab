// SPDX-License-Identifier: BSD-3-Clause
#include <scaledot/safetensors.hpp>

#include "support/safetensors_bytes.hpp"
#include "support/safetensors_complaint.hpp"

#include <doctest/doctest.h>

#include <unistd.h>

#include <cmath>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <limits>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace sd = scaledot;
using test_support::bytes;
using test_support::check_says;
using test_support::complaint;
using test_support::file_of;
using test_support::message_of;
using test_support::raw;
using test_support::tensor;

namespace {

static_assert(!std::is_copy_constructible_v<sd::safetensors_file>);
static_assert(std::is_nothrow_move_constructible_v<sd::detail::mapped_file>);

/// A file on disk for the length of a test.
class temporary_file {
public:
    explicit temporary_file(const bytes& content)
        : path_(std::filesystem::temp_directory_path() /
                ("scaledot_safetensors_test_" + std::to_string(::getpid()) + "_" + std::to_string(++count)))
    {
        std::ofstream(path_, std::ios::binary)
            .write(reinterpret_cast<const char*>(content.data()), static_cast<std::streamsize>(content.size()));
    }
    temporary_file(const temporary_file&) = delete;
    temporary_file& operator=(const temporary_file&) = delete;
    ~temporary_file() { std::filesystem::remove(path_); }
    const std::filesystem::path& path() const { return path_; }

private:
    inline static int count = 0;
    std::filesystem::path path_;
};

template <class T, class Stored>
xt::xarray<T> read_one(const std::string& dtype, const std::vector<Stored>& values)
{
    const bytes file = file_of({tensor{"t", dtype, "[" + std::to_string(values.size()) + "]", raw(values)}});
    return sd::safetensors_file(file, "evil.safetensors").read<T>("t");
}

template <class T, class Stored>
std::string read_complaint(const std::string& dtype, const std::vector<Stored>& values)
{
    return message_of<std::runtime_error>([&] { read_one<T>(dtype, values); });
}

template <class Stored>
void check_integer_type(const std::string& dtype)
{
    CAPTURE(dtype);
    const std::vector<Stored> values = {std::numeric_limits<Stored>::min(), 0, 1, 100,
                                        std::numeric_limits<Stored>::max()};
    const xt::xarray<Stored> same = read_one<Stored>(dtype, values);
    for (std::size_t i = 0; i < values.size(); ++i) {
        CHECK(same(i) == values[i]);
    }
    CHECK(read_one<float>(dtype, std::vector<Stored>{0, 1, 100})(2) == 100.f);
    CHECK(read_one<double>(dtype, std::vector<Stored>{0, 1, 100})(2) == 100.0);
    CHECK(static_cast<float>(read_one<xtl::half_float>(dtype, std::vector<Stored>{0, 1, 100})(2)) == 100.f);
    CHECK(static_cast<float>(read_one<sd::bfloat16>(dtype, std::vector<Stored>{0, 1, 100})(2)) == 100.f);
    CHECK(read_one<std::int8_t>(dtype, std::vector<Stored>{0, 1, 100})(2) == 100);
    CHECK(read_one<bool>(dtype, std::vector<Stored>{0, 1})(1));
    check_says(read_complaint<bool>(dtype, std::vector<Stored>{0, 2}), "tensor \"t\" element 1 is 2, ");
    if constexpr (std::is_signed_v<Stored>) {
        check_says(read_complaint<std::uint64_t>(dtype, std::vector<Stored>{7, -1}), "tensor \"t\" element 1 is -1, ");
    } else {
        check_says(read_complaint<std::int8_t>(dtype, std::vector<Stored>{128}), "tensor \"t\" element 0 is 128, ");
    }
}

} // namespace

TEST_CASE("safetensors: names are sorted, shapes, types and metadata are those of the header")
{
    const bytes content = file_of({{"b", "F32", "[2, 3]", bytes(24)},
                                   {"a.weight", "BF16", "[4]", bytes(8)},
                                   {"scalar", "F64", "[]", raw<double>({2.5})}},
                                  R"({"format":"pt","note":"\u00e9 \u0000"})");
    const temporary_file file(content);
    const sd::safetensors_file opened(file.path());
    CHECK(opened.names() == std::vector<std::string>{"a.weight", "b", "scalar"});
    CHECK(opened.shape("b") == std::vector<std::size_t>{2, 3});
    CHECK(opened.shape("scalar").empty());
    CHECK(opened.dtype("a.weight") == "BF16");
    CHECK(opened.contains("b"));
    CHECK_FALSE(opened.contains("__metadata__"));
    CHECK(opened.metadata().at("format") == "pt");
    CHECK(opened.metadata().at("note") == std::string("\u00e9 \0", 4));
    CHECK(opened.file_name() == file.path().string());
    const xt::xarray<double> scalar = opened.read<double>("scalar");
    CHECK(scalar.dimension() == 0);
    CHECK(scalar() == 2.5);
}

TEST_CASE("safetensors: a name the file does not have is an argument error that names the file")
{
    const bytes content = file_of({{"a", "F32", "[2]", bytes(8)}});
    const sd::safetensors_file file(content, "some.safetensors");
    for (const std::string& text : {message_of<std::invalid_argument>([&] { file.read<float>("b"); }),
                                    message_of<std::invalid_argument>([&] { file.shape("b"); }),
                                    message_of<std::invalid_argument>([&] { file.dtype("b"); })}) {
        CHECK(text == "scaledot: name was \"b\", must be one of the 1 tensors of some.safetensors");
    }
}

TEST_CASE("safetensors: a file stays readable when it is moved")
{
    const temporary_file on_disk(file_of({{"a", "F32", "[2]", raw<float>({1.f, 2.f})}}));
    sd::safetensors_file first(on_disk.path());
    sd::safetensors_file second(std::move(first));
    CHECK(second.read<float>("a")(1) == 2.f);
    const temporary_file other(file_of({{"b", "F32", "[1]", raw<float>({3.f})}}));
    sd::safetensors_file third(other.path());
    third = std::move(second);
    CHECK(third.read<float>("a")(0) == 1.f);
    CHECK_FALSE(third.contains("b"));
}

TEST_CASE("safetensors: an empty file of tensors, empty tensors and padding by spaces are valid")
{
    CHECK(sd::safetensors_file(file_of("{}"), "f").names().empty());
    CHECK(sd::safetensors_file(file_of("{}     "), "f").names().empty());
    const bytes content = file_of({{"before", "F32", "[0]", {}},
                                   {"full", "U8", "[3]", bytes(3)},
                                   {"after", "F64", "[2, 0, 5]", {}},
                                   {"also", "I8", "[0]", {}}});
    const sd::safetensors_file file(content, "f");
    const xt::xarray<float> after = file.read<float>("after");
    CHECK(after.dimension() == 3);
    CHECK(after.shape(2) == 5);
    CHECK(after.size() == 0);
    CHECK(file.read<float>("before").size() == 0);
    CHECK(file.read<int>("also").size() == 0);
}

TEST_CASE("safetensors: tensors at unaligned offsets are read")
{
    const bytes content = file_of({{"pad", "U8", "[1]", bytes(1)},
                                   {"d", "F64", "[2]", raw<double>({0.1, -3.0})},
                                   {"pad2", "BOOL", "[1]", bytes(1)},
                                   {"i", "I32", "[2]", raw<std::int32_t>({-5, 70000})}});
    const sd::safetensors_file file(content, "f");
    CHECK(file.read<double>("d")(0) == 0.1);
    CHECK(file.read<float>("d")(0) == 0.1f);
    CHECK(file.read<std::int64_t>("i")(1) == 70000);
}

TEST_CASE("safetensors: floating types convert exactly to wider ones and round to narrower ones")
{
    const std::vector<double> doubles = {0.1, -1e300, 1e-320, std::numeric_limits<double>::infinity()};
    const auto f64 = read_one<double>("F64", doubles);
    for (std::size_t i = 0; i < doubles.size(); ++i) {
        CHECK(f64(i) == doubles[i]);
    }
    const auto narrowed = read_one<float>("F64", doubles);
    CHECK(narrowed(0) == 0.1f);
    CHECK(narrowed(1) == -std::numeric_limits<float>::infinity());
    CHECK(narrowed(2) == 0.f);
    CHECK(narrowed(3) == std::numeric_limits<float>::infinity());

    const std::vector<float> floats = {0.1f, -2.f, 65504.f, std::numeric_limits<float>::quiet_NaN()};
    CHECK(read_one<double>("F32", floats)(0) == static_cast<double>(0.1f));
    CHECK(sd::detail::is_nan(read_one<double>("F32", floats)(3)));
    CHECK(static_cast<float>(read_one<xtl::half_float>("F32", floats)(2)) == 65504.f);
    CHECK(read_one<sd::bfloat16>("F32", floats)(0).bits() == 0x3dcd);
}

TEST_CASE("safetensors: every F16 and BF16 number becomes the same float")
{
    std::vector<std::uint16_t> all(65536);
    for (std::size_t i = 0; i < all.size(); ++i) {
        all[i] = static_cast<std::uint16_t>(i);
    }
    const auto halves = read_one<float>("F16", all);
    const auto brains = read_one<double>("BF16", all);
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < all.size(); ++i) {
        const int exponent = static_cast<int>(i >> 10 & 31);
        const auto fraction = static_cast<float>(i & 1023);
        const float magnitude = exponent == 31  ? (fraction == 0.f ? std::numeric_limits<float>::infinity() : NAN)
                                : exponent == 0 ? std::ldexp(fraction, -24)
                                                : std::ldexp(1024.f + fraction, exponent - 25);
        const float half = i < 32768 ? magnitude : -magnitude;
        wrong += !(sd::detail::is_nan(static_cast<double>(half)) ? sd::detail::is_nan(static_cast<double>(halves(i)))
                                                                 : halves(i) == half);
        const int brain_exponent = static_cast<int>(i >> 7 & 255);
        const auto brain_fraction = static_cast<double>(i & 127);
        const double brain_magnitude = brain_exponent == 255 ? (brain_fraction == 0. ? HUGE_VAL : NAN)
                                       : brain_exponent == 0 ? std::ldexp(brain_fraction, -133)
                                                             : std::ldexp(128. + brain_fraction, brain_exponent - 134);
        const double brain = i < 32768 ? brain_magnitude : -brain_magnitude;
        wrong += !(sd::detail::is_nan(brain) ? sd::detail::is_nan(brains(i)) : brains(i) == brain);
    }
    CHECK(wrong == 0);
}

TEST_CASE("safetensors: integers of every width keep their value or are refused")
{
    check_integer_type<std::int8_t>("I8");
    check_integer_type<std::int16_t>("I16");
    check_integer_type<std::int32_t>("I32");
    check_integer_type<std::int64_t>("I64");
    check_integer_type<std::uint8_t>("U8");
    check_integer_type<std::uint16_t>("U16");
    check_integer_type<std::uint32_t>("U32");
    check_integer_type<std::uint64_t>("U64");
}

TEST_CASE("safetensors: an integer becomes a floating number only when that is exact")
{
    using numbers = std::vector<std::int64_t>;
    CHECK(read_one<float>("I64", numbers{16777216, -16777218})(1) == -16777218.f);
    check_says(read_complaint<float>("I64", numbers{0, 16777217}), "element 1 is 16777217");
    CHECK(read_one<float>("I64", numbers{std::numeric_limits<std::int64_t>::min()})(0) == -0x1p63f);
    check_says(read_complaint<double>("I64", numbers{std::numeric_limits<std::int64_t>::max()}),
               "element 0 is 9223372036854775807");
    CHECK(static_cast<float>(read_one<xtl::half_float>("I64", numbers{65504})(0)) == 65504.f);
    check_says(read_complaint<xtl::half_float>("I64", numbers{65536}), "element 0 is 65536");
    check_says(read_complaint<xtl::half_float>("I64", numbers{2049}), "element 0 is 2049");
    CHECK(static_cast<float>(read_one<sd::bfloat16>("I64", numbers{-256})(0)) == -256.f);
    check_says(read_complaint<sd::bfloat16>("I64", numbers{257}), "element 0 is 257");
}

TEST_CASE("safetensors: floating numbers are never read as integers")
{
    check_says(read_complaint<int>("F32", std::vector<float>{1.f}), "tensor \"t\" holds floating-point numbers");
    check_says(read_complaint<bool>("F64", std::vector<double>{1.0}), "floating-point");
    check_says(read_complaint<std::uint8_t>("F16", std::vector<std::uint16_t>{0}), "floating-point");
    check_says(read_complaint<std::int64_t>("BF16", std::vector<std::uint16_t>{0}), "floating-point");
}

TEST_CASE("safetensors: BOOL is 0 or 1, any other byte is refused")
{
    const std::vector<std::uint8_t> flags = {0, 1, 1};
    const xt::xarray<bool> as_bool = read_one<bool>("BOOL", flags);
    CHECK_FALSE(as_bool(0));
    CHECK(as_bool(2));
    CHECK(read_one<float>("BOOL", flags)(1) == 1.f);
    CHECK(read_one<int>("BOOL", flags)(0) == 0);
    CHECK(static_cast<float>(read_one<sd::bfloat16>("BOOL", flags)(1)) == 1.f);
    check_says(read_complaint<bool>("BOOL", std::vector<std::uint8_t>{1, 2}), "tensor \"t\" element 1 is the byte 2");
}

TEST_CASE("safetensors: a type without arithmetic here is listed, and reading it says so")
{
    const bytes content = file_of({{"known", "F8_E4M3", "[8]", bytes(8)},
                                   {"packed", "F4", "[3, 2]", bytes(3)},
                                   {"unknown", "Q5_K", "[1000000000000]", bytes(5)}});
    const sd::safetensors_file file(content, "evil.safetensors");
    CHECK(file.names().size() == 3);
    CHECK(file.dtype("known") == "F8_E4M3");
    check_says(message_of([&] { file.read<float>("known"); }), "tensor \"known\" has the element type \"F8_E4M3\"");
    check_says(message_of([&] { file.read<float>("packed"); }), "\"F4\"");
    check_says(message_of([&] { file.read<float>("unknown"); }), "\"Q5_K\"");
    check_says(complaint(file_of({{"odd", "F4", "[3]", bytes(2)}})), "does not fill whole bytes");
}

TEST_CASE("safetensors: files that cannot be opened say which and why")
{
    const auto opening = [](const std::filesystem::path& path) {
        return message_of<std::runtime_error>([&] { sd::safetensors_file file(path); });
    };
    CHECK(opening("no/such/file.safetensors") ==
          "scaledot: no/such/file.safetensors: cannot open: No such file or directory");
    const auto directory = std::filesystem::temp_directory_path();
    CHECK(opening(directory) == "scaledot: " + directory.string() + ": cannot read: Is a directory");
    CHECK(opening("/dev/null") == "scaledot: /dev/null: is not a regular file");
    const temporary_file empty{bytes()};
    CHECK(opening(empty.path()).find("has 0 bytes") != std::string::npos);
    CHECK(opening(empty.path() / "below").find("cannot open: Not a directory") != std::string::npos);
    if (::geteuid() != 0) {
        std::filesystem::permissions(empty.path(), std::filesystem::perms::none);
        CHECK(opening(empty.path()).find("cannot open: Permission denied") != std::string::npos);
    } else {
        MESSAGE("skipped: for the superuser no file is unreadable");
    }
}

TEST_CASE("safetensors: GPT-2's LayerNorm parameters are read as they are")
{
    const std::filesystem::path path = SCALEDOT_SHARED_DIR "/data/gpt2-layernorm.safetensors";
    if (!std::filesystem::exists(path)) {
        MESSAGE("skipped: " << path.string() << " is not there");
        return;
    }
    const sd::safetensors_file file(path);
    CHECK(file.names().size() == 50);
    CHECK(file.metadata().at("format") == "pt");
    const xt::xarray<float> gamma = file.read<float>("h.3.ln_2.weight");
    REQUIRE(gamma.dimension() == 1);
    CHECK(gamma.shape(0) == 768);
    double sum = 0;
    for (const std::string& name : file.names()) {
        if (name.ends_with(".weight")) {
            for (const float g : file.read<float>(name)) {
                sum += static_cast<double>(g);
            }
        }
    }
    CHECK(sum / 19200 == doctest::Approx(0.3796).epsilon(1e-3));
}
