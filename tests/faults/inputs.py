"""Faults of the input: rows that cannot be sent, files that cannot be read or change."""

import bz2
import gzip
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tests.faults.kinds import Stage
from tests.making_runs import row

GOOD = [json.dumps(row(f"row {n}", f"id-{n}")).encode() for n in (1, 3)]
PACKED_ROWS = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class RowFault:
    """A line between two good ones that must be quarantined with the code `expected`."""

    id: str
    line: bytes
    expected: str
    stage: Stage = Stage.INPUT


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFault:
    """An input that `make` leaves at the path `name`.

    `exit` is that of the run, `expected` the code of the row that stands for what cannot be
    read, or the word "refused" where nothing at all is sent. `answered` are the rows that are.
    """

    id: str
    name: str
    make: Callable[[Path], object]
    expected: str
    exit: int
    answered: int = 0
    stage: Stage = Stage.INPUT


def _line(id_: str, expected: str, line: bytes) -> RowFault:
    return RowFault(id=f"line {id_}", line=line, expected=expected)


def _params(id_: str, expected: str, **fields: object) -> RowFault:
    params = row("x")["params"] | fields
    kept = {name: value for name, value in params.items() if value is not ...}
    return _line(id_, expected, json.dumps({"custom_id": "id-2", "params": kept}).encode())


def _text(id_: str, expected: str, escaped: bytes) -> RowFault:
    return _line(id_, expected, json.dumps(row("@", "id-2")).encode().replace(b"@", escaped))


def _number(id_: str, expected: str, number: bytes) -> RowFault:
    line = json.dumps(row("x", "id-2", temperature=1)).encode()
    return _line(id_, expected, line.replace(b'"temperature": 1', b'"temperature": ' + number))


def _jsonl(count: int) -> bytes:
    lines = (
        json.dumps(row(f"row {n} {os.urandom(40).hex()}", f"id-{n}")) for n in range(count)
    )
    return "".join(f"{line}\n" for line in lines).encode()


def _file(id_: str, name: str, data: bytes, expected: str, exit_: int, answered: int = 0):
    return FileFault(
        id=f"file {id_}", name=name, make=lambda path: path.write_bytes(data),
        expected=expected, exit=exit_, answered=answered,
    )  # fmt: skip


def _zst(data: bytes) -> bytes:
    return pa.compress(data, "zstd", asbytes=True)


def _parquet(path: Path, **columns: list[object]) -> bytes:
    pq.write_table(pa.table(columns), path)
    return path.read_bytes()


ROWS = [
    _line("of a comment", "BAD_JSON", b"// not yet"),
    _line("cut in the middle", "BAD_JSON", b'{"custom_id": "id-2", "params"'),
    _line("with a comma too many", "BAD_JSON", b'{"custom_id": "id-2",}'),
    _line("of two objects", "BAD_JSON", b"{} {}"),
    _line("in single quotes", "BAD_JSON", b"{'a': 1}"),
    _line("of a number", "NOT_OBJECT", b"7"),
    _line("of a text", "NOT_OBJECT", b'"text"'),
    _line("null", "NOT_OBJECT", b"null"),
    _line("of a list", "NOT_OBJECT", b"[{}]"),
    _line("of an empty object", "NO_PROMPT", b"{}"),
    _line("that begins with a byte order mark", "NO_PROMPT", b"\xef\xbb\xbf{}"),
    _line("nested too deeply", "TOO_DEEP", b'{"a":' + b"[" * 300 + b"]" * 300 + b"}"),
    _line("nested without end", "TOO_DEEP", b'{"a":' + b"[" * 100_000),
    _line("longer than is read", "LINE_TOO_LONG", b'{"a":"' + b"x" * (33 * 2**20) + b'"}'),
    _text("with a control character", "BAD_JSON", b"\x01"),
    _text("not UTF-8", "BAD_UNICODE", b"\xff"),
    _text("with a surrogate in UTF-8", "BAD_UNICODE", b"\xed\xa0\x80"),
    _text("with half a surrogate pair", "BAD_UNICODE", rb"\ud800"),
    _text("in Latin-1", "BAD_UNICODE", "Straße".encode("latin-1")),
    _number("with NaN", "BAD_NUMBER", b"NaN"),
    _number("with Infinity", "BAD_NUMBER", b"-Infinity"),
    _number("with 1e400", "BAD_NUMBER", b"1e400"),
    _number("with a number of 5,000 digits", "BAD_NUMBER", b"9" * 5_000),
    _params("without messages", "NO_PROMPT", messages=...),
    _params("with messages null", "WRONG_TYPE", messages=None),
    _params("with messages as a text", "WRONG_TYPE", messages="hello"),
    _params("with an unknown role", "BAD_ROLE", messages=[{"role": "robot", "content": "x"}]),
    _params("with max_tokens as a text", "WRONG_TYPE", max_tokens="many"),
    _params("with max_tokens below zero", "WRONG_TYPE", max_tokens=-1),
    _params("with a model that is a number", "WRONG_TYPE", model=7),
    _line(
        "with a custom_id that is a list", "BAD_CUSTOM_ID", b'{"custom_id": [], "prompt": "x"}'
    ),
    _line("with params as a text", "WRONG_TYPE", b'{"custom_id": "id-2", "params": "x"}'),
]

