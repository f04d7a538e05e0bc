# ruff: noqa: ARG001 - the rows of a table are all called alike
"""How much a charge is to be trusted: what could change its amount, and by how much at most.

`RULES` is the table. Each row names one way in which request, content and usage leave a meter
unknown or contradict each other; it sees that from a usage line and the evidence kept with the
answer, and widens what may have been used. Nothing here knows a price.
"""

from typing import Final

from batcher.messages.answer import Evidence
from batcher.messages.usage import Usage
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
    cached_in_input,
    is_above_bound,
    prompt_tokens,
    quantities,
)
from batcher.pricing.rate.missing import MISSING, cache_is_missing


def _counts_fell(line: UsageLine, evidence: Evidence) -> bool:
    return bool(evidence.fell) and line.is_main


_METER_OF: Final = {
    "input_tokens": INPUT, "prompt_tokens": INPUT, "cache_creation_input_tokens": WRITE_5M,
    "cache_read_input_tokens": READ, "output_tokens": OUTPUT, "completion_tokens": OUTPUT,
    "web_search_requests": SEARCH, "cached_tokens": READ,
    "ephemeral_5m_input_tokens": WRITE_5M, "ephemeral_1h_input_tokens": WRITE_1H,
}  # fmt: skip


def _widen_fallen(spread: PossibleUse, line: UsageLine, evidence: Evidence) -> None:
    for name, least, most in evidence.fell:
        meter = _METER_OF.get(name)
        if meter is None:
            continue
        spread.at_least(meter, least)
        spread.at_most(meter, most)
        if meter == OUTPUT:
            spread.at_most(OUTPUT, evidence.output_most)
        elif name == "cache_creation_input_tokens":
            spread.at_least(WRITE_1H, 0)
            spread.at_most(WRITE_1H, most)
        if meter in PROMPT and evidence.several:
            spread.pool_meters.add(meter)


def _steps_disagree(line: UsageLine, evidence: Evidence) -> bool:
    return bool(line.gaps)


def _widen_steps(spread: PossibleUse, line: UsageLine, evidence: Evidence) -> None:
    for meter, (above, below) in enumerate(line.gaps):
        spread.at_least(meter, max(spread.low[meter] - below, 0))
        spread.at_most(meter, spread.high[meter] + above)


def _thinks_more_than_it_says(line: UsageLine, evidence: Evidence) -> bool:
    counts = line.counts
    return counts.thinking_tokens is not None and counts.thinking_tokens > (
        counts.output_tokens or 0
    )


def _widen_thinking(spread: PossibleUse, line: UsageLine, evidence: Evidence) -> None:
    both = (line.counts.output_tokens or 0) + (line.counts.thinking_tokens or 0)
    spread.at_most(OUTPUT, both)
    spread.at_most(OUTPUT, evidence.output_most)


def _says_more_than_it_counts(line: UsageLine, evidence: Evidence) -> bool:
    output = line.answer_usage.output_tokens
    if not line.is_main or output is None:
        return False
    return output < evidence.output_least or (output == 0 and evidence.spoke)


def _widen_output(spread: PossibleUse, line: UsageLine, evidence: Evidence) -> None:
    spread.at_most(OUTPUT, evidence.output_most)


def _prompt_is_too_long(line: UsageLine, evidence: Evidence) -> bool:
    return is_above_bound(line.counts, evidence)


def _widen_long_prompt(spread: PossibleUse, line: UsageLine, evidence: Evidence) -> None:
    for meter in PROMPT:
        spread.at_least(meter, 0)


def _prompt_is_too_short(line: UsageLine, evidence: Evidence) -> bool:
    usage = line.answer_usage
    return (
        line.is_main
        and usage.input_tokens is not None
        and not cache_is_missing(line, evidence)
        and _longest_prompt(usage) < evidence.input_least
    )


def _longest_prompt(usage: Usage) -> int:
    """After a compaction, which is told by itself, a prompt is shorter than what was sent."""
    return max(prompt_tokens(usage), *map(prompt_tokens, usage.iterations), 0)


def _widen_short_prompt(spread: PossibleUse, line: UsageLine, evidence: Evidence) -> None:
    spread.pool_meters |= {INPUT, READ}
    if evidence.cache_lifetimes:
        spread.pool_meters |= {WRITE_5M, WRITE_1H}


def _output_is_too_long(line: UsageLine, evidence: Evidence) -> bool:
    most, output = evidence.output_most, line.counts.output_tokens
    return most is not None and not evidence.several and (output or 0) > most


def _widen_long_output(spread: PossibleUse, line: UsageLine, evidence: Evidence) -> None:
    spread.at_least(OUTPUT, min(evidence.output_least, spread.low[OUTPUT]))


