// SPDX-License-Identifier: BSD-3-Clause
// What safetensors_file has to say against a file, for the tests that expect it to say something.
#ifndef SCALEDOT_TESTS_SUPPORT_SAFETENSORS_COMPLAINT_HPP
#define SCALEDOT_TESTS_SUPPORT_SAFETENSORS_COMPLAINT_HPP

#include <scaledot/safetensors.hpp>

#include "safetensors_bytes.hpp"

#include <doctest/doctest.h>

#include <stdexcept>
#include <string>

namespace test_support {

/// What opening the bytes has to say against them.
inline std::string complaint(const bytes& file)
{
    return message_of<std::runtime_error>([&] { scaledot::safetensors_file(file, "evil.safetensors"); });
}

/// Checks that the text names the file and says what was wrong.
inline void check_says(const std::string& text, const std::string& what)
{
    CAPTURE(text);
    CAPTURE(what);
    CHECK(text.starts_with("scaledot: evil.safetensors: "));
    CHECK(text.find(what) != std::string::npos);
}

} // namespace test_support

#endif
