"""A long run with faults, in one go: memory stays flat, and the bill equals the ledger.

The files stay in the campaign's folder: a soak that ran out of its budget is drained as by a
signal, its books are compared, and the same command goes on with the rest.
"""

import os
import signal
import subprocess
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import msgspec
import pytest

from tests.bill import cost_pico_usd
from tests.e2e.campaign import FOLDER, Campaign
from tests.e2e.crashes import FAULTS
from tests.e2e.inputs import QUICK, row
from tests.e2e.invariants import IN_DOUBT
from tests.e2e.ledgers import opened
from tests.e2e.processes import Folder, Simulator, start_simulator

ROWS = 1_000_000
FAULTY = 0.02
SAMPLE_SECONDS = 0.5
WARM_SHARE = 0.25  # of the samples: while caches, pools and the log grow to their size
MOST_GROWTH = 1.10
MOST_DOUBTS = 0.06  # of the rows; a share of the faults leaves one, and rows are tried again
_PAGE = os.sysconf("SC_PAGE_SIZE")


def test_a_thousand_rows_with_faults_agree_with_the_bill(tmp_path):
    soak = Soak(tmp_path, rows=1000)

    soak.go_on(lambda: True)

    assert soak.compare() == 1000
    assert max(soak.samples) > 0


@pytest.mark.campaign
def test_a_soak_keeps_its_memory_and_its_books(pytestconfig):
    rows = pytestconfig.getoption("--rows") or ROWS
    campaign = Campaign("soak", pytestconfig)
    soak = Soak(FOLDER / f"soak-{rows}", rows)
    soak.go_on(campaign.has_time)
    done = soak.compare()
    early, late = soak.memory()
    campaign.add(
        rows=rows, done=done, early_bytes=early, late_bytes=late, peak=max(soak.samples)
    )
    campaign.tell(
        f"{done} of {rows} rows done, books equal, memory {early / 1e6:.1f} MB after the first"
        f" quarter and {late / 1e6:.1f} MB at the end ({len(soak.samples)} samples,"
        f" peak {max(soak.samples) / 1e6:.1f} MB)"
    )
    assert late <= early * MOST_GROWTH


@dataclass(slots=True)
class Soak:
    """One folder with an input, a database and a bill, and the memory of the latest process."""

    place: Path
    rows: int
    samples: list[int] = field(default_factory=list)  # resident bytes

    def go_on(self, may_go_on: Callable[[], bool]) -> None:
        """Run until all rows are done, or drain when there is no time left."""
        self._prepare()
        simulator = start_simulator(self.place, "--latency-ms", "0-20", *_faults())
        folder = Folder(self.place / "work")
        try:
            process = folder.start(*self._command(simulator))
            self._watch(process, may_go_on)
            assert process.returncode in {0, 65, 75}, process.returncode
        finally:
            folder.clean_up()
            simulator.stop()

    def memory(self) -> tuple[int, int]:
        """The median after warming up and at the end, each over a quarter of the samples."""
        quarter = max(1, len(self.samples) // 4)
        start = int(len(self.samples) * WARM_SHARE)
        return (
            int(median(self.samples[start : start + quarter])),
            int(median(self.samples[-quarter:])),
        )

    def compare(self) -> int:
        """Both books, line by line; how many rows are answered or failed."""
        attempts = self._attempts()
        billed = exact = 0
        with (self.place / "bill.jsonl").open("rb") as bill:
            for line in map(msgspec.json.decode, bill):
                state, low, high = attempts[line["attempt_uid"]]
                cost = cost_pico_usd(line)
                assert low <= cost <= high, line
                billed += cost
                exact += cost if state in {"answered", "late"} else 0
        lows = sum(low for _, low, _ in attempts.values())
        highs = sum(high for _, _, high in attempts.values())
        assert lows <= billed <= highs
        states = Counter(state for state, _, _ in attempts.values())
        assert states["open"] == 0
        assert sum(states[state] for state in IN_DOUBT) <= self.rows * MOST_DOUBTS
        return self._rows_done(exact, states)

    def _rows_done(self, exact: int, states: Counter[str]) -> int:
        with opened(str(self._database)) as ask:
            (counted,) = ask(
                "SELECT (SELECT COUNT(*) FROM v_answers) AS answers,"
                " (SELECT COUNT(*) FROM v_failures) AS failures,"
                " (SELECT COUNT(DISTINCT row_number) FROM v_answers) AS distinct_rows,"
                " (SELECT SUM(cost_low_pico_usd) FROM v_attempts"
                " WHERE state IN ('answered', 'late')) AS cost"
            )
        assert counted["answers"] == counted["distinct_rows"]
        assert counted["answers"] <= states["answered"]
        assert counted["cost"] == exact
        return counted["answers"] + counted["failures"]

    def _attempts(self) -> dict[str, tuple[str, int, int]]:
        with opened(str(self._database)) as ask:
            asked = "attempt_uid AS uid, state, cost_low_pico_usd AS low"
            lines = ask(f"SELECT {asked}, cost_high_pico_usd AS high FROM v_attempts")
        return {line["uid"]: (line["state"], line["low"], line["high"]) for line in lines}

    @property
    def _database(self) -> Path:
        return self.place / "work" / "batcher.db"

    def _command(self, simulator: Simulator) -> tuple[object, ...]:
        where = ("--endpoint", "simulator", "--base-url", simulator.url)
        return ("run", "rows.jsonl", *where, "--database", self._database, "--quiet")

    def _prepare(self) -> None:
        work = self.place / "work"
        work.mkdir(parents=True, exist_ok=True)
        (work / "config.toml").write_text(QUICK)
        if not (work / "rows.jsonl").exists():
            unfinished = work / "rows.part"
            with unfinished.open("wb") as file:
                for number in range(self.rows):
                    file.write(msgspec.json.encode(row(number)) + b"\n")
            unfinished.rename(work / "rows.jsonl")

    def _watch(self, process: subprocess.Popen, may_go_on: Callable[[], bool]) -> None:
        told = False
        while process.poll() is None:
            self.samples.append(_resident_bytes(process.pid))
            if not told and not may_go_on():
                process.send_signal(signal.SIGTERM)
                told = True
            try:
                process.wait(SAMPLE_SECONDS)
            except subprocess.TimeoutExpired:
                continue


def _faults() -> list[str]:
    scale = FAULTY / sum(FAULTS.values())
    return [
        part
        for name, share in FAULTS.items()
        for part in ("--fault", f"{name}={share * scale:.6f}")
    ]


def _resident_bytes(pid: int) -> int:
    """What the process holds in memory; 0 when it ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    except (OSError, IndexError):
        return 0
