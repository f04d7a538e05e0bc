"""How an endpoint is reached: headers, official tooling's variables, files that are trusted."""

import os

import pytest

from batcher.config.endpoints import at, endpoint_named
from batcher.config.files import read_config
from batcher.config.keys import key_source, read_key
from batcher.config.tables import EndpointTable, ValueSource
from batcher.errors import AccessRefused, ConfigurationError
from batcher.transport.endpoint import Auth


def named(name="here", **fields):
    fields.setdefault("base_url", "https://api.example.com")
    return endpoint_named(name, {name: EndpointTable(**fields)})


def sent(endpoint) -> dict[str, str]:
    return {header.name: header.value.reveal() for header in endpoint.headers}


def test_headers_are_text_or_come_from_a_variable_or_a_file(monkeypatch, tmp_path):
    monkeypatch.setenv("GATEWAY_KEY", "from-a-variable")
    path = tmp_path / "token"
    path.write_text("from-a-file\n")
    path.chmod(0o600)
    endpoint = named(
        headers={
            "x-team": "mine",
            "x-key": ValueSource(env="GATEWAY_KEY"),
            "x-token": ValueSource(file=str(path)),
        }
    )
    assert sent(endpoint) == {
        "x-team": "mine",
        "x-key": "from-a-variable",
        "x-token": "from-a-file",
    }
    assert [header.secret for header in endpoint.headers] == [False, True, True]
    assert "from-a" not in repr(endpoint)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("Content-Length", "3", "made for each request"),
        ("host", "elsewhere", "base_url"),
        ("anthropic-beta", "a", "set betas"),
        ("a header", "x", "no name of a header"),
        ("x-key", "two\nlines", "characters that no header has"),
        ("x-key", ValueSource(), "is text"),
        ("x-key", ValueSource(env="A", file="b"), "is text"),
    ],
)
def test_a_header_that_cannot_be_sent_is_refused(name, value, words):
    with pytest.raises(ConfigurationError, match=words):
        named(headers={name: value})


def test_a_secret_that_is_not_there_is_named():
    with pytest.raises(AccessRefused, match="x-key is in the environment variable NOT_SET"):
        named(headers={"x-key": ValueSource(env="NOT_SET")})


def test_a_header_of_the_job_takes_the_place_of_the_endpoints():
    endpoint = at(named(headers={"X-Team": "mine"}), "https://b.example.com", {"x-team": "b"})
    assert sent(endpoint) == {"x-team": "b"}


def test_a_query_of_the_base_url_stays_behind_the_path():
    endpoint = named(base_url="https://api.example.com/x/v1?api-version=2026-01-01")
    assert (
        endpoint.messages_url == "https://api.example.com/x/v1/messages?api-version=2026-01-01"
    )
    assert endpoint.models_url == "https://api.example.com/x/v1/models?api-version=2026-01-01"


def test_a_fragment_is_refused():
    with pytest.raises(ConfigurationError, match="fragment"):
        named(base_url="https://api.example.com/#f")


def test_variables_of_official_tooling_fill_what_nobody_said(monkeypatch):
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "https://gateway.example.com")
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "a-token")
    monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", "X-One: 1\n\nX-Two: two: 2\n")
    endpoint = endpoint_named("anthropic", {})
    assert endpoint.base_url == "https://gateway.example.com"
    assert endpoint.auth is Auth.BEARER
    assert read_key(endpoint).reveal() == "a-token"
    assert sent(endpoint) == {"X-One": "1", "X-Two": "two: 2"}
    said = " ".join(endpoint.sentences)
    assert "gateway.example.com" in said
    assert "X-One, X-Two" in said
    assert "a-token" not in said
    assert "two: 2" not in said


def test_a_key_wins_over_a_token(monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", "a-key")
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "a-token")
    endpoint = endpoint_named("anthropic", {})
    assert (endpoint.auth, read_key(endpoint).reveal()) == (Auth.X_API_KEY, "a-key")


def test_what_a_file_says_wins_over_those_variables(monkeypatch):
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "https://gateway.example.com")
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "a-token")
    table = EndpointTable(base_url="https://own.example.com", api_key_env="OWN_KEY")
    endpoint = endpoint_named("anthropic", {"anthropic": table})
    assert (endpoint.base_url, endpoint.auth) == ("https://own.example.com", Auth.X_API_KEY)


def test_other_endpoints_do_not_listen_to_them(monkeypatch):
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "https://gateway.example.com")
    monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", "X-One: 1")
    endpoint = endpoint_named("crun", {})
    assert endpoint.base_url == "https://api.crun.ai/api/v1"
    assert not endpoint.headers


def test_a_line_that_is_no_header_is_refused_unrepeated(monkeypatch):
    monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", "a secret without a name")
    with pytest.raises(ConfigurationError, match="one `Name: value` a line") as refused:
        endpoint_named("anthropic", {})
    assert "secret without" not in str(refused.value)


REDIRECTING = "[endpoints.anthropic]\nbase_url = 'https://elsewhere.example.com'\n"


@pytest.fixture
def found(tmp_path, monkeypatch):
    """A config.toml in the folder where a command is typed."""
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o755)
    (folder / "config.toml").write_text(REDIRECTING)
    monkeypatch.chdir(folder)
    return folder


def test_a_file_of_our_own_may_say_where_keys_go(found):
    assert read_config(None).endpoints["anthropic"].base_url


def test_a_file_that_others_could_replace_may_not(found):
    found.chmod(0o777)
    with pytest.raises(ConfigurationError, match="base_url and key of endpoint anthropic"):
        read_config(None)
    assert read_config("config.toml").endpoints, "named, it is trusted"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_somebody_else_may_not(found):
    os.chown(found / "config.toml", 12345, 12345)
    with pytest.raises(ConfigurationError, match="belongs to user 12345"):
        read_config(None)


def test_a_file_of_somebody_else_may_say_what_is_harmless(found):
    found.chmod(0o777)
    (found / "config.toml").write_text("concurrency = 3\n")
    assert read_config(None).concurrency == 3


def test_names_of_certificates_are_relative_to_the_file(found):
    text = REDIRECTING + "ca_file = 'ca.pem'\n[endpoints.anthropic.headers]\nx = {file = 'x'}\n"
    (found / "config.toml").write_text(text)
    table = read_config(None).endpoints["anthropic"]
    assert table.ca_file == str(found / "ca.pem")
    assert table.headers["x"].file == str(found / "x")


@pytest.mark.parametrize(
    "host",
    ["localhost", "127.0.0.1", "[::1]", "10.1.2.3", "172.16.0.9", "192.168.1.1", "[fd00::1]"],
)
def test_a_near_address_is_sent_the_key_that_is_set_and_else_none(monkeypatch, host):
    endpoint = at(endpoint_named("anthropic", {}), f"https://{host}:8000")
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    assert read_key(endpoint) is None
    assert key_source(endpoint).startswith("none sent: ANTHROPIC_API_KEY is not set")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "a-key")
    assert read_key(endpoint).reveal() == "a-key"
    assert key_source(endpoint) == "environment variable ANTHROPIC_API_KEY"


@pytest.mark.parametrize(
    "host",
    ["api.example.com", "8.8.8.8", "172.32.0.1", "10.example.com", "localhost.example.com"],
)
def test_any_other_address_needs_a_key(monkeypatch, host):
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    with pytest.raises(AccessRefused, match="needs a key"):
        read_key(at(endpoint_named("anthropic", {}), f"https://{host}"))
