"""Requests that earlier invocations began and did not finish: their count goes on."""

from dataclasses import dataclass

from batcher.messages.attempt import Purpose
from batcher.messages.legs import Leg
from batcher.messages.request import Request
from batcher.pipeline.work import Work


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """Where an unfinished request stands; its answered legs are not sent again."""

    request_id: int
    last_attempt_id: int
    attempts: int
    doubts: int
    legs: tuple[Leg, ...]


class History:
    """What is known of rows that were sent before, by (source_id, row_number)."""

    def __init__(self, begun: dict[tuple[int, int], Begun]) -> None:
        self._begun = begun

    def work_for(self, request: Request) -> Work:
        """A fresh request, or the continuation of one that was begun."""
        if not self._begun:
            return Work(request=request)
        begun = self._begun.pop((request.source_id, request.row_number), None)
        if begun is None:
            return Work(request=request)
        return Work(
            request=request,
            request_id=begun.request_id,
            last_attempt_id=begun.last_attempt_id,
            attempts=begun.attempts,
            doubts=begun.doubts,
            legs=list(begun.legs),
            purpose=Purpose.CONTINUATION if begun.legs else Purpose.RETRY,
        )
