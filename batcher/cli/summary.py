"""What a run says at its end: lines for people, or one JSON object."""

import contextlib
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import click
import msgspec

from batcher.cli.display import Quiet, say
from batcher.cli.limit_words import limit_json, limit_lines
from batcher.cli.meter import duration_words, money_so_far
from batcher.errors import BatcherError
from batcher.ledger.address import without_passwords
from batcher.pipeline.events import Ended, Started
from batcher.pipeline.job import Job
from batcher.pipeline.progress import Progress
from batcher.pricing.money import format_usd, usd_text


def refused(error: BatcherError, *, as_json: bool) -> int:
    """The end of a run that never began: its sentence, also as the one JSON object."""
    if not as_json:
        raise error
    click.echo(msgspec.json.encode({"exit_code": error.exit_code, "error": str(error)}))
    return error.exit_code


def finish(
    job: Job,
    ended: Ended,
    watcher: Quiet,
    *,
    as_json: bool,
    quiet: bool,
    more: Mapping[str, Any] | None = None,
) -> int:
    """Write the answers where the job wants them, say how it went; the exit code.

    `more` goes into the JSON object beside the summary.
    """
    written = None
    if job.output and watcher.start and ended.last:
        written = _write_output(job, watcher.start)
    if as_json:
        with contextlib.suppress(BrokenPipeError):  # the exit code stays that of the run
            told = {**json_summary(job, ended, watcher.start, written), **(more or {})}
            click.echo(msgspec.json.encode(told))
    elif not quiet:
        for line in closing_lines(job, ended, written):
            say(line)
    if ended.error and not as_json:
        say(f"batcher: {ended.error}")
    return ended.exit_code


def _write_output(job: Job, start: Started) -> int:
    from batcher.ledger.connect import open_engine
    from batcher.report.export import ExportOptions, export_answers

    engine = open_engine(job.database, read_only=True)
    try:
        options = ExportOptions(target=str(job.output))
        return export_answers(engine, start.run_id, options, say).rows
    finally:
        engine.dispose()


def closing_lines(job: Job, ended: Ended, written: int | None) -> list[str]:
    """The end of a run, in words."""
    progress = ended.progress
    lines = [_rows_line(progress, ended)]
    if progress.sent:
        lines.append(
            f"{progress.input_tokens:,} tokens in, {progress.output_tokens:,} out; "
            f"{money_so_far(progress)}"
        )
    if progress.in_doubt:
        lines.append(
            f"{progress.in_doubt:,} attempts are in doubt: they may have cost from "
            f"{format_usd(progress.in_doubt_low)} to {_upper(progress.in_doubt_high)} more"
        )
    lines += limit_lines(progress)
    lines += _warnings(progress, ended.unfinished_rows)
    if written is not None:
        lines.append(f"{written:,} rows written to {job.output}")
    elif job.output and not ended.last:
        lines.append(f"others still do this run: the last of them writes {job.output}")
    lines.append(_next_line(job, ended))
    return lines


def json_summary(
    job: Job, ended: Ended, start: Started | None, written: int | None
) -> dict[str, Any]:
    """The whole end of a run; amounts are exact decimal text."""
    progress = asdict(ended.progress)
    for name in (
        "note", "in_flight", "waiting_retries", "recorded", "binding_now", "binding",
        "quota_used",
    ):  # fmt: skip
        progress.pop(name)
    for name in (
        "cost", "in_doubt_low", "in_doubt_high", "cap_spent", "cap_reserved", "cap_free",
    ):  # fmt: skip
        value = progress.pop(name)
        progress[f"{name}_usd"] = None if value is None else usd_text(value)
    progress["other_currencies"] = {
        currency: usd_text(amount)
        for currency, amount in ended.progress.other_currencies.items()
    }
    return {
        "exit_code": ended.exit_code,
        "error": ended.error or None,
        "run_id": start.run_id if start else None,
        "invocation_id": start.invocation_id if start else None,
        "database": start.database if start else without_passwords(job.database),
        "database_created": bool(start and start.database_created),
        "imported_outcomes": start.imported if start else 0,
        "price_note": start.price_note if start else None,
        "recovered_attempts": start.recovery.attempts if start else 0,
        "rows_left": ended.rows_left,
        "rows_without_answer": dict(ended.unfinished_rows),
        "seconds": round(ended.seconds, 3),
        "rows_written": written,
        **limit_json(ended.progress),
        **progress,
    }


def _rows_line(progress: Progress, ended: Ended) -> str:
    if not progress.sent and not progress.quarantined and not ended.rows_left:
        before = progress.done_before + progress.claimed
        return f"nothing left to do: all {before:,} rows were finished before"
    parts = [f"{progress.answered:,} rows answered"]
    if progress.claimed:
        parts.append(f"{progress.claimed:,} had an answer already")
    counts = ((name, getattr(progress, name)) for name in ("failed", "held", "quarantined"))
    parts += [f"{count:,} {name}" for name, count in counts if count]
    rate = progress.answered / ended.seconds if ended.seconds else 0
    return f"{', '.join(parts)} in {duration_words(ended.seconds)} ({rate:,.1f} rows/s)"


def _warnings(progress: Progress, unfinished: Mapping[str, int]) -> list[str]:
    lines = []
    if progress.truncated:
        lines.append(f"{progress.truncated:,} answers were cut off by their token limit")
    if progress.refused:
        lines.append(f"{progress.refused:,} answers are refusals")
    if progress.invalid:
        lines.append(f"{progress.invalid:,} answers do not follow their schema")
    for reason, count in sorted(progress.unknown_stop_reasons.items()):
        lines.append(f"{count:,} answers ended for a reason unknown to the API: {reason}")
    if progress.repeated_custom_ids:
        count = progress.repeated_custom_ids
        lines.append(f"warning: about {count:,} rows repeat the custom_id of an earlier row")
    if progress.own_model_rows:
        lines.append(f"{progress.own_model_rows:,} rows brought a model of their own")
    if unfinished:
        counts = ", ".join(f"{count:,} {kind}" for kind, count in sorted(unfinished.items()))
        lines.append(f"rows without an answer: {counts}; see v_failures")
    return lines


def _next_line(job: Job, ended: Ended) -> str:
    if ended.rows_left:
        return f"rows are left to do; continue with: {job.command}"
    return f"next: batcher report --database {without_passwords(job.database)}"


def _upper(pico: int | None) -> str:
    return "an unknown amount" if pico is None else format_usd(pico)
