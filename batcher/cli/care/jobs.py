"""`batcher jobs`: list and check job files."""

from pathlib import Path

import click

from batcher.cli.commands import GroupWithExamples
from batcher.cli.words.say import tell


@click.group(
    cls=GroupWithExamples,
    examples=("batcher jobs list", "batcher jobs check jobs/nightly.toml"),
)
def jobs() -> None:
    """List and check job files, print their schema."""


@jobs.command("list", examples=("batcher jobs list", "batcher jobs list /srv/batcher"))
@click.argument("folder", type=Path, default=Path("jobs"))
def list_jobs(folder: Path) -> None:
    """Show the jobs in FOLDER [jobs]: name, inputs, endpoint, model."""
    from batcher import wiring

    for path in wiring.job_files(folder):
        job = wiring.job_file(path)
        where = job.endpoint or "anthropic"
        tell(f"{path}: {job.name or path.stem} <- {', '.join(job.inputs)} -> {where}")


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
        except BatcherError as exc:
            wrong += 1
            tell(f"{path}: {exc}")
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
    from batcher.config.schemas import schema_of

    tell(schema_of(kind), nl=False)
