"""What the doors of clouds get from us is what the official clients for them send."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from anthropic import AnthropicAWS, AnthropicFoundry
from anthropic.lib.bedrock import AnthropicBedrockMantle

from batcher.config.endpoints import at, endpoint_named
from batcher.errors import ConfigurationError
from batcher.pricing.book.book import load_file, load_shipped
from batcher.rows.build.settings import RequestSettings
from batcher.wiring import price_list
from tests.making_runs import Case, message

KEY = "sk-test"
ENVIRONMENT = {
    "AWS_REGION": "eu-west-1",
    "ANTHROPIC_AWS_API_KEY": KEY,
    "ANTHROPIC_AWS_WORKSPACE_ID": "wrkspc_1",
    "AWS_BEARER_TOKEN_BEDROCK": KEY,
    "ANTHROPIC_FOUNDRY_API_KEY": KEY,
    "ANTHROPIC_FOUNDRY_RESOURCE": "example",
}
# Of the client itself, of the connection, or documented in docs/endpoints.md.
OTHERS = {
    "accept", "accept-encoding", "anthropic-version", "api-key", "connection", "content-length",
    "host", "user-agent", "x-client-request-id",
}  # fmt: skip
CORPUS = [
    {"messages": [{"role": "user", "content": "Good day, \u00e4\u00f6\u00fc \U0001f600"}]},
    {
        "messages": [{"role": "user", "content": [{"type": "text", "text": "What is it?"}]}],
        "system": "Be short.",
        "stop_sequences": ["x"],
    },
    {
        "messages": [{"role": "user", "content": "Weather?"}],
        "tools": [{"name": "look", "input_schema": {"type": "object"}}],
        "tool_choice": {"type": "auto"},
    },
]


@contextmanager
def recording():
    """A server that answers everything and remembers it: (path, headers, body)."""
    seen: list[tuple[str, dict[str, str], dict]] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            seen.append((self.path, headers, json.loads(body)))
            answer = message()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def comparable(seen):
    return [
        (
            path.partition("?")[0],
            {n: v for n, v in headers.items() if n not in OTHERS and "stainless" not in n},
            body,
        )
        for path, headers, body in sorted(seen, key=lambda each: json.dumps(each[2]))
    ]


OFFICIAL = {
    "claude-aws": lambda url: AnthropicAWS(api_key=KEY, workspace_id="wrkspc_1", base_url=url),
    "bedrock": lambda url: AnthropicBedrockMantle(api_key=KEY, base_url=f"{url}/anthropic"),
    "foundry": lambda url: AnthropicFoundry(api_key=KEY, base_url=f"{url}/anthropic"),
}


@pytest.fixture(autouse=True)
def _set(monkeypatch):
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("name", OFFICIAL)
def test_the_official_client_and_ours_send_the_same(tmp_path, sqlite_url, name):
    rows = [{"model": "anthropic.claude-x", "max_tokens": 9, **body} for body in CORPUS]
    with recording() as (url, theirs):
        client = OFFICIAL[name](url)
        for row in rows:
            client.messages.create(**row)
        client.close()
    with recording() as (url, ours):
        path = "" if name == "claude-aws" else "/anthropic"
        endpoint = at(endpoint_named(name, {}), url + path)
        case = Case(
            folder=tmp_path, database=sqlite_url, endpoint=endpoint, settings=RequestSettings()
        )
        case.write({"params": row} for row in rows)
        assert case.run().exit_code == 0
    assert comparable(ours) == comparable(theirs)


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("claude-aws", "https://aws-external-anthropic.eu-west-1.api.aws/v1/messages"),
        ("bedrock", "https://bedrock-mantle.eu-west-1.api.aws/anthropic/v1/messages"),
        ("foundry", "https://example.services.ai.azure.com/anthropic/v1/messages"),
    ],
)
def test_the_address_is_made_of_what_the_environment_says(name, address):
    assert endpoint_named(name, {}).messages_url == address


@pytest.mark.parametrize("value", ["", "evil.example/", "a b", "UPPER"])
def test_a_region_that_is_none_leads_nowhere(monkeypatch, value):
    monkeypatch.setenv("AWS_REGION", value)
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    with pytest.raises(ConfigurationError, match="set the variable AWS_REGION"):
        endpoint_named("bedrock", {})


@pytest.mark.parametrize(
    ("name", "model", "trust", "reason"),
    [
        ("claude-aws", "claude-sonnet-4-6", "priced", None),
        ("foundry", "our-own-deployment", "priced", None),
        ("bedrock", "anthropic.claude-sonnet-4-6", "assumed", "region_assumed"),
    ],
)
def test_the_doors_have_the_providers_prices_and_what_a_region_costs_is_assumed(
    tmp_path, sqlite_url, name, model, trust, reason
):
    with recording() as (url, _):
        endpoint = at(endpoint_named(name, {}), url)
        case = Case(
            folder=tmp_path, database=sqlite_url, endpoint=endpoint, settings=RequestSettings()
        )
        case.write([{"params": {"model": model, "max_tokens": 9, **CORPUS[0]}}])
        assert case.run().exit_code == 0
    list_price = 10 * 3_000_000 + 5 * 15_000_000
    most = list_price * 11 // 10 if reason else list_price
    charged = case.ask(
        "SELECT trust, cost_pico_usd, cost_low_pico_usd, cost_high_pico_usd FROM v_answers"
    )
    assert charged == [(trust, list_price, list_price, most)]
    assert {found for (found,) in case.ask("SELECT reason FROM v_charges")} == {reason}


def test_a_price_file_that_names_the_door_is_nearer_than_the_providers_list(
    tmp_path, sqlite_url
):
    mine = tmp_path / "prices.toml"
    mine.write_text(
        'version = "1"\n[lists.foundry]\nbased_on = "anthropic"\n'
        'currency = "CCU"\nfactor = "100"\n'
    )
    endpoint = endpoint_named("foundry", {})
    case = Case(folder=tmp_path, database=sqlite_url, endpoint=endpoint)
    assert price_list(case.job(), load_shipped()) == "anthropic"
    assert price_list(case.job(), load_file(mine)) == "foundry"
