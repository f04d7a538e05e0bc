"""Faults of the ledger's storage: when it is opened, while intents and while outcomes land.

SQLite's own means cause them: a page limit is a full disk, an authorizer that says no is a
database that refuses a statement, a progress handler that says stop is an interrupt, a file
size limit of the process is a disk that fails a write.
"""

import resource
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import event
from sqlalchemy.pool import Pool

from tests.faults.kinds import Stage
from tests.making_runs import Case, Script, answered, prompt_of

LARGE = "x" * 15_000
_USED = {"input_tokens": 10, "output_tokens": 15_000 // 4}
ROWS = 12
Cause = Callable[[Case], AbstractContextManager[Script]]


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageFault:
    """A ledger that fails; `expected` is what becomes of the answers that had come by then.

    "kept": they are in the ledger at the latest when the same command was typed again.
    "none": nothing was sent.
    """

    id: str
    stage: Stage
    cause: Cause
    expected: str
    exit: int = 74


@contextmanager
def _connections(prepare: Callable[[sqlite3.Connection], object]) -> Iterator[None]:
    """Every connection that is opened meanwhile is prepared so."""

    def connected(raw: Any, _: object) -> None:
        prepare(raw)

    event.listen(Pool, "connect", connected)
    try:
        yield
    finally:
        event.remove(Pool, "connect", connected)


def _answering(_: Any) -> Any:
    return answered(LARGE, usage=_USED)


def _full(pages: int) -> Cause:
    """The disk has room for so many pages more than the ledger takes now."""

    @contextmanager
    def cause(case: Case) -> Iterator[Script]:
        most = Path(case.database).stat().st_size // 4096 + pages
        with _connections(lambda raw: raw.execute(f"PRAGMA max_page_count = {most}")):
            yield _answering

    return cause


def _read_only(case: Case) -> AbstractContextManager[Script]:
    return _prepared(lambda raw: raw.execute("PRAGMA query_only = ON"))


@contextmanager
def _prepared(prepare: Callable[[sqlite3.Connection], object]) -> Iterator[Script]:
    with _connections(prepare):
        yield _answering


def _refused(action: int, table: str) -> Cause:
    """The database says no to one kind of statement."""

    def decide(asked: int, name: str | None, *_: object) -> int:
        return sqlite3.SQLITE_DENY if (asked, name) == (action, table) else sqlite3.SQLITE_OK

    return lambda _: _prepared(lambda raw: raw.set_authorizer(decide))


def _armed(arm: Callable[[Case], object], disarm: Callable[[Case], object], at: str) -> Cause:
    """Something happens while the row with this prompt is in flight."""

    @contextmanager
    def cause(case: Case) -> Iterator[Script]:
        def script(attempt: Any) -> Any:
            if prompt_of(attempt) == at:
                arm(case)
            return answered(LARGE, usage=_USED)

        try:
            yield script
        finally:
            disarm(case)

    return cause


def _interrupted(at: str) -> Cause:
    """From a moment on, every statement is interrupted."""

    @contextmanager
    def cause(_: Case) -> Iterator[Script]:
        stop: list[bool] = []

        def script(attempt: Any) -> Any:
            if prompt_of(attempt) == at:
                stop.append(True)
            return answered()

        with _connections(lambda raw: raw.set_progress_handler(lambda: bool(stop), 1)):
            yield script

    return cause


_UNLIMITED = resource.getrlimit(resource.RLIMIT_FSIZE)


def _limit_files(case: Case) -> None:
    written = Path(f"{case.database}-wal").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (written + 10_000, _UNLIMITED[1]))


def _free_files(_: Case) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, _UNLIMITED)


def _with_file(change: Callable[[Path], object]) -> Cause:
    """The ledger is changed before the run, and put back after it."""

    @contextmanager
    def cause(case: Case) -> Iterator[Script]:
        path = Path(case.database)
        whole = path.read_bytes()
        change(path)
        try:
            yield _answering
        finally:
            path.rmdir() if path.is_dir() else path.unlink(missing_ok=True)
            path.write_bytes(whole)

    return cause


