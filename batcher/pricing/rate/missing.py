# ruff: noqa: ARG001 - the rows of a table are all called alike
"""What usage leaves out or cannot say, though request or content make it possible."""

from typing import Final

from batcher.messages.answer import Evidence
from batcher.messages.evidence import NO_LIMIT
from batcher.pricing.rate.lines import (
    INPUT,
    NO_EVIDENCE,
    OUTPUT,
    PROMPT,
    READ,
    SEARCH,
    WRITE_1H,
    WRITE_5M,
    PossibleUse,
    TrustRule,
    UsageLine,
    prompt_tokens,
    variant,
)


def _usage_is_missing(line: UsageLine, evidence: Evidence) -> bool:
    return line.counts.input_tokens is None or line.counts.output_tokens is None


def _widen_missing(spread: PossibleUse, line: UsageLine, evidence: Evidence) -> None:
    if line.counts.input_tokens is None:
        spread.pool_meters |= {INPUT, READ}
        if evidence.cache_lifetimes or evidence is NO_EVIDENCE:
            spread.pool_meters |= {WRITE_5M, WRITE_1H}
    if line.counts.output_tokens is None:
        spread.at_most(OUTPUT, evidence.output_most)


def cache_is_missing(line: UsageLine, evidence: Evidence) -> bool:
    """Whether something was to be cached, and usage does not say what was."""
    counts = line.counts
    return bool(evidence.cache_lifetimes) and (
        counts.cache_write_tokens is None or counts.cache_read_tokens is None
    )


def _widen_cache(spread: PossibleUse, line: UsageLine, evidence: Evidence) -> None:
    """What is called input may be the whole prompt, of which a part was read or written."""
    counts = line.counts
    hour = evidence.cache_lifetimes > 1
    writes = (WRITE_5M, WRITE_1H) if hour else (WRITE_5M,)
    missing: tuple[int, ...] = writes if counts.cache_write_tokens is None else ()
    missing += (READ,) if counts.cache_read_tokens is None else ()
    if counts.holds_whole_prompt or len(missing) > 1:
        spread.moves.append((INPUT, counts.input_tokens or 0, missing))
    if not counts.holds_whole_prompt:
        spread.pool_meters |= {*missing, INPUT}


def _searches_are_open(line: UsageLine, evidence: Evidence) -> bool:
    if not line.is_main:
        return False
    told, shown = line.web_searches, evidence.search_results
    if told is None:
        asked = evidence.searches != 0 or shown + evidence.failed_searches > 0
        return asked or "web_search_requests" in line.answer_usage.odd
    return told < shown


def _widen_searches(spread: PossibleUse, line: UsageLine, evidence: Evidence) -> None:
    shown = evidence.search_results
    spread.low[SEARCH] = shown if line.web_searches is None else line.web_searches
    unlimited = evidence.searches == NO_LIMIT and not shown + evidence.failed_searches
    spread.unbounded |= unlimited or evidence is NO_EVIDENCE
    spread.at_most(SEARCH, max(shown + evidence.failed_searches, evidence.searches))


_CODE_COUNTER: Final = "code_execution_requests"
# A container lives 30 days at most; an hour of it costs $0.05.
_CONTAINER_FEE: Final = 30 * 24 * 50_000_000_000


def _code_may_have_run(line: UsageLine, evidence: Evidence) -> bool:
    return line.is_main and (evidence.code or _CODE_COUNTER in line.answer_usage.other_tools)


def _widen_code(spread: PossibleUse, line: UsageLine, evidence: Evidence) -> None:
    spread.fees += _CONTAINER_FEE
    spread.reasons.append(f"not_metered={_CODE_COUNTER}")


def _tool_is_unknown(line: UsageLine, evidence: Evidence) -> bool:
    return line.is_main and (
        evidence.other_results or any(n != _CODE_COUNTER for n in line.answer_usage.other_tools)
    )


def _widen_tools(spread: PossibleUse, line: UsageLine, evidence: Evidence) -> None:
    spread.unbounded = True
    names = [name for name in line.answer_usage.other_tools if name != _CODE_COUNTER]
    spread.reasons += [f"not_metered={name}" for name in names or ("other",)]


