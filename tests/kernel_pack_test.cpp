// SPDX-License-Identifier: BSD-3-Clause
#include <scaledot/kernel/pack.hpp>

#include "support/guarded_memory.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <vector>

namespace sd = scaledot;
namespace kernel = scaledot::kernel;
using test_support::guarded_memory;
using arch = scaledot::native_architecture;

namespace {

/// A step of products, and a storage type it takes numbers from.
template <class StepOf, class Storage>
struct source {
    using step = StepOf;
    using storage = Storage;
};

using in_float = kernel::number_step<arch, float>;
using in_double = kernel::number_step<arch, double>;

#define SCALEDOT_NUMBER_SOURCES                                                                                        \
    source<in_float, float>, source<in_float, xtl::half_float>, source<in_float, sd::bfloat16>,                        \
        source<in_double, double>, source<in_double, float>, source<in_double, xtl::half_float>,                       \
        source<in_double, sd::bfloat16>
#if defined(__AVX512BF16__)
#define SCALEDOT_SOURCES SCALEDOT_NUMBER_SOURCES, source<kernel::bfloat16_step<arch>, sd::bfloat16>
#else
#define SCALEDOT_SOURCES SCALEDOT_NUMBER_SOURCES
#endif

template <class Step>
using arithmetic = typename Step::sum::value_type;

template <class Step>
constexpr std::size_t width = kernel::register_tile<arch, arithmetic<Step>>::width;

/// A number that tells where it lies, exact in every storage type.
double mark(std::ptrdiff_t position)
{
    return static_cast<double>((position % 199 + 199) % 199 + 1);
}

/// `rows` rows of `size` numbers, `stride` apart, the last of which ends where the memory ends. Between them lie zeros,
/// which no mark is. With a negative stride the first row is the last in memory.
template <class S>
class marked_rows {
public:
    marked_rows(std::size_t rows, std::size_t size, std::ptrdiff_t stride)
        : between_((static_cast<std::ptrdiff_t>(rows) - 1) * std::abs(stride)), stride_(stride),
          count_(rows == 0 ? 0 : static_cast<std::size_t>(between_) + size), memory_(count_, 0)
    {
        std::fill_n(memory_.data(), count_, kernel::to_storage<S>(0.f));
        for (std::size_t row = 0; row < rows; ++row) {
            for (std::size_t c = 0; c < size; ++c) {
                const std::ptrdiff_t offset =
                    static_cast<std::ptrdiff_t>(row) * stride + static_cast<std::ptrdiff_t>(c);
                first()[offset] = kernel::to_storage<S>(static_cast<float>(mark(offset)));
            }
        }
    }

    S* first() const { return memory_.data() + (stride_ < 0 ? between_ : 0); }
    double operator()(std::size_t row, std::size_t c) const
    {
        return mark(static_cast<std::ptrdiff_t>(row) * stride_ + static_cast<std::ptrdiff_t>(c));
    }

private:
    std::ptrdiff_t between_;
    std::ptrdiff_t stride_;
    std::size_t count_;
    guarded_memory<S> memory_;
};

/// Elements for packing into, followed by some that must stay as they are.
template <class Step>
class packed_elements {
public:
    using element = typename Step::element;

    explicit packed_elements(std::size_t count) : count_(count), elements_(count + 3 * Step::lanes, untouched()) {}

    element* data() { return elements_.data(); }
    bool is_untouched(std::size_t i) const { return elements_[i] == untouched(); }
    bool nothing_past_the_end() const
    {
        return std::all_of(elements_.begin() + static_cast<std::ptrdiff_t>(count_), elements_.end(),
                           [](element e) { return e == untouched(); });
    }
    /// Number `part` of an element.
    double operator()(std::size_t i, std::size_t part) const
    {
        if constexpr (Step::depth == 1) {
            return static_cast<double>(elements_[i]);
        } else {
            const auto numbers = std::bit_cast<std::array<sd::bfloat16, Step::depth>>(elements_[i]);
            return static_cast<double>(static_cast<float>(numbers[part]));
        }
    }

private:
    static element untouched() { return static_cast<element>(0x47114711); }

    std::size_t count_;
    std::vector<element> elements_;
};

constexpr std::array<std::ptrdiff_t, 14> sizes = {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 33, 64, 65};

} // namespace

TEST_CASE_TEMPLATE("steps_of: elements for a count of numbers, the last perhaps not full", S, SCALEDOT_SOURCES)
{
    using step = typename S::step;
    for (std::size_t count = 0; count < 9; ++count) {
        const std::size_t steps = kernel::steps_of<step>(count);
        CHECK(steps * step::depth >= count);
        CHECK(steps * step::depth < count + step::depth);
    }
}

