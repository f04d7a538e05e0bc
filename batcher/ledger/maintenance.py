"""What a ledger needs from time to time: upgrading, checking, a copy, purging, and room.

`verify` recomputes what the ledger says, and only reads. It works while a run is on: each check
sees one moment of the database, and the long one, over all charges, reads chunk by chunk, so
that no reader holds back the log of a writer for long.
"""

import os
import resource
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from sqlalchemy import Connection, Engine, select, text

from batcher.clock import Clock
from batcher.errors import CannotCreate, ConfigurationError, StorageError
from batcher.ledger import migrate, purge
from batcher.ledger.connect import (
    engine_at,
    outside_transactions,
    parse_url,
    place,
    reading,
    storage_errors,
    writing,
)
from batcher.ledger.lifeboat.files import sync_folder
from batcher.ledger.owner.database_file import check_log
from batcher.ledger.owner.lock import hold_database
from batcher.ledger.runs import input_files
from batcher.ledger.schema import invocations, metadata
from batcher.ledger.schema_internal import ledger_info
from batcher.ledger.sqlite_file import (
    END_SECONDS,
    LOOK_SECONDS,
    check_whole,
    damaged,
    damages_of,
)
from batcher.ledger.verify.answers import charges_agree, contents_agree
from batcher.ledger.verify.bill import check_bill, read_bill
from batcher.ledger.verify.findings import (
    Findings,
    Verified,
    contradictions,
    keys_in_plain_sight,
)
from batcher.ledger.verify.totals import add_up_anew, budgets_agree, rollups_agree
from batcher.outputs import Guard

if TYPE_CHECKING:
    import sqlite3

_VACUUM = {
    "sqlite": ("VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"),
    "postgresql": ("VACUUM (ANALYZE)",),
}
_SIZE = {
    "sqlite": "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()",
    "postgresql": "SELECT pg_database_size(current_database())",
}
_NO_RIGHTS: Final = text(
    "SELECT name FROM unnest(CAST(:names AS text[])) AS name WHERE NOT"
    " (has_table_privilege(name, 'SELECT') AND has_table_privilege(name, 'INSERT')"
    " AND has_table_privilege(name, 'UPDATE') AND has_table_privilege(name, 'DELETE'))"
)
_USUAL_SPACE: Final = 200_000_000  # bytes
_NO_LEDGER: Final = 10_000_000  # bytes that the file or its log takes soon, whatever is asked
_SMALL_DISK_PART: Final = 10  # of a small file system: a tenth


@dataclass(frozen=True, slots=True, kw_only=True)
class Purged:
    """How many rows of the ledger lost their words, or would.

    `answers` have lost text and content, `unusable` the bytes of what was no Message, `tools`
    the results of local tools, `messages` what a server or a check said about a failure.
    `kept` answers are as old and stay: their requests are not finished, and need them to go on.
    """

    answers: int = 0
    unusable: int = 0
    tools: int = 0
    messages: int = 0
    kept: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Upgraded:
    """The revisions before and after; `before` is `None` when the database was empty."""

    shown: str
    before: str | None
    after: str


def upgrade_database(url: str) -> Upgraded:
    """Bring the ledger at `url` to head while no run is on.

    Raises:
        Busy: a run is on.
        SchemaVersionError: the database is newer than this program.
    """
    shown = parse_url(url).shown
    held = hold_database(url, None, command="batcher db upgrade")
    with held as ownership, engine_at(url) as engine:
        before = migrate.upgrade(engine, fence=ownership.fence)
    return Upgraded(shown=shown, before=before, after=migrate.SHIPPED.head)


def rehearse(url: str) -> bool:
    """Do what a run does to the database at `url`, and take it back; whether it was empty.

    Raises:
        SchemaVersionError, ConfigurationError: what a run would raise.
        StorageError: it cannot be written, or this user lacks a right to a table.
    """
    with (
        engine_at(url) as engine,
        storage_errors(engine.url),
        engine.connect() as connection,  # nothing is committed
    ):
        empty = migrate.create_on(connection)
        connection.execute(ledger_info.insert().values(name="rehearsal", value=""))
        if engine.dialect.name == "postgresql":
            missing = connection.execute(_NO_RIGHTS, {"names": list(metadata.tables)}).scalars()
            if tables := sorted(missing):
                raise StorageError(
                    f"the database {parse_url(url).shown} does not let this user read and write"
                    f" {', '.join(tables)}: grant the rights, see docs/database.md"
                )
        return empty


def current_revision(url: str) -> str | None:
    """The revision of the database at `url`, `None` when it is empty."""
    with engine_at(url, read_only=True) as engine:
        return migrate.current(engine)


