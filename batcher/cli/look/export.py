"""`batcher export`: the answers of a run as a file."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from batcher.cli.commands import (
    FILE,
    NearChoice,
    column_names,
    command,
    completed,
    force_option,
    ledger,
    ledger_options,
    option,
)
from batcher.cli.say import tell

if TYPE_CHECKING:
    from collections.abc import Mapping

    from batcher.ledger.connect import Engine
    from batcher.report.export.answers import ExportOptions
    from batcher.rows.out.output import OutputFormat


@command("batcher export -o answers.csv", "batcher export --run 3 --failures -o mend.jsonl")
@option(
    "--run",
    "run_words",
    multiple=True,
    metavar="ID|NAME",
    help="The run, where there are several; two or more stand side by side.",
)
@option(
    "-o",
    "--output",
    default="-",
    type=FILE,
    metavar="FILE",
    help="The file: .jsonl, .csv or .parquet, also with .gz or .zst [standard output].",
)
@option(
    "--format",
    "form",
    type=NearChoice(["jsonl", "csv", "parquet", "batch-results"]),
    help="What to write; told by the name of FILE, else jsonl. batch-results: the result lines"
    " of Message Batches.",
)
@option(
    "--columns",
    metavar="A,B",
    shell_complete=completed(column_names, in_list=True),
    help="Only these columns, in this order.",
)
@option(
    "--where",
    multiple=True,
    metavar="COLUMN=VALUE",
    help="Only rows that meet this; also != < <= > >=, and ~ for text that holds VALUE.",
)
@option(
    "--all-views",
    is_flag=True,
    help="Write every stable view of the ledger as FOLDER/VIEW.parquet; -o names the folder.",
)
@option("--answered-only", is_flag=True, help="Leave out rows without an answer.")
@option(
    "--failures",
    is_flag=True,
    help="Only rows without an answer, as they came, to be mended and run again.",
)
@force_option()
@ledger_options
def export(
    run_words: tuple[str, ...],
    output: str,
    force: bool,
    database: str | None,
    config: str | None,
    **asked: Any,  # noqa: ANN401 # click passes every other option by its name
) -> None:
    """Write answers in input order to a file.

    They are joined to the rows' own columns. Rows without an answer say why. Works while the
    run is on; a file appears when it is whole.
    """
    _check(asked, run_words)
    with ledger(database, config) as engine:
        if asked["all_views"]:
            _export_views(engine, output, force=force)
            return
        options = _options(asked, output, force=force)
        where = "standard output" if output == "-" else output
        if asked["failures"]:
            _export_failures(engine, options, run_words, where)
        else:
            _export(engine, options, run_words, where, asked["form"])


_OF_ANSWERS = ("columns", "where")


def _check(asked: "Mapping[str, Any]", run_words: tuple[str, ...]) -> None:
    form, failures, views = asked["form"], asked["failures"], asked["all_views"]
    if failures and asked["answered_only"]:
        raise click.UsageError("--failures and --answered-only exclude each other")
    other = "--failures" if failures else "--all-views" if views else ""
    other = other or ("--format batch-results" if form == "batch-results" else "")
    for name in _OF_ANSWERS:
        if other and asked[name]:
            raise click.UsageError(f"--{name} is about answers: leave out {other}")
    if other and len(run_words) > 1:
        raise click.UsageError(f"{other} is about one run: name one --run")
    if views and (failures or asked["answered_only"] or run_words or form):
        raise click.UsageError("--all-views writes the whole ledger as Parquet: give -o only")


def _options(asked: "Mapping[str, Any]", output: str, *, force: bool) -> "ExportOptions":
    from batcher.report.export.answers import ExportOptions, where_filters

    form, columns = asked["form"], asked["columns"]
    names = [name.strip() for name in columns.split(",")] if columns else None
    return ExportOptions(
        target=output,
        form=None if form == "batch-results" else cast("OutputFormat | None", form),
        answered_only=asked["answered_only"],
        force=force,
        columns=None if names is None else tuple(dict.fromkeys(names)),
        where=where_filters(asked["where"]),
    )


def _export(
    engine: "Engine",
    options: "ExportOptions",
    run_words: tuple[str, ...],
    where: str,
    form: str | None,
) -> None:
    from batcher.report.export import answers
    from batcher.report.words import count_of

    if len(run_words) > 1:
        runs = answers.runs_named(engine, run_words)
        done = answers.export_beside(engine, runs, options, _warn)
    else:
        write = answers.export_results if form == "batch-results" else answers.export_answers
        done = write(engine, answers.the_run(engine, *run_words), options, _warn)
    tell(f"{count_of(done.rows, 'row')} to {where}, {done.answered:,} answered", err=True)


def _export_views(engine: "Engine", output: str, *, force: bool) -> None:
    from batcher.report.export.answers import export_views
    from batcher.report.words import count_of

    if output == "-":
        raise click.UsageError("--all-views writes files: name their folder with -o FOLDER")
    for view, rows in export_views(engine, output, force=force).items():
        tell(f"{count_of(rows, 'row')} to {Path(output) / view}.parquet", err=True)


def _export_failures(
    engine: "Engine", options: "ExportOptions", run_words: tuple[str, ...], where: str
) -> None:
    from batcher.report.export.answers import export_failures, the_run
    from batcher.report.words import count_of

    done = export_failures(engine, the_run(engine, *run_words), options, _warn)
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in done.reasons.items())
    tell(f"{count_of(done.rows, 'row')} to {where}: {reasons or 'none'}", err=True)


def _warn(sentence: str) -> None:
    tell(f"warning: {sentence}", err=True)
