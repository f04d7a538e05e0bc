"""A run that is killed again and again, at points drawn from a seed."""

import random
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e.invariants import check_after_crash, open_books
from tests.e2e.ledgers import count, wait_until_alone
from tests.e2e.processes import (
    PATIENCE_SECONDS,
    Ended,
    Folder,
    Process,
    Simulator,
    kill,
    wait_until,
)

# Shares of requests that fail, in every way that leaves something to find out.
FAULTS = {
    "500": 0.02,
    "529": 0.01,
    "503": 0.01,
    "429_ms": 0.0004,
    "500_html": 0.005,
    "502_html": 0.01,
    "reset_before": 0.01,
    "reset_after_headers": 0.01,
    "close": 0.01,
    "200_cut": 0.01,
    "200_empty": 0.005,
    "200_html": 0.002,
}
# Of CPU time: imports (where they are not there already), recovery, the first rows.
_START_UP_NS = {False: (50_000_000, 700_000_000), True: (5_000_000, 300_000_000)}
_MOST_LINES = 45


def fault_options() -> list[str]:
    return [part for name, share in FAULTS.items() for part in ("--fault", f"{name}={share}")]


@dataclass(kw_only=True)
class CrashingRun:
    """One command that is started and killed. `opens` are the attempts each kill left open."""

    folder: Folder
    simulator: Simulator
    database: str
    inputs: Mapping[str, int]
    concurrency: int
    opens: list[int] = field(default_factory=list)

    @property
    def command(self) -> tuple[object, ...]:
        where = ("--endpoint", "simulator", "--base-url", self.simulator.url)
        limits = ("--database", self.database, "--concurrency", self.concurrency)
        return ("run", *self.inputs, *where, *limits)

    def kill_after(self, lines: int) -> bool:
        """Start it and kill it when so many more requests were accepted; see `kill_when`."""
        wanted = self.simulator.billed() + lines
        return self.kill_when(lambda _: self.simulator.billed() >= wanted)

    def kill_somewhere(self, chance: random.Random) -> bool:
        """Kill it while it starts, or at some point of its work; see `kill_when`."""
        if chance.random() < 0.6:
            return self.kill_after(chance.randint(1, _MOST_LINES))
        worked = chance.randint(*_START_UP_NS[self.folder.forks])
        wanted = self.simulator.billed() + _MOST_LINES
        return self.kill_when(
            lambda process: cpu_ns(process) >= worked or self.simulator.billed() >= wanted
        )

    def kill_when(self, condition: Callable[[Process], bool]) -> bool:
        """Kill it when `condition` holds and look into both books; `False`: it ended before."""
        process = self.folder.start(*self.command, "--quiet")
        if not wait_until(lambda: condition(process), process):
            assert process.returncode in {0, 65, 75}
            return False
        kill(process)
        self.check()
        return True

    def kill_through(self, program: Sequence[object]) -> bool:
        """Start it through a program that may kill it; see `kill_when`."""
        process = self.folder.start(*self.command, "--quiet", through=tuple(map(str, program)))
        code = process.wait(PATIENCE_SECONDS)
        if code in {0, 65, 69, 75}:
            return False
        assert code == -signal.SIGKILL
        self.check()
        return True

    def check(self) -> None:
        """What must hold after a kill, before anything was repaired."""
        wait_until_alone(self.database)
        billed = self.simulator.bill()
        if not self._has_tables():
            assert not billed
            return
        check_after_crash(open_books(self.database, billed), self.inputs)
        self.opens.append(count(self.database, "v_attempts", "state = 'open'"))
        assert self.opens[-1] <= self.concurrency

    def finish(self) -> Ended:
        """Run it to its end; a server needs a moment to notice that a client was killed."""
        ended = self.folder.batcher(*self.command, "--json")
        while ended.code == 75 and "Another run" in ended.err:
            ended = self.folder.batcher(*self.command, "--json")
        return ended

    def _has_tables(self) -> bool:
        """Whether the kill came after the database was made."""
        if "://" not in self.database:
            path = Path(self.database)
            if not path.exists():
                return False
            return count(self.database, "sqlite_master", "name = 'v_attempts'") == 1
        return count(self.database, "pg_views", "viewname = 'v_attempts'") == 1


def cpu_ns(process: Process) -> int:
    """How long the process's main thread has worked; the system's own count."""
    try:
        return int(Path(f"/proc/{process.pid}/schedstat").read_text().split()[0])
    except OSError:  # it ended
        return 0