def verify(engine: Engine, bill: Path | None = None) -> Verified:
    """Check the whole ledger, beside the `bill` of a simulator if there is one.

    Raises `UsageError` for a file that is no bill, `StorageError` for a damaged SQLite file.
    """
    if path := place(engine).path:
        check_log(path.resolve())
        check_whole(path)
    findings = Findings()
    if bill is not None:
        check_bill(engine, read_bill(bill), findings)
    number_of_answers, number_of_charges = charges_agree(engine, findings)
    with reading(engine) as connection:
        rollups = rollups_agree(connection, findings)
    for check in (contradictions, budgets_agree, keys_in_plain_sight):
        with reading(engine) as connection:
            check(connection, findings)
    return Verified(
        answers=number_of_answers,
        charges=number_of_charges,
        rollups=rollups,
        findings=findings.some,
        problems=findings.count,
    )


def check_database(url: str, *, deep: bool = False) -> list[str]:
    """What is wrong with the ledger at `url`, a line each.

    How its schema differs from what this program expects, and when `deep`, which answers are
    not what was recorded. A SQLite file is read as a whole before.

    Raises:
        StorageError: the file is damaged.
    """
    path = parse_url(url).path
    # PostgreSQL is asked to spell the expected views, as temporary ones.
    with engine_at(url, read_only=path is not None) as engine:
        if path is not None:
            check_whole(path, "integrity_check")
        differences = migrate.check(engine)
        if deep and not differences:  # else there may be nothing to be read
            findings = Findings()
            contents_agree(engine, findings)
            differences = findings.lines
        return differences


def check_after_crash(engine: Engine, clock: Clock) -> str | None:
    """Look for damage in a SQLite file whose last run did not end cleanly; words, if any.

    A look that takes longer than ten seconds is given up, and said. The caller holds the
    database.

    Raises:
        StorageError: it is damaged.
    """
    path = parse_url(engine.url).path
    if path is None:
        return None  # a server looks after its own files
    with reading(engine) as connection:
        if not _ended_uncleanly(connection):
            return None
    damages = damages_of(path, seconds=LOOK_SECONDS, clock=clock)
    if damages is None:
        return (
            "the last run did not end cleanly, and the database is too large to be checked for"
            f" damage in {LOOK_SECONDS:g} s: `batcher db check` does it whole"
        )
    if damages:
        raise damaged(path, damages)
    return "the last run did not end cleanly: the database was checked and is whole"


def check_at_end(engine: Engine, clock: Clock, took_seconds: float) -> None:
    """Look for damage in a SQLite file that is all written, for a hundredth of what a run took.

    Raises:
        StorageError: it is damaged.
    """
    path = place(engine).path
    seconds = max(END_SECONDS, took_seconds / 100)
    damages = damages_of(path, seconds=seconds, clock=clock) if path else None
    if path and damages:
        raise damaged(path, damages)


def _ended_uncleanly(connection: Connection) -> bool:
    latest = select(invocations.c.clean).order_by(invocations.c.invocation_id.desc()).limit(1)
    return connection.execute(latest).scalar() == 0


def backup_database(url: str, target: Path) -> int:
    """Copy the SQLite ledger at `url` to the new file `target`, also while a run is on.

    The copy is one state of the database, complete, read back and found whole, or not there at
    all. Returns its bytes.

    Raises:
        StorageError: the ledger is damaged, and so would its copy be.
        ConfigurationError: the ledger is on PostgreSQL, which has tools of its own.
        CannotCreate: `target` is there already, would be an input's or a ledger's, or cannot be
            written.
    """
    where = parse_url(url)
    if where.path is None:
        raise ConfigurationError(
            f"a PostgreSQL database is backed up with its own tool: pg_dump --format=custom"
            f" --file={target} '{_for_pg_dump(where.shown)}'"
        )
    with engine_at(url, read_only=True) as engine:
        if migrate.current(engine) is None:  # nothing else is copied by mistake
            raise StorageError(f"the database {where.shown} holds no ledger yet to be copied")
        _check_absent(target)
        with reading(engine) as connection:
            kept = Guard(inputs=input_files(connection), ledgers=(where.path,))
        kept.check(target)
        return _copy(engine, target)


def vacuum_database(url: str) -> str:
    """Give unused space back, while no run is on; returns what it brought, to be printed.

    Sums that are not those of their answers are added up anew.

    Raises:
        Busy: a run is on.
    """
    where = parse_url(url)
    with engine_at(url, read_only=True) as engine:
        migrate.require_head(engine)  # a mistyped name makes no new file
    with hold_database(url, None, command="batcher db vacuum"), engine_at(url) as engine:
        before = _size(engine)
        with writing(engine) as connection:
            sums = add_up_anew(connection)
        with outside_transactions(engine) as connection:
            for statement in _VACUUM[engine.dialect.name]:
                connection.exec_driver_sql(statement)
        size = f"{where.shown}: {before:,} bytes before, {_size(engine):,} after"
        return f"{size}; sums that were wrong, and are right now: {sums:,}" if sums else size


