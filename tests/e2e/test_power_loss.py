"""The power fails: whatever the disk kept, everything promised is there and nothing is torn.

A real run is recorded with strace; from its writes and syncs the files are rebuilt as a power
cut at each moment may have left them (`tests.e2e.power_cuts`). SQLite recovers each, and the
books are compared with what had been sent and promised by then.
"""

import random
import re
import shutil
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.campaign import Campaign
from tests.e2e.crashes import CrashingRun, fault_options
from tests.e2e.inputs import QUICK, varied_rows, write_jsonl
from tests.e2e.invariants import Books, check_after_crash, check_everything, read_books
from tests.e2e.power_cuts import CALLS, HOWS, WHOLE, Disk
from tests.e2e.processes import Folder, start_simulator
from tests.e2e.system_calls import Call, need_strace, read_calls, strace

STATES = 20_000
STATES_OF_A_RUN = 1000
LATER = 10**9  # no process makes so many calls
_UID = re.compile(rb"x-client-request-id: ([^\r]+)", re.IGNORECASE)


@dataclass(slots=True)
class Recorded:
    """A run that ended well, after having been killed or not, with all it asked for."""

    run: CrashingRun
    processes: list[list[Call]]
    bill: dict[str, dict[str, Any]]
    place: Path  # where images are opened


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> Iterator[Recorded]:
    need_strace()
    with closing(_Recorder(tmp_path_factory.mktemp("power"))) as recorder:
        yield recorder.record(rows=24, concurrency=3, seed=2, kill_at=170)


def test_500_power_cuts_lose_nothing_that_was_promised(recorded):
    cuts = PowerCuts(recorded, random.Random(1))

    cuts.try_some(500)

    assert cuts.tried.total() == 500
    assert set(cuts.tried) == set(HOWS)
    assert cuts.promises > 10
    assert len(cuts.sent) >= 24


def test_a_ledger_that_does_not_sync_its_log_is_caught(recorded):
    cuts = PowerCuts(recorded, random.Random(1), unsynced="-wal")

    caught = (AssertionError, sqlite3.DatabaseError)
    with pytest.raises(caught, match=r"promised|before its intent was safe|malformed"):
        cuts.try_some(500)


