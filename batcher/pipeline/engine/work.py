"""A request on its way: what the engine remembers between its attempts.

Also what it asks of others: where a row goes that an endpoint does not answer, and what became
of an attempt that left and whose outcome comes later.
"""

from dataclasses import dataclass
from typing import Final, Protocol

import msgspec

from batcher.errors import BatcherError
from batcher.messages.legs import Leg, body_with_max_tokens, continuation_body
from batcher.messages.prefix import Placement, Prompt, with_breakpoints
from batcher.messages.request import (
    MAX_TOKENS_WITHOUT_STREAM,
    Answered,
    Attempt,
    Outcome,
    Purpose,
    Request,
)
from batcher.pacing.limits import Expected
from batcher.pacing.pacer import Reservation


@dataclass(frozen=True, slots=True)
class Replaced:
    """An answer in whose place another was asked for: why, and how much it wrote."""

    purpose: Purpose
    output: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Underway:
    """An attempt that left in the batch of that number, whose outcome has come by now.

    `is_ours`: this invocation opened it, and what it may cost is still reserved. `cached` is
    what the ledger notes of the prompt cache, without the places of breakpoints.
    """

    attempt_id: int
    uid: str
    opened_at: int
    cost_high: int | None
    batch: int
    is_ours: bool
    cached: Placement | None = None


_SOON_US: Final = 1_800 * 10**6  # half of the hour, and as much for the next batch


def _took(outcome: Answered) -> int:
    return outcome.exchange.settled_at - outcome.exchange.sent_at


