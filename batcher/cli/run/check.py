"""`batcher check`."""

from pathlib import Path
from typing import Any

from batcher.cli.commands import command, format_options
from batcher.cli.run.job_options import job_options, no_preflight


@command("batcher check rows.jsonl -m claude-haiku-4-5", "batcher check job.toml --json")
@job_options
@no_preflight
@format_options("text", "json")
def check(
    inputs: tuple[str, ...],
    job_path: Path | None,
    config_path: str | None,
    form: str,
    **options: Any,  # noqa: ANN401 - settings by name, checked by Settings
) -> int:
    """Validate inputs without sending anything.

    Reads, renders and judges every row as `run` would; needs no key and no database. Exits
    with 1 when a row would be quarantined.
    """
    from batcher import wiring
    from batcher.cli.run.dry_run import print_inspection

    asked = wiring.asked(inputs, job_path, config_path, options=options)
    return print_inspection(wiring.resolve(asked), as_json=form == "json")
