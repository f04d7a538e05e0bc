"""Looks after a run's batches: finds lost ones, looks at others, has ended ones collected."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from batcher.clock import Clock
from batcher.ledger.batches import store
from batcher.ledger.batches.store import StoredBatch
from batcher.messages.request import (
    BATCH_LIFETIME_US,
    BATCH_RESULTS_US,
    Attempt,
    BatchState,
    Outcome,
    SeenBatch,
)
from batcher.pipeline.batches.asking import Batches, GivenUp, LookPace, Recall, Results
from batcher.pipeline.batches.collecting import BatchJournal, Collector, KeeperTies
from batcher.pipeline.engine.work import Underway
from batcher.pipeline.progress import Progress
from batcher.pipeline.run.division import WithBatches
from batcher.pricing.money import format_usd

HOUR_US: Final = 3_600 * 10**6
_CLOCKS_US: Final = 600 * 10**6  # by which the server's clock may differ from ours
_WARN_US: Final = BATCH_RESULTS_US - 4 * 24 * HOUR_US
_SLEEP_SECONDS: Final = 1.0
_LEAST_SECONDS: Final = 0.01
_READINGS: Final = 3  # of results that lack some, before what they lack is in doubt


class BatchKeeper:
    """See `engine.returns.Returns`. Belongs to the event loop's thread.

    `folder` is where results are kept while they are recorded. `recall` says which end early.
    `rows_to_do` are those of batches that were given up, or never made.
    """

    def __init__(  # noqa: PLR0913 - all of them are of one invocation
        self,
        *,
        batches: Batches,
        journal: BatchJournal,
        collector: Collector,
        division: WithBatches,
        clock: Clock,
        folder: Path,
        pace: LookPace,
        recall: Recall,
    ) -> None:
        self._batches = batches
        self._journal = journal
        self._collector = collector
        self._division = division
        self._clock = clock
        self._folder = folder
        self._pace = pace
        self._recall = recall
        self._recalled: dict[int, float] = {}  # when their end was asked for, at first
        self._told_late: set[int] = set()
        # A batch whose create is under way is in none: it is not looked for, nor collected.
        self._next_look = dict.fromkeys(journal.out, 0.0)
        self._others: set[tuple[int, str]] = set()  # (number, id): not what that create made
        self._warned: set[int] = set()
        self._unread: set[int] = set()  # batches whose results were something else
        self.rows_to_do = 0
        self._show(is_looking=True)

    # See `Returns`

    @property
    def rows_awaited(self) -> int:
        """See `Returns.rows_awaited`."""
        return self._journal.rows_out if self._division.waits_for_all else 0

    def went(self, batch: int) -> None:
        """See `Returns.went`."""
        if batch not in self._next_look:
            self._next_look[batch] = self._clock.monotonic() + self._pace.first_seconds
            self._show(is_looking=self._collector.is_busy)

    def outcome(self, attempt: Attempt, underway: Underway) -> Outcome:
        """See `Returns.outcome`."""
        return self._collector.outcome(attempt, underway.batch)

    def settled(self, attempt_id: int) -> None:
        """See `Returns.settled`."""
        self._collector.settled(attempt_id)

    # Looking

    async def run(self, ties: KeeperTies) -> None:
        """Look after all of them until this is cancelled."""
        while True:
            await self._ask_for_ends(ties)
            for number, due in list(self._next_look.items()):
                if self._clock.monotonic() >= due:
                    await self._visit(number, ties)
            await self._mind_late(ties)
            self._show(is_looking=False)
            self.count(ties.progress)
            if self._recall.ends_run and not self._journal.out:
                ties.end()
            await self._clock.sleep(self._until_next())

    def count(self, progress: Progress) -> None:
        """Tell how many rows are out, in how many batches."""
        progress.in_batches = self._journal.rows_out
        progress.batches = len(self._journal.out)

    def _until_next(self) -> float:
        now = self._clock.monotonic()
        dues = [due - now for due in self._next_look.values()]
        return max(min([*dues, self._pace.first_seconds, _SLEEP_SECONDS]), _LEAST_SECONDS)

    def _show(self, *, is_looking: bool) -> None:
        self._division.stands(out=len(self._journal.out), is_looking=is_looking)

    async def _ask_for_ends(self, ties: KeeperTies) -> None:
        out = list(self._journal.out.values())
        due = [
            batch
            for batch in self._recall.due(out, self._clock.now_us())
            if batch.number not in self._recalled and batch.batch_id
        ]
        if due and not self._recall.ends_run:
            await self._say_move(due, ties)
        for batch in due:
            self._recalled[batch.number] = self._clock.monotonic()
            self._next_look[batch.number] = 0.0
        for batch in due:
            if batch.batch_id and (seen := await self._canceled(batch, batch.batch_id)):
                await self._journal.seen(batch.number, seen)

    async def _say_move(self, moving: Sequence[StoredBatch], ties: KeeperTies) -> None:
        numbers = [batch.number for batch in moving]
        rows = sum(batch.requests for batch in moving)
        most = await self._journal.write(lambda c: store.most_they_cost(c, numbers))
        more = "an unknown amount" if most is None else format_usd(most)
        are = "1 row is" if rows == 1 else f"{rows:,} rows are"
        ties.say(
            f"{are} not back: {len(moving):,} of the batches are canceled in time for the"
            f" deadline, and what they did not do goes live, for up to {more} more"
        )

    async def _canceled(self, batch: StoredBatch, batch_id: str) -> SeenBatch | None:
        """How it stands when its end was asked for; `None`: it was not, or nobody told."""
        if batch.number in self._recalled and batch.state is BatchState.IN_PROGRESS:
            return await self._batches.cancel(batch_id)
        return None

    async def _mind_late(self, ties: KeeperTies) -> None:
        """What has not ended when its rows had to go live: they are paid twice, or late."""
        late = self._recall.too_late(list(self._journal.out.values()), self._clock.now_us())
        for batch in late:
            if batch.number in self._told_late or batch.number not in self._next_look:
                continue
            self._told_late.add(batch.number)
            await self._visit(batch.number, ties)  # it may have ended since the last look
            now = self._journal.out.get(batch.number)
            if now is not None and now.state is not BatchState.ENDED:
                await self._not_in_time(now, ties)
            self._plan_next(batch.number)

    async def _not_in_time(self, batch: StoredBatch, ties: KeeperTies) -> None:
        name = f"batch {batch.batch_id or batch.number} ({batch.requests:,} rows)"
        name = f"{name} has not ended in time"
        if not self._recall.pays:
            ties.say(f"{name}: the deadline will be missed; the run goes on until it has ended")
            return
        most = await self._journal.write(lambda c: store.most_they_cost(c, [batch.number]))
        upper = "an unknown amount" if most is None else format_usd(most)
        ties.say(
            f"{name}: --deadline-pays sends its rows live, and what the batch did is paid as"
            f" well, up to {upper}"
        )
        self._show(is_looking=True)
        await self._collector.collect(batch, GivenUp(), ties, gives_up=True)

    async def _visit(self, number: int, ties: KeeperTies) -> None:
        batch = self._journal.out[number]
        if batch.batch_id is None:
            await self._find(batch, ties)
        elif batch.state is BatchState.ENDED:
            await self._collect(batch, batch.batch_id, ties)
        else:
            await self._look(batch, batch.batch_id, ties)
        self._plan_next(number)

    def _plan_next(self, number: int) -> None:
        batch = self._journal.out.get(number)
        if batch is None:
            self._next_look.pop(number, None)
            return
        age = (self._clock.now_us() - batch.began_at) / 1e6
        if (since := self._recalled.get(number)) is not None:
            age = self._clock.monotonic() - since  # it ends soon, whenever it began
        self._next_look[number] = self._clock.monotonic() + self._pace.next_seconds(age)

    async def _look(self, batch: StoredBatch, batch_id: str, ties: KeeperTies) -> None:
        seen = await self._canceled(batch, batch_id) or await self._batches.look(batch_id)
        if seen is not None:
            await self._journal.seen(batch.number, seen)
            if seen.state is BatchState.ENDED:
                await self._collect(self._journal.out[batch.number], batch_id, ties)
        elif self._clock.now_us() > _end_of(batch) + HOUR_US:  # 404 until then says little
            await self._give_up(batch, "cannot be found, and its 24 hours are over", ties)

    async def _collect(self, batch: StoredBatch, batch_id: str, ties: KeeperTies) -> None:
        age = self._clock.now_us() - batch.began_at
        if age > _WARN_US and batch.number not in self._warned:
            self._warned.add(batch.number)
            ties.say(f"the 29 days of the results of batch {batch_id} are nearly over")
        results = await self._results(batch, batch_id, ties)
        if results is None:
            if age > BATCH_RESULTS_US:
                await self._give_up(batch, "has no results any more", ties)
            return
        try:
            if await self._belongs(batch, results):
                self._show(is_looking=True)
                await self._collector.collect(batch, results, ties)
            else:
                await self._let_go(batch, batch_id, ties)
        finally:
            results.close()

    async def _results(
        self, batch: StoredBatch, batch_id: str, ties: KeeperTies
    ) -> Results | None:
        """Those that lack some are read again soon, what is something else another time.

        What lies between may have cut them, or put a page of its own in their place. Who does
        not wait for batches looks once only: so the next reading is in the same look.
        """
        for reading in range(1, _READINGS + 1):
            if reading > 1:
                await self._clock.sleep(self._pace.first_seconds)
            results = await self._batches.results(batch_id, self._folder)
            if results is None or results.left >= batch.requests:
                return results
            if reading == _READINGS and (results.left or not results.unreadable):
                return results
            results.close()
        if batch.number not in self._unread:
            self._unread.add(batch.number)
            ties.say(
                f"the results of batch {batch_id} cannot be read: they are asked for again;"
                f" batcher batches forget {batch.number} gives them up"
            )
        return None

    async def _belongs(self, batch: StoredBatch, results: Results) -> bool:
        """Whether any result is ours; so it is where there is none, or none is awaited."""
        if not results.left:
            return True
        uids = await self._journal.write(lambda c: store.uids_out(c, batch.number))
        return not uids or any(map(results.holds, uids))

    async def _let_go(self, batch: StoredBatch, batch_id: str, ties: KeeperTies) -> None:
        """Somebody took it for ours, and it is not: what became of ours is unknown again."""
        self._others.add((batch.number, batch_id))
        await self._journal.write(lambda c: store.let_go(c, batch.number))
        self._journal.out[batch.number] = replace(
            batch, batch_id=None, state=BatchState.CREATING
        )
        ties.say(f"batch {batch_id} holds none of our requests: it is left alone")

    async def _give_up(self, batch: StoredBatch, why: str, ties: KeeperTies) -> None:
        now = self._clock.now_us()
        count = await self._journal.write(lambda c: store.forget(c, batch.number, now))
        self._release(batch, count)
        ties.say(
            f"batch {batch.batch_id} {why}: {count:,} attempts are in doubt, and may have been"
            " billed; their rows are to do again"
        )

    def _release(self, batch: StoredBatch, rows: int) -> None:
        """Its rows wait for nothing any more; another invocation sends them."""
        self._journal.out.pop(batch.number, None)
        self.rows_to_do += rows
        self._division.leaves_some()

    # A create whose answer is lost

    async def _find(self, batch: StoredBatch, ties: KeeperTies) -> None:
        await self.look_up(batch.number)
        is_over = self._clock.now_us() > batch.intended_at + BATCH_LIFETIME_US + HOUR_US
        if not is_over or self._journal.out[batch.number].batch_id is not None:
            return
        if await self._candidates(batch) == []:
            await self._never_made(batch, ties)

    async def look_up(self, number: int) -> None:
        """Nothing is ours before it has ended and its first result bears one of our names."""
        batch = self._journal.out[number]
        for seen in await self._candidates(batch) or ():
            if seen.state is BatchState.ENDED and await self._is_ours(batch, seen):
                await self._journal.seen(number, seen)
                return

    async def _candidates(self, batch: StoredBatch) -> Sequence[SeenBatch] | None:
        """Those that the create may have made; `None` when the server does not tell."""
        listed = await self._batches.made_since(batch.intended_at - _CLOCKS_US)
        if listed is None:
            return None
        known = await self._journal.write(store.known_batch_ids)
        until = batch.intended_at + HOUR_US + _CLOCKS_US
        return [
            seen
            for seen in listed
            if seen.batch_id not in known
            and (batch.number, seen.batch_id) not in self._others
            and seen.requests == batch.requests
            and seen.created_at <= until
        ]

    async def _is_ours(self, batch: StoredBatch, seen: SeenBatch) -> bool:
        name = await self._batches.first_custom_id(seen.batch_id)
        if name is None:
            return False
        ours = await self._journal.write(lambda c: store.is_ours(c, batch.number, name))
        if not ours:
            self._others.add((batch.number, seen.batch_id))
        return ours

    async def _never_made(self, batch: StoredBatch, ties: KeeperTies) -> None:
        now = self._clock.now_us()
        count = await self._journal.write(
            lambda connection: store.settle_not_made(connection, batch.number, now)
        )
        self._release(batch, count)
        ties.say(
            f"a batch whose create had no answer was never made: {count:,} rows are to do again"
        )


def _end_of(batch: StoredBatch) -> int:
    return max(batch.expires_at or 0, batch.began_at + BATCH_LIFETIME_US)
