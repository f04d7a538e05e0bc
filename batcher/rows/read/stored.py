"""Files in object stores: `s3://`, `gs://` and `abfss://`, through pyarrow's file systems.

Who we are and where the store is, the cloud's own variables, files and roles say, never the
URL. An object is read in ranges; what it is told by is its size and its ETag.
"""

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from typing import Any, Final

from batcher.errors import ConfigurationError, StorageError, UsageError

SCHEMES: Final = ("s3", "gs", "abfss")
_SHOWN_SCHEMES: Final = ", ".join(f"{scheme}://" for scheme in SCHEMES)
AHEAD_BYTES: Final = 4 * 2**20  # asked for at once where a file is read from end to end
_URL: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/]*)/?(.*)", re.DOTALL)
_BUCKET: Final = re.compile(r"[\w.@-]+")
_QUERY: Final = re.compile(r"\?[\w.-]+=|[?&](?:sig|x-amz-\w+)=", re.IGNORECASE)
_MAGIC: Final = re.compile(r"[*?\[]")
_LONGEST_PROBLEM: Final = 300


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One object, `url` as it was named; made by `stored_object`."""

    url: str

    @property
    def key(self) -> str:
        """Its name without the bucket."""
        return _parts(self.url)[2]

    def open(self, ahead_bytes: int = AHEAD_BYTES) -> "ObjectReader":
        """Its bytes; raises `FileNotFoundError`, or `StorageError` for other trouble."""
        with trouble(self.url, "cannot be read"):
            return ObjectReader(self.url, self._file(), ahead_bytes)

    def version(self) -> str:
        """Text that changes when the object does: its size, and its ETag in the store's words.

        Raises `StorageError`.
        """
        try:
            with trouble(self.url, "cannot be read"):
                file = self._file()
                size, told = file.size(), file.metadata() or {}
                tags = {_text(name).lower(): _text(value) for name, value in told.items()}
                tag = tags.get("etag") or self._changed_at()
        except FileNotFoundError as exc:
            raise StorageError(f"{self.url}: no such object") from exc
        return f"{size}-{tag}"

    def size_bytes(self) -> int:
        """Its size; raises like `open`."""
        with trouble(self.url, "cannot be read"):
            return int(self._file().size())

    def _file(self) -> Any:  # noqa: ANN401  a NativeFile
        system, place = system_of(self.url)
        return system.open_input_file(place)

    def _changed_at(self) -> str:
        system, place = system_of(self.url)
        return str(system.get_file_info(place).mtime_ns)


def stored_object(url: str) -> StoredObject:
    """The object of that address; raises like `check_url`."""
    check_url(url)
    return StoredObject(url)


class ObjectReader(io.RawIOBase):
    """An object as a file: reads at least `ahead_bytes` at a time, or just what is asked for.

    What the network does to a reading is a `StorageError`, never a damaged file.
    """

    def __init__(self, url: str, file: Any, ahead_bytes: int) -> None:  # noqa: ANN401
        super().__init__()
        self._url, self._file, self._ahead_bytes = url, file, ahead_bytes
        self._size = int(file.size())
        self._at = 0
        self._held, self._held_at = b"", 0

    def readable(self) -> bool:
        """See `io.IOBase`."""
        return True

    def seekable(self) -> bool:
        """See `io.IOBase`."""
        return True

    def tell(self) -> int:
        """See `io.IOBase`."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """See `io.IOBase`."""
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(origin + offset, 0)
        return self._at

    def read(self, size: int = -1, /) -> bytes:
        """All of the `size` bytes, where the object has as many left; -1: all that are left."""
        left = max(self._size - self._at, 0)
        wanted = left if size < 0 else min(size, left)
        start = self._at - self._held_at
        if start < 0 or start + wanted > len(self._held):
            start = 0
            self._held, self._held_at = b"", self._at  # not both in memory
            self._held = self._fetch(max(wanted, min(self._ahead_bytes, left)))
        data = self._held[start : start + wanted]
        self._at += len(data)
        return data

    def readinto(self, buffer: Any, /) -> int:  # noqa: ANN401  of bytes
        """See `io.RawIOBase`."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def _fetch(self, size: int) -> bytes:
        if not size:
            return b""
        try:
            data: bytes = self._file.read_at(size, self._at)
        except OSError as exc:
            raise StorageError(f"{self._url}: reading failed: {_words(exc)}") from exc
        if len(data) != size:
            raise StorageError(f"{self._url}: reading failed: the store sent less than it has")
        return data


