"""What a run is going to cost, as far as answers like its own tell: the parts of an estimate.

Every row's input is priced by its length at the full input rate; the sampled answers say how
far the real cost of a row was from that. So the lengths of all rows are known exactly, output,
searches and what caches save come from the sample, and a wrong token rate costs no accuracy
where bodies and answers were seen together.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction
from typing import Final

from msgspec.structs import replace

from batcher.estimate.census import (
    FEWEST_IN_STRATUM,
    CellKey,
    Census,
    Place,
    grouped,
    size_class,
)
from batcher.estimate.tokens import TokenRate, measured_rate
from batcher.ledger.money.estimates import SampledAnswer
from batcher.messages.answer import Answer
from batcher.messages.usage import Usage, parse_usage
from batcher.pipeline.engine.rater import Rater
from batcher.pipeline.job import Job
from batcher.pricing.money import format_usd
from batcher.pricing.rate.rates import BATCH, STANDARD
from batcher.report.words import count_of

FEWEST_ANSWERS: Final = 5  # with less, nothing is expected of anything
MOST_STRATA: Final = 6


class Method(StrEnum):
    """Where the output tokens of an estimate come from."""

    PILOT = "pilot"  # rows of this run, drawn at random
    HISTORY = "history"  # earlier answers of the same settings and models
    CEILING = "ceiling"  # nowhere: only the ceiling is known


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One answered row: what it used and what it would cost today, pico-USD; `None`: unpriced.

    `body_bytes` is `None` when its body is not at hand.
    """

    place: Place
    model: str
    body_bytes: int | None
    input_tokens: int
    output_tokens: int
    cost: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelForecast:
    """Rows of one model still to do; `output_tokens` is `None` when nothing tells them."""

    model: str
    requests: int
    input_tokens: int
    output_tokens: int | None
    input_method: str
    priced: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the total is made of; amounts are pico-USD.

    `strata` are (rows to predict, sampled values). `fixed` is the input of all rows at the full
    rate, known up to `margin`. `reason` says why nothing is expected, else it is empty.
    """

    method: Method
    sampled: int
    strata: tuple[tuple[int, tuple[int, ...]], ...] = ()
    fixed: int = 0
    margin: int = 0
    models: tuple[ModelForecast, ...] = ()
    reason: str = ""


class Tariff:
    """What tokens cost on the day of the estimate, by requested model."""

    def __init__(self, rater: Rater, now_us: int) -> None:
        self._rater = rater
        self._now_us = now_us

    def input_cost(self, model: str, tokens: int) -> int | None:
        """A prompt of `tokens`, nothing cached, in the job's lane; `None`: no price in USD."""
        return self.lane_cost(model, _answer(Usage(input_tokens=tokens, output_tokens=0)))

    def lane_cost(self, model: str, answer: Answer) -> int | None:
        """What `answer` would cost in the job's lane, whichever it came by; `None` as above.

        Batches of a list that has no rates for them cost what live requests do.
        """
        usage = answer.usage
        if usage is None or usage.service_tier not in {None, "", STANDARD, BATCH}:
            return self.cost(model, answer)
        tiers = (BATCH, STANDARD) if self._rater.in_batches else (STANDARD,)
        told = (replace(answer, usage=replace(usage, service_tier=tier)) for tier in tiers)
        costs = (self.cost(model, each) for each in told)
        return next((cost for cost in costs if cost is not None), None)

    def usage_cost(self, model: str, usage: Usage) -> int | None:
        """An answer of that usage; `None`: no price in USD."""
        return self.cost(model, _answer(usage))

    def cost(self, model: str, answer: Answer) -> int | None:
        """What `answer` would cost; `None` when a part of it has no price in USD."""
        total = 0
        for charge in self._rater.charges(answer, model, self._now_us):
            if charge.total is None or (charge.rates and charge.rates.currency != "USD"):
                return None
            total += charge.total
        return total


def seen_answers(
    answers: Iterable[SampledAnswer], lengths: Mapping[Place, int], tariff: Tariff
) -> list[Seen]:
    """The sampled answers with known usage; others say nothing."""
    seen = []
    for answer in answers:
        place = (answer.source, answer.row_number)
        legs = [_usage(text, as_fresh=answer.was_cached_on_purpose) for text in answer.usages]
        known = [leg for leg in legs if leg is not None and leg.is_known]
        if len(known) < len(legs):
            continue
        costs = [tariff.lane_cost(answer.requested_model, _leg(answer, leg)) for leg in known]
        seen.append(
            Seen(
                place=place,
                model=answer.requested_model,
                body_bytes=lengths.get(place) if answer.own else None,
                input_tokens=sum(map(_prompt_tokens, known)),
                output_tokens=sum(leg.output_tokens or 0 for leg in known),
                cost=None if None in costs else sum(cost or 0 for cost in costs),
            )
        )
    return seen


