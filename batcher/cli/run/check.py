"""`batcher check`."""

from pathlib import Path
from typing import Any

import click

from batcher.cli.run.job_options import job_options, no_preflight


@click.command()
@job_options
@no_preflight
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def check(
    inputs: tuple[str, ...],
    job_path: Path | None,
    config_path: str | None,
    as_json: bool,
    **options: Any,  # noqa: ANN401 - settings by name, checked by Settings
) -> int:
    """Validate inputs without sending anything.

    Reads, renders and judges every row as `run` would; needs no key and no database. Exits
    with 1 when a row would be quarantined.
    """
    from batcher import wiring
    from batcher.cli.run.dry_run import print_inspection

    asked = wiring.asked(inputs, job_path, config_path, options=options)
    return print_inspection(wiring.resolve(asked), as_json=as_json)
