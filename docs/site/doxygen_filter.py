#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""A public header as Doxygen is to read it: what is clear in the source, said in Doxygen's words.

    // purpose of the header, above its include guard    the file's description
    /// Accuracy        at most ...                       a paragraph with the title Accuracy
    namespace scaledot::inline SCALEDOT_BUILD {           namespace scaledot {
    docs/numerics.md#log_softmax, in a comment            a link there

Everything else is passed on as it is.
"""
import re
import sys

LABELS = r"Special values|Types|Accuracy|Determinism(?:, cost)?(?:, source)?|Cost|Source"
LABELLED = re.compile(rf"^(\s*///) ({LABELS})(?:\s\s+|: )(\S.*)$")
# A second label on the same line: "as softmax_into. Cost: two passes over each row."
INNER = re.compile(rf"^(.*?\.) ({LABELS}): (.*)$")
NUMERICS = re.compile(r"docs/numerics\.md#(\w+)")
NAMESPACE = re.compile(r"namespace scaledot::inline SCALEDOT_BUILD")


def link(match):
    """From a page in api/ to a section of numerics.md; the site spells its anchors with hyphens."""
    name = match.group(1)
    return f'<a href="../numerics.html#{name.replace("_", "-")}">Numerics: {name}</a>'


def labelled(line):
    """The lines of one labelled line, or None."""
    match = LABELLED.match(line)
    if not match:
        return None
    slashes, label, text = match.groups()
    lines = [f"{slashes} @par {label}"]
    inner = INNER.match(text)
    if inner:
        text, second, rest = inner.groups()
        return lines + [f"{slashes} {text}", f"{slashes} @par {second}", f"{slashes} {rest}"]
    return lines + [f"{slashes} {text}"]


def filtered(lines):
    header = True  # before the include guard
    described = False
    for line in lines:
        if header and line.startswith("#ifndef"):
            header = False
        if header and line.startswith("// ") and "SPDX" not in line:
            if not described:
                yield "/// @file"
                described = True
            yield "/" + line
            continue
        line = NAMESPACE.sub("namespace scaledot", line)
        if line.lstrip().startswith("///"):
            line = NUMERICS.sub(link, line)
        yield from labelled(line) or [line]


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        for line in filtered(file.read().splitlines()):
            print(line)


if __name__ == "__main__":
    main()
