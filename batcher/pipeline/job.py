"""What a run is asked to do, complete and checked, and the objects that it works with.

Nothing later reads files or options.
"""

import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import msgspec

from batcher.clock import Clock
from batcher.ledger.write.records import SharePolicy, Taken
from batcher.messages.answer import Store
from batcher.messages.legs import body_with_model
from batcher.messages.request import Request
from batcher.pacing.backoff import BreakerPolicy, RetryPolicy
from batcher.pacing.limits import DeadlinePlan, QuotaLimits
from batcher.pacing.pacer import Pacer
from batcher.pipeline.batches.asking import Batches, LookPace
from batcher.pipeline.choices import (
    AnswerChoices,
    Deadline,
    FallbackRules,
    GuardLimits,
    IfRunning,
    LaneChoice,
    OnUnknown,
)
from batcher.pipeline.engine.policies import LargestOutput
from batcher.pipeline.engine.rater import Rater
from batcher.pipeline.progress import Observer
from batcher.pipeline.run.row_checks import BadLimit
from batcher.rows.build.requests import RequestBuilder
from batcher.rows.build.settings import RequestSettings
from batcher.rows.ranges import RowRanges
from batcher.rows.read.source import SourceFile
from batcher.transport.endpoint import Endpoint, Journal, Lane
from batcher.transport.room import AnswerRoom

_CACHED_ROWS: Final = 4_096


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLimits:
    """How much at once, and for how long; `None` means without that limit.

    `row_limit` is the number of rows sent for the first time in this invocation. `max_cost` is
    the cap of the run over all its invocations, `max_cost_month` that of all runs of a
    database in a calendar month UTC; both in pico-USD. `max_bad` is how many rows may be
    refused unsent before the run stops. `waiting`: so many attempts more than `concurrency` may
    be open, and wait to leave together. `scouting`: the first row of a model goes alone.
    `cached`: rows that begin alike use the prompt cache; `leading`: only those go that begin
    it. `runtime_words` say what ends it after `max_runtime_seconds`, where that is not the
    user's.
    """

    concurrency: int = 64
    row_limit: int | None = None
    max_runtime_seconds: float | None = None
    max_cost: int | None = None
    max_cost_month: int | None = None
    drain_timeout_seconds: float = 60.0
    max_legs: int = 10
    body_bytes: int = 192 * 2**20  # reading a row of the largest size takes the rest of 256 MB
    waiting: int = 0
    scouting: bool = True
    cached: bool = False
    leading: bool = False
    runtime_words: str = ""
    max_bad: BadLimit | None = None
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    breaker: BreakerPolicy = field(default_factory=BreakerPolicy)
    quota: QuotaLimits = field(default_factory=QuotaLimits)

    @property
    def takes_no_rows(self) -> bool:
        """Whether the process begins a run for others, and reads nothing itself."""
        return self.row_limit == 0

    def ahead(self, usual: int) -> int:
        """How many rows are read and not yet sent: many, where alike ones are looked for."""
        return max(usual, _CACHED_ROWS) if self.cached and not self.waiting else usual

    @property
    def runtime_over(self) -> str:
        """What is said when `max_runtime_seconds` are over."""
        return self.runtime_words or f"--max-runtime of {self.max_runtime_seconds:g} s is over"

    def packed(self, rows: int) -> "RunLimits":
        """What holds of them for batches of so many rows: live quotas are not theirs."""
        return replace(self, waiting=rows, scouting=False, quota=QuotaLimits())

    @property
    def workers(self) -> int:
        """How many attempts may be open."""
        return self.concurrency + self.waiting