def find_objects(url: str) -> list[str]:
    """The addresses of the object, or of those that a glob matches or a folder holds, sorted.

    Of a folder these are all objects below it. Raises `UsageError` where nobody can tell.
    """
    check_url(url)
    try:
        system, place = system_of(url)
        kind = _kind(system, place)
        if kind == "File":
            return [_url_of(url, place)]  # one object has one address, however it is typed
        if kind == "Directory":
            return [_url_of(url, found) for found in _below(system, place)]
        magic = _MAGIC.search(place)
        if magic is None:
            return []
        found_below = _below(system, place[: place.rindex("/", 0, magic.start())])
    except (OSError, ValueError) as exc:
        raise UsageError(f"{url}: cannot be read: {_words(exc)}") from exc
    pattern = place.split("/")
    return [_url_of(url, each) for each in found_below if matches(each.split("/"), pattern)]


def _kind(system: Any, place: str) -> str:  # noqa: ANN401
    """`File`, `Directory` or `NotFound`; some tools mark a folder by an empty object."""
    if "/" not in place:
        return "Directory"
    info = system.get_file_info(place)
    if info.type.name == "File" and not info.size and _below(system, place):
        return "Directory"
    return str(info.type.name)


def _below(system: Any, folder: str) -> list[str]:  # noqa: ANN401
    from pyarrow.fs import FileSelector, FileType  # noqa: PLC0415 - 50 MB and 100 ms

    found = system.get_file_info(FileSelector(folder, recursive=True, allow_not_found=True))
    return sorted(each.path for each in found if each.type == FileType.File)


def matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether a glob finds the name of these parts.

    As the shell has it: `*` stays within a folder, `**` is any number of them.
    """
    if not pattern:
        return not parts
    if pattern[0] == "**" and matches(parts, pattern[1:]):
        return True
    if not parts:
        return False
    if pattern[0] == "**":
        return matches(parts[1:], pattern)
    return fnmatchcase(parts[0], pattern[0]) and matches(parts[1:], pattern[1:])


def check_url(url: str) -> None:
    """Return if something can be read from, or written to, that address.

    Raises:
        ConfigurationError: it holds what may be credentials; it is not repeated.
        UsageError: nothing can be found by it.
    """
    scheme, bucket, _ = _parts(url)
    user, at, _ = bucket.rpartition("@")
    if (at and (scheme != "abfss" or ":" in user)) or _QUERY.search(url):
        raise ConfigurationError(
            "an address holds a user, a key or a query: leave them out, the store's own"
            " variables, files and roles say who you are (docs/object-stores.md)"
        )
    if scheme not in SCHEMES:
        raise UsageError(
            f"{url}: only {_SHOWN_SCHEMES} and local files can be read and written; copy it"
            " there first"
        )
    if not _BUCKET.fullmatch(bucket) or (scheme == "abfss" and not at):
        raise UsageError(
            f"{url}: names no bucket; write s3://bucket/file, gs://bucket/file or"
            " abfss://container@account.dfs.core.windows.net/file"
        )


def system_of(url: str) -> tuple[Any, str]:
    """Pyarrow's file system of that address, and the name in there; raises `OSError`."""
    scheme, bucket, key = _parts(url)
    system, root = _system(scheme, bucket)
    return system, f"{root}/{key}".rstrip("/")


@cache
def _system(scheme: str, bucket: str) -> tuple[Any, str]:
    from pyarrow.fs import FileSystem  # noqa: PLC0415 - 50 MB and 100 ms

    options = "?retry_limit_seconds=60" if scheme == "gs" else ""  # else a quarter of an hour
    system, root = FileSystem.from_uri(f"{scheme}://{bucket}{options}")
    return system, root.rstrip("/")


def _parts(url: str) -> tuple[str, str, str]:
    found = _URL.fullmatch(url)
    return (found[1].lower(), found[2], found[3]) if found else ("", "", "")


def _url_of(url: str, place: str) -> str:
    """The address of what a listing of the same bucket calls `place`."""
    scheme, bucket, _ = _parts(url)
    return f"{scheme}://{bucket}/{place.partition('/')[2]}"


@contextmanager
def trouble(url: str, what: str) -> Iterator[None]:
    """Turn trouble with a store into `StorageError`; that something is missing stays so."""
    try:
        yield
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as exc:
        raise StorageError(f"{url}: {what}: {_words(exc)}") from exc


def _words(exc: Exception) -> str:
    return " ".join(str(exc).split())[:_LONGEST_PROBLEM]


def _text(value: bytes | str) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