def purge_database(url: str, *, before_us: int, dry_run: bool = False) -> Purged:
    """Drop the words of everything older than `before_us` that belongs to an ended invocation.

    Runs may go on meanwhile; interrupted, the same again does the rest. While a run is on, what
    crashed invocations left waits for the next purge. On SQLite the bytes are overwritten, in
    the file and in its WAL, unless a reader holds that; on PostgreSQL their space is given
    free. `dry_run` counts and changes nothing.

    Raises:
        UsageError: there is no such database.
        StorageError: the disk or the database failed.
    """
    with engine_at(url, read_only=True) as engine:
        migrate.require_head(engine)
        if dry_run:
            ended = purge.ended_invocations(engine, url)
            return Purged(**purge.count_words(engine, before_us, ended))
    with engine_at(url) as engine:
        ended = purge.ended_invocations(engine, url)
        dropped = purge.drop_words(engine, before_us, ended)
        purge.overwrite(engine)
        return Purged(**dropped)


def _size(engine: Engine) -> int:
    with reading(engine) as connection:
        return int(connection.exec_driver_sql(_SIZE[engine.dialect.name]).scalar_one())


def _copy(engine: Engine, target: Path) -> int:
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        os.close(os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))
        with storage_errors(engine.url), closing(engine.raw_connection()) as source:
            _copy_pages(cast("sqlite3.Connection", source.driver_connection), part)
        if damages := damages_of(part, "integrity_check", immutable=True):
            raise damaged(place(engine).path or part, damages)
        _check_absent(target)  # it took a while
        part.rename(target)
        sync_folder(target.parent)
    except OSError as error:
        raise CannotCreate(f"the backup {target} cannot be written: {error}") from error
    finally:
        with suppress(OSError):
            part.unlink()
    return target.stat().st_size


def _check_absent(target: Path) -> None:
    if target.exists() or target.is_symlink():
        raise CannotCreate(f"the file {target} is there already: name a new one")


def _copy_pages(source: "sqlite3.Connection", part: Path) -> None:
    import sqlite3  # noqa: PLC0415  as above

    # All pages in one step: one state of the database, and a writer is not held up.
    try:
        with closing(sqlite3.connect(part)) as copy:
            source.backup(copy, pages=-1)
            copy.execute("PRAGMA user_version = 0")  # no run works with it
    except sqlite3.OperationalError as error:
        raise OSError(str(error)) from error  # of the copy: damage is no operational error


def _for_pg_dump(shown: str) -> str:
    return shown.replace("postgresql+psycopg://", "postgresql://", 1)


def check_space(url: str, floor: int | None) -> None:
    """Nothing while the disk has `floor` bytes left; `None`: 200 MB, or a tenth of a small one.

    Nothing either for a server, whose disk is its own affair, and where nobody can tell. The
    same holds for how large the file may become where the system limits that.

    Raises:
        StorageError: there is less; the sentence names the folder and what to do.
    """
    path = parse_url(url).path
    if path is None or floor == 0:
        return
    _check_size(path, floor)
    folder = path.resolve().parent
    try:
        disk = os.statvfs(folder)
    except OSError:
        return  # whoever opens the file says it better
    free, total = disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize
    least = min(_USUAL_SPACE, total // _SMALL_DISK_PART) if floor is None else floor
    if total and free < least:
        raise StorageError(_too_little_space(folder, free, least))


def _check_size(path: Path, floor: int | None) -> None:
    most, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    if most == resource.RLIM_INFINITY:
        return
    size = path.stat().st_size if path.exists() else 0
    least = min(_USUAL_SPACE, most // _SMALL_DISK_PART) if floor is None else floor
    if most - size < max(least, _NO_LEDGER):
        raise StorageError(
            f"a file of this process may have {_megabytes(most)} at most (ulimit -f), and"
            f" {path.name} has {_megabytes(size)}: raise that limit, then type the same command"
            " again"
        )


def _too_little_space(folder: Path, free: int, least: int) -> str:
    return (
        f"the disk of {folder} has {_megabytes(free)} left, less than min_free_space"
        f" ({_megabytes(least)}): free some space, then type the same command again"
    )


def _megabytes(size: int) -> str:
    return f"{size / 1_000_000:,.1f} MB"
