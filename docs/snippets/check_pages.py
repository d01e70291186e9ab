#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The pages of the documentation site against the sources they show, without Sphinx.

Every file that a page includes is there, and so are the lines at which it begins and ends to be shown; code blocks come
from compiled sources; every snippet is shown; every public header, example and decision has its page.
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
SITE = ROOT / "docs/site"
problems = []


def blame(page, message):
    problems.append(f"{page.relative_to(ROOT)}: {message}")


def unquoted(value):
    value = value.strip()
    if value[:1] == '"' and value[-1:] == '"':
        return re.sub(r"\\(.)", r"\1", value[1:-1])
    if value[:1] == "'" and value[-1:] == "'":
        return value[1:-1].replace("''", "'")
    return value


def check_include(page, target, options):
    """Follows docutils' and Sphinx's order: the beginning first, then the end after it."""
    file = (page.parent / target).resolve()
    if not file.is_file():
        return blame(page, f"includes {target}, which does not exist")
    lines = file.read_text(encoding="utf-8").splitlines()
    at = 0
    for option in ("start-at", "start-after", "end-at", "end-before"):
        if option not in options:
            continue
        text = unquoted(options[option])
        found = [i for i, line in enumerate(lines) if i >= at and text in line]
        if not found:
            return blame(page, f"{target} has no line with {text!r} ({option})")
        at = found[0] + (1 if option.startswith("start") else 0)
    return None


def check_page(page, shown):
    text = page.read_text(encoding="utf-8")
    for match in re.finditer(r"^```\{(?:literal)?include\} (\S+)\n((?::[\w-]+:.*\n)*)```", text, re.MULTILINE):
        target, block = match.groups()
        options = dict(re.findall(r"^:([\w-]+): ?(.*)$", block, re.MULTILINE))
        check_include(page, target, options)
        if "start-after" in options:
            shown.add(((page.parent / target).resolve(), unquoted(options["start-after"])))
    for block in re.findall(r"^```cpp\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        if any(not line.startswith("#include ") for line in block.splitlines()):
            blame(page, "a cpp block that is not compiled: show it from docs/snippets")


def check_snippets(shown):
    for source in sorted((ROOT / "docs/snippets").glob("*.cpp")):
        text = source.read_text(encoding="utf-8")
        begins = re.findall(r"// (begin: \w+)$", text, re.MULTILINE)
        ends = re.findall(r"// end: (\w+)$", text, re.MULTILINE)
        if [begin.removeprefix("begin: ") for begin in begins] != ends:
            blame(source, f"begins {begins} and ends {ends} do not match")
        for begin in begins:
            if begins.count(begin) > 1:
                blame(source, f"{begin} twice")
            if (source, begin) not in shown:
                blame(source, f"no page shows {begin}")


def check_there(pages, what):
    for page in pages:
        if not page.is_file():
            problems.append(f"{what} has no page {page.relative_to(ROOT)}")


def main():
    shown = set()
    for page in sorted(SITE.rglob("*.md")):
        check_page(page, shown)
    check_snippets(shown)
    headers = [file.stem for file in (ROOT / "include/scaledot").glob("*.hpp") if file.stem != "scaledot"]
    check_there([SITE / f"api/{name}.md" for name in headers], "a public header")
    examples = [file.stem for file in (ROOT / "examples").glob("0?_*.cpp")] + ["inspect_checkpoint"]
    check_there([SITE / f"tutorials/{name}.md" for name in examples], "an example")
    decisions = [file.name for file in (ROOT / "docs/decisions").glob("*.md")]
    check_there([SITE / "decisions" / name for name in decisions], "a decision")
    print("\n".join(problems) or "every page shows what it says")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