def _split_is_too_much(line: UsageLine, evidence: Evidence) -> bool:
    counts = line.counts
    split = (counts.cache_write_5m_tokens or 0) + (counts.cache_write_1h_tokens or 0)
    return counts.cache_write_tokens is not None and counts.cache_write_tokens < split


def _widen_split(spread: PossibleUse, line: UsageLine, evidence: Evidence) -> None:
    surplus = spread.high[WRITE_5M] + spread.high[WRITE_1H] - (
        line.counts.cache_write_tokens or 0
    )  # fmt: skip
    for meter in (WRITE_5M, WRITE_1H):
        spread.at_least(meter, max(spread.low[meter] - surplus, 0))


def _input_may_hold_cached(line: UsageLine, evidence: Evidence) -> bool:
    return line.counts is line.answer_usage and cached_in_input(line.counts) > 0


def _widen_cached_input(spread: PossibleUse, line: UsageLine, evidence: Evidence) -> None:
    fresh = line.counts.input_tokens or 0
    spread.at_least(INPUT, fresh - cached_in_input(line.counts))


CONTRADICTED: Final = (
    TrustRule("counts_fell", "envoyproxy/ai-gateway#1631, sglang#20830: a delta overwrites",
         _counts_fell, _widen_fallen),
    TrustRule("iterations_disagree", "docs, pricing: totals are the sums of their iterations",
         _steps_disagree, _widen_steps),
    TrustRule("thinking_above_output", "docs, pricing: thinking is a part of the output",
         _thinks_more_than_it_says, _widen_thinking),
    TrustRule("output_below_text", "docs, Messages: output is never 0 beside text",
         _says_more_than_it_counts, _widen_output),
    TrustRule("output_above_max_tokens", "docs, Messages: max_tokens ends an answer",
         _output_is_too_long, _widen_long_output),
    TrustRule("input_above_bound", "a byte of text is at least as much as a token of it",
         _prompt_is_too_long, _widen_long_prompt),
    TrustRule("input_below_text", "no ordinary text has 16 characters to a token",
         _prompt_is_too_short, _widen_short_prompt),
    TrustRule("cache_split_mismatch", "docs, pricing: the lifetimes add up to what was written",
         _split_is_too_much, _widen_split),
    TrustRule("cached_in_input", "new-api#2791, langfuse#12306: input holds what was read",
         _input_may_hold_cached, _widen_cached_input),
)  # fmt: skip


RULES: Final = MISSING + CONTRADICTED

# Kept with every rating: what an earlier edition charged is not held against this one.
RULES_EDITION: Final = 5


def doubts(line: UsageLine, evidence: Evidence | None) -> PossibleUse | None:
    """What may have been used instead of what is told; `None`: nothing is open."""
    if evidence is None:
        if _is_clear(line):
            return None
        evidence = NO_EVIDENCE
    rules = [rule for rule in RULES if rule.sees(line, evidence)]
    if not rules:
        return None
    told = [count or 0 for count in quantities(line)]
    spread = PossibleUse(told, told.copy())
    for rule in rules:
        rule.widens(spread, line, evidence)
        if rule.reason:
            spread.reasons.append(rule.reason)
    if spread.pool_meters:
        spread.unbounded |= evidence.input_most is None
        spread.pool = max((evidence.input_most or 0) - sum(spread.low[:OUTPUT]), 0)
    return spread


def is_open(lines: list[UsageLine], evidence: Evidence) -> bool:
    """Whether any line of an answer needs its evidence."""
    return any(rule.sees(line, evidence) for line in lines for rule in RULES)


def reads_are_clear(usage: Usage) -> bool:
    """Whether it is certain that `input_tokens` leaves out what was read from a cache."""
    return not usage.cache_read_tokens or not cached_in_input(usage)


def _is_clear(line: UsageLine) -> bool:
    """Whether no rule can see anything that usage alone tells."""
    counts = line.counts
    output = counts.output_tokens
    split = (counts.cache_write_5m_tokens or 0) + (counts.cache_write_1h_tokens or 0)
    if (counts.cache_write_tokens or 0) != split:
        return False
    return not (
        counts.input_tokens is None
        or output is None
        or counts.odd
        or counts.other_tokens
        or (counts.thinking_tokens or 0) > output
        or counts.input_at_most is not None
        or counts.output_at_most is not None
        or line.gaps
        or line.model_assumed
        or line.may_be_free
        or (counts.cache_read_tokens and not reads_are_clear(counts))
        or (line.is_main and (line.web_searches or line.answer_usage.other_tools))
    )
