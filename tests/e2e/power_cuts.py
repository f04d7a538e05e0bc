"""What a disk may hold after the power failed: rebuilt from the writes and syncs of a real run.

What was synced is there. Of everything written since, each piece may be there or not, whatever
the order, and a write may be torn at sector boundaries. Files that were made or removed since
their folder was synced may be missing or still there.
"""

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Literal

from tests.e2e.system_calls import Call

CALLS = "openat,pwrite64,write,fsync,fdatasync,ftruncate,unlink,sendto"
WHOLE = 1 << 20  # bytes of a text that strace must show
How = Literal["all", "none", "some", "torn 512", "torn 4096", "first", "shuffled"]
HOWS: tuple[How, ...] = ("all", "none", "some", "torn 512", "torn 4096", "first", "shuffled")
_SYNCS = {"fsync", "fdatasync"}


@dataclass(slots=True)
class _Piece:
    """Bytes for a place in a file, or, with `data` None, its new length."""

    place: int
    data: bytes | None


@dataclass(slots=True)
class _File:
    """What of a file is safe, and what was written since, oldest first."""

    safe: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, _Piece]] = field(default_factory=list)  # by line of the trace

    def sync(self, before: int) -> None:
        """Everything that was written before that line is safe."""
        for line, piece in self.pending:
            if line < before:
                _apply(self.safe, piece)
        self.pending = [entry for entry in self.pending if entry[0] >= before]


@dataclass(frozen=True, slots=True)
class _Entry:
    """A name that was given to a file, or taken from it (`file` None)."""

    line: int
    name: str
    file: _File | None


@dataclass(frozen=True, slots=True)
class Moment:
    """Something happened in the run. `sent` are bytes that left; `is_promise`: the writer
    told somebody that what it wrote is safe."""

    line: int
    sent: bytes = b""
    is_promise: bool = False


class Disk:
    """A folder with the files of one database, at every moment of a run.

    `unsynced` is the suffix of a file whose syncs do nothing: what such a disk loses shows
    that losses are noticed.
    """

    def __init__(self, database: PurePath, *, unsynced: str | None = None) -> None:
        self._folder = str(database.parent)
        self._database = str(database)
        self._paths = {self._database + suffix for suffix in ("", "-wal", "-journal")}
        self._unsynced = None if unsynced is None else self._database + unsynced
        self._names: dict[str, _File] = {}  # as the running process sees them
        self._safe_names: dict[str, _File] = {}
        self._entries: list[_Entry] = []  # names not yet safe
        self._writer: int | None = None
        self._main: int | None = None

    def play(self, processes: Iterable[list[Call]]) -> Iterator[Moment]:
        """Let it happen, process after process; between two moments the power may fail."""
        for calls in processes:
            self._main = calls[0].thread
            yield from self._play(calls)

    def _play(self, calls: list[Call]) -> Iterator[Moment]:
        for line, call, is_end in _timeline(calls):
            if is_end:
                if call.name in _SYNCS and call.path != self._unsynced:
                    self._sync(call)
            else:
                yield from self._begin(line, call)

    def image(self, how: How, chance: random.Random) -> dict[str, bytes]:
        """The files after a power cut at this moment, by suffix: "", "-wal", "-journal"."""
        names = dict(self._safe_names)
        lasting = chance.randint(0, len(self._entries))
        lasting = {"all": len(self._entries), "none": 0}.get(how, lasting)
        for entry in self._entries[:lasting]:  # journaling file systems keep their order
            if entry.file is None:
                names.pop(entry.name, None)
            else:
                names[entry.name] = entry.file
        return {
            name.removeprefix(self._database): _after(file, how, chance)
            for name, file in names.items()
        }

    def _begin(self, line: int, call: Call) -> Iterator[Moment]:
        if call.path in self._paths:
            self._change(line, call)
            yield Moment(line)
        elif call.name in {"write", "sendto"} and call.texts:
            if call.path.startswith("socket:"):
                yield Moment(line, sent=call.texts[0])
            elif call.thread == self._writer and not call.path.startswith("/"):
                yield Moment(line, is_promise=True)

    def _change(self, line: int, call: Call) -> None:
        match call.name:
            case "openat":
                self._open(line, call)
            case "unlink":
                self._names.pop(call.path, None)
                self._entries.append(_Entry(line, call.path, None))
            case "ftruncate":
                self._write(line, call, _Piece(call.numbers[-1], None))
            case "pwrite64":
                if call.thread != self._main:
                    self._writer = call.thread
                self._write(line, call, _Piece(call.numbers[-1], call.texts[0]))

    def _open(self, line: int, call: Call) -> None:
        if call.path not in self._names:
            self._names[call.path] = _File()
            self._entries.append(_Entry(line, call.path, self._names[call.path]))

    def _write(self, line: int, call: Call, piece: _Piece) -> None:
        self._names[call.path].pending.append((line, piece))

    def _sync(self, call: Call) -> None:
        if call.path == self._folder:
            for entry in self._entries:
                if entry.line < call.entered:
                    self._keep(entry)
            self._entries = [one for one in self._entries if one.line >= call.entered]
        elif call.path in self._names:
            self._names[call.path].sync(call.entered)

    def _keep(self, entry: _Entry) -> None:
        if entry.file is None:
            self._safe_names.pop(entry.name, None)
        else:
            self._safe_names[entry.name] = entry.file


def _timeline(calls: Iterable[Call]) -> Iterator[tuple[int, Call, bool]]:
    """(line, call, whether it ends here): a write counts from its begin, a sync at its end.

    A call in which the process was killed did not happen.
    """
    ends = [(call.returned, call, True) for call in calls if call.returned is not None]
    begins = [(call.entered, call, False) for call in calls if call.returned is not None]
    yield from sorted([*begins, *ends], key=lambda event: (event[0], event[2]))


def _after(file: _File, how: How, chance: random.Random) -> bytes:
    data = bytearray(file.safe)
    for piece in _lasting([piece for _, piece in file.pending], how, chance):
        _apply(data, piece)
    return bytes(data)


def _lasting(pieces: list[_Piece], how: How, chance: random.Random) -> list[_Piece]:
    """Those pieces that reached the disk, in the order in which they did."""
    match how:
        case "all":
            return pieces
        case "none":
            return []
        case "first":
            return pieces[: chance.randint(0, len(pieces))]
        case "some":
            share = chance.random()
            return [piece for piece in pieces if chance.random() < share]
        case "shuffled":
            return chance.sample(pieces, chance.randint(0, len(pieces)))
        case "torn 512" | "torn 4096":
            share, size = chance.random(), int(how.split()[1])
            torn = (part for piece in pieces for part in _sectors(piece, size))
            return [part for part in torn if chance.random() < share]


def _sectors(piece: _Piece, size: int) -> Iterator[_Piece]:
    """The parts of a write that lie in different sectors."""
    if piece.data is None:
        yield piece
        return
    at, end = piece.place, piece.place + len(piece.data)
    while at < end:
        until = min(end, (at // size + 1) * size)
        yield _Piece(at, piece.data[at - piece.place : until - piece.place])
        at = until


def _apply(data: bytearray, piece: _Piece) -> None:
    if piece.data is None:
        if len(data) > piece.place:
            del data[piece.place :]
        else:
            data.extend(bytes(piece.place - len(data)))
        return
    if len(data) < piece.place:  # a hole reads as zeros
        data.extend(bytes(piece.place - len(data)))
    data[piece.place : piece.place + len(piece.data)] = piece.data
