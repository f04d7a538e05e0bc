"""`batcher init`."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from batcher.cli.commands import FILE, command, completed, option, write_new
from batcher.cli.names import endpoint_names, model_names
from batcher.cli.words.say import tell

if TYPE_CHECKING:
    from batcher.estimate.new_job import JobDraft


@command("batcher init", "batcher init --input rows.jsonl -e anthropic -m claude-haiku-4-5 -y")
@option(
    "--input",
    "file",
    type=click.Path(readable=False, path_type=Path),
    metavar="FILE",
    help="The file whose rows are sent: JSONL, Parquet or CSV.",
)
@option(
    "-e",
    "--endpoint",
    metavar="NAME",
    shell_complete=completed(endpoint_names),
    help="The endpoint: anthropic, crun, sunra, simulator, or yours.",
)
@option(
    "-m",
    "--model",
    metavar="NAME",
    shell_complete=completed(model_names),
    help="Model for rows that name none.",
)
@option("--config", "config_path", type=FILE, metavar="FILE", help="The config.toml to use.")
@option("-y", "--yes", is_flag=True, help="Write it without asking.")
def init(
    file: Path | None,
    endpoint: str | None,
    model: str | None,
    config_path: str | None,
    yes: bool,
) -> None:
    """Write a first job file for an input, and say what to type next.

    Looks at the first rows. Where they are requests, the job sends them as they are; else it
    gets a prompt template over their columns, for you to edit. On a terminal it asks for what
    is not given. Sends nothing and replaces nothing.
    """
    from batcher.estimate.new_job import draft_job

    path = Path(_asked(file, "--input", "Which file holds the rows?", None))
    where = _asked(endpoint, "--endpoint", "Which endpoint?", "anthropic")
    which = _asked(model, "--model", "Which model?", "claude-haiku-4-5")
    draft = draft_job(path, where, which, config_path)
    if not yes and sys.stdin.isatty():
        click.confirm(f"Write {draft.path}?", default=True, err=True, abort=True)
    _write(draft)


def _asked(given: object, name: str, question: str, default: str | None) -> str:
    """What was given, else what a person on the terminal says."""
    if given is not None:
        return str(given)
    if not sys.stdin.isatty():
        raise click.UsageError(f"{name} is missing, and there is nobody to ask here: give it")
    return str(click.prompt(question, default=default, prompt_suffix=" ", err=True))


def _write(draft: "JobDraft") -> None:
    from batcher.config.tables import schema_of
    from batcher.estimate.new_job import SCHEMA_NAME
    from batcher.report.words import count_of

    write_new(draft.path, draft.text)
    schema = draft.path.with_name(SCHEMA_NAME)
    if not schema.exists():
        write_new(schema, schema_of("job"))
    rows = count_of(draft.sample.rows, "row")
    made = f"a prompt of {', '.join(draft.columns)}" if draft.columns else "rows as they are"
    tell(f"{draft.path} written: {made}, tried on {rows}")
    if draft.sample.refused:
        tell(f"{draft.sample.refused:,} of them would be quarantined; see batcher check")
    for note in draft.notes:
        tell(note)
    name = shlex.quote(str(draft.path))
    tell(f"next: batcher run {name} --dry-run shows the first request and the ceiling")
    tell(f"then: batcher run {name}")