def _garble(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)


def _halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 8192 * 4096])


def _sql(*statements: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        with closing(sqlite3.connect(path)) as connection:
            for statement in statements:
                connection.execute(statement)
            connection.commit()

    return change


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@contextmanager
def _locked(case: Case) -> Iterator[Script]:
    """Another program holds SQLite's own lock and does not give it back."""
    with (
        closing(sqlite3.connect(case.database, isolation_level=None)) as other,
        _connections(lambda raw: raw.execute("PRAGMA busy_timeout = 10")),
    ):
        other.execute("BEGIN IMMEDIATE")
        yield _answering


def _nowhere(case: Case) -> AbstractContextManager[Script]:
    """The folder of the ledger is not there; the next time the name is right."""

    @contextmanager
    def cause() -> Iterator[Script]:
        right, case.database = case.database, f"{case.folder}/missing/batcher.db"
        try:
            yield _answering
        finally:
            case.database = right

    return cause()


def _start(id_: str, change: Callable[[Path], object], exit_: int = 74) -> StorageFault:
    return StorageFault(
        id=id_, stage=Stage.START, cause=_with_file(change), expected="none", exit=exit_
    )


def _denied(id_: str, stage: Stage, action: int, table: str) -> StorageFault:
    expected = "none" if stage is Stage.START else "kept"
    return StorageFault(id=id_, stage=stage, cause=_refused(action, table), expected=expected)


INSERT, UPDATE = sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE

STORAGE = [
    # When it is opened
    _start("no SQLite file", lambda path: path.write_text("hello\n" * 2_000)),
    _start("pages of noise", _garble),
    _start("half a file", _halve),
    _start("a folder in its place", _folder, 73),
    _start(
        "a schema of the future", _sql("UPDATE batcher_version SET version_num = '9999'"), 78
    ),
    _start(
        "somebody else's database",
        _sql("DROP TABLE ledger_info", "DROP TABLE batcher_version"),
        78,
    ),
    StorageFault(id="no folder", stage=Stage.START, cause=_nowhere, expected="none", exit=73),
    StorageFault(id="read-only", stage=Stage.START, cause=_read_only, expected="none"),
    StorageFault(id="locked", stage=Stage.START, cause=_locked, expected="none", exit=75),
    StorageFault(id="full at once", stage=Stage.START, cause=_full(-1), expected="none"),
    _denied("invocations refused", Stage.START, INSERT, "invocations"),
    _denied("sources refused", Stage.START, INSERT, "sources"),
    # While it is in use
    _denied("intents refused", Stage.INTENT, INSERT, "attempts"),
    _denied("outcomes refused", Stage.SETTLE, UPDATE, "attempts"),
    _denied("answers refused", Stage.SETTLE, INSERT, "answers"),
    _denied("charges refused", Stage.SETTLE, INSERT, "charges"),
    _denied("rate sets refused", Stage.SETTLE, INSERT, "rate_sets"),
    *(
        StorageFault(
            id=f"full after {pages} pages",
            stage=Stage.SETTLE,
            cause=_full(pages),
            expected="kept",
        )
        for pages in (10, 30)
    ),
    StorageFault(
        id="interrupted at the first answer",
        stage=Stage.SETTLE,
        cause=_interrupted("row 1"),
        expected="kept",
    ),
    StorageFault(
        id="interrupted later", stage=Stage.SETTLE, cause=_interrupted("row 7"), expected="kept"
    ),
    StorageFault(
        id="the disk fails a write",
        stage=Stage.COMMIT,
        cause=_armed(_limit_files, _free_files, "row 1"),
        expected="kept",
    ),
    StorageFault(
        id="the disk fails a later write",
        stage=Stage.COMMIT,
        cause=_armed(_limit_files, _free_files, "row 6"),
        expected="kept",
    ),
]
