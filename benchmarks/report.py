# SPDX-License-Identifier: BSD-3-Clause
"""Turns the JSON files of a run (scripts/benchmarks) into docs/performance.md's tables and its chart."""

import argparse
import collections
import itertools
import json
import pathlib
import shutil
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
OURS = "scaledot"
# Ours with more to do, scaledot_<what>: no rivals.
OURS_WITH = OURS + "_"
# Ours first, then the rivals, told apart also by those who see fewer colours.
COLORS = ["#c00000", "#332288", "#88ccee", "#44aa99", "#117733", "#999933", "#ddcc77", "#cc6677", "#882255", "#aaaaaa"]

Case = collections.namedtuple("Case", "type phase shape causal")


class Figures:
    """Medians over the rounds of one benchmark."""

    def __init__(self, rounds):
        unit = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0}
        self.counters = {}
        for key, value in rounds[0].items():
            if isinstance(value, float):
                self.counters[key] = statistics.median(r[key] for r in rounds)
        times = [r["real_time"] * unit[r["time_unit"]] for r in rounds]
        self.seconds = statistics.median(times)
        self.spread = (max(times) - min(times)) / self.seconds
        self.rounds = len(rounds)

    def __getitem__(self, counter):
        return self.counters[counter]


def read(path):
    """The context of a run, {name: Figures}, {name: error}."""
    if not path.exists():
        return {}, {}, {}
    text = path.read_text()
    if not text:  # Google Benchmark writes nothing when the filter matches nothing.
        return {}, {}, {}
    data = json.loads(text)
    rounds = collections.defaultdict(list)
    errors = {}
    for entry in data["benchmarks"]:
        name = entry["run_name"].removesuffix("/manual_time")
        if entry.get("error_occurred"):
            errors[name] = entry["error_message"]
        elif entry["run_type"] == "iteration":
            rounds[name].append(entry)
    return data["context"], {name: Figures(entries) for name, entries in rounds.items()}, errors


def attention_cases(figures):
    """{case: {who: Figures}} in the order of the tables."""
    cases = collections.defaultdict(dict)
    for name, measured in figures.items():
        _, kind, phase, shape, causal, who = name.split("/")
        cases[Case(kind, phase, shape, causal == "causal")][who] = measured
    return dict(sorted(cases.items(), key=lambda item: order_of(item[0])))


def order_of(case):
    """By type, then from little to much work."""
    batch, heads, queries, keys, size = case.shape.split("x")
    heads, key_heads = map(int, heads.split(":"))
    work = int(batch) * heads * int(queries) * int(keys) * int(size)
    return (case.type, work, key_heads, not case.causal, int(size))


def shape_text(case):
    batch, heads, queries, keys, size = case.shape.split("x")
    text = f"[{batch}, {heads.replace(':', '/')}, {queries}, {keys}, {size}]"
    return text + (" causal" if case.causal else "")


def milliseconds(seconds):
    return f"{seconds * 1e3:.3g}"


def percent(share):
    return f"{share * 100:.0f} %"


def table(header, rows):
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]


def ratios(contenders, rivals):
    """Time of each rival / our time; the best rival in bold."""
    ours = contenders[OURS].seconds
    found = {who: contenders[who].seconds / ours for who in rivals if who in contenders}
    best = min(found.values(), default=None)
    texts = []
    for who in rivals:
        text = f"{found[who]:.2f}" if who in found else "–"
        texts.append(f"**{text}**" if who in found and found[who] == best else text)
    return texts


def rivals_of(cases):
    everyone = {who for contenders in cases.values() for who in contenders}
    return sorted(who for who in everyone if who != OURS and not who.startswith(OURS_WITH))


def prefill_table(cases, rivals):
    rows = []
    for case, contenders in cases.items():
        if case.type == "float" and case.phase == "prefill" and OURS in contenders:
            ours = contenders[OURS]
            rows.append(
                [shape_text(case), milliseconds(ours.seconds), f"{ours['flops'] / 1e9:.0f}", percent(ours["of_peak"])]
                + ratios(contenders, rivals)
            )
    return table(["shape", "ms", "GFLOP/s", "of peak"] + rivals, rows) if rows else []


