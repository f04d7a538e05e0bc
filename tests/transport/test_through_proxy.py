"""Requests through real proxies and TLS servers: what arrives, and what a failure means."""

import asyncio
import ssl
from base64 import b64encode

import pytest
import uvloop

from batcher.clock import SystemClock
from batcher.errors import ConfigurationError
from batcher.messages.failure import Verdict
from batcher.messages.request import Answered, NotSent
from batcher.transport.endpoint import Auth, Endpoint, Secret
from batcher.transport.live.client import HttpClient
from batcher.transport.live.connections import tls_context
from batcher.transport.proxy import route_to
from tests.simulator.asking import asynchronous
from tests.transport.proxies import (
    AUTHORITY,
    CERTIFICATES,
    CLIENT,
    answer_messages,
    certificate_demanding_server,
    connecting_to,
    listening,
    proxied_server,
    refusing,
    server_tls,
)
from tests.transport.servers import KEY, send

API = "https://api.example.test"


def by(proxy: str) -> dict[str, object]:
    return {"route": route_to(API, proxy, {}), "ca_file": str(AUTHORITY)}


@asynchronous
@pytest.mark.parametrize("tls", [False, True])
async def test_a_request_is_tunnelled_and_the_proxy_sees_no_key(tls):
    async with proxied_server(server_tls() if tls else None) as (server, proxy):
        scheme, host = ("https", "localhost") if tls else ("http", "127.0.0.1")
        outcome = await send(API, **by(f"{scheme}://{host}:{proxy.port}"))
        again = await send(API, **by(f"{scheme}://{host}:{proxy.port}"))
    assert isinstance(outcome, Answered), outcome
    assert isinstance(again, Answered)
    assert proxy.heads[0].startswith(b"CONNECT api.example.test:443 HTTP/1.1\r\n")
    assert server.heads[0].startswith(b"POST /v1/messages HTTP/1.1\r\n")
    assert KEY.encode() in server.heads[0]
    assert KEY.encode() not in b"".join(proxy.heads)


@asynchronous
async def test_a_proxy_sees_no_key_of_a_count_either():
    async with proxied_server() as (server, proxy):
        endpoint = Endpoint(name="x", base_url=API, **by(f"http://127.0.0.1:{proxy.port}"))
        asking = HttpClient(endpoint, Secret(KEY), SystemClock())
        try:
            assert (await asking.count_tokens(b"{}", ())).status == 200
        finally:
            await asking.close()
    assert KEY.encode() in server.heads[0]
    assert KEY.encode() not in b"".join(proxy.heads)


@asynchronous
async def test_credentials_go_to_the_proxy_alone():
    async with proxied_server() as (server, proxy):
        await send(API, **by(f"http://user:pass@127.0.0.1:{proxy.port}"))
    pair = b64encode(b"user:pass")
    assert b"Proxy-Authorization: Basic " + pair in proxy.heads[0]
    assert pair not in server.heads[0]


@asynchronous
async def test_plain_http_without_a_key_goes_to_the_proxy_as_a_whole_address():
    async with listening(answer_messages) as proxy:
        route = route_to("http://api.example.test", f"http://u:p@127.0.0.1:{proxy.port}", {})
        outcome = await send(
            "http://api.example.test", allow_insecure_http=True, auth=Auth.NONE, route=route
        )
    assert isinstance(outcome, Answered)
    assert proxy.heads[0].startswith(b"POST http://api.example.test/v1/messages HTTP/1.1\r\n")
    assert b"Proxy-Authorization: Basic " in proxy.heads[0]


@asynchronous
@pytest.mark.parametrize(
    ("answer", "verdict", "words"),
    [
        (
            b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n",
            Verdict.STOP_ACCESS,
            "password",
        ),
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", Verdict.STOP_CONFIGURATION, 'proxy = "none"'),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", Verdict.RETRY_ROW, "HTTP 502"),
        (b"no proxy at all\r\n\r\n", Verdict.RETRY_ROW, ""),
        (b"", Verdict.RETRY_ROW, ""),
    ],
)
async def test_a_connect_that_fails_has_sent_nothing(answer, verdict, words):
    async with listening(refusing(answer)) as proxy:
        outcome = await send(API, **by(f"http://127.0.0.1:{proxy.port}"))
    assert isinstance(outcome, NotSent), outcome
    assert outcome.failure.verdict is verdict
    assert words in outcome.failure.message


@asynchronous
async def test_a_proxy_that_never_answers_is_given_up_and_nothing_was_sent():
    async def silent(seen, reader, writer):
        await reader.read()

    async with listening(silent) as proxy:
        where = by(f"http://127.0.0.1:{proxy.port}")
        outcome = await send(API, **where, connect_timeout_seconds=0.05)
    assert isinstance(outcome, NotSent)


