"""`batcher retry`."""

from batcher.cli.commands import choice, command, number, option
from batcher.cli.ledger_options import ledger_options
from batcher.cli.words.say import tell
from batcher.messages.failure import FailureKind


@command("batcher retry", "batcher retry --run 3 --kind held")
@option("--run", "run_id", type=number, metavar="ID", help="The run, when there are several.")
@option(
    "--kind",
    type=choice(FailureKind),
    multiple=True,
    help="Only rows of this kind; repeatable [failed and held].",
)
@option("--reason", help="Only rows with this reason, as batcher failures shows it.")
@ledger_options
def retry(
    run_id: int | None,
    kind: tuple[str, ...],
    reason: str | None,
    database: str | None,
    config: str | None,
) -> None:
    """Make failed and held rows work to do again.

    Sends nothing: the run's own command, typed again, sends them.
    """
    from batcher.config.files import database_url
    from batcher.pipeline.run.release import release
    from batcher.report.words import count_of

    released = release(
        database_url(database, config), run_id, kinds=kind or ("failed", "held"), reason=reason
    )
    rows, are = count_of(released.rows, "row"), "is" if released.rows == 1 else "are"
    tell(f"{rows} of run {released.run_id} {are} to do again")
    if released.rows:
        tell(f"send them with: {released.command}")
