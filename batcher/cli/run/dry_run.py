"""`batcher run --dry-run` and `batcher check`: what the inputs hold, nothing sent."""

from dataclasses import replace
from typing import Any

import msgspec

from batcher import wiring
from batcher.cli.run.summary import input_lines
from batcher.cli.say import tell
from batcher.estimate.expected_cost import ceiling_words
from batcher.pipeline.choices import LaneChoice
from batcher.pipeline.job import Job
from batcher.pipeline.run.row_checks import Inspection
from batcher.pricing.money import format_usd, usd_text
from batcher.report.words import count_of
from batcher.rows.build.field_names import not_sent_words


def print_dry_run(job: Job, *, as_json: bool) -> int:
    """Inspect the job's inputs and print the ceiling and the first body; 65 for bad rows."""
    found = wiring.inspect_inputs(job)
    move = [] if as_json else _move_words(job, found)
    body = [] if found.first_body is None else ["first body:", found.first_body.decode()]
    _print(job, found, [*move, *body, "dry run: nothing was sent"], as_json=as_json)
    return 0 if found.is_clean else 65


def _move_words(job: Job, found: Inspection) -> list[str]:
    """Where rows go that have a deadline, and what the worst night would cost more."""
    if job.deadline is None or "-" in job.inputs:
        return []
    packed = wiring.inspect_inputs(replace(job, lane=LaneChoice.BATCH))
    one, more = format_usd(packed.cost_high), format_usd(found.cost_high - packed.cost_high)
    return [
        f"deadline {job.deadline.words}",
        f"in batches {one} with one attempt per row; if all rows had to move to the live lane,"
        f" up to {more} more",
    ]


def print_inspection(job: Job, *, as_json: bool) -> int:
    """Inspect the job's inputs and print what was found; 1 when a row is bad."""
    found = wiring.inspect_inputs(job)
    ending = ["nothing is wrong"] if found.is_clean else []
    _print(job, found, ending, as_json=as_json)
    return 0 if found.is_clean else 1


def _print(job: Job, found: Inspection, ending: list[str], *, as_json: bool) -> None:
    if as_json:
        tell(msgspec.json.encode(_summary(job, found)))
        return
    for line in [*_lines(job, found), *ending]:
        tell(line)


def _lines(job: Job, found: Inspection) -> list[str]:
    models = ", ".join(f"{model} {count:,}" for model, count in sorted(found.models.items()))
    requests = count_of(found.requests, "request")
    lines = [f"{requests} to endpoint {job.endpoint.name} ({models or 'none'})"]
    lines += found.read_as
    lines += bad_row_lines(found)
    lines += input_lines(found.repeated_fields, found.blank_lines)
    lines += filter(None, [*found.hidden, *found.unpriced, not_sent_words(found.not_sent)])
    ceiling = ceiling_words(job, found.cost_high, found.in_legs, found.unbounded)
    return [*lines, f"ceiling: {ceiling}"]


def bad_row_lines(found: Inspection) -> list[str]:
    """How many rows are refused, why, and the first few of them."""
    if not found.bad_rows:
        return []
    reasons = ", ".join(
        f"{reason} {count:,}" for reason, count in sorted(found.reasons.items())
    )
    lines = [f"{count_of(found.bad_rows, 'row')} would be quarantined: {reasons}"]
    for name, row in found.examples:
        at = "" if row.byte_offset is None else f" (byte {row.byte_offset:,})"
        lines.append(f"  {name}:{row.row_number}{at} {row.reason}: {row.message}")
    return lines


def _summary(job: Job, found: Inspection) -> dict[str, Any]:
    most = job.most(found.cost_high, found.in_legs)
    return {
        "requests": found.requests,
        "bad_rows": found.bad_rows,
        "reasons": found.reasons,
        "read_as": found.read_as,
        "not_sent": found.not_sent,
        "hidden": found.hidden,
        "unpriced": found.unpriced,
        "repeated_fields": found.repeated_fields,
        "blank_lines": found.blank_lines,
        "models": found.models,
        "cost_high_usd": usd_text(found.cost_high),
        "cost_high_with_retries_usd": None if most is None else usd_text(most),
        "requests_without_ceiling": found.unbounded,
        "first_body": None if found.first_body is None else msgspec.Raw(found.first_body),
    }
