"""One name per format of a report."""

from enum import StrEnum
from typing import assert_never

from batcher.report.figures import Report
from batcher.report.layout import Detail
from batcher.report.render_data import render_csv, render_json
from batcher.report.render_sheet import sheet_csv, sheet_json
from batcher.report.render_text import markdown, plain, render_markdown, render_plain
from batcher.report.sheet import Sheet, lay_out_sheet


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


def render_sheet(sheet: Sheet, form: Format) -> str:
    """The text of any other table; ends with a newline."""
    match form:
        case Format.TABLE:
            return plain(lay_out_sheet(sheet, Detail.FULL))
        case Format.CSV:
            return sheet_csv(sheet)
        case Format.JSON:
            return sheet_json(sheet)
        case Format.MARKDOWN:
            return markdown(lay_out_sheet(sheet, Detail.FULL))
        case _:
            assert_never(form)
