"""The writer: acknowledged means durable, in order, whatever happens."""

import asyncio
import sqlite3
import threading
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from msgspec import structs
from sqlalchemy import text

from batcher.clock import SystemClock
from batcher.errors import StorageError
from batcher.ledger import runs
from batcher.ledger.connect import open_engine, writing
from batcher.ledger.write import records
from batcher.ledger.write.records import Intent, Quarantine, Scope, Settlement
from batcher.ledger.write.transaction import Recorder
from batcher.ledger.write.writer import FEW_ITEMS, MAX_ITEMS, Writer
from batcher.messages.request import Answered, Attempt, BadRow, Purpose, Request, State
from tests.making_runs import BOOK, answered, ask, exchange, refused, until
from tests.simulator.asking import asynchronous

START = {
    "started_at": 0, "host": "h", "pid": 1, "os_user": "u", "version": "v", "command": "c",
    "endpoint": "e", "base_url": "b", "lane": "live", "simulated": False,
    "settings_digest": "d", "token": "", "options": {}, "tags": {},
}  # fmt: skip


@dataclass
class Ledger:
    """A writer with what it writes into, and what it said about failures."""

    url: str
    writer: Writer = None
    engine: object = None
    failures: list[BaseException] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)

    def count(self, table: str) -> int:
        return ask(self.url, f"SELECT COUNT(*) FROM {table}")[0][0]


class NotingBatch(Recorder):
    """Notes how many records each transaction took."""

    def __init__(self, *args):
        super().__init__(*args)
        self.sizes = []

    def write(self, connection, records):
        super().write(connection, records)
        self.sizes.append(len(records))


@asynccontextmanager
async def writer_on(url: str):
    engine = open_engine(url)
    with writing(engine) as connection:
        run_id = runs.open_run(connection, "k", None, 0)
        invocation = runs.start_invocation(connection, run_id, runs.InvocationStart(**START))
        runs.add_source(
            connection,
            run_id,
            runs.NewSource(
                name="s", location="l", fingerprint="f", settings_digest="d", matched=True
            ),
        )
        book_id, rating_id = records.open_rating(connection, BOOK, 0)
    scope = Scope(
        run_id=run_id, invocation_id=invocation, lane="live", rating_id=rating_id,
        price_book_id=book_id,
    )  # fmt: skip
    ledger = Ledger(url, engine=engine)
    batch = NotingBatch(engine.dialect, scope, SystemClock())
    ledger.sizes = batch.sizes
    loop = asyncio.get_running_loop()
    ledger.writer = Writer(engine, batch, loop, ledger.failures.append)
    try:
        yield ledger
    finally:
        await asyncio.to_thread(ledger.writer.close)
        engine.dispose()


def attempt(number: int, replaces: int | None = None) -> Attempt:
    request = Request(
        source_id=1, row_number=number, byte_offset=0, custom_id=None,
        params_hash=number.to_bytes(16, "big"), model="m", max_tokens=9, body=b"{}",
    )  # fmt: skip
    return Attempt(
        attempt_id=number, uid=f"u-{number}", request_id=replaces or number, request=request,
        number=1, leg=1, purpose=Purpose.FIRST, body=b"{}", opened_at=1, cost_high=5,
        replaces=replaces,
    )  # fmt: skip


def settlement(number: int, outcome=None, **fields) -> Settlement:
    values = {"state": State.ANSWERED, "pending": False, "cost_low": 0, "cost_high": 5}
    return Settlement(
        attempt=attempt(number), outcome=outcome or answered(), **(values | fields)
    )


def bad_row(number: int) -> Quarantine:
    return Quarantine(
        row=BadRow(
            source_id=1,
            row_number=number,
            byte_offset=None,
            custom_id=None,
            reason="R",
            message="no",
        )
    )