@asynchronous
async def test_a_proxy_that_is_not_there_is_named():
    async with listening(connecting_to(1)) as proxy:
        port = proxy.port
    outcome = await send(API, **by(f"http://127.0.0.1:{port}"))
    assert isinstance(outcome, NotSent)
    assert outcome.failure.error_type == "proxy_unreachable"


@asynchronous
async def test_a_name_that_is_not_found_says_what_to_do_about_proxies():
    nowhere = "https://nowhere.invalid"
    for setting, environment, words in (
        ("environment", {}, "check base_url; where the way out is a proxy, set HTTPS_PROXY"),
        ("environment", {"no_proxy": "*", "https_proxy": "http://p:1"}, "directly: no_proxy"),
        ("http://proxy.invalid:1", {}, "correct the proxy (proxy of the endpoint), or say"),
        ("environment", {"https_proxy": "proxy.invalid:1"}, "correct the proxy (https_proxy)"),
    ):
        outcome = await send(nowhere, route=route_to(nowhere, setting, environment))
        assert isinstance(outcome, NotSent)
        assert outcome.failure.error_type == "name_not_found"
        assert words in outcome.failure.message


@asynchronous
async def test_an_authority_of_ones_own_is_trusted_when_it_is_named(tmp_path):
    (tmp_path / "ours.crt").write_bytes(AUTHORITY.read_bytes())
    async with listening(answer_messages, server_tls()) as server:
        url = f"https://127.0.0.1:{server.port}"
        refused = await send(url)
        assert isinstance(await send(url, ca_file=str(AUTHORITY)), Answered)
        assert isinstance(await send(url, ca_file=str(tmp_path)), Answered)
    assert isinstance(refused, NotSent)
    assert refused.failure.verdict is Verdict.STOP_CONFIGURATION
    assert "set ca_file" in refused.failure.message


@asynchronous
async def test_a_name_that_the_certificate_does_not_hold_stops_the_run():
    """It was asked at an address where nobody listens, and so told nothing of names."""
    async with (
        listening(answer_messages, server_tls()) as server,
        listening(connecting_to(server.port)) as proxy,
    ):
        way = by(f"http://127.0.0.1:{proxy.port}")
        outcome = await send("https://other.example.test", **way)
    assert isinstance(outcome, NotSent)
    assert outcome.failure.verdict is Verdict.STOP_CONFIGURATION
    assert "for another name" in outcome.failure.message
    assert "base_url" in outcome.failure.message  # no authority would help


@asynchronous
async def test_an_authority_in_the_form_that_windows_exports_is_taken(tmp_path):
    exported = tmp_path / "root.cer"
    exported.write_bytes(ssl.PEM_cert_to_DER_cert(AUTHORITY.read_text()))
    async with listening(answer_messages, server_tls()) as server:
        url = f"https://127.0.0.1:{server.port}"
        assert isinstance(await send(url, ca_file=str(exported)), Answered)
        assert isinstance(await send(url, ca_file=str(tmp_path)), Answered)


@asynchronous
async def test_a_server_that_wants_our_certificate_is_shown_it():
    async with listening(answer_messages, server_tls(wants_certificate=True)) as server:
        url = f"https://127.0.0.1:{server.port}"
        outcome = await send(url, ca_file=str(AUTHORITY), client_certificate=str(CLIENT))
    assert isinstance(outcome, Answered)


@pytest.mark.parametrize("module", [asyncio, uvloop], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_server_that_misses_our_certificate_has_read_nothing(module, version):
    """In TLS 1.3 it says so when our request was written already."""
    with (
        certificate_demanding_server(version) as port,
        asyncio.Runner(loop_factory=module.new_event_loop) as runner,
    ):
        outcome = runner.run(send(f"https://127.0.0.1:{port}", ca_file=str(AUTHORITY)))
    assert isinstance(outcome, NotSent), outcome
    assert outcome.failure.verdict is Verdict.STOP_CONFIGURATION
    assert "client_certificate" in outcome.failure.message


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"ca_file": "/nowhere.pem"}, "ca_file /nowhere.pem"),
        ({"ca_file": str(CERTIFICATES.parent / "servers.py")}, "holds no authorities"),
        ({"ca_file": "NOTHING"}, "holds no authorities"),
        ({"ca_file": "EMPTY"}, "no .pem, .crt or .cer"),
        ({"client_certificate": "/nowhere.pem"}, "client_certificate /nowhere.pem"),
        ({"client_key": str(CLIENT)}, "name both"),
    ],
)
def test_a_file_of_no_use_is_refused_by_its_setting(fields, words, tmp_path):
    nothing = tmp_path / "nothing"
    nothing.touch()
    places = {"EMPTY": str(tmp_path), "NOTHING": str(nothing)}
    named = {name: places.get(value, value) for name, value in fields.items()}
    with pytest.raises(ConfigurationError, match="endpoint e:") as refused:
        tls_context(Endpoint(name="e", base_url=API, **named))
    assert words in str(refused.value)
