"""The simulator's prompt cache, judged by the official client."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anthropic
import pytest

from batcher.simulator.answers.usage import LOOK_BACK, minimum_tokens
from batcher.simulator.server import Simulator
from batcher.simulator.settings import SimulatorSettings
from tests.simulator.asking import TOOL, asynchronous, body_of

HAIKU = "claude-haiku-4-5"
LONG = "word " * 4_000  # 5,000 tokens
SHORT = "word " * 400


class Clock:
    """The simulator's time, moved by hand."""

    def __init__(self) -> None:
        self.seconds = 1_800_000_000.0

    def __call__(self) -> int:
        return int(self.seconds * 1e9)


@asynccontextmanager
async def asking(**settings: Any) -> AsyncIterator[tuple[Any, Simulator, Clock]]:
    """What asks and gives the usage, the simulator, and its clock."""
    clock = Clock()
    async with Simulator(SimulatorSettings(**settings), clock) as simulator:
        client = anthropic.AsyncAnthropic(
            api_key="any", base_url=simulator.base_url, max_retries=0
        )

        async def usage_of(prompt: str = "hi", **fields: Any) -> tuple[int, int, int]:
            body = body_of(prompt, **({"model": HAIKU} | fields))
            usage = (await client.messages.create(**body)).usage
            split = usage.cache_creation
            assert usage.cache_creation_input_tokens == sum(split.model_dump().values())
            return (
                split.ephemeral_5m_input_tokens,
                split.ephemeral_1h_input_tokens,
                usage.cache_read_input_tokens,
            )

        async with client:
            yield usage_of, simulator, clock


def text(words: str, ttl: str | None = "5m") -> dict[str, Any]:
    """A text block, with a breakpoint of that lifetime."""
    block: dict[str, Any] = {"type": "text", "text": words}
    return block if ttl is None else block | {"cache_control": control(ttl)}


def control(ttl: str) -> dict[str, str]:
    return {"type": "ephemeral"} | ({} if ttl == "5m" else {"ttl": ttl})


@asynchronous
async def test_one_write_then_reads_and_the_bill_says_so():
    async with asking() as (usage_of, simulator, _):
        first = await usage_of("one", system=[text(LONG)])
        second = await usage_of("two", system=[text(LONG)])
        other = await usage_of("two", system=[text(LONG + "!")])
        bill = simulator.bill
    written = first[0]
    assert written > 4_096
    assert (first, second) == ((written, 0, 0), (0, 0, written))
    assert other[0] > 0 == other[2]
    billed = [
        (line.cache_creation_5m, line.cache_creation_1h, line.cache_read) for line in bill
    ]
    assert billed == [first, second, other]


@asynchronous
async def test_a_breakpoint_changes_how_the_prompt_counts_and_not_how_much():
    async with asking() as (usage_of, simulator, _):
        await usage_of("one", system=[text(LONG)])
        await usage_of("one", system=LONG)
        cached, plain = simulator.bill
    assert cached.input_tokens + cached.cache_creation_5m == plain.input_tokens
    assert plain.cache_creation_5m == plain.cache_read == 0


@pytest.mark.parametrize(("ttl", "seconds"), [("5m", 300), ("1h", 3_600)])
@asynchronous
async def test_an_entry_lives_from_the_start_of_the_last_request_that_read_it(ttl, seconds):
    async with asking() as (usage_of, _, clock):
        write = await usage_of("1", system=[text(LONG, ttl)])
        clock.seconds += seconds - 1
        read = await usage_of("2", system=[text(LONG, ttl)])
        clock.seconds += seconds - 1
        again = await usage_of("3", system=[text(LONG, ttl)])
        clock.seconds += seconds
        late = await usage_of("4", system=[text(LONG, ttl)])
    written = sum(write)
    assert read == again == (0, 0, written)
    assert write == late == ((0, written, 0) if ttl == "1h" else (written, 0, 0))


@asynchronous
async def test_nothing_is_read_before_the_first_answer_began():
    async with asking(latency_ms=(200, 200)) as (usage_of, *_):
        both = await asyncio.gather(*(usage_of(n, system=[text(LONG)]) for n in "ab"))
        after = await usage_of("c", system=[text(LONG)])
    assert all(write > 0 == read for write, _, read in both)
    assert after[2] == both[0][0]


@asynchronous
async def test_an_answer_that_never_came_leaves_no_entry():
    async with asking() as (usage_of, *_):
        with pytest.raises(anthropic.APIConnectionError):
            await usage_of("[[fault:reset_before]]", system=[text(LONG)])
        assert (await usage_of("b", system=[text(LONG)]))[2] == 0


@pytest.mark.parametrize(
    ("model", "tokens"),
    [
        ("claude-opus-5-5", 512), ("claude-opus-5", 512), ("claude-sonnet-5-5", 512),
        ("claude-haiku-5-5", 512), ("claude-fable-5-1", 512), ("claude-opus-4-8", 1_024),
        ("claude-sonnet-5", 1_024), ("claude-sonnet-4-6", 1_024), ("claude-sonnet-4-5", 1_024),
        ("claude-opus-4-1", 1_024), ("claude-opus-4-7", 2_048), ("claude-3-5-haiku", 2_048),
        ("claude-opus-4-6", 4_096), ("claude-opus-4-5", 4_096), (HAIKU, 4_096),
        ("claude-of-tomorrow", 4_096),
    ],
)  # fmt: skip
def test_each_model_has_its_minimum(model, tokens):
    assert minimum_tokens(model) == tokens


