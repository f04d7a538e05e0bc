"""Whether a file of rows that is there already was ours: its columns tell."""

import csv
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from pathlib import Path, PurePath
from typing import Final, Literal, assert_never

import msgspec

from batcher.errors import BatcherError
from batcher.outputs import never
from batcher.rows.batch import InputBroken
from batcher.rows.read.lines import read_blocks
from batcher.rows.read.source import Compression, Place, SourceFile, location_of

OutputFormat = Literal["jsonl", "csv", "parquet"]

_LONGEST: Final = 64 * 2**20
_PACKED: Final[dict[str, Compression]] = {".gz": "gz", ".zst": "zst"}


def has_columns(format_: OutputFormat, columns: Collection[str]) -> Callable[[Place], bool]:
    """Whether a file of that format has all of these columns; none at all are no mark."""
    if not columns:
        return never
    wanted = set(columns)
    return lambda place: wanted <= set(_columns(format_, place))


def first_line(path: Place) -> bytes:
    """The first line of a file without its end, unpacked as its name says; at most 64 MiB."""
    found = b""
    for block in _blocks(path):
        found += block
        if b"\n" in block or len(found) > _LONGEST:
            break
    return found.partition(b"\n")[0]


def first_block(path: Path) -> bytes:
    """Some of the first bytes of a file, unpacked as its name says."""
    return next(_blocks(path), b"")


def _blocks(path: Place) -> Iterator[bytes]:
    name = location_of(path)
    packed = _PACKED.get(PurePath(name).suffix.lower())
    with suppress(BatcherError, InputBroken, OSError):
        yield from read_blocks(SourceFile(name, path, "jsonl", packed))


def _columns(format_: OutputFormat, path: Place) -> list[str]:
    match format_:
        case "jsonl":
            with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                return list(msgspec.json.decode(first_line(path), type=dict[str, msgspec.Raw]))
            return []
        case "csv":
            return next(csv.reader([first_line(path).decode(errors="replace")]), [])
        case "parquet":
            return _parquet_columns(path)
        case _:
            assert_never(format_)


def _parquet_columns(path: Place) -> list[str]:
    from batcher.rows.read.parquet import column_names  # noqa: PLC0415 - 50 MB

    with suppress(BatcherError):
        return column_names(SourceFile(location_of(path), path, "parquet"))
    return []
