"""`batcher status` and `batcher batches`: how the runs stand, and what they travel in."""

import sys
import threading
from typing import TYPE_CHECKING, Final

import click

from batcher.cli.commands import (
    GroupWithExamples,
    command,
    format_options,
    ledger,
    ledger_options,
    number,
    option,
)
from batcher.cli.say import tell

if TYPE_CHECKING:
    from batcher.ledger.batches.store import StoredBatch
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
    from batcher.pipeline.run.by_hand import adopt

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
    from batcher.pipeline.run.by_hand import forget
    from batcher.report.words import count_of

    done = forget(database_url(database, config), name)
    tell(f"{count_of(done.attempts, 'attempt')} of batch {done.batch.number} are in doubt now")
    tell(f"send the rows with: {done.command}")
