"""One reading of all inputs: what is still to do, at most for how much, and whom to sample.

A sample becomes a pilot: a few real rows of every length that are sent before all the others.
They go through the ordinary engine under the run's own key, so their answers are kept and the
run that follows does not send them again.
"""

import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

from batcher.estimate.preflight_sample import Sample
from batcher.ledger import resume, runs
from batcher.ledger.connect import Connection, Engine, reading
from batcher.ledger.write.records import AnswerKeys, Claimable, SharePolicy
from batcher.messages.request import Request
from batcher.pipeline.choices import LaneChoice
from batcher.pipeline.engine.rater import Rater
from batcher.pipeline.job import Job, Services
from batcher.pipeline.progress import Ended
from batcher.pipeline.run.row_checks import may_take_legs
from batcher.pipeline.run.run import LoopFactory, run_job
from batcher.rows.build.requests import RequestBuilder
from batcher.rows.ranges import AllBut, RowRanges
from batcher.rows.read.reader import read_rows
from batcher.rows.read.source import SourceFile

TICKETS: Final = 50  # rows that may be drawn from one cell, unless a larger pilot is asked for

Place = tuple[str, int]  # (name of the source, row number)
CellKey = tuple[str, int]  # (model, size class of the body)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """The rows of a job and what they may cost, at one moment (microseconds UTC)."""

    files: Sequence[SourceFile]
    builder: RequestBuilder
    rater: Rater
    now_us: int

    def bound(self, request: Request) -> int | None:
        """See `Rater.ceiling`."""
        return self.rater.ceiling(request, self.now_us)


@dataclass(frozen=True, slots=True, order=True)
class Ticket:
    """A row that may be drawn; those with the smallest `chance` are a random sample."""

    chance: float
    source: str
    row_number: int


@dataclass(slots=True)
class Cell:
    """Rows of one model with bodies of about one length, all of them still to do."""

    rows: int = 0
    body_bytes: int = 0
    tickets: list[tuple[float, Ticket]] = field(default_factory=list)  # a heap, worst first

    def drawn(self) -> list[Ticket]:
        """The cell's tickets, the ones to take first in front."""
        return sorted(ticket for _, ticket in self.tickets)


@dataclass(slots=True)
class Census:
    """What the inputs hold.

    `ceiling` is pico-USD of one attempt of each request with a bound, `in_legs` the
    part of it for requests with tools, which may go on in further legs.

    `finished` rows need nothing more. `lengths` are the bodies of finished rows that were
    asked for, in bytes. `sample` is every row that was read.
    """

    requests: int = 0
    finished: int = 0
    bad_rows: int = 0
    ceiling: int = 0
    in_legs: int = 0
    unbounded: int = 0
    models: dict[str, int] = field(default_factory=dict)
    cells: dict[CellKey, Cell] = field(default_factory=dict)
    lengths: dict[Place, int] = field(default_factory=dict)
    sample: Sample = field(default_factory=Sample)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """What an earlier invocation left of one input; `matching`: rows are found by identity."""

    done: RowRanges
    matching: bool


