"""What limits a run, and how much of its quotas it uses, as words for people."""

from itertools import groupby
from operator import attrgetter
from typing import Any, Final

from batcher.pacing.limits import Limit, QuotaUse
from batcher.pipeline.progress import BindingLimit, Progress
from batcher.report.words import count_of

_QUOTAS_SHOWN: Final = 4  # the fullest ones; --json has them all

_HINTS: Final = {
    "--concurrency": "a higher --concurrency would raise it",
    "--rpm": "a higher --rpm would raise it",
    "--itpm": "a higher --itpm would raise it",
    "--otpm": "a higher --otpm would raise it",
    "--quota-share": "a higher --quota-share would raise it",
    "--database": "a --database on a faster disk or server would raise it, and so may a higher"
    " --concurrency",
    "INPUT": "an INPUT that is read faster, like uncompressed JSONL, would raise it",
}


def limit_words(progress: Progress) -> str:
    """What limits the run at present and the quota used; empty when nothing does."""
    binding = progress.binding_limit_now
    if binding is None:
        return ""
    words = f"limited by {binding.name}"
    used = [use.used for use in progress.quota_used if use.limit == binding.name]
    if used:
        words += f", {_percent(max(used))} used"
    if progress.pauses:
        words += f", {_refusals(progress)}"
    return f"{words} ({binding.option})" if binding.option else words


def limit_lines(progress: Progress) -> list[str]:
    """The same for the whole run, at its end."""
    lines = []
    if progress.binding_limit is not None:
        lines.append(_binding_line(progress.binding_limit))
    lines += [f"quota of {words}" for words in quota_words(progress)]
    if progress.pauses or progress.quota_used:
        lines.append(f"{_refusals(progress)} came back")
    return lines


def quota_words(progress: Progress, most: int = _QUOTAS_SHOWN) -> list[str]:
    """The fullest quotas, `most` of them, and how much of each is used."""
    by_quota = groupby(progress.quota_used, attrgetter("quota"))
    quotas = [(quota, list(uses)) for quota, uses in by_quota]
    quotas.sort(key=lambda quota: -max(use.used for use in quota[1]))
    return [_quota_line(quota, uses) for quota, uses in quotas[:most]]


def limit_json(progress: Progress) -> dict[str, Any]:
    """The same for a program; parts are of 1."""
    binding = progress.binding_limit
    return {
        "binding_limit": binding.name if binding else None,
        "binding_option": binding.option if binding else None,
        "binding_part": round(binding.part, 3) if binding else None,
        "quota_used": [
            {
                "quota": use.quota,
                "limit": str(use.limit),
                "per_minute": use.per_minute,
                "used": round(use.used, 4),
            }
            for use in progress.quota_used
        ],
    }


def _binding_line(binding: BindingLimit) -> str:
    return (
        f"limited by {binding.name} for {_percent(binding.part)} of the time: {_hint(binding)}"
    )


def _hint(binding: BindingLimit) -> str:
    if binding.name in (Limit.LEARNED, Limit.PAUSE):
        return "naming your limits with --rpm, --itpm and --otpm is better"
    if binding.option is not None:
        return _HINTS[binding.option]
    if binding.name == Limit.CONCURRENCY:
        return "the server is overloaded, no option would raise it"
    if binding.name == Limit.SERVER:
        return "no option would raise it"
    return "only the provider can raise it"


def _quota_line(quota: str, uses: list[QuotaUse]) -> str:
    parts = (f"{_percent(use.used)} of {use.per_minute:,.0f} {use.limit}" for use in uses)
    return f"{quota} used: {', '.join(parts)}"


def _refusals(progress: Progress) -> str:
    return f"{count_of(progress.pauses, 'answer')} with status 429"


def _percent(part: float) -> str:
    return f"{part * 100:.0f} %"
