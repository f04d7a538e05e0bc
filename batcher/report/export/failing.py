"""Rows without an answer, as they came: to be mended and run."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from sqlalchemy import Engine

from batcher.report.export.joined import why_changed
from batcher.report.export.past_damage import UNREADABLE
from batcher.report.export.rows import ExportSource, Position, read_failed
from batcher.rows.read.reader import original_lines
from batcher.rows.read.source import source_of


def failed_lines(
    engine: Engine,
    source: ExportSource,
    position: Position,
    warn: Callable[[str], None],
    lost_to_damage: dict[str, list[int]],
) -> Iterator[tuple[bytes, str]]:
    """Lines and reasons; both sides are in row order."""
    failed = _readable(read_failed(engine, source, position), source, lost_to_damage)
    number, failure = next(failed, (None, {}))
    if number is None:
        return
    problem = why_changed(source)
    if problem is not None:
        warn(f"{source.name}: {problem}, so its rows are left out; run it again first")
        return
    lost = 0
    for row_number, line in original_lines(source_of(source.name, source.place)):
        while number is not None and number < row_number:
            lost += 1
            number, failure = next(failed, (None, {}))
        if number == row_number:
            yield line, failure["reason"]
            number, failure = next(failed, (None, {}))
        if number is None:
            break
    lost += (number is not None) + sum(1 for _ in failed)
    if lost:
        warn(f"{source.name}: {lost:,} rows cannot be read, so they are left out")


def _readable(
    outcomes: Iterator[tuple[int, Mapping[str, Any]]],
    source: ExportSource,
    lost: dict[str, list[int]],
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for row_number, outcome in outcomes:
        if outcome["status"] == UNREADABLE:
            lost.setdefault(source.name, []).append(row_number)
        else:
            yield row_number, outcome