@asynchronous
async def test_a_short_prefix_is_not_cached_and_nobody_says_so():
    async with asking() as (usage_of, *_):
        assert await usage_of("1", system=[text(SHORT)]) == (0, 0, 0)
        assert (await usage_of("1", system=[text(SHORT)], model="claude-opus-5-5"))[0] > 512


@asynchronous
async def test_a_breakpoint_looks_back_twenty_positions_and_no_further():
    async with asking() as (usage_of, *_):
        blocks = [text(LONG, None), *(text(f"{n}", None) for n in range(LOOK_BACK))]
        messages = [{"role": "user", "content": [text(LONG)]}]
        written = (await usage_of(messages=messages))[0]
        read = []
        for behind in (LOOK_BACK - 1, LOOK_BACK):
            content = [*blocks[:behind], text("the end")]
            messages = [{"role": "user", "content": content}]
            read.append((await usage_of(messages=messages))[2])
    assert read == [written, 0]


@asynchronous
async def test_a_part_is_read_and_the_rest_is_written_each_with_its_lifetime():
    async with asking() as (usage_of, *_):
        first = await usage_of(system=[text(LONG, "1h")])
        parts = [text(LONG, "1h"), text(LONG + "b", "1h"), text(LONG + "c")]
        second = await usage_of(system=parts)
        third = await usage_of(system=parts)
    assert second[2] == first[1]
    assert second[1] > 4_096 < second[0]
    assert third == (0, 0, sum(second))


@asynchronous
async def test_tools_come_first_and_what_differs_before_a_breakpoint_is_another_prefix():
    async with asking() as (usage_of, *_):
        tool = TOOL | {"description": LONG, "cache_control": control("5m")}
        written = (await usage_of(tools=[tool], tool_choice={"type": "none"}))[0]
        same = await usage_of(tools=[tool], system=SHORT, tool_choice={"type": "none"})
        other = await usage_of(tools=[TOOL, tool], tool_choice={"type": "none"})
        model = await usage_of(
            tools=[tool], tool_choice={"type": "none"}, model="claude-opus-5"
        )
    assert same == (0, 0, written)
    assert other[0] > written
    assert model[2] == 0 < model[0]


@asynchronous
async def test_the_choice_of_a_tool_is_part_of_what_messages_are_cached_with():
    async with asking() as (usage_of, *_):
        turns = [{"role": "user", "content": [text(LONG), text("hi", None)]}]
        asked = {"tools": [TOOL], "messages": turns}
        await usage_of(**asked, tool_choice={"type": "none"})
        assert (await usage_of(**asked, tool_choice={"type": "auto"}))[2] == 0
        assert (await usage_of(**asked, tool_choice={"type": "none"}))[2] > 0


@asynchronous
async def test_the_automatic_breakpoint_is_behind_the_last_block():
    async with asking() as (usage_of, *_):
        first = await usage_of(LONG, cache_control=control("1h"))
        assert first[1] > 4_096
        assert await usage_of(LONG, cache_control=control("1h")) == (0, 0, first[1])


@pytest.mark.parametrize(
    "fields",
    [
        {"system": [text("a") for _ in range(5)]},
        {"system": [text("a") for _ in range(4)], "cache_control": control("5m")},
        {"system": [text("a"), text("b", "1h")]},
        {"system": [{"type": "text", "text": "a", "cache_control": control("2h")}]},
    ],
)
@asynchronous
async def test_breakpoints_that_the_provider_refuses(fields):
    async with asking() as (usage_of, *_):
        with pytest.raises(anthropic.BadRequestError, match="cache_control"):
            await usage_of(**fields)


@asynchronous
async def test_batches_have_a_cache_of_their_own_and_all_of_one_begins_at_once():
    async with asking() as (usage_of, simulator, clock):
        live = await usage_of("live", system=[text(LONG, "1h")])
        await _batched(simulator, "first")
        clock.seconds += 3_000
        await _batched(simulator, "a", "b")
        clock.seconds += 3_000
        await _batched(simulator, "c")
        clock.seconds += 3_600
        await _batched(simulator, "d", "e")
        again = await usage_of("live", system=[text(LONG, "1h")])
        lines = {line.attempt_uid: line for line in simulator.bill if line.attempt_uid}
    written = live[1]
    assert again[1] == written
    assert {name: line.cache_read for name, line in lines.items()} == {
        "first": 0, "a": written, "b": written, "c": written, "d": 0, "e": 0,
    }  # fmt: skip
    assert lines["d"].cache_creation_1h == lines["e"].cache_creation_1h == written


async def _batched(simulator: Simulator, *names: str) -> None:
    """A batch of requests with the same prefix, worked on at once."""
    client = anthropic.AsyncAnthropic(api_key="any", base_url=simulator.base_url)
    asked = [
        {"custom_id": name, "params": body_of(name, model=HAIKU, system=[text(LONG, "1h")])}
        for name in names
    ]
    async with client:
        made = await client.messages.batches.create(requests=asked)
        ended = await client.messages.batches.retrieve(made.id)
    assert ended.request_counts.succeeded == len(names)
