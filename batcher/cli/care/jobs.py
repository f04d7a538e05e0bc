"""`batcher init` and `batcher jobs`: job files, begun, listed, checked; what starts them."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from batcher.cli.commands import (
    FILE,
    GroupWithExamples,
    NearChoice,
    command,
    completed,
    endpoint_names,
    model_names,
    option,
    write_new,
)
from batcher.cli.say import tell

if TYPE_CHECKING:
    from batcher.estimate.new_job import JobDraft


@click.group(
    cls=GroupWithExamples,
    examples=("batcher jobs list", "batcher jobs check jobs/nightly.toml"),
)
def jobs() -> None:
    """List and check job files, print their schema and their units."""


@jobs.command("list", examples=("batcher jobs list", "batcher jobs list /srv/batcher"))
@click.argument("folder", type=Path, default=Path("jobs"))
def list_jobs(folder: Path) -> None:
    """Show the jobs in FOLDER [jobs]: name, inputs, endpoint, model."""
    from batcher import wiring
    from batcher.rows.read.source import shown

    for path in wiring.job_files(folder):
        job = wiring.job_file(path)
        where = job.endpoint or "anthropic"
        inputs = ", ".join(map(shown, job.inputs))
        tell(f"{path}: {job.name or path.stem} <- {inputs} -> {where}")


@jobs.command("check", examples=("batcher jobs check", "batcher jobs check jobs/nightly.toml"))
@click.argument("paths", nargs=-1, type=Path, metavar="[FILE_OR_FOLDER]...")
def check_jobs(paths: tuple[Path, ...]) -> int:
    """Check job files [all in jobs/]: settings, inputs, template and every row.

    Sends nothing. Exits with 1 when something is wrong.
    """
    from batcher import wiring
    from batcher.errors import BatcherError

    wrong = 0
    for path in [p for given in paths or (Path("jobs"),) for p in wiring.job_files(given)]:
        try:
            found = wiring.inspect_inputs(wiring.resolve(wiring.asked((), path, None)))
            if wiring.job_file(path).schedule.cron is not None:
                wiring.scheduled(path)
        except BatcherError as exc:
            wrong += 1
            tell(f"{path}: {str(exc).removeprefix(f'{path}: ')}")
            continue
        wrong += bool(found.bad_rows)
        tell(f"{path}: {found.requests:,} requests, {found.bad_rows:,} bad rows")
    return 1 if wrong else 0


@jobs.command(
    "schema",
    examples=("batcher jobs schema > job.schema.json", "batcher jobs schema config"),
)
@click.argument("kind", type=click.Choice(["job", "config"]), default="job")
def schema(kind: str) -> None:
    """Print the JSON schema of job files, or of config.toml, for editors and checks."""
    from batcher.config.tables import schema_of

    tell(schema_of(kind), nl=False)


@jobs.command(
    "crontab",
    examples=(
        "batcher jobs crontab /srv/batcher/nightly.toml",
        "batcher jobs crontab nightly.toml > crontab.txt",
    ),
)
@click.argument("path", type=Path, metavar="JOB")
def print_crontab(path: Path) -> None:
    """Print the line of a crontab that starts JOB by its [schedule]."""
    from batcher import wiring
    from batcher.cli.care.scheduling import crontab

    tell(crontab(wiring.scheduled(path)), nl=False)


@jobs.command(
    "systemd",
    examples=(
        "batcher jobs systemd /srv/batcher/nightly.toml",
        "batcher jobs systemd nightly.toml --unit timer",
    ),
)
@click.argument("path", type=Path, metavar="JOB")
@option(
    "--unit",
    "kind",
    type=NearChoice(["service", "timer"]),
    help="Print this one only, to be written to a file.",
)
def print_systemd(path: Path, kind: str | None) -> None:
    """Print the service and the timer that start JOB by its [schedule].

    They run it as the user who types this.
    """
    from batcher import wiring
    from batcher.cli.care.scheduling import systemd, unit_name
    from batcher.ledger.connect import user_name

    job = wiring.scheduled(path)
    for name, text in systemd(job, user_name()).items():
        if kind is None:
            tell(f"# /etc/systemd/system/{unit_name(job)}.{name}\n{text}")
        elif kind == name:
            tell(text, nl=False)


@jobs.command(
    "kubernetes",
    examples=(
        "batcher jobs kubernetes /srv/batcher/nightly.toml --image you/batcher:1",
        "batcher jobs kubernetes nightly.toml > cronjob.yaml",
    ),
)
@click.argument("path", type=Path, metavar="JOB")
@option("--image", metavar="NAME", help="The image with batcher in it.  [default: batcher]")
def print_kubernetes(path: Path, image: str | None) -> None:
    """Print the CronJob that starts JOB by its [schedule].

    It expects the folder of the job in a volume, at the same place, and the key in a secret.
    """
    from batcher import wiring
    from batcher.cli.care.scheduling import kubernetes

    tell(kubernetes(wiring.scheduled(path), image or "batcher"), nl=False)


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
