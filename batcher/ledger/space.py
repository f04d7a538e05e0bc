"""How much room the disk under a SQLite ledger has; admission stops before SQLite fails."""

import os
from pathlib import Path
from typing import Final

from batcher.errors import StorageError
from batcher.ledger.address import parse_url

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


def _sentence(folder: Path, free: int, least: int) -> str:
    return (
        f"the disk of {folder} has {_megabytes(free)} left, less than min_free_space"
        f" ({_megabytes(least)}): free some space, then type the same command again"
    )


def _megabytes(size: int) -> str:
    return f"{size / 1_000_000:,.1f} MB"
