// SPDX-License-Identifier: BSD-3-Clause
// Snippets of the documentation: what the figures of attention's rows say about its heads. Prints what the page shows,
// and compares it with that.
#include <scaledot/scaledot.hpp>

#include "support.hpp"

#include <cstdarg>
#include <fstream>
#include <iterator>
#include <string>

namespace {

constexpr std::size_t head_size = 64;
std::string printed;

#if defined(__GNUC__)
__attribute__((format(printf, 1, 2)))
#endif
void print(const char* pattern, ...)
{
    std::array<char, 400> line{};
    std::va_list arguments;
    va_start(arguments, pattern);
    std::vsnprintf(line.data(), line.size(), pattern, arguments);
    va_end(arguments);
    printed += line.data();
}

void look_at_heads()
{
    xt::xtensor<float, 4> q = numbers<4>({1, 3, 64, head_size});
    const auto k = numbers<4>({1, 3, 64, head_size});
    xt::view(q, 0, 0) *= 0.1f; // a head that looks at nothing in particular
    xt::view(q, 0, 2) *= 40.f; // and one whose weights have grown

    // begin: figures
    auto health = scaledot::attention_diagnostics(q, k); // each figure [batch, heads, queries]
    for (std::size_t h = 0; h < 3; ++h) {
        print("head %zu, query 0: logits %.2f ... %.2f, entropy %.3f nats, %.1f keys in effect, largest share %.3f\n",
              h, health.min_logit(0, h, 0), health.max_logit(0, h, 0), health.entropy(0, h, 0),
              health.effective_keys(0, h, 0), health.max_probability(0, h, 0));
    }
    // end: figures

    // begin: verdicts
    auto verdicts = scaledot::head_verdicts(health); // one for each head and batch entry
    for (const auto& verdict : verdicts) {
        print("%s\n", to_string(verdict).c_str());
    }
    // end: verdicts
    CHECK(verdicts[0].zone == scaledot::logit_zone::flat && verdicts[1].zone == scaledot::logit_zone::balanced &&
          verdicts[2].zone == scaledot::logit_zone::saturated);

    // begin: way_back
    // The temperature that brings the third head back, found from its scores, and what the head says then
    auto scores = scaledot::attention_scores(q, k, scaledot::score_stage::masked);
    const double temperature = scaledot::recommended_temperature(xt::view(scores, 0, 2));
    const double scale = 1 / std::sqrt(static_cast<double>(head_size));
    auto cooled = scaledot::attention_diagnostics(q, k, {.scale = scale / temperature});
    print("at temperature %.3g: %s\n", temperature, to_string(scaledot::head_verdicts(cooled)[2]).c_str());
    // end: way_back
    CHECK(scaledot::head_verdicts(cooled)[2].zone == scaledot::logit_zone::balanced);

    // begin: headroom
    // Would half and bfloat16 do for these scores?
    for (const auto& head : scaledot::headroom_of_heads<xtl::half_float>(health, scale)) {
        print("%s\n", to_string(head).c_str());
    }
    print("%s\n", to_string(scaledot::headroom_of_heads<scaledot::bfloat16>(health, scale)[2]).c_str());

    // QK-Clip: the factor on each head's logits that brings the largest down to 100
    for (double factor : scaledot::qk_clip_factors(health, 100)) {
        print("clip %.3g\n", factor);
    }
    // end: headroom

    // begin: summaries
    auto largest = scaledot::summarize_heads(health.max_logit);
    print("largest logits of head 2: %.1f ... %.1f\n", largest[2].minimum, largest[2].maximum);
    // end: summaries

    // begin: keys
    auto mass = scaledot::key_mass(q, k);                  // [batch, heads, keys]: sums over queries
    auto idle = scaledot::share_of_keys_below(q, k, 1e-4); // [batch, heads, queries]
    print("head 2: a key receives at most %.1f of 64 queries' attention, %.0f %% of the keys next to nothing\n",
          xt::amax(xt::view(mass, 0, 2))(), 100 * xt::mean(xt::view(idle, 0, 2))());
    // end: keys
}

void in_passing()
{
    const auto q = numbers<4>({1, 2, 16, head_size});
    const auto k = numbers<4>({1, 2, 16, head_size});
    const auto v = numbers<4>({1, 2, 16, head_size});
    // begin: with_output
    auto [y, health] = scaledot::attention_with_diagnostics(q, k, v, {.causal = true}); // in attention's own pass
    // end: with_output
    CHECK(y == scaledot::attention(q, k, v, {.causal = true}));
    CHECK(health.visible_keys(0, 0, 3) == 4);
}

} // namespace

int main(int argc, char** argv)
{
    look_at_heads();
    in_passing();
    if (argc > 1) { // writes what the page shows anew
        std::ofstream(argv[1]) << printed;
        return failures;
    }
    std::ifstream file(SCALEDOT_SNIPPET_OUTPUT);
    const std::string shown{std::istreambuf_iterator<char>(file), {}};
    if (shown != printed) {
        std::printf("%s\ndoes not say what this program printed:\n%s", SCALEDOT_SNIPPET_OUTPUT, printed.c_str());
        ++failures;
    }
    return failures;
}
