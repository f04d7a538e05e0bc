"""How much a charge is to be trusted: what could change its amount, and by how much at most.

`RULES` is the table. Each row names one way in which request, content and usage leave a meter
unknown or contradict each other; it sees that from a usage line and the evidence kept with the
answer, and widens what may have been used. Nothing here knows a price.
"""

from typing import Final

from batcher.messages.answer import Evidence
from batcher.pricing.rate.contradicted import CONTRADICTED
from batcher.pricing.rate.lines import UsageLine, quantities
from batcher.pricing.rate.missing import MISSING
from batcher.pricing.rate.spread import NO_EVIDENCE, OUTPUT, PossibleUse

RULES: Final = MISSING + CONTRADICTED

# Kept with every rating: what an earlier edition charged is not held against this one.
RULES_EDITION: Final = 4


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
        or (line.is_main and (line.web_searches or line.answer_usage.other_tools))
    )
