"""Where requests go, and where they never go."""

import pickle

import pytest

from batcher.errors import ConfigurationError
from batcher.transport.endpoint import Endpoint, Secret, check_url, is_loopback
from tests.transport.servers import KEY, endpoint


@pytest.mark.parametrize(
    "base_url",
    [
        "https://api.example.com",
        "https://api.example.com/",
        "https://api.example.com/v1",
        "https://api.example.com/v1/",
        "https://api.example.com/v1/messages",
        "https://api.example.com/v1/messages/",
    ],
)
def test_every_spelling_of_a_base_url_leads_to_the_same_place(base_url):
    where = endpoint(base_url)
    assert where.messages_url == "https://api.example.com/v1/messages"
    assert where.models_url == "https://api.example.com/v1/models"


@pytest.mark.parametrize(
    "base_url", ["https://x.test/api/anthropic", "https://x.test/api/v1beta"]
)
def test_a_path_of_its_own_gets_v1_behind_it(base_url):
    assert endpoint(base_url).messages_url == f"{base_url}/v1/messages"


@pytest.mark.parametrize(
    "base_url",
    ["http://127.0.0.1:8080", "http://localhost/v1", "http://[::1]:9", "http://127.9.9.9"],
)
def test_plain_http_is_allowed_to_this_machine(base_url):
    check_url(endpoint(base_url))


@pytest.mark.parametrize(
    "base_url",
    ["http://api.example.com", "http://10.0.0.1", "http://localhost.example.com",
     "http://127.0.0.1.nip.test", "http://0.0.0.0", "http://[::ffff:10.0.0.1]"],
)  # fmt: skip
def test_plain_http_to_anywhere_else_is_refused_before_a_byte_leaves(base_url):
    with pytest.raises(ConfigurationError, match="unencrypted"):
        check_url(endpoint(base_url))


def test_plain_http_can_be_allowed_for_one_endpoint():
    check_url(endpoint("http://10.0.0.1", allow_insecure_http=True))


@pytest.mark.parametrize(
    "base_url",
    [
        "",
        "api.example.com",
        "ftp://x",
        "https://",
        "https:///v1",
        "https://x:port",
        "https://[::1",
    ],
)
def test_what_is_no_url_is_refused_by_name(base_url):
    with pytest.raises(ConfigurationError, match="endpoint here: base_url"):
        check_url(endpoint(base_url))


def test_a_password_in_the_url_is_refused_and_not_repeated():
    with pytest.raises(ConfigurationError, match="user or password") as refused:
        check_url(endpoint(f"https://me:{KEY}@x.test"))
    assert KEY not in str(refused.value)


@pytest.mark.parametrize("host", ["example.com", "127.1", "", "localhost.", "1.127.0.0"])
def test_only_names_that_surely_are_this_machine_count_as_loopback(host):
    assert not is_loopback(host)


@pytest.mark.parametrize("pattern", ["{}", "{!r}", "{!s}", "{!a}"])
def test_a_secret_never_shows_itself(pattern):
    assert KEY not in pattern.format(Secret(KEY))
    assert "abc" not in pattern.format(Secret("abc"))


def test_a_secret_gives_itself_only_when_asked_to():
    assert Secret(KEY).reveal() == KEY
    assert pickle.loads(pickle.dumps(Secret(KEY))).reveal() == KEY


@pytest.mark.parametrize(
    ("base_url", "said", "status", "billed"),
    [
        ("https://api.anthropic.com", None, 200, True),
        ("https://api.anthropic.com", None, 504, False),
        ("https://gateway.example", None, 200, True),
        ("https://gateway.example", None, 408, True),
        ("https://gateway.example", None, 504, True),
        ("https://gateway.example", None, 529, False),
        ("https://gateway.example", None, 429, False),
        ("https://gateway.example", None, 400, False),
        ("https://gateway.example", False, 200, False),
        ("https://gateway.example", True, 400, True),
    ],
)
def test_which_refused_attempts_may_be_billed(base_url, said, status, billed):
    endpoint = Endpoint(name="x", base_url=base_url, errors_may_be_billed=said)
    assert endpoint.may_bill(status) is billed
