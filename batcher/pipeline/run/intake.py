"""The reader's thread: from sources to batches of requests, no faster than they are sent."""

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from batcher.errors import InputChanged, StorageError
from batcher.ledger import resume
from batcher.ledger.connect import Connection
from batcher.ledger.write.writer import Writer
from batcher.messages.request import BadRow, Request
from batcher.pipeline.run.bad_rows import BadGate
from batcher.rows.build.requests import RequestBuilder
from batcher.rows.ranges import RowRanges
from batcher.rows.read.reader import read_rows
from batcher.rows.read.source import SourceFile, fingerprint
from batcher.rows.reasons import Reason

MATCH_ROWS = 10_000  # rows of a changed source that are matched by one look-up
MATCH_BYTES = 64 * 2**20  # or fewer, when their bodies are this large together


@dataclass(slots=True, kw_only=True)
class PlannedSource:
    """One input with what is known of it: `done` rows are skipped unread.

    `matching`: rows may claim answers of older snapshots, so each is looked up by identity.
    `only` are the rows that a pilot sends; `None`: all of them. `fingerprint` is that of the
    file when the run began; empty: nobody looks whether it changes.
    """

    file: SourceFile
    source_id: int
    matching: bool
    done: RowRanges = field(default_factory=RowRanges)
    only: RowRanges | None = None
    fingerprint: str = ""

    @property
    def skip(self) -> RowRanges:
        """The rows that need not be read, a copy."""
        return self.done.copy() if self.only is None else self.done.union(all_but(self.only))

    def has_changed(self) -> bool:
        """Whether the file is another one by now, or gone."""
        try:
            return self.fingerprint not in {"", fingerprint(self.file.path)}
        except StorageError:
            return True


class Credit:
    """Keeps the reader from running ahead: it waits while too much is read and not yet sent."""

    def __init__(self, rows: int, body_bytes: int) -> None:
        self._all_rows = self._rows = rows
        self._bytes = body_bytes
        self._change = threading.Condition()
        self._stopped = False

    @property
    def spent_rows(self) -> int:
        """How many rows were read and not yet sent."""
        return self._all_rows - self._rows

    def spend(self, rows: int, body_bytes: int) -> bool:
        """Wait for room, then take it; `False` when the run is stopping."""
        with self._change:
            while (self._rows <= 0 or self._bytes <= 0) and not self._stopped:
                self._change.wait()
            self._rows -= rows
            self._bytes -= body_bytes
            return not self._stopped

    def give_back(self, body_bytes: int) -> None:
        """One row with a body of that size was sent, or a bad one was recorded."""
        with self._change:
            self._rows += 1
            self._bytes += body_bytes
            if self._rows > 0 and self._bytes > 0:
                self._change.notify()

    def wait(self, seconds: float) -> bool:
        """Return after `seconds`, or as soon as the run is stopping: then `True`."""
        with self._change:
            return self._change.wait_for(lambda: self._stopped, seconds)

    def stop(self) -> None:
        """Let the reader end."""
        with self._change:
            self._stopped = True
            self._change.notify()


class Receiver(Protocol):
    """Who takes what the reader's thread finds; called in that thread."""

    def rows(self, items: Sequence[Request | BadRow]) -> None:
        """Rows to do, in order."""

    def claimed(self, source_id: int, row_numbers: set[int]) -> None:
        """Rows whose earlier answer or failure moved along."""

    def blank(self, source_id: int, row_numbers: Sequence[int]) -> None:
        """Lines that hold nothing, and need nothing."""

    def read_to_end(self, source: PlannedSource, rows: int) -> None:
        """The source holds `rows` rows, and all of them were told."""

    def ended(self, error: Exception | None) -> None:
        """Nothing more comes; `error` is why, when it should not have ended."""


