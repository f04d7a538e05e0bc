"""One request of a batch: checked when it is worked on, not when it is taken."""

from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

import msgspec

from batcher.simulator.answers.cache import PromptCache
from batcher.simulator.answers.message import message_object
from batcher.simulator.answers.plan import make_plan
from batcher.simulator.bill import BilledRequest, billed_fields
from batcher.simulator.wire.body import Body, read_body
from batcher.simulator.wire.dialects import DIALECTS
from batcher.simulator.wire.envelope import TYPE_OF_STATUS, RefusedRequest
from batcher.simulator.wire.faults import FAULTS, FaultPicker

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
