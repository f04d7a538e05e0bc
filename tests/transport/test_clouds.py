"""What the doors of clouds get from us is what the official clients for them send."""

import hashlib
import hmac
import json
import re
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from anthropic import AnthropicAWS, AnthropicFoundry
from anthropic.lib.bedrock import AnthropicBedrockMantle

from batcher.config.endpoints import at, endpoint_named
from batcher.config.keys import read_key
from batcher.config.tables import EndpointTable
from batcher.errors import ConfigurationError
from batcher.pricing.book.book import load_file, load_shipped
from batcher.rows.build.settings import RequestSettings
from batcher.transport.endpoint import Auth
from batcher.wiring import price_list
from tests.making_runs import Case, message

KEY = "sk-test"
SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
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
    """A server that answers everything and remembers it: (path, headers, body, its bytes)."""
    seen: list[tuple[str, dict[str, str], dict, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            seen.append((self.path, headers, json.loads(body), body))
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
        for path, headers, body, _ in sorted(seen, key=lambda each: json.dumps(each[2]))
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


SIGNED = {
    "claude-aws": (
        "aws-external-anthropic",
        lambda url: AnthropicAWS(
            aws_access_key="AKIDEXAMPLE", aws_secret_key=SECRET, aws_session_token="a/token=",
            aws_region="eu-west-1", workspace_id="wrkspc_1", base_url=url,
        ),
    ),
    "bedrock": (
        "bedrock-mantle",
        lambda url: AnthropicBedrockMantle(
            aws_access_key="AKIDEXAMPLE", aws_secret_key=SECRET, aws_session_token="a/token=",
            aws_region="eu-west-1", base_url=url,
        ),
    ),
}  # fmt: skip


@pytest.fixture
def of_aws(monkeypatch, tmp_path):
    """Credentials of AWS in the environment, and nothing else of this machine."""
    for name in ("ANTHROPIC_AWS_API_KEY", "AWS_BEARER_TOKEN_BEDROCK"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_SESSION_TOKEN", "a/token=")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))


def expected_signature(request, service):
    """Signature Version 4 as AWS documents it, from what came and the secret key."""
    path, headers, _, body = request
    signed = re.search("SignedHeaders=([^,]+)", headers["authorization"])[1]
    lines = "".join(f"{name}:{headers[name].strip()}\n" for name in signed.split(";"))
    hashed = hashlib.sha256(body).hexdigest()
    path, _, query = path.partition("?")
    canonical = f"POST\n{path}\n{query}\n{lines}\n{signed}\n{hashed}"
    moment = headers["x-amz-date"]
    scope = f"{moment[:8]}/eu-west-1/{service}/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n"
    text += hashlib.sha256(canonical.encode()).hexdigest()
    key = f"AWS4{SECRET}".encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), "sha256").digest()
    return signed, hmac.new(key, text.encode(), "sha256").hexdigest()


@pytest.mark.parametrize("name", SIGNED)
def test_what_is_signed_is_what_the_official_client_sends_and_the_signature_holds(
    tmp_path, sqlite_url, of_aws, name
):
    service, official = SIGNED[name]
    rows = [{"model": "anthropic.claude-x", "max_tokens": 9, **body} for body in CORPUS]
    with recording() as (url, theirs):
        client = official(url if name == "claude-aws" else f"{url}/anthropic")
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
    assert len(ours) == len(theirs) == len(rows)
    for request in (*ours, *theirs):
        signed, signature = expected_signature(request, service)
        assert request[1]["authorization"].endswith(f"Signature={signature}")
        assert {"content-type", "host", "x-amz-date", "x-amz-security-token"} <= {
            *signed.split(";")
        }
    made_anew = {"authorization", "x-amz-date"}
    for request in (*ours, *theirs):
        for header in made_anew:
            del request[1][header]
    assert comparable(ours) == comparable(theirs)


def test_without_a_token_requests_are_signed_and_a_line_says_so(of_aws):
    endpoint = endpoint_named("bedrock", {})
    assert (endpoint.auth, endpoint.aws_region) == (Auth.SIGV4, "eu-west-1")
    assert endpoint.sentences == (
        "AWS_BEARER_TOKEN_BEDROCK is not set: requests to bedrock are signed with credentials"
        " of AWS",
    )
    assert read_key(endpoint) is None


def test_with_a_token_or_where_a_file_says_how_nothing_is_signed(monkeypatch, of_aws):
    by_command = {"bedrock": EndpointTable(api_key_command=("print-a-token",))}
    assert endpoint_named("bedrock", by_command).auth is Auth.BEARER
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", KEY)
    assert endpoint_named("bedrock", {}).auth is Auth.BEARER


def test_without_the_extra_the_sentence_says_what_to_type(monkeypatch, of_aws):
    monkeypatch.setitem(sys.modules, "botocore", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'messages-batcher\[aws\]'"):
        read_key(endpoint_named("bedrock", {}))


def test_signing_wants_to_know_for_which_service():
    table = EndpointTable(base_url="https://gateway.example.com", auth=Auth.SIGV4)
    with pytest.raises(ConfigurationError, match="set aws_service"):
        endpoint_named("own", {"own": table})


def test_the_region_of_a_file_makes_the_address(monkeypatch, of_aws):
    monkeypatch.delenv("AWS_REGION")
    endpoint = endpoint_named("bedrock", {"bedrock": EndpointTable(aws_region="us-west-2")})
    assert endpoint.base_url == "https://bedrock-mantle.us-west-2.api.aws/anthropic"


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
