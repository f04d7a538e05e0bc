"""Where an output goes: standard output, a file that appears whole or not at all, a store.

What goes to an object store is made here, brought there under another name, then moved. pyarrow
publishes what it has of an upload that breaks off: under its own name an output would look
whole and be cut. So it gets that name only when the store has all of it.
"""

import gzip
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Final, cast

from batcher.errors import BatcherError, CannotCreate, StorageError
from batcher.outputs import NOTHING_KEPT, Guard, is_opened_already, is_url, never, visible
from batcher.rows.out.spooled import ByteStream
from batcher.rows.read.stored import StoredObject, check_url, system_of, trouble

_AT_ONCE_BYTES: Final = 8 * 2**20
_MOST_MOVED_BYTES: Final = 5 * 2**30  # what S3 copies in one request
_FRAME_BYTES: Final = 1 << 20  # of zstd


class Sink:
    """One output: `stream` takes its bytes, `commit` makes it appear, `discard` forgets it.

    A regular file is written beside its target, readable by its owner only unless the target
    was there, and renamed onto it; behind a link it is the file that is replaced, not the link.
    What goes to an object store is written here and brought there at the end.
    `-` and targets that are no regular files (pipes, devices) are written as it goes. A name
    that ends in .gz or .zst is packed. Raises `CannotCreate` when the target cannot be written,
    or may not be: see `Guard.check_replaceable`.
    """

    def __init__(
        self,
        target: str,
        guard: Guard = NOTHING_KEPT,
        is_ours: Callable[[Path], bool] = never,
        *,
        is_our_object: Callable[[StoredObject], bool] = never,
        stdout: BinaryIO | None = None,
    ) -> None:
        self.name = target
        self.path = None if target == "-" or is_url(target) else Path(target)
        self._guard = guard
        self._is_ours = is_ours
        self._is_our_object = is_our_object
        self._temporary: Path | None = None
        self._upload: Upload | None = None
        try:
            self._file = self._open(stdout)
        except OSError as exc:
            raise CannotCreate(f"{target}: cannot be written: {exc.strerror}") from exc
        self.stream: ByteStream = _packer(self._file, target)

    def _open(self, stdout: BinaryIO | None) -> BinaryIO:
        if is_url(self.name):
            return self._open_for_store()
        if self.path is None:
            out = stdout or sys.stdout.buffer
            return cast("BinaryIO", TerminalStream(out)) if out.isatty() else out
        if self.path.is_dir():
            raise CannotCreate(f"{self.name}: is a folder; name a file")
        if is_opened_already(self.path):  # emptied by whoever opened it, if by anybody
            self._guard.check(self.path)
            return self.path.open("ab")
        self._guard.check_replaceable(self.path, self._is_ours)
        if self.path.exists() and not self.path.is_file():
            return self.path.open("wb")
        self.path = Path(os.path.realpath(self.path))
        folder = self.path.parent
        number, name = tempfile.mkstemp(dir=folder, prefix=f".{self.path.name}.")
        self._temporary = Path(name)
        if self.path.exists():
            self._temporary.chmod(stat.S_IMODE(self.path.stat().st_mode))
        return os.fdopen(number, "wb")

    def _open_for_store(self) -> BinaryIO:
        number, name = tempfile.mkstemp(prefix="batcher-output-")
        self._temporary = Path(name)
        file = os.fdopen(number, "wb")
        try:
            mark = self._temporary.name.rpartition("-")[2]
            self._upload = Upload(self.name, self._guard, self._is_our_object, mark)
        except BaseException:
            file.close()
            self._temporary.unlink()
            raise
        return file

    def commit(self) -> None:
        """Make the output appear under its name, for good.

        Raises `StorageError`, and `CannotCreate` when something else has that name by now.
        """
        with storage_errors(self.name):
            if self.stream is not self._file:
                self.stream.close()
            self._file.flush()
            if self._upload is not None and self._temporary is not None:
                self._file.close()
                self._upload.publish(self._temporary)
                self._temporary.unlink()
                return
            if self.path is None:
                return
            if self._temporary is not None:
                os.fsync(self._file.fileno())
            self._file.close()
            if self._temporary is not None:
                self._guard.check_replaceable(self.path, self._is_ours)
                self._temporary.replace(self.path)
                _sync_folder(self.path.parent)

    def discard(self) -> None:
        """Leave the target as it was; what went to a pipe stays there."""
        if self.path is None and self._upload is None:
            return
        for stream in (self.stream, self._file):  # or a packer writes its end later, to nothing
            with suppress(OSError, ValueError):
                stream.close()
        if self._temporary is not None:
            self._temporary.unlink(missing_ok=True)