def measured_rates(seen: Sequence[Seen]) -> dict[str, TokenRate]:
    """Input tokens per byte of the models of which enough bodies and answers are at hand."""
    pairs: dict[str, list[tuple[int, int]]] = {}
    for row in seen:
        if row.body_bytes:
            pairs.setdefault(row.model, []).append((row.body_bytes, row.input_tokens))
    return {
        model: measured_rate(model, some)
        for model, some in pairs.items()
        if len(some) >= FEWEST_ANSWERS
    }


def parts_of(
    census: Census,
    seen: Sequence[Seen],
    method: Method,
    rates: Mapping[str, TokenRate],
    tariff: Tariff,
) -> Parts:
    """Put an estimate together; `rates` has an entry for every model of the census."""
    ledger = _Sheet(census, rates, tariff)
    usable = [row for row in seen if row.cost is not None and row.model in rates]
    reason = _why_not(census, usable, method, ledger)
    expects = method is not Method.CEILING and not reason
    return Parts(
        method=method if expects else Method.CEILING,
        sampled=len(usable) if expects else 0,
        strata=_strata(ledger, usable, method) if expects else (),
        fixed=ledger.fixed,
        margin=0 if method is Method.PILOT and expects else ledger.margin,
        models=_forecasts(census, seen, rates, ledger, fill=method is Method.PILOT),
        reason=reason,
    )