class Standing:
    """Which rows of a run need nothing more, without changing anything.

    As in `plan_sources`: an unchanged input by its done ranges, a changed one by identity. No
    `database`, or no `run_id`: nothing was ever sent.
    """

    def __init__(
        self,
        database: Engine | None,
        run_id: int | None,
        files: Sequence[SourceFile],
        settings_digest: str,
        job: Job | None = None,
    ) -> None:
        self._database = database
        self._run_id = run_id
        self._live: list[int] = []
        self._used: set[tuple[str, int]] = set()
        self._shared: set[int] = set()
        self._keys: AnswerKeys | None = None
        self._since = 0
        self._finished: dict[str, Finished] = {}
        self._sharing: SharePolicy | None = None
        if database is not None:
            with reading(database) as connection:
                self._look(connection, run_id, files, settings_digest, job)

    def of(self, name: str) -> Finished:
        """What is known of the input of that name."""
        found = self._finished.get(name) or Finished(done=RowRanges(), matching=False)
        return replace(found, matching=found.matching or self._sharing is not None)

    def claimable(self, requests: Sequence[Request]) -> set[int]:
        """Row numbers of those whose answer is there under another place, or of another run."""
        if self._database is None or not requests:
            return set()
        found = set[int]()
        with reading(self._database) as connection:
            self._keys = self._keys or resume.read_answer_keys(connection)
            if self._run_id is not None:
                among = Claimable(
                    run_id=self._run_id, live_sources=self._live, since=self._since
                )
                found = resume.claimable(connection, among, requests, self._used, self._keys)
            left = [request for request in requests if request.row_number not in found]
            if self._sharing is not None:
                found |= resume.rows_to_share(
                    connection, self._sharing, left, self._shared, self._keys
                )
        return found

    def _look(
        self,
        connection: Connection,
        run_id: int | None,
        files: Sequence[SourceFile],
        settings_digest: str,
        job: Job | None,
    ) -> None:
        under_way = run_id is not None and runs.round_is_under_way(connection, run_id)
        if job is not None and job.again and not under_way:
            self._database = None  # all is to be sent anew
            return
        self._since = runs.current_round(connection, run_id) if run_id is not None else 0
        sharing = job.sharing(run_id or 0, 0, self._since) if job else None
        if sharing is not None and resume.others_answered(connection, sharing):
            self._sharing = replace(sharing, own=run_id is not None)
        if run_id is not None:
            self._read(connection, run_id, files, settings_digest)

    def _read(
        self,
        connection: Connection,
        run_id: int,
        files: Sequence[SourceFile],
        settings_digest: str,
    ) -> None:
        known = runs.latest_sources(connection, run_id)
        late: dict[int, RowRanges] = {}
        for file in files:
            stored = known.get(runs.name_of(known, file.name, file.location))
            same = stored is not None and (
                (stored.fingerprint, stored.settings_digest)
                == (file.fingerprint(), settings_digest)
            )
            if stored is None or not same:
                self._finished[file.name] = Finished(done=RowRanges(), matching=bool(known))
                continue
            done = RowRanges.from_json(stored.done_ranges)
            if not stored.matched:
                for row_number in resume.finished_rows_of(connection, stored.source_id):
                    done.add(row_number)
            late[stored.source_id] = done
            self._finished[file.name] = Finished(done=done, matching=not stored.matched)
        self._live = list(late)
        for source_id, row_number in resume.settled_since_checkpoint(connection, run_id):
            if source_id in late:
                late[source_id].add(row_number)


def take_census(
    inputs: Inputs,
    standing: Standing,
    chance: Callable[[], float],
    *,
    wanted: frozenset[Place] = frozenset(),
    tickets: int = TICKETS,
    told: Callable[[Request], None] = lambda _: None,
) -> Census:
    """Read every row that is still to do, and the `wanted` ones of the others for their length.

    `told` hears of each that is to do. Bounded in memory: counts, and up to `tickets` rows of
    each model and size.
    """
    census = Census()
    for file in inputs.files:
        finished = standing.of(file.name)
        census.finished += len(finished.done)
        skip = finished.done.copy()
        for source, row_number in wanted:
            if source == file.name:
                skip.discard(row_number)
        at_once = resume.MATCH_ROWS if finished.matching else 1
        for requests in _chunks(census, file, inputs.builder, skip, at_once):
            claimed = standing.claimable(requests) if finished.matching else set()
            census.finished += len(claimed)
            for request in requests:
                place = (file.name, request.row_number)
                if request.row_number in finished.done:
                    census.lengths[place] = len(request.body)
                elif request.row_number not in claimed:
                    _count(census, place, request, inputs.bound(request), chance(), tickets)
                    told(request)
    return census


def size_class(body_bytes: int) -> int:
    """Four classes to each doubling of the length; ascending with it."""
    bits = body_bytes.bit_length()
    return bits << 2 | (body_bytes >> max(bits - 3, 0)) & 3


def read_chosen(inputs: Inputs, chosen: Mapping[str, RowRanges]) -> Iterator[Request]:
    """The requests of `chosen` rows, in the order of the inputs."""
    for file in inputs.files:
        if file.name in chosen:
            skip = chosen[file.name].complement()
            for batch in read_rows(
                file, source_id=0, builder=inputs.builder, rows=AllBut(skip)
            ):
                yield from (item for item in batch.items if isinstance(item, Request))


