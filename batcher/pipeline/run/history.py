"""Requests that earlier invocations began: their rows go on where they stood."""

from collections import deque
from collections.abc import Collection, Hashable, Sequence

from batcher.ledger.resume import EarlierAnswer, Unfinished
from batcher.messages.attempt import Purpose
from batcher.messages.request import Request
from batcher.pipeline.engine.policies import AnswerPolicy
from batcher.pipeline.engine.work import Work
from batcher.pipeline.run.earlier import take_up


class History:
    """What is known of rows that were sent before.

    Rows of `live_sources` are found by their place; those of older snapshots may have moved,
    and are found by their identity.
    """

    def __init__(self, live_sources: Collection[int]) -> None:
        self._live_sources = live_sources
        self.purpose = Purpose.FIRST  # of the first attempt of a fresh request
        self.policy = AnswerPolicy()
        self._begun: dict[Hashable, deque[tuple[Unfinished, Sequence[EarlierAnswer]]]] = {}

    def add(self, entry: Unfinished, answers: Sequence[EarlierAnswer]) -> None:
        """An unfinished request with its answers in order; its legs are not sent again."""
        place = (entry.source_id, entry.row_number)
        moved = (entry.custom_id, entry.params_hash)
        key = place if entry.source_id in self._live_sources else moved
        self._begun.setdefault(key, deque()).append((entry, answers))

    def replace(self, other: "History") -> None:
        """Forget what was known; from now on it is what `other` knows."""
        self._begun = other._begun  # noqa: SLF001 - another of us

    def work_for(self, request: Request) -> Work:
        """A fresh request, or the continuation of one that was begun."""
        if not self._begun:
            return Work(request=request, purpose=self.purpose)
        found = self._take((request.source_id, request.row_number)) or self._take(
            (request.custom_id, request.params_hash)
        )
        if found is None:
            return Work(request=request, purpose=self.purpose)
        entry, answers = found
        work = Work(
            request=request,
            request_id=entry.request_id,
            last_attempt_id=entry.attempt_id,
            attempts=entry.attempts,
            doubts=entry.doubts,
            purpose=Purpose.RETRY,
        )
        take_up(work, answers, self.policy)
        return work

    def _take(self, key: Hashable) -> tuple[Unfinished, Sequence[EarlierAnswer]] | None:
        waiting = self._begun.get(key)
        if waiting is None:
            return None
        found = waiting.popleft()
        if not waiting:
            del self._begun[key]
        return found
