"""The file of a SQLite ledger: where it may lie, how it is made and connected to, its damage.

WAL with `synchronous=FULL`: NORMAL would lose acknowledged transactions, which are paid
answers, when the power fails. Locks of network file systems do not hold, so no file lies on one
unless it is forced.

A descriptor is closed only when that takes no lock away. POSIX locks belong to a process and a
file: whoever closes any descriptor of the file drops all of them, also those that SQLite holds
for an open connection, and another process may then remove the log that is still written to. So
connections are counted, and a descriptor of ours is closed after the last one of its file.
"""

import os
import re
import stat
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from batcher.clock import Clock, SystemClock
from batcher.errors import CannotCreate, ConfigurationError, DamagedDatabase, UsageError
from batcher.ledger.database_errors import BUSY, CORRUPT, INTERRUPT, IOERR, NOTADB

if TYPE_CHECKING:
    import sqlite3

FileId = tuple[int, int]  # device and inode: which file it is, whatever it is called


def file_id(status: os.stat_result) -> FileId:
    """Which file that is."""
    return status.st_dev, status.st_ino


@dataclass(frozen=True, slots=True)
class OpenFiles:
    """The SQLite files that this process has connections to; for any thread."""

    _guard: threading.Lock = field(default_factory=threading.Lock)
    _connections: Counter[FileId] = field(default_factory=Counter)
    _waiting: dict[FileId, list[int]] = field(default_factory=dict)

    def connecting(self, file: FileId) -> None:
        """A connection to the file is about to be opened."""
        with self._guard:
            self._connections[file] += 1

    def disconnected(self, file: FileId) -> None:
        """A connection to the file was closed."""
        with self._guard:
            self._connections[file] -= 1
            if self._connections[file] <= 0:
                del self._connections[file]
                for descriptor in self._waiting.pop(file, ()):
                    os.close(descriptor)

    def close(self, descriptor: int) -> None:
        """Close it, now or after the last connection to its file."""
        file = file_id(os.fstat(descriptor))
        with self._guard:
            if file in self._connections:
                self._waiting.setdefault(file, []).append(descriptor)
            else:
                os.close(descriptor)


OPEN_FILES: Final = OpenFiles()

BUSY_SECONDS = 30
_WAL_ATTEMPTS = 300
_SQLITE_SETTINGS = (
    "PRAGMA synchronous=FULL",
    "PRAGMA fullfsync=1",  # macOS: fsync alone does not reach the disk
    "PRAGMA secure_delete=ON",  # what is dropped is overwritten
    "PRAGMA journal_size_limit=67108864",  # a reader's WAL shrinks again
)
_ALONE = "mode=ro&immutable=1"
_MOUNTS = Path("/proc/self/mountinfo")
# Shared by machines, or by a machine and its host: locks and mapped memory do not hold there.
_REFUSED = frozenset({
    "9p", "acfs", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "drvfs", "fuse", "gfs2",
    "glusterfs", "gpfs", "kafs", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "panfs",
    "prl_fs", "pvfs2", "smb2", "smb3", "smbfs", "v9fs", "vboxsf", "virtiofs", "wekafs",
})  # fmt: skip
# The root of a rootless container: FUSE, and local.
_LOCAL = frozenset({"fuse.fuse-overlayfs"})


def connect_sqlite(
    path: Path, *, read_only: bool, immutable: bool = False
) -> "sqlite3.Connection":
    """A connection to the SQLite file at `path`, durable unless it only reads.

    An `immutable` one is written by nobody meanwhile: nothing is made beside it.
    """
    connection = _counted()(
        path,
        f"file:{quote(str(path))}?{_ALONE if immutable else _mode(path, read_only=read_only)}",
        uri=True,
        timeout=BUSY_SECONDS,
        isolation_level=None,  # `_begin_sqlite` begins
        check_same_thread=False,  # the pool lends a connection to one thread at a time
    )
    try:
        if not read_only:
            _use_wal(connection)
            for setting in _SQLITE_SETTINGS:
                connection.execute(setting)
    except BaseException:
        connection.close()
        raise
    return connection


@cache
def _counted() -> "Callable[..., sqlite3.Connection]":
    """Connections that are counted while they are open, see `OpenFiles`."""
    import sqlite3  # noqa: PLC0415  a process that uses a server does without it

    class CountedConnection(sqlite3.Connection):
        def __init__(self, path: Path, *arguments: Any, **options: Any) -> None:  # noqa: ANN401
            self._file: FileId | None = _identified(path)
            if self._file:
                OPEN_FILES.connecting(self._file)
            try:
                super().__init__(*arguments, **options)
            except BaseException:
                self._closed()
                raise

        def close(self) -> None:
            super().close()
            self._closed()

        def _closed(self) -> None:
            file, self._file = self._file, None  # it may be closed twice
            if file:
                OPEN_FILES.disconnected(file)

    return CountedConnection


