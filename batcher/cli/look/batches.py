"""`batcher batches`: the provider's Message Batches that rows travel in."""

from typing import TYPE_CHECKING

import click

from batcher.cli.commands import GroupWithExamples, format_options, number, option
from batcher.cli.ledger_options import ledger, ledger_options
from batcher.cli.words.say import tell

if TYPE_CHECKING:
    from batcher.ledger.batches.store import StoredBatch


@click.group(
    cls=GroupWithExamples,
    examples=("batcher batches list", "batcher batches adopt msgbatch_01ABC"),
)
def batches() -> None:
    """List the Message Batches of runs, and settle those that got lost."""


@batches.command(
    "list", examples=("batcher batches list", "batcher batches list --run 3 --json")
)
@option("--run", "run_id", type=number, metavar="ID", help="Those of one run only.")
@format_options("text", "json")
@ledger_options
def list_batches(
    run_id: int | None, form: str, database: str | None, config: str | None
) -> None:
    """Show every batch: number, id, state, requests, when it began and is expected to end."""
    import msgspec

    from batcher.ledger.batches.store import all_batches
    from batcher.ledger.connect import reading

    with ledger(database, config) as engine, reading(engine) as connection:
        found = all_batches(connection, run_id)
    if form == "json":
        tell(msgspec.json.encode({"schema": "batcher.batches/1", "batches": found}).decode())
    elif not found:
        tell("There are no batches here.")
    for batch in found if form == "text" else ():
        tell(_line(batch))


def _line(batch: "StoredBatch") -> str:
    from batcher.report.words import count_of, moment_text

    name = batch.batch_id or "without an answer"
    began = f"began {moment_text(batch.began_at)}"
    if batch.ended_at is not None:
        counts = ("succeeded", "errored", "expired", "canceled")
        shown = [f"{getattr(batch, each):,} {each}" for each in counts if getattr(batch, each)]
        ended = f"ended {moment_text(batch.ended_at)}: {', '.join(shown) or 'nothing'}"
    elif batch.expires_at is not None:
        ended = f"ends by {moment_text(batch.expires_at)}"
    else:
        ended = "its results tell whether it was made"
    requests = count_of(batch.requests, "request")
    return (
        f"{batch.number}  {name}  {batch.state}  {requests} of {batch.model}, {began}, {ended}"
    )


@batches.command(
    "adopt",
    examples=("batcher batches adopt msgbatch_01ABC", "batcher batches adopt ID --number 7"),
)
@click.argument("batch_id", metavar="ID")
@option(
    "--number", "which", type=number, metavar="N", help="The create, where several had none."
)
@ledger_options
def adopt_batch(
    batch_id: str, which: int | None, database: str | None, config: str | None
) -> None:
    """Say that batch ID is the one whose create had no answer.

    The next run collects it, if its results name attempts of this ledger.
    """
    from batcher.config.files import database_url
    from batcher.pipeline.batches.by_hand import adopt

    done = adopt(database_url(database, config), batch_id, which)
    tell(f"batch {batch_id} is taken for number {done.batch.number}; collect it with:")
    tell(done.command)


@batches.command("forget", examples=("batcher batches forget 7", "batcher batches forget ID"))
@click.argument("name", metavar="ID")
@ledger_options
def forget_batch(name: str, database: str | None, config: str | None) -> None:
    """Give a batch up, by its id or number: its rows are sent again.

    What it did is in doubt, and may have been billed.
    """
    from batcher.config.files import database_url
    from batcher.pipeline.batches.by_hand import forget
    from batcher.report.words import count_of

    done = forget(database_url(database, config), name)
    tell(f"{count_of(done.attempts, 'attempt')} of batch {done.batch.number} are in doubt now")
    tell(f"send the rows with: {done.command}")
