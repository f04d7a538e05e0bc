"""Who may run at once: on SQLite one run per file, on PostgreSQL one process per run.

On SQLite the file is locked (see `database_file`). On PostgreSQL it is a lease (see `lease`):
a row, so nothing is left behind by a session that a pooler gives to others.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, Engine, select

from batcher.errors import Busy
from batcher.ledger.connect import (
    DatabaseUrl,
    application_name,
    engine_at,
    parse_url,
    place,
    writing,
)
from batcher.ledger.migrate import current, prepare, require_head
from batcher.ledger.owner.database_file import HeldFile, hold_file, holder_of, iso
from batcher.ledger.owner.lease import (
    ALL,
    LEASE_SECONDS,
    Keeper,
    Lease,
    LeaseHeld,
    bind,
    fence,
    keep_from_all,
    most_idle_ms,
    run_lease,
    say_pod,
    take,
    take_all,
)
from batcher.ledger.owner.process import is_living, is_of_pod
from batcher.ledger.owner.sharing import check_alone, join
from batcher.ledger.schema_internal import leases
from batcher.ledger.server import MOST_IDLE


@dataclass(frozen=True, slots=True, kw_only=True)
class Ownership:
    """What is held. `created`: a server's database was empty, its tables were just made.

    `keeper` keeps the lease on PostgreSQL; `None` where the kernel's lock is enough, or there
    is nothing yet to be held. `file` is what is locked on SQLite. `waited_seconds` were spent
    until another run had ended.
    """

    created: bool = False
    keeper: Keeper | None = None
    file: HeldFile | None = None
    waited_seconds: float = 0.0

    @property
    def lease(self) -> Lease | None:
        """What write transactions must name; `None`: nothing."""
        return self.keeper.lease if self.keeper else None

    @property
    def lost(self) -> Busy | None:
        """Why it is not held any more; `None` as long as it may be."""
        return self.keeper.lost if self.keeper else None

    def may_send(self) -> bool:
        """Whether nobody can have followed us yet: only then may something leave."""
        return self.keeper is None or self.keeper.is_fresh

    def watch(self, changed: Callable[[], object]) -> None:
        """Call `changed`, in another thread, when `lost` or `may_send` may have changed."""
        if self.keeper:
            self.keeper.changed = changed

    def check_file(self) -> None:
        """Nothing while the SQLite file that is held still has its name.

        Raises `StorageError` when it was removed or replaced.
        """
        if self.file:
            self.file.check()

    def fence(self, connection: Connection) -> None:
        """Begin a write transaction outside of the writer; raises `Fenced`."""
        if self.keeper:
            fence(connection, self.keeper.lease, 0)

    def bind(self, connection: Connection, invocation_id: int) -> None:
        """Say which invocation works under what is held; raises `Fenced`."""
        if self.keeper:
            bind(connection, self.keeper.lease, invocation_id)


NOTHING_HELD: Final = Ownership()


@contextmanager
def hold_database(
    url: str,
    run_key: str | None,
    *,
    command: str,
    lease_seconds: float = LEASE_SECONDS,
    together: bool = False,
    pod: str = "",
) -> Iterator[Ownership]:
    """Be the only run while the body lasts; no waiting.

    On SQLite the whole file is held. On PostgreSQL it is the run named `run_key`, and other
    runs go on beside it; `None` asks for all of the database, which is free when no run is on.
    `command` is told to whoever comes second. A child process that executes something does not
    inherit the lock. On PostgreSQL tables are made for a run, and another process may follow
    one that was silent for `lease_seconds`. `together`: others may do the same run at the same
    time, if they say so too; on PostgreSQL only. `pod` is the one that we are in, if any.

    Raises:
        Busy: somebody else holds it; the sentence says who, since when.
        CannotCreate: the file cannot be made.
        ConfigurationError: the file has several names, or lies where locks do not hold.
        SchemaVersionError: the server's database is older or newer than this program.
    """
    where = parse_url(url)
    if where.path is None:
        how = _How(seconds=lease_seconds, together=together, pod=pod)
        with _hold_server(url, run_key, how) as ownership:
            yield ownership
        return
    # Behind a link is the same database, so it says who holds it in the same place.
    with hold_file(where, where.path.resolve(), command) as file:
        yield Ownership(file=file)


# --- PostgreSQL


@dataclass(frozen=True, slots=True, kw_only=True)
class _How:
    """See `hold_database`."""

    seconds: float
    together: bool
    pod: str


@contextmanager
def _hold_server(url: str, run_key: str | None, how: _How) -> Iterator[Ownership]:
    with engine_at(url) as engine:
        held = _hold_all(engine, how) if run_key is None else _hold_run(engine, run_key, how)
        with held as ownership:
            yield ownership


@contextmanager
def _hold_all(engine: Engine, how: _How) -> Iterator[Ownership]:
    """Nobody works, and nobody who wakes up later can write."""
    if current(engine) is None:  # nobody works without tables
        yield NOTHING_HELD
        return
    owner = application_name()
    with _taking(engine) as connection:
        lease = take_all(connection, owner=owner, seconds=how.seconds)
    with _kept(engine, lease) as keeper:
        yield Ownership(keeper=keeper)


@contextmanager
def _hold_run(engine: Engine, run_key: str, how: _How) -> Iterator[Ownership]:
    created = prepare(engine).created
    owner = application_name()
    with _taking(engine) as connection:
        keep_from_all(connection)
        if how.together:
            lease = join(connection, run_key, owner=owner, seconds=how.seconds)
        else:
            lease = take(connection, run_lease(run_key), owner=owner, seconds=how.seconds)
            check_alone(connection, run_key)
        say_pod(connection, lease, how.pod)
    with _kept(engine, lease) as keeper:
        require_head(engine)  # nobody changes it from now on, but somebody may have until now
        yield Ownership(created=created, keeper=keeper)


@contextmanager
def _taking(engine: Engine) -> Iterator[Connection]:
    """A transaction that takes leases; whoever has one is told of."""
    try:
        with writing(engine) as connection:
            yield connection
    except LeaseHeld as held:
        raise _busy(place(engine), held) from None


@contextmanager
def _kept(engine: Engine, lease: Lease) -> Iterator[Keeper]:
    keeper = Keeper(engine.execution_options(**{MOST_IDLE: most_idle_ms(lease)}), lease)
    try:
        yield keeper
    finally:
        keeper.close()


def _busy(where: DatabaseUrl, held: LeaseHeld) -> LeaseHeld:
    if held.holder and held.holder.name == ALL:
        what = "another command uses all of the database"
    else:
        what = "another run is on in the database"
    who = f": {held.holder.owner}, since {iso(held.holder.acquired_at)}" if held.holder else ""
    return LeaseHeld(
        f"{what} {where.shown}{who}; run the same command again when it has ended",
        held.holder,
    )


def may_end_soon(busy: Busy, pod: str) -> bool:
    """Whether who has the lease was a container of `pod`, ours, which started again since then.

    Nobody can tell whether it lives: if it does not, its lease ends by itself.
    """
    holder = busy.holder if isinstance(busy, LeaseHeld) else None
    return holder is not None and is_of_pod(holder.process, pod)


def is_process_of(connection: Connection, invocation_id: int, pid: int) -> bool | None:
    """Whether the process that has the number `pid` here is that of the invocation.

    `None`: nobody can tell, since it was started on another machine, in another container or
    before this machine was. Where the ledger does not know its process, it is taken for it.
    """
    path = place(connection.engine).path
    if path is None:
        query = select(leases.c.process).where(leases.c.invocation_id == invocation_id)
        process = connection.scalar(query.limit(1)) or ""
    else:
        try:
            holder = holder_of(path.resolve())
        except FileNotFoundError:  # a copy of the file
            return True
        except OSError:
            return None
        if holder is None or holder.pid != pid:
            return False  # a run holds the lock from before its invocation until after it
        process = holder.process
    return is_living(process) if process else True
