"""`batcher run`."""

import shlex
import sys
from pathlib import Path
from typing import Any

import click

from batcher.config import Settings, text_or_file


@click.command()
@click.argument("inputs", nargs=-1, metavar="[INPUT]...")
@click.option("--job", "job_path", type=Path, help="A job file, instead of inputs.")
@click.option(
    "--endpoint", help="Where to send: anthropic, crun, sunra, simulator, or your own."
)
@click.option("--base-url", help="Another address of the endpoint.")
@click.option("--model", help="Model for rows that name none.")
@click.option("--max-tokens", type=int, help="Output limit for rows that name none [1024].")
@click.option("--system", help="System prompt for rows without one; @FILE reads it.")
@click.option("--prompt", help="Template over the rows' columns, like '{{ text }}'; @FILE.")
@click.option("--concurrency", type=int, help="Requests in flight at most [64].")
@click.option("--limit", type=int, help="Send at most this many new rows, then stop.")
@click.option("--max-runtime", metavar="TIME", help="Stop sending after 90s, 15m or 2h.")
@click.option(
    "--on-unknown",
    type=click.Choice(["retry", "hold", "fail"]),
    help="What to do with rows whose attempt may have been billed unseen [retry].",
)
@click.option(
    "--tag", "tags", multiple=True, metavar="K=V", help="A tag for reports; repeatable."
)
@click.option("-o", "--output", help="Write the answers there at the end, in input order.")
@click.option("--prices", metavar="FILE|none", help="A price file of your own, or no prices.")
@click.option("--database", metavar="URL", help="SQLite file or postgresql+psycopg:// URL.")
@click.option("--config", "config_path", metavar="FILE", help="The config.toml to use.")
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
    tags: tuple[str, ...], system: str | None, prompt: str | None,
    accept_change: bool, dry_run: bool, yes: bool, as_json: bool, quiet: bool,
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

    here = Path.cwd()
    settings = Settings(
        system=text_or_file(system, here) if system else None,
        prompt=text_or_file(prompt, here) if prompt else None,
        tags=tag_table(tags),
        **options,
    )
    job = wiring.resolve(
        wiring.Asked(
            command=shlex.join(["batcher", *sys.argv[1:]]),
            inputs=inputs,
            job_path=job_path,
            config_path=config_path,
            accept_change=accept_change or yes,
            options=settings,
        )
    )
    if dry_run:
        return print_dry_run(job, as_json=as_json)
    watcher = display(quiet=quiet or as_json, assume_yes=yes)
    return finish(job, wiring.run(job, watcher), watcher, as_json=as_json, quiet=quiet)


def tag_table(tags: tuple[str, ...]) -> dict[str, str] | None:
    """`k=v` options as a table; `None` when there are none."""
    table = {}
    for tag in tags:
        key, equals, value = tag.partition("=")
        if not equals or not key:
            raise click.UsageError(f"--tag {tag!r}: write key=value")
        table[key] = value
    return table or None
