"""Rows written out, for exports: JSON lines, CSV or Parquet, packed by the name's ending."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath
from types import TracebackType
from typing import Any, BinaryIO, Final, Literal, Self, assert_never

import msgspec

from batcher.errors import UsageError
from batcher.rows.out.sink import Sink, storage_errors
from batcher.rows.out.spooled import SpooledRows, write_csv, write_parquet

OutputFormat = Literal["jsonl", "csv", "parquet"]

_FORMATS: Final[dict[str, OutputFormat]] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".parquet": "parquet",
}
_ENCODER: Final = msgspec.json.Encoder()


def open_writer(
    target: str,
    format_: OutputFormat | None = None,
    *,
    columns: Sequence[str] | None = None,
    stdout: BinaryIO | None = None,
) -> "Writer":
    """A writer of rows to the file `target`, or to standard output when it is `-`.

    Without `format_` the name's ending tells it, `-` means jsonl. `columns` are the ones to
    write, in that order; `None` means all, in the order of their first appearance. Raises
    `UsageError` for an unknown ending, `CannotCreate` when the target cannot be written.
    """
    chosen = format_ or format_of(target)
    if chosen == "parquet" and target.endswith((".gz", ".zst")):
        raise UsageError(f"{target}: Parquet is packed inside; leave out the last ending")
    return Writer(Sink(target, stdout=stdout), chosen, columns)


def format_of(target: str) -> OutputFormat:
    """The kind of file that a name tells, jsonl for `-`; raises `UsageError`."""
    if target == "-":
        return "jsonl"
    endings = [e for e in PurePath(target.lower()).suffixes if e not in {".gz", ".zst"}]
    found = _FORMATS.get(endings[-1]) if endings else None
    if found is None:
        raise UsageError(
            f"{target}: unknown kind of file; name it {', '.join(_FORMATS)} or give a format"
        )
    return found


class Writer:
    """Takes rows as they come; the file appears when `close` returns, or not at all.

    Values are what JSON has, or `msgspec.Raw` with JSON text. In CSV and Parquet, objects,
    lists and raw values are JSON text, and the file is made at the end, when all columns and
    their types are known; until then the rows are in a nameless file beside the target. As a
    context manager: closes at the end, discards after an exception.
    """

    def __init__(
        self, sink: Sink, format_: OutputFormat, columns: Sequence[str] | None
    ) -> None:
        self._sink = sink
        self._format = format_
        self._columns = tuple(columns) if columns is not None else None
        self._spooled: SpooledRows | None = None
        if format_ != "jsonl":
            with storage_errors(sink.name):
                self._spooled = SpooledRows(sink.path.parent if sink.path else None)

    def write(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add rows; raises `StorageError` when the disk fails, or `BrokenPipeError`."""
        chosen = rows if self._columns is None else map(self._choose, rows)
        with storage_errors(self._sink.name):
            if self._spooled is not None:
                self._spooled.add(chosen)
                return
            lines = [_ENCODER.encode(row) for row in chosen]
            if lines:
                self._sink.stream.write(b"\n".join([*lines, b""]))

    def close(self) -> None:
        """Make the file appear; raises as `write` does and then leaves the target alone."""
        try:
            with storage_errors(self._sink.name):
                self._finish()
            self._sink.commit()
        except BaseException:
            self._sink.discard()
            raise
        finally:
            if self._spooled is not None:
                self._spooled.close()

    def discard(self) -> None:
        """Leave the target as it was."""
        if self._spooled is not None:
            self._spooled.close()
        self._sink.discard()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()

    def _choose(self, row: Mapping[str, Any]) -> dict[str, Any]:
        return {name: row.get(name) for name in self._columns or ()}

    def _finish(self) -> None:
        if self._spooled is None:
            return
        match self._format:
            case "csv":
                write_csv(self._spooled, self._columns, self._sink.stream)
            case "parquet":
                write_parquet(self._spooled, self._columns, self._sink.stream)
            case "jsonl":
                return
            case _:
                assert_never(self._format)
