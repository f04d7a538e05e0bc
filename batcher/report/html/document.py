"""The page as text: one file, no script, nothing loaded, everything escaped."""

from base64 import b64encode
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Final

from jinja2 import Environment, StrictUndefined, Template

from batcher.report.html.charts import WIDTH
from batcher.report.html.page import Page

_ROOM: Final = "batcher.report.html"


def render_page(page: Page) -> str:
    """The HTML of `page`; the same page gives the same bytes.

    Its policy allows its own style sheet and nothing else, so that not even a text that was
    not escaped could load or run anything.
    """
    style = _text("report.css")
    digest = b64encode(sha256(style.encode()).digest()).decode()
    return _template().render(
        page=page,
        style=style,
        style_hash=digest,
        chart_width=WIDTH,
    )


@cache
def _template() -> Template:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True
    )
    return environment.from_string(_text("report.html.jinja"))


def _text(name: str) -> str:
    return files(_ROOM).joinpath(name).read_text(encoding="utf-8")
