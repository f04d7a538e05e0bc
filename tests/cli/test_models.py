import asyncio
import json

import pytest

from batcher.cli.care import setup as command
from batcher.cli.say import tell_table
from batcher.errors import AccessRefused, ConfigurationError, ProviderUnavailable
from batcher.transport.endpoint import Endpoint, Secret
from batcher.transport.live.client import HttpClient, Reply
from batcher.transport.live.connections import SendError
from batcher.transport.live.listings import list_models
from tests.cli.test_report import invoke
from tests.making_runs import SystemClock, endpoint_of, simulating

HERE = Endpoint(name="here", base_url="http://127.0.0.1:9/v1")


class Pages:
    """Gives its replies in turn; remembers what it was asked for."""

    def __init__(self, *replies):
        self.replies = list(replies)
        self.asked = []

    async def get_models(self, *, limit, after_id):
        self.asked.append((limit, after_id))
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        if isinstance(reply, Exception):
            raise reply
        return reply


def page(status=200, **body):
    return Reply(status, {}, json.dumps(body).encode())


def listed(*replies, page_size=1000):
    pages = Pages(*replies)
    found = asyncio.run(list_models(pages, HERE, 0, page_size))
    return [model.id for model in found], pages.asked


def test_pages_are_read_to_the_end():
    first = page(data=[{"id": "a"}, {"id": "b"}], has_more=True, last_id="b")
    last = page(data=[{"id": "c"}], has_more=False, last_id="c")
    assert listed(first, last, page_size=2) == (["a", "b", "c"], [(2, None), (2, "b")])


def test_the_form_of_openai_is_one_page():
    only = page(
        object="list", data=[{"id": "a", "created": 1767225600, "owned_by": "x"}], has_more=True
    )
    (model,) = asyncio.run(list_models(Pages(only), HERE, 0))
    assert (model.id, model.created, model.owner) == ("a", "2026-01-01T00:00:00Z", "x")


@pytest.mark.parametrize("data", [None, [], [5, {"name": "x"}, {"id": 7}]])
def test_a_list_without_models_is_empty(data):
    assert listed(page(object="list", data=data))[0] == []


def test_odd_values_are_left_out_and_the_model_stays():
    odd = {
        "id": "a",
        "created": 10**30,
        "display_name": 5,
        "max_tokens": "many",
        "owned_by": "",
    }
    (model,) = asyncio.run(list_models(Pages(page(object="list", data=[odd])), HERE, 0))
    assert (model.created, model.display_name, model.max_tokens, model.owner) == (None,) * 4


@pytest.mark.parametrize(
    ("reply", "error", "words"),
    [
        (page(404, detail="Not Found"), ConfigurationError, "lists no models"),
        (page(401, error={"message": "no key"}), AccessRefused, "no key"),
        (page(403, error={"message": "not you"}), AccessRefused, "not you"),
        (page(500, error={"message": "boom"}), ProviderUnavailable, "boom"),
        (page(302), ProviderUnavailable, "HTTP 302"),
        (Reply(200, {}, b"<html>"), ProviderUnavailable, "something else"),
        (Reply(200, {}, b"[]"), ProviderUnavailable, "something else"),
        (page(models=[]), ProviderUnavailable, "something else"),
        (page(data={"id": "a"}), ProviderUnavailable, "something else"),
        (SendError("unreachable", "no route", left=False), ProviderUnavailable, "no route"),
        (page(data=[], has_more=True, last_id="x"), ProviderUnavailable, "does not end"),
    ],
)
def test_what_is_no_list_is_one_sentence(reply, error, words):
    with pytest.raises(error, match=words):
        listed(reply)


def test_real_pages_of_two_give_what_one_page_gives():
    async def both(endpoint):
        client = HttpClient(endpoint, Secret("sk-test"), SystemClock())
        try:
            return [await list_models(client, endpoint, 0, size) for size in (2, 1000)]
        finally:
            await client.close()

    with simulating() as simulator:
        small, large = asyncio.run(both(endpoint_of(simulator)))
    assert small == large
    assert len(large) > 4


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_command_shows_models_and_whether_they_have_a_price(here):
    with simulating() as simulator:
        where = ("models", "--endpoint", "simulator", "--base-url", simulator.base_url)
        lines = invoke(*where).splitlines()
        document = json.loads(invoke(*where, "--json"))
        unpriced = json.loads(invoke(*where, "--json", "--prices", "none"))
    assert " ".join(lines[0].split()) == "model name created lifecycle input output price"
    assert lines[2].startswith("claude-opus-5-5")
    assert lines[2].endswith("known")
    assert len(document["models"]) == len(lines) - 2
    assert all(model["priced"] for model in document["models"])
    assert {m["unpriced_reason"] for m in unpriced["models"]} == {"no_price_list"}


def test_the_list_of_a_reseller_is_read_too(here, monkeypatch):
    monkeypatch.setenv("CRUN_API_KEY", "key-of-crun")
    with simulating(dialect="crun") as simulator:
        base = f"{simulator.base_url}/api/v1"
        text = invoke("models", "--endpoint", "crun", "--base-url", base)
    assert text.splitlines()[0].split() == ["model", "created", "owner", "price"]
    assert "none (no_price_list)" in text


def test_an_endpoint_without_a_list_is_told(here, monkeypatch):
    monkeypatch.setenv("SUNRA_API_KEY", "key-of-sunra")
    with simulating(dialect="sunra") as simulator:
        where = ("--endpoint", "sunra", "--base-url", simulator.base_url)
        assert "lists no models" in invoke("models", *where, error=ConfigurationError)


def test_without_a_key_nothing_is_asked(here):
    assert "CRUN_API_KEY" in invoke("models", "--endpoint", "crun", error=AccessRefused)


def test_no_control_character_of_a_server_reaches_the_terminal(capsys):
    row = dict.fromkeys(
        ("display_name", "created", "owner", "lifecycle", "max_input_tokens", "max_tokens")
    )
    row |= {"id": "a\x1b[2J\n", "priced": True, "unpriced_reason": None}
    tell_table(command._table([row]))
    shown = capsys.readouterr().out
    assert "known" in shown
    assert "\x1b" not in shown
    assert len(shown.splitlines()) == 3


def test_a_table_has_numbers_on_the_right_with_as_many_decimals(capsys):
    titles = ("model", "input", "read", "since")
    rows = [("haiku", "0.25", "0.3", "2026-10-01"), ("opus", "5", "-", "-")]
    tell_table([titles, *rows])
    assert capsys.readouterr().out.splitlines()[2:] == [
        "haiku   0.25   0.3  2026-10-01",
        "opus    5.00     -  -",
    ]
