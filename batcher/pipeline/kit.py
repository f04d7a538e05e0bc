"""The concrete things that a run works with."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from batcher.clock import Clock
from batcher.pipeline.events import Observer
from batcher.pipeline.rater import Rater
from batcher.rows.build import RequestBuilder
from batcher.rows.source import SourceFile
from batcher.transport.lane import Lane


@dataclass(frozen=True, slots=True, kw_only=True)
class Kit:
    """Made in `wiring`, replaced piece by piece in tests.

    `make_lane` is called inside the event loop. `price_note` says in words whose prices count.
    """

    builder: RequestBuilder
    files: Sequence[SourceFile]
    rater: Rater
    make_lane: Callable[[], Lane]
    clock: Clock
    observer: Observer
    price_note: str
