"""The ledger, to be read: nothing is made, nothing is changed."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine

from batcher.errors import UsageError
from batcher.ledger.connect import open_engine, parse_url, place
from batcher.ledger.migrate import require_head


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
