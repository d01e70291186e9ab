# SPDX-License-Identifier: BSD-3-Clause
"""The documentation site. scripts/docs builds it; this file says how Sphinx reads docs/site."""
import os
import pathlib
import re

from breathe.renderer.sphinxrenderer import SphinxRenderer, WithContext

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent

project = "scaledot"
author = "the scaledot authors"
copyright = "the scaledot authors. BSD 3-Clause licence"
_numbers = dict(re.findall(r"^#define SCALEDOT_VERSION_(\w+) (\d+)$",
                           (ROOT / "include/scaledot/version.hpp").read_text(encoding="utf-8"), re.MULTILINE))
release = version = ".".join(_numbers[part] for part in ("MAJOR", "MINOR", "PATCH"))

extensions = ["myst_parser", "breathe", "sphinx.ext.mathjax"]
source_suffix = {".md": "markdown"}
exclude_patterns = []
nitpicky = False  # xtensor's and the standard library's names have no page here

myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
myst_dmath_double_inline = True

breathe_projects = {"scaledot": os.environ.get("SCALEDOT_DOXYGEN_OUTPUT", str(ROOT / "build/docs/doxygen")) + "/xml"}
breathe_default_project = "scaledot"
breathe_default_members = ("members",)
breathe_domain_by_extension = {"hpp": "cpp"}
primary_domain = "cpp"
highlight_language = "cpp"

html_theme = "furo"
html_title = f"scaledot {version}"
html_copy_source = False
html_show_sourcelink = False
html_static_path = ["static"]
html_css_files = ["site.css"]

# Where the links of README.md and CHANGELOG.md lead within the site.
_PAGES = {
    "docs/numerics.md": "numerics.md",
    "docs/performance.md": "performance.md",
    "docs/decisions": "decisions/index.md",
    "include/scaledot/executor.hpp": "api/executor.md",
    "CHANGELOG.md": "changelog.md",
}


def _link(match):
    text, target = match.groups()
    if target in _PAGES:
        return f"[{text}]({_PAGES[target]})"
    if target.startswith("docs/decisions/"):
        return f"[{text}]({target.removeprefix('docs/')})"
    return text if not target.startswith("http") else match.group(0)


def _readme_section(name):
    """A section of README.md without its heading; the text above the first one where the name is empty."""
    sections = re.split(r"^## (.*)\n", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    found = dict(zip([""] + sections[1::2], sections[0::2]))
    text = re.sub(r"\A# .*\n", "", found[name])
    return re.sub(r"(?<!!)\[([^]]+)\]\(([^)]+)\)", _link, text).strip()


def _include_readme(app, docname, source):
    """<!-- readme: NAME --> is replaced by that section of README.md, so that the two never disagree."""
    source[0] = re.sub(r"<!-- readme: ?(.*?) ?-->", lambda match: _readme_section(match.group(1)), source[0])


def _render_namespace(self, node):
    """What is in a namespace, fully qualified, without a declaration of the namespace itself: every header opens the
    same one, and Sphinx takes the second declaration for a mistake."""
    contents = self.compound_parser.parse(node.refid)
    context = self.context.create_child_context(contents)
    with WithContext(self, context.create_child_context(contents.compounddef)):
        return self.render(contents, context)


SphinxRenderer.visit_namespace = _render_namespace


def setup(app):
    app.connect("source-read", _include_readme)
