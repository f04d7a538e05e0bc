"""A night with a deadline: rows, batches that take their time, and a program that crashes."""

import json
import random
import shutil
import sqlite3
import sys
import threading
import time
from collections import Counter
from contextlib import closing, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from batcher.errors import BatcherError, ProviderUnavailable
from batcher.ledger.money.estimates import EndpointTimes
from batcher.messages.answer import parse_answer
from batcher.messages.request import (
    BATCH_LIFETIME_US,
    Answered,
    BatchState,
    Exchange,
    SeenBatch,
)
from batcher.pipeline.batches.asking import LookPace
from batcher.pipeline.choices import Deadline, LaneChoice
from batcher.pipeline.engine.rater import Rater
from batcher.pipeline.job import RunLimits, Services
from batcher.pipeline.run.run import plan_for, run_by_deadline, run_job
from batcher.rows.build.requests import RequestBuilder
from batcher.rows.read.source import find_sources
from batcher.transport.batch.batch_lane import BatchLane, PackLimits
from batcher.transport.batch.message_batches import BatchResults
from batcher.transport.live.connections import SendError
from batcher.transport.live.mask import Mask
from tests.histories.clock import VirtualClock
from tests.histories.crashing import crashing
from tests.histories.provider import Gone
from tests.making_runs import AT_ONCE, BOOK, SETTINGS, Case, Watcher, message, row

LATENCY_SECONDS = 60.0
TICK_SECONDS = 60.0
_READER_SECONDS = 1.5  # real ones, between two looks of the reader, and some
MINUTE_US = 60 * 10**6
CALM = (1, 2, 4)
TOKENS = {"input_tokens": 10, "output_tokens": 5}
STEPS = (
    "create", "created", "look", "cancel", "canceled", "results", "sent", "answered", "commit",
)  # fmt: skip


def is_quiet() -> bool:
    """Whether no thread but the event loop's has something to do."""
    frames = sys._current_frames()
    for thread in threading.enumerate():
        frame = frames.get(thread.ident or 0)
        if frame is None:
            continue
        if thread.name.startswith("asyncio_") and frame.f_code.co_name != "_worker":
            return False
        if thread.name not in {"reader", "ledger-writer"}:
            continue
        if frame.f_code.co_name != "wait":
            return False
        if thread.name == "ledger-writer" and frame.f_locals.get("timeout") is not None:
            return False  # it lingers over what came already
    return True


@dataclass
class MadeBatch:
    """What the provider knows of one."""

    batch_id: str
    names: list[str]
    created_at: int
    works_until: int
    lag_us: int
    canceled_at: int | None = None
    billed: bool = False

    def ended_at(self) -> int:
        if self.canceled_at is None:
            return min(self.works_until, self.created_at + BATCH_LIFETIME_US)
        return min(self.works_until, self.canceled_at + self.lag_us)

    def done(self) -> list[str]:
        """The requests that were worked on until its end."""
        span = self.works_until - self.created_at
        part = (self.ended_at() - self.created_at) / span if span else 1.0
        return self.names[: int(len(self.names) * part + 1e-9)]


class Closing:
    """Results that say when they are done with."""

    def __init__(self, results: BatchResults, provider: "NightProvider") -> None:
        self._results = results
        self._provider = provider

    def __getattr__(self, name: str) -> Any:
        return getattr(self._results, name)

    def close(self) -> None:
        self._provider.collecting -= 1
        self._results.close()


