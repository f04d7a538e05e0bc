"""A year of nights: one job, one ledger, an input a day, and what happens to those who wait."""

import json
import random
import shutil
from collections import Counter
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from click.testing import CliRunner

from batcher.cli.menu import group
from batcher.clock import SystemClock
from batcher.errors import BatcherError
from batcher.messages.request import Attempt, Outcome
from batcher.pipeline.job import RunLimits
from batcher.pipeline.run.holding import hold
from batcher.pricing.book.book import parse_book
from batcher.rows.build.settings import RequestSettings
from batcher.wiring.dated import local_day, of_day
from tests.e2e.invariants import Books, check_after_crash, check_at_the_end, open_books
from tests.histories.clock import VirtualClock
from tests.histories.crashing import crashing
from tests.histories.history import _retries_have_their_purpose
from tests.histories.provider import Gone, Provider
from tests.making_runs import Case, Watcher, refused, row

ZONE = "Europe/Berlin"
FIRST = date(2027, 1, 1)
OLD, NEW = "claude-sonnet-4-6", "claude-sonnet-5-5"
MOST_STARTS = 25  # of one night, each of them what the message before told
HOUR_US = 3_600_000_000
# What happens once; the day of the year is that part of it. The others are drawn each night.
ONCE = {"retired model": 0.3, "rotated key": 0.5, "price change": 0.7}
OFTEN = {
    "quiet": 40, "crash": 15, "overlap": 6, "full disk": 6, "clock set back": 6,
    "clock set forward": 6, "out of time": 10, "empty inbox": 5, "grown input": 6,
}  # fmt: skip
DEARER = """
version = "dearer"
[[rates]]
model = "{model}"
valid_from = 2026-01-01
valid_until = {before}
input = "2"
cache_write_5m = "2.50"
cache_write_1h = "4"
cache_read = "0.10"
output = "10"
[[rates]]
model = "{model}"
valid_from = {day}
input = "4"
cache_write_5m = "5"
cache_write_1h = "8"
cache_read = "0.20"
output = "20"
"""


