"""What an invocation begins with, made of what the ledger knows of it."""

from collections.abc import Callable

from batcher.ledger.write.writer import Writer
from batcher.pipeline.engine.reservations import Budget, Wallet
from batcher.pipeline.events import Started
from batcher.pipeline.kit import Kit
from batcher.pipeline.progress import Progress
from batcher.pipeline.run.begin import Begun
from batcher.pipeline.run.rescue import Ready


def open_budget(
    begun: Begun, writer: Writer, call_soon: Callable[[Callable[[], None]], object]
) -> Budget | None:
    """The caps of this invocation with what was settled before; `None` without any."""
    wallets = [Wallet(cap, settled) for cap, settled in begun.caps]
    if not wallets:
        return None
    return Budget(wallets, begun.scope.invocation_id, writer, call_soon)


def started(
    begun: Begun, ready: Ready, kit: Kit, progress: Progress, database: str, *, created: bool
) -> Started:
    """What observers are told; `database` is the address as it may be shown."""
    return Started(
        run_id=begun.scope.run_id,
        invocation_id=begun.scope.invocation_id,
        database=database,
        database_created=created,
        recovery=begun.recovery,
        retrying=begun.retrying,
        price_note=kit.price_note,
        progress=progress,
        imported=ready.imported,
        notes=ready.notes,
    )
