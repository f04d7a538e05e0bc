"""The prompt cache on purpose: of rows that begin alike one goes first, then all the others.

An entry of the cache can be read once the answer to the request that wrote it has begun; rows
that are sent together all pay for writing it. So the first row of a prefix goes alone, and the
others wait until its answer is there. A write that is never read costs more than none: a prefix
is cached only where as many rows within reach share it as it takes to save.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from batcher.messages.prefix import (
    ALONE,
    FIVE_MINUTES,
    NO_RATES,
    ONE_HOUR,
    TOO_SHORT,
    Cut,
    Placement,
    Prompt,
    breakpoints,
    is_too_short,
    read_prompt,
)
from batcher.messages.request import Answered, Outcome
from batcher.pipeline.engine.rater import CacheRates
from batcher.pipeline.engine.work import Work
from batcher.pipeline.job import RunLimits

_LIFETIME_SECONDS: Final = {FIVE_MINUTES: 300.0, ONE_HOUR: 3_600.0}
_MARGIN_SECONDS: Final = 15.0  # between the decision to send and the moment that counts
_LONG_ANSWER_SECONDS: Final = 200.0  # five minutes would be over when it is there
_MOST_KNOWN: Final = 50_000
_NEVER: Final = float("-inf")


@dataclass(slots=True)
class _Known:
    """One prefix: how many rows within reach have it, and what is known of its entry.

    `first` is the row that is out to write it, by the id of its work. `refused` is why it is
    cached no more.
    """

    rows: int = 0
    first: int | None = None
    since: float = _NEVER
    until: float = _NEVER
    lifetime: str = FIVE_MINUTES
    refused: str = ""


class Prefixes:
    """Which rows may go, for the sake of the cache. Moments are monotonic seconds.

    `rates` gives those of a model.
    """

    def __init__(self, rates: Callable[[str], CacheRates | None]) -> None:
        self._rates_of = rates
        self._rates: dict[str, CacheRates | None] = {}
        self._known: dict[int, _Known] = {}
        self._firsts: dict[int, list[int]] = {}  # what each row that is out writes
        self._out: dict[int, deque[Work]] = {}  # wait for the first of their prefix
        self._cold: dict[int, deque[Work]] = {}  # of prefixes that nobody has begun
        self._beginning: int | None = None
        self._lasting = False  # answers take so long that entries are to live for an hour
        self._now = _NEVER
        self.waiting = 0

    @property
    def may_begin(self) -> int:
        """How many prefixes wait to be begun."""
        return len(self._cold)

    def add(self, work: Work) -> bool:
        """A row that was just read; gives whether what it begins with is in the cache."""
        request = work.request
        work.prompt = read_prompt(request.body, request.betas)
        if work.underway is None:
            work.cached = None
        warm = False
        for cut in work.prompt.cuts if work.prompt else ():
            known = self._known.setdefault(cut.key, _Known())
            known.rows += 1
            warm = warm or known.until > self._now
        return warm

    def left(self, work: Work) -> None:
        """The row is sent for the first time, or goes elsewhere: it is within reach no more."""
        for cut in work.prompt.cuts if work.prompt else ():
            known = self._known.get(cut.key)
            if known is not None:
                known.rows -= 1
                if known.rows <= 0 and not known.first and known.until <= self._now:
                    del self._known[cut.key]
        if len(self._known) > _MOST_KNOWN:
            self._forget()

    def admits(self, work: Work, now: float) -> bool:
        """Whether the row may go now; else it is kept here until the first one is back.

        Sets what is done about the cache in its next attempt. The first of a prefix goes when
        nothing else may, see `begin`: what is in the cache is used up before more is written.
        """
        self._now = now
        prompt = work.prompt
        if prompt is None or work.underway is not None:
            return True
        lifetime = self._lifetime()
        known = [self._known.setdefault(cut.key, _Known()) for cut in prompt.cuts]
        worth = self._worth(work, known, lifetime)
        cuts = breakpoints(prompt, worth, lifetime)
        if not cuts:
            work.cached = Placement(prefix=prompt.cuts[0].key, note=self._why_not(work, known))
            return True
        pairs = {cut.key: each for cut, each in zip(prompt.cuts, known, strict=True)}
        name = id(work)
        cold = [cut for cut in cuts if pairs[cut.key].until <= now]
        for cut in cold:
            if pairs[cut.key].first not in (None, name):
                self._keep(self._out, cut, work)
                return False
        if cold and self._beginning != cold[0].key and pairs[cold[0].key].first != name:
            self._keep(self._cold, cold[0], work)
            return False
        self._beginning = None if cold else self._beginning
        self._place(work, cuts, pairs, now, lifetime)
        return True

    def begin(self) -> Sequence[Work]:
        """The rows of a prefix that nobody has begun: the first of them goes first."""
        if not self._cold:
            return ()
        self._beginning = next(iter(self._cold))
        works = self._cold.pop(self._beginning)
        self.waiting -= len(works)
        return works

    def report(self, work: Work, outcome: Outcome, now: float) -> Sequence[Work]:
        """How an attempt ended; gives the rows that need not wait any more."""
        released: list[Work] = []
        for key in self._firsts.pop(id(work), ()):
            known = self._known.get(key)
            if known is not None:
                self._settle(known, outcome, now)
            released += self._released(key)
        return released

    def withdraw(self, work: Work) -> Sequence[Work]:
        """The row does not go after all; gives those that waited for it."""
        released: list[Work] = []
        for key in self._firsts.pop(id(work), ()):
            if key in self._known:
                self._known[key].first = None
            released += self._released(key)
        return released

    def everything(self) -> Iterator[Work]:
        """All rows that wait, for good."""
        for kept in (self._out, self._cold):
            for works in kept.values():
                yield from works
            kept.clear()
        self.waiting = 0

    def _lifetime(self) -> str:
        return ONE_HOUR if self._lasting else FIVE_MINUTES

    def _worth(self, work: Work, known: Sequence[_Known], lifetime: str) -> list[int]:
        """How many rows share each prefix, 0 where a breakpoint would not save anything."""
        model, prompt = work.request.model, work.prompt
        if model not in self._rates:
            self._rates[model] = self._rates_of(model)
        rates = self._rates[model]
        if rates is None or prompt is None:
            return [0] * len(known)
        least = rows_that_save(rates, lifetime)
        return [
            0
            if each.refused or is_too_short(cut, model)
            else max(each.rows, 1)
            if each.until > self._now or each.first or each.rows >= least
            else 0
            for cut, each in zip(prompt.cuts, known, strict=True)
        ]

    def _why_not(self, work: Work, known: Sequence[_Known]) -> str:
        if self._rates[work.request.model] is None:
            return NO_RATES
        cuts = work.prompt.cuts if work.prompt else ()
        reasons = [
            TOO_SHORT if is_too_short(cut, work.request.model) else each.refused
            for cut, each in zip(cuts, known, strict=True)
        ]
        return reasons[-1] if all(reasons) else ALONE

    def _place(
        self,
        work: Work,
        cuts: Sequence[Cut],
        pairs: dict[int, _Known],
        now: float,
        lifetime: str,
    ) -> None:
        prompt = work.prompt or Prompt(cuts=())
        name = id(work)
        self._firsts.pop(name, None)
        for cut in cuts:
            known = pairs[cut.key]
            if known.until > now:
                known.until = now + _LIFETIME_SECONDS[known.lifetime] - _MARGIN_SECONDS
            else:
                self._firsts.setdefault(name, []).append(cut.key)
                known.first, known.since = name, now
                known.lifetime = prompt.lifetime_at(cut, lifetime)
        note = prompt.lifetime_at(cuts[-1], lifetime)
        work.cached = Placement(
            prefix=cuts[-1].key, note=note, cuts=tuple(cuts), lifetime=lifetime
        )

    def _keep(self, kept: dict[int, deque[Work]], cut: Cut, work: Work) -> None:
        kept.setdefault(cut.key, deque()).append(work)
        self.waiting += 1

    def _released(self, key: int) -> list[Work]:
        works = [*self._out.pop(key, ()), *self._cold.pop(key, ())]
        self.waiting -= len(works)
        return works

    def _settle(self, known: _Known, outcome: Outcome, now: float) -> None:
        known.first = None
        if not isinstance(outcome, Answered):
            return
        usage = outcome.answer.usage
        cached = usage and (usage.cache_write_tokens or usage.cache_read_tokens)
        if usage is not None and not cached:
            known.refused = TOO_SHORT
            return
        self._lasting = self._lasting or now - known.since > _LONG_ANSWER_SECONDS
        known.until = known.since + _LIFETIME_SECONDS[known.lifetime] - _MARGIN_SECONDS

    def _forget(self) -> None:
        """Entries that are over, of prefixes that no row within reach has."""
        self._known = {
            key: known
            for key, known in self._known.items()
            if known.rows > 0 or known.first or known.until > self._now
        }


def prefixes_for(
    rates: Callable[[str], CacheRates | None], limits: RunLimits
) -> Prefixes | None:
    """Those of a run whose live rows use the prompt cache on purpose; `None` for another."""
    return Prefixes(rates) if limits.cached and not limits.waiting else None


def rows_that_save(rates: CacheRates, lifetime: str) -> float:
    """From how many rows on one write and reads for the others cost less than no cache."""
    plain, five, hour, read = rates
    written = hour if lifetime == ONE_HOUR else five
    if plain <= read:
        return float("inf")
    return (written - read) // (plain - read) + 1
