"""`batcher status`: how the runs stand."""

import click

from batcher.cli.ledger_options import ledger, ledger_options


@click.command()
@click.option("--run", "run_id", type=int, metavar="ID", help="One run only, by its number.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@ledger_options
def status(run_id: int | None, as_json: bool, database: str | None, config: str | None) -> None:
    """Show how far each run is and how it ended."""
    from batcher.config.files import lifeboat_places
    from batcher.ledger.lifeboat.saving import waiting_for
    from batcher.report.render.status_text import render_status, status_json
    from batcher.report.status import read_status

    with ledger(database, config) as engine:
        boats = waiting_for(engine, *lifeboat_places(config))
        saved = {boat.invocation_id for boat in boats if boat.invocation_id is not None}
        runs = read_status(engine, run_id, saved)
    click.echo((status_json if as_json else render_status)(runs), nl=False)
    for boat in boats:
        click.echo(boat.words, err=True)