def _chunks(
    census: Census, file: SourceFile, builder: RequestBuilder, skip: RowRanges, at_once: int
) -> Iterator[list[Request]]:
    """All requests of a file, in chunks of at least `at_once`; bad rows are counted."""
    chunk: list[Request] = []
    for batch in read_rows(file, source_id=0, builder=builder, rows=AllBut(skip)):
        requests = [item for item in batch.items if isinstance(item, Request)]
        census.sample.add(file.name, batch)
        census.bad_rows += len(batch.items) - len(requests)
        chunk += requests
        if len(chunk) >= at_once:
            yield chunk
            chunk = []
    yield chunk


def _count(
    census: Census,
    place: Place,
    request: Request,
    bound: int | None,
    chance: float,
    tickets: int,
) -> None:
    size = len(request.body)
    census.requests += 1
    census.ceiling += bound or 0
    census.in_legs += (bound or 0) if may_take_legs(request.body) else 0
    census.unbounded += bound is None
    census.models[request.model] = census.models.get(request.model, 0) + 1
    key = (request.model, size_class(size))
    cell = census.cells.get(key)
    if cell is None:
        cell = census.cells[key] = Cell()
    cell.rows += 1
    cell.body_bytes += size
    if len(cell.tickets) < tickets:
        heapq.heappush(cell.tickets, (-chance, Ticket(chance, *place)))
    elif chance < -cell.tickets[0][0]:
        heapq.heapreplace(cell.tickets, (-chance, Ticket(chance, *place)))


FEWEST_IN_STRATUM: Final = 12  # answers: with less, the scatter of a stratum is not known
_FEWEST_DRAWN: Final = 6  # rows from one group of lengths

T = TypeVar("T")


def grouped(weights: Sequence[tuple[T, int]], at_least: int) -> list[list[T]]:
    """Neighbours joined, in order, until each group weighs `at_least`; nothing is left out.

    What is too light at the end goes to the last group. Together lighter: one group.
    """
    groups: list[list[T]] = []
    current: list[T] = []
    weight = 0
    for item, heavy in weights:
        current.append(item)
        weight += heavy
        if weight >= at_least:
            groups.append(current)
            current, weight = [], 0
    if current and groups:
        groups[-1] += current
    elif current:
        groups.append(current)
    return groups


def allotted(sizes: Sequence[int], rows: int) -> list[int]:
    """`rows` shared out by `sizes`, the largest remainders first, never more than there are."""
    total = sum(sizes)
    rows = min(rows, total)
    if not rows:
        return [0] * len(sizes)
    shares = [size * rows // total for size in sizes]
    order = sorted(range(len(sizes)), key=lambda n: (-(sizes[n] * rows % total), n))
    for n in order[: rows - sum(shares)]:
        shares[n] += 1
    return shares


def draw(cells: Mapping[CellKey, Cell], rows: int) -> dict[str, RowRanges]:
    """So many rows at random, from each model and length in proportion; by source.

    Models are in the order of their names, lengths ascend. Within a stratum every set of rows
    is equally likely: the smallest chances of several cells are those of their union.
    """
    ordered = sorted(cells.items())
    total = sum(cell.rows for _, cell in ordered)
    at_least = -(-total * _FEWEST_DRAWN // max(rows, 1))
    groups = grouped([(cell, cell.rows) for _, cell in ordered], at_least)
    shares = allotted([sum(cell.rows for cell in group) for group in groups], rows)
    chosen: dict[str, RowRanges] = {}
    for group, share in zip(groups, shares, strict=True):
        for ticket in _drawn(group, share):
            chosen.setdefault(ticket.source, RowRanges()).add(ticket.row_number)
    return chosen


def send_pilot(
    job: Job,
    services: Services,
    chosen: Mapping[str, RowRanges],
    loop_factory: LoopFactory | None = None,
) -> Ended:
    """Send the `chosen` rows, by the name of their source, and nothing else.

    Raises `ChangedSettings` as every invocation of a run does.
    """
    limits = replace(job.limits, row_limit=None)
    lane = LaneChoice.BATCH if job.lane.packs else LaneChoice.LIVE
    pilot = replace(job, limits=limits, lane=lane)
    return run_job(pilot, replace(services, chosen=chosen), loop_factory)


def _drawn(group: Sequence[Cell], share: int) -> list[Ticket]:
    return sorted(ticket for cell in group for ticket in cell.drawn())[:share]
