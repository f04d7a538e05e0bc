"""The concrete things that a run works with."""

import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from batcher.clock import Clock
from batcher.pacing.pacer import Pacer
from batcher.pipeline.engine.policies import LargestOutput
from batcher.pipeline.engine.rater import Rater
from batcher.pipeline.events import Observer
from batcher.rows.build.requests import RequestBuilder
from batcher.rows.ranges import RowRanges
from batcher.rows.read.source import SourceFile
from batcher.transport.lane import Lane


@dataclass(frozen=True, slots=True, kw_only=True)
class Kit:
    """Made in `wiring`, replaced piece by piece in tests.

    `make_lane` is called inside the event loop, with what is asked right before anything
    leaves: whether the run is ours for sure. `price_note` says in words whose prices count.
    `chosen` are the only rows to send, by the name of their source: a pilot; `None`: all.
    `largest_output` is that of `AnswerPolicy`.
    `pacer` is the one that the lane tells of headers; `None`: the engine makes its own.
    `fingerprint` names the address and the key whose quotas a run draws on, salted with its
    argument; `None`: its quotas are not shared with other runs of the database.
    `pass_on` is told every signal that the run gets.
    """

    builder: RequestBuilder
    files: Sequence[SourceFile]
    rater: Rater
    make_lane: Callable[[Callable[[], bool]], Lane]
    clock: Clock
    observer: Observer
    price_note: str
    chosen: Mapping[str, RowRanges] | None = None
    largest_output: LargestOutput | None = None
    pacer: Pacer | None = None
    fingerprint: Callable[[str], str] | None = None
    pass_on: Callable[[signal.Signals], None] | None = None