def decode_table(cases, rivals):
    rows = []
    for case, contenders in cases.items():
        if case.type == "float" and case.phase == "decode" and OURS in contenders:
            ours = contenders[OURS]
            rows.append(
                [shape_text(case), milliseconds(ours.seconds), f"{ours['bytes'] / 1e9:.1f}", percent(ours["of_read_rate"])]
                + ratios(contenders, rivals)
            )
    return table(["shape", "ms", "GB/s", "of read rate"] + rivals, rows) if rows else []


def types_table(cases):
    rivals = rivals_of({case: contenders for case, contenders in cases.items() if case.type != "float"})
    rows = []
    for case, contenders in cases.items():
        float_case = cases.get(case._replace(type="float"), {})
        if case.type == "float" or OURS not in contenders or OURS not in float_case:
            continue
        ours = contenders[OURS]
        of_best = "of_read_rate" if case.phase == "decode" else "of_peak"
        of_best_text = percent(ours[of_best]) + (" of read rate" if case.phase == "decode" else " of peak")
        speed = float_case[OURS].seconds / ours.seconds
        rows.append(
            [case.type.replace("_", " "), shape_text(case), milliseconds(ours.seconds), of_best_text, f"{speed:.2f}"]
            + ratios(contenders, rivals)
        )
    rivals = [f"{who} / ours" for who in rivals]
    return table(["type", "shape", "ms", "share", "float's time / its time"] + rivals, rows) if rows else []


def comparisons(cases):
    """Causal against full, diagnostics and options against attention alone."""
    lines = []
    for case, contenders in cases.items():
        full = cases.get(case._replace(causal=False), {})
        if case.type == "float" and case.causal and OURS in contenders and OURS in full:
            share = contenders[OURS].seconds / full[OURS].seconds
            lines.append(f"- {shape_text(case)}: {share:.2f} of the full matrix's time")
    for case, contenders in cases.items():
        for who, measured in contenders.items():
            if OURS in contenders and who.startswith(OURS_WITH):
                what = who.removeprefix(OURS_WITH).replace("_", " ")
                more = measured.seconds / contenders[OURS].seconds - 1
                lines.append(f"- {shape_text(case)} with {what}: {more * 100:+.0f} % time")
    return lines


def losses(cases, rivals):
    lines = []
    for case, contenders in cases.items():
        faster = {
            who: contenders[OURS].seconds / contenders[who].seconds
            for who in rivals
            if who in contenders and OURS in contenders and contenders[who].seconds < contenders[OURS].seconds
        }
        if faster:
            names = ", ".join(f"{who} ({times:.2f} times as fast)" for who, times in faster.items())
            kind = "" if case.type == "float" else f"{case.type}, "
            lines.append(f"- against {names}: {kind}{shape_text(case)}")  # "[shape]: name (...)" would define a link
    return lines or ["Nowhere in this run."]


RowCase = collections.namedtuple("RowCase", "type operation shape")
ROW_TYPES = ["float", "double", "bfloat16"]
ROW_OPERATIONS = ["softmax", "softmax_axis0", "log_softmax", "logsumexp", "layer_norm", "rms_norm"]


def row_cases(figures):
    """{case: {who: Figures}} in the order of the tables."""
    cases = collections.defaultdict(dict)
    for name, measured in figures.items():
        _, kind, operation, shape, who = name.split("/")
        cases[RowCase(kind, operation, shape)][who] = measured

    def place(item):
        case = item[0]
        extents = [int(extent) for extent in reversed(case.shape.split("x"))]
        return ROW_TYPES.index(case.type), ROW_OPERATIONS.index(case.operation), extents

    return dict(sorted(cases.items(), key=place))


def rows_table(cases, kind):
    """Ours and memcpy's time an element, and each rival's time / ours."""
    cases = {case: contenders for case, contenders in cases.items() if case.type == kind and OURS in contenders}
    rivals = rivals_of(cases)
    rows = []
    for case, contenders in cases.items():
        ours = contenders[OURS]
        elements = ours["elements"]
        copy = statistics.median(f["memcpy_seconds"] for f in contenders.values())
        rows.append(
            [case.operation, case.shape, f"{ours.seconds / elements * 1e9:.3f}", f"{copy / elements * 1e9:.3f}"]
            + [f"{copy / ours.seconds:.2f}"]
            + ratios(contenders, rivals)
        )
    return table(["operation", "rows x columns", "ns an element", "memcpy", "of memcpy's rate"] + rivals, rows) if rows else []


