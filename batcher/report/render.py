"""One name per format of a report."""

from enum import StrEnum
from typing import assert_never

from batcher.report.figures import Report
from batcher.report.render_data import render_csv, render_json
from batcher.report.render_text import render_markdown, render_plain


class Format(StrEnum):
    """How a report is written; `TABLE` is for people, plain where there is no terminal."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    MARKDOWN = "markdown"


def render(report: Report, form: Format) -> str:
    """The text of `report`; the same report gives the same bytes. Ends with a newline."""
    match form:
        case Format.TABLE:
            return render_plain(report)
        case Format.CSV:
            return render_csv(report)
        case Format.JSON:
            return render_json(report)
        case Format.MARKDOWN:
            return render_markdown(report)
        case _:
            assert_never(form)
