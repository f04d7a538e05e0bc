"""Who used what: the usage lines of one answer, before any price, and what they leave open.

Line 0 is the answer's top-level usage, or else the first entry of `usage.iterations`, which
hold what the totals leave out: compaction, advisors and declined fallbacks.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from batcher.messages.answer import Answer, Evidence
from batcher.messages.usage import Usage
from batcher.pricing.money import MeterQuantities

Variant = tuple[str | None, str | None, str | None]

_NO_USAGE: Final = Usage()
_FALLBACK: Final = "fallback_message"
# Iterations that are not counted in the top-level totals, and are billed even so.
_SIDE_WORK: Final = frozenset({"compaction", "advisor_message"})
# Iterations that run on the answer's own model when they name none.
_SAME_MODEL: Final = frozenset({None, "message", "compaction"})


@dataclass(slots=True)
class UsageLine:
    """A usage line before pricing.

    `counts` are the line's own, `answer_usage` the whole answer's: the same object when there
    are no iterations. `is_main`: what usage tells of the answer as a whole, such as searches,
    stands on this line. `model_assumed`: nobody said which model served. `unbilled` is why the
    provider does not charge the line, `None` when it does; `may_be_free`: perhaps it does not.
    `gaps` are by how much the totals are (above, below) the iterations, by meter; `()`: not.
    """

    number: int
    model: str | None
    counts: Usage
    answer_usage: Usage
    web_searches: int | None
    is_main: bool
    model_assumed: bool
    unbilled: str | None
    may_be_free: bool
    gaps: tuple[tuple[int, int], ...] = ()


def usage_lines(answer: Answer, requested_model: str) -> list[UsageLine]:
    """The lines of an answer, at least one; `requested_model` stands in for a missing model."""
    if answer.usage is not None and answer.usage.iterations:
        return _iteration_lines(answer, answer.usage, requested_model)
    return [_answer_line(answer, requested_model)]


def variant(line: UsageLine) -> Variant:
    """Service tier, speed and geography as reported, by the line itself or the answer."""
    own, answer = line.counts, line.answer_usage
    return (
        own.service_tier or answer.service_tier,
        own.speed or answer.speed,
        own.inference_geo or answer.inference_geo,
    )


def quantities(line: UsageLine) -> MeterQuantities:
    """What was used, in the order of `METERS`, as far as it is told.

    What was written to a cache for nobody knows how long counts as five minutes, the API's
    default.
    """
    counts = line.counts
    five, hour = counts.cache_write_5m_tokens, counts.cache_write_1h_tokens
    written = counts.cache_write_tokens
    if written and written > (split := (five or 0) + (hour or 0)):
        five = (five or 0) + written - split
    return (
        counts.input_tokens,
        five,
        hour,
        counts.cache_read_tokens,
        counts.output_tokens,
        line.web_searches,
    )


def _answer_line(answer: Answer, requested_model: str) -> UsageLine:
    usage = answer.usage or _NO_USAGE
    unbilled, may_be_free = None, False
    if answer.stop_reason == "refusal":
        silent = answer.is_empty or (answer.evidence is not None and answer.evidence.silent)
        certain = silent and usage.output_tokens == 0 and not usage.web_search_requests
        unbilled = "refusal_before_output" if certain else None
        may_be_free = not certain and (silent or not usage.output_tokens)
    return UsageLine(
        0, answer.model or requested_model or None, usage, usage, usage.web_search_requests,
        True, not answer.model, unbilled, may_be_free,  # noqa: FBT003 - by name it takes longer
    )  # fmt: skip


def _iteration_lines(answer: Answer, usage: Usage, requested_model: str) -> list[UsageLine]:
    own = _answer_line(answer, requested_model)
    entries = usage.iterations
    last_fallback = max((n for n, e in enumerate(entries) if e.kind == _FALLBACK), default=-1)
    if last_fallback >= 0:  # then the answer's model is the fallback's, not the first one's
        own.model, own.model_assumed = requested_model or None, False
    lines = [
        _iteration_line(number, entry, own, refused=number < last_fallback)
        for number, entry in enumerate(entries)
    ]
    if all(entry.kind in _SIDE_WORK for entry in entries):  # then the answer itself is missing
        return [own, *(_shifted(line) for line in lines)]
    counted = [line for line in lines if line.counts.kind not in _SIDE_WORK]
    _place_main(counted, usage)
    served = counted if last_fallback < 0 else [n for n in counted if n.number >= last_fallback]
    gaps = _gaps(usage, [line.counts for line in served])
    for line in served if gaps else ():
        line.gaps = gaps
    return lines


def _iteration_line(number: int, entry: Usage, own: UsageLine, *, refused: bool) -> UsageLine:
    model = entry.model or (own.model if entry.kind in _SAME_MODEL else None)
    declined = entry.output_tokens == 0 and entry.kind not in _SIDE_WORK
    unbilled = "declined_fallback" if declined and refused else None
    if declined and own.unbilled:
        unbilled = own.unbilled
    return UsageLine(
        number, model, entry, own.answer_usage, None, False,  # noqa: FBT003 - see above
        not entry.model and own.model_assumed, unbilled, own.may_be_free and not unbilled,
    )  # fmt: skip


def _shifted(line: UsageLine) -> UsageLine:
    line.number += 1
    return line


def _place_main(counted: list[UsageLine], usage: Usage) -> None:
    """Searches are reported per answer: they go to its first billed line of its own work."""
    first = next((line for line in counted if not line.unbilled), counted[0])
    first.web_searches = usage.web_search_requests
    first.is_main = True


def _gaps(usage: Usage, parts: list[Usage]) -> tuple[tuple[int, int], ...]:
    """By how much the totals are above and below the sums of their parts, by meter."""
    told, added = _totals(usage), _totals(parts[0])
    for part in parts[1:]:
        one, two, three, four, five = _totals(part)
        added = (
            added[0] + one, added[1] + two, added[2] + three, added[3] + four, added[4] + five,
        )  # fmt: skip
    if told == added:
        return ()
    pairs = zip(told, added, strict=True)
    return tuple([(max(total - sum_, 0), max(sum_ - total, 0)) for total, sum_ in pairs])


def _totals(usage: Usage) -> tuple[int, int, int, int, int]:
    hour = usage.cache_write_1h_tokens or 0
    written = max(usage.cache_write_tokens or 0, (usage.cache_write_5m_tokens or 0) + hour)
    return (
        usage.input_tokens or 0,
        written - hour,
        hour,
        usage.cache_read_tokens or 0,
        usage.output_tokens or 0,
    )


INPUT, WRITE_5M, WRITE_1H, READ, OUTPUT, SEARCH = range(6)
PROMPT: Final = (INPUT, WRITE_5M, WRITE_1H, READ)
NO_EVIDENCE: Final = Evidence()


@dataclass(slots=True)
class PossibleUse:
    """What a line may have used: at least, at most, and in which terms.

    `low` and `high` are by meter. Up to `pool` further tokens of the prompt may have been of
    any of `pool_meters`. `moves` are (meter, tokens, others): so many tokens counted for that
    meter may have been of one of the others. `variants` are further terms that may have held,
    with the reason why. `several`: tokens of several prompts stand in one sum. `free`: perhaps
    nothing of it is billed. `fees` are pico-USD at most. `unbounded`: there is no upper end.
    """

    low: list[int]
    high: list[int]
    pool: int = 0
    pool_meters: set[int] = field(default_factory=set)
    moves: list[tuple[int, int, tuple[int, ...]]] = field(default_factory=list)
    variants: list[tuple[str, Variant]] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    several: bool = False
    free: bool = False
    fees: int = 0
    unbounded: bool = False

    def at_most(self, meter: int, most: int | None) -> None:
        """The meter is not known: perhaps up to `most`, `None`: no bound."""
        self.unbounded |= most is None
        self.high[meter] = max(self.high[meter], most or 0)

    def at_least(self, meter: int, least: int) -> None:
        """The meter may be as low as `least`."""
        self.low[meter] = min(self.low[meter], least)


class TrustRule(NamedTuple):
    """One row of the table.

    `reason` is what a charge says, "" for what matters only where prices differ by it; `source`
    is where the case was seen; `sees` whether a line has it, `widens` what that makes possible.
    """

    reason: str
    source: str
    sees: Callable[[UsageLine, Evidence], bool]
    widens: Callable[[PossibleUse, UsageLine, Evidence], None]


def prompt_tokens(usage: Usage) -> int:
    """All tokens of a prompt: fresh, written to a cache and read from one."""
    written = max(
        usage.cache_write_tokens or 0,
        (usage.cache_write_5m_tokens or 0) + (usage.cache_write_1h_tokens or 0),
    )
    return (usage.input_tokens or 0) + written + (usage.cache_read_tokens or 0)


def cached_in_input(usage: Usage) -> int:
    """Cached tokens that may stand in `input_tokens` as well, as some gateways count; else 0.

    Those leave out the lifetimes, and often what was written. An answer that tells either, or
    the prompt as one, is as documented.
    """
    written, fresh = usage.cache_write_tokens, usage.input_tokens or 0
    lifetimes = (usage.cache_write_5m_tokens, usage.cache_write_1h_tokens)
    if written == 0 or lifetimes != (None, None) or usage.holds_whole_prompt:
        return 0
    read = usage.cache_read_tokens or 0
    cached = read + (written or 0)
    return cached if cached <= fresh else read if read <= fresh else 0


def is_above_bound(usage: Usage | None, evidence: Evidence | None) -> bool:
    """Whether usage tells a longer prompt than the request's body can be."""
    most = None if evidence is None else evidence.input_most
    return usage is not None and most is not None and prompt_tokens(usage) > most
