"""Who used what: the usage lines of one answer, before any price.

Line 0 is the answer's top-level usage, or else the first entry of `usage.iterations`, which
hold what the totals leave out: compaction, advisors and declined fallbacks.
"""

from dataclasses import dataclass
from typing import Final

from batcher.messages.answer import Answer
from batcher.messages.usage import Usage
from batcher.pricing.money import MeterQuantities

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
    are no iterations. `assumed` names an assumption about the model. `unbilled` is why the
    provider does not charge the line, `None` when it does.
    """

    number: int
    model: str | None
    counts: Usage
    answer_usage: Usage
    web_searches: int | None
    assumed: str | None
    unbilled: str | None


def usage_lines(answer: Answer, requested_model: str) -> list[UsageLine]:
    """The lines of an answer, at least one; `requested_model` stands in for a missing model."""
    if answer.usage is not None and answer.usage.iterations:
        return _iteration_lines(answer, answer.usage, requested_model)
    return [_answer_line(answer, requested_model)]


def variant(line: UsageLine) -> tuple[str | None, str | None, str | None]:
    """Service tier, speed and geography as reported, by the line itself or the answer."""
    own, answer = line.counts, line.answer_usage
    return (
        own.service_tier or answer.service_tier,
        own.speed or answer.speed,
        own.inference_geo or answer.inference_geo,
    )


def quantities(line: UsageLine) -> tuple[MeterQuantities, str | None]:
    """What was used, in the order of `METERS`, and the assumption made about cache writes."""
    counts = line.counts
    five, hour = counts.cache_write_5m_tokens, counts.cache_write_1h_tokens
    written, assumed = counts.cache_write_tokens, None
    if written and written != (split := (five or 0) + (hour or 0)):
        if written > split:  # the API's default lifetime is five minutes
            five, assumed = (five or 0) + written - split, "ttl_assumed"
        else:
            assumed = "cache_split_mismatch"
    return (
        counts.input_tokens,
        five,
        hour,
        counts.cache_read_tokens,
        counts.output_tokens,
        line.web_searches,
    ), assumed


def _answer_line(answer: Answer, requested_model: str) -> UsageLine:
    usage = answer.usage or _NO_USAGE
    unbilled = None
    if answer.stop_reason == "refusal" and usage.output_tokens == 0 and answer.is_empty:
        unbilled = "refusal_before_output"
    assumed = None if answer.model else "model_assumed"
    if usage.other_tools and not usage.iterations:
        assumed = _unmetered(assumed, usage)
    return UsageLine(
        0,
        answer.model or requested_model or None,
        usage,
        usage,
        usage.web_search_requests,
        assumed,
        unbilled,
    )


def _iteration_lines(answer: Answer, usage: Usage, requested_model: str) -> list[UsageLine]:
    own = _answer_line(answer, requested_model)
    entries = usage.iterations
    last_fallback = max((n for n, e in enumerate(entries) if e.kind == _FALLBACK), default=-1)
    if last_fallback >= 0:  # then the answer's model is the fallback's, not the first one's
        own.model, own.assumed = requested_model or None, None
    lines = [
        _iteration_line(number, entry, own, refused=number < last_fallback)
        for number, entry in enumerate(entries)
    ]
    if all(entry.kind in _SIDE_WORK for entry in entries):  # then the answer itself is missing
        return [own, *(_shifted(line) for line in lines)]
    _place_searches(lines, usage)
    return lines


def _iteration_line(number: int, entry: Usage, own: UsageLine, *, refused: bool) -> UsageLine:
    model = entry.model or (own.model if entry.kind in _SAME_MODEL else None)
    declined = entry.output_tokens == 0 and entry.kind not in _SIDE_WORK
    unbilled = "declined_fallback" if declined and refused else None
    if declined and own.unbilled:
        unbilled = own.unbilled
    assumed = None if entry.model else own.assumed
    return UsageLine(number, model, entry, own.answer_usage, None, assumed, unbilled)


def _shifted(line: UsageLine) -> UsageLine:
    line.number += 1
    return line


def _place_searches(lines: list[UsageLine], usage: Usage) -> None:
    """Searches are reported per answer: they go to its first billed line of its own work."""
    billed = [
        line for line in lines if not line.unbilled and line.counts.kind not in _SIDE_WORK
    ]
    first = (billed or lines)[0]
    first.web_searches = usage.web_search_requests
    if usage.other_tools:
        first.assumed = _unmetered(first.assumed, usage)


def _unmetered(assumed: str | None, usage: Usage) -> str:
    """What the price of a line leaves out: tools whose cost no usage tells."""
    names = (f"not_metered={name}" for name in usage.other_tools)
    return "+".join(part for part in (assumed, *names) if part)