@asynchronous
async def test_what_is_acknowledged_can_be_read_by_anybody(database_url):
    async with writer_on(database_url) as ledger:
        await ledger.writer.durable(Intent(attempt=attempt(1)))
        assert ask(database_url, "SELECT state, pending FROM attempts") == [("open", 1)]


@asynchronous
async def test_nothing_is_acknowledged_before_it_can_be_read(sqlite_url):
    seen: list[tuple[int, int]] = []
    async with writer_on(sqlite_url) as ledger:
        for n in range(1, 200):
            ledger.writer.put(
                Intent(attempt=attempt(n)),
                lambda n=n: seen.append((n, ledger.count("attempts"))),
            )
        await ledger.writer.durable(Intent(attempt=attempt(200)))
    assert [n for n, _ in seen] == list(range(1, 200))
    assert all(count >= n for n, count in seen)


@asynchronous
async def test_a_call_sees_everything_that_was_handed_in_before_it(database_url):
    async with writer_on(database_url) as ledger:
        for n in range(1, 3 * MAX_ITEMS):
            ledger.writer.put(Intent(attempt=attempt(n)), lambda: None)
        query = text("SELECT COUNT(*) FROM attempts")
        future = ledger.writer.call(lambda connection: connection.execute(query).scalar())
        assert await asyncio.wrap_future(future) == 3 * MAX_ITEMS - 1


