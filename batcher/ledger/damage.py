"""Whether a SQLite file is damaged, and the sentence for one that is."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from batcher.clock import Clock, SystemClock
from batcher.errors import DamagedDatabase
from batcher.ledger.database_errors import CORRUPT, INTERRUPT, IOERR, NOTADB
from batcher.ledger.sqlite_file import connect_sqlite

if TYPE_CHECKING:
    import sqlite3

LOOK_SECONDS: Final = 10.0
END_SECONDS: Final = 0.2  # at least, at the end of a run: files of up to 20 MB
_STEPS: Final = 10_000  # of SQLite's own machine, between two looks at the clock
_AGAIN_SECONDS: Final = 0.05
_MOST: Final = 20  # damages that are listed


def damages_of(
    path: Path,
    pragma: str = "quick_check",
    seconds: float | None = None,
    clock: Clock | None = None,
    *,
    immutable: bool = False,
) -> list[str] | None:
    """What is damaged in the file at `path`, a line each; `None` when looking took too long.

    `pragma` is SQLite's `quick_check`, or its `integrity_check`, which compares indexes too.
    `immutable`: see `connect_sqlite`.
    """
    import sqlite3  # noqa: PLC0415  a process that uses a server does without it

    try:
        with (
            closing(connect_sqlite(path, read_only=True, immutable=immutable)) as connection,
            limited_look(connection, seconds, clock or SystemClock()),
        ):
            found = connection.execute(f"PRAGMA {pragma}({_MOST})").fetchall()
    except UnicodeDecodeError:  # the driver's, over the words of an error
        return ["its schema is no UTF-8"]
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == INTERRUPT:
            return None
        if code in {CORRUPT, NOTADB, IOERR}:
            return [str(error)]
        raise
    return [line for (text,) in found for line in str(text).splitlines() if line != "ok"]


@contextmanager
def limited_look(
    connection: "sqlite3.Connection", seconds: float | None, clock: Clock
) -> Iterator[None]:
    """What runs on `connection` is interrupted after `seconds`, on either of two clocks.

    SQLite 3.40 takes all of a table as one of its steps, which only another thread ends.
    """
    if seconds is None:
        yield
        return
    until = clock.monotonic() + seconds
    connection.set_progress_handler(lambda: int(clock.monotonic() > until), _STEPS)
    over = threading.Event()
    watch = threading.Thread(target=_interrupt, args=(connection, seconds, over), daemon=True)
    watch.start()
    try:
        yield
    finally:
        over.set()
        watch.join()  # it must not meet a closed connection


def _interrupt(connection: "sqlite3.Connection", seconds: float, over: threading.Event) -> None:
    """Again and again: before a statement begins it does nothing."""
    while not over.wait(seconds):
        connection.interrupt()
        seconds = _AGAIN_SECONDS


def check_whole(path: Path, pragma: str = "quick_check") -> None:
    """Read the whole file; raises `DamagedDatabase` when it is damaged."""
    damages = damages_of(path, pragma)
    if damages:
        raise damaged(path, damages)


def damaged(path: Path, damages: Sequence[str]) -> DamagedDatabase:
    """The sentence about them."""
    more = f"; and {len(damages) - 1:,} more" if len(damages) > 1 else ""
    return DamagedDatabase(
        f"the database {path} is damaged: restore a backup of it, or what `sqlite3 FILE"
        f" .recover` makes of it ({damages[0]}{more})"
    )
