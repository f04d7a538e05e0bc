"""What the files that a run writes may not replace, known before anything is opened or sent."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from batcher.errors import BatcherError
from batcher.ledger.connect import parse_url
from batcher.outputs import Guard, is_url
from batcher.pipeline.job import Job
from batcher.rows.out.output import open_writer
from batcher.rows.read.source import STDIN, Place, SourceFile, find_sources
from batcher.wiring.resolve import Asked, resolve


def check_output(job: Job, files: Sequence[SourceFile]) -> None:
    """Raise now for an output that could not be written, or must not be, at the end."""
    if job.output in {None, "-"} or _is_pipe(str(job.output)):
        return
    from batcher.report.export.answers import ANSWER_COLUMNS  # noqa: PLC0415 - seldom needed

    guard = _guard_of(job, [file.place for file in files])
    open_writer(str(job.output), guard=guard, declared=ANSWER_COLUMNS).discard()


def guard_of_run(typed: Asked) -> Guard:
    """What a log or a metrics file of this run may not touch: also the files that it reads."""
    with suppress(BatcherError):  # the run itself says what is wrong
        job = resolve(typed)
        return _guard_of(job, [*_inputs(job), *_settings(typed, job)])
    return Guard()


def _guard_of(job: Job, inputs: Sequence[Place]) -> Guard:
    """The run's own inputs and ledger, and those that the ledger knows where it can be read."""
    from batcher.report.ledgers import guard_of, ledger_to_read  # noqa: PLC0415 - as above

    kept = Guard()
    with suppress(BatcherError), ledger_to_read(job.database) as engine:
        kept = guard_of([engine])
    own = parse_url(job.database).path
    return replace(
        kept,
        inputs=(*kept.inputs, *(place for place in inputs if isinstance(place, Path))),
        stored_inputs=(
            *kept.stored_inputs,
            *(place.url for place in inputs if not isinstance(place, Path)),
        ),
        ledgers=(*kept.ledgers, *([own] if own else [])),
        force=job.replace_output,
    )


def _inputs(job: Job) -> Iterator[Place]:
    for name in job.inputs:
        if name != STDIN and not is_url(name):  # a log or a metrics file is one of this machine
            with suppress(BatcherError):
                found = find_sources([name], base=job.base, spool=None)
                yield from (file.place for file in found)


def _settings(typed: Asked, job: Job) -> Iterator[Path]:
    named = (typed.job_path, typed.config_path, job.prices)
    yield from (Path(name) for name in named if name and Path(name).is_file())


def _is_pipe(target: str) -> bool:
    return Path(target).is_fifo() or Path(target).is_char_device()
