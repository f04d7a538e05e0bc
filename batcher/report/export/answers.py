"""The rows of a run as a file, in input order: with their answers, or to be mended."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from sqlalchemy import Engine

from batcher.errors import DamagedDatabase, StorageError, UsageError
from batcher.ledger.connect import reading
from batcher.outputs import is_url, never
from batcher.report.export.batch_results import RESULT_LINE, result_line
from batcher.report.export.past_damage import UNREADABLE, named
from batcher.report.export.rows import (
    ANSWER_NOT_KEPT,
    ExportSource,
    Position,
    read_failed,
    read_outcomes,
    read_position,
    read_sources,
)
from batcher.report.export.stable_views import Page, answers_of
from batcher.report.ledgers import guard_of
from batcher.report.run_state import read_runs
from batcher.rows.out.marks import OutputFormat
from batcher.rows.out.output import Sink, format_of, open_writer, storage_errors
from batcher.rows.out.typed import TypedColumn
from batcher.rows.read.reader import original_columns, original_lines
from batcher.rows.read.source import fingerprint, location_of, source_of

ANSWERED: Final = "answered"
TO_DO: Final = "to_do"
_CHUNK_ROWS: Final = 500

# What every exported row has, in this order. A row's own column of such a name gets `row_` in
# front; its own `custom_id` is the same and left out.
RESULT_COLUMNS: Final = (
    "custom_id", "source", "row_number", "status", "reason", "message", "requested_model",
    "model", "message_id", "stop_reason", "stop_sequence", "text", "content", "input_tokens",
    "cache_write_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens", "cache_read_tokens",
    "output_tokens", "thinking_tokens", "web_search_requests", "service_tier", "attempts",
    "legs", "latency_ms", "first_token_ms", "answered_at", "cost", "currency", "cost_status",
    "attempt_uid", "paid_by_attempt_uid",
)  # fmt: skip
_NOTHING: Final[Mapping[str, Any]] = dict.fromkeys(RESULT_COLUMNS)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """What to write where.

    `target` is a file name or `-`; `form` `None` tells by its ending, JSONL for `-`. `stdout`
    stands in for standard output. `force` replaces a file that is there, whosever it is, unless
    it is an input or belongs to a ledger; without it only an earlier export of answers.
    `source_ids` are the only inputs that are written, `None`: all of the run.
    """

    target: str = "-"
    form: OutputFormat | None = None
    answered_only: bool = False
    force: bool = False
    source_ids: Collection[int] | None = None
    stdout: BinaryIO | None = None


@dataclass(frozen=True, slots=True)
class Exported:
    """How many rows were written, and how many of them have their answer."""

    rows: int
    answered: int


def export_answers(
    engine: Engine, run_id: int, options: ExportOptions, warn: Callable[[str], None]
) -> Exported:
    """Write a line per row of the run; works while it is on, with bounded memory.

    Rows without an answer say why (`status` failed, quarantined, held or to_do), unless only
    answered ones are asked for. Where the database is damaged they are `unreadable`, and when
    everything else is written, that is raised. An input that is gone or has changed since is
    told to `warn`; then its answers and failures come without the rows' own columns. Amounts
    are exact text.

    Raises `UsageError` for an unknown run or kind of file, `CannotCreate` when the target
    cannot be written, `StorageError` for trouble with a disk or the database.
    """
    only = options.source_ids
    sources = [
        each for each in read_sources(engine, run_id) if only is None or each.source_id in only
    ]
    position = read_position(engine)
    lost: dict[str, list[int]] = {}
    rows = answered = wordless = 0
    with open_writer(
        options.target,
        options.form,
        guard=guard_of([engine], force=options.force),
        known_by=RESULT_COLUMNS,
        stdout=options.stdout,
    ) as writer:
        for source in sources:
            found = _rows_of(engine, source, position, warn)
            for chunk in _chunks(found):
                ready = [row for row in chunk if row["status"] == ANSWERED]
                chosen = ready if options.answered_only else chunk
                writer.write(chosen)
                rows += len(chosen)
                answered += len(ready)
                _note_unreadable(chunk, lost)
                wordless += sum(row["reason"] == ANSWER_NOT_KEPT for row in ready)
    if wordless:
        warn(f"{wordless:,} answers come without text and content: not stored, or purged")
    _raise_if_lost(lost, f"{answered:,} answers are written")
    return Exported(rows=rows, answered=answered)


def export_results(
    engine: Engine, run_id: int, options: ExportOptions, warn: Callable[[str], None]
) -> Exported:
    """Write a line of batch results for each row of the run that has ended, in input order.

    A row without a `custom_id` is named by its number. Rows that are still to do have no line;
    nor have answers whose words cannot be told, which `warn` hears. What is raised: see above.
    """
    if options.target != "-" and format_of(options.target) != "jsonl":
        raise UsageError(f"{options.target}: batch results are written as .jsonl only")
    lines = succeeded = lost = 0
    with open_writer(
        options.target,
        "jsonl",
        columns=RESULT_LINE,
        guard=guard_of([engine], force=options.force),
        stdout=options.stdout,
    ) as writer:
        for name, outcome in _named_outcomes(engine, run_id):
            is_answer = outcome["status"] == ANSWERED
            line = result_line(name, outcome)
            lost += line is None
            if line is not None and (is_answer or not options.answered_only):
                writer.write([line])
                lines += 1
                succeeded += is_answer
    if lost:
        warn(f"{lost:,} rows have no line: their answers are not stored, or cannot be read")
    return Exported(rows=lines, answered=succeeded)


def _named_outcomes(engine: Engine, run_id: int) -> Iterator[tuple[str, Mapping[str, Any]]]:
    position, sources = read_position(engine), read_sources(engine, run_id)
    for number, source in enumerate(sources, 1):
        before = f"input-{number}-" if len(sources) > 1 else ""
        for row_number, outcome in read_outcomes(engine, source, position):
            yield f"{before}row-{row_number}", outcome


def answers_of_run(
    engine: Engine, run_id: int | None
) -> tuple[tuple[TypedColumn, ...], Iterator[Page]]:
    """The columns of `v_answers` and a run's answers, in pages and input order.

    Works while the run is on; no transaction stays open between two pages. Raises `UsageError`
    where it is not clear which run is meant.
    """
    return answers_of(engine, the_run(engine, run_id))


def _note_unreadable(rows: list[dict[str, Any]], lost: dict[str, list[int]]) -> None:
    for row in rows:
        if row["status"] == UNREADABLE:
            lost.setdefault(row["source"], []).append(row["row_number"])


def _raise_if_lost(lost: dict[str, list[int]], written: str) -> None:
    if lost:
        places = "; ".join(f"{source}: {named(numbers)}" for source, numbers in lost.items())
        count = sum(map(len, lost.values()))
        raise DamagedDatabase(
            f"{written}, and the database is damaged where {count:,} rows are ({places}):"
            " restore a backup of it to have them, too"
        )


def the_run(engine: Engine, run_id: int | None) -> int:
    """The run asked for, or the only one there is; raises `UsageError` when it is not clear."""
    with reading(engine) as connection:
        runs = read_runs(connection, run_id)
    if len(runs) == 1:
        return runs[0].run_id
    if run_id is not None:
        raise UsageError(f"there is no run {run_id} here: `batcher status` lists all runs")
    if not runs:
        raise UsageError("there is no run here yet: `batcher run` makes one")
    names = ", ".join(f"{run.run_id} ({run.job or run.key})" for run in runs)
    raise UsageError(f"there are several runs here: choose one with --run, of {names}")


def _rows_of(
    engine: Engine, source: ExportSource, position: Position, warn: Callable[[str], None]
) -> Iterator[dict[str, Any]]:
    outcomes = read_outcomes(engine, source, position)
    problem = why_changed(source)
    if problem is not None:
        warn(f"{source.name}: {problem}, so its rows come without their own columns")
        for row_number, outcome in outcomes:
            yield _result(source, row_number, outcome)
        return
    yield from _joined(source, outcomes)
    if why_changed(source) is not None:
        raise StorageError(f"{source.name}: changed while it was exported; export it again")


def _joined(
    source: ExportSource, outcomes: Iterator[tuple[int, Mapping[str, Any]]]
) -> Iterator[dict[str, Any]]:
    """Both are in row order: one pass, and no row of either is lost."""
    number, outcome = next(outcomes, (None, _NOTHING))
    for row_number, columns in original_columns(source_of(source.name, source.place)):
        while number is not None and number < row_number:
            yield _result(source, number, outcome)
            number, outcome = next(outcomes, (None, _NOTHING))
        own = {_own_name(name): value for name, value in columns.items() if name != "custom_id"}
        if number == row_number:
            yield own | _result(source, row_number, outcome)
            number, outcome = next(outcomes, (None, _NOTHING))
        else:
            to_do = {"status": TO_DO, "custom_id": columns.get("custom_id")}
            yield own | _result(source, row_number, to_do)
    while number is not None:
        yield _result(source, number, outcome)
        number, outcome = next(outcomes, (None, _NOTHING))


def _result(
    source: ExportSource, row_number: int, outcome: Mapping[str, Any]
) -> dict[str, Any]:
    return {**_NOTHING, **outcome, "source": source.name, "row_number": row_number}


def _own_name(name: str) -> str:
    return f"row_{name}" if name in _NOTHING else name


def why_changed(source: ExportSource) -> str | None:
    """Why the rows cannot be read again, `None` when they can."""
    shown = location_of(source.place)
    if isinstance(source.place, Path) and not source.place.is_file():
        return f"the file {shown} is not there any more"
    try:
        seen = fingerprint(source.place)
    except StorageError as exc:
        if isinstance(source.place, Path):
            raise
        return str(exc)  # it is gone, or the store cannot be asked
    return None if seen == source.fingerprint else f"{shown} has changed since the run read it"


def _chunks(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    chunk: list[dict[str, Any]] = []
    for row in rows:
        chunk.append(row)
        if len(chunk) == _CHUNK_ROWS:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


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
    guard = guard_of([engine], force=options.force)
    if options.target != "-" and not is_url(options.target):
        guard.check(Path(options.target))
    if (options.form or format_of(options.target)) != "jsonl":
        raise UsageError(f"{options.target}: rows to be mended are written as .jsonl only")
    sources = read_sources(engine, run_id)
    position = read_position(engine)
    reasons: Counter[str] = Counter()
    lost: dict[str, list[int]] = {}
    sink = Sink(options.target, guard, never, stdout=options.stdout)  # rows carry no mark
    try:
        for source in sources:
            for line, reason in _lines(engine, source, position, warn, lost):
                with storage_errors(sink.name):
                    sink.stream.write(line + b"\n")
                reasons[reason] += 1
        sink.commit()
    except BaseException:
        sink.discard()
        raise
    _raise_if_lost(lost, f"{reasons.total():,} rows are written")
    return ExportedFailures(reasons.total(), dict(reasons.most_common()))


def _lines(
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