def test_a_run_goes_on_after_a_power_cut(recorded):
    cuts = PowerCuts(recorded, random.Random(3))
    cuts.try_some(20, until=len(recorded.bill) // 2)

    cuts.finish_the_run()


@pytest.mark.campaign
def test_a_campaign_of_power_cuts_loses_nothing(tmp_path, pytestconfig):
    need_strace()
    campaign = Campaign("power-cuts", pytestconfig)
    tried = Counter[str]()
    for result in campaign.results():
        tried.update(result["tried"])
    seed = len(campaign.results())
    while campaign.has_time() and tried.total() < STATES:
        seed += 1
        cuts = _cuts_of_one_run(tmp_path / str(seed), seed)
        tried.update(cuts.tried)
        campaign.add(seed=seed, tried=dict(cuts.tried), sent=len(cuts.sent))
    campaign.tell(f"{tried.total()} power cuts in {seed} runs, no violation ({dict(tried)})")


def _cuts_of_one_run(place: Path, seed: int) -> "PowerCuts":
    """Record a run, cut its power everywhere, and let it go on from one of the moments."""
    chance = random.Random(seed)
    place.mkdir()
    with closing(_Recorder(place)) as recorder:
        rows, concurrency = chance.choice([(20, 1), (40, 4), (60, 16), (130, 1), (150, 4)])
        kill_at = chance.choice([None, chance.randint(60, 400)])
        run = recorder.record(rows=rows, concurrency=concurrency, seed=seed, kill_at=kill_at)
        cuts = PowerCuts(run, chance)
        cuts.try_some(STATES_OF_A_RUN)
        last = PowerCuts(run, chance)
        last.try_some(1, until=chance.randint(1, rows))
        last.finish_the_run()
    shutil.rmtree(place)
    return cuts


@dataclass(slots=True)
class PowerCuts:
    """Plays a recorded run and cuts the power again and again."""

    recorded: Recorded
    chance: random.Random
    unsynced: str | None = None
    tried: Counter[str] = field(default_factory=Counter)
    sent: set[str] = field(default_factory=set)  # uids of attempts that left
    promises: int = 0
    _promised: Books | None = None
    _image: dict[str, bytes] = field(default_factory=dict)

    def try_some(self, number: int, until: int | None = None) -> None:
        """Cut `number` times, evenly over the run or up to the `until`-th request."""
        database = Path(self.recorded.run.database)
        moments = sum(1 for _ in Disk(database).play(self.recorded.processes))
        disk = Disk(database, unsynced=self.unsynced)
        done = 0
        for place, moment in enumerate(disk.play(self.recorded.processes), start=1):
            self.sent |= {uid.decode() for uid in _UID.findall(moment.sent)}
            if moment.is_promise:
                self.promises += 1
                self._promised = self._look(disk.image("all", self.chance))
            while done < number * place // moments:
                self._cut(disk)
                done += 1
            if until is not None and len(self.sent) >= until:
                self._cut(disk)
                return

    def _cut(self, disk: Disk) -> None:
        how = HOWS[self.tried.total() % len(HOWS)]
        self._image = disk.image(how, self.chance)
        books = self._look(self._image)
        self.tried[how] += 1
        known = set() if books is None else set(books.attempts)
        assert self.sent <= known, "a request left before its intent was safe"
        if books is None:
            assert self._promised is None, "the tables were promised and are lost"
            return
        check_after_crash(books, self.recorded.run.inputs)
        self._keeps_promises(books)

    def _keeps_promises(self, books: Books) -> None:
        """What the writer had told the engine is still so."""
        if self._promised is None:
            return
        for uid, promised in self._promised.attempts.items():
            assert uid in books.attempts, "an intent was promised and is lost"
            if promised["state"] != "open":
                assert books.attempts[uid] == promised, "an outcome was promised and is lost"
        answers = {line["attempt_uid"] for line in books.answers_all}
        assert {line["attempt_uid"] for line in self._promised.answers_all} <= answers
        assert len(self._promised.charges) <= len(books.charges)

    def _look(self, image: dict[str, bytes]) -> Books | None:
        """Let SQLite recover the image and read the books; `None` before they were made."""
        database = self.recorded.place / "image.db"
        _put(image, database)
        with closing(sqlite3.connect(database)) as connection:
            connection.row_factory = sqlite3.Row
            assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
            made = "SELECT 1 FROM sqlite_master WHERE name = 'v_attempts'"
            if connection.execute(made).fetchone() is None:
                return None
            bill = [line for uid, line in self.recorded.bill.items() if uid in self.sent]
            return read_books(
                lambda query: [dict(row) for row in connection.execute(query)], bill
            )

    def finish_the_run(self) -> None:
        """From the last image, with a bill that ends there too, the same command to its end."""
        run = self.recorded.run
        _put(self._image, Path(run.database))
        whole = run.simulator.bill_path.read_bytes()
        told = [line for line in whole.splitlines(keepends=True) if self._was_sent(line)]
        run.simulator.bill_path.write_bytes(b"".join(told))
        ended = run.finish()
        assert ended.code in {0, 65}, ended.err
        check_everything(run.folder, run.database, run.simulator, run.inputs)

    def _was_sent(self, line: bytes) -> bool:
        return any(f'"{uid}"'.encode() in line for uid in self.sent)


def _put(image: dict[str, bytes], database: Path) -> None:
    for old in database.parent.glob(f"{database.name}*"):
        old.unlink()
    for suffix, data in image.items():
        database.with_name(database.name + suffix).write_bytes(data)


class _Recorder:
    """A folder with a simulator, in memory where there is some."""

    def __init__(self, place: Path) -> None:
        (place / "work").mkdir()
        (place / "image").mkdir()
        (place / "work" / "config.toml").write_text(QUICK)
        self._place = place
        self._folder = Folder(place / "work")
        self._simulator = start_simulator(place, "--latency-ms", "0-10", *fault_options())

    def record(
        self, *, rows: int, concurrency: int, seed: int, kill_at: int | None = None
    ) -> Recorded:
        """Let a run end; `kill_at` kills it first when it writes for that time."""
        write_jsonl(self._folder.path / "rows.jsonl", varied_rows(rows, seed=seed))
        run = CrashingRun(
            folder=self._folder,
            simulator=self._simulator,
            database=str(self._folder.path / "batcher.db"),
            inputs={"rows.jsonl": rows},
            concurrency=concurrency,
        )
        processes = []
        if kill_at is not None:
            killing = f"inject=pwrite64:signal=SIGKILL:when={kill_at}"
            processes.append(self._follow(run, 0, "-e", killing))
        processes.append(self._follow(run, LATER, "--seccomp-bpf"))
        bill = {line["attempt_uid"]: line for line in self._simulator.bill()}
        return Recorded(run, processes, bill, self._place / "image")

    def _follow(self, run: CrashingRun, first_line: int, *more: str) -> list[Call]:
        log = self._place / "calls.log"
        run.kill_through(strace(log, CALLS, *more, texts=WHOLE))
        calls = read_calls(log, first_line)
        log.unlink()
        return calls

    def close(self) -> None:
        """End what runs."""
        self._folder.clean_up()
        self._simulator.stop()
