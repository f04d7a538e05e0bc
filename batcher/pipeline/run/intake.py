"""The reader's thread: from sources to batches of requests, no faster than they are sent."""

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from batcher.clock import Clock
from batcher.errors import InputChanged
from batcher.ledger import resume
from batcher.ledger.connect import Connection
from batcher.ledger.resume import MATCH_BYTES, MATCH_ROWS
from batcher.ledger.write.records import AnswerKeys, Claimable, Shared, SharePolicy
from batcher.ledger.write.writer import Writer
from batcher.messages.request import BadRow, Request
from batcher.pipeline.repeats import Repeats
from batcher.pipeline.run.division import Division
from batcher.pipeline.run.plan import PlannedSource
from batcher.pipeline.run.row_checks import BadGate, MisnamedRows
from batcher.pipeline.run.row_feed import Credit, RowFeed
from batcher.rows.batch import body_bytes, is_cut_off
from batcher.rows.build.requests import RequestBuilder
from batcher.rows.read.reader import read_rows

_LOOK_SECONDS: Final = 0.1
_MANY_ANSWERS: Final = 100_000  # to read their identities takes a part of a second


@dataclass(kw_only=True, eq=False)
class Intake:
    """Reads all planned sources in order, in a thread of its own.

    `division` says which of their rows. `repeats` puts rows off that others may answer; `None`:
    no row waits for another. `carries` tells which rows this invocation sends, `None`: all; the
    others are left. `gate` judges the rows before they go on; `None`: all of them do.
    `read_everything` is whether every row of the run was told and has ended, but for those that
    are still on their way; not so when it was stopped before.
    """

    plan: Sequence[PlannedSource]
    builder: RequestBuilder
    writer: Writer
    claimable: Claimable
    sharing: SharePolicy | None
    clock: Clock
    feed: RowFeed
    credit: Credit
    division: Division
    repeats: Repeats | None = None
    gate: BadGate | None = None
    carries: Callable[[Request], bool] | None = None
    read_everything: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self._changed: list[str] = []
        self._misnamed = MisnamedRows()
        self._keys: AnswerKeys | None = None
        self._blank_lines = 0
        self._leaves_some = False
        self._repeated_before = self.builder.repeated_rows  # by a look ahead
        self._thread = threading.Thread(target=self._run, name="reader", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def stop(self) -> None:
        """End early. Blocks until the thread is gone."""
        self.credit.stop()
        self._thread.join()

    def _run(self) -> None:
        try:
            self.read_everything = self._read_all()
            if self.read_everything:
                self._refuse_changed()
        except Exception as exc:  # noqa: BLE001 - the thread's edge: the engine ends the run
            self._end(exc)
        else:
            self._end(None)

    def _end(self, error: Exception | None) -> None:
        repeated = self.builder.repeated_rows - self._repeated_before
        self.feed.noticed(repeated, self._blank_lines)
        self.feed.ended(error)

    def _read_all(self) -> bool:
        """Read everything to its end; `False` when the run is stopping."""
        if self.repeats:
            self.repeats.begin()
        if not all(self._read(source, self.repeats) for source in self.plan):
            if (self.division.reads_on or self.repeats) and self.credit.go_on():
                self._read_left()
                self._read_repeats(sends=False)
            return False
        if self.gate and not self._hand_over(self.gate.end()):
            return False
        if self.division.reads_on:
            self.credit.go_on()
        ended = self._read_left() and self._read_repeats(sends=True)
        return ended and self.division.all_ended and not self._leaves_some

    def _read_left(self) -> bool:
        """Read what is left of others, or came back; `False` when the run is stopping."""
        left = self.division.left_by_others(self.feed, self.credit.wait)
        return all(map(self._read, left))

    def _read_repeats(self, *, sends: bool) -> bool:
        """Read what was put off until it is answered; `False` when some of it is left.

        With `sends`, where a row got no answer, one more that asks the same is sent.
        """
        repeats = self.repeats
        if repeats is None:
            return True
        for sending in (True, False) if sends else (False,):
            if repeats.rows_put_off and not self._read_again(repeats, sends=sending):
                return False
        self.feed.left_as_repeats(repeats.rows_put_off)
        return not repeats.rows_put_off

    def _read_again(self, repeats: Repeats, *, sends: bool) -> bool:
        while not self.feed.is_idle(at_limit=True):
            if self.credit.wait(_LOOK_SECONDS):
                return False
        again = repeats.read_again(sends=sends)
        return all(self._read(source, repeats) for source in again) and self._read_left()

    def _read(self, source: PlannedSource, repeats: Repeats | None = None) -> bool:
        """Read one source to its end; `False` when the run is stopping."""
        looks_up = source.is_looked_up or bool(repeats and repeats.looks_up)
        rows, broken, size = 0, False, 0
        self._keys = None  # there may be more answers than when the last source began
        gathered: list[Request | BadRow] = []
        for batch in read_rows(
            source.file,
            source_id=source.source_id,
            builder=self.builder,
            rows=self.division.rows_of(source),
        ):
            rows = batch.rows_read
            gathered += batch.items
            broken = broken or any(map(is_cut_off, batch.items))
            if batch.blank_rows:
                self.feed.blank(source.source_id, batch.blank_rows)
                self._blank_lines += len(batch.blank_rows)
            size += body_bytes(batch.items)
            if not looks_up or len(gathered) >= MATCH_ROWS or size >= MATCH_BYTES:
                if not self._deliver(source, gathered, repeats):
                    return False
                gathered, size = [], 0
        if not self._deliver(source, gathered, repeats, last=source is self.plan[-1]):
            return False
        if source.has_changed():
            self._changed.append(source.file.name)
        elif source.only is None and not broken:
            # A cut file's rows say nothing against those of an older, whole one.
            self.division.at_end(rows, lambda: self.feed.read_to_end(source, rows))
        return True

    def _read_first(self) -> bool:
        """Read what a process left that died, ahead of our own; `False`: it is stopping."""
        return all(map(self._read, self.division.left_by_the_dead(self.feed)))

    def _refuse_changed(self) -> None:
        if self._changed:
            raise InputChanged(
                f"{', '.join(self._changed[:3])}: changed while it was read; what was sent is"
                " recorded: type the same command again for the rest"
            )

    def _deliver(
        self,
        source: PlannedSource,
        items: list[Request | BadRow],
        repeats: Repeats | None,
        *,
        last: bool = False,
    ) -> bool:
        if source.is_looked_up and items:
            items = self._without_claimed(source, items, last=last)
        if self.carries:
            items = self._carried(items, self.carries)
        if repeats:
            items = repeats.to_send(items)
        if not items:
            return True
        self._misnamed.count(items)
        if not self._hand_over(self.gate.admit(items) if self.gate else [items]):
            return False
        return source.only is not None or self._read_first()

    def _carried(
        self, items: list[Request | BadRow], carries: Callable[[Request], bool]
    ) -> list[Request | BadRow]:
        kept = [item for item in items if isinstance(item, BadRow) or carries(item)]
        self._leaves_some |= len(kept) < len(items)
        return kept

    def _hand_over(self, groups: Iterable[list[Request | BadRow]]) -> bool:
        for items in groups:
            if not self.credit.spend(len(items), body_bytes(items)):
                return False
            self.feed.rows(items)
        return True

    def _without_claimed(
        self, source: PlannedSource, items: list[Request | BadRow], *, last: bool
    ) -> list[Request | BadRow]:
        requests = [item for item in items if isinstance(item, Request)]
        keys = self._keys = self._keys or self._read_keys(source)
        claimed, shared = self.writer.call(
            lambda connection: self._claim(connection, source, requests, keys)
        ).result()
        if claimed:
            self.feed.claimed(source.source_id, claimed)
        if shared is not None and shared.rows:
            self.feed.shared(source.source_id, shared, last=last)
            claimed |= shared.rows
        return [item for item in items if item.row_number not in claimed]

    def _read_keys(self, source: PlannedSource) -> AnswerKeys:
        many = self.writer.call(resume.count_answers).result()
        if many >= _MANY_ANSWERS:
            self.feed.noted(
                f"{source.file.name}: its rows are looked for among {many:,} answers first"
            )
        return self.writer.call(resume.read_answer_keys).result()

    def _claim(
        self,
        connection: Connection,
        source: PlannedSource,
        requests: Sequence[Request],
        keys: AnswerKeys,
    ) -> tuple[set[int], Shared | None]:
        """Rows that have an answer of the run, and what others of them get from other runs."""
        self.division.lock(connection)  # two equal rows must not claim the same answer
        claimed = set[int]()
        if source.matching:
            claimed = resume.claim(connection, self.claimable, requests, keys)
        if self.sharing is None:
            return claimed, None
        left = [request for request in requests if request.row_number not in claimed]
        sharing = replace(self.sharing, own=source.matching)
        now = self.clock.now_us()
        return claimed, resume.share(connection, sharing, left, now, keys)
