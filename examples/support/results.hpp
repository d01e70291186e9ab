// SPDX-License-Identifier: BSD-3-Clause
// What an experiment found: its table claim / measured / holds, its figures, what to conclude. Printed, and kept as
// JSON for the report.
#ifndef SCALEDOT_EXAMPLES_RESULTS_HPP
#define SCALEDOT_EXAMPLES_RESULTS_HPP

#include <filesystem>
#include <string>
#include <vector>

namespace examples {

/// What the JSON file of an experiment holds.
struct saved_results {
    struct claim {
        std::string text, measured, holds; ///< holds: "yes", "NO", or "-" where it was not asked
    };
    struct figure {
        std::string name, caption;
    };

    std::string id, title, conclusion;
    std::vector<std::string> notes;
    std::vector<claim> claims;
    std::vector<figure> figures;
};

/// What results::finish wrote.
saved_results read_results(const std::filesystem::path& path);

class results {
public:
    results(std::string id, std::string title);

    /// One row of the table. `holds` is the outcome of a comparison that could have gone the other way.
    void claim(std::string text, std::string measured, bool holds);

    /// A row for what this input cannot answer, such as a figure of GPT-2 when another checkpoint was given.
    void not_asked(std::string text, std::string why);

    /// Where the numbers come from, and whatever else a reader of the table has to know.
    void note(std::string text);

    void figure(std::string name, std::string caption);

    /// What follows when every claim holds; left out when one does not.
    void conclude(std::string text);

    /// Prints the table, writes it to `output` and says how the program has to exit: 0 when every claim holds,
    /// otherwise 1.
    int finish(const std::filesystem::path& output);

private:
    void print() const;
    void save(const std::filesystem::path& path) const;

    saved_results found_;
    bool all_hold_ = true;
};

} // namespace examples

#endif
