"""What an entry of the table of faults is made of."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from tests.transport.servers import Answer


class Stage(StrEnum):
    """Where on its way a row is when it goes wrong."""

    INPUT = "input"
    START = "start"  # of a run: the ledger is opened, what a dead one left is recovered
    INTENT = "intent"
    DNS = "dns"
    CONNECT = "connect"
    TLS = "tls"
    WRITE = "write"
    HEAD = "head"
    STATUS = "status"
    BODY = "body"
    ANSWER = "answer"  # the body came whole: what it says
    STREAM = "stream"
    SETTLE = "settle"
    COMMIT = "commit"
    PROCESS = "process"


class Cost(StrEnum):
    """The interval of each attempt that the fault met."""

    NOTHING = "[0, 0]"
    BOUND = "[0, bound]"
    USED = "[what it had used, bound]"
    BILLED = "[bill, bill]"
    UNPRICED = "unpriced, never 0"


class End(StrEnum):
    """What is recorded of the row when the run has ended."""

    ANSWERED = "answered"
    FAILED = "failed"
    HELD = "held"
    QUARANTINED = "quarantined"
    TO_DO = "to do"


@dataclass(frozen=True, slots=True, kw_only=True)
class Follows:
    """What a fault on the wire must lead to when it happens each time the row is sent.

    `state` is the class of the attempt, `most` how often the row is sent
    before it is given up; `None`: until it is answered.
    """

    state: str
    cost: Cost
    end: End
    exit: int
    most: int | None = 1


RETRIED = Follows(state="rejected", cost=Cost.NOTHING, end=End.FAILED, exit=65, most=5)
REFUSED = Follows(state="rejected", cost=Cost.NOTHING, end=End.FAILED, exit=65)
PAUSED = Follows(state="rejected", cost=Cost.NOTHING, end=End.ANSWERED, exit=0, most=None)
NO_ACCESS = Follows(state="rejected", cost=Cost.NOTHING, end=End.TO_DO, exit=77)
MISCONFIGURED = Follows(state="rejected", cost=Cost.NOTHING, end=End.TO_DO, exit=78)
IN_DOUBT = Follows(state="unknown", cost=Cost.BOUND, end=End.HELD, exit=65, most=3)
NOT_RETRIED = Follows(state="unknown", cost=Cost.BOUND, end=End.FAILED, exit=65)
BROKEN = Follows(state="partial", cost=Cost.USED, end=End.HELD, exit=65, most=3)
UNUSABLE = Follows(state="unusable", cost=Cost.BOUND, end=End.HELD, exit=65, most=3)
ABSENT = Follows(state="not_sent", cost=Cost.NOTHING, end=End.TO_DO, exit=69, most=None)
FINE = Follows(state="answered", cost=Cost.BILLED, end=End.ANSWERED, exit=0)
ASSUMED = replace(FINE, cost=Cost.BOUND)
ASSUMED_IN_PART = replace(FINE, cost=Cost.USED)
UNPRICED = Follows(state="answered", cost=Cost.UNPRICED, end=End.ANSWERED, exit=0)


@dataclass(frozen=True, slots=True)
class Order:
    """The simulator does it, told by markers in the row's prompt; `{n}` is how often."""

    prompt: str


@dataclass(frozen=True, slots=True)
class Bytes:
    """A server that answers the row with exactly this."""

    answer: Answer


@dataclass(frozen=True, slots=True, kw_only=True)
class WireFault:
    """A row is sent, and this happens; `times` often, `None`: each time.

    `reason` is the error type that the attempt must have, where one is promised. `endpoint`
    holds fields of the endpoint.
    """

    id: str
    stage: Stage
    cause: Order | Bytes
    follows: Follows
    times: int | None = None
    reason: str | None = None
    endpoint: Mapping[str, Any] = field(default_factory=dict)

    @property
    def expected(self) -> str:
        """The class."""
        return self.follows.state

    @property
    def sent(self) -> int:
        """How many attempts the fault meets."""
        most, times = self.follows.most, self.times
        if most is None:
            assert times is not None, self.id
            return times
        return most if times is None else min(times, most)

    @property
    def is_overcome(self) -> bool:
        """Whether it stops before the row is given up."""
        return self.times is not None and self.times < (self.follows.most or 10**9)


def maybe_billed(follows: Follows) -> Follows:
    """The same, where nobody says that the refused work was not done, nor billed."""
    return replace(follows, cost=Cost.BOUND)
