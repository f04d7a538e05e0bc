"""All batches of one simulator, their requests, and what time does to them; knows no network.

A request is checked when it is worked on, not when its batch is taken.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import blake2b, sha256
from typing import Any, Final

import msgspec

from batcher.simulator.answers.plan import make_plan, message_object
from batcher.simulator.answers.usage import PromptCache
from batcher.simulator.bill import Bill, BilledRequest, billed_fields
from batcher.simulator.settings import SimulatorSettings
from batcher.simulator.wire.faults import FAULTS, FaultPicker
from batcher.simulator.wire.forms import TYPE_OF_STATUS, RefusedRequest
from batcher.simulator.wire.requests import DIALECTS, Body, read_body

TIER: Final = "batch"
_NOT_IN_BATCHES: Final = ("speed", "fallbacks", "thread")
_DIALECT: Final = DIALECTS["anthropic"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A request as it was taken; `params` is JSON."""

    custom_id: str
    params: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemResult:
    """How one ended: `kind` is succeeded, errored, canceled or expired; `line` is its result.

    `line` is empty for one that an order in the prompt keeps out of the results. `billed` is
    its line on the bill, `None`: it costs nothing.
    """

    kind: str
    line: bytes
    billed: BilledRequest | None = None


@dataclass(frozen=True, slots=True)
class Begun:
    """When the work on a request began, and when that was seen; microseconds UTC."""

    started_us: int
    now_us: int


