"""A look at a source before a run starts: a wrong file is refused before money flows."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

import msgspec

from batcher.errors import ConfigurationError, StorageError
from batcher.messages.codec import CODEC_ERRORS
from batcher.rows.batch import InputBroken, Reason, RowProblem
from batcher.rows.build.requests import RequestBuilder
from batcher.rows.build.shapes import CONVERSATIONS, foreign_model
from batcher.rows.ranges import AllBut, RowRanges
from batcher.rows.read.lines import BLOCK_BYTES, read_blocks
from batcher.rows.read.parse import parse_row
from batcher.rows.read.source import SourceFile
from batcher.rows.read.values import RowsOfText, recognised, whole_table


def check_source(source: SourceFile, builder: RequestBuilder) -> None:
    """Return if `source` is worth reading.

    Raises `ConfigurationError` for a file that is no Parquet or CSV file, has none of the
    columns that a prompt can come from, one name twice or one that looks like a field, and for
    a JSONL file that is UTF-16 or Parquet, whose only row is a whole table, or whose first row
    names a model of another API for which there is none of ours. Single bad rows, and files
    that break off later, are no reason.
    """
    try:
        if source.format == "jsonl":
            _check_text(source)
            _check_first_row(source, builder)
        else:
            _check_columns(source, column_names(source), builder)
    except InputBroken:
        return  # reading tells where, as a bad row


def column_names(source: SourceFile) -> list[str]:
    """The columns of `source`; of JSONL those of its first row, none if that is no object.

    With those that its folders say.
    """
    names = _columns_inside(source)
    return [*names, *(name for name in source.partitions if names and name not in names)]


def _columns_inside(source: SourceFile) -> list[str]:
    if source.format == "jsonl":
        return _keys_of_first_row(source)
    if source.format == "parquet":
        from batcher.rows.read import parquet  # noqa: PLC0415 - imports pyarrow

        return parquet.column_names(source)
    from batcher.rows.read.csv_rows import header  # noqa: PLC0415 - rarely needed

    try:
        return header(source)
    except RowProblem as problem:
        raise ConfigurationError(f"{source.name}: {problem.message}") from problem


def _keys_of_first_row(source: SourceFile) -> list[str]:
    try:
        return list(msgspec.json.decode(_first_row(source)[0], type=dict[str, msgspec.Raw]))
    except (*CODEC_ERRORS, InputBroken):
        return []


def _check_first_row(source: SourceFile, builder: RequestBuilder) -> None:
    has_template = builder.settings.has_template
    try:
        first, is_only = _first_row(source)
        row = parse_row(first)
        if is_only and (words := whole_table(row, is_no_row=_is_no_row(row, builder))):
            raise ConfigurationError(f"{source.name}: {words}")
        theirs = None if has_template else foreign_model(row)
        if theirs is not None:
            builder.translator.our_model(theirs)
    except RowProblem as problem:
        if problem.reason == Reason.MISSING_MODEL:
            raise ConfigurationError(f"{source.name}: {problem.message}") from problem


def _is_no_row(row: dict[str, Any], builder: RequestBuilder) -> bool:
    """Whether nothing in it is what prompts come from."""
    needed = builder.prompt_columns
    if builder.settings.has_template:
        return bool(needed) and needed.isdisjoint(row)
    return not isinstance(row.get("prompt"), str) and _WHOLE.isdisjoint(row)


_WHOLE: Final = frozenset({"params", "messages", "body", CONVERSATIONS})


def _first_row(source: SourceFile) -> tuple[bytes, bool]:
    """The first row that is not blank, and whether it is the only one."""
    found: list[bytes] = []
    for rows in RowsOfText(source, AllBut(RowRanges())):
        found += islice((row for row in rows.lines if row.strip()), 2)
        if len(found) > 1:
            break
    return found[0] if found else b"", len(found) == 1


def layout_note(source: SourceFile) -> str:
    """How the rows lie in a JSON text that is not one object a line; else nothing."""
    if source.format != "jsonl":
        return ""
    try:
        layout, _ = recognised(read_blocks(source))
    except InputBroken:
        return ""
    return layout.value


def _csv_note(source: SourceFile) -> str:
    from batcher.rows.read.csv_dialect import dialect_of  # noqa: PLC0415 - rarely needed

    return dialect_of(source).note


def reading_notes(sources: Sequence[SourceFile]) -> list[str]:
    """What is special about how inputs are read, a line for all that are alike."""
    alike: dict[str, list[str]] = {}
    for source in sources:
        if source.compression and not source.file_name.lower().endswith(source.compression):
            alike.setdefault(f"packed ({source.compression})", []).append(source.name)
        note = _csv_note(source) if source.format == "csv" else layout_note(source)
        if note:
            alike.setdefault(note, []).append(source.name)
    return [f"{_names(names)}: read as {note}" for note, names in alike.items()]


def left_out_notes(sources: Sequence[SourceFile], builder: RequestBuilder) -> list[str]:
    """That pictures or documents of the first input stay here, beside a template."""
    if not sources or not builder.left_attachments:
        return []
    with suppress(InputBroken):
        left = [n for n in column_names(sources[0]) if n in builder.left_attachments]
        if left:
            shown = ", ".join(left)
            passed = ", ".join(f'"{name}"' for name in left)
            return [
                f"not sent: {shown}; to send it with the prompt: [request] pass = [{passed}]"
            ]
    return []


def _names(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1:,} more"


def _check_columns(source: SourceFile, names: list[str], builder: RequestBuilder) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigurationError(
            f"{source.name}: has several columns called {', '.join(twice)}; rename them"
        )
    problems = [] if builder.settings.has_template else builder.names.problems(names)
    if problems:
        raise ConfigurationError(f"{source.name}: column {'; column '.join(problems)}")
    needed = builder.prompt_columns
    if not names and source.format == "csv":
        return  # an empty file has no rows, whatever its columns would be
    if needed and needed.isdisjoint(names):
        raise ConfigurationError(
            f"{source.name}: has none of the needed columns ({', '.join(sorted(needed))}); "
            f"its columns are {', '.join(names)}; rename one or give a prompt template"
        )


@dataclass(frozen=True, slots=True)
class HiddenInput:
    """Rows of an input that stray quotes hide, among `rows` in all; a sentence says where."""

    hidden: int
    rows: int
    words: str


def hidden_rows(source: SourceFile) -> HiddenInput | None:
    """What stray quotes hide in a CSV file; `None` where they hide nothing.

    Raises `StorageError` when the disk fails.
    """
    if source.format != "csv":
        return None
    from batcher.rows.read.csv_rows import scan_quotes  # noqa: PLC0415 - rarely needed

    scan = scan_quotes(source)
    if scan.first is None:
        return None
    more = f"; {scan.hidden:,} rows are hidden in all" if scan.hidden > scan.first.rows else ""
    words = f"{source.name}: {scan.first}{more}"
    return HiddenInput(scan.hidden, scan.records + scan.hidden, words)


def _check_text(source: SourceFile) -> None:
    start = next(iter(read_blocks(source)), b"")[:BLOCK_BYTES]
    what = None
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        what = "is UTF-16; convert it to UTF-8"
    elif start.startswith(b"PAR1"):
        what = "is a Parquet file; name it .parquet"
    if what:
        raise ConfigurationError(f"{source.name}: {what}")


_SAMPLE_BYTES: Final = 256 * 1024


def estimated_rows(source: SourceFile) -> int | None:
    """About how many rows `source` has; exact for Parquet, `None` when a glance cannot tell."""
    if source.format == "parquet":
        import pyarrow as pa  # noqa: PLC0415 - heavy

        from batcher.rows.read.decoded_size import open_parquet  # noqa: PLC0415 - heavy

        try:
            return int(open_parquet(source).metadata.num_rows)
        except (pa.ArrowException, OSError, StorageError):
            return None
    if source.compression is not None:
        return None
    try:
        return _by_first_lines(source)
    except (OSError, StorageError):
        return None


def _by_first_lines(source: SourceFile) -> int:
    if source.format == "jsonl" and layout_note(source):
        return _by_first_values(source)
    with source.open() as file:
        sample = file.read(_SAMPLE_BYTES)
    lines = sample.count(b"\n") + (not sample.endswith(b"\n") and bool(sample))
    if len(sample) < _SAMPLE_BYTES or lines == 0:
        return lines
    return source.size_bytes() * lines // len(sample)


def _by_first_values(source: SourceFile) -> int:
    text = RowsOfText(source, AllBut(RowRanges()))
    with suppress(InputBroken):
        for rows in text:
            if rows.offset >= _SAMPLE_BYTES:
                break
        else:
            return text.row_number - 1
    return source.size_bytes() * text.row_number // max(text.offset, 1)