_ORDINARY: Final = (None, "")


def _terms_are_open(line: UsageLine, evidence: Evidence) -> bool:
    tier, speed, geography = variant(line)
    return (
        (evidence.geography is not None and geography in _ORDINARY)
        or (evidence.speed is not None and speed in _ORDINARY)
        or (evidence.tier is not None and tier in _ORDINARY)
    )


def _widen_terms(spread: PossibleUse, line: UsageLine, evidence: Evidence) -> None:
    """Each term that was asked for and not echoed, with and without the others."""
    tier, speed, geography = variant(line)
    tiers = _either("service_tier", tier, evidence.tier)
    speeds = _either("speed", speed, evidence.speed)
    places = _either("inference_geo", geography, evidence.geography)
    found = [
        ("+".join(filter(None, (one[0], two[0], three[0]))), (one[1], two[1], three[1]))
        for one in tiers
        for two in speeds
        for three in places
    ]
    spread.variants = found[1:]


def _either(name: str, told: str | None, asked: str | None) -> list[tuple[str, str | None]]:
    if asked is None or told not in _ORDINARY:
        return [("", told)]
    return [("", told), (f"{name}_not_echoed", asked)]


_WRITES: Final = (WRITE_5M, WRITE_1H)
_BILLED_COUNTS: Final = {
    "input_tokens": (INPUT, READ),
    "prompt_tokens": (INPUT, READ),
    "prompt": (INPUT, READ, WRITE_5M, WRITE_1H),
    "cache_spelling": (INPUT, READ, WRITE_5M, WRITE_1H),
    "prompt_tokens_details": (READ, WRITE_5M, WRITE_1H),
    "input_tokens_details": (READ, WRITE_5M, WRITE_1H),
    "cached_tokens": (READ,),
    "cache_read_input_tokens": (READ,),
    "cache_creation_tokens": _WRITES,
    "cache_write_tokens": _WRITES,
    "cache_creation_token_details": _WRITES,
    "cache_creation_input_tokens": _WRITES,
    "cache_creation": _WRITES,
    "ephemeral_5m_input_tokens": _WRITES,
    "ephemeral_1h_input_tokens": _WRITES,
}
_OUTPUT_COUNTS: Final = frozenset({"output_tokens", "completion_tokens"})
_NO_METERS: Final = frozenset(
    {"thinking_tokens", "reasoning_tokens", "output_tokens_details"}
    | {"completion_tokens_details", "web_search_requests"}
)  # what they leave open is seen by other rules, or is no part of the bill


def _counts_are_odd(line: UsageLine, evidence: Evidence) -> bool:
    return not _NO_METERS.issuperset(line.counts.odd)


def _widen_odd(spread: PossibleUse, line: UsageLine, evidence: Evidence) -> None:
    counts = line.counts
    for name in counts.odd:
        meters = _BILLED_COUNTS.get(name, ())
        if name in _OUTPUT_COUNTS:
            spread.at_most(OUTPUT, evidence.output_most)
        elif meters == _WRITES and counts.cache_write_tokens is not None:
            _widen_lifetimes(spread, line, evidence)
        elif counts.holds_whole_prompt and meters and INPUT not in meters:
            spread.moves.append((INPUT, counts.input_tokens or 0, meters))
        else:
            spread.pool_meters.update(meters)
        if name in {"prompt", "cache_spelling"}:
            for meter in PROMPT:
                spread.at_least(meter, 0)
        spread.unbounded |= name == "iterations" and evidence.input_most is None
        spread.unbounded |= name == "other_tokens"


def _counts_are_unknown(line: UsageLine, evidence: Evidence) -> bool:
    return bool(line.counts.other_tokens)


def _widen_unknown(spread: PossibleUse, line: UsageLine, evidence: Evidence) -> None:
    """Perhaps they are a part of the prompt that was cheap; perhaps they come on top."""
    more, prompt = line.counts.other_tokens, line.counts.input_tokens or 0
    spread.moves.append((INPUT, min(more, prompt), (READ,)))
    spread.high[INPUT] += more  # the prompt's size may decide the price
    spread.high[OUTPUT] += more


