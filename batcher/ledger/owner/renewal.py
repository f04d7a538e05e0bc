"""Keeps a lease alive, from a thread with a connection of its own."""

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from batcher.clock import boot_seconds
from batcher.errors import BatcherError, Busy
from batcher.ledger.connect import writing
from batcher.ledger.owner.lease import (
    FRESH_PART,
    RENEWALS,
    Lease,
    fenced,
    release,
    renew,
)

_AGAIN_SECONDS: Final = 1.0  # after a renewal that failed


class Keeper:
    """Renews `lease` until `close`, by connections of `engine`.

    `changed` is called in the keeper's thread when `is_fresh` or `lost` may have changed.
    """

    def __init__(self, engine: Engine, lease: Lease) -> None:
        self.lease = lease
        self.lost: Busy | None = None
        self.changed: Callable[[], object] = lambda: None
        self._engine = engine
        self._fresh_until = boot_seconds() + lease.seconds * FRESH_PART
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lease-keeper", daemon=True)
        self._thread.start()

    @property
    def is_fresh(self) -> bool:
        """Whether the lease is ours for sure: nobody can have followed us yet."""
        return self.lost is None and boot_seconds() < self._fresh_until

    def close(self) -> None:
        """Give the lease back. Blocks."""
        self._ending.set()
        self._thread.join()
        with suppress(BatcherError, SQLAlchemyError), writing(self._engine) as connection:
            release(connection, self.lease)  # else it ends by itself

    def _run(self) -> None:
        pause = every = self.lease.seconds / RENEWALS
        while self.lost is None and not self._ending.wait(pause):
            try:
                self._renew()
                pause = every
            except (BatcherError, SQLAlchemyError):  # the server is gone: connect anew
                self._engine.dispose()
                pause = min(every, _AGAIN_SECONDS)

    def _renew(self) -> None:
        before, was_fresh = boot_seconds(), self.is_fresh
        with writing(self._engine) as connection:
            ours = renew(connection, self.lease)
            self.lost = None if ours else fenced(connection, self.lease)
        if ours:
            self._fresh_until = before + self.lease.seconds * FRESH_PART
        if not (ours and was_fresh):
            with suppress(RuntimeError):  # the event loop to be told is closed: the run is over
                self.changed()
