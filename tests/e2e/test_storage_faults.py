"""Every write of the ledger fails once: what was paid is kept, the next start is as ever.

A fault is injected by strace into one system call on the database's own files: the n-th
`pwrite64` or `fdatasync` of a thread fails, once or from then on, as on a full or dying disk.
All requests of these runs are answered, so nothing at all may be in doubt or paid twice.
"""

import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.campaign import TOLD, Campaign
from tests.e2e.inputs import QUICK, rows, write_jsonl
from tests.e2e.invariants import check_at_the_end, open_books
from tests.e2e.processes import PIPES, Folder, finish, start_simulator

ROWS = 24
MISSING = (
    "strace is not installed: no fault was injected into any system call; type apt-get install"
    " strace, then run the tests again"
)
STRACE = shutil.which("strace")


@dataclass(frozen=True)
class Point:
    """Where a run fails: at the n-th `call` of a thread; `lasting`: at every later one too."""

    error: str
    call: str
    number: int
    lasting: bool

    @property
    def name(self) -> str:
        return f"{self.error}-{self.call}-{self.number}{'+' if self.lasting else ''}"

    def command(self, database: Path) -> list[str]:
        """strace, as it is put in front of the run."""
        assert STRACE is not None
        files = [f"{database}{suffix}" for suffix in ("", "-wal", "-journal")]
        when = f"{self.number}{'+' if self.lasting else ''}"
        fault = f"inject={self.call}:error={self.error}:when={when}"
        return [
            *(STRACE, "-f", "-qq", "-o", "/dev/null", "--seccomp-bpf"),
            *(part for file in files for part in ("-P", file)),
            *("-e", f"trace={self.call}", "-e", fault),
        ]


def all_points(error: str) -> list[Point]:
    """Two hundred: the start of a run has some 60 writes and 5 syncs, its work the others."""
    writes = [("pwrite64", number) for number in (*range(1, 64, 3), *range(64, 300, 4))]
    syncs = [("fdatasync", number) for number in range(1, 21)]
    return [
        Point(error, call, number, lasting)
        for lasting in (True, False)
        for call, number in (*syncs, *writes)
    ]


@dataclass
class Bench:
    """One folder in which point after point is tried, against one simulator."""

    folder: Path
    simulator: object
    template: Path

    def try_point(self, point: Point) -> dict[str, object]:
        """Fail at `point`, start again, compare the books; what happened."""
        place = Folder(self.folder / point.name)
        shutil.rmtree(place.path, ignore_errors=True)
        place.path.mkdir()
        (place.path / "config.toml").write_text(QUICK)
        write_jsonl(place.path / "rows.jsonl", rows(ROWS))
        database = place.path / "batcher.db"
        shutil.copy(self.template, database)
        paid_before = self.simulator.billed()
        where = ("--endpoint", "simulator", "--base-url", self.simulator.url)
        command = ("run", "rows.jsonl", *where, "--concurrency", 3, "--json")
        first = finish(place.start(*command, through=point.command(database), **PIPES))
        second = place.batcher(*command)
        assert second.code == 0, f"{point.name}: {second.out} {second.err}"
        bill = self.simulator.bill()[paid_before:]
        books = open_books(str(database), bill)
        check_at_the_end(books, {"rows.jsonl": ROWS})
        states = Counter(line["state"] for line in books.attempts.values())
        assert not states.keys() - {"answered", "not_sent"}, f"{point.name}: {states}"
        assert len(bill) == ROWS, f"{point.name}: paid twice"
        assert not list(place.path.glob("*.lifeboat-*"))
        assert not list(place.path.glob("*.ballast-*"))
        assert first.code in {0, 73, 74}, f"{point.name}: {first.code} {first.out} {first.err}"
        if first.code == 0:  # the call never came, or what failed needed no answer
            assert second.json["sent"] == 0
        shutil.rmtree(place.path)
        return {
            "point": point.name,
            "code": first.code,
            "paid_before": ROWS - second.json["sent"],
            "imported": second.json["imported_outcomes"],
            "after_all": "after all" in first.out,
        }


@pytest.fixture
def bench(tmp_path, sqlite_template):
    if STRACE is None:
        TOLD.append(MISSING)
        pytest.skip(MISSING)
    simulator = start_simulator(tmp_path, "--latency-ms", "5-30")
    yield Bench(tmp_path, simulator, sqlite_template)
    simulator.stop()


@pytest.mark.parametrize(
    "point",
    [
        Point("ENOSPC", "pwrite64", 40, lasting=True),
        Point("ENOSPC", "pwrite64", 90, lasting=False),
        Point("EIO", "fdatasync", 9, lasting=True),
        Point("EIO", "pwrite64", 1, lasting=True),
    ],
    ids=lambda point: point.name,
)
def test_a_write_that_fails_loses_and_repeats_nothing(bench, point):
    assert bench.try_point(point)["code"] != 0


@pytest.mark.campaign
@pytest.mark.parametrize("error", ["ENOSPC", "EIO"])
def test_a_campaign_of_failing_writes_loses_and_repeats_nothing(bench, pytestconfig, error):
    campaign = Campaign(f"storage-{error}", pytestconfig)
    done = {result["point"] for result in campaign.results()}
    for point in all_points(error):
        if not campaign.has_time():
            break
        if point.name not in done:
            campaign.add(**bench.try_point(point))
    results = campaign.results()
    hit = [result for result in results if result["code"]]
    imported = sum(result["imported"] for result in results)
    campaign.tell(
        f"{len(results)} points tried, {len(hit)} ended a run, {imported} outcomes came out of"
        f" lifeboats, {sum(result['after_all'] for result in results)} runs wrote the rest on a"
        " second connection; nothing lost, in doubt or paid twice"
    )