@dataclass
class NightProvider:
    """Batches and live answers on a virtual clock, and the bill; `moment`: see `crashing`."""

    clock: VirtualClock
    chance: random.Random
    moment: Any = lambda _: None
    lock: Any = field(default_factory=threading.RLock)
    bill: list[str] = field(default_factory=list)
    batches: list[MadeBatch] = field(default_factory=list)
    is_gone: bool = False
    is_calm: bool = False
    collecting: int = 0
    collecting_since: float = 0.0

    def step(self, name: str) -> None:
        self.moment(name)
        if self.is_gone:
            raise Gone

    # Batches

    async def create(self, body: bytes, betas: Any) -> SeenBatch:
        self.step("create")
        names = [each["custom_id"] for each in json.loads(body)["requests"]]
        (fate,) = self.chance.choices(("fine", "lost", "not sent"), (12, 2, 1))
        fate = "fine" if self.is_calm else fate
        if fate == "not sent":
            raise SendError("unreachable", "no connection", left=False)
        now, pick = self.clock.now_us(), self.chance.choice
        made = MadeBatch(
            batch_id=f"batch_{len(self.batches)}",
            names=names,
            created_at=now,
            works_until=now
            + MINUTE_US * pick(CALM if self.is_calm else (1, 5, 10, 20, 40, 600)),
            lag_us=MINUTE_US * pick((1,) if self.is_calm else (0, 1, 2, 5, 30)),
        )
        self.batches.append(made)
        self.step("created")
        await self.clock.sleep(0.1)
        if fate == "lost":
            raise SendError("connection_lost", "gone", left=True)
        return self.seen(made)

    def seen(self, made: MadeBatch) -> SeenBatch:
        now = self.clock.now_us()
        state = BatchState.IN_PROGRESS if made.canceled_at is None else BatchState.CANCELING
        if now >= made.ended_at():
            state = BatchState.ENDED
            self.charge(made)
        return SeenBatch(
            batch_id=made.batch_id,
            state=state,
            requests=len(made.names),
            created_at=made.created_at,
            expires_at=made.created_at + BATCH_LIFETIME_US,
            ended_at=made.ended_at() if state is BatchState.ENDED else None,
        )

    def charge(self, made: MadeBatch) -> None:
        with self.lock:
            if not made.billed:
                made.billed = True
                self.bill += made.done()

    def named(self, batch_id: str) -> MadeBatch:
        return next(made for made in self.batches if made.batch_id == batch_id)

    async def look(self, batch_id: str) -> SeenBatch | None:
        self.step("look")
        await self.clock.sleep(0.1)
        if not self.is_calm and self.chance.random() < 0.1:
            return None
        return self.seen(self.named(batch_id))

    async def cancel(self, batch_id: str) -> SeenBatch | None:
        self.step("cancel")
        made = self.named(batch_id)
        if not self.is_calm and self.chance.random() < 0.1:
            return None
        if made.canceled_at is None and self.clock.now_us() < made.ended_at():
            made.canceled_at = self.clock.now_us()
        self.step("canceled")
        await self.clock.sleep(0.1)
        return self.seen(made)

    async def made_since(self, since_us: int) -> list[SeenBatch]:
        return [self.seen(made) for made in self.batches if made.created_at >= since_us]

    async def first_custom_id(self, batch_id: str) -> str:
        return self.named(batch_id).names[0]

    def is_quiet(self) -> bool:
        """No time passes while the reader, who looks now and then, finds what came back."""
        fresh = time.monotonic() - self.collecting_since < _READER_SECONDS
        return not (self.collecting and fresh and not self.is_gone) and is_quiet()

    async def results(self, batch_id: str, folder: Path) -> Any:
        self.step("results")
        self.collecting += 1
        self.collecting_since = time.monotonic()
        made = self.named(batch_id)
        done = set(made.done())
        kept = BatchResults(folder, Mask())
        for name in made.names:
            result: dict[str, Any] = {"type": "canceled" if made.canceled_at else "expired"}
            if name in done:
                said = json.loads(message(name, usage=TOKENS | {"service_tier": "batch"}))
                result = {"type": "succeeded", "message": said}
            line = json.dumps({"custom_id": name, "result": result})
            kept.take(f"{line}\n".encode())
        kept.index()
        return Closing(kept, self)

    # Live

    async def send(self, attempt: Any) -> Answered:
        self.step("sent")
        await self.clock.sleep(LATENCY_SECONDS)
        with self.lock:
            if not self.is_gone:
                self.bill.append(attempt.uid)
        self.step("answered")
        now = self.clock.now_us()
        exchange = Exchange(sent_at=now - 1_000, settled_at=now, http_status=200)
        return Answered(exchange, parse_answer(message(attempt.uid, usage=TOKENS)))

    def drain(self) -> None:
        pass

    async def close(self) -> None:
        pass


