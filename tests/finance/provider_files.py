"""Saved reports of the provider, and the ledger that they speak of."""

import json

from tests.report.months import RATES

DAY = "2026-01-05"
MODEL = "claude-opus-5-5"
NAMES = ("input", "cache_write_5m", "cache_write_1h", "cache_read", "output", "web_search")
USED = (1000, 0, 0, 500, 200, 0)  # 0.004 + 0.0001 + 0.004 USD
RIGHT = {
    "uncached_input_tokens": "0.4",
    "cache_read_input_tokens": "0.01",
    "output_tokens": "0.4",
}


def begin(rows):
    """A ledger with one answer of 2026-01-05 at real rates."""
    rows.run()
    rows.invocation(1)
    rows.source(1)
    rates = zip((f"{name}_rate" for name in NAMES), RATES[MODEL], strict=True)
    rows.rate_set(model=MODEL, **dict(rates))
    charge(rows, rows.answer(1, 1, model=f"{MODEL}-20260922", inference_geo="not_available"))
    return rows


def charge(rows, attempt, used=USED, **fields):
    amounts = [quantity * rate for quantity, rate in zip(used, RATES[MODEL], strict=True)]
    quantities = dict(zip((f"{name}_quantity" for name in NAMES), used, strict=True))
    priced = dict(zip((f"{name}_amount" for name in NAMES), amounts, strict=True))
    fields = {"rate_set_id": 1, "model": MODEL, **quantities, **priced, **fields}
    rows.charge(attempt, sum(amounts), **fields)


def usage(tmp_path, *, name="usage.json", used=USED, end="2026-01-06", **fields):
    """A saved response of the usage report."""
    result = {
        "uncached_input_tokens": used[0],
        "cache_creation": {
            "ephemeral_5m_input_tokens": used[1], "ephemeral_1h_input_tokens": used[2],
        },
        "cache_read_input_tokens": used[3], "output_tokens": used[4],
        "server_tool_use": {"web_search_requests": used[5]}, "model": f"{MODEL}-20260922",
        "service_tier": "standard", "inference_geo": "not_available", "api_key_id": None,
    }  # fmt: skip
    return _saved(tmp_path / name, [result | fields], f"{end}T00:00:00Z")


def costs(tmp_path, cents, *, name="costs.json", end="2026-01-06T00:00:00Z", **fields):
    """A saved response of the cost report; `cents` by token type, as text."""
    results = [
        {"amount": amount, "currency": "USD", "cost_type": "tokens", "token_type": kind,
         "model": MODEL, "service_tier": "standard", "inference_geo": "global", **fields}
        for kind, amount in cents.items()
    ]  # fmt: skip
    return _saved(tmp_path / name, results, end)


def _saved(path, results, end):
    bucket = {"starting_at": f"{DAY}T00:00:00Z", "ending_at": end, "results": results}
    path.write_text(json.dumps({"data": [bucket], "has_more": False, "next_page": None}))
    return str(path)