@dataclass(frozen=True, slots=True, kw_only=True)
class Fallback:
    """An endpoint that rows go to when the one before does not answer.

    `model` is what is asked for there; `None`: the model that the row asked for.
    """

    endpoint: Endpoint
    model: str | None = None

    def asked(self, request: Request) -> Request:
        """What is asked there instead of `request`, which keeps its identity."""
        model = self.model
        if model is None or model == request.model:
            return request
        body = body_with_model(request.body, model)
        return msgspec.structs.replace(request, model=model, body=body)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One job: inputs, endpoint, what a request looks like, limits.

    `key` names the run: the job's name, or the inputs as resolved paths. A run without a
    `name` shares answers with others of its kind. `again`: all is sent anew, in a new round.
    Relative `inputs` are relative to `base`. `command` is what continues the run, for
    messages. `prices` is a price file, "none" or `None` for the shipped prices. `preflight`:
    rows that the endpoint is known to refuse are not sent. `ask_above` is the ceiling in
    pico-USD above which a person is asked before anything is sent; `None`: never. `store` is
    how much of the answers is kept. `guard` says when answers are too
    unlike those of before. `lifeboat_folder` is where paid answers go when the ledger
    fails, `None`: beside it; then the `spare_folders`. `min_free_space` is in bytes, 0: not
    watched, `None`: the usual. `lease_seconds` is how long a run on PostgreSQL may be silent
    before another process may take it over, `pod` the one of Kubernetes that we are in, if any,
    `database_wait_seconds` how long a server that
    went away is waited for. `join`: other processes may do the same job at the same time, each
    a part of its rows. `processes` is how many of this machine do it together, `on` the
    cluster that so many `workers` of it run on; `None`: one a node.
    `command_uid` is what all invocations of one command, processes and phases, have in common.
    `fallback` are the endpoints that rows go to, one after the other, by `fallback_rules`.
    `dedup`: rows that ask the same are sent once.
    `lane` is how new attempts travel; with `wait` a run stays until its last batch has ended,
    with `cancel` it ends them, collects what was done, and sends nothing. `plan` is how a phase
    of a run keeps its `deadline`.
    `replace_output`: `output` is written also where a file is that the program did not write.
    `dated`: the inputs are those of one day, and other days keep their answers.
    `output_of_inputs`: `output` holds the rows of these inputs only, not all of the run.
    `may_be_missing` are the inputs that may name no file, each with its folder.
    """

    key: str
    name: str | None
    command: str
    inputs: tuple[str, ...]
    base: Path
    database: str
    endpoint: Endpoint
    settings: RequestSettings
    limits: RunLimits = field(default_factory=RunLimits)
    on_unknown: OnUnknown = OnUnknown.RETRY
    accept_change: bool = False
    again: bool = False
    strict: bool = False
    tags: Mapping[str, str] = field(default_factory=dict)
    output: str | None = None
    replace_output: bool = False
    dedup: bool = False
    lane: LaneChoice = LaneChoice.LIVE
    wait: bool = True
    cancel: bool = False
    deadline: Deadline | None = None
    plan: DeadlinePlan | None = None
    dated: bool = False
    output_of_inputs: bool = False
    may_be_missing: Mapping[str, Path] = field(default_factory=dict)
    prices: str | None = None
    price_book_max_age_days: int = 90
    preflight: bool = True
    ask_above: int | None = None
    answers: AnswerChoices = field(default_factory=AnswerChoices)
    guard: GuardLimits | None = None
    lifeboat_folder: Path | None = None
    spare_folders: tuple[Path, ...] = ()
    min_free_space: int | None = None
    store: Store = Store.FULL
    if_running: IfRunning = IfRunning.FAIL
    lease_seconds: float = 30.0
    pod: str = ""
    database_wait_seconds: float = 300.0
    join: bool = False
    processes: int = 1
    on: str | None = None
    workers: int | None = None
    command_uid: str = ""
    fallback: tuple[Fallback, ...] = ()
    fallback_rules: FallbackRules = field(default_factory=FallbackRules)

    @property
    def kept_words(self) -> tuple[str, ...]:
        """What the ledger keeps as somebody typed it, but for tags."""
        return (self.command, self.name or "", self.settings.model or "", *self.inputs)

    @property
    def deadline_pays(self) -> bool:
        """Whether rows whose batch is too late are sent again, though both may be paid."""
        return self.deadline is not None and self.deadline.pays

    def most(self, ceiling: int, in_legs: int) -> int | None:
        """What one attempt each (`ceiling`) grows to with all that a row may have in a run.

        `in_legs` is the part of it of requests that may go on in further legs. `None`: a row
        may be asked again for more than before, with an answer that broke its schema, or with
        what a tool of ours says, or refusals for load, which use up no attempt, may be billed,
        and nothing bounds that.
        """
        choices = self.answers
        if any(place.errors_may_be_billed for place in self._places):
            return None
        grows = choices.raise_factor is not None or choices.retries
        if grows or (choices.tools and in_legs):
            return None
        attempts = self.limits.retry.max_attempts * (1 + len(self.fallback))
        return attempts * (ceiling + in_legs * (self.limits.max_legs - 1))

    @property
    def _places(self) -> tuple[Endpoint, ...]:
        return (self.endpoint, *(each.endpoint for each in self.fallback))

    def sharing(self, run_id: int, invocation_id: int, since: int) -> SharePolicy | None:
        """Which answers of other runs its rows may have, see `SharePolicy`; a name: none."""
        if self.name is not None:
            return None
        return self._sharing(run_id, invocation_id, since)

    def repeating(self, run_id: int, invocation_id: int, since: int) -> SharePolicy | None:
        """Which answers of the run rows have that ask the same; `None`: each has its own."""
        if not self.dedup:
            return None
        return replace(self._sharing(run_id, invocation_id, since), repeats=True)

    def _sharing(self, run_id: int, invocation_id: int, since: int) -> SharePolicy:
        choices = self.answers
        longer = Taken.ALWAYS if choices.raise_factor is None else Taken.REPLACED
        valid = Taken.REPLACED if choices.retries else Taken.ALWAYS
        return SharePolicy(
            run_id=run_id,
            invocation_id=invocation_id,
            endpoint=self.endpoint.name,
            addresses=self.endpoint.spellings,
            since=since,
            words=self.store is not Store.USAGE,
            truncated=Taken.NEVER if choices.fail_truncated else longer,
            invalid=Taken.NEVER if choices.fail_invalid else valid,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalWays:
    """How signals come to a run, and go on from it.

    `pass_on` is told each that counts. `told` is called with who is to hear them, in any
    thread; `None`: the run hears those of its process.
    """

    pass_on: Callable[[signal.Signals], None] = lambda _: None
    told: Callable[[Callable[[signal.Signals], object]], None] | None = None


HEARD: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True, kw_only=True)
class FallbackServices:
    """What it takes to send to an endpoint that a run falls back to, like `Services`.

    `accepts` tells whether it would take such a request, as far as is known.
    """

    fallback: Fallback
    rater: Rater
    make_lane: Callable[[Callable[[], bool], AnswerRoom], Lane]
    accepts: Callable[[Request], bool] = lambda _: True
    pacer: Pacer | None = None
    fingerprint: Callable[[str], str] | None = None
    largest_output: LargestOutput | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Made in `wiring`, replaced piece by piece in tests.

    `make_lane` is called inside the event loop, with what is asked right before anything
    leaves: whether the run is ours for sure, and with the room that its answers take until they
    are recorded. `make_packing` makes the lane of a job that packs, with where creates of
    batches are written down, `make_batches` what a server is asked about them; `None`: it has
    none. `carries` tells what packs may carry: other rows are left. `look_pace` is how often,
    `spool` where results are kept meanwhile. `price_note` says
    in words whose prices count, `notes` what else is worth knowing before.
    `chosen` are the only rows to send, by the name of their source: a pilot; `None`: all.
    `largest_output` is that of `AnswerPolicy`.
    `pacer` is the one that the lane tells of headers; `None`: the engine makes its own.
    `fingerprint` names the address and the key whose quotas a run draws on, salted with its
    argument; `None`: its quotas are not shared with other runs of the database.
    `signals` is where they come from, and who is told of them. `fallbacks` go with the job's.
    """

    builder: RequestBuilder
    files: Sequence[SourceFile]
    rater: Rater
    make_lane: Callable[[Callable[[], bool], AnswerRoom], Lane]
    make_batches: Callable[[Callable[[], bool]], Batches] | None = None
    make_packing: Callable[[Callable[[], bool], Journal], Lane] | None = None
    carries: Callable[[Request], bool] | None = None
    clock: Clock
    observer: Observer
    price_note: str
    notes: Sequence[str] = ()
    chosen: Mapping[str, RowRanges] | None = None
    largest_output: LargestOutput | None = None
    pacer: Pacer | None = None
    fingerprint: Callable[[str], str] | None = None
    look_pace: LookPace = field(default_factory=LookPace)
    spool: Path = Path()
    signals: SignalWays = SignalWays()
    fallbacks: Sequence[FallbackServices] = ()

    @property
    def endpoints(self) -> tuple["Services | FallbackServices", ...]:
        """What sends: to the run's own endpoint, and to those that it falls back to."""
        return (self, *self.fallbacks)
