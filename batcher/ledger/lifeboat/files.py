"""The files of lifeboats: ours alone, locked while they are written, durable when they go."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from batcher.ledger.lifeboat.frames import (
    Contents,
    read_frames,
)

OF_ANOTHER: Final = "it belongs to another ledger, which had this name before; move it away"
OF_ANOTHER_HISTORY: Final = (
    "it belongs to another history of this ledger, such as that before a backup was put back;"
    " move it away to go on without its answers"
)


@contextmanager
def held(path: Path) -> Iterator[Contents | None]:
    """The contents of a lifeboat that is nobody else's now; `None` while its run still writes.

    Raises `SchemaVersionError` when a newer program wrote it, `OSError` when it is unreadable.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        yield read_frames(path.read_bytes())
    finally:
        os.close(descriptor)


def remove_durably(path: Path) -> None:
    """Remove a file so that a power cut does not bring it back."""
    with suppress(OSError):
        path.unlink()
        sync_folder(path.parent)


def create_locked(path: Path) -> int:
    """A new file of ours alone, locked until it is closed."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(path, flags, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return descriptor


def sync_folder(folder: Path) -> None:
    """Make what was made, renamed or removed in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
