"""The words of pacing: what can limit a run, the limits that somebody set, and their use."""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import msgspec

from batcher.errors import ConfigurationError

# The provider counts Opus 4.5 to 4.8 against one limit, and so Sonnet 4.5 and 4.6.
_SHARED: Final = re.compile(r"(opus|sonnet)-4[-.][5-8](?!\d)")
_DATE: Final = re.compile(r"[-@]20\d{6}$|-latest$")


class Limit(StrEnum):
    """What keeps requests from going out; the value is the name for people."""

    REQUESTS = "requests per minute"
    INPUT_TOKENS = "input tokens per minute"
    OUTPUT_TOKENS = "output tokens per minute"
    CONCURRENCY = "concurrency"
    AT_ONCE = "the number of requests that the server takes at a time"
    PAUSE = "a pause that the server asked for"
    LEARNED = "a rate learned from the server's refusals"
    SERVER = "a server that did not answer"


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaLimits:
    """What the user allows per minute, for each model class; `None` means not said.

    A ceiling: a server that names a lower limit is believed, one that names a higher limit
    does not raise it. `input_tokens` does not count cache reads. `share` is the part of every
    quota, the server's too, that this process may use.
    """

    requests: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    share: float = 1.0


class Expected(msgspec.Struct, frozen=True, gc=False):
    """What one request takes from the token quotas; input without cache reads.

    An estimate also remembers what it was made from: `body_tokens`, by size alone, and the
    `kind` of request whose outputs are alike. 0 where nothing was estimated.
    """

    input_tokens: float
    output_tokens: float
    body_tokens: float = 0.0
    kind: int = 0


def quota_limits(
    rpm: int | None, itpm: int | None, otpm: int | None, share: float | None
) -> QuotaLimits:
    """What the settings of these names allow; raises `ConfigurationError` for nonsense."""
    for name, value in (("rpm", rpm), ("itpm", itpm), ("otpm", otpm)):
        if value is not None and value < 1:
            raise ConfigurationError(f"{name} is {value}; it must be at least 1")
    if share is not None and not 0 < share <= 1:
        raise ConfigurationError(f"quota_share is {share:g}; it must be above 0 and at most 1")
    return QuotaLimits(requests=rpm, input_tokens=itpm, output_tokens=otpm, share=share or 1.0)


def model_class(model: str) -> str:
    """The name of the quota that `model` draws on; models of one class share it."""
    shared = _SHARED.search(model)
    return f"{shared[1]}-4" if shared else _DATE.sub("", model)


_HALF_WINDOW_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class QuotaUse:
    """One bucket of one quota: its limit per minute and the part of it that was used.

    `quota` names the model class. `used` is the part since the limit became known, 1.0 for all
    of it; the burst that the server saved up beforehand may carry it beyond.
    """

    quota: str
    limit: Limit
    per_minute: float
    used: float


class Blame:
    """Which limit made requests wait lately. Moments are seconds of a monotonic clock."""

    __slots__ = ("_before", "_counts", "_turn")

    def __init__(self) -> None:
        self._before: dict[Limit, int] = {}
        self._counts: dict[Limit, int] = {}
        self._turn = 0.0

    def add(self, cause: Limit, now: float) -> None:
        """A request had to wait for `cause`."""
        if now >= self._turn:
            self._turn_over(now)
        self._counts[cause] = self._counts.get(cause, 0) + 1

    def main(self, now: float) -> Limit | None:
        """What most of them waited for in the last seconds; `None` when nothing waited."""
        if now >= self._turn:
            self._turn_over(now)
        both = {
            cause: self._before.get(cause, 0) + self._counts.get(cause, 0)
            for cause in {**self._before, **self._counts}
        }
        return max(both, key=both.__getitem__, default=None)

    def _turn_over(self, now: float) -> None:
        recent = now < self._turn + _HALF_WINDOW_SECONDS
        self._before = self._counts if recent else {}
        self._counts = {}
        self._turn = now + _HALF_WINDOW_SECONDS