_PACKED = _jsonl(PACKED_ROWS)
_GZ = gzip.compress(_PACKED)

FILES = [
    _file("of nothing", "rows.jsonl", b"", "nothing", 0),
    _file("of blank lines", "rows.jsonl", b"\n \n\r\n", "nothing", 0),
    _file("with a cut last line", "rows.jsonl", _jsonl(3)[:-40], "TRUNCATED_TAIL", 65, 2),
    _file("gz cut in half", "rows.jsonl.gz", _GZ[: len(_GZ) // 2], "TRUNCATED_FILE", 65, -1),
    _file("gz without its end", "rows.jsonl.gz", _GZ[:-4], "TRUNCATED_FILE", 65, PACKED_ROWS),
    _file(
        "gz and garbage", "rows.jsonl.gz", _GZ + b"garbage", "TRUNCATED_FILE", 65, PACKED_ROWS
    ),
    _file("gz that is none", "rows.jsonl.gz", _PACKED, "TRUNCATED_FILE", 65),
    _file("zst cut in half", "rows.jsonl.zst", _zst(_PACKED)[:9_000], "TRUNCATED_FILE", 65, -1),
    _file(
        "zst without its end", "rows.jsonl.zst", _zst(_PACKED)[:-1], "TRUNCATED_FILE", 65, -1
    ),
    _file("zst that is none", "rows.jsonl.zst", _PACKED, "TRUNCATED_FILE", 65),
    _file(
        "bz2 cut in half",
        "rows.jsonl.bz2",
        bz2.compress(_PACKED)[:9_000],
        "TRUNCATED_FILE",
        65,
        -1,
    ),
    _file("csv without a prompt column", "rows.csv", b"a,b\n1,2\n", "refused", 78),
    _file("parquet of nothing", "rows.parquet", b"", "refused", 78),
    _file("parquet that is none", "rows.parquet", b"PAR1 nothing PAR1", "refused", 78),
    _file(
        "parquet that is encrypted",
        "rows.parquet",
        b"PARE" + b"\0" * 99 + b"PARE",
        "refused",
        78,
    ),
    _file("of a program", "rows.jsonl", b"\x7fELF\2\1\1" + b"\0" * 99, "TRUNCATED_TAIL", 65),
    _file("UTF-16", "rows.jsonl", _jsonl(2).decode().encode("utf-16"), "refused", 78),
    FileFault(
        id="file missing", name="rows.jsonl", make=lambda _: None, expected="refused", exit=2
    ),
    FileFault(
        id="file a folder", name="rows.jsonl", make=Path.mkdir, expected="refused", exit=2
    ),
    FileFault(id="file a pipe", name="rows.jsonl", make=os.mkfifo, expected="refused", exit=2),
    FileFault(
        id="file a link to itself",
        name="rows.jsonl",
        make=lambda p: p.symlink_to(p),
        expected="refused",
        exit=2,
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeFault:
    """What happens to a file of `rows` rows when its first one is sent, most being unread.

    `left` is the number of rows with an answer after the same command was typed again.
    """

    id: str
    change: Callable[[Path], object]
    exit: int
    left: int
    rows: int = 2_300
    expected: str = "answered"
    stage: Stage = Stage.INPUT


def _grow(path: Path) -> None:
    with path.open("a") as file:
        file.write(json.dumps(row("new", "id-new")) + "\n")


def _shrink(path: Path) -> None:
    os.truncate(path, path.read_bytes().index(b"\n") + 1)


def _replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_text(json.dumps(row("another file", "id-other")) + "\n")
    other.replace(path)


CHANGES = [
    ChangeFault(id="file that grows", change=_grow, exit=75, left=2_301),
    ChangeFault(id="file that is replaced", change=_replace, exit=75, left=1),
    ChangeFault(id="file that shrinks", change=_shrink, exit=75, left=1),
]
