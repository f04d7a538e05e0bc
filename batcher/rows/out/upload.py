"""An output in an object store: made here, brought there under another name, then moved.

pyarrow publishes what it has of an upload that breaks off: under its own name an output would
look whole and be cut. So it gets that name only when the store has all of it.
"""

import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any, Final

from batcher.errors import BatcherError, CannotCreate, StorageError
from batcher.outputs import Guard
from batcher.rows.read.stored import StoredObject, check_url, system_of, trouble

_AT_ONCE_BYTES: Final = 8 * 2**20
_MOST_MOVED_BYTES: Final = 5 * 2**30  # what S3 copies in one request


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
