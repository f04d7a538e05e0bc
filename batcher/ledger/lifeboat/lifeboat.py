"""Where paid answers go when the database fails: a file of their own, made durable at once.

Room for it is reserved when a run begins, since the usual reason is a full disk: the reserved
file becomes the lifeboat by a rename, and what is written into it needs no further block. Where
that place fails too, the next folder is tried. The next start takes everything into the ledger
before anything else (`batcher.ledger.lifeboat.restore`).
"""

import fcntl
import os
import stat
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy import URL, Connection, Engine

from batcher.clock import Clock
from batcher.errors import SchemaVersionError
from batcher.ledger import runs
from batcher.ledger.connect import parse_url, reading
from batcher.ledger.lifeboat.files import (
    MAGIC,
    OF_ANOTHER,
    OF_ANOTHER_HISTORY,
    LifeboatHeader,
    create_locked,
    frame,
    pack,
    pack_header,
    read_frames,
    remove_durably,
    sync_folder,
)
from batcher.ledger.lifeboat.restore import (
    Imported,
    import_lifeboats,
    is_of_history,
    record_late,
)
from batcher.ledger.migrate import current
from batcher.ledger.write.encode import kept
from batcher.ledger.write.records import Scope, Settlement
from batcher.messages.answer import Store

_LEAST_ROOM: Final = 4 * 2**20
_ROOM_FOR_EACH: Final = 32 * 2**10  # bytes of one answer in flight
_BOAT, _BALLAST = ".lifeboat-", ".ballast-"


@dataclass(frozen=True, slots=True, kw_only=True)
class LifeboatPlaces:
    """The folders in which lifeboats of one ledger may lie, the best first.

    Beside the SQLite `file` they are named like that; elsewhere by the ledger's own random
    name, since other ledgers may have theirs there too.
    """

    database_uid: str
    file: Path | None
    folders: Sequence[Path]

    def path(self, folder: Path, kind: str, invocation_id: int) -> Path:
        """The place of a lifeboat, or of the room for one, in `folder`."""
        return folder / f"{self._stem(folder)}{kind}{invocation_id}"

    @property
    def usable(self) -> list[Path]:
        """Those of the folders that can be written, or made; the others are of no help."""
        return list(filter(can_be_written, self.folders))

    @property
    def nowhere_words(self) -> str:
        """What to say where none of them can be written."""
        return (
            "paid answers could be kept nowhere if the database failed: make one of these a"
            f" folder that can be written: {', '.join(map(str, self.folders))}"
        )

    def found(self, kind: str = _BOAT) -> list[Path]:
        """What lies there, oldest first: our own regular files only."""
        paths: list[Path] = []
        for folder in self.folders:
            beginning = self._stem(folder) + kind
            with suppress(OSError):
                paths += [path for path in folder.iterdir() if _is_numbered(path, beginning)]
        return sorted(filter(_is_ours, paths), key=lambda p: int(p.name.rpartition("-")[2]))

    def waiting(self, connection: Connection) -> "list[WaitingLifeboat]":
        """The lifeboats that lie there, for the ledger at `connection`; reads only."""
        return [_waiting(path, self.database_uid, connection) for path in self.found()]

    def import_into(self, engine: Engine, clock: Clock) -> Imported:
        """Record every lifeboat that lies there, then remove it; the caller holds the database.

        Raises:
            StorageError: the ledger fails again, or a lifeboat cannot be read; it stays.
            SchemaVersionError: another version of the program wrote it; it stays.
        """
        return import_lifeboats(engine, self.found(), self.database_uid, clock)

    def _stem(self, folder: Path) -> str:
        beside = self.file is not None and folder == self.file.parent
        return self.file.name if self.file and beside else f"batcher-{self.database_uid}"


