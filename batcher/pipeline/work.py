"""A request on its way: what the engine remembers between its attempts."""

from dataclasses import dataclass, field

from batcher.messages.attempt import Purpose
from batcher.messages.legs import Leg, continuation_body
from batcher.messages.request import Request


@dataclass(slots=True, kw_only=True)
class Work:
    """One request and its history; owned by the event loop's thread.

    `attempts` counts everything put on the wire, `used_up` the attempts that count against
    the row's patience, `doubts` those that may have been billed unseen. `legs` are the answered
    ones. `last_attempt_id` is 0 before the first. `takes_room` until it is first sent: the reader
    waits for rows that do.
    """

    request: Request
    request_id: int = 0
    last_attempt_id: int = 0
    attempts: int = 0
    used_up: int = 0
    doubts: int = 0
    purpose: Purpose = Purpose.FIRST
    legs: list[Leg] = field(default_factory=list)
    takes_room: bool = True

    @property
    def leg(self) -> int:
        """The number of the leg that comes next, from 1."""
        return len(self.legs) + 1

    def body(self) -> bytes:
        """What the next attempt sends."""
        if not self.legs:
            return self.request.body
        return continuation_body(self.request.body, self.legs)
