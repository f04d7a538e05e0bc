"""One gate for everybody who shares a quota: shut while the server asked us to wait."""

from typing import Final

_UNSAID_PAUSE_SECONDS: Final = 1.0  # a 429 without retry-after; doubles while they repeat
_UNSAID_PAUSE_MAX_SECONDS: Final = 60.0


class Gate:
    """Open, or shut until a moment. Moments are seconds of a monotonic clock."""

    def __init__(self) -> None:
        self.shut_until = 0.0
        self.pauses = 0
        self._unsaid = 0

    def is_open(self, now: float) -> bool:
        """Whether a request may go."""
        return now >= self.shut_until

    def pause(self, now: float, retry_after_seconds: float | None, chance: float) -> None:
        """A 429 came: nobody sends before the server's moment, or ours if it named none.

        Answers to requests that were under way when the gate shut lengthen the pause only when
        the server names a later moment: they are the same refusal, seen again.
        """
        if retry_after_seconds is not None:
            self.shut_until = max(self.shut_until, now + retry_after_seconds)
        elif self.is_open(now):
            wait = min(_UNSAID_PAUSE_SECONDS * 2.0**self._unsaid, _UNSAID_PAUSE_MAX_SECONDS)
            self.shut_until = now + wait * (0.75 + chance / 2)
            self._unsaid = min(self._unsaid + 1, 10)
        self.pauses += 1

    def answered(self) -> None:
        """An answer came: the next unexplained 429 starts from the short pause again."""
        self._unsaid = 0