class Work(msgspec.Struct, kw_only=True, eq=False):
    """One request and its history; owned by the event loop's thread.

    The engine counts, `Supply` ends `takes_room` and says `is_probe`, `Pace` keeps `expected`
    and `reservation`; everything else changes by the methods alone.

    `attempts` counts everything put on the wire, `used_up` the attempts that count against
    the row's patience, `doubts` those that may have been billed unseen and that the row may be
    to blame for, and all of earlier processes; `doubted`: there was one at all, `is_blamed`:
    the last attempt was one that the row may be to blame for. `overloads` are those that met an
    overloaded server. `legs` are the answered ones, `replaced` the answers that were not good
    enough. `last_attempt_id` is 0 before the first. `takes_room` is true until it is first
    sent: the reader waits for such rows. `is_probe`: the attempt under way only asks whether
    the server is back, and is not held against the row. `expected` is what the next attempt
    will probably take of the quota, `reservation` what the one under way holds of it.
    `underway`: its attempt left some time ago, and is settled before another is made. `prompt`
    is where its prompt may be cut, `cached` what the next attempt does about the prompt cache;
    `Prefixes` keeps both, in batches `PackedPrefixes`.
    """

    request: Request
    request_id: int = 0
    last_attempt_id: int = 0
    attempts: int = 0
    used_up: int = 0
    doubts: int = 0
    doubted: bool = False
    is_blamed: bool = False
    overloads: int = 0
    purpose: Purpose = Purpose.FIRST
    legs: list[Leg] = []
    replaced: list[Replaced] = []
    takes_room: bool = True
    is_probe: bool = False
    expected: Expected | None = None
    reservation: Reservation | None = None
    underway: Underway | None = None
    prompt: Prompt | None = None
    cached: Placement | None = None

    @property
    def leg(self) -> int:
        """The number of the leg that comes next, from 1."""
        return len(self.legs) + 1

    @property
    def tools_due(self) -> bool:
        """Whether the last leg called tools that have not run."""
        return bool(self.legs) and self.legs[-1].calls_tools and self.legs[-1].results is None

    @property
    def last_cut_off(self) -> Replaced | None:
        """The last answer that was replaced since `max_tokens` cut it off."""
        cut_off = (r for r in reversed(self.replaced) if r.purpose is Purpose.TRUNCATION)
        return next(cut_off, None)

    def times_replaced(self, purpose: Purpose) -> int:
        """How many answers were replaced for that reason."""
        return sum(replaced.purpose is purpose for replaced in self.replaced)

    def body(self) -> bytes:
        """What the next attempt sends."""
        body = self.request.body
        if self.legs:
            body = continuation_body(body, self.legs)
        return body if self.cached is None else with_breakpoints(body, self.cached)

    def tools_answered(self, results: bytes) -> None:
        """The tools of the last leg ran; `results` is the content of the user message."""
        last = self.legs[-1]
        self.legs[-1] = Leg(
            last.content, last.text, last.container_id, calls_tools=True, results=results
        )

    def count(self, *, used_up: bool, overloaded: bool, doubt: bool, blamed: bool) -> None:
        """The attempt under way ended so; a probe is not held against its row.

        `doubt`: it may have been billed; `blamed`: and by the row's own fault.
        """
        self.doubted = self.doubted or doubt
        self.is_blamed = blamed and not self.is_probe
        self.doubts += self.is_blamed
        if not self.is_probe:
            self.used_up += used_up
            self.overloads += overloaded

    def came_back(self, outcome: Outcome, *, packs: bool) -> Underway | None:
        """The attempt that left some time ago, and ended so; `None`: it did not.

        What it has in the batches' cache, a further leg that leaves soon reads again.
        """
        known, self.underway = self.underway, None
        if known is not None:
            is_warm = packs and isinstance(outcome, Answered) and _took(outcome) < _SOON_US
            self.cached = self.cached if is_warm else None
        return known

    def retry(self) -> None:
        """The next attempt asks for the same again."""
        self.purpose = Purpose.RETRY

    def go_elsewhere(self, request: Request) -> None:
        """The next attempt is made at another endpoint, which is asked `request`."""
        self.request = request
        self.purpose = Purpose.FALLBACK
        self.used_up = self.overloads = 0
        self.is_probe = False
        self.expected = self.prompt = self.cached = None

    def go_on(self, leg: Leg, purpose: Purpose) -> None:
        """The next attempt is a further leg after `leg`, which was answered."""
        self.legs.append(leg)
        self.purpose = purpose

    def replace(self, replaced: Replaced) -> None:
        """The next attempt asks for a better answer than the one that was `replaced`."""
        self.replaced.append(replaced)
        self.purpose = replaced.purpose

    def correct(self, leg: Leg, replaced: Replaced) -> None:
        """The next attempt is a further leg after `leg`, which says what is wrong with it."""
        self.legs.append(leg)
        self.replace(replaced)

    def raise_max_tokens(self, max_tokens: int) -> None:
        """Ask for longer answers from now on; the row's identity stays what it was."""
        request = self.request
        self.request = msgspec.structs.replace(
            request,
            max_tokens=max_tokens,
            body=body_with_max_tokens(request.body, max_tokens),
            streams=request.streams or max_tokens > MAX_TOKENS_WITHOUT_STREAM,
        )


class WayOut(Protocol):
    """Where rows go that an endpoint does not answer: to the one that the run falls back to."""

    def takes(self, work: Work) -> bool:
        """Whether `work` may go there."""

    def take_over(self, work: Work) -> None:
        """It goes there; `takes` was asked."""

    def only_way(self, error: BaseException) -> None:
        """The endpoint has been given up because of `error`: all that may go there, does."""


class Returns(Protocol):
    """All methods belong to the event loop's thread."""

    @property
    def rows_awaited(self) -> int:
        """How many rows left whose outcome this invocation waits for."""

    def went(self, batch: int) -> None:
        """An attempt left in the batch of that number."""

    def outcome(self, attempt: Attempt, underway: Underway) -> Outcome:
        """What came of an attempt whose batch has ended."""

    def settled(self, attempt_id: int) -> None:
        """What came of it is durable; told of every attempt."""


class NoReturns:
    """See `Returns`: every attempt's outcome comes to whoever sent it."""

    rows_awaited = 0

    def went(self, batch: int) -> None:
        """See `Returns.went`."""
        raise BatcherError(f"an attempt left in batch {batch}, and nobody waits for it")

    def outcome(self, attempt: Attempt, underway: Underway) -> Outcome:
        """See `Returns.outcome`."""
        raise BatcherError(f"attempt {attempt.uid} is not back from batch {underway.batch}")

    def settled(self, attempt_id: int) -> None:
        """See `Returns.settled`."""
