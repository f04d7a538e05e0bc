"""How many requests a server bears at a time, learned from what it refuses without headers.

A 429 that comes without a word about quotas may mean too many at once, or too many a minute. It
is taken for the first, which costs no pause; what is then refused although fewer are in flight
shows that it was the second.
"""

from typing import Final

_FEW: Final = 8  # in flight to begin with, until answers say that more may be
_ANSWERS_HELD: Final = 200  # so that refusals of one too many stay below one in a hundred
_SECONDS_HELD: Final = 20.0
_CUT: Final = 0.7
_TOLD_SECONDS: Final = 1.0  # a request that is not refused by then was let in
_SURPRISES: Final = 10  # refusals below what was let in; so many in a row are no lowered limit
_QUIET_SECONDS: Final = 30.0  # between refusals that have nothing to do with each other
_LARGE: Final = 64  # servers that bear more at a time mind the rate, not the number


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
        if others >= _LARGE or self._surprises >= _SURPRISES:
            self.release()
            return False
        self._cut(sent_at, still, now)
        return True

    def _cut(self, sent_at: float, still: int, now: float) -> None:
        allowed = min(self.allowed, still)
        surprising = sent_at > self._cut_at and not self._is_probing
        if surprising and now - self._cut_at > _TOLD_SECONDS:
            allowed = min(allowed, int(self.allowed * _CUT))  # far fewer than we think
        if sent_at > self._cut_at:
            self._cut_at = now
        self.allowed = max(allowed, 1)
        self._grows, self._tried_at = False, None
        self._answers = 0
