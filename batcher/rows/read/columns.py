"""Rows of columnar files: where a text may stand for any JSON value, and nothing for absent."""

from collections.abc import Collection
from typing import Any, Final

from batcher.rows.build.attachments import OWN_COLUMNS
from batcher.rows.build.body import FIELDS
from batcher.rows.read.parse import parse_value
from batcher.rows.reasons import Reason, RowProblem

_TEXT_FIELDS: Final = frozenset(name for name, allowed in FIELDS.items() if str in allowed)
_WHOLE: Final = frozenset({"max_tokens", "top_k"})


def json_columns(
    row: dict[str, Any], names: Collection[str], *, keep_absent: bool = False
) -> dict[str, Any]:
    """The row, with text in the body fields `names` read as JSON where they are no text.

    Absent values are left out, unless `keep_absent`. `system`, `container` and a plain
    `tool_choice` may be text and JSON: text that starts with a brace or bracket and is JSON
    counts as JSON, and so it is with `images`, `documents` and `betas`. Whole floats become
    integers where the API wants integers, since a nullable integer column is often written as
    floats. Raises `RowProblem`.
    """
    columns = {}
    for name, value in row.items():
        if value is None and not keep_absent:
            continue
        columns[name] = _json_value(name, value) if name in names else value
    if "id" in columns or "custom_id" in columns:
        _whole_ids(columns)
    return columns


def _json_value(name: str, value: object) -> object:
    if name in _WHOLE and type(value) is float and value.is_integer():
        return int(value)
    if type(value) is not str:
        return value
    if name in _TEXT_FIELDS or name == "tool_choice" or name in OWN_COLUMNS:
        return _text_or_json(name, value)
    if name != "params" and name not in FIELDS:
        return value
    return parse_value(name, value) if value.strip() else None


def _text_or_json(name: str, value: str) -> object:
    marks = ("[", "{", '"') if name == "fallbacks" else ("[", "{")  # its one text is default
    if not value.lstrip().startswith(marks):
        return value
    try:
        return parse_value("", value)
    except RowProblem:
        return value


def _whole_ids(columns: dict[str, Any]) -> None:
    for name in ("custom_id", "id"):
        value = columns.get(name)
        if type(value) is float:
            if not value.is_integer():
                raise RowProblem(Reason.BAD_CUSTOM_ID, f"{name} {value} is no whole number")
            columns[name] = int(value)
