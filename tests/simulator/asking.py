"""How the tests of the simulator ask: without a network where that is enough."""

import asyncio
import functools
import io
import json
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp

from batcher.simulator.bill import Bill, Stats
from batcher.simulator.desk import Desk, PlannedReply
from batcher.simulator.settings import SimulatorSettings

HEADERS = {"x-api-key": "any", "anthropic-version": "2023-06-01"}
MODEL = "claude-sonnet-4-6"
TOOL = {
    "name": "weather",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    },
}
WEB_SEARCH = {"type": "web_search_20250305", "name": "web_search"}


def body_of(prompt: str, **fields: Any) -> dict[str, Any]:
    """A small body with one user message; `None` leaves a field out."""
    body = {
        "model": MODEL,
        "max_tokens": 400,
        "messages": [{"role": "user", "content": prompt}],
    }
    return {name: value for name, value in (body | fields).items() if value is not None}


class Counter:
    """A desk with its bill, and the answers it gave."""

    def __init__(self, **settings: Any) -> None:
        self.bill = Bill(None)
        self.stats = Stats()
        self.desk = Desk(SimulatorSettings(**settings), self.bill, self.stats)

    def decide(self, body: Any, headers: dict[str, str] | None = None) -> PlannedReply:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.desk.decide(HEADERS if headers is None else headers, raw, "req_1")

    def ask(self, prompt: str, **fields: Any) -> dict[str, Any]:
        return json.loads(self.decide(body_of(prompt, **fields)).payload)

    def refusal(self, body: Any, headers: dict[str, str] | None = None) -> tuple[int, str]:
        """Status and message of what must be a first-party error."""
        decision = self.decide(body, headers)
        answer = json.loads(decision.payload)
        assert answer["type"] == "error"
        assert answer["request_id"] == "req_1"
        return decision.status, answer["error"]["message"]


def asynchronous(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run a coroutine as a test."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


def session(**headers: str) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(headers=HEADERS | headers)


async def post(client: aiohttp.ClientSession, base_url: str, body: Any) -> tuple[int, bytes]:
    data = io.BytesIO(json.dumps(body).encode())
    async with client.post(f"{base_url}/v1/messages", data=data) as response:
        return response.status, await response.read()


async def get(client: aiohttp.ClientSession, url: str) -> tuple[int, Any]:
    async with client.get(url) as response:
        return response.status, await response.json()


async def wait_for_stats(client: aiohttp.ClientSession, base_url: str, **wanted: int) -> None:
    """Ask until the simulator has counted what is wanted."""
    stats: dict[str, Any] = {}
    async with asyncio.timeout(30):
        while any(stats.get(name) != number for name, number in wanted.items()):
            _, stats = await get(client, f"{base_url}/_simulator/stats")