def _readings_differ(line: UsageLine, evidence: Evidence) -> bool:
    return line.counts.input_at_most is not None or line.counts.output_at_most is not None


def _widen_readings(spread: PossibleUse, line: UsageLine, evidence: Evidence) -> None:
    spread.at_most(INPUT, line.counts.input_at_most or 0)
    spread.at_most(OUTPUT, line.counts.output_at_most or 0)


def _lifetimes_are_open(line: UsageLine, evidence: Evidence) -> bool:
    counts = line.counts
    split = (counts.cache_write_5m_tokens or 0) + (counts.cache_write_1h_tokens or 0)
    return bool(counts.cache_write_tokens) and counts.cache_write_tokens > split  # type: ignore[operator]


def _widen_lifetimes(spread: PossibleUse, line: UsageLine, evidence: Evidence) -> None:
    counts = line.counts
    written = counts.cache_write_tokens or 0
    known = counts.cache_write_1h_tokens or 0
    if evidence.cache_lifetimes != 1:  # only five minutes were asked for
        spread.moves.append((WRITE_5M, written - known, (WRITE_1H,)))


def _nobody_named_the_model(line: UsageLine, evidence: Evidence) -> bool:
    return line.model_assumed


def _may_be_free(line: UsageLine, evidence: Evidence) -> bool:
    return line.may_be_free


def _widen_free(spread: PossibleUse, line: UsageLine, evidence: Evidence) -> None:
    spread.free = True


_SOME_TOKENS: Final = 10_000  # no price depends on the size of a smaller prompt


def _prompts_are_added(line: UsageLine, evidence: Evidence) -> bool:
    """Totals of an answer with server tools add up several prompts."""
    several = evidence.several or bool(line.web_searches)
    return (
        several
        and line.counts is line.answer_usage
        and prompt_tokens(line.counts) > _SOME_TOKENS
    )


def _widen_sizes(spread: PossibleUse, line: UsageLine, evidence: Evidence) -> None:
    spread.several = True


def _nothing_more(spread: PossibleUse, line: UsageLine, evidence: Evidence) -> None:
    """What is told is the best that can be said."""


MISSING: Final = (
    TrustRule("model_assumed", "docs, Messages: a server that names no model",
         _nobody_named_the_model, _nothing_more),
    TrustRule("usage_missing", "docs, Messages: usage null, absent, or one side of it",
         _usage_is_missing, _widen_missing),
    TrustRule("count_odd", "huggingface/tau#617: counters that are no numbers",
         _counts_are_odd, _widen_odd),
    TrustRule("count_unknown", "xAI: reasoning_tokens; Moonshot, DeepSeek: cached_tokens",
         _counts_are_unknown, _widen_unknown),
    TrustRule("cache_not_reported", "opencode#18440; CRUN reports two fields",
         cache_is_missing, _widen_cache),
    TrustRule("searches_not_reported", "langfuse#15856, WordPress/ai-provider-for-anthropic#41",
         _searches_are_open, _widen_searches),
    TrustRule("", "docs, pricing: usage does not tell the time",
         _code_may_have_run, _widen_code),
    TrustRule("", "docs, Messages: counters that come later",
         _tool_is_unknown, _widen_tools),
    TrustRule("", "docs, pricing: terms are what the answer says they were",
         _terms_are_open, _widen_terms),
    TrustRule("spellings_disagree", "langfuse#12306, posthog#39901, litellm#11364",
         _readings_differ, _widen_readings),
    TrustRule("ttl_assumed", "docs, pricing: writes without their lifetime",
         _lifetimes_are_open, _widen_lifetimes),
    TrustRule("refusal_unclear", "docs, pricing: only a refusal before any output is free",
         _may_be_free, _widen_free),
    TrustRule("", "docs, pricing: totals add up several prompts",
         _prompts_are_added, _widen_sizes),
)  # fmt: skip
