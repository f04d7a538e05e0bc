"""What a run says at its end: lines for people, or one JSON object.

One with a deadline also says what that saved, and whether it was kept.
"""

import shlex
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from batcher import wiring
from batcher.cli.interrupts import Interrupted
from batcher.cli.run.display import Quiet
from batcher.cli.say import say, tell
from batcher.clock import SystemClock, moment_of
from batcher.errors import BatcherError, StorageError
from batcher.ledger.connect import engine_at, reading, without_passwords
from batcher.ledger.money.budget import lane_tokens
from batcher.monitoring.progress_text import duration_words, limit_lines, money_so_far, told
from batcher.pipeline.job import Job
from batcher.pipeline.progress import ASSUMED, LATE, UNPRICED, Ended, Progress, Started
from batcher.pricing.money import format_usd, usd_text
from batcher.report.words import count_of

if TYPE_CHECKING:
    from batcher.estimate.ways import LaneMoney


def refused(error: BatcherError | Interrupted, *, as_json: bool) -> int:
    """The end of a run that never began: its sentence, also as the one JSON object."""
    if not as_json:
        raise error
    said = str(error)
    summary = {"exit_code": error.exit_code, "error": said, "cause": said}
    return _print_json(summary, error.exit_code)


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
    written, ended = wiring.output_of(job, ended, watcher.start, say)
    if as_json:
        summary = {**wiring.json_summary(job, ended, watcher.start, written), **(more or {})}
        return _print_json(summary, ended.exit_code)
    if not quiet:
        for line in closing_lines(job, ended, written, watcher.start):
            say(line)
    if said := ended.cause if quiet else ended.error:
        say(f"batcher: {said}")
    return ended.exit_code


def _print_json(summary: Mapping[str, Any], exit_code: int) -> int:
    """The exit code: that given, except where all was well and nobody can know."""
    try:
        tell(msgspec.json.encode(summary))
    except BrokenPipeError:
        return exit_code  # nobody wants to know
    except OSError as exc:
        say(f"batcher: the summary cannot be written to standard output: {exc.strerror}")
        return exit_code or StorageError.exit_code
    return exit_code


def _why(job: Job, ended: Ended, start: Started | None) -> list[str]:
    """A line for each of the commonest reasons why rows have no answer."""
    if start is None or not ended.without_answer:
        return []
    from batcher.ledger.connect import open_engine
    from batcher.report.render.status_text import reason_line
    from batcher.report.request import commonest_reasons

    engine = open_engine(job.database, read_only=True)
    try:
        return [reason_line(common) for common in commonest_reasons(engine, start.run_id)]
    except BatcherError:
        return []  # what went wrong with the database is said already
    finally:
        engine.dispose()


def closing_lines(
    job: Job, ended: Ended, written: int | None, start: Started | None = None
) -> list[str]:
    """The end of a run, in words; `start` is `None` when it did not come so far."""
    progress = ended.progress
    lines = [_rows_line(job, progress, ended)]
    if progress.sent or progress.answered:
        lines.append(
            f"{progress.input_tokens:,} tokens in, {progress.output_tokens:,} out; "
            f"{money_so_far(progress)}"
        )
    if progress.assumed:
        rest = told(progress.assumed, "answer", "is", "are")
        lines.append(
            f"{rest} assumed: from {format_usd(progress.assumed_low)}, which is in the cost,"
            f" to {format_usd(progress.assumed_high)}"
        )
    if progress.maybe_billed:
        refused = told(progress.maybe_billed, "refused attempt", "may", "may")
        lines.append(
            f"{refused} have been billed: up to {_upper(progress.maybe_billed_high)} more"
        )
    if progress.in_doubt:
        are = told(progress.in_doubt, "attempt", "is", "are")
        lines.append(
            f"{are} in doubt and may have cost from "
            f"{format_usd(progress.in_doubt_low)} to {_upper(progress.in_doubt_high)} more"
        )
    lines += _detours(progress)
    lines += limit_lines(progress)
    lines += _warnings(progress)
    lines += _why(job, ended, start)
    lines += _what_is_minded(ended, without_passwords(job.database))
    if written is not None:
        lines.append(f"{count_of(written, 'row')} written to {job.output}")
    elif job.output and not ended.last:
        lines.append(f"others still do this run: the last of them writes {job.output}")
    lines.append(_next_line(job, ended, start))
    return lines


