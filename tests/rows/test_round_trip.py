"""The same requests out of JSONL and Parquet, up to what goes over the wire."""

import asyncio
import json

import msgspec
import pyarrow as pa
import pytest
from pyarrow import parquet as pq

from batcher.clock import SystemClock
from batcher.messages.request import Request
from batcher.preflight.preflight import Preflight
from batcher.preflight.rules import shipped_rules
from batcher.rows.build.body import FIELDS
from batcher.rows.build.settings import RequestSettings
from batcher.simulator.server import Simulator
from batcher.transport.endpoint import Endpoint, Secret
from batcher.transport.live.client import HttpClient
from tests.rows.corpus import corpus, text
from tests.rows.making import items, source

CORPUS = corpus()
BARE = RequestSettings(pass_fields=("future_field",))
NAMES = [*FIELDS, "future_field"]
BY_NAME = pytest.mark.parametrize(
    ("params", "betas"), [c[1:] for c in CORPUS], ids=[c[0] for c in CORPUS]
)


def row(params, betas):
    return {"params": params, **({"betas": list(betas)} if betas else {})}


@pytest.fixture(scope="module")
def of_jsonl(tmp_path_factory):
    """The requests of the corpus as JSONL in the Batches form, with odd spaces and escapes."""
    lines = [json.dumps(row(p, b), separators=(" ,", " : ")) for _, p, b in CORPUS]
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    return items(source(path, "\n".join(lines).encode() + b"\n"), BARE)


def test_the_corpus_is_varied():
    assert len({name for name, _, _ in CORPUS}) == len(CORPUS) >= 200
    assert {name for _, params, _ in CORPUS for name in params} >= FIELDS.keys() - {
        "fallback_credit_token",
        "billing_policy",
    }


def test_jsonl_is_sent_as_its_bytes_came(of_jsonl):
    for (name, params, betas), request in zip(CORPUS, of_jsonl, strict=True):
        assert isinstance(request, Request), (name, request)
        assert request.body == json.dumps(params, separators=(" ,", " : ")).encode(), name
        assert request.betas == betas


def test_parquet_with_params_as_text_gives_the_same_bytes(of_jsonl, tmp_path):
    texts = [json.dumps(p, separators=(" ,", " : ")) for _, p, _ in CORPUS]
    betas = [list(b) or None for _, _, b in CORPUS]
    table = pa.table({"params": [f" {t}\n" for t in texts], "betas": betas})
    pq.write_table(table, tmp_path / "rows.parquet")
    requests = items(source(tmp_path / "rows.parquet"), BARE)
    assert [r.body for r in requests] == [r.body for r in of_jsonl]
    assert [r.params_hash for r in requests] == [r.params_hash for r in of_jsonl]


def cell(name, value):
    """A field as a column of text or numbers holds it."""
    if value is None or isinstance(value, str | int | float):
        return value
    return json.dumps(value)


def test_parquet_with_a_column_of_text_per_field_gives_the_same_bytes(tmp_path):
    ordered = [{n: p[n] for n in NAMES if n in p} for _, p, _ in CORPUS]
    plain = [p for p in ordered if "future_field" not in p]  # no API field: never read as JSON
    lines = b"".join(msgspec.json.encode(p) + b"\n" for p in plain)
    of_lines = items(source(tmp_path / "rows.jsonl", lines), BARE)
    columns = {n: [cell(n, p.get(n)) for p in plain] for n in FIELDS}
    pq.write_table(pa.table(columns), tmp_path / "rows.parquet")
    of_columns = items(source(tmp_path / "rows.parquet"), BARE)
    assert [r.body for r in of_columns] == [r.body for r in of_lines]
    assert len(of_columns) > 190


def without_nulls(value):
    if isinstance(value, dict):
        return {n: without_nulls(v) for n, v in value.items() if v is not None}
    return [without_nulls(v) for v in value] if isinstance(value, list) else value


def carried(params, path):
    """Whether Arrow can hold these values: no list that mixes types, no empty object."""
    try:
        pq.write_table(pa.Table.from_pylist([{"params": params}]), path)
    except (pa.ArrowException, NotImplementedError):
        return False
    return True


def in_blocks(params):
    """The same with every content a list of blocks: a column cannot hold texts and lists."""
    messages = [
        {**m, "content": [text(m["content"])]} if isinstance(m["content"], str) else m
        for m in params["messages"]
    ]
    return {**params, "messages": messages}


def test_nested_parquet_values_give_equal_json(tmp_path):
    path, count = tmp_path / "rows.parquet", 0
    for name, given, _ in CORPUS:
        params = in_blocks(given)
        if carried(params, path):
            (request,) = items(source(path), BARE)
            assert isinstance(request, Request), (name, request)
            assert json.loads(request.body) == without_nulls(params), name
            count += 1
    assert count > 195


def test_nested_columns_per_field_give_equal_json(tmp_path):
    path = tmp_path / "rows.parquet"
    chosen = [p for n, p, _ in CORPUS if n.endswith((": a text block", "an image by URL"))]
    pq.write_table(pa.Table.from_pylist(chosen), path)
    bodies = [json.loads(request.body) for request in items(source(path), BARE)]
    assert bodies == chosen


@BY_NAME
def test_the_first_party_is_known_to_refuse_none_of_it(params, betas):
    rules = Preflight(
        shipped_rules(),
        api_version="2023-06-01",
        dialect="anthropic",
        endpoint_name="anthropic",
    )
    assert rules.problem(params, betas) is None


class Recording(Simulator):
    """Keeps what it received."""

    def __init__(self):
        super().__init__()
        self.received = []

    async def _messages(self, request, request_id):
        beta = request.headers.get("anthropic-beta")
        self.received.append((await request.read(), beta))
        return await super()._messages(request, request_id)


def test_what_the_simulator_receives_is_the_body(of_jsonl):
    statuses = []

    async def send():
        async with Recording() as simulator:
            endpoint = Endpoint(name="simulator", base_url=simulator.base_url)
            client = HttpClient(endpoint, Secret("sk-test"), SystemClock())
            for number, request in enumerate(of_jsonl):
                reply = await client.post_message(request.body, f"u{number}", request.betas)
                statuses.append(reply.status)
            await client.close()
            return simulator.received

    received = asyncio.run(send())
    assert received == [(r.body, ",".join(r.betas) or None) for r in of_jsonl]
    refused = {n for (n, _, _), s in zip(CORPUS, statuses, strict=True) if s != 200}
    assert {name.split(": ")[1] for name in refused} == {"an unknown field", "a future block"}
