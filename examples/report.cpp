// SPDX-License-Identifier: BSD-3-Clause
// Runs the eight experiments, and inspect_checkpoint where a checkpoint is given, and writes one HTML file that needs
// nothing else: figures, claims, machine, conclusions.
#include "support/html.hpp"
#include "support/process.hpp"
#include "support/program.hpp"
#include "support/results.hpp"
#include "support/text.hpp"

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

using namespace examples;

namespace {

struct experiment {
    const char* name;
    bool draws_at_random;
    bool takes_scores;
};

constexpr std::array<experiment, 8> experiments = {{
    {"01_dot_product_spread", true, false},
    {"02_square_root_law", true, false},
    {"03_softmax_before_and_after_scaling", true, true},
    {"04_layer_norm_parameters", false, false},
    {"05_temperature", true, true},
    {"06_goldilocks_zone", true, true},
    {"07_one_head_collapses", true, false},
    {"08_qk_clip", true, false},
}};

struct outcome {
    std::string name;
    int code;
    double seconds;
};

// One experiment's part of the report; adds its claims to the counts and its line to the contents.
std::string section(const outcome& run, const std::filesystem::path& output, std::size_t& claims, std::size_t& held,
                    std::string& contents)
{
    if (run.code > 1) {
        contents += "<tr><td>" + escaped(run.name) + "</td><td class=\"no\">failed</td></tr>\n";
        return format(
            "<h2>%s</h2>\n<p class=\"no\">The program failed (exit code %d); its message is on the terminal.</p>\n",
            escaped(run.name).c_str(), run.code);
    }
    const saved_results found = read_results(output / (run.name + ".json"));
    const std::size_t claims_before = claims;
    const std::size_t held_before = held;
    std::string html = "<h2 id=\"" + run.name + "\">" + escaped(found.title) + "</h2>\n";
    for (const std::string& note : found.notes) {
        html += "<p class=\"note\">" + escaped(note) + "</p>\n";
    }
    html += "<table><tr><th>claim</th><th>measured</th><th>holds</th></tr>\n";
    for (const auto& [text, measured, holds] : found.claims) {
        claims += holds == "-" ? 0 : 1;
        held += holds == "yes" ? 1 : 0;
        html += "<tr><td>" + escaped(text) + "</td><td>" + escaped(measured) + "</td><td class=\"" +
                (holds == "yes" ? "yes"
                 : holds == "-" ? "note"
                                : "no") +
                "\">" + escaped(holds) + "</td></tr>\n";
    }
    contents += "<tr><td><a href=\"#" + run.name + "\">" + escaped(found.title) + "</a></td>" +
                format("<td class=\"%s\">%zu of %zu claims hold</td></tr>\n", run.code == 0 ? "yes" : "no",
                       held - held_before, claims - claims_before);
    html += "</table>\n<p class=\"conclusion\">" + escaped(found.conclusion) + "</p>\n";
    for (const auto& [name, caption] : found.figures) {
        html += inlined_figure(output / (name + ".svg"), caption);
    }
    return html + format("<p class=\"note\">%s, %.1f s</p>\n", escaped(run.name).c_str(), run.seconds);
}

int write_report(const std::vector<outcome>& runs, const std::filesystem::path& output)
{
    std::size_t claims = 0;
    std::size_t held = 0;
    std::size_t failed = 0;
    std::string sections, contents;
    for (const outcome& run : runs) {
        failed += run.code > 1 ? 1 : 0;
        sections += section(run, output, claims, held, contents);
    }
    const bool good = failed == 0 && held == claims;
    std::string verdict =
        good ? format("All %zu claims hold, in %zu programs.", claims, runs.size())
             : format("%zu of %zu claims hold; %zu of %zu programs failed.", held, claims, failed, runs.size());

    std::string html =
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>scaledot: eight experiments</title>\n";
    html += report_style;
    html +=
        "</head><body>\n<h1>Numerical scaling in attention: eight experiments</h1>\n"
        "<p>Why attention divides its scores by √d, what happens when it does not, and what a trained model made of "
        "it. Each claim is checked by the program that draws its figures, with scaledot's own functions; random "
        "experiments are repeated over many seeds, and “median (5 % … 95 %)” is their spread.</p>\n";
    html += format("<p class=\"verdict%s\">%s</p>\n", good ? "" : " bad", verdict.c_str());
    html += "<table class=\"machine\">\n" + contents + "</table>\n";
    html += sections + "<h2>Machine and versions</h2>\n<table class=\"machine\">\n";
    for (const auto& [name, value] : machine_and_versions()) {
        html += "<tr><td>" + escaped(name) + "</td><td>" + escaped(value) + "</td></tr>\n";
    }
    html += "</table>\n</body></html>\n";
    const std::filesystem::path report = output / "report.html";
    write_file(report, html);
    std::printf("\n%s\nreport: %s\n", verdict.c_str(), std::filesystem::absolute(report).c_str());
    return failed > 0 ? 2 : good ? 0 : 1;
}

} // namespace

