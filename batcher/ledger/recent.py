"""The last settlements that were committed, kept in memory for a server that forgets them.

After a failover to a standby that lagged, what was committed last is not there any more; the
rows were paid for all the same.
"""

from collections import deque
from collections.abc import Sequence
from typing import Final

from batcher.ledger.records import Record, Settlement
from batcher.messages.outcome import Answered, Partial, Unusable

_MOST: Final = 1_024
_MOST_BYTES: Final = 16 * 2**20
_EACH: Final = 1_024  # bytes of a settlement without its bodies


class Recent:
    """The last 1,024 settlements, and no more than 16 MB of them, by transaction."""

    def __init__(self) -> None:
        self._kept: deque[tuple[int, Settlement, int]] = deque()
        self._bytes = 0
        self._dropped = 0

    def add(self, number: int, records: Sequence[Record]) -> None:
        """Remember what transaction `number` committed; numbers grow."""
        for record in records:
            if isinstance(record, Settlement):
                size = _size(record)
                self._kept.append((number, record, size))
                self._bytes += size
        while len(self._kept) > _MOST or self._bytes > _MOST_BYTES:
            self._dropped, _, size = self._kept.popleft()
            self._bytes -= size

    def after(self, number: int) -> list[Settlement]:
        """What was committed after transaction `number`, oldest first, as far as it is here."""
        return [settlement for of, settlement, _ in self._kept if of > number]

    def reaches(self, number: int) -> bool:
        """Whether everything that was committed after transaction `number` is here."""
        return self._dropped <= number


def _size(settlement: Settlement) -> int:
    attempt, outcome = settlement.attempt, settlement.outcome
    size = _EACH + len(attempt.body) + len(settlement.joined_content or "") * 2
    if attempt.body is not attempt.request.body:
        size += len(attempt.request.body)
    if isinstance(outcome, (Answered, Partial)):
        size += len(outcome.answer.content) + len(outcome.answer.text)
    elif isinstance(outcome, Unusable):
        size += len(outcome.body)
    return size
