"""`batcher run`."""

from pathlib import Path
from typing import Any

import click

from batcher.cli.job_options import job_options, tag_table


@click.command()
@job_options
@click.option("--concurrency", type=int, help="Requests in flight at most [64].")
@click.option("--limit", type=int, help="Send at most this many new rows, then stop.")
@click.option("--max-runtime", metavar="TIME", help="Stop sending after 90s, 15m or 2h.")
@click.option(
    "--on-unknown",
    type=click.Choice(["retry", "hold", "fail"]),
    help="What to do with rows whose attempt may have been billed unseen [retry].",
)
@click.option("--tag", "tags", multiple=True, metavar="K=V", help="For reports; repeatable.")
@click.option("-o", "--output", help="Write the answers there at the end, in input order.")
@click.option(
    "--accept-change", is_flag=True, help="Pay answered rows again: settings changed."
)
@click.option(
    "--strict", is_flag=True, default=None, help="Exit 65 when an answer has no price."
)
@click.option("--dry-run", is_flag=True, help="Do everything but send; show the ceiling.")
@click.option("--yes", is_flag=True, help="Answer every question with yes.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object at the end.")
@click.option("--quiet", is_flag=True, help="No progress; errors only.")
def run(
    inputs: tuple[str, ...], job_path: Path | None, config_path: str | None,
    tags: tuple[str, ...], accept_change: bool,
    dry_run: bool, yes: bool, as_json: bool, quiet: bool,
    **options: Any,  # noqa: ANN401 - settings by name, checked by Settings
) -> int:  # fmt: skip
    """Send the rows of INPUT, or of a job, that are still to do.

    INPUT is a JSONL or Parquet file, also .gz or .zst, a glob in quotes, or - for standard
    input. The same command again continues: answered rows are not sent again.
    """
    from batcher import wiring
    from batcher.cli.display import display
    from batcher.cli.dry_run import print_dry_run
    from batcher.cli.summary import finish

    job = wiring.resolve(
        wiring.asked(
            inputs,
            job_path,
            config_path,
            accept_change=accept_change or yes,
            options={**options, "tags": tag_table(tags)},
        )
    )
    if dry_run:
        return print_dry_run(job, as_json=as_json)
    watcher = display(quiet=quiet or as_json, assume_yes=yes)
    return finish(job, wiring.run(job, watcher), watcher, as_json=as_json, quiet=quiet)