def places_for(
    url: str | URL, database_uid: str, folder: Path | None = None, spare: Sequence[Path] = ()
) -> LifeboatPlaces:
    """Where lifeboats of the ledger at `url` may lie.

    In `folder` where one is configured; beside the SQLite file, for a server in the current
    folder; at last in the `spare` folders.
    """
    path = parse_url(url).path
    file = path.resolve() if path else None  # beside the file itself, not beside a link to it
    chosen = [] if folder is None else [folder]
    folders = [*chosen, file.parent if file else Path.cwd(), *spare]
    return LifeboatPlaces(
        database_uid=database_uid, file=file, folders=tuple(dict.fromkeys(folders))
    )


def can_be_written(folder: Path) -> bool:
    """Tried with a file that has no name; of a folder that is not there, where it would be."""
    there = next((each for each in (folder, *folder.parents) if each.exists()), folder)
    try:
        with tempfile.TemporaryFile(dir=there):
            return True
    except OSError:
        return False


def _is_numbered(path: Path, beginning: str) -> bool:
    return path.name.startswith(beginning) and path.name[len(beginning) :].isdecimal()


def _is_ours(path: Path) -> bool:
    """Whether nobody else can have put it there: some folders are everybody's."""
    try:
        status = path.lstat()
    except OSError:
        return False
    return stat.S_ISREG(status.st_mode) and status.st_uid in {os.geteuid(), 0}


