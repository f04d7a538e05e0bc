"""`batcher answers`, `failures` and `show`: what rows got, why others got nothing, and how."""

from typing import TYPE_CHECKING

import click

from batcher.cli.commands import command, format_options, ledger, ledger_options, number, option
from batcher.cli.say import tell, tell_lines

if TYPE_CHECKING:
    from batcher.ledger.connect import Engine


_ANSWERS = 10
_OF_EACH_REASON = 5
_MOST = 1_000_000
_RUN = option("--run", metavar="ID|NAME", help="Only of this run.")


@command("batcher answers -n 3", "batcher answers --grep refund --json")
@option(
    "-n",
    "--limit",
    type=click.IntRange(1, _MOST),
    default=_ANSWERS,
    show_default=True,
    metavar="N",
    help="How many of the latest answers.",
)
@option("--custom-id", metavar="ID", help="Only of the row with this custom_id.")
@option("--grep", metavar="TEXT", help="Only answers whose text contains TEXT, in any case.")
@_RUN
@format_options("text", "json")
@ledger_options
def answers(
    limit: int,
    custom_id: str | None,
    grep: str | None,
    run: str | None,
    form: str,
    database: str | None,
    config: str | None,
) -> None:
    """Print the latest answers.

    The oldest of them first, each below a line that says whose it is.
    """
    from batcher.report.render import request_text
    from batcher.report.request import latest_answers

    with ledger(database, config) as engine:
        listed = latest_answers(
            engine, limit, run=_number_of(engine, run), custom_id=custom_id, grep=grep
        )
    if form == "json":
        tell(request_text.answers_json(listed), nl=False)
    else:
        tell_lines(request_text.render_answers(listed))


@command("batcher failures", "batcher failures --reason BAD_JSON -n 100")
@option(
    "-n",
    "--limit",
    type=click.IntRange(1, _MOST),
    default=_OF_EACH_REASON,
    show_default=True,
    metavar="N",
    help="How many rows of each reason.",
)
@option("--reason", metavar="CODE", help="For this reason only.")
@_RUN
@format_options("text", "json")
@ledger_options
def failures(
    limit: int,
    reason: str | None,
    run: str | None,
    form: str,
    database: str | None,
    config: str | None,
) -> None:
    """Print the rows without an answer, grouped by reason.

    Each with its place and a sentence. Mend them with batcher export --failures.
    """
    from batcher.report.render import request_text
    from batcher.report.request import failure_groups

    with ledger(database, config) as engine:
        groups = failure_groups(engine, limit, run=_number_of(engine, run), reason=reason)
    if form == "json":
        tell(request_text.failures_json(groups), nl=False)
    else:
        tell_lines(request_text.render_failures(groups))


def _number_of(engine: "Engine", run: str | None) -> int | None:
    from batcher.report.export.answers import the_run

    return None if run is None else the_run(engine, run)


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
            if form == "json":
                tell(request_text.matches_json(matches), nl=False)
            else:
                tell_lines(request_text.render_matches(matches))
            return
        request = read_request(engine, matches[0], rating=rating)
    if form == "json":
        tell(request_text.request_json(request), nl=False)
    else:
        tell_lines(request_text.render_request(request))
