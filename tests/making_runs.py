"""Builders for runs inside the test process: rows, lanes, clocks, a simulator beside it."""

import asyncio
import json
import sqlite3
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from itertools import count, zip_longest
from pathlib import Path
from typing import Any, Final

from sqlalchemy import text

from batcher.clock import SystemClock
from batcher.ledger.connect import open_engine, reading
from batcher.messages.answer import parse_answer
from batcher.messages.failure import Failure, Verdict, classify
from batcher.messages.request import (
    Answered,
    Attempt,
    Exchange,
    NotSent,
    Outcome,
    Rejected,
    Request,
    Unknown,
    Unusable,
)
from batcher.pacing.backoff import RetryPolicy
from batcher.pipeline.batches.asking import LookPace
from batcher.pipeline.choices import LaneChoice
from batcher.pipeline.engine.rater import Rater
from batcher.pipeline.job import Fallback, FallbackServices, Job, RunLimits, Services
from batcher.pipeline.run.by_hand import release
from batcher.pipeline.run.run import run_job
from batcher.pricing.book.book import PriceBook, load_shipped
from batcher.rows.build.requests import RequestBuilder
from batcher.rows.build.settings import RequestSettings
from batcher.rows.read.source import find_sources
from batcher.simulator.server import Simulator
from batcher.simulator.settings import SimulatorSettings
from batcher.transport.batch.batch_lane import BatchLane, PackLimits
from batcher.transport.batch.message_batches import MessageBatches
from batcher.transport.endpoint import Endpoint, Secret
from batcher.transport.live.client import HttpClient
from batcher.transport.live.live_lane import LiveLane
from batcher.transport.room import AnswerRoom
from batcher.wiring.connecting import connect, lane_limits

MODEL = "claude-sonnet-4-6"
SETTINGS = RequestSettings(model=MODEL, max_tokens=256)
BOOK = load_shipped()
AT_ONCE = RetryPolicy(first_wait_seconds=0, max_wait_seconds=0)


# --- Rows


def row(prompt: str, custom_id: str | None = None, **fields: Any) -> dict[str, Any]:
    params = {
        "model": MODEL,
        "max_tokens": 256,
        "messages": [{"role": "user", "content": prompt}],
    }
    named = {} if custom_id is None else {"custom_id": custom_id}
    return {**named, "params": params | fields}


def rows(count: int, prompt: str = "row {}") -> list[dict[str, Any]]:
    return [row(prompt.format(n), f"id-{n}") for n in range(1, count + 1)]


def write_rows(path: Path, lines: Iterable[dict[str, Any] | str]) -> Path:
    texts = (line if isinstance(line, str) else json.dumps(line) for line in lines)
    path.write_text("".join(f"{line}\n" for line in texts))
    return path


def prompt_of(attempt: Attempt) -> str:
    return json.loads(attempt.body)["messages"][0]["content"]


# --- Clocks


_LOOK_SECONDS = 0.02  # of real time


class FastClock(SystemClock):
    """Its seconds last a hundredth; chance is what the test says.

    A process that the machine held up has not waited: between two looks at this clock at most
    `_LOOK_SECONDS` have passed, and whoever sleeps looks twice as often.
    """

    def __init__(self, chance: float = 0.5, factor: int = 100) -> None:
        self._chance, self._factor = chance, factor
        self._passed, self._looked = 0.0, time.monotonic()
        self._lock = threading.Lock()

    def monotonic(self) -> float:
        with self._lock:
            now = time.monotonic()
            self._passed += min(now - self._looked, _LOOK_SECONDS)
            self._looked = now
            return self._passed * self._factor

    def leap(self, seconds: float) -> None:
        """So much time has passed, at once."""
        with self._lock:
            self._passed += seconds / self._factor

    def random(self) -> float:
        return self._chance

    async def sleep(self, seconds: float) -> None:
        until_ = self.monotonic() + seconds
        await asyncio.sleep(0)
        while (left := until_ - self.monotonic()) > 0:  # noqa: ASYNC110 - it looks at a clock
            await asyncio.sleep(min(left / self._factor, _LOOK_SECONDS / 2))


# --- Outcomes and lanes


def exchange(status: int | None = 200, **fields: Any) -> Exchange:
    now = time.time_ns() // 1000
    return Exchange(sent_at=now, settled_at=now + 1000, http_status=status, **fields)


_MESSAGE_NUMBERS: Final = count(1)


def message(text_: str = "yes", **fields: Any) -> bytes:
    return json.dumps(
        {
            "id": f"msg_{next(_MESSAGE_NUMBERS)}",
            "type": "message",
            "role": "assistant",
            "model": MODEL,
            "content": [{"type": "text", "text": text_}],
            "stop_reason": "end_turn",
            "usage": {"input_tokens": 10, "output_tokens": 5},
        }
        | fields
    ).encode()


