"""A pilot: a few real rows, drawn at random from every length, sent before all the others.

They go through the ordinary engine under the run's own key, so their answers are kept and the
run that follows does not send them again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final, TypeVar

from batcher.estimate.census import Cell, CellKey, Ticket
from batcher.pipeline.choices import LaneChoice
from batcher.pipeline.events import Ended
from batcher.pipeline.job import Job, Services
from batcher.pipeline.run.run import LoopFactory, run_job
from batcher.rows.ranges import RowRanges

FEWEST_IN_STRATUM: Final = 12  # answers: with less, the scatter of a stratum is not known
_FEWEST_DRAWN: Final = 6  # rows from one group of lengths

T = TypeVar("T")


def grouped(weights: Sequence[tuple[T, int]], at_least: int) -> list[list[T]]:
    """Neighbours joined, in order, until each group weighs `at_least`; nothing is left out.

    What is too light at the end goes to the last group. Together lighter: one group.
    """
    groups: list[list[T]] = []
    current: list[T] = []
    weight = 0
    for item, heavy in weights:
        current.append(item)
        weight += heavy
        if weight >= at_least:
            groups.append(current)
            current, weight = [], 0
    if current and groups:
        groups[-1] += current
    elif current:
        groups.append(current)
    return groups


def allotted(sizes: Sequence[int], rows: int) -> list[int]:
    """`rows` shared out by `sizes`, the largest remainders first, never more than there are."""
    total = sum(sizes)
    rows = min(rows, total)
    if not rows:
        return [0] * len(sizes)
    shares = [size * rows // total for size in sizes]
    order = sorted(range(len(sizes)), key=lambda n: (-(sizes[n] * rows % total), n))
    for n in order[: rows - sum(shares)]:
        shares[n] += 1
    return shares


def draw(cells: Mapping[CellKey, Cell], rows: int) -> dict[str, RowRanges]:
    """So many rows at random, from each model and length in proportion; by source.

    Models are in the order of their names, lengths ascend. Within a stratum every set of rows
    is equally likely: the smallest chances of several cells are those of their union.
    """
    ordered = sorted(cells.items())
    total = sum(cell.rows for _, cell in ordered)
    at_least = -(-total * _FEWEST_DRAWN // max(rows, 1))
    groups = grouped([(cell, cell.rows) for _, cell in ordered], at_least)
    shares = allotted([sum(cell.rows for cell in group) for group in groups], rows)
    chosen: dict[str, RowRanges] = {}
    for group, share in zip(groups, shares, strict=True):
        for ticket in _drawn(group, share):
            chosen.setdefault(ticket.source, RowRanges()).add(ticket.row_number)
    return chosen


def send_pilot(
    job: Job,
    services: Services,
    chosen: Mapping[str, RowRanges],
    loop_factory: LoopFactory | None = None,
) -> Ended:
    """Send the `chosen` rows, by the name of their source, and nothing else.

    Raises `ChangedSettings` as every invocation of a run does.
    """
    limits = replace(job.limits, row_limit=None)
    lane = LaneChoice.BATCH if job.lane.packs else LaneChoice.LIVE
    pilot = replace(job, limits=limits, lane=lane)
    return run_job(pilot, replace(services, chosen=chosen), loop_factory)


def _drawn(group: Sequence[Cell], share: int) -> list[Ticket]:
    return sorted(ticket for cell in group for ticket in cell.drawn())[:share]
