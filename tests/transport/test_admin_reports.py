"""Where the admin key goes, and what comes of pages that no report has."""

import json
from contextlib import AsyncExitStack
from datetime import date

import pytest

from batcher.clock import SystemClock
from batcher.config.endpoints import admin_endpoint
from batcher.errors import AccessRefused, ConfigurationError, ProviderUnavailable
from batcher.simulator.server import Simulator
from batcher.simulator.settings import SimulatorSettings
from batcher.transport.endpoint import Endpoint, ExtraHeader, Secret
from batcher.transport.live.client import HttpClient
from batcher.transport.live.listings import COSTS, USAGE, Days, fetch_report
from tests.simulator.asking import asynchronous
from tests.transport.proxies import AUTHORITY, connecting_to, listening, server_tls
from tests.transport.servers import http, raw_server

KEY = Secret("sk-ant-admin-0123456789abcdefghij")
DAYS = Days(date(2026, 10, 1), date(2026, 11, 1))
OTHERS = ExtraHeader(name="x-gateway", value=Secret("secret of a gateway"), secret=True)


def answer(status: int, content: object) -> bytes:
    return http(status, content if isinstance(content, bytes) else json.dumps(content).encode())


class Waiting(SystemClock):
    """Notes how long it was to wait, and goes on at once."""

    def __init__(self) -> None:
        self.waits: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)


async def fetched(endpoint: Endpoint, name: str = USAGE, clock: Waiting | None = None) -> bytes:
    clock = clock or Waiting()
    client = HttpClient(endpoint, KEY, clock)
    try:
        return await fetch_report(client, endpoint, name, DAYS, clock)
    finally:
        await client.close()


def beside(url: str | None, **fields: object) -> Endpoint:
    gateway = {"base_url": "https://gateway.example", "headers": (OTHERS,), **fields}
    return admin_endpoint(Endpoint(name="anthropic", admin_url=url, **gateway))


@asynchronous
async def test_pages_are_asked_for_one_by_one_and_nothing_of_the_gateway_is_sent():
    first = {"data": [], "has_more": True, "next_page": "page_2"}
    last = {"data": [], "has_more": False, "next_page": None}
    async with raw_server(answer(200, first), answer(200, last)) as server:
        found = await fetched(beside(server.url), COSTS)
    assert json.loads(found) == [first, last]
    lines = [request.split(b"\r\n")[0].decode() for request in server.requests]
    assert "page=page_2" in lines[1]
    assert "page=" not in lines[0]
    assert lines[0].startswith("GET /v1/organizations/cost_report?starting_at=2026-10-01T00")
    assert "description" in lines[0]
    assert server.headers()["x-api-key"] == KEY.reveal()
    assert b"gateway" not in server.seen


@asynchronous
async def test_pages_that_go_round_are_left_at_the_first_that_comes_again():
    one = {"data": [], "has_more": True, "next_page": "one"}
    two = {"data": [], "has_more": True, "next_page": "two"}
    async with raw_server(answer(200, one), answer(200, two), answer(200, one)) as server:
        assert json.loads(await fetched(beside(server.url))) == [one, two, one]
        assert len(server.requests) == 3


def test_the_key_goes_to_the_provider_or_where_it_was_said_never_to_base_url():
    assert beside(None).base_url == "https://api.anthropic.com"
    assert beside("https://admin.example").base_url == "https://admin.example"
    for fields in ({"dialect": "crun"}, {"simulated": True}):
        with pytest.raises(ConfigurationError, match="set admin_url"):
            beside(None, **fields)


@pytest.mark.parametrize("url", ["http://admin.example", "https://user:word@admin.example"])
def test_an_address_that_would_show_the_key_is_refused(url):
    with pytest.raises(ConfigurationError):
        beside(url)


@asynchronous
@pytest.mark.parametrize(
    ("status", "content", "error"),
    [
        (200, b"<html>", ProviderUnavailable),
        (200, {"data": None}, ProviderUnavailable),
        (200, {"data": [], "has_more": True, "next_page": "x"}, None),
        (403, {"type": "error", "error": {"type": "x", "message": "no"}}, AccessRefused),
        (404, b"", ConfigurationError),
        (429, b"", ProviderUnavailable),
    ],
)
async def test_what_is_no_report_is_told(status, content, error):
    async with raw_server(answer(status, content)) as server:
        if error is None:  # the same page for ever: what has no end stays unfinished
            assert json.loads(await fetched(beside(server.url)))[-1]["has_more"] is True
            return
        with pytest.raises(error, match="Admin API"):
            await fetched(beside(server.url))


@asynchronous
async def test_a_report_that_is_refused_for_now_is_asked_for_again_as_told():
    settings = SimulatorSettings(reports_refused=(429, 503, 529), retry_after_seconds=60)
    clock, said = Waiting(), []
    async with Simulator(settings) as simulator:
        endpoint = beside(simulator.base_url)
        client = HttpClient(endpoint, KEY, clock)
        found = await fetch_report(client, endpoint, USAGE, DAYS, clock, said.append)
        await client.close()
    assert len(json.loads(found)[0]["data"]) == 31
    assert [60 <= wait <= 62 for wait in clock.waits] == [True] * 3
    assert ["(HTTP 429)" in said[0], "asking again in 6" in said[0]] == [True, True]


@asynchronous
@pytest.mark.parametrize(
    ("refused", "seconds", "waits", "words"),
    [
        ((429,) * 9, 1, 4, "refuses"),  # not for ever
        ((429,), 3_600, 0, "asks to wait 3,600 s"),
        ((400,), 1, 0, "refuses"),  # it would not be another answer
    ],
)
async def test_patience_has_an_end(refused, seconds, waits, words):
    settings = SimulatorSettings(reports_refused=refused, retry_after_seconds=seconds)
    clock = Waiting()
    async with Simulator(settings) as simulator:
        with pytest.raises(ProviderUnavailable, match=words):
            await fetched(beside(simulator.base_url), clock=clock)
    assert len(clock.waits) == waits


@asynchronous
async def test_the_way_leads_through_the_proxy_and_trusts_the_company(monkeypatch):
    report = answer(200, {"data": [], "has_more": False})

    async def reports(seen, reader, writer):
        seen.heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(report)
        await writer.drain()

    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(listening(reports, server_tls()))
        proxy = await stack.enter_async_context(listening(connecting_to(server.port)))
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        await fetched(beside("https://api.example.test", ca_file=str(AUTHORITY)))
    assert proxy.heads[0].startswith(b"CONNECT api.example.test:443")
    assert KEY.reveal().encode() not in b"".join(proxy.heads)
    assert KEY.reveal().encode() in server.heads[0]
