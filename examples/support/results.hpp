// SPDX-License-Identifier: BSD-3-Clause
// What an experiment found: its table claim / measured / holds, its figures, what to conclude. Printed, and kept as
// JSON for the report.
#ifndef SCALEDOT_EXAMPLES_RESULTS_HPP
#define SCALEDOT_EXAMPLES_RESULTS_HPP

#include "csv.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

namespace examples {

class results {
public:
    results(std::string id, std::string title) : id_(std::move(id)), title_(std::move(title)) {}

    /// One row of the table. `holds` is the outcome of a comparison that could have gone the other way.
    void claim(std::string text, std::string measured, bool holds)
    {
        all_hold_ = all_hold_ && holds;
        claims_.push_back({std::move(text), std::move(measured), holds ? "yes" : "NO"});
    }

    /// A row for what this input cannot answer, such as a figure of GPT-2 when another checkpoint was given.
    void not_asked(std::string text, std::string why) { claims_.push_back({std::move(text), std::move(why), "-"}); }

    /// Where the numbers come from, and whatever else a reader of the table has to know.
    void note(std::string text)
    {
        std::printf("%s\n", text.c_str());
        notes_.push_back(std::move(text));
    }

    void figure(std::string name, std::string caption) { figures_.emplace_back(std::move(name), std::move(caption)); }

    /// What follows when every claim holds; left out when one does not.
    void conclude(std::string text) { conclusion_ = std::move(text); }

    /// Prints the table, writes it to `output` and says how the program has to exit: 0 when every claim holds,
    /// otherwise 1.
    int finish(const std::filesystem::path& output)
    {
        if (!all_hold_) {
            conclusion_ = "At least one claim does not hold here; nothing is concluded.";
        }
        print();
        save(output / (id_ + ".json"));
        return all_hold_ ? 0 : 1;
    }

private:
    struct row {
        std::string text, measured, holds;
    };

    // Columns are counted in characters, not bytes: the texts hold Greek letters and root signs in UTF-8.
    static std::size_t characters(const std::string& text)
    {
        return static_cast<std::size_t>(std::count_if(
            text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U; }));
    }

    static std::string padded(std::string text, std::size_t width)
    {
        const std::size_t length = characters(text);
        return std::move(text) + std::string(width > length ? width - length : 0, ' ');
    }

    void print() const
    {
        std::size_t text_width = 5;
        std::size_t measured_width = 8;
        for (const row& r : claims_) {
            text_width = std::max(text_width, characters(r.text));
            measured_width = std::max(measured_width, characters(r.measured));
        }
        std::printf("\n%s  %s  holds\n", padded("claim", text_width).c_str(),
                    padded("measured", measured_width).c_str());
        std::printf("%s\n", std::string(text_width + measured_width + 9, '-').c_str());
        for (const row& r : claims_) {
            std::printf("%s  %s  %s\n", padded(r.text, text_width).c_str(), padded(r.measured, measured_width).c_str(),
                        r.holds.c_str());
        }
        std::printf("\n%s\n", conclusion_.c_str());
    }

    void save(const std::filesystem::path& path) const
    {
        nlohmann::json saved = {{"id", id_},       {"title", title_},           {"all_hold", all_hold_},
                                {"notes", notes_}, {"conclusion", conclusion_}, {"claims", nlohmann::json::array()}};
        for (const row& r : claims_) {
            saved["claims"].push_back({{"claim", r.text}, {"measured", r.measured}, {"holds", r.holds}});
        }
        for (const auto& [name, caption] : figures_) {
            saved["figures"].push_back({{"name", name}, {"caption", caption}});
        }
        write_file(path, saved.dump(2) + "\n");
    }

    std::string id_;
    std::string title_;
    std::string conclusion_;
    std::vector<row> claims_;
    std::vector<std::string> notes_;
    std::vector<std::pair<std::string, std::string>> figures_;
    bool all_hold_ = true;
};

} // namespace examples

#endif