def _detours(progress: Progress) -> list[str]:
    """What went to endpoints that the run fell back to, and what that cost."""
    return [
        f"of these, {told(rows, 'row', 'was', 'were')} answered by endpoint {name}, for"
        f" {format_usd(progress.fallback_cost.get(name, 0))} of the cost"
        for name, rows in progress.fallback_rows.items()
    ]


def _rows_line(job: Job, progress: Progress, ended: Ended) -> str:
    ways = ("sent", "answered", "failed", "held", "quarantined")
    done = any(getattr(progress, way) for way in ways)
    if job.cancel and not (done or progress.in_batches):
        return "no batch is out: nothing was canceled"
    if not done and not ended.rows_left:
        before = progress.done_before + progress.claimed
        if not before and job.may_be_missing:
            return f"nothing to do: the inbox is empty ({', '.join(job.inputs)})"
        if not before:
            return "nothing to do: the input has no rows"
        were = told(before, "row", "was", "were")
        return f"nothing left to do: {'' if before == 1 else 'all '}{were} finished before"
    kinds = ("answered", "claimed", "failed", "held", "quarantined")
    if progress.in_batches and not any(getattr(progress, kind) for kind in kinds):
        return "no answers yet"
    parts = [
        f"{count_of(progress.answered, 'row')} answered",
        *_parts_without_sending(progress),
    ]
    counts = ((name, getattr(progress, name)) for name in kinds[2:])
    parts += [f"{count:,} {name}" for name, count in counts if count]
    rate = progress.answered / ended.seconds if ended.seconds else 0
    return f"{', '.join(parts)} in {duration_words(ended.seconds)} ({rate:,.1f} rows/s)"


def _parts_without_sending(progress: Progress) -> Iterator[str]:
    shared = f" ({progress.shared:,} of other runs)" * bool(progress.shared)
    if before := progress.claimed - progress.repeated:
        yield f"{before:,} had an answer already{shared}"
    if progress.repeated:
        yield f"{progress.repeated:,} got that of an equal row"


def _warnings(progress: Progress) -> list[str]:
    was = told(progress.truncated, "answer", "was", "were")
    lines = [
        (progress.truncated, f"{was} cut off by the token limit"),
        (progress.refused, told(progress.refused, "answer", "is a refusal", "are refusals")),
        (
            progress.invalid,
            f"{told(progress.invalid, 'answer', 'does', 'do')} not follow the schema",
        ),
    ]
    lines += [
        (count, f"{count_of(count, 'answer')} ended for a reason unknown to the API: {reason}")
        for reason, count in sorted(progress.unknown_stop_reasons.items())
    ]
    repeats = told(progress.repeated_custom_ids, "row", "repeats", "repeat")
    lines += [
        (
            progress.repeated_custom_ids,
            f"warning: about {repeats} the custom_id of an earlier row",
        ),
        (
            progress.overbilled,
            f"warning: {told(progress.overbilled, 'answer', 'was', 'were')} billed for more"
            " than what was asked for could cost: `batcher verify` lists them",
        ),
        (
            progress.repeated_message_ids,
            f"warning: {told(progress.repeated_message_ids, 'answer', 'has', 'have')} the"
            " message id of another, so the same work may have been told twice: `batcher"
            " verify` lists them",
        ),
    ]
    told_lines = [line for count, line in lines if count]
    return told_lines + input_lines(progress.repeated_fields, progress.blank_lines)


def input_lines(repeated_fields: int, blank_lines: int) -> list[str]:
    """What was strange about lines of the inputs, and hindered nothing."""
    name = told(repeated_fields, "row", "names", "name")
    lines = [
        (repeated_fields, f"warning: {name} a field twice; the last one counts"),
        (blank_lines, f"{count_of(blank_lines, 'blank line')} passed over"),
    ]
    return [line for count, line in lines if count]


