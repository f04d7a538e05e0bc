"""What trouble slows down: when a failed row is tried again, and how much a server is sent.

A server in trouble is sent fewer rows at once, and one at a time while it is down. How many it
bears at a time is learned from what it refuses without headers: a 429 that comes without a word
about quotas may mean too many at once, or too many a minute. It is taken for the first, which
costs no pause; what is then refused although fewer are in flight shows that it was the second.
"""

from dataclasses import dataclass
from typing import Final

from batcher.messages.failure import Failure, Verdict

_OVERLOAD_MAX_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How patient we are with one row.

    `max_attempts` counts attempts that ended in transient failures; 429, 529 and attempts that
    never left do not use them up. Waits are full-jitter exponential from `first_wait_seconds`
    up to `max_wait_seconds`.
    """

    max_attempts: int = 5
    first_wait_seconds: float = 0.5
    max_wait_seconds: float = 30.0

    def wait_seconds(
        self, failure: Failure, *, used_up: int, tries: int, chance: float
    ) -> float | None:
        """Seconds until the row's next attempt; `None` when it is given up.

        `used_up` counts the attempts that count against the row, this one included, `tries`
        all of them; `chance` is in [0, 1). A server's `retry-after` is obeyed exactly, with
        jitter only on top.
        """
        if failure.verdict is Verdict.RETRY_ROW and used_up >= self.max_attempts:
            return None
        backoff = self._backoff(failure.verdict, tries) * chance
        asked = failure.retry_after_seconds
        return backoff if asked is None else asked + min(backoff, 2.0)

    def _backoff(self, verdict: Verdict, tries: int) -> float:
        ceiling = self.max_wait_seconds
        if verdict is Verdict.OVERLOADED:
            ceiling = max(ceiling, _OVERLOAD_MAX_SECONDS)
        return min(self.first_wait_seconds * 2.0 ** min(tries, 20), ceiling)


_FEW: Final = 8  # in flight to begin with, until answers say that more may be
_ANSWERS_HELD: Final = 200  # so that refusals of one too many stay below one in a hundred
_SECONDS_HELD: Final = 20.0
_CUT_TO: Final = 0.7
_TOLD_SECONDS: Final = 1.0  # a request that is not refused by then was let in
_SURPRISES: Final = 10  # refusals below what was let in; so many in a row are no lowered limit
_QUIET_SECONDS: Final = 30.0  # between refusals that have nothing to do with each other
_LARGE: Final = 64  # so many more often mean a rate, not a number
_FEW_SURPRISES: Final = 3  # then they do


class InFlight:
    """The number that may be in flight at a server that sends no headers.

    It grows by one with each answer, so it doubles with each round of them, until a request is
    refused; then it is as many as were let in. After a while it is let grow again, since the
    server may bear more by now. Moments are seconds of a monotonic clock.
    """

    __slots__ = (
        "_answers", "_cut_at", "_grows", "_is_over", "_most", "_refused_at", "_surprises",
        "_tried_at", "allowed",
    )  # fmt: skip

    def __init__(self, most: int) -> None:
        self.allowed = min(_FEW, most)
        self._most = most
        self._grows = True
        self._is_over = False
        self._cut_at = self._refused_at = float("-inf")
        self._tried_at: float | None = None  # one more since then
        self._answers = 0  # since the last cut, while as many were in flight as may be
        self._surprises = 0  # refusals of what should have been let in

    @property
    def wants_answers(self) -> bool:
        """Whether it needs to be told of answers."""
        return self.allowed < self._most

    @property
    def _is_probing(self) -> bool:
        return self._grows or self._tried_at is not None

    @property
    def holds_back(self) -> bool:
        """Whether the server was found to bear no more."""
        return self.allowed < self._most and not self._grows

    def release(self) -> None:
        """Something else paces: a quota that is known, or a rate that is learned."""
        self.allowed = self._most
        self._is_over = True

    def answered(self, others: int, now: float) -> None:
        """A request was answered that was sent while `others` were in flight."""
        if others + 1 < self.allowed // 2:
            return  # it is not what limits the run
        self._answers += 1
        if self._tried_at is not None:
            self._grows = now - self._tried_at >= _TOLD_SECONDS
        elif now - self._cut_at >= _SECONDS_HELD and self._answers >= _ANSWERS_HELD:
            self._tried_at = now
            self.allowed = min(self.allowed + 1, self._most)
        if self._grows:
            self.allowed = min(self.allowed + 1, self._most)

    def refused(self, others: int, sent_at: float, still: int, now: float) -> bool:
        """One was refused that was sent at `sent_at` while `others` were in flight.

        `still` are in flight now. Gives whether that is because of their number.
        """
        if not others or self._is_over:
            return False
        if now - self._refused_at > _QUIET_SECONDS:
            self._surprises = 0
        self._refused_at = now
        self._surprises += sent_at > self._cut_at and not self._is_probing
        if self._surprises >= (_SURPRISES if others < _LARGE else _FEW_SURPRISES):
            self.release()
            return False
        self._cut(sent_at, still, now)
        return True

    def _cut(self, sent_at: float, still: int, now: float) -> None:
        allowed = min(self.allowed, still)
        surprising = sent_at > self._cut_at and not self._is_probing
        if surprising and now - self._cut_at > _TOLD_SECONDS:
            allowed = min(allowed, int(self.allowed * _CUT_TO))  # far fewer than we think
        if sent_at > self._cut_at:
            self._cut_at = now
        self.allowed = max(allowed, 1)
        self._grows, self._tried_at = False, None
        self._answers = 0


_PROBE_FIRST_SECONDS: Final = 0.5
_PROBE_MAX_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When a server counts as down, and how long it may be.

    `trips_after` failures in a row without any answer open the breaker, and so does a later one
    than `trips_after_seconds` since the first of them. After `suspects_after` of them the
    server is suspected when another row fails too, rather than the rows.
    `first_contact_seconds` is the patience with a server that never answered this invocation,
    `give_up_seconds` with one that did.
    """

    trips_after: int = 10
    trips_after_seconds: float = 60.0
    suspects_after: int = 1
    first_contact_seconds: float = 60.0
    give_up_seconds: float = 3600.0


