"""The ledger, to be read: nothing is made, nothing is changed."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from sqlalchemy import Engine

from batcher.errors import UsageError
from batcher.ledger.connect import open_engine, parse_url, place, reading
from batcher.ledger.migrate import require_head
from batcher.ledger.runs import database_uid


@contextmanager
def ledger_to_read(url: str) -> Iterator[Engine]:
    """A read-only engine for the ledger at `url`, closed at the end.

    Raises `UsageError` when there is no such file, `SchemaVersionError` when the ledger is
    older or newer than this program, `StorageError` when it holds no ledger or cannot be read.
    """
    where = parse_url(url)
    if where.path is not None and not where.path.is_file():
        raise UsageError(
            f"there is no database {where.shown}: `batcher run` makes one, or name another with"
            " --database"
        )
    engine = open_engine(url, read_only=True)
    try:
        require_head(engine)
        yield engine
    finally:
        engine.dispose()


def shown(engine: Engine) -> str:
    """The ledger's address, safe to print."""
    return place(engine).shown


@contextmanager
def ledgers_to_read(urls: Sequence[str]) -> Iterator[tuple[Engine, ...]]:
    """Read-only engines for several ledgers, in order.

    Raises like `ledger_to_read`, and `UsageError` when two are the same ledger, or copies of
    it: then its money would count twice.
    """
    with ExitStack() as stack:
        engines = tuple(stack.enter_context(ledger_to_read(url)) for url in urls)
        if len(engines) > 1:
            _require_different(engines)
        yield engines


def _require_different(engines: Sequence[Engine]) -> None:
    known: dict[str, str] = {}
    for engine in engines:
        with reading(engine) as connection:
            uid = database_uid(connection)
        if uid in known:
            raise UsageError(
                f"{known[uid]} and {shown(engine)} are the same ledger, or copies of it: its"
                " money would count twice"
            )
        known[uid] = shown(engine)
