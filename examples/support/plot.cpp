// SPDX-License-Identifier: BSD-3-Clause
#include "plot.hpp"

#include "process.hpp"

#include <stdexcept>
#include <system_error>

namespace examples {

namespace {

// What every figure has in common. The colours are those of Okabe and Ito, which colour-blind readers can tell apart.
constexpr const char* style = R"(set encoding utf8
set datafile separator ','
blue = '#0072B2'; red = '#D55E00'; green = '#009E73'; orange = '#E69F00'; sky = '#56B4E9'; grey = '#888888'
set border 3 lc rgb '#404040'
set tics nomirror out
set grid lc rgb '#dddddd' lt 1 lw 0.7
set key samplen 2 spacing 1.15
)";

} // namespace

std::string gnuplot_quoted(const std::string& text)
{
    std::string quoted = "'";
    for (const char c : text) {
        quoted += c == '\'' ? "''" : std::string(1, c);
    }
    return quoted + "'";
}

void draw(const std::filesystem::path& directory, const std::string& name, plot_size size, const std::string& script)
{
    namespace fs = std::filesystem;
    const fs::path svg = directory / (name + ".svg");
    const fs::path png = directory / (name + ".png");
    // A figure of an earlier run must not be taken for this one's.
    fs::remove(svg);
    fs::remove(png);
    std::string text = "cd " + gnuplot_quoted(fs::absolute(directory).string()) + "\n" + style;
    text += format("set terminal svg size %d,%d dynamic font 'DejaVu Sans,13' background '#ffffff'\n", size.width,
                   size.height);
    text += "set output " + gnuplot_quoted(svg.filename().string()) + "\n" + script + "\nunset output\nreset\n" + style;
    text += format("set terminal pngcairo size %d,%d font 'DejaVu Sans,10' background '#ffffff'\n", size.width,
                   size.height);
    text += "set output " + gnuplot_quoted(png.filename().string()) + "\n" + script + "\nunset output\n";
    const fs::path file = directory / (name + ".gp");
    write_file(file, text);
    try {
        const int code = run_program({"gnuplot", file.string()});
        if (code != 0) {
            throw std::runtime_error(format("gnuplot failed on %s (exit code %d)", file.c_str(), code));
        }
    } catch (const std::system_error& error) {
        throw std::runtime_error(
            format("the figures need gnuplot (Debian and Ubuntu: apt install gnuplot-nox): %s", error.what()));
    }
    for (const fs::path& figure : {svg, png}) {
        if (!fs::exists(figure) || fs::file_size(figure) == 0) {
            throw std::runtime_error("gnuplot wrote no " + figure.string());
        }
    }
}

} // namespace examples