class Breaker:
    """Closed while things work; open after too many failures in a row, probing since then.

    Moments are seconds of a monotonic clock. Only failures that say the server is not there
    (unreachable, lost connections, time-outs, 5xx) are told to it.
    """

    def __init__(self, policy: BreakerPolicy) -> None:
        self._policy = policy
        self._failures = 0
        self._ever_answered = False
        self._down_since: float | None = None
        self._next_probe = 0.0
        self._wait = _PROBE_FIRST_SECONDS
        self._probing = False
        self.is_open = False  # whether the stream is stopped and only probes go
        # How many fewer may be in flight: what failed after a failure is not replaced, until
        # something is answered. Else as many again are wasted before it opens.
        self.held_back = 0

    @property
    def is_suspect(self) -> bool:
        """Whether the server may be what fails, not the rows."""
        return self._failures >= self._policy.suspects_after

    @property
    def is_asking(self) -> bool:
        """Whether a row that goes now mainly asks whether the server is there, or back."""
        return self.is_open or not self._ever_answered

    @property
    def patience_seconds(self) -> float:
        """How long the server may be down before the run ends."""
        policy = self._policy
        return policy.give_up_seconds if self._ever_answered else policy.first_contact_seconds

    @property
    def is_probing(self) -> bool:
        """Whether a probe is out, whose outcome everybody waits for."""
        return self._probing and self.is_open

    @property
    def next_probe(self) -> float:
        """The moment from which one row may be sent as a probe."""
        return self._next_probe

    def allows(self, now: float) -> bool:
        """Whether a row may go now; while open, only one at a time, as a probe."""
        return not self.is_open or (not self._probing and now >= self._next_probe)

    def sent(self) -> None:
        """A row went: while open, it is the probe that everybody waits for."""
        self._probing = self.is_open

    def not_sent(self) -> None:
        """The row that was to go did not: if it was the probe, the next one is."""
        self._probing = False

    def succeeded(self) -> None:
        """The server answered something that it must be alive for."""
        self._failures = self.held_back = 0
        self._ever_answered = True
        self.is_open = False
        self._down_since = None
        self._probing = False

    def failed(self, now: float) -> None:
        """The server did not answer, or only with a failure of its own."""
        was_open = self.is_open
        self._failures += 1
        self._probing = False
        if self._down_since is None:
            self._down_since = now
        self.is_open = (
            self._failures >= self._policy.trips_after
            or not self._ever_answered
            or now - self._down_since >= self._policy.trips_after_seconds
        )
        self.held_back = 0 if self.is_open else self._failures - 1
        if not was_open:
            self._wait = _PROBE_FIRST_SECONDS
        elif now >= self._next_probe:  # earlier ones were under way when it opened
            self._wait = min(self._wait * 2, _PROBE_MAX_SECONDS)
        else:
            return
        self._next_probe = now + self._wait

    def is_down_for(self, seconds: float, now: float) -> bool:
        """Whether it is open and nothing was answered for so long."""
        silent = self._down_since is not None and now - self._down_since >= seconds
        return silent and self.is_open

    def gives_up(self, now: float) -> bool:
        """Whether the server has been down for longer than we wait."""
        return self._down_since is not None and now - self._down_since >= self.patience_seconds


