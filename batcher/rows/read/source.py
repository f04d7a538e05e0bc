"""Inputs as named on the command line or in a job: which files they are.

Standard input becomes one of them, see `spool`.
"""

import glob
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path, PurePath
from types import MappingProxyType
from typing import BinaryIO, Final, Literal
from urllib.parse import unquote

from batcher.errors import StorageError, UsageError
from batcher.rows.read.spool import MAGIC, is_spooled, spool_stdin

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


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One input file.

    `name` is what reports call it: the argument as typed, for a glob the path it matched.
    `compression` is that of the whole file, `None` for a plain one; Parquet's own is inside.
    """

    name: str
    path: Path
    format: Format
    compression: Compression | None = None

    @property
    def folder(self) -> Path | None:
        """Where files that its rows name are looked for; `None`: rows that were handed over."""
        return None if self.name == STDIN or is_spooled(self.path) else self.path.parent

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

    A folder stands for the files of known kinds in it and below. What begins with a dot or an
    underscore is nobody's data in there: `_SUCCESS`, `.part-0.crc`.

    Relative names are below `base`. `-` is standard input, written to the folder `spool`
    under a name made of its content, so that the same input again is the same source. Those of
    `may_be_missing` may name no file, when the folder given with them is there. Raises
    `UsageError`, naming the input, for what else is missing, no file, of no known kind, or
    named twice.
    """
    sources: list[SourceFile] = []
    seen: dict[tuple[int, int], str] = {}
    for given in inputs:
        for source in _expand(given, base, spool, stdin, may_be_missing.get(given)):
            _refuse_twice(source, seen)
            sources.append(source)
    if not inputs:
        raise UsageError("no input is named; name at least one file, or - for standard input")
    return tuple(sources)


def source_of(name: str, path: Path) -> SourceFile:
    """The source for an existing file; raises `UsageError`.

    Its kind is told by its name, and by its first bytes whether it is packed.
    """
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
        compression = _compression_inside(path)
    if format_ == "parquet" and compression:
        raise UsageError(f"{name}: a compressed Parquet file cannot be read; unpack it first")
    return SourceFile(name, path, format_, compression)


def _compression_inside(path: Path) -> Compression | None:
    """That of a packed file whose name does not say so; no text begins with such bytes."""
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError:
        return None  # reading tells
    kinds = (kind for magic, kind in MAGIC.items() if start.startswith(magic))
    return _COMPRESSIONS.get(Path(next(kinds, "")).suffix)


def fingerprint(path: Path) -> str:
    """Text that changes when the file does: size, mtime in ns, hash of its two ends.

    The ends are 64 KiB each. Raises `StorageError` when the file cannot be read.
    """
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
    _check_name(given)
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
    found = sorted(file for file in folder.rglob("*") if _is_data(file, folder))
    if not found:
        _check_empty(given, inbox, f"no file in this folder is of a known kind ({_KINDS})")
    for file in found:
        yield _checked(_name_of_match(given, file, base), file)


def _is_data(file: Path, folder: Path) -> bool:
    inside = file.relative_to(folder).parts
    if any(part.startswith(_MARKS) for part in inside):
        return False
    kinds = [suffix.lower() for suffix in file.suffixes]
    if kinds and kinds[-1] in _COMPRESSIONS:
        kinds.pop()
    return bool(kinds) and kinds[-1] in _FORMATS and not file.is_dir()


def _check_name(given: str) -> None:
    if not given:
        raise UsageError("an input without a name: check the variable that should hold it")
    if "://" in given:
        raise UsageError(f"{given}: only local files can be read; copy it here first")
    if "\0" in given:
        raise UsageError(f"{given!r}: no file name holds a NUL; check the name")


def _name_of_match(given: str, file: Path, base: Path) -> str:
    relative = not Path(given).is_absolute() and file.is_relative_to(base)
    return str(file.relative_to(base)) if relative else str(file)


def _checked(name: str, path: Path) -> SourceFile:
    try:
        path.stat()
    except FileNotFoundError as exc:
        raise UsageError(f"{name}: no such file; check the name") from exc
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


def _refuse_twice(source: SourceFile, seen: dict[tuple[int, int], str]) -> None:
    status = source.path.stat()
    file = (status.st_dev, status.st_ino)
    if file in seen:
        raise UsageError(f"{source.name}: is the same file as {seen[file]}; name it once")
    seen[file] = source.name
