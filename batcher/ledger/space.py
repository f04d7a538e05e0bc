"""How much room the disk under a SQLite ledger has; admission stops before SQLite fails."""

import os
from pathlib import Path
from typing import Final

from batcher.errors import StorageError
from batcher.ledger.connect import parse_url

_USUAL: Final = 200_000_000
_PART: Final = 10  # of a small file system: a tenth


def check_space(url: str, floor: int | None) -> None:
    """Nothing while the disk has `floor` bytes left; `None`: 200 MB, or a tenth of a small one.

    Nothing either for a server, whose disk is its own affair, and where nobody can tell.

    Raises:
        StorageError: there is less; the sentence names the folder and what to do.
    """
    path = parse_url(url).path
    if path is None or floor == 0:
        return
    folder = path.resolve().parent
    try:
        disk = os.statvfs(folder)
    except OSError:
        return  # whoever opens the file says it better
    free, total = disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize
    least = min(_USUAL, total // _PART) if floor is None else floor
    if total and free < least:
        raise StorageError(_sentence(folder, free, least))


def file_of(url: str) -> tuple[int, int] | None:
    """Which file the SQLite ledger at `url` is, whatever its name; `None` for a server.

    Also where numbers of files may change by themselves: on a forced network file system.

    Raises:
        StorageError: there is no such file any more.
    """
    where = parse_url(url)
    if where.path is None or where.any_file_system:
        return None
    try:
        status = where.path.stat()
    except OSError as error:
        raise StorageError(_taken_away(where.shown)) from error
    return status.st_dev, status.st_ino


def check_file(url: str, file: tuple[int, int] | None) -> None:
    """Nothing while the ledger is still the same `file` that `file_of` told.

    SQLite goes on writing into a file that was removed, and everything is lost at the end.

    Raises:
        StorageError: it was removed, or another one has its name.
    """
    if file is not None and file_of(url) != file:
        raise StorageError(_taken_away(parse_url(url).shown))


def _taken_away(shown: str) -> str:
    return (
        f"the database {shown} was removed or replaced while the run was on: what was recorded"
        " since is lost with it; put the file back or restore a backup, type the same command"
        " again, and compare with the provider's bill"
    )


def _sentence(folder: Path, free: int, least: int) -> str:
    return (
        f"the disk of {folder} has {_megabytes(free)} left, less than min_free_space"
        f" ({_megabytes(least)}): free some space, then type the same command again"
    )


def _megabytes(size: int) -> str:
    return f"{size / 1_000_000:,.1f} MB"