def _identified(path: Path) -> FileId | None:
    try:
        return file_id(path.stat())
    except OSError:
        return None  # SQLite says what is wrong


def number_of_commits(path: Path, *, without_log: bool = False) -> int:
    """How many commits the file has of a run that did not end cleanly; 0: there is none.

    Below 0: none since that run began, which cannot be told from a file without its log.
    `without_log`: as the main file says by itself.
    """
    import sqlite3  # noqa: PLC0415  as above

    try:
        opened = connect_sqlite(path, read_only=True, immutable=without_log)
        with closing(opened) as connection:
            (number,) = connection.execute("PRAGMA user_version").fetchone()
    except sqlite3.Error:
        return 0  # whoever works with it says what is wrong
    return int(number)


def _mode(path: Path, *, read_only: bool) -> str:
    if not read_only:
        return "mode=rw"
    # A reader of a WAL needs its index file; where none can be made, nobody can be writing.
    waiting = path.with_name(f"{path.name}-wal").exists()
    return "mode=ro" if waiting or os.access(path.parent, os.W_OK) else _ALONE


def _use_wal(connection: "sqlite3.Connection") -> None:
    import sqlite3  # noqa: PLC0415  as above

    # The switch does not wait for a process that switches at the same moment.
    for _ in range(_WAL_ATTEMPTS):
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != BUSY:
                raise
            threading.Event().wait(0.02)
        else:
            return
    connection.execute("PRAGMA journal_mode=WAL")


def check_file_system(path: Path) -> None:
    """Raise `ConfigurationError` for a network file system, where locks do not hold."""
    kind = network_file_system(path)
    if kind is not None:
        raise ConfigurationError(
            f"the database {path} would lie on a network file system ({kind}), where locks do"
            " not hold: use a local disk or PostgreSQL, or force it with"
            f" --database 'sqlite:///{path}?network=allow'"
        )


def check_one_name(path: Path) -> None:
    """Raise `ConfigurationError` for a file that has several names.

    SQLite keeps a log beside each name: what was committed under one is not seen under another.
    """
    try:
        status = path.stat()
    except OSError:
        return  # whoever opens it says it better
    if status.st_nlink > 1 and stat.S_ISREG(status.st_mode):
        raise ConfigurationError(
            f"the database {path} has {status.st_nlink} names (hard links), and what was"
            " written under one may be missing under another: remove all but one; they are"
            f" listed by find / -xdev -samefile {path}"
        )


def check_exists(path: Path) -> None:
    """Raise `UsageError` when there is no file to read."""
    if not path.is_file():
        raise UsageError(f"there is no database {path}; name it with --database")


def make_file(path: Path) -> None:
    """Make an empty file that only its owner can read; leave one that is there as it is."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        return
    except FileNotFoundError:
        raise CannotCreate(
            f"the database {path} cannot be created: there is no folder {path.parent}; make it,"
            " or name another with --database"
        ) from None
    except OSError as error:
        raise CannotCreate(
            f"the database {path} cannot be created: {error.strerror}; name another with"
            " --database"
        ) from error


def network_file_system(path: Path, mounts: str | None = None) -> str | None:
    """The kind of the network file system that `path` is on, or `None`: local, or not known.

    `mounts` is the text of /proc/self/mountinfo, read when it is not given; where there is none
    (macOS), nothing is known.
    """
    if mounts is None:
        mounts = _MOUNTS.read_text(encoding="utf-8") if _MOUNTS.exists() else ""
    kind = _kind_at(path.resolve(), mounts)
    refused = kind.split(".")[0] in _REFUSED and kind not in _LOCAL
    return kind if refused else None


def _kind_at(path: Path, mounts: str) -> str:
    """The kind of the deepest mount above `path`; on one point, the later lies on top."""
    depth, kind = -1, ""
    for line in mounts.splitlines():
        mount, found = _parse(line)
        if path.is_relative_to(mount) and len(mount.parts) >= depth:
            depth, kind = len(mount.parts), found
    return kind


def _parse(line: str) -> tuple[Path, str]:
    # https://man7.org/linux/man-pages/man5/proc_pid_mountinfo.5.html
    before, after = line.split(" - ", 1)
    mount = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), before.split(" ")[4])
    return Path(mount), after.split(" ", 1)[0]


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
    import sqlite3  # noqa: PLC0415  as above

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
