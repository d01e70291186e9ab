// SPDX-License-Identifier: BSD-3-Clause
// How fuzz targets read their input: as a sequence of choices.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <stdexcept>
#include <string>

namespace test_support {

/// Choices taken from the input, zeros after its end.
class choices {
public:
    choices(const std::uint8_t* data, std::size_t size) : data_(data), size_(size) {}

    std::size_t below(std::size_t n) { return byte() % n; }
    bool one_in(std::size_t n) { return byte() % n == n - 1; }

    /// Mostly ordinary numbers; now and then one that is not.
    double number()
    {
        const std::uint8_t draw = byte();
        constexpr std::array<double, 16> special = {0.0,
                                                    -0.0,
                                                    1e30,
                                                    -1e30,
                                                    3e38,
                                                    -3e38,
                                                    1e-30,
                                                    1e-40,
                                                    1e300,
                                                    -1e300,
                                                    1e-310,
                                                    100,
                                                    -100,
                                                    std::numeric_limits<double>::quiet_NaN(),
                                                    std::numeric_limits<double>::infinity(),
                                                    -std::numeric_limits<double>::infinity()};
        return draw >= 240 ? special[draw - 240u] : (draw - 120.0) / 40;
    }

private:
    std::uint8_t byte()
    {
        position_ += 1;
        return position_ <= size_ ? data_[position_ - 1] : std::uint8_t{0};
    }

    const std::uint8_t* data_;
    std::size_t size_;
    std::size_t position_ = 0;
};

[[noreturn]] inline void fail(const std::string& what)
{
    std::fprintf(stderr, "%s\n", what.c_str());
    std::abort();
}

/// Runs `compute`, which the library must refuse with a message of its own if and only if the input is not valid. Says
/// whether it was computed.
template <class Compute>
bool computed_as_is_due(bool valid, const Compute& compute)
{
    try {
        compute();
    } catch (const std::invalid_argument& error) {
        if (valid || std::string(error.what()).rfind("scaledot: ", 0) != 0) {
            fail(std::string("refused: ") + error.what());
        }
        return false;
    }
    if (!valid) {
        fail("not refused");
    }
    return true;
}

} // namespace test_support
