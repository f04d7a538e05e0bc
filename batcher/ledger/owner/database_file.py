"""One owner of a SQLite file, whatever it is called and whatever lies beside it.

On Linux the lock is a `flock` on the file itself, which all of its names, links and mounts
share, and which the kernel frees as soon as its holder is killed; SQLite's own locks are of
another kind and are not in its way. On macOS, and where a network file system was forced, the
two kinds meet, so it is on the lock file beside the database. Elsewhere the lock file is
information for people and decides nothing.
"""

import fcntl
import os
import socket
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec
from msgspec.structs import replace

from batcher.clock import SystemClock
from batcher.errors import Busy, CannotCreate, StorageError
from batcher.ledger.connect import DatabaseUrl, user_name
from batcher.ledger.owner.process import this_process
from batcher.ledger.sqlite_file import (
    OPEN_FILES,
    FileId,
    check_file_system,
    check_one_name,
    check_whole,
    file_id,
    make_file,
    network_file_system,
    number_of_commits,
)
from batcher.messages.codec import CODEC_ERRORS

_MICROSECONDS: Final = 1_000_000
_LINUX: Final = sys.platform.startswith("linux")
_MOST_NOTED: Final = 65536  # bytes of a lock file that are read


class LockHolder(msgspec.Struct, frozen=True, kw_only=True):
    """The line in a lock file; `started_at` is ISO-8601 in UTC, `process` as in `process`.

    `commits` is the number of the last commit into a database that was not closed cleanly: the
    file that has less of them lost its log. It has a fixed width, and is last.
    """

    pid: int
    host: str
    user: str
    started_at: str
    command: str
    process: str = ""
    commits: str = f"{0:010}"


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldFile:
    """The file that is held. `file` is `None` where numbers of files change by themselves.

    `note` is the descriptor of its lock file, and `place` where the number of commits stands.
    """

    path: Path
    shown: str
    file: FileId | None
    note: int | None = None
    place: int = 0

    def committed(self, number: int) -> None:
        """Note that so many commits are durable; 0: the file is whole without its log."""
        if self.note is not None:
            with suppress(OSError):
                os.pwrite(self.note, f"{number:010}".encode(), self.place)

    def check(self) -> None:
        """Nothing while it still has its name; one look, cheap enough for every commit.

        SQLite goes on writing into a file that was removed, and all of that is lost at the end.

        Raises:
            StorageError: it was removed, or another one has its name.
        """
        if self.file is None:
            return
        try:
            found = file_id(os.stat(self.path))  # noqa: PTH116 - the hot path
        except OSError:
            found = None
        if found != self.file:
            raise StorageError(
                f"the database {self.shown} was removed or replaced while the run was on: put"
                " the file back or restore a backup, type the same command again, and compare"
                " with the provider's bill"
            )


@contextmanager
def hold_file(where: DatabaseUrl, path: Path, command: str) -> Iterator[HeldFile]:
    """Be the only owner of the file at `path` while the body lasts; made when it is not there.

    Raises:
        Busy: somebody else holds it.
        CannotCreate: it cannot be made.
        ConfigurationError: it has several names, or lies where locks do not hold.
    """
    if not where.any_file_system:
        check_file_system(path)
    locked = _locked(where, path)
    try:
        check_one_name(path)
        check_log(path)
        by_number = None if where.any_file_system else file_id(os.fstat(locked.database))
        before = _noted(locked.note)
        line = msgspec.json.encode(_holder(command, before))
        locked.say(line + b"\n")
        yield HeldFile(
            # As it was named: a link that leads elsewhere now leads the next run there, too.
            path=where.path or path,
            shown=where.shown,
            file=by_number,
            note=locked.note,
            place=len(line) - len('0000000000"}'),
        )
        left = _noted(locked.note)
        open_still = left is not None and int(left.commits)
        locked.say(msgspec.json.encode(replace(left, pid=0)) if left and open_still else b"")
    finally:
        locked.release()


def check_log(path: Path) -> None:
    """Nothing while the SQLite file at `path` has, with its log, all that was committed.

    A run numbers its commits in the file, and notes the last number beside it until it ends
    cleanly. Once SQLite has opened a file whose log is gone, that looks like a whole one. Where
    nothing is noted, the file itself says that a run began in it, and that nothing came after.

    Raises:
        StorageError: it has less: its log was removed or replaced, or it was copied alone.
        DamagedDatabase: the log of another file is beside it, and the two make no whole one.
    """
    for _ in range(2):  # a run may have begun or ended between the looks
        noted = _commits_noted(path)  # first: a run that is on only adds
        found = number_of_commits(path)
        if not found:  # it was closed cleanly, or is a backup of ours
            return
        if abs(found) >= noted and (found > 0 or noted or _has_log(path)):
            _check_mix(path)
            return
    lacks = f"{noted - abs(found):,} commits" if noted else "what was committed last"
    raise StorageError(
        f"the database {path} lacks {lacks}: {path}-wal was removed or replaced, or is beside"
        " another name of the file; put it back, or go on with what is left by naming the copy"
        " that `batcher db backup` makes of it, and compare with the provider's bill"
    )