_HALF_WINDOW_SECONDS: Final = 10.0
_BAD_SHARE: Final = 0.1
_FEWEST: Final = 20  # outcomes before a share means anything
_CUT: Final = 0.7
_CUT_EVERY_SECONDS: Final = 5.0
_GROWTH: Final = 1.02  # per success


class Concurrency:
    """The user's cap, cut while more than a tenth of the outcomes say overload.

    Told of 529, 5xx and time-outs only: a 429 is the quota's business, or that of `learned`,
    what a server without headers bears. Moments are seconds of a monotonic clock.
    """

    __slots__ = (
        "_allowed", "_before", "_cap", "_counts", "_next_cut", "_turn", "allowed", "is_cut",
        "learned",
    )  # fmt: skip

    def __init__(self, cap: int) -> None:
        self._cap = cap
        self._allowed = float(cap)
        self._before = (0, 0)  # good and bad ones of the half window before
        self._counts = [0, 0]
        self._turn = 0.0
        self._next_cut = 0.0
        self.learned = InFlight(cap)
        self.allowed = cap  # how many may be in flight now; at least 1
        self.is_cut = False  # whether it is less than the user's cap
        self.look()

    def release(self) -> None:
        """A quota that is known paces the run, not what a server was seen to bear."""
        self.learned.release()
        self.look()

    @property
    def is_starting(self) -> bool:
        """Whether few may be in flight only since nothing is known of the server so far."""
        few = self.learned.allowed < self._cap and not self.learned.holds_back
        return few and self.learned.allowed <= self._allowed

    @property
    def is_overloaded(self) -> bool:
        """Whether overload of the server has cut it."""
        return int(self._allowed) < self._cap

    def look(self) -> None:
        """What is `learned` may have changed."""
        self.allowed = min(int(self._allowed), self.learned.allowed)
        self.is_cut = self.allowed < self._cap

    def good(self, now: float) -> None:
        """The server did what it was asked for."""
        if now >= self._turn:
            self._turn_over(now)
        self._counts[0] += 1
        if self.is_cut:
            self._allowed = min(self._allowed * _GROWTH, float(self._cap))
            self.look()

    def bad(self, now: float) -> None:
        """The server could not do it, or not in time."""
        if now >= self._turn:
            self._turn_over(now)
        self._counts[1] += 1
        good, bad = self._before[0] + self._counts[0], self._before[1] + self._counts[1]
        enough = good + bad >= _FEWEST and bad > _BAD_SHARE * (good + bad)
        if enough and now >= self._next_cut:
            self._next_cut = now + _CUT_EVERY_SECONDS
            self._allowed = max(self._allowed * _CUT, 1.0)
            self.look()

    def _turn_over(self, now: float) -> None:
        recent = now < self._turn + _HALF_WINDOW_SECONDS
        self._before = (self._counts[0], self._counts[1]) if recent else (0, 0)
        self._counts = [0, 0]
        self._turn = now + _HALF_WINDOW_SECONDS
