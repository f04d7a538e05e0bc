"""Memory for answers, shared by all that are under way, however many these are.

An answer takes room from its first larger piece until it is recorded. When the room is used up
reading pauses: the server's bytes stay with the system, and then with the server. One answer
may always be read to its end, so that room comes free again.
"""

import asyncio
from collections import deque
from types import TracebackType
from typing import Final, Protocol

ROOM_BYTES: Final = 48 * 2**20
SMALL_BYTES: Final = 2**15  # below that nothing is counted
_WHEN_READ: Final = 5  # until it is recorded an answer is there as bytes, and as texts for it


class AnswerRoom:
    """Counts what answers take. Belongs to the event loop's thread.

    `unsaved` is what the answers take that are read and not yet recorded, by attempt_id.
    """

    def __init__(self, limit_bytes: int = ROOM_BYTES) -> None:
        self.unsaved: dict[int, int] = {}
        self._limit = limit_bytes
        self._taken = 0
        self._guest: HeldRoom | int | None = None  # the one that may go beyond the limit
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def taken_bytes(self) -> int:
        """What all answers take together."""
        return self._taken

    def recorded(self, attempt_id: int) -> None:
        """That answer is in the ledger, or where it waits for one, and its room is free."""
        self.free(self.unsaved.pop(attempt_id, 0), attempt_id)

    def take(self, size: int) -> None:
        """So much more is taken."""
        self._taken += size

    def free(self, size: int, holder: "HeldRoom | int") -> None:
        """So much less is taken by `holder`, which is done."""
        self._taken -= size
        if self._guest == holder:
            self._guest = None
        self._wake()

    def hand_on(self, holder: "HeldRoom", attempt_id: int, size: int) -> None:
        """What `holder` took, and whether it may go beyond the limit, is now the attempt's."""
        self.unsaved[attempt_id] = size
        if self._guest is holder:
            self._guest = attempt_id

    def passed(self, holder: "HeldRoom", other: "HeldRoom") -> None:
        """What `holder` had is now with `other`."""
        if self._guest is holder:
            self._guest = other

    def is_open_to(self, holder: "HeldRoom") -> bool:
        """Whether `holder` may go on: there is room, or it is the one that needs none."""
        if self._taken <= self._limit:
            return True
        if self._guest is None:
            self._guest = holder
        return self._guest is holder

    async def change(self) -> None:
        """Wait until somebody is done."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        await waiter

    def _wake(self) -> None:
        """Each looks for itself; who is first is first again."""
        waiting, self._waiting = self._waiting, deque()
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)


class HeldRoom:
    """What one answer takes while it is read; ends with `close` or `keep`."""

    def __init__(self, room: AnswerRoom) -> None:
        self._room = room
        self._size = 0

    def __enter__(self) -> "HeldRoom":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def fits(self, size: int) -> bool:
        """The answer has `size` bytes by now; gives whether it may be read on at once."""
        self._room.take(size - self._size)
        self._size = size
        return self._room.is_open_to(self)

    async def wait(self) -> None:
        """Return when it may be read on."""
        while not self._room.is_open_to(self):
            await self._room.change()

    def passed_on(self) -> "HeldRoom | None":
        """The same room in other hands, which end it; `None`: there is none to speak of."""
        if not self._size:
            return None
        other = HeldRoom(self._room)
        other._size, self._size = self._size, 0
        self._room.passed(self, other)
        return other

    async def wait_to_be_read(self) -> None:
        """Return when there is room for what is made of an answer that came whole."""
        if self._size and not self.fits(self._size * _WHEN_READ):
            await self.wait()

    def keep(self, attempt_id: int) -> None:
        """It is read, and stays in memory until `AnswerRoom.recorded`."""
        self._room.hand_on(self, attempt_id, self._size)
        self._size = 0

    def close(self) -> None:
        """Nothing of it is kept."""
        self._room.free(self._size, self)
        self._size = 0


class StreamTaker(Protocol):
    """Takes a streamed answer in pieces, as they come."""

    @property
    def kept_bytes(self) -> int:
        """How much of it is in memory."""

    def take(self, chunk: bytes) -> bool:
        """Take the next bytes; gives whether more is wanted."""