class TerminalStream:
    """Takes whole lines for a terminal, which shows what would steer it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.flush, self.close = file.flush, file.close

    def write(self, data: bytes) -> int:
        """All of `data`; see `visible`."""
        self._file.write(visible(data.decode(errors="backslashreplace")).encode())
        return len(data)


@contextmanager
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


class Upload:
    """The way of one output to `url`; `is_ours` tells whether an object was written by us.

    Raises `CannotCreate` at once where nothing can be written, or must not be: see
    `Guard.check_stored`.
    """

    def __init__(
        self, url: str, guard: Guard, is_ours: Callable[[StoredObject], bool], mark: str
    ) -> None:
        check_url(url)
        self._url, self._guard, self._is_ours = url, guard, is_ours
        try:
            with trouble(url, "cannot be written"):
                self._system, self._place = system_of(url)
                if "/" not in self._place or url.endswith("/"):
                    raise CannotCreate(f"{url}: is a folder; name a file")
                place = PurePosixPath(self._place)
                self._temporary = str(place.with_name(f".{place.name}.{mark}"))
                self._check()
                self._open_stream().close()
        except (StorageError, FileNotFoundError) as exc:
            raise CannotCreate(str(exc)) from exc
        self.forget()

    def publish(self, file: Path) -> None:
        """Bring `file` there, whole or not at all; raises `StorageError` or `CannotCreate`."""
        size = file.stat().st_size
        if self._url.startswith("s3:") and size > _MOST_MOVED_BYTES:
            raise StorageError(
                f"{self._url}: {size:,} bytes are more than S3 moves into place"
                f" ({_MOST_MOVED_BYTES:,}); name a local file and copy it there"
            )
        try:
            with trouble(self._url, "writing failed"):
                self._bring(file, size)
                self._check()
                self._system.move(self._temporary, self._place)
        except BaseException as exc:
            self.forget()
            if isinstance(exc, FileNotFoundError):
                raise StorageError(f"{self._url}: writing failed: {exc}") from exc
            raise

    def forget(self) -> None:
        """Leave nothing there under the temporary name, if the store allows it."""
        with suppress(OSError, BatcherError):
            self._system.delete_file(self._temporary)

    def _open_stream(self) -> Any:  # noqa: ANN401  a NativeFile
        return self._system.open_output_stream(self._temporary, compression=None)

    def _bring(self, file: Path, size: int) -> None:
        with file.open("rb") as ours, self._open_stream() as there:
            shutil.copyfileobj(ours, there, _AT_ONCE_BYTES)
        arrived = self._system.get_file_info(self._temporary).size
        if arrived != size:
            raise StorageError(
                f"{self._url}: writing failed: the store has {arrived or 0:,} of {size:,} bytes"
            )

    def _check(self) -> None:
        self._guard.check_stored(self._url, self._is_replaceable)

    def _is_replaceable(self) -> bool | None:
        info = self._system.get_file_info(self._place)
        if info.type.name == "Directory":
            raise CannotCreate(f"{self._url}: is a folder; name a file")
        if info.type.name == "NotFound" or not info.size:
            return None
        return self._is_ours(StoredObject(self._url))
