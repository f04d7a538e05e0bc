"""The pricing report as data: what was sent, used and paid, and what nobody can say."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Final

from batcher.report.query import ReportQuery

USD: Final = "USD"
Key = tuple[str | int | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What can be counted and added up; money is pico-USD.

    `requests` have their final answer. `attempts` are all that were made: answered (also
    earlier legs and late answers), `refused` by the server, `not_sent`, and `in_doubt` (among
    them the `open` ones). Tokens are those of complete answers; a cache write whose lifetime
    the server did not tell counts as 5 minutes; `output_tokens` include `thinking_tokens`.
    `unpriced_*` are answers without a price and their tokens. `assumed_charges` rest on an
    assumption: they cost `assumed_low`, which is in the cost, to `assumed_high`. Of the refused
    attempts `maybe_billed` ones may have cost up to `maybe_billed_high`. What is in doubt may
    have cost `in_doubt_low` to `in_doubt_high`. Both may be more when `unbounded` ones of them
    have no upper bound.
    """

    requests: int = 0
    attempts: int = 0
    in_doubt_attempts: int = 0
    open_attempts: int = 0
    refused_attempts: int = 0
    not_sent_attempts: int = 0
    late_attempts: int = 0
    input_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    cache_read_tokens: int = 0
    output_tokens: int = 0
    thinking_tokens: int = 0
    web_search_requests: int = 0
    unpriced_requests: int = 0
    unpriced_tokens: int = 0
    assumed_charges: int = 0
    assumed_low: int = 0
    assumed_high: int = 0
    maybe_billed_attempts: int = 0
    maybe_billed_high: int = 0
    maybe_billed_unbounded: int = 0
    in_doubt_low: int = 0
    in_doubt_high: int = 0
    in_doubt_unbounded: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            **{name: getattr(self, name) + getattr(other, name) for name in COUNT_NAMES}
        )

    @property
    def answers(self) -> int:
        """Complete answers, final or not, late ones too."""
        unanswered = self.in_doubt_attempts + self.refused_attempts + self.not_sent_attempts
        return self.attempts - unanswered

    @property
    def in_doubt_at_most(self) -> int | None:
        """The most that what is in doubt may have cost, `None` when there is no bound."""
        return None if self.in_doubt_unbounded else self.in_doubt_high

    @property
    def maybe_billed_at_most(self) -> int | None:
        """The most that refused attempts may have cost, `None` when there is no bound."""
        return None if self.maybe_billed_unbounded else self.maybe_billed_high

    @property
    def cache_write_tokens(self) -> int:
        """Tokens written to a cache of any lifetime."""
        return self.cache_write_5m_tokens + self.cache_write_1h_tokens

    @property
    def tokens(self) -> int:
        """All tokens of the answers, read, written and produced."""
        return (
            self.input_tokens
            + self.cache_write_tokens
            + self.cache_read_tokens
            + self.output_tokens
        )


COUNT_NAMES: Final = tuple(each.name for each in fields(Counts))


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportLine:
    """One group, or the total (then `key` and `label` are empty).

    `key` holds one value per dimension: text, a run's or invocation's number, or `None` where
    there is none; `label` says the same for people. `costs` are pico-units by currency, sorted
    by currency; those of different currencies are never added.
    """

    key: Key
    label: tuple[str, ...]
    counts: Counts
    costs: tuple[tuple[str, int], ...]

    @property
    def is_unpriced(self) -> bool:
        """Whether there are answers and none has a price: then its cost is not known, not 0."""
        return not self.costs and self.counts.unpriced_requests > 0

    def cost(self, currency: str = USD) -> int:
        """Pico-units charged in `currency`; 0 when nothing was."""
        return dict(self.costs).get(currency, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargeReason:
    """Why charges of a model have no price, or rest on an assumption; how many.

    `text` is the rating's code, such as `unknown_model`; `model` the served one, if known.
    """

    text: str
    model: str | None
    charges: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AdjustedLine:
    """Adjustments of one group: how many stand, and what they add up to in pico-USD.

    `key` has values for model, endpoint and time; of other dimensions adjustments do not tell.
    """

    key: Key
    entries: int
    amount: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Adjusted:
    """What reconciliations recorded beside the charges; adjustments that stand only.

    `causes` are words with how many and how much, `days` the UTC days (ISO) that were held
    against the provider's files; `last` says when (microseconds) and by whom, last of all.
    """

    lines: tuple[AdjustedLine, ...] = ()
    causes: tuple[tuple[str, int, int], ...] = ()
    days: tuple[str, ...] = ()
    last: tuple[int, str] | None = None

    @property
    def entries(self) -> int:
        """How many adjustments there are."""
        return sum(line.entries for line in self.lines)

    @property
    def amount(self) -> int:
        """All adjustments together, pico-USD."""
        return sum(line.amount for line in self.lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The whole report; equal for equal databases and queries.

    `lines` are sorted by key, groups without a value last. `currencies` are all that occur, USD
    first. `price_books` are the versions that made the charges. `simulated_left_out` says that
    charges of simulated endpoints exist and are in no line, `simulated_only` that there are no
    others and all lines are simulated. `adjusted` is in no line and no total; it is `None` for
    a run, since whole days are reconciled.
    """

    query: ReportQuery
    lines: tuple[ReportLine, ...]
    total: ReportLine
    currencies: tuple[str, ...] = (USD,)
    price_books: tuple[str, ...] = ()
    unpriced: tuple[ChargeReason, ...] = ()
    assumed: tuple[ChargeReason, ...] = ()
    simulated_left_out: bool = False
    simulated_only: bool = False
    adjusted: Adjusted | None = Adjusted()

    @property
    def adjusted_total(self) -> int:
        """The cost with the adjustments, pico-USD: what was billed, as far as it is known."""
        return self.total.cost() + (self.adjusted.amount if self.adjusted else 0)


@dataclass(slots=True)
class LineSums:
    """A group while it is being added up."""

    label: tuple[str, ...] = ()
    counts: Counts = field(default_factory=Counts)
    costs: dict[str, int] = field(default_factory=dict)

    def add(self, counts: Counts, currency: str | None = None, amount: int = 0) -> None:
        """Add counts, and an amount in pico-units of its currency."""
        self.counts += counts
        if currency is not None:
            self.costs[currency] = self.costs.get(currency, 0) + amount

    def line(self, key: Key) -> ReportLine:
        """The finished line."""
        costs = tuple(sorted(self.costs.items()))
        return ReportLine(key=key, label=self.label, counts=self.counts, costs=costs)


def total_of(lines: Iterable[ReportLine]) -> ReportLine:
    """The sum of all lines, each currency by itself."""
    sums = LineSums()
    for line in lines:
        sums.add(line.counts)
        for currency, amount in line.costs:
            sums.add(Counts(), currency, amount)
    return sums.line(())


def currencies_of(lines: Iterable[ReportLine]) -> tuple[str, ...]:
    """USD, then every other currency of `lines`, sorted."""
    others = {currency for line in lines for currency, _ in line.costs} - {USD}
    return (USD, *sorted(others))


# An hour with its offset from UTC: the one that comes twice in autumn is two.
_HOUR: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d[+-]\d\d:\d\d")


def sort_key(key: Key) -> tuple[tuple[bool, int, str], ...]:
    """Orders keys of numbers, hours and other text, `None` last."""
    return tuple(
        (part is None, part if isinstance(part, int) else 0, _in_time(str(part)))
        for part in key
    )


def _in_time(text: str) -> str:
    if not _HOUR.fullmatch(text):
        return text
    return datetime.fromisoformat(text).astimezone(UTC).isoformat()
