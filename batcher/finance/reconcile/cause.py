"""Why ours and theirs differ, in one line; the surest cause first."""

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from batcher.finance.reconcile.ours import Amounts, Doubt
from batcher.finance.reconcile.theirs import BillPlace, Measure
from batcher.pricing.money import METERS, PRICED_PER, format_usd
from batcher.report.words import count_of

_CENTS: Final = 100
_HALF: Final = Fraction(1, 2)  # of a pico-USD: adjustments are whole ones
_MILLION: Final = 1_000_000
EXPLAINED: Final = {
    "coverage": "their files hold only a part of the day, or not what ours says: another key or"
    " workspace, another day at midnight, not reported yet.",
    "refusals": "the usage of refusals before output, which is reported and not billed.",
    "in doubt": "attempts of that day and model that may have been billed without our knowing.",
    "lifetime": "what ours has for one lifetime of cache writes, theirs has for the other.",
    "tier": "the same is there under another service tier.",
    "geography": "the same is there under another geography.",
    "midnight": "the same is there on the day before or after: who answered around midnight.",
    "workspace": "their files are of a workspace that has nothing of ours.",
    "other users": "somebody else uses the key, or a database is missing here.",
    "rate": "the same tokens at another price: theirs is what their cost implies.",
    "units": "cents taken for dollars, or dollars for cents.",
    "not metered here": "no answer tells of it, only the provider knows.",
    "changed since": "an adjustment was recorded, and then ours or theirs changed, or these"
    " files tell other things apart.",
}


@dataclass(slots=True)
class Line:
    """One place. `None` where their files have no such measure; costs are pico-USD.

    `recorded` are adjustments of the cost. `slack` is how far their rounding may have moved the
    cost; `whole`: their files hold all of the day. `elsewhere` is the cause where the opposite
    difference stands on another line.
    """

    place: BillPlace
    ours_used: int | None = None
    theirs_used: Fraction | None = None
    ours_cost: int | None = None
    theirs_cost: Fraction | None = None
    own: Amounts | None = None
    recorded: int = 0
    slack: Fraction = Fraction(0)
    whole: bool = True
    doubt: Doubt | None = None
    elsewhere: str = ""

    def take(self, measure: Measure, ours: Amounts, theirs: Fraction) -> None:
        """Set both sides of a measure."""
        self.own = ours
        if measure is Measure.USAGE:
            self.ours_used, self.theirs_used = ours.used, theirs
        else:
            self.ours_cost, self.theirs_cost = ours.amount, theirs

    @property
    def used_difference(self) -> Fraction:
        """Theirs less ours; 0 where it is not compared."""
        return (self.theirs_used or Fraction(0)) - (self.ours_used or 0)

    @property
    def cost_difference(self) -> Fraction:
        """Theirs less ours and what is recorded, 0 within what rounding explains."""
        difference = (self.theirs_cost or Fraction(0)) - (self.ours_cost or 0) - self.recorded
        slack = max(self.slack, _HALF if self.recorded else Fraction(0))
        return Fraction(0) if abs(difference) <= slack else difference


def is_settled(line: Line) -> bool:
    """Whether both sides agree, but for the rounding of printed amounts.

    Other tokens are settled too where adjustments make up for their cost.
    """
    return not line.cost_difference and (not line.used_difference or line.recorded != 0)


def cause_of(line: Line) -> str:
    """The cause: a word of `EXPLAINED`, and what is particular; empty where both agree."""
    if is_settled(line):
        return "recorded" if line.recorded else ""
    if not line.whole:
        return "coverage: part of the day"
    if line.recorded and not line.elsewhere:
        return f"changed since: {format_usd(line.recorded)} recorded"
    return line.elsewhere or _between_them(line)


def _between_them(line: Line) -> str:
    if line.place.kind not in METERS:
        return "not metered here"
    return _usage(line) if line.used_difference else _cost(line)


def explained(causes: Iterable[str]) -> tuple[str, ...]:
    """What the words of some causes mean, each once."""
    words = {cause.partition(":")[0] for cause in causes}
    return tuple(
        f"{word.capitalize()}: {text}" for word, text in EXPLAINED.items() if word in words
    )


def _usage(line: Line) -> str:
    difference, own = line.used_difference, line.own or Amounts()
    if own.unbilled and difference == own.unbilled:
        return f"refusals: {count_of(own.unbilled, 'token')}"
    return _more(line) if difference > 0 else "coverage: ours only"


def _more(line: Line) -> str:
    """Theirs is more, and ours would have recorded it."""
    if not line.doubt:
        return "other users"
    high = "no bound" if line.doubt.high is None else format_usd(line.doubt.high)
    attempts = count_of(line.doubt.attempts, "attempt")
    return f"in doubt: {attempts}, {format_usd(line.doubt.low)} to {high}"


def _cost(line: Line) -> str:
    own, ours, theirs = (
        line.own or Amounts(),
        line.ours_cost or 0,
        line.theirs_cost or Fraction(0),
    )
    if ours and theirs in {Fraction(ours) * _CENTS, Fraction(ours, _CENTS)}:
        return "units: times 100"
    if not theirs and line.theirs_used is None:
        return "coverage: ours only"
    if own.unpriced:
        return f"rate: {count_of(own.unpriced, 'token')} without a price here"
    if not own.used or (line.theirs_used is None and line.cost_difference > 0 and line.doubt):
        return _more(line)
    implied = _rate(theirs / own.used, line.place.kind)
    mine = " and ".join(_rate(Fraction(rate), line.place.kind) for rate in sorted(own.rates))
    per = "million" if PRICED_PER[METERS.index(line.place.kind)] == _MILLION else "thousand"
    sure = "" if line.theirs_used is not None else ", if the tokens agree"
    return f"rate: theirs {implied}, ours {mine or 'none'} per {per}{sure}"


def _rate(rate: Fraction, kind: str) -> str:
    """The price per million tokens, or per thousand searches."""
    return format_usd(round(rate * PRICED_PER[METERS.index(kind)]))
