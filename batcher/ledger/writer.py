"""The one thread that writes: group commit, acknowledgement after COMMIT."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DataError, IntegrityError, InterfaceError

from batcher.ledger.batch import Batch
from batcher.ledger.records import Record, Settlement
from batcher.ledger.repair import without_offending_values
from batcher.ledger.trouble import storage_errors

T = TypeVar("T")

MAX_ITEMS: Final = 500
LINGER_SECONDS: Final = 0.002

# What a driver raises for values it cannot store; the statement is at fault, not the database.
_BAD_VALUES: Final = (DataError, IntegrityError, InterfaceError, OverflowError, UnicodeError)

_Item = tuple[Record, Callable[[], None]]


@dataclass(frozen=True, slots=True)
class _Call:
    """A function to run between two batches, in a transaction of its own."""

    function: Callable[[Connection], Any]
    done: "Future[Any]"


class Writer:
    """Puts records into the ledger in the order they were handed in, many per transaction.

    `put` and `durable` belong to one event loop, `call` to any thread. When the database fails,
    `on_failure` is told once, in the loop, and nothing is acknowledged any more.
    """

    def __init__(
        self,
        engine: Engine,
        batch: Batch,
        loop: asyncio.AbstractEventLoop,
        on_failure: Callable[[BaseException], None],
    ) -> None:
        self._engine = engine
        self._batch = batch
        self._loop = loop
        self._on_failure = on_failure
        self._items: list[_Item] = []
        self._calls: list[_Call] = []
        self._answering: deque[_Call] = deque()
        self._work = threading.Condition()
        self._closing = False
        self._is_idle = False
        self._failed: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="ledger-writer", daemon=True)
        self._thread.start()

    def put(self, record: Record, acknowledged: Callable[[], None]) -> None:
        """Hand in a record; `acknowledged` is called in the loop when it is durable."""
        items = self._items
        items.append((record, acknowledged))
        if self._is_idle or len(items) == MAX_ITEMS:
            with self._work:
                self._work.notify()

    def durable(self, record: Record) -> "asyncio.Future[None]":
        """Hand in a record; the future is done when it is durable."""
        future = self._loop.create_future()
        self.put(record, lambda: None if future.done() else future.set_result(None))
        return future

    def call(self, function: Callable[[Connection], T]) -> "Future[T]":
        """Run `function` in a transaction of the writer, after all records put before it."""
        done: Future[T] = Future()
        with self._work:
            if self._failed is not None:
                done.set_exception(self._failed)
                return done
            self._calls.append(_Call(function, done))
            self._work.notify()
        return done

    def close(self) -> None:
        """Write what is left, then end the thread. Blocks."""
        with self._work:
            self._closing = True
            self._work.notify()
        self._thread.join()

    def _run(self) -> None:
        try:
            with storage_errors(self._engine.url), self._engine.connect() as connection:
                while self._step(connection):
                    pass
        except BaseException as exc:  # noqa: BLE001 - the thread's edge: the loop must hear of it
            self._fail(exc)

    def _step(self, connection: Connection) -> bool:
        items, go_on = self._collect()
        if items:
            self._write(connection, items)
            self._loop.call_soon_threadsafe(_acknowledge, items)
        while self._answering:
            self._answer(connection, self._answering[0])
            self._answering.popleft()
        return go_on

    def _collect(self) -> tuple[list[_Item], bool]:
        """Wait for work, linger for company, take it all."""
        with self._work:
            self._is_idle = True  # from here on whoever brings something rings
            while not (self._items or self._calls or self._closing):
                self._work.wait()
            self._is_idle = False
            if len(self._items) < MAX_ITEMS and not (self._calls or self._closing):
                self._work.wait(LINGER_SECONDS)
            # Handing in takes no lock, so the list itself stays and only its front is taken.
            items = self._items[:MAX_ITEMS]
            del self._items[:MAX_ITEMS]
            if not self._items:  # a call sees everything that was handed in before it
                self._answering.extend(self._calls)
                self._calls.clear()
            return items, bool(items or self._answering or not self._closing)

    def _write(self, connection: Connection, items: Sequence[_Item]) -> None:
        """One transaction; a value that cannot be stored is repaired, and the others land."""
        records = [record for record, _ in items]
        try:
            with connection.begin():
                self._batch.write(connection, records)
        except _BAD_VALUES as exc:
            self._batch.forget()
            if len(items) == 1:
                self._write_repaired(connection, records[0], exc)
                return
            half = len(items) // 2
            self._write(connection, items[:half])
            self._write(connection, items[half:])

    def _write_repaired(self, connection: Connection, record: Record, cause: Exception) -> None:
        if not isinstance(record, Settlement):
            raise cause  # all other records hold only values of our own making
        with connection.begin():
            self._batch.write(connection, [without_offending_values(record)])

    def _answer(self, connection: Connection, call: _Call) -> None:
        if call.done.set_running_or_notify_cancel():  # nobody can cancel it from here on
            with connection.begin():
                result = call.function(connection)
            call.done.set_result(result)

    def _fail(self, exc: BaseException) -> None:
        with self._work:
            self._failed = exc
            calls = [*self._answering, *self._calls]
            self._calls.clear()
        for call in calls:
            if call.done.running() or call.done.set_running_or_notify_cancel():
                call.done.set_exception(exc)
        self._loop.call_soon_threadsafe(self._on_failure, exc)


def _acknowledge(items: Sequence[_Item]) -> None:
    for _, acknowledged in items:
        acknowledged()
