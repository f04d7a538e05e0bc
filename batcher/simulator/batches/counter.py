"""What a client of Message Batches asks for, and what it is told."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from batcher.simulator.batches.shelf import Batch, Item, Shelf
from batcher.simulator.desk import Desk, PlannedReply
from batcher.simulator.settings import BatchSettings
from batcher.simulator.wire.forms import RefusedRequest, html

PATH: Final = "/v1/messages/batches"
_CUSTOM_ID: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}", re.ASCII)
_JSONL: Final = "application/x-jsonl"
_BROKEN: Final = PlannedReply(status=200, payload=b"", manner="reset_before")


class _Wanted(msgspec.Struct):
    custom_id: str
    params: msgspec.Raw


class _Creation(msgspec.Struct):
    requests: list[_Wanted]


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchAsked:
    """One request; `rest` is the path below the list of batches, whose address is `url`."""

    method: str
    rest: str
    url: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    raw: bytes


class BatchCounter:
    """Answers everything below `/v1/messages/batches`."""

    def __init__(self, settings: BatchSettings, shelf: Shelf, desk: Desk) -> None:
        self._settings = settings
        self._shelf = shelf
        self._desk = desk
        self._creations = iter(settings.creations)

    def answer(self, asked: BatchAsked, request_id: str) -> PlannedReply:
        """The reply to one request."""
        reply = self._desk.check_access(asked.headers) or self._reply(asked)
        if isinstance(reply, PlannedReply):
            return reply
        return self._told(reply, request_id)

    def _reply(self, asked: BatchAsked) -> PlannedReply | dict[str, Any] | RefusedRequest:
        match asked.method, [part for part in asked.rest.split("/") if part]:
            case "POST", []:
                return self._create(asked)
            case "GET", []:
                return self._page(asked.query, asked.url)
            case _, [batch_id, *action]:
                batch = self._shelf.find(batch_id)
                if batch is None:
                    return _no_such(batch_id)
                return self._one(asked.method, batch, action, asked.url)
            case _:
                return RefusedRequest(405, f"{asked.method} is not allowed here")

    def _told(self, value: dict[str, Any] | RefusedRequest, request_id: str) -> PlannedReply:
        if isinstance(value, RefusedRequest):
            return self._desk.refuse(value, request_id)
        return PlannedReply(status=200, payload=msgspec.json.encode(value))

    # Making one

    def _create(self, asked: BatchAsked) -> PlannedReply | dict[str, Any] | RefusedRequest:
        manner = next(self._creations, "made")
        if manner == "refused":
            return RefusedRequest(529, "Overloaded")
        if manner == "vanished":  # the connection breaks before anything came of it
            return _BROKEN
        items = self._items(asked.raw)
        if isinstance(items, RefusedRequest):
            return items
        batch = self._shelf.add(items, asked.headers.get("anthropic-version"))
        if manner == "lost":
            return _BROKEN
        if manner == "lost_502":
            page = html("502 Bad Gateway")
            return PlannedReply(status=502, payload=page, content_type="text/html")
        return batch.shown(asked.url)

    def _items(self, raw: bytes) -> list[Item] | RefusedRequest:
        if len(raw) > self._settings.most_bytes:
            return RefusedRequest(413, "Request exceeds the maximum size")
        try:
            creation = msgspec.json.decode(raw, type=_Creation)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
            return RefusedRequest(400, f"requests: {exc}")
        for message in self._wrong(creation.requests):
            return RefusedRequest(400, message)
        waiting, most = self._shelf.waiting_requests, self._settings.most_waiting
        if most is not None and waiting + len(creation.requests) > most:
            text = "This request would exceed the number of batch requests in the queue."
            return RefusedRequest(429, text, headers={"retry-after": "1"})
        return [Item(custom_id=r.custom_id, params=bytes(r.params)) for r in creation.requests]

    def _wrong(self, wanted: list[_Wanted]) -> Iterator[str]:
        if not 1 <= len(wanted) <= self._settings.most_requests:
            yield f"requests: between 1 and {self._settings.most_requests} are allowed"
        for number, request in enumerate(wanted):
            if not _CUSTOM_ID.fullmatch(request.custom_id):
                yield f"requests.{number}.custom_id: does not match {_CUSTOM_ID.pattern}"
            if not bytes(request.params).lstrip().startswith(b"{"):
                yield f"requests.{number}.params: Input should be an object"
        if len({request.custom_id for request in wanted}) < len(wanted):
            yield "requests: custom_id is used twice"

    # Looking at them

    def _page(self, query: Mapping[str, str], url: str) -> dict[str, Any] | RefusedRequest:
        batches = self._shelf.all()[::-1]  # newest first
        limit = query.get("limit", "20")
        if not (limit.isascii() and limit.isdigit() and 1 <= int(limit) <= 1000):
            return RefusedRequest(400, "limit: range: 1..1000")
        ids = [batch.batch_id for batch in batches]
        for name in ("after_id", "before_id"):
            if name in query and query[name] not in ids:
                return RefusedRequest(400, f"{name}: {query[name]} is not a batch")
        if "before_id" in query:
            rest = batches[: ids.index(query["before_id"])]
            page, more = rest[-int(limit) :], len(rest) > int(limit)
        else:
            start = ids.index(query["after_id"]) + 1 if "after_id" in query else 0
            page, more = batches[start : start + int(limit)], len(ids) > start + int(limit)
        return {
            "data": [batch.shown(url) for batch in page],
            "has_more": more,
            "first_id": page[0].batch_id if page else None,
            "last_id": page[-1].batch_id if page else None,
        }

    def _one(
        self, method: str, batch: Batch, action: list[str], url: str
    ) -> PlannedReply | dict[str, Any] | RefusedRequest:
        match method, action:
            case "GET", []:
                return self._look(batch, url)
            case "GET", ["results"]:
                return self._results(batch)
            case "POST", ["cancel"]:
                self._shelf.cancel(batch)
                return batch.shown(url)
            case "DELETE", []:
                return self._delete(batch)
            case _:
                return RefusedRequest(404, f"{method} of {'/'.join(action)} does not exist")

    def _delete(self, batch: Batch) -> dict[str, Any] | RefusedRequest:
        if batch.ended_at is None:
            return RefusedRequest(400, f"{batch.batch_id} has not ended; cancel it first")
        self._shelf.delete(batch)
        return {"id": batch.batch_id, "type": "message_batch_deleted"}

    def _look(self, batch: Batch, url: str) -> dict[str, Any] | RefusedRequest:
        batch.looks += 1
        if batch.looks <= self._settings.looks_missed:
            return _no_such(batch.batch_id)
        return batch.shown(url)

    def _results(self, batch: Batch) -> PlannedReply | RefusedRequest:
        if batch.ended_at is None:
            return RefusedRequest(404, f"{batch.batch_id} has no results yet")
        batch.downloads += 1
        missed, cut = self._settings.results_missed, self._settings.results_cut
        if batch.downloads <= missed:
            return _no_such(batch.batch_id)
        payload = b"".join(batch.lines())
        is_cut = batch.downloads <= missed + cut
        return PlannedReply(
            status=200,
            payload=payload,
            content_type=_JSONL,
            manner="reset_after_headers" if is_cut else "answer",
        )


def _no_such(batch_id: str) -> RefusedRequest:
    return RefusedRequest(404, f"batch {batch_id} was not found")