def answered(text_: str = "yes", **fields: Any) -> Answered:
    return Answered(exchange(), parse_answer(message(text_, **fields)))


def refused(status: int, code: str | None = None, headers: Any = None) -> Rejected:
    details = {"error_code": code} if code else None
    error = {"type": f"error_{status}", "message": f"no: {status}", "details": details}
    body = json.dumps({"type": "error", "error": error}).encode()
    return Rejected(exchange(status), classify(status, headers or {}, body, 0, {}))


def _lost(error_type: str) -> Failure:
    return Failure(verdict=Verdict.RETRY_ROW, error_type=error_type, message="gone")


def unknown() -> Unknown:
    return Unknown(exchange(None), _lost("connection_lost"))


def not_sent() -> NotSent:
    return NotSent(exchange(None), _lost("unreachable"))


def unusable(body: bytes = b"<html>") -> Unusable:
    return Unusable(exchange(), _lost("unusable_answer"), body)


Script = Callable[[Attempt], Outcome | Awaitable[Outcome]]


class FakeLane:
    """Answers by a function of the attempt; remembers every attempt in order."""

    def __init__(self, script: Script | None = None) -> None:
        self._script = script or (lambda _: answered())
        self.sent: list[Attempt] = []
        self.in_flight = 0
        self.peak = 0
        self.closed = False

    async def send(self, attempt: Attempt) -> Outcome:
        self.sent.append(attempt)
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        try:
            outcome = self._script(attempt)
            if isinstance(outcome, Awaitable):
                return await outcome
            await asyncio.sleep(0)
            return outcome
        finally:
            self.in_flight -= 1

    def drain(self) -> None:
        pass

    async def close(self) -> None:
        self.closed = True

    @property
    def prompts(self) -> list[str]:
        return [prompt_of(attempt) for attempt in self.sent]


def in_turn(outcomes: dict[str, list[Outcome]]) -> Script:
    """By prompt, one outcome after the other; other prompts, and what is left, are answered."""
    left = {prompt: list(listed) for prompt, listed in outcomes.items()}

    def script(attempt: Attempt) -> Outcome:
        waiting = left.get(prompt_of(attempt))
        return waiting.pop(0) if waiting else answered()

    return script


async def until(true: Callable[[], Any]) -> None:
    """Return when something has happened in another thread."""
    async with asyncio.timeout(60):
        while not true():  # noqa: ASYNC110 - no event of asyncio's own reaches across threads
            await asyncio.sleep(0.001)


# --- Runs


class Watcher:
    """See `Observer`; remembers what it was told."""

    def __init__(self, agrees: bool = False) -> None:
        self._agrees = agrees
        self.start: Any = None
        self.end: Any = None
        self.reasons: list[str] = []
        self.waits: list[str] = []
        self.notes: list[str] = []
        self.asked: Any = None

    def started(self, event: Any) -> None:
        self.start = event

    def ended(self, event: Any) -> None:
        self.end = event

    def noted(self, sentence: str) -> None:
        self.notes.append(sentence)

    def waiting(self, reason: str) -> None:
        self.waits.append(reason)

    def draining(self, reason: str) -> None:
        self.reasons.append(reason)

    def confirm_resend(self, resent: Any) -> bool:
        self.asked = resent
        return self._agrees


