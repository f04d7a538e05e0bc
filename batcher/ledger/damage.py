"""Whether a SQLite file is damaged, and the sentence for one that is."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

from batcher.clock import Clock, SystemClock
from batcher.errors import DamagedDatabase
from batcher.ledger.database_errors import CORRUPT, INTERRUPT, IOERR, NOTADB
from batcher.ledger.sqlite_file import connect_sqlite

if TYPE_CHECKING:
    import sqlite3

LOOK_SECONDS: Final = 10.0
END_SECONDS: Final = 0.2  # a hundredth of what a short run takes, of files up to 20 MB
_STEPS: Final = 10_000  # of SQLite's own machine, between two looks at the clock
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
        with closing(connect_sqlite(path, read_only=True, immutable=immutable)) as connection:
            _limit(connection, seconds, clock or SystemClock())
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


def _limit(connection: "sqlite3.Connection", seconds: float | None, clock: Clock) -> None:
    if seconds is not None:
        until = clock.monotonic() + seconds
        connection.set_progress_handler(lambda: int(clock.monotonic() > until), _STEPS)


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