class Lifeboat:
    """Takes the settlements of one invocation when its ledger fails. Belongs to one thread.

    Room for `in_flight` answers is reserved at once, as far as the disk has it; `None`: none.
    """

    def __init__(
        self,
        places: LifeboatPlaces,
        scope: Scope,
        clock: Clock,
        *,
        in_flight: int | None = None,
        store: Store = Store.FULL,
    ) -> None:
        self._places = places
        self._scope = scope
        self._clock = clock
        self._store = store
        self._untried = list(places.folders)
        self._ballast = None if in_flight is None else self._reserve(in_flight)
        self._file: int | None = None
        self._checksum = 0
        self.cause = ""
        self.paths: list[Path] = []
        self.saved = 0
        self.lost = 0

    def save(self, settlements: Sequence[Settlement]) -> bool:
        """Make them durable somewhere; those that no folder takes are counted as `lost`."""
        payloads = [pack(kept(settlement, self._store)) for settlement in settlements]
        while payloads and (self._file is not None or self._launch()):
            try:
                self._append(payloads)
            except OSError:
                self._leave()
                continue
            self.saved += len(payloads)
            return True
        self.lost += len(payloads)
        return False

    def close(self) -> None:
        """Give back the room that was not needed."""
        if self._file is not None:
            with suppress(OSError):
                os.ftruncate(self._file, os.lseek(self._file, 0, os.SEEK_CUR))
                os.fsync(self._file)
            self._leave()
        self._drop_ballast()

    def discard(self) -> None:
        """Everything is in the ledger after all: nothing waits any more."""
        self.close()
        for path in self.paths:
            remove_durably(path)
        self.paths.clear()

    def record_late(
        self, engine: Engine, settlements: Sequence[Settlement], *, exit_code: int
    ) -> None:
        """A last try of the run that failed: its unsaved settlements, and that it ended.

        Raises:
            StorageError: the ledger fails again, or is an older state that knows no such run.
        """
        record_late(
            engine,
            self._scope,
            settlements,
            self._clock,
            store=self._store,
            exit_code=exit_code,
        )

    # Where it lies

    def _reserve(self, in_flight: int) -> tuple[int, Path] | None:
        """A file with blocks of its own; `None` where there is no room, or no such thing."""
        folder = self._places.folders[0]
        path = self._places.path(folder, _BALLAST, self._scope.invocation_id)
        try:
            _sweep(self._places)
            descriptor = create_locked(path)
        except OSError:
            return None
        try:
            os.posix_fallocate(descriptor, 0, _LEAST_ROOM + in_flight * _ROOM_FOR_EACH)
        except OSError:
            os.close(descriptor)
            with suppress(OSError):
                path.unlink()
            return None
        return descriptor, path

    def _launch(self) -> bool:
        """Begin a lifeboat in the best folder that was not tried; `False`: none is left."""
        while self._untried:
            folder = self._untried.pop(0)
            path = self._places.path(folder, _BOAT, self._scope.invocation_id)
            try:
                self._file = self._open(path)
                self._write(MAGIC)
                self._checksum = 0
                self._append([pack_header(self._header())])
                sync_folder(folder)
            except OSError:
                self._leave()
                continue
            self.paths.append(path)
            return True
        return False

    def _open(self, path: Path) -> int:
        """The reserved file under its new name, or a new one."""
        ballast, self._ballast = self._ballast, None
        if ballast is None:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            return create_locked(path)
        descriptor, reserved = ballast
        try:
            if path.exists():  # of a ledger that had this name before
                raise FileExistsError(path)
            reserved.rename(path)
        except OSError:
            os.close(descriptor)
            with suppress(OSError):
                reserved.unlink()
            return create_locked(path)
        return descriptor

    def _append(self, payloads: Sequence[bytes]) -> None:
        """Whole frames, durable when this returns; what fails half-way is not counted."""
        checksum, frames = self._checksum, []
        for payload in payloads:
            framed, checksum = frame(payload, checksum)
            frames.append(framed)
        self._write(b"".join(frames))
        self._checksum = checksum

    def _write(self, text: bytes) -> None:
        assert self._file is not None  # noqa: S101 - the callers opened it
        rest = memoryview(text)
        while rest:
            rest = rest[os.write(self._file, rest) :]
        os.fsync(self._file)

    def _leave(self) -> None:
        if self._file is not None:
            with suppress(OSError):
                os.close(self._file)
        self._file = None

    def _drop_ballast(self) -> None:
        ballast, self._ballast = self._ballast, None
        if ballast is not None:
            os.close(ballast[0])
            with suppress(OSError):
                ballast[1].unlink()

    def _header(self) -> LifeboatHeader:
        return LifeboatHeader(
            database_uid=self._places.database_uid,
            scope=self._scope,
            written_at=self._clock.now_us(),
            cause=self.cause,
            store=self._store,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingLifeboat:
    """A lifeboat that nobody imported yet; `problem` says why it cannot be read, if so."""

    path: Path
    outcomes: int
    written_at: int | None
    problem: str = ""

    @property
    def invocation_id(self) -> int | None:
        """Whose outcomes it holds; `None` when it is not of this ledger as it is."""
        if self.problem in {OF_ANOTHER, OF_ANOTHER_HISTORY}:
            return None
        return int(self.path.name.rpartition("-")[2])

    @property
    def words(self) -> str:
        """One sentence for people."""
        if self.problem:
            return f"the lifeboat {self.path} cannot be recorded: {self.problem}"
        return (
            f"the lifeboat {self.path} holds {self.outcomes:,} outcomes that are not in the"
            " ledger yet: type the run's command again, and it records them first"
        )


def waiting_for(
    engine: Engine, folder: Path | None, spare: Sequence[Path]
) -> list[WaitingLifeboat]:
    """The lifeboats of a ledger whose outcomes are not in it yet; see `places_for`."""
    if current(engine) is None:
        return []
    with reading(engine) as connection:
        uid = runs.database_uid(connection)
        return places_for(engine.url, uid, folder, spare).waiting(connection)


def _waiting(path: Path, database_uid: str, connection: Connection) -> WaitingLifeboat:
    try:
        contents = read_frames(path.read_bytes())
    except (OSError, SchemaVersionError) as error:
        return WaitingLifeboat(path=path, outcomes=0, written_at=None, problem=str(error))
    header, settlements = contents.header, contents.settlements
    problem = ""
    if header and header.database_uid != database_uid:
        problem = OF_ANOTHER
    elif header and not is_of_history(connection, header.scope, settlements):
        problem = OF_ANOTHER_HISTORY
    return WaitingLifeboat(
        path=path,
        outcomes=0 if problem else len(settlements),
        written_at=header.written_at if header and not problem else None,
        problem=problem,
    )


def _sweep(places: LifeboatPlaces) -> None:
    """Remove what killed runs had reserved; that of a living one is locked."""
    for path in places.found(_BALLAST):
        with suppress(OSError), path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
