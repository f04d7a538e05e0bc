"""Where written rows go: a file that appears whole or not at all, or standard output."""

import contextlib
import gzip
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from batcher.errors import CannotCreate, StorageError

_FRAME_BYTES: Final = 1 << 20


class ByteStream(Protocol):
    """What a writer needs of a stream."""

    def write(self, data: bytes, /) -> object:
        """Take all of `data`."""

    def flush(self) -> None:
        """Pass on what is held back."""

    def close(self) -> None:
        """End the stream."""


class Sink:
    """One output: `stream` takes its bytes, `commit` makes it appear, `discard` forgets it.

    A regular file is written beside its target, readable by its owner only, and renamed onto
    it. `-` and targets that are no regular files (pipes, devices) are written as it goes. A
    name that ends in .gz or .zst is packed. Raises `CannotCreate` when the target cannot be
    written.
    """

    def __init__(self, target: str, *, stdout: BinaryIO | None = None) -> None:
        self.name = target
        self.path = None if target == "-" else Path(target)
        self._temporary: Path | None = None
        try:
            self._file = self._open(stdout)
        except OSError as exc:
            raise CannotCreate(f"{target}: cannot be written: {exc.strerror}") from exc
        self.stream: ByteStream = _packer(self._file, target)

    def _open(self, stdout: BinaryIO | None) -> BinaryIO:
        if self.path is None:
            return stdout or sys.stdout.buffer
        if self.path.is_dir():
            raise CannotCreate(f"{self.name}: is a folder; name a file")
        if self.path.exists() and not self.path.is_file():
            return self.path.open("wb")
        folder = self.path.parent
        number, name = tempfile.mkstemp(dir=folder, prefix=f".{self.path.name}.")
        self._temporary = Path(name)
        return os.fdopen(number, "wb")

    def commit(self) -> None:
        """Make the output appear under its name, for good; raises `StorageError`."""
        with storage_errors(self.name):
            if self.stream is not self._file:
                self.stream.close()
            self._file.flush()
            if self.path is None:
                return
            if self._temporary is not None:
                os.fsync(self._file.fileno())
            self._file.close()
            if self._temporary is not None:
                self._temporary.replace(self.path)
                _sync_folder(self.path.parent)

    def discard(self) -> None:
        """Leave the target as it was; what went to a pipe stays there."""
        if self.path is None:
            return
        for stream in (self.stream, self._file):  # or a packer writes its end later, to nothing
            with contextlib.suppress(OSError, ValueError):
                stream.close()
        if self._temporary is not None:
            self._temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def storage_errors(name: str) -> Iterator[None]:
    """Turn trouble with the disk into `StorageError`; a reader that went away is none."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as exc:
        raise StorageError(f"{name}: writing failed: {exc.strerror or exc}") from exc


def _packer(file: BinaryIO, target: str) -> ByteStream:
    if target.endswith(".gz"):
        return gzip.GzipFile(fileobj=file, mode="wb", compresslevel=6, mtime=0)
    if target.endswith(".zst"):
        return _ZstdFrames(file)
    return file


class _ZstdFrames:
    """Packs what is written, a frame per megabyte; leaves the file below open."""

    def __init__(self, file: BinaryIO) -> None:
        import pyarrow as pa  # noqa: PLC0415 - only where asked for

        self._file = file
        self._compress = pa.Codec("zstd").compress
        self._held: list[bytes] = []
        self._held_bytes = 0

    def write(self, data: bytes, /) -> int:
        self._held.append(data)
        self._held_bytes += len(data)
        if self._held_bytes >= _FRAME_BYTES:
            self.flush()
        return len(data)

    def flush(self) -> None:
        if self._held_bytes:
            self._file.write(self._compress(b"".join(self._held), asbytes=True))
        self._held, self._held_bytes = [], 0

    def close(self) -> None:
        self.flush()


def _sync_folder(folder: Path) -> None:
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