@dataclass(kw_only=True)
class Case:
    """A job in a folder: `run` is one invocation of it."""

    folder: Path
    database: str
    inputs: tuple[str, ...] = ("rows.jsonl",)
    key: str = "case"
    name: str | None = None
    settings: RequestSettings = SETTINGS
    endpoint: Endpoint = field(
        default_factory=lambda: Endpoint(
            name="simulator", base_url="http://127.0.0.1:9", price_list="anthropic"
        )
    )
    book: PriceBook = BOOK
    limits: RunLimits = field(default_factory=lambda: RunLimits(concurrency=8, retry=AT_ONCE))
    options: dict[str, Any] = field(default_factory=dict)
    watcher: Watcher = field(default_factory=Watcher)
    accepts: Callable[[Request], bool] = lambda _: True

    def write(self, lines: Iterable[dict[str, Any] | str], name: str = "rows.jsonl") -> Path:
        return write_rows(self.folder / name, lines)

    def limit(self, **changes: Any) -> "Case":
        return replace(self, limits=replace(self.limits, **changes))

    def job(self) -> Job:
        return Job(
            key=self.key,
            name=self.name,
            command="batcher run",
            inputs=self.inputs,
            base=self.folder,
            database=self.database,
            endpoint=self.endpoint,
            settings=self.settings,
            limits=self.limits,
            **self.options,
        )

    def run(
        self, lane: Any = None, clock: Any = None, builder: Any = None, further: Any = ()
    ) -> Any:
        """One invocation over `lane` (a Lane, or none: the real one); its `Ended`.

        `further` are the lanes to what `fallback` among the options names.
        """
        job, clock = self.job(), clock or SystemClock()
        others = zip_longest(job.fallback, further)
        services = Services(
            builder=builder or RequestBuilder(self.settings),
            files=find_sources(self.inputs, base=self.folder, spool=None)
            if self.inputs
            else (),
            rater=Rater(self.book, self.endpoint.price_list),
            make_lane=lambda _, room: lane or _live(self.endpoint, clock, room),
            clock=clock,
            observer=self.watcher,
            price_note="",
            fallbacks=[self._further(each, lane, clock) for each, lane in others],
        )
        return run_job(job, services)

    def in_batches(
        self,
        builder: Any = None,
        spied: Any = lambda each: each,
        clock: Any = None,
        **changes: Any,
    ) -> Any:
        """One invocation over Message Batches; its `Ended`. `pack`: rows of one batch.

        `spied` may put something before what the run asks.
        """
        pack = PackLimits(requests=changes.pop("pack", 100), linger_seconds=0.02)
        changes = {"lane": LaneChoice.BATCH} | changes
        job, clock = replace(self.job(), **changes), clock or SystemClock()
        limits = lane_limits(job.limits, job.lane, cancel=job.cancel)
        job = replace(job, limits=replace(limits, waiting=pack.requests * job.lane.packs))

        def client() -> MessageBatches:
            http = HttpClient(self.endpoint, Secret("sk-test"), clock)
            return spied(MessageBatches(http, self.endpoint, clock))

        def packing(_: Any, journal: Any) -> BatchLane:
            made = BatchLane(client(), clock, spied(journal), pack)
            if job.cancel:
                made.drain()
            return made

        services = Services(
            builder=builder or RequestBuilder(self.settings),
            files=find_sources(self.inputs, base=self.folder, spool=None),
            rater=Rater(BOOK, self.endpoint.price_list, in_batches=job.lane.packs),
            make_lane=lambda _, room: _live(self.endpoint, clock, room),
            make_batches=lambda _: client(),
            make_packing=packing,
            look_pace=LookPace(first_seconds=0.02, longest_seconds=0.1),
            spool=self.folder,
            clock=clock,
            observer=self.watcher,
            price_note="",
        )
        return run_job(job, services)

    def _further(self, fallback: Fallback, lane: Any, clock: Any) -> FallbackServices:
        endpoint = fallback.endpoint
        return FallbackServices(
            fallback=fallback,
            rater=Rater(BOOK, endpoint.price_list),
            make_lane=lambda _, room: lane or _live(endpoint, clock, room),
            accepts=self.accepts,
        )

    def ask(self, query: str, **values: Any) -> list[tuple[Any, ...]]:
        """The rows of a query on the ledger."""
        return ask(self.database, query, **values)

    def one(self, query: str, **values: Any) -> Any:
        ((value,),) = self.ask(query, **values)
        return value

    def texts(self) -> list[tuple[int, str]]:
        """(row number, text) of all current answers."""
        return self.ask("SELECT row_number, text FROM v_answers ORDER BY source, row_number")

    def release(self) -> int:
        """Make failed and held rows work to do again, as a person would; how many."""
        return release(self.database, None, kinds=("failed", "held"), reason=None).rows


def _live(endpoint: Endpoint, clock: Any, room: AnswerRoom) -> LiveLane:
    client = connect(endpoint, Secret("sk-test"), clock, room=room)
    return LiveLane(client, endpoint, clock)


def ask(database: str, query: str, **values: Any) -> list[tuple[Any, ...]]:
    engine = open_engine(database)
    try:
        with reading(engine) as connection:
            return [tuple(found) for found in connection.execute(text(query), values)]
    finally:
        engine.dispose()


def photograph(database: str, target: Path) -> Path:
    """A copy of what is committed in a SQLite ledger now: what a kill at this moment leaves."""
    with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(target)) as copy:
        source.backup(copy)
        # A kill leaves the log too; the copy is whole without one, and says so.
        (commits,) = copy.execute("PRAGMA user_version").fetchone()
        copy.execute(f"PRAGMA user_version = {abs(commits)}")
    return target


# --- The simulator


@contextmanager
def simulating(**settings: Any) -> Iterator[Simulator]:
    """A simulator on a loop of its own, in a thread of its own."""
    simulator = Simulator(SimulatorSettings(**settings))
    started: threading.Event = threading.Event()
    loops: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def serve() -> None:
        over = asyncio.Event()
        async with simulator:
            loops.append((asyncio.get_running_loop(), over))
            started.set()
            await over.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    assert started.wait(60)
    try:
        yield simulator
    finally:
        loop, over = loops[0]
        loop.call_soon_threadsafe(over.set)
        thread.join()


def endpoint_of(simulator: Simulator, **changes: Any) -> Endpoint:
    """It is there, however long this process was held up before it could see that."""
    fields = {"price_list": "anthropic", "connect_timeout_seconds": 600.0} | changes
    return Endpoint(name="simulator", base_url=simulator.base_url, **fields)
