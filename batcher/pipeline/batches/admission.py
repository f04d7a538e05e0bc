"""Which of the rows that were read are sent now: a limit, and the prompt cache in batches.

There one row of each prefix goes ahead, and the others read what it wrote. Nobody knows when a
row of a batch is worked on, and batches share no cache with live requests.
So a run has two phases, see `run_with_cache`: first those rows alone that write, for an hour;
when they are back all others, with breakpoints where the cache has what they begin with.
"""

from collections.abc import Callable, Mapping
from typing import Final

from batcher.messages.prefix import (
    ALONE,
    LATE,
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
from batcher.pipeline.engine.prefixes import rows_that_save
from batcher.pipeline.engine.rater import CacheRates
from batcher.pipeline.engine.work import Work

_MOST_COUNTED: Final = 200_000

# What batches wrote: until when rows may leave that read it; see `records.prefixes_written`.
Written = Mapping[int, int | None]


class PackedPrefixes:
    """Which rows go, and with which breakpoints; `leading`: only those that write."""

    def __init__(
        self, rates: Callable[[str], CacheRates | None], written: Written, *, leading: bool
    ) -> None:
        self._rates_of = rates
        self._least: dict[str, float] = {}  # rows that share a prefix before it saves
        self._written = written
        self._leading = leading
        self._rows: dict[int, int] = {}
        self._begun: set[int] = set()

    def admits(self, work: Work, now_us: int) -> bool:
        """Whether the row goes in this phase; sets what its next attempt does."""
        prompt = read_prompt(work.request.body, work.request.betas)
        if self._leading:
            return prompt is not None and self._leads(work, prompt, now_us)
        if prompt is not None:
            reads = [
                _lasts(prompt, cut) and (self._written.get(cut.key) or 0) > now_us
                for cut in prompt.cuts
            ]
            self._place(work, prompt, breakpoints(prompt, reads, ONE_HOUR))
        return True

    def _leads(self, work: Work, prompt: Prompt, now_us: int) -> bool:
        """Whether it is the first of so many that a breakpoint saves, and nobody has begun."""
        model = work.request.model
        least, worth = self._least_of(model), []
        for cut in prompt.cuts:
            rows = self._rows[cut.key] = self._rows.get(cut.key, 0) + 1
            saves = rows >= least and _lasts(prompt, cut) and not is_too_short(cut, model)
            worth.append(rows if saves else 0)
        if len(self._rows) > _MOST_COUNTED:
            self._rows.clear()
        cuts = breakpoints(prompt, worth, ONE_HOUR)
        new = {cut.key for cut in cuts if not self._is_begun(cut.key, now_us)}
        self._begun |= new
        if new:
            self._place(work, prompt, cuts)
        return bool(new)

    def _is_begun(self, key: int, now_us: int) -> bool:
        until = self._written.get(key, -1)
        return key in self._begun or not until or until > now_us

    def _least_of(self, model: str) -> float:
        if model not in self._least:
            rates = self._rates_of(model)
            self._least[model] = rows_that_save(rates, ONE_HOUR) if rates else float("inf")
        return self._least[model]

    def _place(self, work: Work, prompt: Prompt, cuts: tuple[Cut, ...]) -> None:
        if cuts:
            work.cached = Placement(prefix=cuts[-1].key, note=ONE_HOUR, cuts=cuts)
        else:
            note = self._why_not(work.request.model, prompt)
            work.cached = Placement(prefix=prompt.cuts[0].key, note=note)

    def _why_not(self, model: str, prompt: Prompt) -> str:
        if self._least_of(model) == float("inf"):
            return NO_RATES
        refused = [is_too_short(c, model) or self._written.get(c.key) == 0 for c in prompt.cuts]
        known = any(c.key in self._written or not _lasts(prompt, c) for c in prompt.cuts)
        return TOO_SHORT if all(refused) else LATE if known else ALONE


def _lasts(prompt: Prompt, cut: Cut) -> bool:
    """Whether an entry there is for an hour; the row itself may ask for five minutes."""
    return prompt.lifetime_at(cut, ONE_HOUR) == ONE_HOUR


class Admission:
    """Counts rows that are sent for the first time; `consumed`: see `Engine`."""

    def __init__(
        self,
        row_limit: int | None,
        prefixes: PackedPrefixes | None,
        consumed: Callable[[int], None],
    ) -> None:
        self._row_limit = row_limit
        self._prefixes = prefixes
        self._consumed = consumed
        self._accepted = 0
        self._leaves_some = False

    @property
    def limit_reached(self) -> bool:
        """Whether as many rows were taken as the limit allows."""
        return self._accepted == self._row_limit

    @property
    def is_whole(self) -> bool:
        """Whether no row was left to another invocation."""
        return not (self.limit_reached or self._leaves_some)

    def admits(self, work: Work, now_us: int) -> bool:
        """Whether the row, which is not under way, goes; see `PackedPrefixes.admits`."""
        if self.limit_reached:
            return False
        if self._prefixes is not None and not self._prefixes.admits(work, now_us):
            self._leaves_some = True
            self._consumed(len(work.request.body))
            return False
        self._accepted += 1
        return True
