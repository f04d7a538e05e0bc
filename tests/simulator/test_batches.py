"""Message Batches of the simulator, judged by the official client."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anthropic
import pytest

from batcher.simulator.server import Simulator
from batcher.simulator.settings import BatchSettings, SimulatorSettings
from tests.bill import cost_pico_usd
from tests.simulator.asking import MODEL, asynchronous, body_of, get, session

SLOW = 3_600.0  # longer than any test


@asynccontextmanager
async def simulated(**batches: Any) -> AsyncIterator[tuple[Simulator, Any]]:
    """A simulator, and what the official client has for batches."""
    settings = SimulatorSettings(batches=BatchSettings(**batches))
    async with Simulator(settings) as simulator:
        client = anthropic.AsyncAnthropic(
            api_key="any", base_url=simulator.base_url, max_retries=0
        )
        async with client:
            yield simulator, client.messages.batches


def asked(*prompts: str, **fields: Any) -> list[dict[str, Any]]:
    return [
        {"custom_id": f"row-{number}", "params": body_of(prompt, **fields)}
        for number, prompt in enumerate(prompts)
    ]


async def results_of(batches: Any, batch_id: str) -> dict[str, Any]:
    return {line.custom_id: line.result async for line in await batches.results(batch_id)}


@asynchronous
async def test_the_official_client_makes_looks_and_reads():
    async with simulated() as (simulator, batches):
        made = await batches.create(requests=asked("one", "two", "three"))
        ended = await batches.retrieve(made.id)
        results = await results_of(batches, made.id)
        bill = simulator.bill
    assert (made.processing_status, made.results_url) == ("in_progress", None)
    assert (made.expires_at - made.created_at).total_seconds() == 86_400
    assert (ended.processing_status, ended.request_counts.succeeded) == ("ended", 3)
    assert sorted(results) == ["row-0", "row-1", "row-2"]
    assert all(r.message.usage.service_tier == "batch" for r in results.values())
    assert {line.attempt_uid: line.output_tokens for line in bill} == {
        name: r.message.usage.output_tokens for name, r in results.items()
    }


@asynchronous
async def test_its_own_bill_is_at_half_the_price():
    async with simulated() as (simulator, batches):
        await batches.create(requests=asked("[[input:1000]] [[output:100]] hi"))
        async with (
            session() as client,
            client.get(f"{simulator.base_url}/_simulator/bill") as r,
        ):
            await r.read()
        (line,) = simulator.bill
    assert line.model == MODEL
    shown = {name: getattr(line, name) for name in line.__struct_fields__}
    assert cost_pico_usd(shown) == (1000 * 3 + 100 * 15) * 10**6 // 2


@asynchronous
async def test_counts_stay_zero_until_the_whole_batch_has_ended():
    async with simulated(queue_seconds=(SLOW, SLOW)) as (simulator, batches):
        made = await batches.create(requests=asked("one", "two"))
        waiting = await batches.retrieve(made.id)
        with pytest.raises(anthropic.AnthropicError):
            await batches.results(made.id)
        simulator.end_batches()
        ended = await batches.retrieve(made.id)
    assert waiting.request_counts.processing == 2
    assert waiting.request_counts.succeeded == 0
    assert ended.request_counts.processing == 0
    assert ended.request_counts.succeeded == 2


@asynchronous
async def test_what_waits_can_be_ended_over_the_network():
    async with (
        simulated(queue_seconds=(SLOW, SLOW)) as (simulator, batches),
        session() as client,
    ):
        made = await batches.create(requests=asked("one"))
        assert await get(client, f"{simulator.base_url}/_simulator/end_batches") == (200, {})
        assert (await batches.retrieve(made.id)).processing_status == "ended"


@asynchronous
async def test_a_canceled_batch_bills_nothing_that_was_not_worked_on():
    async with simulated(queue_seconds=(SLOW, SLOW)) as (simulator, batches):
        made = await batches.create(requests=asked("one", "two"))
        canceling = await batches.cancel(made.id)
        ended = await batches.retrieve(made.id)
        results = await results_of(batches, made.id)
        assert not simulator.bill
    assert canceling.processing_status == "canceling"
    assert (ended.processing_status, ended.request_counts.canceled) == ("ended", 2)
    assert {r.type for r in results.values()} == {"canceled"}


@asynchronous
async def test_what_is_not_done_in_time_expires():
    async with simulated(queue_seconds=(SLOW, SLOW), expire_seconds=0) as (simulator, batches):
        made = await batches.create(requests=asked("one", "two"))
        ended = await batches.retrieve(made.id)
        results = await results_of(batches, made.id)
        assert not simulator.bill
    assert ended.request_counts.expired == 2
    assert {r.type for r in results.values()} == {"expired"}


@asynchronous
async def test_one_bad_request_is_one_errored_line():
    prompts = "fine", "[[fault:400]] bad", "[[batch:expired]] late", "[[fault:500*1]] once"
    async with simulated() as (simulator, batches):
        wanted = asked(*prompts)
        wanted.append({"custom_id": "streams", "params": body_of("x", stream=True)})
        wanted.append({"custom_id": "nothing", "params": {}})
        made = await batches.create(requests=wanted)
        results = await results_of(batches, made.id)
        again = await batches.create(requests=wanted[3:4])
        second = await results_of(batches, again.id)
        billed = {line.attempt_uid for line in simulator.bill}
    assert {name: r.type for name, r in results.items()} == {
        "row-0": "succeeded",
        "row-1": "errored",
        "row-2": "expired",
        "row-3": "errored",
        "streams": "errored",
        "nothing": "errored",
    }
    assert results["row-1"].error.error.type == "invalid_request_error"
    assert results["row-3"].error.error.type == "api_error"
    assert second["row-3"].type == "succeeded"
    assert billed == {"row-0", "row-3"}


@pytest.mark.parametrize(
    "requests",
    [
        [],
        [{"custom_id": "a b", "params": {}}],
        [{"custom_id": "a", "params": {}}, {"custom_id": "a", "params": {}}],
        [{"custom_id": "a", "params": []}],
        [{"custom_id": str(number), "params": {}} for number in range(4)],
    ],
)
@asynchronous
async def test_a_batch_that_is_none_is_refused(requests):
    async with simulated(most_requests=3) as (_, batches):
        with pytest.raises(anthropic.BadRequestError):
            await batches.create(requests=requests)
        assert not [each async for each in batches.list()]


@asynchronous
async def test_a_batch_that_is_too_large_and_one_too_many_in_the_queue_are_refused():
    async with simulated(most_bytes=50) as (_, batches):
        with pytest.raises(anthropic.RequestTooLargeError):
            await batches.create(requests=asked("one"))
    async with simulated(most_waiting=3, queue_seconds=(SLOW, SLOW)) as (_, batches):
        await batches.create(requests=asked("one", "two"))
        with pytest.raises(anthropic.RateLimitError):
            await batches.create(requests=asked("one", "two"))


@pytest.mark.parametrize("manner", ["lost", "lost_502"])
@asynchronous
async def test_a_create_whose_answer_is_lost_made_a_batch(manner):
    async with simulated(creations=(manner,)) as (simulator, batches):
        with pytest.raises(anthropic.APIError):
            await batches.create(requests=asked("one"))
        (found,) = [each async for each in batches.list()]
        assert len(simulator.bill) == 1
        assert found.request_counts.processing + found.request_counts.succeeded == 1


@pytest.mark.parametrize("manner", ["vanished", "refused"])
@asynchronous
async def test_a_create_that_came_to_nothing_made_none(manner):
    async with simulated(creations=(manner, "made")) as (simulator, batches):
        with pytest.raises(anthropic.APIError):
            await batches.create(requests=asked("one"))
        assert not [each async for each in batches.list()]
        await batches.create(requests=asked("one"))
        assert len(simulator.bill) == 1


@asynchronous
async def test_a_batch_may_be_hidden_for_a_while_and_its_results_too():
    async with simulated(looks_missed=2, results_missed=1) as (_, batches):
        made = await batches.create(requests=asked("one"))
        for _ in range(2):
            with pytest.raises(anthropic.NotFoundError):
                await batches.retrieve(made.id)
        assert (await batches.retrieve(made.id)).processing_status == "ended"
        async with session() as client:
            url = (await batches.retrieve(made.id)).results_url
            async with client.get(url) as response:
                assert response.status == 404
            async with client.get(url) as response:
                assert response.status == 200


@asynchronous
async def test_a_download_that_breaks_off_can_be_repeated():
    async with simulated(results_cut=1) as (_, batches):
        made = await batches.create(requests=asked(*"abcdefgh"))
        with pytest.raises((anthropic.APIError, Exception)):
            await results_of(batches, made.id)
        assert len(await results_of(batches, made.id)) == 8


@asynchronous
async def test_lines_can_be_missing_double_or_somebody_elses():
    prompts = "[[batch:missing]] a", "[[batch:twice]] b", "[[batch:foreign]] c", "d"
    async with simulated() as (simulator, batches):
        made = await batches.create(requests=asked(*prompts))
        names = [line.custom_id async for line in await batches.results(made.id)]
        assert len(simulator.bill) == 4
    assert sorted(names) == ["row-1", "row-1", "row-2", "row-3", "somebody-else"]


@asynchronous
async def test_the_list_is_in_pages_newest_first_and_ended_ones_can_be_deleted():
    async with simulated() as (_, batches):
        made = [(await batches.create(requests=asked("one"))).id for _ in range(5)]
        first = await batches.list(limit=2)
        assert [each.id for each in first.data] == made[:2:-1]
        assert first.has_more
        everything = [each.id async for each in batches.list(limit=2)]
        assert everything == made[::-1]
        deleted = await batches.delete(made[0])
        assert deleted.type == "message_batch_deleted"
        with pytest.raises(anthropic.NotFoundError):
            await batches.retrieve(made[0])


@asynchronous
async def test_a_batch_that_goes_on_is_not_deleted():
    async with simulated(queue_seconds=(SLOW, SLOW)) as (_, batches):
        made = await batches.create(requests=asked("one"))
        with pytest.raises(anthropic.BadRequestError):
            await batches.delete(made.id)


@asynchronous
async def test_servers_that_know_no_batches_say_so():
    async with Simulator(SimulatorSettings(dialect="crun")) as simulator, session() as client:
        url = f"{simulator.base_url}/api/v1/messages/batches"
        async with client.post(url, json={"requests": asked("one")}) as response:
            assert response.status == 404


@pytest.mark.parametrize("wrong", [{"queue_seconds": (2, 1)}, {"creations": ("eaten",)}])
def test_settings_that_mean_nothing_are_refused(wrong):
    with pytest.raises(ValueError, match=r"give MIN-MAX|unknown creation"):
        BatchSettings(**wrong)