def _what_is_minded(ended: Ended, database: str) -> list[str]:
    """What keeps the exit code from being 0."""
    unpriced, assumed = (ended.unfinished_rows.get(kind, 0) for kind in (UNPRICED, ASSUMED))
    lines = []
    if ended.without_answer:
        kinds = sorted(ended.without_answer.items())
        counts = ", ".join(f"{count:,} {kind}" for kind, count in kinds)
        named = f"--database {shlex.quote(database)}"
        lines.append(
            f"rows without an answer: {counts}; see batcher failures {named}, mend them with"
            f" batcher export --failures {named}"
        )
    if unpriced:
        has = told(unpriced, "answer", "has", "have")
        lines.append(f"{has} no price, which --strict minds; give it with --prices FILE")
    if assumed:
        are = told(assumed, "charge", "is", "are")
        lines.append(f"{are} assumed, which --strict minds; batcher report says why")
    return lines


def _next_line(job: Job, ended: Ended, start: Started | None) -> str:
    if ended.progress.in_batches:
        return f"rows wait in batches; collect them with: {job.command}"
    if ended.rows_left:
        return f"rows are left to do; continue with: {job.command}"
    database = f"--database {shlex.quote(without_passwords(job.database))}"
    report = f"batcher report {database}"
    if start is None or job.output or not ended.progress.answered:
        return f"next: {report}"
    answers = f"batcher export --run {start.run_id} -o answers.jsonl {database}"
    return f"next: {answers}; what it cost: {report}"


def _upper(pico: int | None) -> str:
    return "an unknown amount" if pico is None else format_usd(pico)


def tell_deadline(
    job: Job, ended: Ended, start: Started | None, since_us: int, *, quiet: bool
) -> dict[str, Any]:
    """Say how the run went about its deadline; the same for its JSON object."""
    if job.deadline is None:
        return {}
    money, late = _lane_money(job, start, since_us), ended.unfinished_rows.get(LATE, 0)
    over = SystemClock().now_us() > job.deadline.at_us
    missed = late > 0 or (ended.rows_left and over)
    if not quiet:
        for line in _deadline_lines(
            _moment(ended.missed_at) or job.deadline.words, money, late, missed=missed
        ):
            say(line)
    return {
        "deadline": {
            "at": moment_of(job.deadline.at_us).isoformat(),
            "missed_at": _moment(ended.missed_at),
            "missed": missed,
            "late_rows": late,
            "batch_saved_usd": usd_text(money.saved),
            "moved_rows": money.moved_rows,
            "move_cost_usd": usd_text(money.move_cost),
        }
    }


def _lane_money(job: Job, start: Started | None, since_us: int) -> "LaneMoney":
    from batcher.estimate.expected_cost import Tariff
    from batcher.estimate.ways import LaneMoney, lane_money

    nothing = LaneMoney(saved=0, moved_rows=0, move_cost=0)
    if start is None:
        return nothing
    tariff = Tariff(wiring.rater_of(job, wiring.price_book(job)), SystemClock().now_us())
    try:
        with engine_at(job.database, read_only=True) as engine, reading(engine) as connection:
            return lane_money(lane_tokens(connection, start.run_id, since_us), tariff)
    except BatcherError:
        return nothing  # what went wrong with the database is said already


def _deadline_lines(deadline: str, money: "LaneMoney", late: int, *, missed: bool) -> list[str]:
    lines = []
    if money.saved or money.moved_rows:
        moving = (
            f"; moving {count_of(money.moved_rows, 'row')} cost {format_usd(money.move_cost)}"
        )
        lines.append(f"batch saved {format_usd(money.saved)}{moving * bool(money.moved_rows)}")
    if missed:
        what = f"{count_of(late, 'row')} answered after it" if late else "rows are left to do"
        lines.append(f"the deadline {deadline} was missed: {what}")
    return lines


def _moment(moment_us: int | None) -> str | None:
    return None if moment_us is None else moment_of(moment_us).isoformat()
