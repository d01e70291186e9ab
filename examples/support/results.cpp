// SPDX-License-Identifier: BSD-3-Clause
#include "results.hpp"

#include "text.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <utility>

namespace examples {

namespace {

// Columns are counted in characters, not bytes: the texts hold Greek letters and root signs in UTF-8.
std::size_t characters(const std::string& text)
{
    return static_cast<std::size_t>(std::count_if(
        text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U; }));
}

std::string padded(std::string text, std::size_t width)
{
    const std::size_t length = characters(text);
    return std::move(text) + std::string(width > length ? width - length : 0, ' ');
}

} // namespace

results::results(std::string id, std::string title)
{
    found_.id = std::move(id);
    found_.title = std::move(title);
}

void results::claim(std::string text, std::string measured, bool holds)
{
    all_hold_ = all_hold_ && holds;
    found_.claims.push_back({std::move(text), std::move(measured), holds ? "yes" : "NO"});
}

void results::not_asked(std::string text, std::string why)
{
    found_.claims.push_back({std::move(text), std::move(why), "-"});
}

void results::note(std::string text)
{
    std::printf("%s\n", text.c_str());
    found_.notes.push_back(std::move(text));
}

void results::figure(std::string name, std::string caption)
{
    found_.figures.push_back({std::move(name), std::move(caption)});
}

void results::conclude(std::string text)
{
    found_.conclusion = std::move(text);
}

int results::finish(const std::filesystem::path& output)
{
    if (!all_hold_) {
        found_.conclusion = "At least one claim does not hold here; nothing is concluded.";
    }
    print();
    save(output / (found_.id + ".json"));
    return all_hold_ ? 0 : 1;
}

void results::print() const
{
    std::size_t text_width = 5;
    std::size_t measured_width = 8;
    for (const auto& claim : found_.claims) {
        text_width = std::max(text_width, characters(claim.text));
        measured_width = std::max(measured_width, characters(claim.measured));
    }
    std::printf("\n%s  %s  holds\n", padded("claim", text_width).c_str(), padded("measured", measured_width).c_str());
    std::printf("%s\n", std::string(text_width + measured_width + 9, '-').c_str());
    for (const auto& claim : found_.claims) {
        std::printf("%s  %s  %s\n", padded(claim.text, text_width).c_str(),
                    padded(claim.measured, measured_width).c_str(), claim.holds.c_str());
    }
    std::printf("\n%s\n", found_.conclusion.c_str());
}

void results::save(const std::filesystem::path& path) const
{
    nlohmann::json saved = {
        {"id", found_.id},       {"title", found_.title},           {"all_hold", all_hold_},
        {"notes", found_.notes}, {"conclusion", found_.conclusion}, {"claims", nlohmann::json::array()}};
    for (const auto& claim : found_.claims) {
        saved["claims"].push_back({{"claim", claim.text}, {"measured", claim.measured}, {"holds", claim.holds}});
    }
    for (const auto& figure : found_.figures) {
        saved["figures"].push_back({{"name", figure.name}, {"caption", figure.caption}});
    }
    write_file(path, saved.dump(2) + "\n");
}

saved_results read_results(const std::filesystem::path& path)
{
    auto saved = nlohmann::json::parse(read_file(path));
    saved_results found{saved.at("id"), saved.at("title"), saved.at("conclusion"), saved.at("notes"), {}, {}};
    for (const auto& claim : saved.at("claims")) {
        found.claims.push_back({claim.at("claim"), claim.at("measured"), claim.at("holds")});
    }
    for (const auto& figure : saved["figures"]) { // not there where nothing was drawn
        found.figures.push_back({figure.at("name"), figure.at("caption")});
    }
    return found;
}

} // namespace examples
