"""What lists of batches say, and what they leave open: one that is not seen is sent again."""

import json
import random
from typing import Any

import pytest
from anthropic.types.messages import MessageBatch

from batcher.clock import SystemClock
from batcher.messages.request import Attempt, Purpose, Request, SeenBatch
from batcher.transport.batch.message_batches import BatchResults, MessageBatches
from batcher.transport.endpoint import Endpoint, Secret
from batcher.transport.live.client import HttpClient
from batcher.transport.live.mask import Mask
from tests.simulator.asking import asynchronous
from tests.transport.servers import http, raw_server

COUNTS = {"processing": 3, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0}


def batch(number: int, **fields: Any) -> dict[str, Any]:
    return {
        "id": f"msgbatch_{number}",
        "type": "message_batch",
        "processing_status": "in_progress",
        "created_at": f"2026-11-30T01:02:{number:02d}.123456Z",
        "expires_at": f"2026-12-01T01:02:{number:02d}.123456Z",
        "ended_at": None,
        "archived_at": None,
        "cancel_initiated_at": None,
        "results_url": None,
        "request_counts": COUNTS,
    } | fields


def page(*batches: dict[str, Any], **fields: Any) -> dict[str, Any]:
    last = batches[-1]["id"] if batches else None
    return {"data": list(batches), "has_more": False, "last_id": last} | fields


async def made(*pages: Any, since_us: int = 0) -> list[SeenBatch] | None:
    answers = [http(200, json.dumps(each).encode()) for each in pages]
    async with raw_server(*answers) as server:
        endpoint = Endpoint(name="anthropic", base_url=server.url)
        client = HttpClient(endpoint, Secret("sk-test"), SystemClock())
        batches = MessageBatches(client, endpoint, SystemClock())
        try:
            return await batches.made_since(since_us)
        finally:
            await batches.close()


@asynchronous
async def test_all_pages_are_read():
    found = await made(page(batch(3), batch(2), has_more=True), page(batch(1)))
    assert [each.batch_id for each in found] == ["msgbatch_3", "msgbatch_2", "msgbatch_1"]
    assert await made(page()) == []


@pytest.mark.parametrize(
    "moment",
    [
        "2026-11-30T01:02:03Z",
        "2026-11-30T01:02:03.123456+00:00",
        "2026-11-30T01:02:03.1234567Z",
    ],
)
@asynchronous
async def test_a_batch_is_what_the_official_client_reads(moment):
    described = batch(1, created_at=moment)
    (ours,) = await made(page(described))
    theirs = MessageBatch.model_validate(described)
    assert ours.created_at == round(theirs.created_at.timestamp() * 10**6)
    assert ours.expires_at == round(theirs.expires_at.timestamp() * 10**6)
    assert (ours.state.value, ours.requests) == (theirs.processing_status, 3)


@pytest.mark.parametrize(
    "said",
    [
        page(batch(2), has_more=True, last_id=None),
        page(batch(2), batch(1, processing_status="validating")),
        page(batch(2), batch(1, created_at="yesterday")),
        page(batch(2), batch(1, request_counts=None)),
        {},
        {"data": None, "has_more": False},
    ],
)
@asynchronous
async def test_a_list_that_may_hold_another_one_says_nothing(said):
    """A create whose answer was lost would be called never made, and its rows paid twice."""
    assert await made(said) is None


def asked(uid: str) -> Attempt:
    request = Request(
        source_id=1,
        row_number=1,
        byte_offset=0,
        custom_id=None,
        params_hash=b"",
        model="claude-haiku-4-5",
        max_tokens=1,
        body=b"{}",
    )
    return Attempt(
        attempt_id=1,
        uid=uid,
        request_id=1,
        request=request,
        number=1,
        leg=1,
        purpose=Purpose.FIRST,
        body=b"{}",
        opened_at=0,
        cost_high=None,
    )


@pytest.mark.parametrize("order", ["as written", "backwards", "any"])
def test_results_are_found_in_any_order_whatever_their_length(order, tmp_path):
    words = {f"a{n}": f"{n} " + "x" * (70_000 if n % 7 == 3 else n * 40) for n in range(100)}
    results = BatchResults(tmp_path, Mask())
    for uid, text in words.items():
        error = {"type": "error", "error": {"type": "invalid_request_error", "message": text}}
        line = {"custom_id": uid, "result": {"type": "errored", "error": error}}
        results.take(json.dumps(line).encode() + b"\n")
    results.index()
    uids = list(words) if order == "as written" else list(reversed(words))
    if order == "any":
        random.Random(4).shuffle(uids)
    for uid in uids:
        said = results.outcome(asked(uid), 0, 0).failure.message
        assert words[uid].startswith(said[:200] or "-")
    assert results.left == 0
    results.close()