@dataclass
class Night:
    """Everything of one seed. `happened` counts lives, crashes and ends by name."""

    seed: int
    folder: Path
    template: Path
    happened: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.chance = random.Random(f"night {self.seed}")
        self.clock = VirtualClock(self.chance, TICK_SECONDS, lambda: self.provider.is_quiet())  # noqa: PLW0108
        self.provider = NightProvider(self.clock, self.chance)
        database = self.folder / "life0.db"
        shutil.copy(self.template, database)
        self.case = Case(folder=self.folder, database=str(database))
        self.case.endpoint = replace(self.case.endpoint, batches=True)
        self.case.limits = RunLimits(concurrency=self.chance.choice((2, 8)), retry=AT_ONCE)
        self.rows = self.chance.randint(2, 14)
        self.pack = self.chance.choice((2, 4, 100))
        self.pays = self.chance.random() < 0.4
        self.unfit = self.chance.choice((0, 0, 3))  # every so manieth row fits in no batch
        self.case.write(self._row(number) for number in range(1, self.rows + 1))
        self.lives = 0

    def _row(self, number: int) -> Any:
        fields = {"speed": "fast"} if self.unfit and number % self.unfit == 0 else {}
        return row(f"prompt {number}", f"row-{number}", **fields)

    def play(self) -> None:
        """Some lives with faults, then a calm one in which all must be answered."""
        self._choose_deadline()
        for _ in range(self.chance.choice((1, 1, 2))):
            self._live(crash=self.chance.random() < 0.6)
            if self.clock.now_us() >= self.at_us - MINUTE_US:
                self._choose_deadline()
        self.provider.is_calm = True
        now = self.clock.now_us()
        for made in self.provider.batches:  # nothing takes long any more; what ended has ended
            if now < made.ended_at():
                made.lag_us = min(made.lag_us, MINUTE_US)
                made.works_until = min(made.works_until, now + 5 * MINUTE_US)
        assert self._live(crash=False) in {0, 65}, self.case.watcher.waits
        (count,) = self._ask("SELECT COUNT(*) FROM v_answers")[0]
        assert count == self.rows, "a row was lost"

    def _choose_deadline(self) -> None:
        self.at_us = self.clock.now_us() + MINUTE_US * self.chance.choice((20, 30, 45, 60))
        self.seen = EndpointTimes(
            latency_us=int(LATENCY_SECONDS * 1e6),
            batch_seconds=(60.0 * self.chance.choice((2, 5, 10)),),
        )

    def _live(self, *, crash: bool) -> int | None:
        self.lives += 1
        self.happened["lives"] += 1
        self.case.watcher = Watcher()
        self.case.options = {
            "lane": LaneChoice.AUTO,
            "deadline": Deadline(at_us=self.at_us, words="then", pays=self.pays),
        }
        began = self.clock.now_us()
        copy = self.folder / f"life{self.lives}.db"
        self.provider.is_gone, self.provider.collecting = False, 0
        ended: Any = None
        database = self.case.database
        gone = (
            crashing(self.provider, database, copy, self.chance, self.happened, STEPS)
            if crash
            else nullcontext()
        )
        with gone:
            try:
                ended = run_by_deadline(
                    self.case.job(), self.seen, self.clock, self._phase, lambda: False
                )
            except (Gone, BatcherError) as error:
                if isinstance(error, BatcherError) and not copy.exists():
                    raise
        if copy.exists():
            self.case.database, ended = str(copy), None
        self._check_money()
        self.happened["crash" if ended is None else f"exit {ended.exit_code}"] += 1
        if ended is not None and ended.exit_code != ProviderUnavailable.exit_code:
            self._check_deadline(ended, began)
        return None if ended is None else int(ended.exit_code)

    def _phase(self, job: Any) -> Any:
        self.happened[f"phase {job.lane}"] += 1
        pack = PackLimits(
            requests=min(self.pack, max(job.limits.waiting, 1)), linger_seconds=0.1
        )
        fits = (lambda request: b'"speed"' not in request.body) if job.lane.packs else None
        provider = self.provider
        services = Services(
            builder=RequestBuilder(SETTINGS),
            files=find_sources(("rows.jsonl",), base=self.folder, spool=None),
            rater=Rater(BOOK, "anthropic", in_batches=job.lane.packs),
            make_lane=lambda _, room: provider,  # type: ignore[arg-type,return-value]
            make_batches=lambda _: provider,  # type: ignore[arg-type,return-value]
            make_packing=lambda _, journal: BatchLane(provider, self.clock, journal, pack),  # type: ignore[arg-type]
            carries=fits,
            look_pace=LookPace(),
            spool=self.folder,
            clock=self.clock,
            observer=self.case.watcher,
            price_note="",
        )
        job = replace(job, limits=replace(job.limits, waiting=pack.requests * job.lane.packs))
        return run_job(job, services)

    # What must hold

    def _ask(self, query: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.case.database)) as connection:
            return connection.execute(query).fetchall()

    def _check_money(self) -> None:
        with self.provider.lock:
            bill = list(self.provider.bill)
        attempts = {
            uid: (row_number, state, lane)
            for uid, row_number, state, lane in self._ask(
                "SELECT attempt_uid, row_number, state, lane FROM v_attempts"
            )
        }
        assert len(bill) == len(set(bill))
        assert set(bill) <= attempts.keys(), "billed, and not in the ledger"
        told = " ".join(self.case.watcher.waits)
        answered: Counter[int] = Counter()
        for uid in bill:
            row_number, state, lane = attempts[uid]
            answered[row_number] += state == "answered"
            assert state in {"answered", "unknown", "open"}, (uid, state)
            if state == "unknown" and lane == "batch":
                self.happened["paid twice"] += 1
                assert self.pays, "a batch was given up, and nobody had said so"
        self.told_twice = getattr(self, "told_twice", False) or "is paid as well" in told
        assert max(answered.values(), default=0) <= 1, "a row was paid in both lanes"
        forgotten = self._ask("SELECT COUNT(*) FROM v_batches WHERE state = 'forgotten'")[0][0]
        assert not forgotten or self.told_twice
        doubtful = "SELECT COUNT(*) FROM v_attempts WHERE state = 'unknown' AND lane = 'batch'"
        if self._ask(doubtful)[0][0]:
            assert self.told_twice, "a row may be paid twice, and nobody was told"

    def _check_deadline(self, ended: Any, began: int) -> None:
        late = self._ask(
            f"SELECT COUNT(*) FROM answers WHERE final = 1 AND answered_at > {self.at_us}"
        )[0][0]
        assert ended.unfinished_rows.get("late", 0) == late
        assert ended.exit_code == (65 if late else 0)
        waits = self.case.watcher.waits
        not_ended = [said for said in waits if "has not ended in time" in said]
        plan = plan_for(self.case.job(), self.seen)
        if late:
            self.happened["deadline missed"] += 1
            enough = began + plan.forecast.live_seconds(self.rows) * 1e6 * 1.5 < self.at_us
            assert not_ended or not enough, "missed, though every batch had ended in time"
        elif began < self.at_us:
            self.happened["deadline kept"] += 1
        if any("are not back" in said or "is not back" in said for said in waits):
            self.happened["moved"] += 1
