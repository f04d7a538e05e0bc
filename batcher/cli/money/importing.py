"""`batcher prices import`: whose prices, on top of what, and what they may not replace."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from batcher.cli.commands import ledger

# What such a file begins with: it is replaced by the next import, nobody's own list ever is.
MARK: Final = (
    "# Written by `batcher prices import`, which replaces it: keep your changes elsewhere.\n"
)

if TYPE_CHECKING:
    from batcher.outputs import Guard
    from batcher.pricing.book.layer import Layer


def collected(source: str, file: str | None, provider: str, price_list: str) -> Layer:
    """The prices of another collection, as they are there."""
    from batcher.pricing.book.genai import genai_layer
    from batcher.pricing.book.imports import litellm_layer

    if source == "genai-prices":
        return genai_layer(provider, price_list=price_list)
    return litellm_layer(Path(file) if file else None, provider, price_list=price_list)


def into_shipped(layer: Layer, price_list: str) -> Layer:
    """What of them goes on top of the shipped book, from today on."""
    from batcher.clock import SystemClock
    from batcher.pricing.book.book import load_shipped
    from batcher.pricing.book.imports import updated
    from batcher.pricing.rate.rates import utc_day

    return updated(layer, load_shipped(), price_list, utc_day(SystemClock().now_us()))


def with_choices(layer: Layer, *, rounds: bool, replaces: bool) -> Layer:
    """The layer with what was chosen on the command line."""
    from dataclasses import replace

    return replace(layer, rounds=layer.rounds or rounds, extends=layer.extends and not replaces)


def guard(file: str | None, *, force: bool) -> Guard:
    """What the ledger that commands without a job use keeps, where there is one."""
    from dataclasses import replace

    from batcher.errors import BatcherError
    from batcher.outputs import Guard
    from batcher.report.ledgers import guard_of

    kept = Guard(force=force)
    with suppress(BatcherError), ledger(None, None) as engine:
        kept = guard_of([engine], force=force)
    return replace(kept, inputs=(*kept.inputs, *map(Path, [file] if file else [])))


def is_ours(path: Path) -> bool:
    """Whether an import wrote this file."""
    from batcher.outputs import beginning

    return beginning(path, len(MARK)) == MARK.encode()
