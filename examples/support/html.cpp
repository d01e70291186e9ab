// SPDX-License-Identifier: BSD-3-Clause
#include "html.hpp"

#include "text.hpp"

#include <scaledot/detail/config.hpp>
#include <scaledot/detail/xtensor.hpp>
#include <scaledot/kernel/simd.hpp>
#include <scaledot/version.hpp>

#include <CLI/Version.hpp>
#include <nlohmann/json.hpp>

#if __has_include(<xtensor/core/xtensor_config.hpp>)
#include <xtensor/core/xtensor_config.hpp>
#else
#include <xtensor/xtensor_config.hpp>
#endif
#include <xtl/xtl_config.hpp>

#include <cstddef>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <thread>

#include <sys/utsname.h>

#define SCALEDOT_EXAMPLES_TEXT_EXPANDED(name) #name
#define SCALEDOT_EXAMPLES_TEXT(name) SCALEDOT_EXAMPLES_TEXT_EXPANDED(name)

namespace examples {

namespace {

std::string base64(std::string_view bytes)
{
    constexpr std::string_view digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::string text;
    for (std::size_t i = 0; i < bytes.size(); i += 3) {
        unsigned group = 0;
        for (std::size_t j = 0; j < 3; ++j) {
            group = group << 8U | (i + j < bytes.size() ? static_cast<unsigned char>(bytes[i + j]) : 0U);
        }
        for (std::size_t j = 0; j < 4; ++j) {
            text += i + j <= bytes.size() ? digits[group >> (18 - 6 * j) & 63U] : '=';
        }
    }
    return text;
}

std::string first_line_of(const std::filesystem::path& path, std::string_view starting_with)
{
    std::ifstream file(path);
    for (std::string line; std::getline(file, line);) {
        if (line.starts_with(starting_with)) {
            const std::size_t colon = line.find_first_of(":=");
            std::string value = line.substr(colon == std::string::npos ? 0 : colon + 1);
            value.erase(0, value.find_first_not_of(" \""));
            value.erase(value.find_last_not_of('"') + 1);
            return value;
        }
    }
    return "unknown";
}

std::string gnuplot_version()
{
    std::string text(80, '\0');
    if (std::FILE* pipe = popen("gnuplot --version", "r")) {
        text.resize(std::fread(text.data(), 1, text.size(), pipe));
        pclose(pipe);
    }
    return text.substr(0, text.find('\n'));
}

} // namespace

std::string escaped(std::string_view text)
{
    std::string html;
    for (const char c : text) {
        switch (c) {
        case '&':
            html += "&amp;";
            break;
        case '<':
            html += "&lt;";
            break;
        case '>':
            html += "&gt;";
            break;
        case '"':
            html += "&quot;";
            break;
        default:
            html += c;
        }
    }
    return html;
}

std::string inlined_figure(const std::filesystem::path& svg, std::string_view caption)
{
    const std::string text = escaped(caption);
    return "<figure><img alt=\"" + text + "\" src=\"data:image/svg+xml;base64," + base64(read_file(svg)) +
           "\"><figcaption>" + text + "</figcaption></figure>\n";
}

std::vector<std::pair<std::string, std::string>> machine_and_versions()
{
    utsname system{};
    uname(&system);
    const std::time_t now = std::time(nullptr);
    char date[32] = "";
    std::strftime(date, sizeof date, "%Y-%m-%d %H:%M UTC", std::gmtime(&now));
#if defined(__clang__)
    const std::string compiler = "clang " __clang_version__;
#else
    const std::string compiler = "g++ " __VERSION__;
#endif
    return {
        {"run", date},
        {"processor",
         first_line_of("/proc/cpuinfo", "model name") + format(", %u threads", std::thread::hardware_concurrency())},
        {"system", first_line_of("/etc/os-release", "PRETTY_NAME") + ", " + system.sysname + " " + system.release},
        {"compiler", compiler},
        {"scaledot", format("%d.%d.%d, build " SCALEDOT_EXAMPLES_TEXT(SCALEDOT_BUILD), SCALEDOT_VERSION_MAJOR,
                            SCALEDOT_VERSION_MINOR, SCALEDOT_VERSION_PATCH)},
        {"xtensor", format("%d.%d.%d", XTENSOR_VERSION_MAJOR, XTENSOR_VERSION_MINOR, XTENSOR_VERSION_PATCH)},
        {"xsimd", format("%d.%d.%d", XSIMD_VERSION_MAJOR, XSIMD_VERSION_MINOR, XSIMD_VERSION_PATCH)},
        {"xtl", format("%d.%d.%d", XTL_VERSION_MAJOR, XTL_VERSION_MINOR, XTL_VERSION_PATCH)},
        {"nlohmann_json",
         format("%d.%d.%d", NLOHMANN_JSON_VERSION_MAJOR, NLOHMANN_JSON_VERSION_MINOR, NLOHMANN_JSON_VERSION_PATCH)},
        {"CLI11", CLI11_VERSION},
        {"plots", gnuplot_version()},
    };
}

const char* const report_style = R"(<style>
body { max-width: 1120px; margin: 2em auto; padding: 0 1em; font: 16px/1.5 'DejaVu Sans', Verdana, sans-serif;
  color: #222; background: #fff }
h1 { font-size: 1.7em } h2 { font-size: 1.3em; margin-top: 2.4em; border-top: 1px solid #ccc; padding-top: 1em }
table { border-collapse: collapse; width: 100%; font-size: 0.88em; margin: 1em 0 }
th, td { text-align: left; padding: 0.35em 0.7em; border-bottom: 1px solid #ddd; vertical-align: top }
th { background: #f3f3f3 } td:last-child { white-space: nowrap }
.yes { color: #00704f; font-weight: bold } .no { color: #b00020; font-weight: bold }
.machine td:last-child { white-space: normal } .machine { width: auto }
.note { color: #555; font-size: 0.9em }
.conclusion { background: #f0f6fb; border-left: 4px solid #0072B2; padding: 0.7em 1em }
.verdict { font-size: 1.15em; padding: 0.7em 1em; background: #eef8f2; border-left: 4px solid #009E73 }
.verdict.bad { background: #fdeeee; border-color: #b00020 }
figure { margin: 1.2em 0 } img { width: 100%; height: auto } figcaption { font-size: 0.85em; color: #555 }
</style>
)";

} // namespace examples
