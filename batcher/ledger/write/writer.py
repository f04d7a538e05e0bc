"""The one thread that writes: group commit, acknowledgement after COMMIT.

The last settlements that were committed are kept in memory for a server that forgets them:
after a failover to a standby that lagged, what was committed last is not there any more, and
the rows were paid for all the same.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Engine

from batcher.clock import Clock
from batcher.errors import LostTransactions
from batcher.ledger.connect import place, storage_errors
from batcher.ledger.database_errors import may_be_about_data
from batcher.ledger.lifeboat.files import pack, unpack
from batcher.ledger.lifeboat.lifeboat import Lifeboat
from batcher.ledger.owner.database_file import HeldFile
from batcher.ledger.owner.lease import Lease
from batcher.ledger.owner.session import PATIENCE_SECONDS, Session, WriteAheadLog
from batcher.ledger.write.corrections import mended
from batcher.ledger.write.records import Intent, Record, Scope, Settlement
from batcher.ledger.write.transaction import Recorder
from batcher.messages.answer import Store
from batcher.messages.request import Answered, NotSent, Partial, Unusable

_MOST: Final = 512
MOST_BYTES: Final = 16 * 2**20


class Recent:
    """The last 512 settlements, and no more than 16 MB of them, by transaction.

    They are kept packed, in half the memory, and without the bytes of their requests.
    """

    def __init__(self) -> None:
        self._kept: deque[tuple[int, bytes]] = deque()
        self._bytes = 0
        self._dropped = 0

    def add(self, number: int, records: Sequence[Record]) -> None:
        """Remember what transaction `number` committed; numbers grow."""
        for record in records:
            if isinstance(record, Settlement):
                packed = pack(record)
                self._kept.append((number, packed))
                self._bytes += len(packed)
        while len(self._kept) > _MOST or self._bytes > MOST_BYTES:
            self._dropped, packed = self._kept.popleft()
            self._bytes -= len(packed)

    def after(self, number: int) -> list[Settlement]:
        """What was committed after transaction `number`, oldest first, as far as it is here."""
        return [unpack(packed) for of, packed in self._kept if of > number]

    def reaches(self, number: int) -> bool:
        """Whether everything that was committed after transaction `number` is here."""
        return self._dropped <= number


T = TypeVar("T")

FEW_ITEMS: Final = 64
MAX_ITEMS: Final = 500
LINGER_SECONDS: Final = 0.002

_Item = tuple[Record, Callable[[], None]]


@dataclass(frozen=True, slots=True)
class _Call:
    """A function to run between two batches, in a transaction of its own."""

    function: Callable[[Connection], Any]
    done: "Future[Any]"


class _Waiter:
    """Ends a future when its record is durable, or will never be."""

    __slots__ = ("_future",)

    def __init__(self, future: "asyncio.Future[None]") -> None:
        self._future = future

    def __call__(self) -> None:
        if not self._future.done():
            self._future.set_result(None)

    def refuse(self, exc: BaseException) -> None:
        if not self._future.done():
            self._future.set_exception(exc)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """Whose records a writer takes, and how it stands by a server that goes away.

    Every transaction names the `lease`, if there is one; then a lost server is waited for, for
    `patience_seconds`. `connection_lost` is called in the writer's thread: with a sentence when
    the connection is lost, with "" when it is back. `file`: see `Session`.
    `log_grows` is called there, too: see `WriteAheadLog`.
    """

    scope: Scope
    clock: Clock
    store: Store
    lease: Lease | None = None
    patience_seconds: float = PATIENCE_SECONDS
    connection_lost: Callable[[str], None] = lambda _: None
    file: HeldFile | None = None
    log_grows: Callable[[str], object] = lambda _: None


class Writer:
    """Puts records into the ledger in the order they were handed in, many per transaction.

    `put` and `durable` belong to one event loop, `call` to any thread. When the database fails,
    `on_failure` is told once, in the loop, and nothing is acknowledged any more: intents are
    refused, so that nothing more is sent, and every settlement that was not durable, or comes
    from then on, goes into the `lifeboat` and is kept in `unsaved`, to be read after `close`.
    So do those that a server has forgotten, as far as they are still in memory. Beyond 16 MB
    only the lifeboat has what it took. `on_kept` is told their attempt_ids, in the loop.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - all of them are of one owner
        self,
        engine: Engine,
        recorder: Recorder,
        loop: asyncio.AbstractEventLoop,
        on_failure: Callable[[BaseException], None],
        lifeboat: Lifeboat | None = None,
        session: Session | None = None,
        on_kept: Callable[[Sequence[int]], None] = lambda _: None,
    ) -> None:
        self._on_kept = on_kept
        self._unsaved_bytes = 0
        self.let_go = 0  # of the unsaved
        self._session = session or Session(engine)
        self._lifeboat = lifeboat
        self.unsaved: list[Settlement] = []
        self._recent = Recent()
        self._writing: list[_Item] = []
        self._refused: set[int] = set()
        self._engine = engine
        self._recorder = recorder
        self._loop = loop
        self._on_failure = on_failure
        self._items: list[_Item] = []
        self._calls: list[_Call] = []
        self._answering: deque[_Call] = deque()
        self._work = threading.Condition()
        self._closing = False
        self._is_idle = False
        self._most = FEW_ITEMS
        self._failed: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="ledger-writer", daemon=True)
        self._thread.start()

    def put(self, record: Record, acknowledged: Callable[[], None]) -> None:
        """Hand in a record; `acknowledged` is called in the loop when it is durable."""
        items = self._items
        items.append((record, acknowledged))
        if self._is_idle or len(items) == self._most:
            with self._work:
                self._work.notify()

    def durable(self, record: Record) -> "asyncio.Future[None]":
        """Hand in a record; the future is done when it is durable, or fails with the ledger."""
        future = self._loop.create_future()
        self.put(record, _Waiter(future))
        return future

    def call(self, function: Callable[[Connection], T]) -> "Future[T]":
        """Run `function` in a transaction of the writer, after all records put before it.

        It is run also where whoever waits for it is canceled: what it was to save, such as
        which rows are done, is not saved a second time.
        """
        done: Future[T] = Future()
        done.set_running_or_notify_cancel()  # from here on nobody can cancel it
        with self._work:
            if self._failed is not None:
                done.set_exception(self._failed)
                return done
            self._calls.append(_Call(function, done))
            self._work.notify()
        return done

    @property
    def failure(self) -> BaseException | None:
        """What the database failed with; `None` while it works."""
        return self._failed

    @property
    def remembers_all(self) -> bool:
        """Whether all that a server has forgotten is in `unsaved`; also after `close`."""
        return self._recent.reaches(self._session.known)

    def hurry(self) -> None:
        """Wait no longer for a server that is away."""
        self._session.hurry()

    def close(self) -> None:
        """Write what is left, into the lifeboat if the database failed; then end. Blocks."""
        with self._work:
            self._closing = True
            self._work.notify()
        self._thread.join()

    def _run(self) -> None:
        try:
            with storage_errors(self._engine.url), self._session:
                while self._step():
                    pass
        except BaseException as exc:  # noqa: BLE001 - the thread's edge: the loop must hear of it
            self._fail(exc)
            self._rescue()

    def _step(self) -> bool:
        items, go_on = self._collect()
        if items:
            self._writing = items
            self._write(items)
            self._writing = []
            self._loop.call_soon_threadsafe(_acknowledge, items)
        while self._answering:
            self._answer(self._answering[0])
            self._answering.popleft()
        return go_on

    def _collect(self) -> tuple[list[_Item], bool]:
        """Wait for work, linger for company, take it all."""
        with self._work:
            self._is_idle = True  # from here on whoever brings something rings
            while not (self._items or self._calls or self._closing):
                self._work.wait()
            self._is_idle = False
            if len(self._items) < self._most and not (self._calls or self._closing):
                self._work.wait(LINGER_SECONDS)
            # Handing in takes no lock, so the list itself stays and only its front is taken.
            items = self._items[: self._most]
            del self._items[: len(items)]  # more may have come since the line above
            self._adapt(len(items))
            if not self._items:  # a call sees everything that was handed in before it
                self._answering.extend(self._calls)
                self._calls.clear()
            return items, bool(items or self._answering or not self._closing)

    def _adapt(self, taken: int) -> None:
        """Many in a transaction are cheap, few are quick.

        A burst is acknowledged bit by bit, so it spreads out and comes back as a stream; only
        what lasts is worth large transactions.
        """
        if taken == self._most:
            self._most = min(self._most * 5 // 4, MAX_ITEMS)
        else:
            self._most = max(taken, FEW_ITEMS)

    def _write(self, items: Sequence[_Item]) -> None:
        """One transaction; a record that cannot be stored is mended, and the others land."""
        records = [record for record, _ in items]
        try:
            self._land(records)
        except Exception as exc:
            self._recorder.forget()
            if not may_be_about_data(exc):
                raise
            if len(items) == 1:
                self._land([mended(records[0])])  # refused too: it was not about data
                return
            half = len(items) // 2
            self._write(items[:half])
            self._write(items[half:])

    def _land(self, records: Sequence[Record]) -> None:
        """All of them in one transaction, or an exception and none of them."""
        self._session.transact(
            lambda c: self._recorder.write(c, records), self._recorder.forget
        )
        if self._session.committed:
            self._recent.add(self._session.committed, records)

    def _answer(self, call: _Call) -> None:
        call.done.set_result(self._session.transact(call.function))

    def _fail(self, exc: BaseException) -> None:
        with self._work:
            self._failed = exc
            calls = [*self._answering, *self._calls]
            self._answering.clear()
            self._calls.clear()
        for call in calls:
            call.done.set_exception(exc)
        self._loop.call_soon_threadsafe(self._on_failure, exc)

    def _rescue(self) -> None:
        """Nothing can be written any more: keep what was paid, until we are closed."""
        items, go_on = self._writing, True
        if self._lifeboat:
            self._lifeboat.cause = str(self._failed)
        if isinstance(self._failed, LostTransactions):
            self._keep(self._recent.after(self._session.known))
        while go_on:
            self._shelter(items)
            items, go_on = self._collect()

    def _shelter(self, items: Sequence[_Item]) -> None:
        settled = []
        for record, acknowledged in items:
            if isinstance(record, Intent):
                self._refuse(record, acknowledged)
            elif isinstance(record, Settlement) and not self._was_refused(record):
                settled.append(record)
        self._keep(settled)

    def _keep(self, settled: Sequence[Settlement]) -> None:
        if not settled:
            return
        is_saved = self._lifeboat is not None and self._lifeboat.save(settled)
        self._unsaved_bytes += sum(map(_size, settled))
        if is_saved and self._unsaved_bytes > MOST_BYTES:
            self.let_go += len(settled)
        else:
            self.unsaved += settled
        ids = [settlement.attempt.attempt_id for settlement in settled]
        self._loop.call_soon_threadsafe(self._on_kept, ids)

    def _refuse(self, intent: Intent, acknowledged: Callable[[], None]) -> None:
        self._refused.add(intent.attempt.attempt_id)
        if isinstance(acknowledged, _Waiter) and self._failed is not None:
            self._loop.call_soon_threadsafe(acknowledged.refuse, self._failed)

    def _was_refused(self, settlement: Settlement) -> bool:
        """Whether there never was such an attempt: its intent came to nothing."""
        never_sent = isinstance(settlement.outcome, NotSent)
        return never_sent and settlement.attempt.attempt_id in self._refused


def _size(settlement: Settlement) -> int:
    outcome = settlement.outcome
    if isinstance(outcome, (Answered, Partial)):
        return len(outcome.answer.content) + len(outcome.answer.text)
    return len(outcome.body) if isinstance(outcome, Unusable) else 0


def _acknowledge(items: Sequence[_Item]) -> None:
    for _, acknowledged in items:
        acknowledged()


def open_writer(
    engine: Engine,
    recording: Recording,
    loop: asyncio.AbstractEventLoop,
    on_failure: Callable[[BaseException], None],
    lifeboat: Lifeboat | None = None,
    on_kept: Callable[[Sequence[int]], None] = lambda _: None,
) -> Writer:
    """A writer with a session of its own; `close` ends it."""
    recorder = Recorder(engine.dialect, recording.scope, recording.clock, recording.store)
    path = place(engine).path
    session = Session(
        engine,
        recording.lease,
        patience_seconds=recording.patience_seconds,
        lost=recording.connection_lost,
        file=recording.file,
        log=WriteAheadLog(path, recording.log_grows) if path else None,
    )
    return Writer(engine, recorder, loop, on_failure, lifeboat, session, on_kept)
