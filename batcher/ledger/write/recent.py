"""The last settlements that were committed, kept in memory for a server that forgets them.

After a failover to a standby that lagged, what was committed last is not there any more; the
rows were paid for all the same.
"""

from collections import deque
from collections.abc import Sequence
from typing import Final

from batcher.ledger.lifeboat.frames import pack, unpack
from batcher.ledger.write.records import Record, Settlement

_MOST: Final = 512
MOST_BYTES: Final = 16 * 2**20


class Recent:
    """The last 512 settlements, and no more than 16 MB of them, by transaction.

    They are kept packed, in half the memory, and without the bytes of their requests.
    """

    def __init__(self) -> None:
        self._kept: deque[tuple[int, bytes]] = deque()
        self._bytes = 0
        self._dropped = 0

    def add(self, number: int, records: Sequence[Record]) -> None:
        """Remember what transaction `number` committed; numbers grow."""
        for record in records:
            if isinstance(record, Settlement):
                packed = pack(record)
                self._kept.append((number, packed))
                self._bytes += len(packed)
        while len(self._kept) > _MOST or self._bytes > MOST_BYTES:
            self._dropped, packed = self._kept.popleft()
            self._bytes -= len(packed)

    def after(self, number: int) -> list[Settlement]:
        """What was committed after transaction `number`, oldest first, as far as it is here."""
        return [unpack(packed) for of, packed in self._kept if of > number]

    def reaches(self, number: int) -> bool:
        """Whether everything that was committed after transaction `number` is here."""
        return self._dropped <= number
