"""Several processes of one run, shown as one."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from batcher.pacing.usage import QuotaUse
from batcher.pipeline.progress import Progress

_SUMS: Final = (
    "claimed", "answered", "failed", "held", "quarantined", "repeated_custom_ids",
    "own_model_rows", "sent", "recorded", "in_flight", "waiting_retries", "pauses",
    "input_tokens", "output_tokens", "cost", "unpriced", "in_doubt", "in_doubt_low",
    "truncated", "refused", "invalid", "cap_reserved",
)  # fmt: skip
_TABLES: Final = ("other_currencies", "unknown_stop_reasons")


def sum_up(into: Progress, first: Progress, others: Sequence[Progress]) -> None:
    """Make `into` what `first`, which shows the run, and `others` have done together."""
    everybody = [first, *others]
    for name in _SUMS:
        setattr(into, name, sum(getattr(each, name) for each in everybody))
    for name in _TABLES:
        setattr(into, name, _added([getattr(each, name) for each in everybody]))
    into.done_before = first.done_before
    into.total_rows = max(each.total_rows for each in everybody)
    into.total_is_exact = any(each.total_is_exact for each in everybody)
    into.elsewhere = 0  # but for processes that were started elsewhere
    into.elsewhere = max(max(each.finished_rows for each in everybody) - into.finished_rows, 0)
    highs = [each.in_doubt_high for each in everybody]
    into.in_doubt_high = None if None in highs else sum(high or 0 for high in highs)
    into.note = next((each.note for each in everybody if each.note), "")
    into.outage = next((each.outage for each in everybody if each.outage), "")
    into.binding_now, into.binding = first.binding_now, first.binding
    into.quota_used = _used_together([use for each in everybody for use in each.quota_used])
    _sum_cap(into, first, others)


def _sum_cap(into: Progress, first: Progress, others: Sequence[Progress]) -> None:
    """The first knows what was spent before; the others add what they spent themselves."""
    more = sum(each.cost + (each.in_doubt_high or 0) for each in others)
    into.cap_spent, into.cap_free = 0, None
    if first.cap_free is not None:
        cap = first.cap_spent + first.cap_reserved + first.cap_free
        into.cap_spent = first.cap_spent + more
        into.cap_free = max(cap - into.cap_spent - into.cap_reserved, 0)


def _added(tables: Sequence[dict[str, int]]) -> dict[str, int]:
    added: dict[str, int] = {}
    for table in tables:
        for key, number in table.items():
            added[key] = added.get(key, 0) + number
    return added


def _used_together(uses: Sequence[QuotaUse]) -> list[QuotaUse]:
    together: dict[tuple[str, str], QuotaUse] = {}
    for use in uses:
        known = together.get((use.quota, use.limit))
        used = use.used + (known.used if known else 0.0)
        together[use.quota, use.limit] = replace(use, used=used)
    return list(together.values())
