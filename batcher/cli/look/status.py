"""`batcher status`: how the runs stand."""

from batcher.cli.commands import command, format_options, option
from batcher.cli.ledger_options import ledger, ledger_options
from batcher.cli.words.say import tell


@command("batcher status", "batcher status --run 3 --json")
@option("--run", "run_id", type=int, metavar="ID", help="One run only, by its number.")
@format_options("text", "json")
@ledger_options
def status(run_id: int | None, form: str, database: str | None, config: str | None) -> None:
    """Show how far each run is and how it ended."""
    from batcher.config.files import lifeboat_places
    from batcher.ledger.lifeboat.lifeboat import waiting_for
    from batcher.report.render.status_text import render_status, status_json
    from batcher.report.status import read_status

    with ledger(database, config) as engine:
        boats = waiting_for(engine, *lifeboat_places(config))
        saved = {boat.invocation_id for boat in boats if boat.invocation_id is not None}
        runs = read_status(engine, run_id, saved)
    tell((status_json if form == "json" else render_status)(runs), nl=False)
    for boat in boats:
        tell(boat.words, err=True)
