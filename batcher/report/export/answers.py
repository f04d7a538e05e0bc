"""The rows of a run as a file, in input order: with their answers, or to be mended."""

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, compress, islice
from pathlib import Path
from typing import Any, BinaryIO, Final

from sqlalchemy import Connection, Engine

from batcher.errors import CannotCreate, DamagedDatabase, UsageError, did_you_mean
from batcher.ledger.connect import reading
from batcher.outputs import Guard, is_url, never
from batcher.report.export.columns import (
    STABLE_VIEWS,
    Filter,
    Page,
    answers_of,
    numbered_answers,
    parse_filters,
    read_view,
    view_columns,
)
from batcher.report.export.input_rows import (
    RESULT_LINE,
    Counted,
    ExportedRun,
    Row,
    declared_columns,
    failed_lines,
    inputs_of,
    own_columns,
    result_line,
    rows_of,
)
from batcher.report.export.rows import (
    ANSWERED,
    ExportSource,
    read_outcomes,
    read_position,
    read_sources,
)
from batcher.report.export.stored import RESULT_COLUMNS, named
from batcher.report.ledgers import guard_of
from batcher.report.run_state import RecordedRun, read_runs
from batcher.rows.out.output import OutputFormat, format_of, has_columns, open_writer
from batcher.rows.out.sink import Sink, storage_errors
from batcher.rows.out.typed import CellKind, TypedColumn, write_typed

