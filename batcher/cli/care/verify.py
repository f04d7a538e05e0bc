"""`batcher verify`: does the ledger say what follows from what was received?"""

from pathlib import Path

import click

from batcher.cli.commands import command, format_options, option
from batcher.cli.ledger_options import ledger, ledger_options
from batcher.cli.words.say import tell


@command("batcher verify", "batcher verify -d batcher.db --json")
@option(
    "--bill",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Compare with what a simulator billed: its bill, a JSON object per line.",
)
@format_options("text", "json")
@ledger_options
def verify(bill: Path | None, form: str, database: str | None, config: str | None) -> int:
    """Recompute every charge and check the ledger against itself.

    Reads only, also while a run is on. Each problem is one line; exits with 1 when there is
    one. See docs/verify.md for what is checked.
    """
    import msgspec

    from batcher.config.files import lifeboat_places
    from batcher.ledger.lifeboat.lifeboat import waiting_for
    from batcher.ledger.verify.checks import verify as verify_ledger
    from batcher.report.words import count_of

    with ledger(database, config) as engine:
        found = verify_ledger(engine, bill)
        boats = waiting_for(engine, *lifeboat_places(config))
    if form == "json":
        tell(msgspec.json.encode({"schema": 1, **msgspec.to_builtins(found)}))
    else:
        for finding in found.findings:
            tell(f"{finding.kind}: {finding.text}")
        tell(
            f"verified: {count_of(found.charges, 'charge')} of"
            f" {count_of(found.answers, 'answer')} recomputed,"
            f" {count_of(found.rollups, 'sum')} compared;"
            f" {count_of(found.problems, 'problem') if found.problems else 'no problems'}"
        )
    for boat in boats:
        tell(boat.words, err=True)
    return 1 if found.problems else 0
