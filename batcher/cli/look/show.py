"""`batcher show`: one request, walked back to what it came from."""

import click

from batcher.cli.commands import command, format_options, number, option
from batcher.cli.ledger_options import ledger, ledger_options
from batcher.cli.words.say import tell


@command("batcher show ticket-29", "batcher show rows.jsonl:12 --json")
@click.argument("name")
@format_options("text", "json")
@option(
    "--rating",
    type=number,
    metavar="N",
    help="The prices as they were when rating N was complete, as in batcher report --rating.",
)
@ledger_options
def show(
    name: str, form: str, rating: int | None, database: str | None, config: str | None
) -> None:
    """Show one request: attempts, legs, usage, prices.

    NAME is a custom_id, FILE:ROW, an attempt's uid, a provider's request id or a message id.
    Where it names several requests, they are listed.
    """
    from batcher.report.render import request_text
    from batcher.report.request import find_requests, read_request

    with ledger(database, config) as engine:
        matches = find_requests(engine, name)
        if len(matches) > 1:
            listed = (
                request_text.matches_json if form == "json" else request_text.render_matches
            )
            tell(listed(matches), nl=False)
            return
        request = read_request(engine, matches[0], rating=rating)
    shown = request_text.request_json if form == "json" else request_text.render_request
    tell(shown(request), nl=False)