class Intake:
    """Reads all planned sources in order, in a thread of its own.

    `gate` judges the rows before they go on; `None`: all of them do. `read_everything` is
    whether every row was told; not so when it was stopped before.
    """

    def __init__(
        self,
        plan: Sequence[PlannedSource],
        builder: RequestBuilder,
        writer: Writer,
        run_id: int,
        receiver: Receiver,
        credit: Credit,
    ) -> None:
        self.gate: BadGate | None = None
        self.read_everything = False
        self._changed: list[str] = []
        self._plan = plan
        self._builder = builder
        self._writer = writer
        self._run_id = run_id
        self._receiver = receiver
        self._credit = credit
        self._live = [source.source_id for source in plan]
        self._thread = threading.Thread(target=self._run, name="reader", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def stop(self) -> None:
        """End early. Blocks until the thread is gone."""
        self._credit.stop()
        self._thread.join()

    def _run(self) -> None:
        try:
            self.read_everything = self._read_all()
            if self.read_everything:
                self._refuse_changed()
        except Exception as exc:  # noqa: BLE001 - the thread's edge: the engine ends the run
            self._receiver.ended(exc)
        else:
            self._receiver.ended(None)

    def _read_all(self) -> bool:
        """Read everything to its end; `False` when the run is stopping."""
        if not all(map(self._read, self._plan)):
            return False
        return self._hand_over(self.gate.end()) if self.gate else True

    def _read(self, source: PlannedSource) -> bool:
        """Read one source to its end; `False` when the run is stopping."""
        rows, broken, size = 0, False, 0
        gathered: list[Request | BadRow] = []
        for batch in read_rows(
            source.file,
            source_id=source.source_id,
            builder=self._builder,
            skip=self._skip(source),
        ):
            rows = batch.rows_read
            gathered += batch.items
            broken = broken or any(map(is_cut_off, batch.items))
            if batch.blank_rows:
                self._receiver.blank(source.source_id, batch.blank_rows)
            size += body_bytes(batch.items)
            if not source.matching or len(gathered) >= MATCH_ROWS or size >= MATCH_BYTES:
                if not self._deliver(source, gathered):
                    return False
                gathered, size = [], 0
        if not self._deliver(source, gathered):
            return False
        if source.has_changed():
            self._changed.append(source.file.name)
        elif source.only is None and not broken:
            # A cut file's rows say nothing against those of an older, whole one.
            self._at_end(source, rows)
        return True

    def _skip(self, source: PlannedSource) -> RowRanges:
        return source.skip

    def _at_end(self, source: PlannedSource, rows: int) -> None:
        self._receiver.read_to_end(source, rows)

    def _refuse_changed(self) -> None:
        if self._changed:
            raise InputChanged(
                f"{', '.join(self._changed[:3])}: changed while it was read; what was sent is"
                " recorded: type the same command again for the rest"
            )

    def _deliver(self, source: PlannedSource, items: list[Request | BadRow]) -> bool:
        if source.matching and items:
            items = self._without_claimed(source, items)
        if not items:
            return True
        return self._hand_over(self.gate.admit(items) if self.gate else [items])

    def _hand_over(self, groups: Iterable[list[Request | BadRow]]) -> bool:
        for items in groups:
            if not self._credit.spend(len(items), body_bytes(items)):
                return False
            self._receiver.rows(items)
        return True

    def _without_claimed(
        self, source: PlannedSource, items: list[Request | BadRow]
    ) -> list[Request | BadRow]:
        requests = [item for item in items if isinstance(item, Request)]
        claimed = self._writer.call(
            lambda connection: self._claim(connection, requests)
        ).result()
        if claimed:
            self._receiver.claimed(source.source_id, claimed)
        return [item for item in items if item.row_number not in claimed]

    def _claim(self, connection: Connection, requests: Sequence[Request]) -> set[int]:
        return resume.claim(connection, self._run_id, self._live, requests)


def body_bytes(items: Sequence[Request | BadRow]) -> int:
    """The size of all bodies together."""
    return sum(len(item.body) for item in items if isinstance(item, Request))


def all_but(chosen: RowRanges) -> RowRanges:
    """Every row number there can be, without `chosen`."""
    others = RowRanges()
    for first, last in chosen.gaps(1, 2**62):
        others.add_range(first, last)
    return others


def is_cut_off(item: Request | BadRow) -> bool:
    """Whether this stands for the rest of a file that could not be read."""
    return isinstance(item, BadRow) and item.reason == Reason.TRUNCATED_FILE
