"""One name per format of a report."""

from enum import StrEnum
from typing import assert_never

from batcher.report.figures import Report
from batcher.report.render.data import render_csv, render_json
from batcher.report.render.layout import Detail
from batcher.report.render.plain import laid_out, markdown, plain
from batcher.report.render.sheet_data import sheet_csv, sheet_json
from batcher.report.sheet import Sheet


class Format(StrEnum):
    """How a report is written; `TABLE` is for people, plain where there is no terminal."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    MARKDOWN = "markdown"


def render(found: Report | Sheet, form: Format) -> str:
    """The text of a report or any other table; the same one gives the same bytes.

    Ends with a newline.
    """
    match form:
        case Format.TABLE:
            return plain(laid_out(found, Detail.FULL))
        case Format.CSV:
            return sheet_csv(found) if isinstance(found, Sheet) else render_csv(found)
        case Format.JSON:
            return sheet_json(found) if isinstance(found, Sheet) else render_json(found)
        case Format.MARKDOWN:
            return markdown(laid_out(found, Detail.FULL))
        case _:
            assert_never(form)
