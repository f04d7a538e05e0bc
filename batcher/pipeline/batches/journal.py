"""What the ledger knows of a run's batches, kept up as they are made, looked at and ended."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

from batcher.clock import Clock
from batcher.ledger.batches import store
from batcher.ledger.batches.store import StoredBatch
from batcher.ledger.connect import Connection
from batcher.ledger.write.records import Scope
from batcher.ledger.write.writer import Writer
from batcher.messages.request import Attempt, BatchState, SeenBatch

T = TypeVar("T")


class BatchJournal:
    """See `transport.endpoint.Journal`; `out` are the batches that are not collected.

    `writer` gives the writer once it is there. `look_up` finds out what became of a create
    whose answer is lost.
    """

    def __init__(
        self,
        writer: Callable[[], Writer],
        scope: Scope,
        clock: Clock,
        out: Iterable[StoredBatch],
        look_up: Callable[[int], Awaitable[None]],
    ) -> None:
        self._writer = writer
        self._scope = scope
        self._clock = clock
        self._look_up = look_up
        self.out = {batch.number: batch for batch in out}

    async def write(self, change: Callable[[Connection], T]) -> T:
        """Make a change durable."""
        return await asyncio.wrap_future(self._writer().call(change))

    async def intended(self, attempts: Sequence[Attempt]) -> int:
        """See `Journal.intended`."""
        scope, now = self._scope, self._clock.now_us()
        model = attempts[0].request.model
        ids = [attempt.attempt_id for attempt in attempts]
        number = await self.write(
            lambda connection: store.intend(
                connection,
                run_id=scope.run_id,
                invocation_id=scope.invocation_id,
                model=model,
                attempt_ids=ids,
                now_us=now,
            )
        )
        self.out[number] = StoredBatch(
            number=number,
            run_id=scope.run_id,
            state=BatchState.CREATING,
            batch_id=None,
            model=model,
            requests=len(attempts),
            intended_at=now,
            created_at=None,
            expires_at=None,
            ended_at=None,
        )
        return number

    async def made(self, number: int, seen: SeenBatch) -> None:
        """See `Journal.made`."""
        await self.seen(number, seen)

    async def seen(self, number: int, seen: SeenBatch) -> None:
        """What the server said of a batch; durable when it differs from what is known."""
        before = self.out[number]
        now = store.as_seen(before, seen)
        if now != before:
            await self.write(lambda connection: store.look(connection, number, seen))
            self.out[number] = now

    async def not_made(self, number: int) -> None:
        """See `Journal.not_made`."""
        now = self._clock.now_us()
        await self.write(lambda connection: store.not_made(connection, number, now))
        self.out.pop(number, None)

    async def lost(self, number: int) -> None:
        """See `Journal.lost`."""
        await self._look_up(number)

    @property
    def rows_out(self) -> int:
        """How many requests the batches hold that are out."""
        return sum(batch.requests for batch in self.out.values())
