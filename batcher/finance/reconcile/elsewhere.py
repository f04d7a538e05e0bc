"""Differences that make up for each other: the same amount stands in another place."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from fractions import Fraction
from typing import Final

from batcher.finance.reconcile.cause import Line, is_settled
from batcher.finance.reconcile.theirs import BillPlace

_OTHER: Final = {"cache_write_5m": "cache_write_1h", "cache_write_1h": "cache_write_5m"}
_DAY: Final = timedelta(days=1)


def relate(lines: Mapping[BillPlace, Line], workspaces: Sequence[str]) -> None:
    """Say of each line that does not agree where its opposite stands, if it does."""
    open_lines = [line for line in lines.values() if not is_settled(line)]
    for line in open_lines:
        line.elsewhere = next(
            (
                words
                for words, place in _places(line.place, lines)
                if place in lines and _opposite(line, lines[place])
            ),
            "",
        )
    ours = [line for line in lines.values() if line.ours_used or line.ours_cost]
    if workspaces and ours and all(_only_ours(line) for line in ours):
        for line in open_lines:
            line.elsewhere = f"workspace: theirs {', '.join(workspaces)}"


def _places(
    place: BillPlace, lines: Mapping[BillPlace, Line]
) -> Iterator[tuple[str, BillPlace]]:
    """Where the opposite may stand, the likeliest first."""
    if other := _OTHER.get(place.kind):
        yield f"lifetime: {other.replace('_', ' ')}", replace(place, kind=other)
    for name, word in (("tier", "tier"), ("geography", "geography")):
        for value in {getattr(each, name) for each in lines} - {getattr(place, name)}:
            yield f"{word}: {value or 'none'}", replace(place, **{name: value})
    for day in (place.day - _DAY, place.day + _DAY):
        yield f"midnight: {day}", replace(place, day=day)


def _opposite(one: Line, other: Line) -> bool:
    used = one.used_difference, other.used_difference
    if used[0] or used[1]:
        return used[0] == -used[1] != 0
    cost = one.cost_difference, other.cost_difference
    return cost[0] != 0 and abs(cost[0] + cost[1]) <= one.slack + other.slack


def _only_ours(line: Line) -> bool:
    return not line.theirs_used and not (line.theirs_cost or Fraction(0))
