"""The rows of a run that got no answer, as they came: to be mended and sent again."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sqlalchemy import Engine

from batcher.errors import UsageError
from batcher.report.export.answers import ExportOptions, why_changed
from batcher.report.export.rows import (
    ExportSource,
    Position,
    read_failed,
    read_position,
    read_sources,
)
from batcher.rows.out.output import format_of
from batcher.rows.out.sink import Sink, storage_errors
from batcher.rows.read.original import original_lines
from batcher.rows.read.source import source_of


@dataclass(frozen=True, slots=True)
class ExportedFailures:
    """How many rows were written, and why they had no answer."""

    rows: int
    reasons: dict[str, int]


def export_failures(
    engine: Engine, run_id: int, options: ExportOptions, warn: Callable[[str], None]
) -> ExportedFailures:
    """Write the quarantined, failed and held rows of the run as JSON lines, in input order.

    A line of a JSONL input is written byte by byte as it came, be it JSON or not; a record of
    another input as an object of its columns. What cannot be read, or has changed since the
    run read it, is told to `warn` and left out.

    Raises `UsageError` for an unknown run or another kind of file, `CannotCreate` when the
    target cannot be written, `StorageError` for trouble with a disk or the database.
    """
    if (options.form or format_of(options.target)) != "jsonl":
        raise UsageError(f"{options.target}: rows to be mended are written as .jsonl only")
    sources = read_sources(engine, run_id)
    position = read_position(engine)
    reasons: Counter[str] = Counter()
    sink = Sink(options.target, stdout=options.stdout)
    try:
        for source in sources:
            for line, reason in _lines(engine, source, position, warn):
                with storage_errors(sink.name):
                    sink.stream.write(line + b"\n")
                reasons[reason] += 1
        sink.commit()
    except BaseException:
        sink.discard()
        raise
    return ExportedFailures(reasons.total(), dict(reasons.most_common()))


def _lines(
    engine: Engine, source: ExportSource, position: Position, warn: Callable[[str], None]
) -> Iterator[tuple[bytes, str]]:
    """Lines and reasons; both sides are in row order."""
    failed = read_failed(engine, source, position)
    number, failure = next(failed, (None, {}))
    if number is None:
        return
    problem = why_changed(source)
    if problem is not None:
        warn(f"{source.name}: {problem}, so its rows are left out; run it again first")
        return
    lost = 0
    for row_number, line in original_lines(source_of(source.name, source.path)):
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
