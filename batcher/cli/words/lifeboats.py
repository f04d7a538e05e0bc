"""What `status`, `verify` and `doctor` say of lifeboats that wait."""

from collections.abc import Sequence
from contextlib import suppress

from batcher.config import environment_settings, lifeboat_folders, read_config
from batcher.errors import BatcherError
from batcher.ledger import runs
from batcher.ledger.connect import reading
from batcher.ledger.handles import Engine
from batcher.ledger.lifeboat.saving import Waiting, harbour, waiting
from batcher.ledger.migrate import current


def lifeboats(engine: Engine, config: str | None) -> Sequence[Waiting]:
    """The lifeboats of this ledger whose outcomes are not in it yet."""
    if current(engine) is None:
        return ()
    configured = None
    with suppress(BatcherError):  # a broken file is told to whoever needs more of it
        configured = environment_settings().lifeboat_folder
        configured = configured or read_config(config).lifeboat_folder
    with reading(engine) as connection:
        uid = runs.database_uid(connection)
    return waiting(harbour(engine.url, uid, *lifeboat_folders(configured)))
