"""A history: some rows, and the lives of a program that crashes, restarts and is changed."""

import random
import shutil
import sqlite3
from collections import Counter
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from batcher.errors import BatcherError
from batcher.pacing.backoff import BreakerPolicy, RetryPolicy
from batcher.pacing.limits import QuotaLimits
from batcher.pipeline.choices import AnswerChoices, OnUnknown
from batcher.pipeline.job import RunLimits
from tests.e2e.invariants import Books, check_after_crash, open_books
from tests.histories.clock import VirtualClock
from tests.histories.crashing import crashing
from tests.histories.provider import Gone, Provider
from tests.making_runs import Case, row

BAD = "this is no JSON"


@dataclass
class History:
    """Everything of one seed. `happened` counts lives, crashes, ends and outcomes by name."""

    seed: int
    folder: Path
    template: Path
    happened: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        self.clock = VirtualClock(self.chance)
        self.provider = Provider(self.seed, self.clock)
        self.lives = 0
        self.items: list[Any] = []
        self.released: set[str] = set()
        database = self.folder / "life0.db"
        shutil.copy(self.template, database)
        self.case = Case(folder=self.folder, database=str(database))
        self._add_rows(self.chance.randint(2, 9))

    def play(self) -> None:
        """Some lives with faults, then a calm one in which all must be answered."""
        for _ in range(self.chance.choice((1, 1, 1, 2))):
            self._choose_settings()
            self._live(crash=self.chance.random() < 0.6)
            self._change_something()
        self._calm_down()
        ended = self._live(crash=False)
        if self._ask("SELECT 1 FROM v_failures WHERE reason = 'parked_in_doubt'"):
            self._release()  # the last crash was a row's third doubt: it is sent when told to
            ended = self._live(crash=False)
        assert ended == (65 if BAD in self.items else 0)
        good = len([item for item in self.items if item != BAD])
        assert len(self._answered()) == good, "a row was lost"

    # One life

    def _live(self, *, crash: bool) -> int | None:
        """One invocation; its exit code, `None` when it was gone before its end."""
        self.lives += 1
        self.case.write(self.items)
        done = self._answered()
        cost = self._most_it_cost()
        self.provider.sent.clear()
        ended: int | None = None
        self.provider.is_gone = False
        copy = self.folder / f"life{self.lives}.db"
        with self._crashing(copy) if crash else nullcontext():
            try:
                ended = self.case.run(self.provider, self.clock).exit_code
            except BatcherError as error:
                ended = error.exit_code
            except Gone:
                pass
        if copy.exists():
            self.case.database = str(copy)
            ended = None
        self.happened["lives"] += 1
        self.happened["crash" if ended is None else f"exit {ended}"] += 1
        self._check(done, cost, ended)
        return ended

    def _crashing(self, copy: Path) -> AbstractContextManager[None]:
        return crashing(self.provider, self.case.database, copy, self.chance, self.happened)

    # What must hold after it

    def _check(self, done: dict[str, str], cost: int, ended: int | None) -> None:
        books = open_books(self.case.database, self.provider.bill)
        self._released_rows_are_new_requests(books)
        _retries_have_their_purpose(books)
        if ended not in {0, 65}:
            _forget_repeated_quarantines(books)
        check_after_crash(books, {"rows.jsonl": len(self.items)})
        self.happened.update(line["state"] for line in books.attempts.values())
        self._texts_are_those_of_the_provider(done)
        self._done_rows_were_left_alone(done)
        self._cap_holds(cost)
        if ended is not None:
            self._end_is_told(books, ended)

    def _released_rows_are_new_requests(self, books: Books) -> None:
        """A person who releases a row wants all of it again, what was paid for it too."""
        for line in books.attempts.values():
            if line["custom_id"] in self.released:
                line["custom_id"] = f"{line['custom_id']} {line['request_id']}"

    def _answered(self) -> dict[str, str]:
        return dict(self._ask("SELECT custom_id, text FROM v_answers"))

    def _most_it_cost(self) -> int:
        ((high,),) = self._ask("SELECT SUM(cost_high_pico_usd) FROM v_attempts")
        return int(high or 0)

    def _ask(self, query: str) -> list[tuple[Any, ...]]:
        """As `Case.ask`, without what it costs to open a ledger."""
        with closing(sqlite3.connect(self.case.database)) as connection:
            return connection.execute(query).fetchall()

    def _texts_are_those_of_the_provider(self, done: dict[str, str]) -> None:
        found = self._ask(
            "SELECT attempt_uid, text FROM v_answers_all JOIN v_attempts USING (attempt_uid)"
            " WHERE v_attempts.state = 'answered'"
        )
        for uid, text in found:
            assert self.provider.texts[uid] == text
        now = self._answered()
        assert all(now[name] == text for name, text in done.items()), "an answer changed"

    def _done_rows_were_left_alone(self, done: dict[str, str]) -> None:
        sent = {attempt.request.custom_id for attempt in self.provider.sent}
        assert not sent & done.keys(), "an answered row was sent again"

    def _cap_holds(self, before: int) -> None:
        """Reserved and settled money never exceeds the cap, whatever was spent before."""
        cap = self.case.limits.max_cost
        if cap is not None:
            assert self._most_it_cost() <= max(cap, before)

    def _end_is_told(self, books: Books, ended: int) -> None:
        """The exit code is that of the table."""
        placed = len(books.answers) + len(books.failures)
        if ended == 0:
            assert not books.failures
        if ended == 65:
            assert books.failures
        if ended in {0, 65} and self.case.limits.row_limit is None:
            assert placed == len(self.items), "rows are left to do"
        assert not [line for line in books.attempts.values() if line["state"] == "open"]

    # What changes from life to life

    def _choose_settings(self) -> None:
        pick = self.chance.choice
        retry = RetryPolicy(max_attempts=pick((1, 2, 5)), first_wait_seconds=0.5)
        breaker = BreakerPolicy(trips_after=pick((2, 10)), give_up_seconds=pick((30, 3600)))
        self.case.limits = RunLimits(
            concurrency=pick((1, 2, 8)),
            retry=retry,
            breaker=breaker,
            row_limit=pick((None, None, None, 2)),
            max_runtime_seconds=pick((None, None, 30.0)),
            max_cost=pick((None, None, 8 * 10**9, 40 * 10**9)),
            max_legs=pick((1, 3)),
            quota=pick((QuotaLimits(), QuotaLimits(requests=60))),
        )
        raised = AnswerChoices(raise_factor=Fraction(2))
        self.case.options = {
            "on_unknown": pick(
                (OnUnknown.RETRY, OnUnknown.RETRY, OnUnknown.HOLD, OnUnknown.FAIL)
            ),
            "answers": pick((AnswerChoices(), raised, AnswerChoices(fail_truncated=True))),
        }

    def _change_something(self) -> None:
        match self.chance.choice(("nothing", "rows", "order", "release", "mend")):
            case "rows":
                self._add_rows(self.chance.randint(1, 3))
            case "order":
                self.chance.shuffle(self.items)
            case "release":
                self._release()
            case "mend":
                self.items = [self._row() if item == BAD else item for item in self.items]

    def _calm_down(self) -> None:
        """Nothing goes wrong any more, no limit binds, and given-up rows go again."""
        self.case.limits = replace(RunLimits(), concurrency=8)
        self.case.options = {}
        self.provider.is_calm = True
        self._release()

    def _release(self) -> None:
        given_up = self._ask("SELECT custom_id FROM v_failures WHERE kind <> 'quarantined'")
        self.released |= {name for (name,) in given_up}
        if self._ask("SELECT 1 FROM runs"):  # else it was gone before it had begun
            self.case.release()

    def _add_rows(self, count: int) -> None:
        self.items += [
            BAD if self.chance.random() < 0.05 else self._row() for _ in range(count)
        ]

    def _row(self) -> dict[str, Any]:
        name = f"row-{self.chance.getrandbits(40):x}"
        return row(f"prompt of {name}", name)


def _retries_have_their_purpose(books: Books) -> None:
    """A retry of what was sent again on purpose, for a longer answer, is that as well."""
    purpose: dict[int, str] = {}
    for line in sorted(books.attempts.values(), key=lambda line: line["attempt"]):
        if line["purpose"] != "retry":
            purpose[line["request_id"]] = line["purpose"]
        line["purpose"] = purpose.get(line["request_id"], line["purpose"])


def _forget_repeated_quarantines(books: Books) -> None:
    """A bad row of a file that changed is there twice until the file was read to its end."""
    seen: set[tuple[str, int]] = set()
    for line in [line for line in books.failures if line["custom_id"] is None]:
        place = (line["source"], line["row_number"])
        if place in seen:
            books.failures.remove(line)
        seen.add(place)