TEST_CASE_TEMPLATE("make_element: the numbers there are, 0 for missing ones", S, SCALEDOT_SOURCES)
{
    using step = typename S::step;
    for (std::size_t count = 0; count <= 3; ++count) {
        const marked_rows<typename S::storage> numbers(1, count, 0);
        packed_elements<step> element(1);
        *element.data() = kernel::make_element<step>(numbers.first(), count);
        for (std::size_t part = 0; part < step::depth; ++part) {
            CHECK(element(0, part) == (part < count ? numbers(0, part) : 0));
        }
    }
}

TEST_CASE_TEMPLATE("pack_row: numbers as elements at every length, of opposite sign if asked for", S, SCALEDOT_SOURCES)
{
    using step = typename S::step;
    for (std::size_t count = 0; count <= 4 * step::lanes * step::depth + 1; ++count) {
        const marked_rows<typename S::storage> numbers(1, count, 0);
        const std::size_t steps = kernel::steps_of<step>(count);
        for (const bool negate : {false, true}) {
            packed_elements<step> row(steps);
            kernel::pack_row<step>(numbers.first(), count, negate, row.data());
            for (std::size_t i = 0; i < steps * step::depth; ++i) {
                const double expected = i < count ? numbers(0, i) : 0;
                REQUIRE(row(i / step::depth, i % step::depth) == (negate ? -expected : expected));
            }
            CHECK(row.nothing_past_the_end());
        }
    }
}

TEST_CASE_TEMPLATE(
    "pack_lanes: a key a lane, component by component; missing keys are 0, lanes beside stay as they are", S,
    SCALEDOT_SOURCES)
{
    using step = typename S::step;
    constexpr std::size_t apart = step::lanes + 3;
    for (std::size_t count = 1; count <= step::lanes; ++count) {
        for (const std::ptrdiff_t length : sizes) {
            const auto size = static_cast<std::size_t>(length);
            const marked_rows<typename S::storage> keys(count, size, length + 1);
            const std::size_t steps = kernel::steps_of<step>(size);
            packed_elements<step> packed(steps * apart);
            kernel::pack_lanes<step>(keys.first(), length + 1, count, size, packed.data(), apart);
            for (std::size_t i = 0; i < steps * apart; ++i) {
                const std::size_t lane = i % apart;
                for (std::size_t part = 0; part < step::depth; ++part) {
                    const std::size_t c = i / apart * step::depth + part;
                    REQUIRE((lane < step::lanes ? packed(i, part) == (lane < count && c < size ? keys(lane, c) : 0)
                                                : packed.is_untouched(i)));
                }
            }
            CHECK(packed.nothing_past_the_end());
        }
    }
}

TEST_CASE_TEMPLATE("pack_keys: panels of keys, component by component, from any storage type and stride; keys that are "
                   "missing from the "
                   "vectors tiles multiply are 0, other vectors stay",
                   S, SCALEDOT_SOURCES)
{
    using step = typename S::step;
    constexpr std::size_t panel_width = width<step>;
    for (const std::size_t count : std::initializer_list<std::size_t>{
             1, step::lanes - 1, step::lanes, step::lanes + 1, panel_width - 1, panel_width, panel_width + 1,
             2 * panel_width + step::lanes, kernel::block_keys - 1, kernel::block_keys}) {
        for (const std::ptrdiff_t length : sizes) {
            const auto size = static_cast<std::size_t>(length);
            for (const std::ptrdiff_t stride :
                 {length, length + 1, length + 30, -length, -length - 7, std::ptrdiff_t{0}}) {
                const marked_rows<typename S::storage> keys(count, size, stride);
                const std::size_t steps = kernel::steps_of<step>(size);
                const std::size_t panels = (count + panel_width - 1) / panel_width;
                packed_elements<step> packed(panels * panel_width * steps);
                kernel::pack_keys<step, arithmetic<step>>(keys.first(), stride, count, size, packed.data());
                bool right = true;
                for (std::size_t key = 0; key < panels * panel_width; ++key) {
                    const std::size_t panel = key / panel_width * panel_width * steps + key % panel_width;
                    const std::size_t of_panel = count - key / panel_width * panel_width;
                    const std::size_t multiplied =
                        kernel::vectors_for<typename step::arch, arithmetic<step>>(of_panel) * step::lanes;
                    for (std::size_t c = 0; c < steps * step::depth; ++c) {
                        const std::size_t element = panel + c / step::depth * panel_width;
                        const double expected = key < count && c < size ? keys(key, c) : 0;
                        right = right && (key % panel_width < multiplied ? packed(element, c % step::depth) == expected
                                                                         : packed.is_untouched(element));
                    }
                }
                CAPTURE(count);
                CAPTURE(size);
                CAPTURE(stride);
                CHECK(right);
                CHECK(packed.nothing_past_the_end());
            }
        }
    }
}

