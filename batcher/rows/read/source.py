"""Inputs as named on the command line or in a job: which files they are.

Files of this machine, objects in stores, or standard input, kept as a file: see `spool`.
"""

import glob
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path, PurePath
from types import MappingProxyType
from typing import BinaryIO, Final, Literal, cast
from urllib.parse import unquote

from batcher.errors import ConfigurationError, StorageError, UsageError, no_such_file
from batcher.outputs import is_url
from batcher.rows.read.spool import MAGIC, is_spooled, spool_stdin
from batcher.rows.read.stored import (
    AHEAD_BYTES,
    StoredObject,
    check_url,
    find_objects,
    matches,
    stored_object,
)

Format = Literal["jsonl", "parquet", "csv"]
Compression = Literal["gz", "zst", "bz2"]

_FORMATS: Final[dict[str, Format]] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json-lines": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".csv": "csv",
    ".tsv": "csv",
}
_KINDS: Final = " ".join(_FORMATS)
_COMPRESSIONS: Final[dict[str, Compression]] = {".gz": "gz", ".zst": "zst", ".bz2": "bz2"}
_EDGE_BYTES: Final = 64 * 1024
STDIN: Final = "-"


Place = Path | StoredObject


def place_of(location: str) -> Place:
    """The file or object of a `location`."""
    return stored_object(location) if is_url(location) else Path(location)


def location_of(place: Place) -> str:
    """Where it is, however it was typed: a path without links, or an address."""
    return str(place.resolve()) if isinstance(place, Path) else place.url


def shown(given: str) -> str:
    """The name of an input for people: an address that may hold a key is not repeated."""
    if not is_url(given):
        return given
    try:
        check_url(given)
    except ConfigurationError:
        return f"{given.partition('://')[0]}://… (an address with a user, a key or a query)"
    except UsageError:
        return given  # of no store that is known, and without a secret
    return given


