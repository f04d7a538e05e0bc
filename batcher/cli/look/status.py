"""`batcher status`: how the runs stand."""

import sys
import threading
from typing import TYPE_CHECKING, Final

import click

from batcher.cli.commands import command, format_options, number, option
from batcher.cli.ledger_options import ledger, ledger_options
from batcher.cli.words.say import tell

if TYPE_CHECKING:
    from batcher.report.status import RunStatus

_SECONDS: Final = 2.0  # between two looks of --watch


@command("batcher status", "batcher status --run 3 --json")
@option("--run", "run_id", type=number, metavar="ID", help="One run only, by its number.")
@option("--watch", is_flag=True, help="Print it again every few seconds while a run is on.")
@format_options("text", "json")
@ledger_options
def status(
    run_id: int | None, watch: bool, form: str, database: str | None, config: str | None
) -> None:
    """Show how far each run is and how it ended."""
    from batcher.report.status import Life

    while True:
        runs = _look(run_id, form, database, config)
        running = any(run.last and run.last.life is Life.RUNNING for run in runs)
        if not (watch and running):
            return
        sys.stdout.flush()  # also where it goes to a file or a pipe
        threading.Event().wait(_SECONDS)
        if form == "text":
            click.clear()


def _look(
    run_id: int | None, form: str, database: str | None, config: str | None
) -> "tuple[RunStatus, ...]":
    """Print how the runs stand now."""
    from batcher.config.files import lifeboat_places
    from batcher.ledger.lifeboat.lifeboat import waiting_for
    from batcher.report.render.status_text import print_status, status_json
    from batcher.report.status import read_status

    with ledger(database, config) as engine:
        boats = waiting_for(engine, *lifeboat_places(config))
        saved = {boat.invocation_id for boat in boats if boat.invocation_id is not None}
        runs = read_status(engine, run_id, saved)
    if form == "json":
        tell(status_json(runs), nl=False)
    else:
        print_status(runs, sys.stdout)
    for boat in boats:
        tell(boat.words, err=True)
    return runs
