"""Random histories of a ledger in hostile surroundings, with the simulator's bill as judge.

Two processes at once, kills, links, copies, backups that are put back, locks that are removed,
damaged pages, poisoned answers, outputs onto files of the user, inputs under other names. After
each step: no row was paid twice in one ledger unless that says so, no file of the user's has
changed, and every command ended with a sentence.
"""

import os
import random
import shutil
import subprocess
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.databases import PostgresServer
from tests.e2e.inputs import row, write_jsonl
from tests.e2e.invariants import (
    all_that_was_billed_is_known,
    charges_say_what_the_bill_says,
    every_attempt_costs_what_its_bill_says,
    extra_bills_are_in_doubt,
    read_books,
)
from tests.e2e.ledgers import opened, read
from tests.e2e.processes import Ended, Folder, Simulator, finish, kill, wait_until

ROWS = 8
STEPS = 6
POISON = ("[[stop:" + "x" * 3000 + "]]", "[[stop:\x07]]", "[[usage:cache]]", "")
# What a command may end with here; 70 is a bug, and a kill is not an end of its own.
EXPLAINED = {0, 1, 65, 69, 73, 74, 75, 78}
_PIPES = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}


@dataclass(kw_only=True)
class HostileHistory:
    """One ledger, one input under many names, and whatever a seed has in store for them."""

    seed: int
    folder: Folder
    simulator: Simulator
    database: str
    server: PostgresServer | None = None
    happened: Counter[str] = field(default_factory=Counter)
    length: int = STEPS
    steps: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        self.place = self.folder.path
        self._first = self.seed * 1000
        items = [
            row(self._first + number, self.chance.choice(POISON)) for number in range(ROWS)
        ]
        self._names = [write_jsonl(self.place / "rows.jsonl", items).name]
        self._precious = self.place / "precious.txt"
        self._precious.write_text("years of work\n")
        self._kept = {path: path.read_bytes() for path in self._files()}
        self._excused: set[str] = set()  # billed, and in a ledger that is gone
        self._backup: tuple[str, set[str]] | None = None

    def play(self) -> None:
        """All steps; then the run comes to its end."""
        common = [self.run, self.two_at_once, self.killed, self.renamed, self.onto_files]
        common += [self.backed_up, self.put_back, self.copied]
        own = [self.linked, self.lock_taken, self.damaged, self.log_removed, self.without_log]
        choices = common if self.server else common + own
        for _ in range(self.length):
            step = self.chance.choice(choices)
            self.steps.append(step.__name__)
            step()
            self.happened[step.__name__] += 1
            self.judge()
        self.ends_well()

    # --- What is typed

    def command(self, name: str | None = None, database: str | None = None) -> list[str]:
        name = name or self.chance.choice(self._names)
        spelled = self.chance.choice([name, f"./{name}", str(self.place / name)])
        where = ["--endpoint", "simulator", "--base-url", self.simulator.url]
        return ["run", spelled, *where, "-d", database or self.database, "--concurrency", "3"]

    def typed(self, *words: str, allowed: set[int] = EXPLAINED) -> Ended:
        return self.explained(self.folder.batcher(*words), words, allowed)

    def explained(self, ended: Ended, words: object, allowed: set[int] = EXPLAINED) -> Ended:
        assert ended.code in allowed, (ended.code, words, ended.err)
        assert "Traceback" not in ended.err + ended.out, (words, ended.err)
        assert ended.code == 0 or (ended.err + ended.out).strip(), words
        return ended

    # --- Steps

    def run(self) -> None:
        self.typed(*self.command(), allowed={0, 65})

    def two_at_once(self) -> None:
        both = [self.folder.start(*self.command(), **_PIPES) for _ in range(2)]
        ended = [self.explained(finish(each), "two at once") for each in both]
        assert {0, 65} & {each.code for each in ended}, ended
        assert {each.code for each in ended} <= {0, 65, 75}, ended

    def killed(self) -> None:
        """In the middle, or at the end where there is nothing left to do."""
        wanted = self.simulator.billed() + self.chance.randint(1, ROWS)
        process = self.folder.start(*self.command())
        if wait_until(lambda: self.simulator.billed() >= wanted, process):
            kill(process)

    def renamed(self) -> None:
        """Moved, copied, or reached through a link."""
        new = f"rows-{self.happened['renamed']}.jsonl"
        match self.chance.choice(["copy", "link", "move"]):
            case "copy":
                shutil.copy(self.place / self._names[-1], self.place / new)
            case "link":
                (self.place / new).symlink_to(self.place / self._names[-1])
            case _ if len(self._names) == 1:
                (self.place / self._names[0]).rename(self.place / new)
                del self._kept[self.place / self._names.pop()]
        if (self.place / new).exists():
            self._names.append(new)
            self._kept[self.place / new] = (self.place / new).read_bytes()
        self.typed(*self.command(self._names[-1]), allowed={0, 65})

    def onto_files(self) -> None:
        """Outputs onto what is the user's, or the ledger's."""
        target = self.chance.choice(self._targets())
        force = self.chance.choice([[], ["--force"]])
        words = self.chance.choice(
            [
                ["export", "--run", "1", "-o"],
                ["report", "-o"],
                ["export", "--run", "1", "--failures", "-o"],
            ]
        )
        strange = Path(target).name in self._names and not self._is_an_input(target)
        if strange:  # no ledger knows it: with --force, or for a log, it is the user's own wish
            force = []
        ledger = self._ledger_bytes()
        ended = self.typed(*words, target, *force, "-d", self.database, allowed={2, 73, 74})
        assert ended.code == 73 or not self._has_run(), (words, target, ended)
        assert self._ledger_bytes() == ledger
        if not strange:
            self.typed(*self.command(), "--log-file", target, allowed={73})

    def _is_an_input(self, target: str) -> bool:
        if not self._exists():
            return False
        places = {
            line["location"] for line in read(self.database, "SELECT location FROM sources")
        }
        return os.path.realpath(target) in map(os.path.realpath, places)

    def _targets(self) -> list[str]:
        names = [str(self.place / name) for name in self._names]
        if not self.server:
            names += [self.database, f"{self.database}-wal", f"{self.database}.lock"]
        return names

    def backed_up(self) -> None:
        known = self._attempts() if self._exists() else None
        if known is None:
            return
        if self.server:
            self._backup = (self.server.new_database(self._name(self.database)), known)
            return
        target = f"{self.database}.backup-{self.happened['backed_up']}"
        self.typed("db", "backup", target, "-d", self.database, allowed={0})
        self._backup = (target, known)

    def put_back(self) -> None:
        """The last backup becomes the ledger: what came after it nobody knows any more."""
        if self._backup is None:
            return
        kept, known = self._backup
        self._excused |= {uid for uid in self._bill() if uid not in known}
        if self.server:
            self.database = self.server.new_database(self._name(kept))
        else:
            for end in ("-wal", "-shm", ".lock"):
                Path(self.database + end).unlink(missing_ok=True)
            shutil.copy(kept, self.database)
        self._forget_lifeboats()
        self.typed(*self.command(), allowed={0, 65})

    def copied(self) -> None:
        """A copy lives on beside its original, and both are paid for."""
        if not self._exists():
            return
        before = set(self._bill())
        if self.server:
            copy = self.server.new_database(self._name(self.database))
        else:
            copy = f"{self.database}.copy-{self.happened['copied']}"
            self.typed("db", "backup", copy, "-d", self.database, allowed={0})
        self.typed(*self.command(database=copy), allowed={0, 65})
        self._excused |= set(self._bill()) - before

    def linked(self) -> None:
        """A second name is refused by whatever name, and nothing is sent."""
        if not self._exists():
            return
        other = Path(f"{self.database}.other")
        os.link(self.database, other)
        before = set(self._bill())
        for name in (self.database, str(other)):
            self.typed(*self.command(database=name), allowed={78})
        other.unlink()
        assert set(self._bill()) - before <= self._attempts()  # a killed run's own, come late

    def lock_taken(self) -> None:
        """While a run is on its lock file goes, or becomes a link to something precious."""
        wanted = self.simulator.billed() + 1
        first = self.folder.start(*self.command(), **_PIPES)
        wait_until(lambda: self.simulator.billed() >= wanted, first)
        lock = Path(f"{self.database}.lock")
        lock.unlink(missing_ok=True)
        if self.chance.random() < 0.5:
            lock.symlink_to(self._precious)
        second = self.folder.start(*self.command(), **_PIPES)
        ended = [self.explained(finish(each), "lock taken") for each in (first, second)]
        assert {each.code for each in ended} <= {0, 65, 75}, ended
        if lock.is_symlink():
            lock.unlink()

    def damaged(self) -> None:
        """A page goes bad before a command, or under a run; then what was before comes back."""
        if not self._exists():
            return
        for end in ("", "-wal"):
            if Path(self.database + end).exists():
                shutil.copy(self.database + end, f"{self.database}{end}.kept")
        before = set(self._bill())
        path = Path(self.database)
        page = self.chance.randrange(path.stat().st_size // 4096)
        with path.open("r+b") as file:
            file.seek(page * 4096)
            file.write(self.chance.randbytes(4096))
        words = [self.command(), ["verify"], ["report"], ["export", "--run", "1"], ["status"]]
        chosen = self.chance.choice(words)
        more = [] if chosen[0] == "run" else ["-d", self.database]
        ended = self.typed(*chosen, *more, allowed={0, 1, 2, 65, 74, 78})
        if ended.code == 0 and chosen[0] == "run":
            self.typed("db", "check", "-d", self.database, allowed={0})
        for end in ("-wal", "-shm", ".lock"):
            Path(self.database + end).unlink(missing_ok=True)
        for end in ("", "-wal"):
            if Path(f"{self.database}{end}.kept").exists():
                shutil.move(f"{self.database}{end}.kept", self.database + end)
        self._forget_lifeboats()
        self._excused |= set(self._bill()) - before

    def log_removed(self) -> None:
        """After a kill the log is away: nothing is sent until it is back."""
        self.killed()
        log = Path(f"{self.database}-wal")
        if not log.exists() or not log.stat().st_size:
            return
        away, before = log.rename(f"{log}.away"), set(self._bill())
        Path(f"{self.database}-shm").unlink(missing_ok=True)
        ended = self.typed(*self.command(), allowed={0, 65, 74})
        if ended.code == 74:
            Path(f"{self.database}-shm").unlink(missing_ok=True)
            away.rename(log)
            # What the killed run had sent may reach the server a moment later.
            assert set(self._bill()) - before <= self._attempts()
        else:  # all of it was in the file already
            away.unlink()

    def without_log(self) -> None:
        """After a kill the file is copied without what lies beside it: no run goes on there."""
        self.killed()
        log = Path(f"{self.database}-wal")
        if not log.exists() or not log.stat().st_size:
            return
        copy = f"{self.database}.alone-{self.happened['without_log']}"
        before = set(self._bill())
        shutil.copy(self.database, copy)
        ended = self.typed(*self.command(database=copy), allowed={0, 65, 74})
        new = set(self._bill()) - before
        if ended.code == 74:  # the killed run's own came a moment later
            assert new <= self._attempts()
        else:
            self._excused |= new - self._attempts()  # killed before it began

    # --- The judge

    def judge(self) -> None:
        """Nothing paid twice, nothing of the user's changed, everything billed is known."""
        for path, content in self._kept.items():
            assert path.read_bytes() == content, f"{path.name} has changed"
        if not self._exists():
            return
        bill = {u: line for u, line in self._bill().items() if u not in self._excused}
        with opened(self.database) as ask:
            books = read_books(ask, [*bill.values()])
        all_that_was_billed_is_known(books)
        extra_bills_are_in_doubt(books)
        known = {u: line for u, line in books.attempts.items() if u in bill}
        assert len(known) == len(bill)
        every_attempt_costs_what_its_bill_says(books)
        charges_say_what_the_bill_says(books)

    def ends_well(self) -> None:
        """The same command, until it has nothing left to do; each row is in one place."""
        ended = self.typed(*self.command(self._names[-1]), allowed={0, 65})
        self.judge()
        billed = self.simulator.billed()
        again = self.typed(*self.command(self._names[-1]), allowed={ended.code})
        assert self.simulator.billed() == billed, again.err
        told = self.typed("verify", "-d", self.database, allowed={0})
        assert "no problems" in told.out
        self.typed("db", "check", "--deep", "-d", self.database, allowed={0})

    # --- What is there

    def _files(self) -> list[Path]:
        return [self._precious, *(self.place / name for name in self._names)]

    def _exists(self) -> object:
        if not self.server:
            return Path(self.database).exists()
        return read(self.database, "SELECT to_regclass('v_attempts') AS here")[0]["here"]

    def _has_run(self) -> bool:
        return bool(self._exists() and read(self.database, "SELECT 1 AS one FROM runs"))

    def _attempts(self) -> set[str]:
        found = read(self.database, "SELECT attempt_uid FROM attempts")
        return {line["attempt_uid"] for line in found}

    def _bill(self) -> dict[str, dict]:
        """The lines of this history; a uid that comes twice would be one that was repeated."""
        mine = {f"row-{self._first + number}" for number in range(ROWS)}
        lines = [line for line in self.simulator.bill() if line["custom"] in mine]
        found = {line["attempt_uid"]: line for line in lines}
        assert len(found) == len(lines), "an attempt's uid was billed twice"
        return found

    def _ledger_bytes(self) -> bytes:
        return b"" if self.server or not self._exists() else Path(self.database).read_bytes()

    def _forget_lifeboats(self) -> None:
        for path in self.place.glob("*.lifeboat-*"):
            path.unlink()

    @staticmethod
    def _name(url: str) -> str:
        return url.split("?")[0].rpartition("/")[2]
