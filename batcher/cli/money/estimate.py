"""`batcher estimate`."""

import re
import shlex
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batcher.cli.commands import command, format_options, option
from batcher.cli.run.job_options import job_options, no_preflight
from batcher.cli.say import tell

if TYPE_CHECKING:
    from batcher.pipeline.job import Job, Services

_PILOT_ROWS = 30
_FEWEST_PILOT_ROWS = 5


@command(
    "batcher estimate job.toml", "batcher estimate rows.jsonl -m claude-haiku-4-5 --pilot 30"
)
@job_options
@no_preflight
@option(
    "--pilot",
    "pilot_rows",
    is_flag=False,
    flag_value=_PILOT_ROWS,
    default=None,
    type=click.IntRange(min=_FEWEST_PILOT_ROWS),
    metavar="N",
    help="First send N random rows [30] and keep their answers; this costs money.",
)
@option(
    "--lanes",
    "compares",
    is_flag=True,
    help="Compare what it costs live, in batches, equal rows once, cached, by other models.",
)
@option("--grades", is_flag=True, help="List earlier estimates and what came of them.")
@format_options("text", "json")
def estimate(
    inputs: tuple[str, ...],
    job_path: Path | None,
    config_path: str | None,
    pilot_rows: int | None,
    compares: bool,
    grades: bool,
    form: str,
    **options: Any,  # noqa: ANN401 - settings by name, checked by Settings
) -> int:
    """Say what a run is going to cost: ceiling, expectation, interval.

    Reads every row and sends none; only --pilot does. The ceiling is what the rows that are
    still to do can cost at most; the expectation comes from answers like theirs, of a pilot or
    of earlier runs with the same settings.
    """
    from batcher import wiring

    asked = wiring.asked(inputs, job_path, config_path, options=options)
    if grades:
        return _print_grades(asked, as_json=form == "json")
    job = wiring.resolve(asked)
    return _print_estimate(job, pilot_rows, compares=compares, as_json=form == "json")


def look_ahead(
    job: "Job", services: "Services", *, quiet: bool, assume_yes: bool, may_ask: bool = True
) -> None:
    """See `estimate.look_ahead`; only a person on a terminal is asked, and may abort.

    Nobody is where `may_ask` is false, as before a pilot.
    """
    import sys

    from batcher.cli.say import say
    from batcher.estimate import look_ahead as estimating

    asks = may_ask and not assume_yes and sys.stdin.isatty() and sys.stderr.isatty()
    ask = partial(click.confirm, err=True, abort=True) if asks else None
    estimating.look_ahead(job, services, None if quiet else say, ask, assume_yes=assume_yes)


def _print_estimate(
    job: "Job", pilot_rows: int | None, *, compares: bool, as_json: bool
) -> int:
    from dataclasses import replace

    import msgspec

    from batcher.cli.money.estimate_words import (
        estimate_json,
        estimate_lines,
        tell_ways,
        ways_json,
    )
    from batcher.cli.run.display import display
    from batcher.cli.say import say, silence
    from batcher.estimate.estimate import estimate as make

    made = make(
        replace(job, command=run_command(job.command)),
        pilot_rows,
        observer=display(quiet=True, assume_yes=False),
        say=silence if as_json else say,
        compares=compares,
    )
    if as_json:
        lanes = {"lanes": ways_json(made.ways)} if compares else {}
        tell(msgspec.json.encode(estimate_json(made) | lanes))
    else:
        if made.database_created:
            say(f"database created: {made.database}")
        tell("\n".join(estimate_lines(made)))
        if compares:
            tell_ways(made.ways)
    if made.pilot is not None and made.pilot.error:
        say(f"batcher: {made.pilot.error}")
        return made.pilot.exit_code
    return 0


def _print_grades(asked: Any, *, as_json: bool) -> int:  # noqa: ANN401 - wiring.Asked, late
    import msgspec

    from batcher.cli.money.estimate_words import grade_lines, grades_json
    from batcher.config.files import database_url
    from batcher.ledger.connect import reading
    from batcher.ledger.money.estimates import stored_estimates
    from batcher.report.ledgers import ledger_to_read

    url = database_url(asked.options.database, asked.config_path)
    with ledger_to_read(url) as engine, reading(engine) as connection:
        stored = stored_estimates(connection, None)
    if as_json:
        tell(msgspec.json.encode(grades_json(stored)))
    else:
        tell("\n".join(grade_lines(stored)))
    return 0


def run_command(typed: str) -> str:
    """The run that an estimate was typed for: it is what continues a pilot."""
    words = shlex.split(typed)
    left: list[str] = []
    for number, word in enumerate(words):
        before = words[number - 1] if number else ""
        if word in {"--pilot", "--json", "--lanes"} or word.startswith("--pilot="):
            continue
        if before == "--pilot" and re.fullmatch(r"\d+", word):
            continue
        left.append("run" if word == "estimate" and number == 1 else word)
    return shlex.join(left)
