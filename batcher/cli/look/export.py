"""`batcher export`: the answers of a run as a file."""

from typing import TYPE_CHECKING, cast

import click

from batcher.cli.commands import FILE, NearChoice, command, force_option, number, option
from batcher.cli.ledger_options import ledger, ledger_options
from batcher.cli.words.say import tell

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from batcher.ledger.connect import Engine
    from batcher.report.export.answers import ExportOptions
    from batcher.rows.out.marks import OutputFormat

    Opened = AbstractContextManager[Engine]


@command("batcher export -o answers.csv", "batcher export --run 3 --failures -o mend.jsonl")
@option(
    "--run",
    "run_id",
    type=number,
    metavar="ID",
    help="The run, where there are several.",
)
@option(
    "-o",
    "--output",
    default="-",
    type=FILE,
    metavar="FILE",
    help="Where to: FILE.jsonl, .csv or .parquet, also with .gz or .zst; else standard output.",
)
@option(
    "--format",
    "form",
    type=NearChoice(["jsonl", "csv", "parquet", "batch-results"]),
    help="What to write; told by the name of FILE, else jsonl. batch-results: the result lines"
    " of Message Batches.",
)
@option("--answered-only", is_flag=True, help="Leave out rows without an answer.")
@option(
    "--failures",
    is_flag=True,
    help="Only rows without an answer, as they came: to mend and run.",
)
@force_option()
@ledger_options
def export(
    run_id: int | None,
    output: str,
    form: str | None,
    answered_only: bool,
    failures: bool,
    force: bool,
    database: str | None,
    config: str | None,
) -> None:
    """Write answers in input order to a file.

    They are joined to the rows' own columns. Rows without an answer say why. Works while the
    run is on; a file appears when it is whole.
    """
    from batcher.report.export.answers import (
        ExportOptions,
        export_answers,
        export_results,
        the_run,
    )
    from batcher.report.words import count_of

    options = ExportOptions(
        target=output,
        form=None if form == "batch-results" else cast("OutputFormat | None", form),
        answered_only=answered_only,
        force=force,
    )
    where = "standard output" if output == "-" else output
    if failures:
        if answered_only:
            raise click.UsageError("--failures and --answered-only exclude each other")
        _export_failures(options, run_id, where, ledger(database, config))
        return
    write = export_results if form == "batch-results" else export_answers
    with ledger(database, config) as engine:
        done = write(engine, the_run(engine, run_id), options, _warn)
    tell(f"{count_of(done.rows, 'row')} to {where}, {done.answered:,} answered", err=True)


def _export_failures(
    options: "ExportOptions", run_id: int | None, where: str, opened: "Opened"
) -> None:
    from batcher.report.export.answers import export_failures, the_run
    from batcher.report.words import count_of

    with opened as engine:
        done = export_failures(engine, the_run(engine, run_id), options, _warn)
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in done.reasons.items())
    tell(f"{count_of(done.rows, 'row')} to {where}: {reasons or 'none'}", err=True)


def _warn(sentence: str) -> None:
    tell(f"warning: {sentence}", err=True)