int main(int argc, char** argv)
{
    command_line line("Runs the eight experiments and writes one HTML report");
    common_options options;
    std::optional<std::uint32_t> seed;
    std::optional<std::size_t> trials;
    std::filesystem::path checkpoint, scores;
    options.add_to(line, false);
    line.add("--seed", seed, "seed of the random experiments, instead of each one's own");
    line.add("--trials", trials, "random draws, instead of each one's own number", within{10, 100'000});
    line.add(
        "--checkpoint", checkpoint,
        "LayerNorm parameters for experiment 4, instead of the recorded figures of GPT-2, and for inspect_checkpoint");
    line.add("--scores", scores, "GPT-2's q·k for experiments 3, 5 and 6, instead of the recorded figures");

    return run(line, argc, argv, options, [&] {
        std::error_code unknown;
        std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", unknown);
        self = unknown ? std::filesystem::path(argv[0]) : self;
        std::vector<outcome> runs;
        const std::size_t programs = experiments.size() + (checkpoint.empty() ? 0 : 1);
        const auto run_one = [&](const std::string& name, const std::vector<std::string>& arguments) {
            std::printf("\n[%zu/%zu] %s\n", runs.size() + 1, programs, name.c_str());
            std::fflush(stdout);
            std::vector<std::string> words = {(self.parent_path() / name).string(), "--output",
                                              options.output.string()};
            words.insert(words.end(), arguments.begin(), arguments.end());
            const auto start = std::chrono::steady_clock::now();
            const int code = run_program(words);
            const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
            std::printf("[%zu/%zu] %s: %s, %.1f s\n", runs.size() + 1, programs, name.c_str(),
                        code == 0   ? "every claim holds"
                        : code == 1 ? "A CLAIM DOES NOT HOLD"
                                    : "FAILED",
                        took.count());
            runs.push_back({name, code, took.count()});
        };
        for (const experiment& e : experiments) {
            std::vector<std::string> arguments;
            const auto pass_on = [&](const char* option, const std::string& value) {
                arguments.insert(arguments.end(), {option, value});
            };
            if (e.draws_at_random && seed) {
                pass_on("--seed", std::to_string(*seed));
            }
            if (e.draws_at_random && trials) {
                pass_on("--trials", std::to_string(*trials));
            }
            if (e.takes_scores && !scores.empty()) {
                pass_on("--scores", scores.string());
            }
            if (std::string(e.name).starts_with("04") && !checkpoint.empty()) {
                pass_on("--checkpoint", checkpoint.string());
            }
            run_one(e.name, arguments);
        }
        if (!checkpoint.empty()) {
            run_one("inspect_checkpoint", {checkpoint.string()});
        }
        return write_report(runs, options.output);
    });
}
