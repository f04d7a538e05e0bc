"""The status of runs, for people and for programs."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Final, TextIO

import msgspec

from batcher.errors import Busy
from batcher.ledger.batches.store import StoredBatch
from batcher.outputs import visible
from batcher.pricing.money import format_usd, usd_text
from batcher.report.figures import USD, Counts, ReportLine
from batcher.report.render.formats import Format, write
from batcher.report.render.records import json_text, money
from batcher.report.request import FailureGroup
from batcher.report.status import LastInvocation, Life, RunStatus, Worker
from batcher.report.table import Field, Row, Table, Unit
from batcher.report.words import count_of, in_doubt_range, moment_text, safe_text

SCHEMA: Final = "batcher.status/1"
_FIELDS: Final = (
    Field("run", "Run", Unit.COUNT),
    Field("job", "Job or input", Unit.TEXT),
    Field("rows", "Rows", Unit.COUNT),
    Field("answered", "Answered", Unit.COUNT),
    Field("without_answer", "Without answer", Unit.COUNT, in_narrow=False),
    Field("to_do", "To do", Unit.COUNT),
    Field("in_doubt", "In doubt", Unit.COUNT, in_narrow=False),
    Field("state", "State", Unit.TEXT),
    Field("last", "Since", Unit.TEXT, in_narrow=False),
    Field("deadline", "Deadline", Unit.TEXT, in_narrow=False),
)
_TAG: Final = re.compile(r"<[^>]*>")  # a gateway's page says little else
_SAID: Final = 200  # characters of a failure's message
_EXIT_WORDS: Final = {
    0: "all rows done",
    2: "wrong command line",
    65: "rows without an answer, or what --strict, --max-bad or [guard] minds",
    69: "provider unavailable",
    73: "could not create a file",
    74: "disk or database trouble",
    75: "interrupted",
    77: "access refused, or a limit reached",
    78: "wrong configuration",
    130: "aborted",
    143: "aborted",
}


def print_status(runs: Sequence[RunStatus], stream: TextIO) -> None:
    """A line per run, the newest first; all about it where there is only one."""
    if len(runs) > 1:
        write(status_table(runs), Format.TABLE, None, stream)
    else:
        stream.write(visible(render_status(runs)))


def render_status(runs: Iterable[RunStatus]) -> str:
    """A block of lines per run; ends with a newline."""
    blocks = ["\n".join(map(safe_text, _block(run))) for run in runs]
    return "\n\n".join(blocks or ["There is no run here yet."]) + "\n"


def status_table(runs: Iterable[RunStatus]) -> Table:
    """A line per run, the newest first."""
    rows = [_line(run) for run in sorted(runs, key=lambda run: run.run_id, reverse=True)]
    sentences = ("`batcher status --run ID` says more of one.",)
    return Table(name="status", fields=_FIELDS, rows=tuple(rows), sentences=sentences)


def _line(run: RunStatus) -> Row:
    last = run.last
    return (
        run.run_id,
        run.job or run.key,
        run.rows,
        run.answered,
        run.failed + run.quarantined + run.held,
        run.to_do,
        run.money.counts.in_doubt_attempts,
        "never began" if last is None else _state(last),
        "" if last is None else moment_text(last.ended_at or last.started_at),
        _deadline(run),
    )


def _deadline(run: RunStatus) -> str:
    """The moment, and whether it was missed; empty where there is none."""
    if run.last is None or run.last.deadline_at is None:
        return ""
    late = f": {count_of(run.late_rows, 'row')} answered after it" * bool(run.late_rows)
    return moment_text(run.last.deadline_at) + f", missed{late}" * run.missed


def _batches(batches: Sequence[StoredBatch]) -> str:
    """How many are out, since when, and when the last of them has ended at the latest."""
    rows = count_of(sum(batch.requests for batch in batches), "row")
    number = count_of(len(batches), "batch", "batches")
    states = Counter(str(batch.state) for batch in batches)
    shown = ", ".join(f"{count:,} {state}" for state, count in sorted(states.items()))
    first = moment_text(min(batch.began_at for batch in batches))
    ends = [batch.expires_at for batch in batches if batch.expires_at is not None]
    end = f", ended by {moment_text(max(ends))}" if ends else ""
    return f"{rows} in {number} ({shown}), the oldest of {first}{end}"


def _state(last: LastInvocation) -> str:
    return f"ended {last.exit_code}" if last.life is Life.ENDED else str(last.life)


def status_json(runs: Iterable[RunStatus]) -> str:
    """One object with all runs; amounts are exact text. Ends with a newline."""
    document = {"schema": SCHEMA, "runs": [_run_fields(run) for run in runs]}
    return json_text(document)


def reason_line(common: FailureGroup) -> str:
    """Why so many rows have no answer, with the place and the sentence of the first."""
    one = common.first[0]
    place = f"{one.source}:{one.row_number}"
    first = " at" if common.rows == 1 else ", first at"
    page = one.message.lstrip().startswith("<")
    words = _TAG.sub(" ", one.message) if page else one.message
    said = " ".join(words.split())[:_SAID]
    return f"{common.rows:,} {common.kind} with {common.reason}{first} {place}: {said}"


def _block(run: RunStatus) -> list[str]:
    lines = [
        f"run {run.run_id}: {run.job or run.key}",
        f"  inputs    {', '.join(run.inputs) or 'none yet'}",
        f"  rows      {_rows(run)}",
    ]
    lines += [f"  why       {reason_line(common)}" for common in run.reasons]
    counts = run.money.counts
    if counts.answers:
        lines.append(f"  cost      {_cost(run.money)}")
    if counts.in_doubt_attempts:
        lines.append(_doubt(counts, run.batches))
    if counts.maybe_billed_attempts:
        lines.append(f"  refused   {_refused(counts)}")
    if run.batches:
        lines.append(f"  batches   {_batches(run.batches)}")
    if deadline := _deadline(run):
        lines.append(f"  deadline  {deadline}")
    if run.last is not None:
        lines.append(f"  last      {_last(run.last, waits=bool(run.batches))}")
    lines += _workers(run)
    return [*lines, *(f"  {sentence}" for sentence in run.advice)]


def _rows(run: RunStatus) -> str:
    again = f" ({run.failed_transient:,} to be tried again)" if run.failed_transient else ""
    parts = [
        f"{run.answered:,} answered",
        f"{run.failed:,} failed{again}" if run.failed else "",
        f"{run.quarantined:,} quarantined" if run.quarantined else "",
        f"{run.held:,} held" if run.held else "",
        "" if run.to_do is None else f"{run.to_do:,} to do",
    ]
    total = "not all read yet" if run.rows is None else f"{run.rows:,}"
    return f"{total}: {', '.join(part for part in parts if part)}"


def _doubt(doubt: Counts, batches: Sequence[StoredBatch]) -> str:
    attempts = count_of(doubt.in_doubt_attempts, "attempt")
    made = sum(batch.requests for batch in batches if batch.batch_id is not None)
    if doubt.in_doubt_attempts == doubt.open_attempts == made:
        return f"  out       {attempts} in batches may cost {in_doubt_range(doubt)}"
    which = f", {made:,} of them in batches" if 0 < made <= doubt.open_attempts else ""
    still = f" ({doubt.open_attempts:,} still open{which})" if doubt.open_attempts else ""
    return f"  in doubt  {attempts}{still} may have cost {in_doubt_range(doubt)}"


def _cost(money: ReportLine) -> str:
    """`$0.0323 (9 charges assumed: $0.0317 of it to $26.55), 1 answer without a price`."""
    counts = money.counts
    costs = dict(money.costs) or {USD: 0}
    parts = [
        format_usd(pico) if currency == USD else f"{usd_text(pico)} {currency}"
        for currency, pico in sorted(costs.items(), key=lambda cost: cost[0] != USD)
    ]
    said = "unknown" if money.is_unpriced else " + ".join(parts)
    if counts.assumed_charges:
        low, high = format_usd(counts.assumed_low), format_usd(counts.assumed_high)
        said += (
            f" ({count_of(counts.assumed_charges, 'charge')} assumed: {low} of it to {high})"
        )
    if counts.unpriced_requests:
        said += f", {count_of(counts.unpriced_requests, 'answer')} without a price"
    return said


def _refused(counts: Counts) -> str:
    attempts = count_of(counts.maybe_billed_attempts, "attempt")
    high = counts.maybe_billed_at_most
    most = "an unknown amount" if high is None else format_usd(high)
    return f"{attempts} may have been billed even so: up to {most}"


def _last(last: LastInvocation, *, waits: bool) -> str:
    where = f"{last.os_user} on {last.host}, process {last.pid}"
    since = f"invocation {last.invocation_id} by {where}, began {moment_text(last.started_at)}"
    match last.life:
        case Life.ENDED:
            ended = "" if last.ended_at is None else f" {moment_text(last.ended_at)}"
            return f"{since}, ended{ended}: exit code {_exit(last.exit_code, waits=waits)}"
        case Life.RUNNING:
            others = f", with {last.also_running:,} others" if last.also_running else ""
            return f"{since}, is running{others}"
        case Life.FAILED:
            return f"{since}, ended: the database failed, its last outcomes wait in a lifeboat"
        case Life.DIED:
            return f"{since}, died without a word"
        case Life.UNKNOWN:
            return f"{since}, is running there or died: it recorded no end"


def _workers(run: RunStatus) -> list[str]:
    """A line for each worker, after one for all of them."""
    if not run.workers:
        return []
    rate = sum(worker.per_second for worker in run.workers)
    nodes = f"on {count_of(run.nodes, 'node')}"
    whole = f"  together  {count_of(len(run.workers), 'worker')} {nodes}, {rate:,.1f} answers/s"
    limit = run.limited_by or "no quota: more workers, or a higher --concurrency, may raise it"
    lines = [whole, f"  limited   by {limit}"]
    return [*lines, *(f"  worker    {_worker(worker)}" for worker in run.workers)]


def _worker(worker: Worker) -> str:
    parts = [
        f"{worker.shards_done:,} of {count_of(worker.shards, 'shard')} done",
        f"{worker.in_flight:,} in flight",
        f"{worker.answered:,} answered, {worker.per_second:,.1f}/s",
        f"lease {worker.lease_seconds:,.0f} s"
        if worker.lease_seconds >= 0
        else f"silent, its lease ended {-worker.lease_seconds:,.0f} s ago",
        "is behind" if worker.is_behind else "",
    ]
    where = f"invocation {worker.invocation_id} on {worker.host}, process {worker.pid}"
    return f"{where}: {', '.join(filter(None, parts))}"


def _exit(code: int | None, *, waits: bool) -> str:
    words = _EXIT_WORDS.get(-1 if code is None else code)
    if waits and code == Busy.exit_code:
        words = "rows are in batches"
    return f"{code} ({words})" if words else str(code)


def _run_fields(run: RunStatus) -> dict[str, Any]:
    counts, high = run.money.counts, run.money.counts.in_doubt_at_most
    maybe, last = counts.maybe_billed_at_most, run.last
    return {
        "run_id": run.run_id,
        "key": run.key,
        "job": run.job,
        "inputs": list(run.inputs),
        "rows": run.rows,
        "answered": run.answered,
        "failed": run.failed,
        "failed_transient": run.failed_transient,
        "quarantined": run.quarantined,
        "held": run.held,
        "to_do": run.to_do,
        "reasons": [_reason_fields(common) for common in run.reasons],
        "cost": {currency: money(pico) for currency, pico in run.money.costs},
        "unpriced_requests": counts.unpriced_requests,
        "assumed_charges": counts.assumed_charges,
        "assumed_low": money(counts.assumed_low),
        "assumed_high": money(counts.assumed_high),
        "maybe_billed_attempts": counts.maybe_billed_attempts,
        "maybe_billed_high": None if maybe is None else money(maybe),
        "open_attempts": counts.open_attempts,
        "in_doubt_attempts": counts.in_doubt_attempts,
        "in_doubt_unbounded": counts.in_doubt_unbounded,
        "in_doubt_low": money(counts.in_doubt_low),
        "in_doubt_high": None if high is None else money(high),
        "batches": [msgspec.to_builtins(batch) for batch in run.batches],
        "deadline": _deadline_fields(run),
        "last_invocation": None if last is None else _last_fields(last),
        "workers": [_worker_fields(worker) for worker in run.workers],
        "nodes": run.nodes,
        "limited_by": run.limited_by,
        "advice": list(run.advice),
    }


def _deadline_fields(run: RunStatus) -> dict[str, Any] | None:
    if run.last is None or run.last.deadline_at is None:
        return None
    at = moment_text(run.last.deadline_at)
    return {"at": at, "missed": run.missed, "late_rows": run.late_rows}


def _reason_fields(common: FailureGroup) -> dict[str, Any]:
    return {
        "kind": common.kind,
        "reason": common.reason,
        "rows": common.rows,
        "source": common.first[0].source,
        "row_number": common.first[0].row_number,
        "message": common.first[0].message,
    }


def _worker_fields(worker: Worker) -> dict[str, Any]:
    return {**msgspec.to_builtins(worker), "started_at": moment_text(worker.started_at)}


def _last_fields(last: LastInvocation) -> dict[str, Any]:
    ended = None if last.ended_at is None else moment_text(last.ended_at)
    fields = msgspec.to_builtins(last)
    del fields["deadline_at"]  # the run's
    return {**fields, "started_at": moment_text(last.started_at), "ended_at": ended}
