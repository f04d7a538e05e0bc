"""Whether the process of an invocation lives, although numbers of processes are used again."""

from contextlib import suppress

import msgspec
from sqlalchemy import Connection, select

from batcher.ledger.connect import place
from batcher.ledger.owner.lock import Holder, lock_path
from batcher.ledger.owner.process import is_living
from batcher.ledger.schema_internal import leases
from batcher.messages.codec import CODEC_ERRORS


def is_the_same(connection: Connection, invocation_id: int, pid: int) -> bool | None:
    """Whether the process that has the number `pid` here is that of the invocation.

    `None`: nobody can tell, since it was started on another machine, in another container or
    before this machine was. Where the ledger does not know its process, it is taken for it.
    """
    path = place(connection.engine).path
    if path is None:
        query = select(leases.c.process).where(leases.c.invocation_id == invocation_id)
        process = connection.scalar(query.limit(1)) or ""
    else:
        lock = lock_path(path.resolve())
        if not lock.exists():  # a copy of the file
            return True
        holder = None
        with suppress(*CODEC_ERRORS, OSError):
            holder = msgspec.json.decode(lock.read_bytes(), type=Holder)
        if holder is None or holder.pid != pid:
            return False  # a run holds the lock from before its invocation until after it
        process = holder.process
    return is_living(process) if process else True