def _check_mix(path: Path) -> None:
    """Look closely where a log has commits of a run of which the file itself says nothing.

    So it is with a backup that was put in the place of a file whose log is still there: SQLite
    reads the pages of both as one database.
    """
    if _has_log(path) and not number_of_commits(path, without_log=True):
        check_whole(path, "integrity_check")


def _has_log(path: Path) -> bool:
    with suppress(OSError):
        return path.with_name(f"{path.name}-wal").stat().st_size > 0
    return False


def _commits_noted(path: Path) -> int:
    with suppress(OSError, ValueError):
        holder = holder_of(path)
        return int(holder.commits) if holder else 0
    return 0


def lock_path(database: Path) -> Path:
    """The file that says who holds the SQLite file `database`."""
    return database.with_name(f"{database.name}.lock")


def holder_of(database: Path) -> LockHolder | None:
    """Who the lock file says holds it; `None` where it says nothing that can be understood.

    Raises `FileNotFoundError` where there is none.
    """
    descriptor = os.open(lock_path(database), _READING)
    try:
        return _noted(descriptor)
    except OSError:
        return None
    finally:
        os.close(descriptor)


# Not through a link, and not waiting for the other end of a pipe.
_READING: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_NOTING: Final = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


@dataclass(frozen=True, slots=True, kw_only=True)
class _Locked:
    """Descriptors of the database and of its lock file, which may be missing on Linux."""

    database: int
    note: int | None
    lock: int  # the one of the two that is locked

    def say(self, line: bytes) -> None:
        """Write it into the lock file; a full disk is told by those who need the room."""
        if self.note is not None:
            with suppress(OSError):
                os.ftruncate(self.note, 0)
                os.pwrite(self.note, line, 0)

    def release(self) -> None:
        """Free the lock; the files stay, or two could hold it."""
        with suppress(OSError):
            fcntl.flock(self.lock, fcntl.LOCK_UN)  # the descriptor may be kept for a while
        OPEN_FILES.close(self.database)
        if self.note is not None:
            os.close(self.note)


def _locked(where: DatabaseUrl, path: Path) -> _Locked:
    while True:
        locked = _open(path)
        try:
            _lock(locked, where)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(locked.database), path.stat()):
                    return locked
        except BaseException:
            locked.release()
            raise
        locked.release()  # replaced between opening and locking: nobody's any more


def _open(path: Path) -> _Locked:
    make_file(path)
    database = _open_database(path)
    note = _open_note(lock_path(path))
    if _LINUX and network_file_system(path) is None:
        return _Locked(database=database, note=note, lock=database)
    if note is None:
        OPEN_FILES.close(database)
        raise CannotCreate(
            f"the lock file {lock_path(path)} cannot be opened: check the permissions of its"
            " folder, and remove what lies there if it is no ordinary file"
        )
    return _Locked(database=database, note=note, lock=note)


def _open_database(path: Path) -> int:
    flags = os.O_CLOEXEC | os.O_NONBLOCK
    try:
        try:
            return os.open(path, os.O_RDWR | flags)
        except PermissionError:
            return os.open(path, os.O_RDONLY | flags)  # SQLite says that it cannot be written
    except OSError as error:
        raise CannotCreate(
            f"the database {path} cannot be opened: {error.strerror}; check its permissions, or"
            " name another with --database"
        ) from error


def _open_note(path: Path) -> int | None:
    """The lock file, made when it is not there; `None`: it is no file of its own."""
    try:
        descriptor = os.open(path, _NOTING, 0o600)
    except OSError:
        return None
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode) and status.st_nlink == 1:
        return descriptor
    os.close(descriptor)  # writing would change what somebody keeps under another name
    return None


def _lock(locked: _Locked, where: DatabaseUrl) -> None:
    try:
        fcntl.flock(locked.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Busy(
            f"another run holds the database {where.shown}{_described(locked.note)}; run the"
            " same command again when it has ended"
        ) from None
    except OSError as error:
        raise StorageError(
            f"the database {where.shown} cannot be locked: {error.strerror}; use a local disk"
        ) from error


def _described(note: int | None) -> str:
    """Who the lock file says it is; nothing while the holder is about to write it."""
    holder = _noted(note)
    if holder is None:
        return ""
    return (
        f": process {holder.pid} of {holder.user} on {holder.host}, since"
        f" {holder.started_at} ({holder.command})"
    )


def _noted(descriptor: int | None) -> LockHolder | None:
    if descriptor is None:
        return None
    with suppress(*CODEC_ERRORS, OSError):
        return msgspec.json.decode(os.pread(descriptor, _MOST_NOTED, 0), type=LockHolder)
    return None


def _holder(command: str, before: LockHolder | None) -> LockHolder:
    return LockHolder(
        pid=os.getpid(),
        host=socket.gethostname(),
        user=user_name(),
        started_at=iso(SystemClock().now_us()),
        command=command,
        process=this_process(),
        commits=before.commits if before else f"{0:010}",
    )


def iso(microseconds: int) -> str:
    """That moment as people read it, in UTC."""
    return f"{datetime.fromtimestamp(microseconds // _MICROSECONDS, UTC):%Y-%m-%dT%H:%M:%SZ}"