class Workshop:
    """Works on the requests of all batches of one simulator."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._picker = FaultPicker(seed, {})  # only what a prompt orders
        self._cache = PromptCache()  # not that of live requests

    def work_on(
        self, item: Item, version: str | None, item_id: str, begun: Begun
    ) -> ItemResult:
        """The result of one request; `item_id` is what its ids are made of."""
        body = read_body(item.params, self._seed, version, _DIALECT, for_count=False)
        problem = body if isinstance(body, RefusedRequest) else _not_in_a_batch(body.fields)
        if problem is not None or isinstance(body, RefusedRequest):
            return _errored(item, problem or RefusedRequest(400, "unreadable"), item_id)
        if body.markers.batch in ("expired", "canceled"):
            return unworked(item, body.markers.batch)
        refused = self._ordered_fault(body)
        if refused is not None:
            return _errored(item, refused, item_id)
        return self._succeeded(item, body, item_id, begun)

    def _succeeded(self, item: Item, body: Body, item_id: str, begun: Begun) -> ItemResult:
        use = self._cache.look(body, begun.started_us)
        self._cache.keep(use, begun.started_us, begun.started_us + 1)
        plan = make_plan(body, use)
        message = message_object(plan, f"msg_{item_id}", body.markers.usage, tier=TIER)
        billed = BilledRequest(
            attempt_uid=item.custom_id,
            body_sha256=sha256(item.params).hexdigest(),
            received_at_us=begun.now_us,
            service_tier=TIER,
            **billed_fields(body, plan, f"req_{item_id}", None),
        )
        line = _line(item.custom_id, {"type": "succeeded", "message": message})
        return ItemResult(kind="succeeded", line=_as_ordered(line, body), billed=billed)

    def _ordered_fault(self, body: Body) -> RefusedRequest | None:
        """A fault counts here where it is a refusal; what breaks connections breaks nothing."""
        name = self._picker.pick(body.digest, body.markers.faults)
        fault = None if name is None else FAULTS[name]
        if fault is None or fault.status < 400 or fault.billed:
            return None
        return RefusedRequest(fault.status, f"refused on purpose: {name}")


def unworked(item: Item, kind: str) -> ItemResult:
    """The result of a request that nobody worked on: canceled or expired."""
    return ItemResult(kind=kind, line=_line(item.custom_id, {"type": kind}))


def _as_ordered(line: bytes, body: Body) -> bytes:
    match body.markers.batch:
        case "missing":
            return b""
        case "twice":
            return line + line
        case "foreign":
            return line + _line("somebody-else", {"type": "canceled"})
        case _:
            return line


def _errored(item: Item, problem: RefusedRequest, item_id: str) -> ItemResult:
    kind = TYPE_OF_STATUS.get(problem.status, "api_error")
    error = {"type": kind, "message": problem.message}
    envelope = {"type": "error", "error": error, "request_id": f"req_{item_id}"}
    line = _line(item.custom_id, {"type": "errored", "error": envelope})
    return ItemResult(kind="errored", line=line)


def _line(custom_id: str, result: dict[str, Any]) -> bytes:
    return msgspec.json.encode({"custom_id": custom_id, "result": result}) + b"\n"


def _not_in_a_batch(fields: dict[str, Any]) -> RefusedRequest | None:
    if fields.get("stream"):
        return RefusedRequest(400, "stream: not supported in a batch")
    if fields["max_tokens"] == 0:
        return RefusedRequest(400, "max_tokens: 0 is not supported in a batch")
    for name in _NOT_IN_BATCHES:
        if fields.get(name) is not None:
            return RefusedRequest(400, f"{name}: not supported in a batch")
    return None


_KINDS: Final = ("succeeded", "errored", "canceled", "expired")


@dataclass(slots=True)
class Batch:
    """One batch; moments are microseconds UTC. `results` grow while it is worked on."""

    batch_id: str
    number: int
    items: Sequence[Item]
    version: str | None
    created_at: int
    work_us: int  # how long it takes from the first request to the last
    expires_at: int
    results: list[ItemResult] = field(default_factory=list)
    canceled_at: int | None = None
    ended_at: int | None = None
    looks: int = 0
    downloads: int = 0

    @property
    def status(self) -> str:
        """As the API names it."""
        if self.ended_at is not None:
            return "ended"
        return "in_progress" if self.canceled_at is None else "canceling"

    def due(self, now_us: int) -> int:
        """How many of its requests are worked on by then."""
        until = min(now_us, self.expires_at, self.canceled_at or now_us)
        if self.work_us == 0:
            return len(self.items)
        return min(len(self.items) * (until - self.created_at) // self.work_us, len(self.items))

    def starts(self, number: int) -> int:
        """When the request of that number is worked on; without a duration all at once."""
        return self.created_at + self.work_us * (number + 1) // len(self.items)

    def shown(self, url: str) -> dict[str, Any]:
        """The batch as the API shows it; `url` is the address of this list."""
        ended = self.ended_at is not None
        kinds = Counter(result.kind for result in self.results) if ended else Counter[str]()
        counts = {kind: kinds[kind] for kind in _KINDS}
        return {
            "id": self.batch_id,
            "type": "message_batch",
            "processing_status": self.status,
            "request_counts": {"processing": 0 if ended else len(self.items), **counts},
            "created_at": _text(self.created_at),
            "expires_at": _text(self.expires_at),
            "ended_at": _text(self.ended_at),
            "cancel_initiated_at": _text(self.canceled_at),
            "archived_at": None,
            "results_url": f"{url}/{self.batch_id}/results" if ended else None,
        }

    def lines(self) -> list[bytes]:
        """The result lines, in an order that is not that of the requests."""
        lines = [result.line for result in self.results if result.line]
        return lines[1::2] + lines[::2]


class Shelf:
    """Batches by id, oldest first; `prefix` makes the ids of a process its own."""

    def __init__(
        self, settings: SimulatorSettings, bill: Bill, prefix: str, now_us: Callable[[], int]
    ) -> None:
        self._settings = settings.batches
        self._bill = bill
        self._seed = settings.seed
        self._prefix = prefix
        self._now_us = now_us
        self._workshop = Workshop(settings.seed)
        self._batches: dict[str, Batch] = {}
        self._serial = 0

    @property
    def waiting_requests(self) -> int:
        """How many requests are not worked on yet."""
        return sum(len(batch.items) - len(batch.results) for batch in self.all())

    def all(self) -> list[Batch]:
        """Every batch, oldest first."""
        self.pass_time()
        return list(self._batches.values())

    def find(self, batch_id: str) -> Batch | None:
        """The batch of that id, if it is there."""
        self.pass_time()
        return self._batches.get(batch_id)

    def add(self, items: Sequence[Item], version: str | None) -> Batch:
        """Take a new batch."""
        self._serial += 1
        now = self._now_us()
        batch = Batch(
            batch_id=f"msgbatch_{self._prefix}{self._serial:06x}",
            number=self._serial,
            items=items,
            version=version,
            created_at=now,
            work_us=self._work_us(self._serial),
            expires_at=now + int(self._settings.expire_seconds * 1e6),
        )
        self._batches[batch.batch_id] = batch
        return batch

    def cancel(self, batch: Batch) -> None:
        """Work on nothing more of it; it ends at the next look."""
        if batch.ended_at is None and batch.canceled_at is None:
            batch.canceled_at = self._now_us()

    def delete(self, batch: Batch) -> None:
        """Forget it."""
        del self._batches[batch.batch_id]

    def end_all(self) -> None:
        """Work on everything that waits, at once."""
        for batch in list(self._batches.values()):
            if batch.ended_at is None and batch.canceled_at is None:
                batch.work_us = 0
        self.pass_time()

    def pass_time(self) -> None:
        """Do what has come due: the bill has it whether or not anybody asks for results."""
        now = self._now_us()
        for batch in self._batches.values():
            if batch.ended_at is None:
                self._work(batch, now)

    def _work(self, batch: Batch, now: int) -> None:
        for number in range(len(batch.results), batch.due(now)):
            item_id = f"{batch.batch_id.removeprefix('msgbatch_')}_{number:06x}"
            begun = Begun(batch.starts(number), now)
            result = self._workshop.work_on(batch.items[number], batch.version, item_id, begun)
            if result.billed is not None:
                self._bill.add(result.billed)
            batch.results.append(result)
        left = batch.items[len(batch.results) :]
        canceled = batch.canceled_at is not None and batch.canceled_at < now
        if left and not canceled and now < batch.expires_at:
            return
        batch.results += [
            unworked(item, "canceled" if canceled else "expired") for item in left
        ]
        batch.ended_at = min(now, batch.expires_at)

    def _work_us(self, number: int) -> int:
        shortest, longest = self._settings.queue_seconds
        key = self._seed.to_bytes(16, "little", signed=True)
        drawn = int.from_bytes(blake2b(b"%d" % number, key=key, digest_size=4).digest(), "big")
        return int((shortest + (longest - shortest) * drawn / 2**32) * 1e6)


def _text(moment: int | None) -> str | None:
    if moment is None:
        return None
    shown = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=moment)
    return shown.isoformat(timespec="microseconds").replace("+00:00", "Z")
