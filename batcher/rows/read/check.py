"""A look at a source before a run starts: a wrong file is refused before money flows."""

from dataclasses import dataclass
from typing import Final

import msgspec

from batcher.errors import ConfigurationError
from batcher.messages.codec import CODEC_ERRORS
from batcher.rows.batch import InputBroken, RowProblem
from batcher.rows.build.requests import RequestBuilder
from batcher.rows.read.lines import BLOCK_BYTES, read_blocks
from batcher.rows.read.source import SourceFile


def check_source(source: SourceFile, builder: RequestBuilder) -> None:
    """Return if `source` is worth reading.

    Raises `ConfigurationError` for a file that is no Parquet or CSV file, has none of the
    columns that a prompt can come from, one name twice or one that looks like a field, and for
    a JSONL file that is an array, UTF-16 or Parquet. Single bad rows, and files that break off
    later, are no reason.
    """
    try:
        if source.format == "jsonl":
            _check_text(source)
        else:
            _check_columns(source, column_names(source), builder)
    except InputBroken:
        return  # reading tells where, as a bad row


def column_names(source: SourceFile) -> list[str]:
    """The columns of `source`; of JSONL those of its first row, none if that is no object."""
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
    start = next(iter(read_blocks(source)), b"").removeprefix(b"\xef\xbb\xbf").lstrip()
    try:
        return list(msgspec.json.decode(start.split(b"\n", 1)[0], type=dict[str, msgspec.Raw]))
    except CODEC_ERRORS:
        return []


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
    elif _starts_array(start):
        what = "is one JSON array; write one object per line"
    if what:
        raise ConfigurationError(f"{source.name}: {what}")


def _starts_array(start: bytes) -> bool:
    """Whether an array begins on the first line and does not end there."""
    line = start.removeprefix(b"\xef\xbb\xbf").split(b"\n", 1)[0].strip()
    if not line.startswith(b"["):
        return False
    try:
        msgspec.json.decode(line)
    except CODEC_ERRORS:
        return True
    return False


_SAMPLE_BYTES: Final = 256 * 1024


def estimated_rows(source: SourceFile) -> int | None:
    """About how many rows `source` has; exact for Parquet, `None` when a glance cannot tell."""
    if source.format == "parquet":
        import pyarrow as pa  # noqa: PLC0415 - heavy
        from pyarrow import parquet as pq  # noqa: PLC0415 - heavy

        try:
            return int(pq.read_metadata(source.path).num_rows)
        except (pa.ArrowException, OSError):
            return None
    if source.compression is not None:
        return None
    try:
        return _by_first_lines(source)
    except OSError:
        return None


def _by_first_lines(source: SourceFile) -> int:
    with source.path.open("rb") as file:
        sample = file.read(_SAMPLE_BYTES)
    lines = sample.count(b"\n") + (not sample.endswith(b"\n") and bool(sample))
    if len(sample) < _SAMPLE_BYTES or lines == 0:
        return lines
    return source.path.stat().st_size * lines // len(sample)
