"""Everything that is printed of one varied ledger is what its tables hold."""

import json
from datetime import UTC, datetime, timedelta
from decimal import localcontext

import pytest

from tests.e2e.audit import audit, truth_of
from tests.e2e.inputs import QUICK, row, write_jsonl

SEARCH = [{"type": "web_search_20250305", "name": "web_search", "max_uses": 3}]
CACHED = {"cache_control": {"type": "ephemeral"}}
HAIKU = {"model": "claude-haiku-5-5"}
KINDS = [
    ("", {}), ("[[usage:cache]]", CACHED), ("search", {"tools": SEARCH}), ("[[pause:2]]", {}),
    ("geo", {"model": "claude-opus-5-5", "inference_geo": "us"}), ("[[usage:openai]]", {}),
    ("fast", {"model": "claude-opus-5-5", "speed": "fast"}), ("[[usage:none]]", {}),
    ("[[usage:two_fields]]", CACHED), ("[[stop:refusal]]", {}), ("[[fault:400]]", {}),
    ("[[stop:refusal]][[output:9]]", {}), ("[[fault:200_cut]]", {}), ("small", HAIKU),
    ("[[fault:502_html*1]]", {}), ("[[fault:200_error*1]]", {}), ("[[model:claude-new-9]]", {}),
    ("[[input:150000]]", HAIKU), ("[[model:claude-opus-5-5]] dearer", {}),
]  # fmt: skip
PRICES = """
version = "own"
[lists.crun]
currency = "CRUN_CREDIT"
[[rates]]
list = "crun"
model = "claude-sonnet-4-6"
valid_from = 2026-01-01
input = "300"
output = "1500"
"""
KEYS = {"ANTHROPIC_API_KEY": "key-of-the-first", "CRUN_API_KEY": "key-of-the-second"}


@pytest.fixture
def ledger(folder, simulate):
    """A folder with a ledger: two endpoints, credits, all kinds of usage, an adjustment."""
    first, second = simulate(), simulate("--dialect", "crun")
    (folder.path / "config.toml").write_text(
        f'prices = "own.toml"\n{QUICK}'
        f'[endpoints.anthropic]\nbase_url = "{first.url}"\n'
        f'[endpoints.crun]\nbase_url = "{second.url}/api/v1"\nprice_list = "crun"\n'
    )
    (folder.path / "own.toml").write_text(PRICES)
    numbered = enumerate(KINDS * 2)
    write_jsonl(folder.path / "a.jsonl", [row(n, f"{n} {o}", **p) for n, (o, p) in numbered])
    write_jsonl(folder.path / "b.jsonl", [row(n, model="claude-sonnet-4-6") for n in range(4)])
    assert folder.batcher("run", "a.jsonl", "--tag", "team=red", **KEYS).code == 65
    assert folder.batcher("run", "b.jsonl", "-e", "crun", **KEYS).code == 0
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    cost = {"amount": "123.4", "currency": "USD", "cost_type": "code_execution"}
    days = {"starting_at": f"{yesterday}T00:00:00Z", "results": [cost],
            "ending_at": f"{yesterday + timedelta(days=1)}T00:00:00Z"}  # fmt: skip
    (folder.path / "costs.json").write_text(json.dumps({"data": [days], "has_more": False}))
    done = folder.batcher("reconcile", "costs.json", "-e", "anthropic", "--record")
    assert done.code == 0, done.err
    return folder


def test_all_that_is_printed_of_a_ledger_is_what_its_tables_hold(ledger, tmp_path):
    database = str(ledger.path / "batcher.db")

    def typed(*words: object) -> bytes:
        ended = ledger.batcher(*words)
        assert ended.code == 0, ended.err
        return ended.out.encode()

    with localcontext(prec=60):
        assert len(list(audit(database, typed, tmp_path))) == 10
    truth = truth_of(database)
    kinds = {charge["status"] for charge in truth.charges}
    assert kinds == {"priced", "assumed", "unpriced", "unbilled"}
    assert truth.doubt_high
    assert truth.refused_high
    assert truth.adjusted == 1_234 * 10**9
    assert {currency for _, currency in truth.cost} == {"USD", "CRUN_CREDIT"}