def is_there(place: Place) -> bool:
    """Whether it can be read, as far as is known without reading it."""
    if isinstance(place, Path):
        return place.is_file()
    try:
        place.version()
    except StorageError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One input file.

    `name` is what reports call it: the argument as typed, for a glob the path it matched.
    `place` is a file of this machine or an object in a store. `compression` is that of the
    whole file, `None` for a plain one; Parquet's own is inside.
    """

    name: str
    place: Place
    format: Format
    compression: Compression | None = None

    @property
    def path(self) -> Path | None:
        """The file, where it is one of this machine."""
        return self.place if isinstance(self.place, Path) else None

    @property
    def location(self) -> str:
        """Where it is, however it was typed."""
        return location_of(self.place)

    @property
    def folder(self) -> Path | None:
        """Where files that its rows name are looked for; `None`: they may name none."""
        if self.name == STDIN or self.path is None or is_spooled(self.path):
            return None
        return self.path.parent

    @property
    def file_name(self) -> str:
        """Its name without folders; that of standard input tells its kind."""
        return PurePath(self.location).name

    def open(self, ahead_bytes: int = AHEAD_BYTES) -> BinaryIO:
        """Its bytes, unbuffered; raises `OSError` or `StorageError`.

        Of an object at least `ahead_bytes` are asked for at a time.
        """
        if isinstance(self.place, Path):
            return cast("BinaryIO", self.place.open("rb", buffering=0))
        return cast("BinaryIO", self.place.open(ahead_bytes))

    def size_bytes(self) -> int:
        """Its size, packed as it is; raises `OSError` or `StorageError`."""
        if isinstance(self.place, Path):
            return self.place.stat().st_size
        return self.place.size_bytes()

    def fingerprint(self) -> str:
        """See `fingerprint`."""
        return fingerprint(self.place)

    @property
    def partitions(self) -> dict[str, str | None]:
        """The columns that the folders in its name say, as Hive does: `year=2026/`."""
        folders = PurePath(self.name).parts[:-1]
        pairs = [folder.partition("=") for folder in folders if folder.find("=") > 0]
        return {unquote(name): _partition(value) for name, _, value in pairs}


def _partition(value: str) -> str | None:
    return None if value == "__HIVE_DEFAULT_PARTITION__" else unquote(value)


def find_sources(
    inputs: Sequence[str],
    *,
    base: Path,
    spool: Path | None,
    stdin: BinaryIO | None = None,
    may_be_missing: Mapping[str, Path] = MappingProxyType({}),
) -> tuple[SourceFile, ...]:
    """The files that `inputs` name, in that order; those of one glob or folder sorted by name.

    An address names an object in a store, a glob of them or what a folder is there.
    A folder stands for the files of known kinds in it and below. What begins with a dot or an
    underscore is nobody's data in there: `_SUCCESS`, `.part-0.crc`.

    Relative names are below `base`. `-` is standard input, written to the folder `spool`
    under a name made of its content, so that the same input again is the same source. Those of
    `may_be_missing` may name no file, when the folder given with them is there. Raises
    `UsageError`, naming the input, for what else is missing, no file, of no known kind, or
    named twice.
    """
    sources: list[SourceFile] = []
    seen: dict[str | tuple[int, int], str] = {}
    for given in inputs:
        _check_name(given)
        if is_url(given):
            files = _in_store(given, may_be_missing=given in may_be_missing)
        else:
            files = _expand(given, base, spool, stdin, may_be_missing.get(given))
        for source in files:
            _refuse_twice(source, seen)
            sources.append(source)
    if not inputs:
        raise UsageError("no input is named; name at least one file, or - for standard input")
    return tuple(sources)


def source_of(name: str, place: Place) -> SourceFile:
    """The source for an existing file or object; raises `UsageError`, or `StorageError`.

    Its kind is told by its name, and by its first bytes whether it is packed.
    """
    path = place if isinstance(place, Path) else PurePath(place.key)
    suffixes = [suffix.lower() for suffix in path.suffixes]
    compression = _COMPRESSIONS.get(suffixes[-1]) if suffixes else None
    if compression:
        suffixes.pop()
    format_ = _FORMATS.get(suffixes[-1]) if suffixes else None
    if format_ is None:
        raise UsageError(
            f"{name}: unknown kind of file; known are {_KINDS}, "
            f"the text ones also with {' '.join(_COMPRESSIONS)}"
        )
    if format_ != "parquet" and compression is None:
        compression = _compression_inside(place)
    if format_ == "parquet" and compression:
        raise UsageError(f"{name}: a compressed Parquet file cannot be read; unpack it first")
    return SourceFile(name, place, format_, compression)


def _compression_inside(place: Place) -> Compression | None:
    """That of a packed file whose name does not say so; no text begins with such bytes."""
    try:
        with place.open("rb") if isinstance(place, Path) else place.open(0) as file:
            start = file.read(4)
    except OSError:
        return None  # reading tells
    kinds = (kind for magic, kind in MAGIC.items() if start.startswith(magic))
    return _COMPRESSIONS.get(Path(next(kinds, "")).suffix)


def input_naming(inputs: Sequence[str], base: Path, target: str) -> str | None:
    """Which glob or folder of `inputs` would take what is at `target` for one of its own."""
    if is_url(target):
        return next((each for each in inputs if _would_find(each, target)), None)
    file = Path(os.path.realpath(target))
    for given in inputs:
        if given == STDIN or is_url(given):
            continue
        path = base / os.path.expanduser(given)  # noqa: PTH111 - raises nothing for an unknown user
        if os.path.isdir(path):  # noqa: PTH112 - raises nothing for a long name
            folder = Path(os.path.realpath(path))
            if file.is_relative_to(folder) and _is_data(file, folder):
                return given
        elif glob.has_magic(given) and matches(file.parts, Path(os.path.realpath(path)).parts):
            return None if file.name.startswith(_MARKS) else given
    return None


def _would_find(given: str, url: str) -> bool:
    if not is_url(given):
        return False
    pattern = given.rstrip("/")
    found = url.startswith(f"{pattern}/") or matches(url.split("/"), pattern.split("/"))
    return found and url != given and _is_data(PurePath(url), PurePath(given))


def fingerprint(place: Place) -> str:
    """Text that changes when the file does: size, mtime in ns, hash of its two ends.

    The ends are 64 KiB each. Of an object: its size and ETag. Raises `StorageError` when it
    cannot be read.
    """
    return _of_file(place) if isinstance(place, Path) else place.version()


def _of_file(path: Path) -> str:
    try:
        status = path.stat()
        with path.open("rb") as file:
            edges = blake2b(file.read(_EDGE_BYTES), digest_size=16)
            file.seek(max(status.st_size - _EDGE_BYTES, 0))
            edges.update(file.read(_EDGE_BYTES))
    except OSError as exc:
        raise StorageError(f"{path}: cannot be read: {exc.strerror}") from exc
    return f"{status.st_size}-{status.st_mtime_ns}-{edges.hexdigest()}"


def _expand(
    given: str, base: Path, spool: Path | None, stdin: BinaryIO | None, inbox: Path | None
) -> Iterator[SourceFile]:
    if given == STDIN:
        if spool is None:
            raise UsageError("-: standard input cannot be used here; name a file")
        yield source_of(STDIN, spool_stdin(spool, stdin))
        return
    path = base / os.path.expanduser(given)  # noqa: PTH111 - raises nothing for an unknown user
    if os.path.isdir(path):  # noqa: PTH112 - raises nothing for a long name
        yield from _in_folder(given, path, base, inbox)
        return
    is_there = os.path.exists(path)  # noqa: PTH110 - nor for a long name
    if is_there or not (inbox or glob.has_magic(given)):
        yield _checked(given, path)
        return
    matches = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207 - absolute patterns
    files = [Path(match) for match in matches if not Path(match).is_dir()]
    if not Path(given).name.startswith(_MARKS):
        files = [file for file in files if not file.name.startswith(_MARKS)]
    if not files:
        _check_empty(given, inbox, "no file matches; check the pattern")
    for file in files:
        yield _checked(_name_of_match(given, file, base), file)


def _in_store(given: str, *, may_be_missing: bool) -> Iterator[SourceFile]:
    if not _is_utf8(given):
        raise UsageError(f"{given!r:.300}: the name is not UTF-8; rename it")
    found = find_objects(given)
    if found == [given]:
        yield source_of(given, StoredObject(given))
        return
    chosen = [url for url in found if _is_data(PurePath(url), PurePath(given))]
    if not (chosen or may_be_missing):
        what = f"no object there is of a known kind ({_KINDS})" if found else "no such object"
        raise UsageError(f"{given}: {what}; check the name")
    for url in chosen:
        yield source_of(url, StoredObject(url))


_MARKS: Final = (".", "_")  # of files that writers leave beside their data


def _check_empty(given: str, inbox: Path | None, problem: str) -> None:
    """Raise unless there may be nothing, and a folder where there is nothing."""
    if inbox is None:
        raise UsageError(f"{given}: {problem}")
    if not inbox.is_dir():
        raise UsageError(f"{given}: there is no folder {inbox}; check the name")


def _in_folder(
    given: str, folder: Path, base: Path, inbox: Path | None
) -> Iterator[SourceFile]:
    below = (file for file in folder.rglob("*") if _is_data(file, folder))
    found = sorted(file for file in below if not file.is_dir())
    if not found:
        _check_empty(given, inbox, f"no file in this folder is of a known kind ({_KINDS})")
    for file in found:
        yield _checked(_name_of_match(given, file, base), file)


def _is_data(file: PurePath, folder: PurePath) -> bool:
    """Whether its name is that of data, below `folder`, or below what a glob stands for."""
    inside = file.relative_to(folder).parts if file.is_relative_to(folder) else file.parts[-1:]
    if any(part.startswith(_MARKS) for part in inside):
        return False
    kinds = [suffix.lower() for suffix in file.suffixes]
    if kinds and kinds[-1] in _COMPRESSIONS:
        kinds.pop()
    return bool(kinds) and kinds[-1] in _FORMATS


def _check_name(given: str) -> None:
    if not given:
        raise UsageError("an input without a name: check the variable that should hold it")
    if "\0" in given:
        raise UsageError(f"{given!r}: no file name holds a NUL; check the name")


def _name_of_match(given: str, file: Path, base: Path) -> str:
    relative = not Path(given).is_absolute() and file.is_relative_to(base)
    return str(file.relative_to(base)) if relative else str(file)


def _checked(name: str, path: Path) -> SourceFile:
    try:
        path.stat()
    except FileNotFoundError as exc:
        raise UsageError(no_such_file(name, path)) from exc
    except OSError as exc:
        raise UsageError(f"{name}: cannot be read: {exc.strerror}") from exc
    if not is_on_disk(path, path.stat()):
        raise UsageError(f"{name}: is no regular file; use - and standard input instead")
    if not _is_utf8(str(path.resolve())):
        raise UsageError(f"{name!r:.300}: the name is not UTF-8; rename the file or its folder")
    try:
        path.open("rb").close()
    except OSError as exc:
        raise UsageError(f"{name}: cannot be read: {exc.strerror}") from exc
    return source_of(name, path)


# What lies there looks like files and is none: without an end, without a size, not twice alike.
_OF_THE_SYSTEM: Final = ("/proc", "/sys")


def is_on_disk(path: Path, status: os.stat_result) -> bool:
    """Whether `path`, of that `status`, is a file with an end, which can be read again."""
    if not stat.S_ISREG(status.st_mode):
        return False
    real = path.resolve()
    return not any(real.is_relative_to(folder) for folder in _OF_THE_SYSTEM)


def _is_utf8(name: str) -> bool:
    """Whether a database can hold it: bytes of other encodings come as halves of surrogates."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _refuse_twice(source: SourceFile, seen: dict[str | tuple[int, int], str]) -> None:
    file: str | tuple[int, int] = source.location
    if isinstance(source.place, Path):
        status = source.place.stat()
        file = (status.st_dev, status.st_ino)
    if file in seen:
        raise UsageError(f"{source.name}: is the same file as {seen[file]}; name it once")
    seen[file] = source.name