TEST_CASE_TEMPLATE("score_tile_of_rows: keys as they lie give the bits of packed keys; nothing past them is read", S,
                   SCALEDOT_SOURCES)
{
    using step = typename S::step;
    using storage = typename S::storage;
    using T = arithmetic<step>;
    constexpr std::size_t keys = width<step>;
    constexpr std::size_t at_once = kernel::transposed_at_once<typename step::element, storage> * step::depth;
    constexpr std::size_t line = kernel::cache_line / sizeof(storage);
    for (const std::size_t size : {at_once, line, line + at_once, 2 * line, 5 * line + 3 * at_once}) {
        const auto apart = static_cast<std::ptrdiff_t>(size);
        for (const std::ptrdiff_t stride : {apart, apart + 3, -apart}) {
            const marked_rows<storage> rows(keys, size, stride);
            const std::size_t steps = kernel::steps_of<step>(size);
            packed_elements<step> panel(keys * steps);
            kernel::pack_keys<step, T>(rows.first(), stride, keys, size, panel.data());
            const marked_rows<storage> query(4, size, apart + 1);
            packed_elements<step> query_rows(4 * steps), queries(4 * steps * step::copies);
            for (std::size_t r = 0; r < 4; ++r) {
                kernel::pack_row<step>(query.first() + static_cast<std::ptrdiff_t>(r * (size + 1)), size, r % 2 == 1,
                                       query_rows.data() + r * steps);
            }
            for (std::size_t i = 0; i < 4 * steps; ++i) {
                std::fill_n(queries.data() + i * step::copies, step::copies, query_rows.data()[i]);
            }
            const auto check = [&]<std::size_t Rows>(std::integral_constant<std::size_t, Rows>) {
                std::vector<T> expected(Rows * keys), scores(Rows * keys);
                kernel::score_tile<step, Rows, keys / step::lanes>(queries.data(), steps * step::copies, panel.data(),
                                                                   steps, expected.data(), keys);
                kernel::score_tile_of_rows<step, Rows>(queries.data(), steps * step::copies, rows.first(), stride,
                                                       steps, scores.data(), keys);
                CHECK(scores == expected);
                CHECK(scores[0] > 0);
            };
            check(std::integral_constant<std::size_t, 1>{});
            check(std::integral_constant<std::size_t, 2>{});
            check(std::integral_constant<std::size_t, 4>{});
        }
    }
}

TEST_CASE_TEMPLATE("pack_values: rows of whole vectors, as many keys each as a step has; what is missing is 0", S,
                   SCALEDOT_SOURCES)
{
    using step = typename S::step;
    for (const std::size_t count : std::initializer_list<std::size_t>{1, 2, 3, 6, 7}) {
        for (const std::ptrdiff_t length : sizes) {
            const auto size = static_cast<std::size_t>(length);
            const std::size_t whole = (size + step::lanes - 1) / step::lanes * step::lanes;
            for (const std::size_t row_size : {whole, whole + step::lanes}) {
                for (const std::ptrdiff_t stride : {length, length + 5, -length - 2}) {
                    const marked_rows<typename S::storage> values(count, size, stride);
                    const std::size_t steps = kernel::steps_of<step>(count);
                    packed_elements<step> packed(steps * row_size);
                    kernel::pack_values<step>(values.first(), stride, count, size, row_size, packed.data());
                    for (std::size_t key = 0; key < steps * step::depth; ++key) {
                        for (std::size_t c = 0; c < row_size; ++c) {
                            const double expected = key < count && c < size ? values(key, c) : 0;
                            REQUIRE(packed(key / step::depth * row_size + c, key % step::depth) == expected);
                        }
                    }
                    CHECK(packed.nothing_past_the_end());
                }
            }
        }
    }
}

#if defined(__AVX512BF16__)
TEST_CASE("packing pairs of bfloat16 moves bits: subnormal numbers, infinities and NaN stay what they are")
{
    using step = kernel::bfloat16_step<arch>;
    std::vector<sd::bfloat16> numbers(2 * 65536);
    for (std::size_t i = 0; i < numbers.size(); ++i) {
        numbers[i] = sd::bfloat16::from_bits(static_cast<std::uint16_t>(i * 40503));
    }
    std::vector<std::uint32_t> row(65536);
    for (const std::uint32_t sign : {0u, 0x80008000u}) {
        kernel::pack_row<step>(numbers.data(), numbers.size(), sign != 0, row.data());
        bool right = true;
        for (std::size_t i = 0; i < row.size(); ++i) {
            const std::uint32_t bits = numbers[2 * i].bits() | std::uint32_t{numbers[2 * i + 1].bits()} << 16;
            right = right && row[i] == (bits ^ sign);
        }
        CHECK(right);
    }
    kernel::pack_values<step>(numbers.data(), 65536, 2, 65536, 65536, row.data());
    bool right = true;
    for (std::size_t c = 0; c < row.size(); ++c) {
        right = right && row[c] == (numbers[c].bits() | std::uint32_t{numbers[65536 + c].bits()} << 16);
    }
    CHECK(right);
}
#endif