@dataclass
class Year:
    """`happened` counts nights, starts, exit codes and what was done about them."""

    seed: int
    days: int
    folder: Path
    template: Path
    happened: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        self.clock = VirtualClock(self.chance)
        self.provider = Provider(self.seed, self.clock, refuses=self._refusal)
        self.dates = [FIRST + timedelta(number) for number in range(self.days)]
        self.once = {self.dates[int(part * self.days)]: name for name, part in ONCE.items()}
        self.rows: dict[str, list[dict[str, Any]]] = {}  # by input
        self.released: set[str] = set()
        self.retired: set[str] = set()
        self.key_is_good = True
        self.starts = 0
        database = self.folder / "start0.db"
        shutil.copy(self.template, database)
        self.case = Case(
            folder=self.folder, database=str(database), key="nightly", name="nightly",
            settings=RequestSettings(model=OLD, max_tokens=256),
            options={"dated": True}, limits=RunLimits(concurrency=4),
        )  # fmt: skip
        (self.folder / "in").mkdir()

    def play(self) -> None:
        """Every night to its end; afterwards the books of the whole year agree."""
        for day in self.dates:
            self._night(day)
        self._verified()

    # One night

    def _night(self, day: date) -> None:
        trouble = self.once.get(day) or self._drawn()
        self.happened[trouble] += 1
        night = datetime(day.year, day.month, day.day, 2, 17, tzinfo=ZoneInfo(ZONE))
        self.clock.travel_to(int(night.astimezone(UTC).timestamp()) * 1_000_000)
        assert local_day(self.clock.now_us(), ZONE) == day
        files = of_day(day, ("in/{date}.jsonl",), None, self.folder, may_be_empty=True)
        (name,) = files.inputs
        if trouble != "empty inbox":
            self._write(name, self.chance.randint(2, 5))
        self.case.inputs = files.inputs if trouble != "empty inbox" else ()
        self._strikes(trouble, day)
        for _ in range(MOST_STARTS):
            ended = self._start(trouble)
            if trouble == "grown input" and ended == 0:
                self._write(name, 1)
            elif self._is_done(ended):
                return
            trouble = "quiet"
        raise AssertionError(f"the night of {day} did not end: {ended}")

    def _drawn(self) -> str:
        return self.chance.choices(list(OFTEN), list(OFTEN.values()))[0]

    def _strikes(self, trouble: str, day: date) -> None:
        match trouble:
            case "retired model":
                self.retired.add(OLD)
            case "rotated key":
                self.key_is_good = False
            case "price change":
                before = day - timedelta(1)
                self.case.book = parse_book(DEARER.format(model=NEW, before=before, day=day))
                moment = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())
                self.provider.price_factor = lambda now: 2 if now >= moment * 1_000_000 else 1

    def _refusal(self, attempt: Attempt) -> Outcome | None:
        if not self.key_is_good:
            return refused(401)
        gone = attempt.request.model in self.retired
        return refused(404, "model_not_found") if gone else None

    # One start

    def _start(self, trouble: str) -> int | None:
        """One invocation; its exit code, `None` when it was gone before its end."""
        self.starts += 1
        ended: int | None = None
        self.provider.is_gone = False
        self.case.watcher = Watcher()
        self.case.limits = replace(
            self.case.limits, max_runtime_seconds=5.0 if trouble == "out of time" else None
        )
        self.case.options["min_free_space"] = 2**62 if trouble == "full disk" else None
        copy = self.folder / f"start{self.starts}.db"
        with self._around(trouble, copy):
            try:
                ended = self.case.run(self.provider, self.clock).exit_code
            except BatcherError as error:
                ended = error.exit_code
            except Gone:
                pass
        if copy.exists():
            self.case.database, ended = str(copy), None
        self.happened["starts"] += 1
        self.happened["crash" if ended is None else f"exit {ended}"] += 1
        self._check(ended)
        return ended

    def _around(self, trouble: str, copy: Path) -> AbstractContextManager[Any]:
        match trouble:
            case "crash":
                where = self.case.database
                return crashing(self.provider, where, copy, self.chance, self.happened)
            case "overlap":  # last night is still on
                return hold(self.case.job(), Watcher(), SystemClock())
            case "clock set back" | "clock set forward":
                self.provider.moment = self._winding(trouble)
        return nullcontext()

    def _winding(self, trouble: str) -> Any:
        left = [self.chance.randint(1, 6)]

        def moment(_: str) -> None:
            left[0] -= 1
            if left[0] == 0:
                self.clock.wind(-HOUR_US if trouble == "clock set back" else HOUR_US)

        return moment

    def _is_done(self, ended: int | None) -> bool:
        """Whether nothing is left of the night; else what the message told was done."""
        match ended:
            case 0:
                return True
            case 65:
                return not self._released_some()
            case 77:
                self.happened["new key"] += not self.key_is_good
                self.key_is_good = True
            case 78:
                assert self.case.settings.model in self.retired
                self.happened["other model"] += 1
                self.case.settings = replace(self.case.settings, model=NEW)
            case None | 69 | 74 | 75:
                pass  # the same command again
            case _:
                raise AssertionError(f"nobody knows what to do about {ended}")
        return False

    def _released_some(self) -> bool:
        """`batcher retry`, for what has no answer."""
        given_up = self.case.ask("SELECT custom_id FROM v_failures WHERE kind <> 'quarantined'")
        self.released |= {name for (name,) in given_up}
        self.happened["released rows"] += len(given_up)
        return bool(given_up and self.case.release())

    # What must hold

    def _check(self, ended: int | None) -> None:
        books = open_books(self.case.database, self.provider.bill)
        self._released_rows_are_new_requests(books)
        _retries_have_their_purpose(books)
        inputs = {name: len(rows) for name, rows in self.rows.items()}
        check = check_at_the_end if ended == 0 else check_after_crash
        check(books, inputs)

    def _released_rows_are_new_requests(self, books: Books) -> None:
        for line in books.attempts.values():
            if line["custom_id"] in self.released:
                line["custom_id"] = f"{line['custom_id']} {line['request_id']}"

    def _verified(self) -> None:
        """All rows of the year have their answer, and `verify` finds the bill in the ledger."""
        books = open_books(self.case.database, self.provider.bill)
        assert len(books.answers) == sum(map(len, self.rows.values()))
        told = CliRunner().invoke(
            group, ["verify", "--database", self.case.database], standalone_mode=False
        )
        assert (told.return_value, told.output.count("no problems")) == (0, 1), told.output

    def _write(self, name: str, count: int) -> None:
        known = self.rows.setdefault(name, [])
        for _ in range(count):
            custom_id = f"row-{self.chance.getrandbits(40):x}"
            item = row(f"prompt of {custom_id}", custom_id)
            del item["params"]["model"]  # the job's
            known.append(item)
        text = "".join(f"{json.dumps(item)}\n" for item in known)
        (self.folder / name).write_text(text)
