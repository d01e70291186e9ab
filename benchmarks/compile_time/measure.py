#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""What each public function costs a translation unit in compile time: with the headers alone at the baseline and for
this machine, and with scaledot::dispatch. Prints a table in Markdown: medians of the compiler's own seconds, rounds
interleaved.

usage: measure.py [--compiler g++] [--rounds 3] [--only REGEX] [--include DIR]..."""
import argparse
import pathlib
import re
import resource
import statistics
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]

ARGUMENTS = (
    "const xt::xtensor<float, 4>& q, const xt::xtensor<float, 4>& k, const xt::xtensor<float, 4>& v, "
    "const xt::xtensor<float, 2>& x, const xt::xtensor<float, 1>& g"
)

# what, header, statement; the first two are what every unit pays
CASES = [
    ("xtensor alone", None, ""),
    ("the umbrella header, nothing called", "scaledot.hpp", ""),
    ("`softmax`", "softmax.hpp", "scaledot::softmax(x);"),
    ("`log_softmax`", "softmax.hpp", "scaledot::log_softmax(x);"),
    ("`logsumexp`", "softmax.hpp", "scaledot::logsumexp(x);"),
    ("`layer_norm`", "layer_norm.hpp", "scaledot::layer_norm(x, g, g);"),
    ("`layer_norm_with_statistics`", "layer_norm.hpp", "scaledot::layer_norm_with_statistics(x, g, g);"),
    ("`rms_norm`", "rms_norm.hpp", "scaledot::rms_norm(x, g);"),
    ("`attention`", "attention.hpp", "scaledot::attention(q, k, v);"),
    ("`attention_with_lse`", "attention.hpp", "scaledot::attention_with_lse(q, k, v);"),
    ("`attention` on a `kv_cache`", "attention.hpp",
     "extern const scaledot::kv_cache<float>& c; scaledot::attention(q, c);"),
    ("`attention_with_diagnostics`", "diagnostics.hpp", "scaledot::attention_with_diagnostics(q, k, v);"),
    ("`attention_diagnostics`", "diagnostics.hpp", "scaledot::attention_diagnostics(q, k);"),
    ("`softmax_diagnostics`", "diagnostics.hpp", "scaledot::softmax_diagnostics(x);"),
    ("`attention_scores`", "scores.hpp", "scaledot::attention_scores(q, k, scaledot::score_stage::scaled);"),
    ("`key_mass`", "key_mass.hpp", "scaledot::key_mass(q, k);"),
    ("`split_heads`", "split_heads.hpp", "scaledot::split_heads(x, 2);"),
    ("`summarize`", "statistics.hpp", "scaledot::summarize(x);"),
    ("`temperature_for_entropy`", "zone.hpp", "scaledot::temperature_for_entropy(g, 1.0);"),
    ("`classify_logits`", "zone.hpp", "scaledot::classify_logits(1.0, 8);"),
    ("`safetensors_file`", "safetensors.hpp", 'scaledot::safetensors_file file("x"); (void)file;'),
    ("`layer_norm_parameters`", "checkpoint.hpp",
     'scaledot::safetensors_file file("x"); scaledot::layer_norm_parameters(file);'),
]

BUILDS = {
    "headers, `-O2`": [],
    "headers, `-O2 -march=native`": ["-march=native"],
    "`scaledot::dispatch`, `-O2`": ["-DSCALEDOT_DISPATCH"],
}


def seconds(command):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def source(header, statement):
    own = f"#include <scaledot/{header}>\n" if header else ""
    return f"{own}#include <scaledot/detail/xtensor.hpp>\nvoid f({ARGUMENTS})\n{{\n    (void)q, (void)k, (void)v, (void)x, (void)g;\n    {statement}\n}}\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compiler", default="g++")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default=".")
    parser.add_argument("--include", action="append", default=[])
    options = parser.parse_args()
    cases = [case for case in CASES if re.search(options.only, case[0])]
    include = ["-I", str(ROOT / "include")] + [f"-isystem{directory}" for directory in options.include]
    figures = {}
    with tempfile.TemporaryDirectory() as directory:
        unit = pathlib.Path(directory) / "unit.cpp"
        for _ in range(options.rounds):
            for what, header, statement in cases:
                unit.write_text(source(header, statement))
                for build, flags in BUILDS.items():
                    command = [options.compiler, "-std=c++20", "-O2", *flags, *include, "-w", "-c", str(unit), "-o",
                               str(unit.with_suffix(".o"))]
                    figures.setdefault((what, build), []).append(seconds(command))
    version = subprocess.run([options.compiler, "--version"], check=True, capture_output=True, text=True)
    print(f"{version.stdout.splitlines()[0]}; median of {options.rounds}, in seconds of the compiler's own time\n")
    print("| a unit that calls | " + " | ".join(BUILDS) + " |")
    print("|---|" + "---:|" * len(BUILDS))
    for what, _, _ in cases:
        medians = [statistics.median(figures[what, build]) for build in BUILDS]
        print(f"| {what} | " + " | ".join(f"{median:.1f}" for median in medians) + " |")


if __name__ == "__main__":
    main()
