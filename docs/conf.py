"""The documentation as a site: `python -m sphinx -W docs build/site`."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import made_from_code  # noqa: E402 - it is beside this file

project = "batcher"
extensions = ["myst_parser"]
myst_heading_anchors = 4
html_theme = "furo"
html_title = "batcher"
html_show_copyright = False
html_show_sourcelink = False
html_copy_source = False
exclude_patterns = ["Dockerfile"]
# Words that pages show as they are; a page may begin with a small heading.
suppress_warnings = ["misc.highlighting_failure", "myst.header"]

# The order of the pages; those that nobody put here stand at the end of the reference.
CHAPTERS = {
    "Begin": ["tour", "howto/engineer", "howto/finance", "howto/operator", "recipes"],
    "Explanations": ["explanation/*", "pacing"],
    "Reference": ["commands", "reference/*", "rows", "configuration", "endpoints", "*"],
    "Development": ["contributing", "development/index", "development/*", "changelog"],
}


def pages_of(patterns, taken):
    """The pages that the patterns name and no chapter has yet."""
    for pattern in patterns:
        for path in sorted(HERE.glob(f"{pattern}.md")):
            name = path.relative_to(HERE).with_suffix("").as_posix()
            if name not in taken and name != "index":
                taken.add(name)
                yield name


def tables_of_contents():
    """A table of contents for each chapter; a pattern takes no page that another one names."""
    named = {name for pages in CHAPTERS.values() for name in pages if "*" not in name}
    taken = set()
    for title, patterns in CHAPTERS.items():
        others = named.difference(patterns)
        pages = list(pages_of(patterns, taken | others))
        taken.update(pages)
        yield "\n".join(["```{toctree}", f":caption: {title}", ":hidden:", "", *pages, "```"])
    decisions = [
        f"development/decisions/{p.stem}" for p in HERE.glob("development/decisions/*.md")
    ]
    yield "\n".join(["```{toctree}", ":hidden:", "", *sorted(decisions), "```"])


def complete(app, name, source):  # noqa: ARG001 - Sphinx calls it so
    """Tables of contents on the first page; tables from the code where a page asks for one."""
    text = made_from_code.fill_in(source[0])
    source[0] = "\n\n".join([text, *tables_of_contents()]) if name == "index" else text


def setup(app):
    """Called by Sphinx."""
    app.connect("source-read", complete)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