@dataclass(slots=True)
class _Sheet:
    """The input part: what every cell's prompts cost at the full rate."""

    census: Census
    rates: Mapping[str, TokenRate]
    tariff: Tariff
    fixed: int = 0
    margin: int = 0
    unpriced: set[str] = field(default_factory=set)
    prices: dict[CellKey, Fraction] = field(default_factory=dict)  # of one token

    def __post_init__(self) -> None:
        for key, cell in self.census.cells.items():
            model = key[0]
            rate = self.rates[model]
            price = self.price(key, cell.body_bytes // cell.rows)
            cost = int(price * rate.tokens * cell.body_bytes / rate.body_bytes)
            self.fixed += cost
            self.margin += int(cost * rate.margin)

    def price(self, key: CellKey, body_bytes: int) -> Fraction:
        """What an input token costs in bodies of about that length, prompt tiers included."""
        if key not in self.prices:
            tokens = max(self.rates[key[0]].of(body_bytes), 1)
            cost = self.tariff.input_cost(key[0], tokens)
            if cost is None:
                self.unpriced.add(key[0])
            self.prices[key] = Fraction(cost or 0, tokens)
        return self.prices[key]

    def cell_of(self, row: Seen) -> CellKey:
        """The cell of an answered row; by its tokens where its body is not at hand."""
        return (row.model, size_class(self._body_bytes(row)))

    def value(self, row: Seen) -> int:
        """How far the row's cost was from its input at the full rate."""
        size = self._body_bytes(row)
        price = self.price(self.cell_of(row), size)
        rate = self.rates[row.model]
        tokens: Fraction | int = row.input_tokens
        if row.body_bytes:
            tokens = Fraction(rate.tokens * size, rate.body_bytes)
        return (row.cost or 0) - int(price * tokens)

    def _body_bytes(self, row: Seen) -> int:
        rate = self.rates[row.model]
        return row.body_bytes or max(row.input_tokens * rate.body_bytes // rate.tokens, 1)


def _strata(
    sheet: _Sheet, usable: Sequence[Seen], method: Method
) -> tuple[tuple[int, tuple[int, ...]], ...]:
    """Neighbouring lengths, joined until each has answers enough to know their scatter.

    A pilot is random over all models, so that these may be joined as well.
    """
    values: dict[CellKey, list[int]] = {}
    for row in usable:
        values.setdefault(sheet.cell_of(row), []).append(sheet.value(row))
    cells = sheet.census.cells
    keys = sorted(values.keys() | cells.keys())
    together = [keys]
    if method is Method.HISTORY:
        models = sorted(sheet.census.models)
        together = [[key for key in keys if key[0] == model] for model in models]
    strata = []
    for some in together:
        answered = {key: len(values.get(key, ())) for key in some}
        count = max(min(sum(answered.values()) // FEWEST_IN_STRATUM, MOST_STRATA), 1)
        sizes = [
            (key, answered[key] + (cells[key].rows if key in cells else 0)) for key in some
        ]
        # By the rows there are, not by those that were drawn: that would be biased.
        lengths = grouped(sizes, -(-sum(size for _, size in sizes) // count))
        drawn = [(group, sum(answered[key] for key in group)) for group in lengths]
        for groups in grouped(drawn, FEWEST_ANSWERS):
            group = [key for each in groups for key in each]
            rows = sum(cells[key].rows for key in group if key in cells)
            strata.append((rows, tuple(v for key in group for v in values.get(key, ()))))
    return tuple(strata)


def _why_not(census: Census, usable: Sequence[Seen], method: Method, sheet: _Sheet) -> str:
    """Why there is nothing to expect, in words for people; empty when there is."""
    if sheet.unpriced:
        return f"no price in USD is known for {', '.join(sorted(sheet.unpriced))}"
    if method is Method.CEILING:
        return "no answers of these settings and models are known; --pilot sends a few rows"
    if method is Method.PILOT:
        short = len(usable) < FEWEST_ANSWERS
        return f"the pilot brought {len(usable)} priced answers, too few" if short else ""
    counts = dict.fromkeys(census.models, 0)
    for row in usable:
        if row.model in counts:
            counts[row.model] += 1
    missing = sorted(model for model, n in counts.items() if n < FEWEST_IN_STRATUM)
    if missing:
        return f"too few answers are known of {', '.join(missing)}; --pilot sends a few rows"
    return ""


def _forecasts(
    census: Census,
    seen: Sequence[Seen],
    rates: Mapping[str, TokenRate],
    sheet: _Sheet,
    *,
    fill: bool,
) -> tuple[ModelForecast, ...]:
    """Tokens by model, also where money is unknown; `fill`: all models may tell of each."""
    outputs: dict[str, list[int]] = {}
    for row in seen:
        outputs.setdefault(row.model, []).append(row.output_tokens)
    everything = [tokens for some in outputs.values() for tokens in some] if fill else []
    body_bytes: dict[str, int] = {}
    for (model, _), cell in census.cells.items():
        body_bytes[model] = body_bytes.get(model, 0) + cell.body_bytes
    return tuple(
        ModelForecast(
            model=model,
            requests=requests,
            input_tokens=rates[model].of(body_bytes[model]),
            output_tokens=_predicted(requests, outputs.get(model, everything)),
            input_method=rates[model].method,
            priced=model not in sheet.unpriced,
        )
        for model, requests in sorted(census.models.items())
    )


def _predicted(requests: int, sample: Sequence[int]) -> int | None:
    return round(Fraction(requests * sum(sample), len(sample))) if sample else None


def _prompt_tokens(usage: Usage) -> int:
    """Of all kinds: fresh, written to a cache, read from one."""
    written = usage.cache_write_tokens
    if written is None:
        written = (usage.cache_write_5m_tokens or 0) + (usage.cache_write_1h_tokens or 0)
    return (usage.input_tokens or 0) + written + (usage.cache_read_tokens or 0)


def _usage(text: str | None, *, as_fresh: bool) -> Usage | None:
    """`as_fresh`: what a cache saved or cost is left out, as if there had been none."""
    try:
        usage = parse_usage(None if text is None else text.encode())
    except ValueError:
        return None
    if usage is None or not as_fresh or usage.iterations:
        return usage
    return replace(
        usage,
        input_tokens=None if usage.input_tokens is None else _prompt_tokens(usage),
        cache_write_tokens=0,
        cache_write_5m_tokens=0,
        cache_write_1h_tokens=0,
        cache_read_tokens=0,
    )


def _leg(answer: SampledAnswer, usage: Usage) -> Answer:
    content = b"[]" if answer.content_is_empty else b'["."]'
    return _answer(usage, answer.model, answer.stop_reason, content)


def _answer(
    usage: Usage,
    model: str | None = None,
    stop_reason: str | None = "end_turn",
    content: bytes = b'["."]',
) -> Answer:
    """An answer that is nothing but its usage, to be priced."""
    return Answer(
        message_id=None,
        model=model,
        stop_reason=stop_reason,
        stop_sequence=None,
        content=content,
        text="",
        text_repaired=False,
        usage=usage,
        usage_raw=None,
    )


def ceiling_words(job: Job, one_each: int, in_legs: int, unbounded: int) -> str:
    """The most that requests can cost, in words: with all their attempts, and with one each."""
    if unbounded and not one_each:
        return f"none: nothing bounds what {count_of(unbounded, 'request')} cost"
    most = job.most(one_each, in_legs)
    beyond = f" plus {count_of(unbounded, 'request')} without a ceiling" if unbounded else ""
    one = format_usd(one_each)
    if most is None:
        return f"none for all attempts, {one} with one attempt per row{beyond}"
    further_legs = in_legs * (job.limits.max_legs - 1)
    why = f" and {job.limits.max_legs} legs where tools ask for them" * (
        further_legs > one_each
    )
    return (
        f"at most {format_usd(most)} with all attempts{why}, {one} with one attempt per row"
        f"{beyond}"
    )
