"""Descriptors of SQLite files, closed only when that takes no lock away.

POSIX locks belong to a process and a file: whoever closes any descriptor of the file drops all
of them, also those that SQLite holds for an open connection, and another process may then
remove the log that is still written to. So connections are counted, and a descriptor of ours is
closed after the last one of its file.
"""

import os
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

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