@asynchronous
async def test_a_burst_is_acknowledged_bit_by_bit_and_what_lasts_in_large_transactions(
    sqlite_url,
):
    async with writer_on(sqlite_url) as ledger:
        held = threading.Event()
        ledger.writer.call(lambda _: held.wait(30))
        for intent in [Intent(attempt=attempt(n)) for n in range(1, 6_000)]:
            ledger.writer.put(intent, lambda: None)
        held.set()
        await ledger.writer.durable(Intent(attempt=attempt(6_000)))
        await ledger.writer.durable(Intent(attempt=attempt(6_001)))
        lasting = len(ledger.sizes)
        for intent in [Intent(attempt=attempt(n)) for n in range(7_000, 7_300)]:
            ledger.writer.put(intent, lambda: None)
        await ledger.writer.durable(Intent(attempt=attempt(8_000)))
    assert sum(ledger.sizes) == 6_000 + 1 + 300 + 1
    burst = ledger.sizes[: ledger.sizes.index(MAX_ITEMS) + 1]
    assert burst[0] <= FEW_ITEMS
    assert all(size <= max(before * 5 // 4, FEW_ITEMS) for before, size in pairwise(burst))
    assert max(ledger.sizes) == MAX_ITEMS
    assert ledger.sizes[lasting] <= FEW_ITEMS, "it begins anew when all was written"


@asynchronous
async def test_closing_writes_what_is_left(database_url):
    async with writer_on(database_url) as ledger:
        for n in range(1, 700):
            ledger.writer.put(bad_row(n), lambda: None)
    assert ledger.count("failures") == 699


@asynchronous
async def test_an_attempt_that_is_settled_and_replaced_at_once_is_not_pending(database_url):
    async with writer_on(database_url) as ledger:
        await ledger.writer.durable(Intent(attempt=attempt(1)))
        held = threading.Event()
        ledger.writer.call(lambda _: held.wait(30))
        refusal = settlement(1, refused(500), state=State.REJECTED, pending=True)
        ledger.writer.put(refusal, lambda: None)
        ledger.writer.put(Intent(attempt=attempt(2, replaces=1)), lambda: None)
        held.set()
    found = ask(database_url, "SELECT attempt_id, state, pending FROM attempts ORDER BY 1")
    assert found == [(1, "rejected", 0), (2, "open", 1)]


@asynchronous
async def test_one_value_that_cannot_be_stored_never_takes_others_with_it(database_url):
    async with writer_on(database_url) as ledger:
        for n in range(1, 101):
            ledger.writer.put(Intent(attempt=attempt(n)), lambda: None)
        acknowledged: list[int] = []
        for n in range(1, 101):
            text_ = "\ud800" if n in {7, 8, 93} else "fine"
            outcome = Answered(exchange(), structs.replace(answered().answer, text=text_))
            ledger.writer.put(
                settlement(n, outcome, final=True), lambda n=n: acknowledged.append(n)
            )
        await asyncio.wrap_future(ledger.writer.call(lambda _: None))
    assert sorted(acknowledged) == list(range(1, 101))
    assert ledger.count("answers WHERE text = 'fine'") == 97
    found = ask(
        database_url, "SELECT attempt_id FROM attempts WHERE state = 'unusable' ORDER BY 1"
    )
    assert [number for (number,) in found] == [7, 8, 93]
    assert ledger.count("failures WHERE reason = 'not_storable'") == 3


@asynchronous
async def test_a_row_that_fails_twice_has_one_failure_the_last_one(database_url):
    async with writer_on(database_url) as ledger:
        for _ in range(2):
            await ledger.writer.durable(bad_row(1))
    assert ledger.count("failures") == 1


# --- When the database fails


def break_database(ledger: Ledger) -> None:
    """From now on every statement on attempts fails, as on a full disk or a lost file."""
    with sqlite3.connect(ledger.url) as connection:
        connection.execute("ALTER TABLE attempts RENAME TO elsewhere")
    connection.close()


@asynchronous
async def test_a_failing_database_is_told_once_and_nothing_is_acknowledged(sqlite_url):
    async with writer_on(sqlite_url) as ledger:
        break_database(ledger)
        acknowledged: list[int] = []
        for n in range(1, 5):
            ledger.writer.put(Intent(attempt=attempt(n)), lambda n=n: acknowledged.append(n))
        await until(lambda: ledger.failures)
        ledger.writer.put(bad_row(9), lambda: acknowledged.append(9))
    assert (len(ledger.failures), acknowledged) == (1, [])
    assert isinstance(ledger.failures[0], StorageError)


@asynchronous
async def test_whoever_waits_for_a_call_hears_of_the_failure(sqlite_url):
    async with writer_on(sqlite_url) as ledger:
        break_database(ledger)
        held = threading.Event()
        ledger.writer.call(lambda _: held.wait(30))
        ledger.writer.put(Intent(attempt=attempt(1)), lambda: None)
        waiting = [ledger.writer.call(lambda _: 1) for _ in range(3)]
        held.set()
        for future in waiting:
            with pytest.raises(StorageError):
                await asyncio.wait_for(asyncio.wrap_future(future), 30)
        with pytest.raises(StorageError):
            ledger.writer.call(lambda _: 1).result(30)


@asynchronous
async def test_a_call_that_fails_fails_those_behind_it_too(sqlite_url):
    async with writer_on(sqlite_url) as ledger:
        held = threading.Event()
        ledger.writer.call(lambda _: held.wait(30))
        futures = [ledger.writer.call(lambda _: 1 // 0), ledger.writer.call(lambda _: 1)]
        held.set()
        for future in futures:
            with pytest.raises(ZeroDivisionError):
                await asyncio.wait_for(asyncio.wrap_future(future), 30)
        await until(lambda: ledger.failures)


@asynchronous
async def test_a_call_that_nobody_waits_for_any_more_is_made_and_harms_nothing(sqlite_url):
    """A checkpoint under way when a run ends held rows that no later one tells again."""
    async with writer_on(sqlite_url) as ledger:
        held = threading.Event()
        ledger.writer.call(lambda _: held.wait(30))
        ran: list[int] = []
        given_up = asyncio.wrap_future(ledger.writer.call(ran.append))
        await asyncio.sleep(0)
        given_up.cancel()
        await asyncio.sleep(0)
        held.set()
        await ledger.writer.durable(Intent(attempt=attempt(1)))
    assert (len(ran), ledger.failures, ledger.count("attempts")) == (1, [], 1)