_CHUNK_ROWS: Final = 16  # answers may be large
_Pair = tuple[tuple[Any, ...], tuple[Any, ...]]
_Numbered = Iterator[tuple[int, tuple[Any, ...]]]
ANSWER_COLUMNS: Final = declared_columns((ExportedRun(run_id=0),))  # of a run alone


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """What to write where.

    `target` is a file name or `-`; `form` `None` tells by its ending, JSONL for `-`. `stdout`
    stands in for standard output. `force` replaces a file that is there, whosever it is, unless
    it is an input or belongs to a ledger; without it only an earlier export of answers.
    `source_ids` are the only inputs that are written, `None`: all of the run. `columns` are the
    only ones, in that order. Rows that one of the filters `where` does not keep are left out.
    """

    target: str = "-"
    form: OutputFormat | None = None
    answered_only: bool = False
    force: bool = False
    source_ids: Collection[int] | None = None
    columns: tuple[str, ...] | None = None
    where: tuple[Filter, ...] = ()
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

    Raises `UsageError` for an unknown run, column or kind of file, `CannotCreate` when the
    target cannot be written, `StorageError` for trouble with a disk or the database.
    """
    return export_beside(engine, (ExportedRun(run_id=run_id),), options, warn)


def export_beside(
    engine: Engine,
    runs: Sequence[ExportedRun],
    options: ExportOptions,
    warn: Callable[[str], None],
) -> Exported:
    """The same for several runs over the same inputs: a line a row, the columns of each run.

    A row is answered where all of them answered it. See `export_answers`.
    """
    position, declared = read_position(engine), declared_columns(runs)
    counts = Counted(len(runs))
    inputs = inputs_of(engine, runs, options.source_ids)
    unknown = _unknown_columns(options, inputs, declared)
    if unknown and any(
        next(rows_of(engine, found, position, declared, _tell_nobody), None) for found in inputs
    ):
        _refuse(unknown, declared)
    with open_writer(
        options.target,
        options.form,
        columns=options.columns,
        guard=guard_of([engine], force=options.force),
        declared=declared,
        stdout=options.stdout,
    ) as writer:
        for found in inputs:
            for read in _chunks(rows_of(engine, found, position, declared, warn)):
                kept = _kept(read, options.where, declared)
                writer.write_cells(counts.take(kept, answered_only=options.answered_only))
    if counts.wordless:
        warn(
            f"{counts.wordless:,} answers come without text and content: not stored, or purged"
        )
    _raise_if_lost(counts.lost, f"{counts.answered:,} answers are written")
    return Exported(rows=counts.rows, answered=counts.answered)


def _tell_nobody(_sentence: str) -> None:
    """What is to be said is said when rows are written."""


def _unknown_columns(
    options: ExportOptions,
    inputs: Sequence[Mapping[str, ExportSource]],
    declared: Mapping[str, CellKind],
) -> set[str]:
    """Columns that are asked for and that no row has; inputs are read as far as that takes."""
    asked = {each.column for each in options.where} | {*(options.columns or ())}
    unknown = asked - declared.keys()
    for columns in chain.from_iterable(own_columns(found, declared) for found in inputs):
        if not unknown:
            break
        unknown -= columns.keys()
    return unknown


def _refuse(names: Collection[str], declared: Collection[str]) -> None:
    for name in sorted(names):
        bare = name.removesuffix("_usd").removesuffix("_pico")  # views name the unit, too
        meant = did_you_mean(bare if bare in declared else name, declared)
        raise UsageError(
            f"no row has a column {name!r}: columns are those of the rows, and those that"
            f" docs/reports.md lists{meant}"
        )


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
        for row_number, cells in read_outcomes(engine, source, position):
            outcome = dict(zip(RESULT_COLUMNS, cells, strict=True))
            yield f"{before}row-{row_number}", outcome


def export_views(engine: Engine, folder: str, *, force: bool) -> dict[str, int]:
    """Write each stable view as `folder`/VIEW.parquet, all as of one moment; rows by view.

    Raises `CannotCreate` for a folder or file that cannot be written, or is somebody else's.
    """
    if is_url(folder):
        raise UsageError(f"{folder}: views are written to a folder of this machine only")
    guard = guard_of([engine], force=force)
    for place in (Path(folder), *Path(folder).parents):  # no ledger could be opened beside it
        guard.check(place)
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise CannotCreate(f"{folder}: cannot be made: {exc.strerror}") from exc
    with reading(engine) as connection:
        return {
            view: _write_view(connection, view, str(Path(folder) / f"{view}.parquet"), guard)
            for view in STABLE_VIEWS
        }


def _write_view(connection: Connection, view: str, target: str, guard: Guard) -> int:
    columns = view_columns(connection, view)
    sink = Sink(target, guard, has_columns("parquet", [each.name for each in columns]))
    try:
        with storage_errors(target):
            rows = write_typed(columns, read_view(connection, view, columns), sink.stream)
        sink.commit()
    except BaseException:
        sink.discard()
        raise
    return rows


def where_filters(words: Sequence[str]) -> tuple[Filter, ...]:
    """What `--where` says; raises `UsageError` for words that are no comparison."""
    return parse_filters(words)


def answers_of_run(
    engine: Engine, run_id: int | None
) -> tuple[tuple[TypedColumn, ...], Iterator[Page]]:
    """The columns of `v_answers` and a run's answers, in pages and input order.

    Works while the run is on; no transaction stays open between two pages. Raises `UsageError`
    where it is not clear which run is meant.
    """
    return answers_of(engine, the_run(engine, run_id))


def runs_named(engine: Engine, words: Sequence[str]) -> tuple[ExportedRun, ...]:
    """The runs with these numbers or names; each one's columns begin with its name.

    Raises `UsageError` for one that is not there, or is named twice.
    """
    with reading(engine) as connection:
        known = read_runs(connection, None)
    found = [_run_of(known, word) for word in words]
    if len({run.run_id for run in found}) < len(found):
        raise UsageError("--run names a run twice: name different ones")
    names = [re.sub(r"\W+", "_", run.job or f"run{run.run_id}") for run in found]
    return tuple(
        ExportedRun(
            run_id=run.run_id,
            prefix=f"{name}_" if names.count(name) == 1 else f"{name}_{run.run_id}_",
        )
        for run, name in zip(found, names, strict=True)
    )


def _run_of(known: Sequence[RecordedRun], word: str) -> RecordedRun:
    for run in known:
        if word == (str(run.run_id) if word.isdecimal() else run.job):
            return run
    raise UsageError(f"there is no run {word} here: `batcher status` lists all runs")


def _raise_if_lost(lost: dict[str, list[int]], written: str) -> None:
    if lost:
        places = "; ".join(f"{source}: {named(numbers)}" for source, numbers in lost.items())
        count = sum(map(len, lost.values()))
        raise DamagedDatabase(
            f"{written}, and the database is damaged where {count:,} rows are ({places}):"
            " restore a backup of it to have them, too"
        )


def paired_answers(
    engine: Engine, runs: tuple[int, int], names: Sequence[str]
) -> Iterator[_Pair]:
    """The columns `names` of `v_answers` for each row that both runs answered.

    Of inputs that both have read in the same version.
    """
    read = [{(s.name, s.fingerprint) for s in read_sources(engine, run)} for run in runs]
    for source, _ in sorted(read[0] & read[1]):
        one, other = (numbered_answers(engine, run, source, names) for run in runs)
        yield from _both(one, other)


def _both(one: _Numbered, other: _Numbered) -> Iterator[_Pair]:
    """Where both have the number; they are in order."""
    mine, yours = next(one, None), next(other, None)
    while mine and yours:
        if mine[0] == yours[0]:
            yield mine[1], yours[1]
        first = min(mine[0], yours[0])
        mine = next(one, None) if mine[0] == first else mine
        yours = next(other, None) if yours[0] == first else yours


def the_run(engine: Engine, run: str | int | None = None) -> int:
    """The run with that number or name, or the only one there is.

    Raises `UsageError` when it is not clear.
    """
    with reading(engine) as connection:
        runs = read_runs(connection, None)
    if run is not None:
        return _run_of(runs, str(run)).run_id
    if len(runs) == 1:
        return runs[0].run_id
    if not runs:
        raise UsageError("there is no run here yet: `batcher run` makes one")
    names = ", ".join(f"{run.run_id} ({run.job or run.key})" for run in runs)
    raise UsageError(f"there are several runs here: choose one with --run, of {names}")


def _kept(rows: list[Row], where: Sequence[Filter], declared: Collection[str]) -> list[Row]:
    if not where:
        return rows
    named_cells = ({**own, **dict(zip(declared, cells, strict=True))} for own, cells in rows)
    keeps = [all(each.keeps(cells) for each in where) for cells in named_cells]
    return list(compress(rows, keeps))


def _chunks(rows: Iterator[Row]) -> Iterator[list[Row]]:
    while chunk := list(islice(rows, _CHUNK_ROWS)):
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
            for line, reason in failed_lines(engine, source, position, warn, lost):
                with storage_errors(sink.name):
                    sink.stream.write(line + b"\n")
                reasons[reason] += 1
        sink.commit()
    except BaseException:
        sink.discard()
        raise
    _raise_if_lost(lost, f"{reasons.total():,} rows are written")
    return ExportedFailures(reasons.total(), dict(reasons.most_common()))