def row_losses(cases):
    lines = []
    for case, contenders in cases.items():
        if OURS not in contenders:
            continue
        ours = contenders[OURS].seconds
        faster = [f"{who} ({ours / f.seconds:.2f} times as fast)" for who, f in contenders.items() if f.seconds < ours]
        if faster:
            lines.append(f"- {case.operation} {case.shape}, {case.type}: {', '.join(faster)}")
    return lines or ["Nowhere in this run."]


def processor():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return "unknown processor"


def revision():
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or "unknown"


def machine_lines(context, cases, options):
    everyone = [f for contenders in cases.values() for f in contenders.values()]
    peaks = [f["peak"] for c, contenders in cases.items() if c.type != "double" for f in contenders.values() if "peak" in f.counters]
    rates = [f["read_rate"] for f in everyone if "read_rate" in f.counters]
    caches = ", ".join(f"L{c['level']} {c['size'] // 1024} KiB" for c in context["caches"] if c["type"] != "Instruction")
    lines = [
        f"- machine: {processor()}, {context['num_cpus']} cores; {caches}",
        f"- compiler: {context['compiler']}; revision {revision()}; {context['date'][:10]}",
    ]
    if peaks:
        lines.append(f"- multiply-add peak, float: {min(peaks) / 1e9:.0f} to {max(peaks) / 1e9:.0f} GFLOP/s")
    if rates:
        lines.append(f"- memory read rate: {min(rates) / 1e9:.1f} to {max(rates) / 1e9:.1f} GB/s")
    versions = [(key.removeprefix("peer/"), value) for key, value in context.items() if key.startswith("peer/")]
    lines += [f"- {who}: {' '.join(version.split())}" for who, version in versions if who != OURS]
    spread = statistics.median(f.spread for f in everyone)
    lines.append(
        f"- {max(f.rounds for f in everyone)} rounds; between a benchmark's fastest and slowest round lie"
        f" {spread * 100:.0f} % (median of all)"
    )
    lines.append(f"- load of the machine at the start: {context['load_avg'][0]:.1f}")
    if context["seconds"] != "of the clock":
        lines.append("- times are the thread's own: the machine had other work to do")
    if options.filter != ".":
        lines.append(f"- only what matches `{options.filter}`")
    return lines


def row_sections(context, cases, errors, threads):
    if not cases:
        return []
    versions = [(key.removeprefix("peer/"), value) for key, value in context.items() if key.startswith("peer/")]
    lines = [f"- {who}: {' '.join(version.split())}" for who, version in versions if who != OURS]
    everyone = [f for contenders in cases.values() for f in contenders.values()]
    spread = statistics.median(f.spread for f in everyone)
    lines.append(f"- {processor()}; compiler: {context['compiler']}; revision {revision()}; {context['date'][:10]}")
    lines.append(
        f"- {max(f.rounds for f in everyone)} rounds; between a benchmark's fastest and slowest round lie"
        f" {spread * 100:.0f} % (median of all); load of the machine at the start: {context['load_avg'][0]:.1f}"
    )
    if context["seconds"] != "of the clock":
        lines.append("- times are the thread's own: the machine had other work to do")
    parts = [(f"Rows, {threads}: this run", lines)]
    for kind in ROW_TYPES:
        parts.append((f"Rows, {kind}, {threads}: time of each rival / our time", rows_table(cases, kind)))
    parts.append((f"Rows: where we lose, {threads}", row_losses(cases)))
    parts.append((f"Rows: failed, {threads}", [f"- `{name}`: {error}" for name, error in errors.items()]))
    return parts


def sections(context, cases, errors, rows, options):
    rivals = rivals_of(cases)
    threads = "one thread" if options.threads == 1 else f"{options.threads} threads"
    result = []
    if cases:
        parts = [
            (f"This run, {threads}", machine_lines(context, cases, options)),
            (f"Prefill, float, {threads}: time of each rival / our time", prefill_table(cases, rivals)),
            (f"Decoding, float, {threads}: time of each rival / our time", decode_table(cases, rivals)),
            (f"Other element types, {threads}", types_table(cases)),
            (f"Causal, diagnostics and options, {threads}", comparisons(cases)),
            (f"Where we lose, {threads}", losses(cases, rivals)),
            (f"Failed, {threads}", [f"- `{name}`: {error}" for name, error in errors.items()]),
        ]
        for title, lines in parts:
            if lines:
                result += [f"### {title}", ""] + lines + [""]
    for title, lines in row_sections(*rows, threads):
        if lines:
            result += [f"### {title}", ""] + lines + [""]
    return result


def write_document(path, lines, threads):
    """Replaces what is between this thread count's markers, or appends them."""
    begin, end = f"<!-- begin: {threads} threads -->", f"<!-- end: {threads} threads -->"
    text = path.read_text()
    block = "\n".join([begin, ""] + lines + [end])
    if begin in text and end in text:
        text = text[: text.index(begin)] + block + text[text.index(end) + len(end) :]
    else:
        text = text.rstrip("\n") + "\n\n" + block + "\n"
    path.write_text(text)


def write_chart(cases, folder, work):
    """Share of the machine's best, all contenders side by side, some shapes a panel."""
    if not shutil.which("gnuplot"):
        print("no gnuplot, no chart", file=sys.stderr)
        return
    contenders = [OURS] + rivals_of(cases)
    shown = [case for case in cases if case.type == "float" and OURS in cases[case]]
    panels = [shown[first : first + 5] for first in range(0, len(shown), 5)]
    commands = [
        f"set terminal pngcairo size 1500,{440 * len(panels)} font 'sans,10'",
        f"set output '{folder / 'performance.png'}'",
        f"set multiplot layout {len(panels)},1",
        "set style data histogram",
        "set style histogram clustered gap 1.5",
        "set style fill solid 0.9 noborder",
        "set boxwidth 1",
        "set grid ytics",
        "set yrange [0:1.05]",
        "set ytics ('0 %%' 0, '20 %%' 0.2, '40 %%' 0.4, '60 %%' 0.6, '80 %%' 0.8, '100 %%' 1)",
        "set xtics scale 0",
        "set bmargin 3.5",
        "set key outside top center horizontal",
        "set ylabel 'of multiply-add peak; decoding: of read rate'",
    ]
    for index, panel in enumerate(panels):
        data = work / f"chart-{index}.tsv"
        lines = []
        for case in panel:
            shares = []
            for who in contenders:
                figures = cases[case].get(who)
                of_best = "of_read_rate" if case.phase == "decode" else "of_peak"
                shares.append(f"{figures[of_best]:.4f}" if figures else "?")
            lines.append("\t".join(['"' + shape_text(case).replace(" causal", "\\ncausal") + '"'] + shares))
        data.write_text("\n".join(lines) + "\n")
        plots = [
            f"'{data}' using {column + 2}:xtic(1) title '{who}' noenhanced linecolor rgb '{color}'"
            for column, (who, color) in enumerate(zip(contenders, itertools.cycle(COLORS)))
        ]
        commands.append("set datafile separator '\\t'; set datafile missing '?'")
        commands.append("plot " + ", ".join(plots))
    commands.append("unset multiplot")
    subprocess.run(["gnuplot"], input="\n".join(commands), text=True, check=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=pathlib.Path, required=True, help="folder of the JSON files")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--filter", default=".")
    parser.add_argument("--no-documents", action="store_true", help="print the tables, leave docs/ as it is")
    options = parser.parse_args()

    context, figures, errors = read(options.results / f"attention-{options.threads}.json")
    row_context, row_figures, row_errors = read(options.results / f"rows-{options.threads}.json")
    rows = row_context, row_cases(row_figures), row_errors
    cases = attention_cases(figures)
    lines = sections(context, cases, errors, rows, options)
    print("\n".join(lines))
    if options.no_documents:
        return
    write_document(ROOT / "docs" / "performance.md", lines, options.threads)
    if cases and options.threads == 1:
        write_chart(cases, ROOT / "docs" / "images", options.results)


main()
