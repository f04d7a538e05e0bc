"""Rows damaged in every way, and a second opinion on them that shares no code with ours.

The judge is the standard library's JSON parser, strict: of a repeated field the last value
counts, numbers must be finite, texts must be Unicode.
"""

import json
import random
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

from batcher.messages.request import BadRow, Request
from batcher.rows.build.requests import RequestBuilder
from batcher.rows.build.settings import RequestSettings
from tests.rows.corpus import corpus

MODEL, MAX_TOKENS = "m-of-the-job", 77
MOST_REMEMBERED = 50_000
UNREADABLE = {"BAD_JSON", "BAD_NUMBER", "BAD_UNICODE", "NOT_OBJECT", "TOO_DEEP"}
# The body fields of the API, written down a second time.
API_FIELDS = {
    "model",
    "messages",
    "max_tokens",
    "system",
    "stream",
    "stop_sequences",
    "temperature",
    "top_p",
    "top_k",
    "metadata",
    "tools",
    "tool_choice",
    "thinking",
    "output_config",
    "cache_control",
    "service_tier",
    "inference_geo",
    "speed",
    "container",
    "diagnostics",
    "context_management",
    "compaction",
    "mcp_servers",
    "fallbacks",
    "fallback_credit_token",
    "thread",
    "billing_policy",
    "output_format",
}
PIECES = [
    b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b" ", b"\t", b"\r", b"\0", b"\x01",
    b"\x7f", b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xf4\x90\x80\x80",
    b"\xc0\xaf",
    b"\\u0000", b"\\u0022", b"\\u005c", b"\\ud800", b"\\udc00", b"\\ud83d\\ude42", b"\\u00e9",
    b"\\x41", b"null", b"true", b"NaN", b"-Infinity", b"1e999", b"1e-999", b"-0", b"00", b"0x1",
    b"18446744073709551616", b"9" * 30, b"1.5", b"1.", b"{}", b"[]", b"[[[[[[[[", b"}}}}",
    b'"custom_id":', b'"custom_id":"b",', b'"params":', b'"params":{},', b'"model":"x",',
    b'"max_tokens":9,', b'"stream":true,', b'"messages":[],', b'"prompt":"p",', b'"id":7,',
    b'"betas":["b"],', b"// c", b"/**/", b"'", b"\xe2\x80\xa8", b"{}" * 3,
]  # fmt: skip


def seeds() -> list[bytes]:
    """Sound rows of every form, to be damaged."""
    params = [params for _, params, betas in corpus() if not betas]
    rows: list[Any] = [{"custom_id": f"c{n}", "params": p} for n, p in enumerate(params)]
    rows += [{"id": n, "note": "local", **p} for n, p in enumerate(params[::3])]
    rows += [
        {"custom_id": "ü", "prompt": 'say "é\\\u2028" 🙂', "system": "be brief", "x": 1.25},
        {
            "prompt": "a",
            "temperature": 0.1,
            "top_k": 3,
            "extra": [{"deep": [1, 2, {"y": None}]}],
        },
    ]
    lines = [json.dumps(row).encode() for row in rows]
    lines += [
        json.dumps(row, separators=(",", ":"), ensure_ascii=False).encode() for row in rows
    ]
    deep = b'{"prompt":"a","x":' + b"[" * 97 + b"]" * 97 + b"}"
    twice = b'{"params":{"messages":[{"role":"user","content":"a","content":"b"}]}}'
    return [*lines, deep, twice]


def mutated(chance: random.Random, rows: list[bytes]) -> bytes:
    """One row, damaged in up to five places (now and then in none)."""
    line = chance.choice(rows)
    for _ in range(chance.choice((0, 1, 1, 1, 2, 2, 3, 5))):
        at = chance.randrange(len(line) + 1)
        to = min(len(line), at + chance.choice((0, 0, 1, 1, 2, 8, 40)))
        match chance.randrange(6):
            case 0 | 1:
                line = line[:at] + chance.choice(PIECES) + line[to:]
            case 2:
                line = line[:at] + chance.randbytes(1) + line[at + 1 :]
            case 3:
                line = line[:at] + line[to:]
            case 4:
                line = line[:to] + line[at:to] * chance.randrange(1, 3) + line[to:]
            case _:
                other = chance.choice(rows)
                cut = chance.randrange(len(other) + 1)
                line = line[:at] + other[cut : cut + chance.choice((5, 50, 5000))] + line[to:]
    return line.replace(b"\n", b" ")


class Refused(Exception):  # noqa: N818 - it is what the row is
    """The judge does not take it for a row."""


def judged(line: bytes) -> dict[str, Any]:
    """The fields of a row, by the standard library; raises `Refused`."""
    try:
        text = line.decode()
        row = json.loads(text, parse_constant=_no_number, parse_float=_finite)
        everything = json.loads(text, object_pairs_hook=list)  # values that are lost, too
        json.dumps(everything, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as exc:
        raise Refused(str(exc)) from exc
    if not isinstance(row, dict) or _depth(row) > 100 or _has_nul_key(row):
        raise Refused("no row")
    return row


def _no_number(word: str) -> None:
    raise ValueError(word)


def _finite(digits: str) -> float:
    number = float(digits)
    if number in {float("inf"), float("-inf")}:
        raise ValueError(digits)
    return number


def _parts(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _depth(value: Any) -> int:
    level, depth = [value], 0
    while level := [part for part in level if isinstance(part, dict | list)]:
        depth += 1
        level = [inner for part in level for inner in _parts(part)]
    return depth


def _has_nul_key(value: Any) -> bool:
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict) and any("\0" in name for name in part):
            return True
        waiting += _parts(part)
    return False


def expected_body(row: dict[str, Any]) -> dict[str, Any] | None:
    """What must be sent for a row that was accepted; `None`: it may not be."""
    if row.get("params") is not None:
        body = row["params"]
    elif row.get("messages") is not None:
        body = {n: v for n, v in row.items() if n in API_FIELDS and v is not None}
    elif isinstance(row.get("prompt"), str) and not (row.get("images") or row.get("documents")):
        body = {n: v for n, v in row.items() if n in API_FIELDS and v is not None}
        body["messages"] = [{"role": "user", "content": row["prompt"]}]
    else:
        return None
    if not isinstance(body, dict):
        return None
    absent = {n: v for n, v in _DEFAULTS.items() if body.get(n) is None}
    body = body | absent
    if isinstance(body.get("tool_choice"), str):
        body = body | {"tool_choice": {"type": body["tool_choice"]}}
    return body


_DEFAULTS = {"model": MODEL, "max_tokens": MAX_TOKENS}


def expected_id(row: dict[str, Any]) -> str | None:
    """The custom_id of a row that was accepted."""
    value = row.get("custom_id")
    if value is None:
        value = row.get("id")
        if type(value) not in {str, int}:
            return None
    return str(value) or None


def canonical(value: Any) -> str:
    """Equal for equal JSON values, and for no others: 1, 1.0 and true are three."""
    return json.dumps(value, sort_keys=True)


class Judge:
    """Compares what became of rows with what must; remembers identities to find wrong ones."""

    def __init__(self) -> None:
        self._builder = RequestBuilder(RequestSettings(model=MODEL, max_tokens=MAX_TOKENS))
        self._meaning: OrderedDict[bytes, str] = OrderedDict()
        self._name: OrderedDict[str, bytes] = OrderedDict()
        self.accepted = self.refused = self.repeated = 0

    def check(self, line: bytes) -> None:
        """Build the row; raises `AssertionError` when anything about it is wrong."""
        found = self._builder.build(line, 1, 1, 0)
        try:
            row = judged(line)
        except Refused:
            assert isinstance(found, BadRow), "what no parser takes is not sent"
            assert found.reason in UNREADABLE, found
            self.refused += 1
            return
        if isinstance(found, BadRow):
            assert found.reason not in UNREADABLE, found
            assert len(found.message) <= 500
            found.message.encode()
            self.refused += 1
            return
        self._check_request(found, row)
        self.accepted += 1

    def _check_request(self, request: Request, row: dict[str, Any]) -> None:
        wanted = expected_body(row)
        assert wanted is not None, "a row without a prompt is not sent"
        sent = json.loads(request.body, object_pairs_hook=_no_repeats)
        meaning = canonical(wanted)
        assert canonical(sent) == meaning, "what is sent is what the row says"
        assert request.custom_id == expected_id(row)
        assert (request.model, request.max_tokens) == (wanted["model"], wanted["max_tokens"])
        unstreamed = canonical({n: v for n, v in wanted.items() if n != "stream"})
        betas = ",".join(sorted(request.betas))
        self._check_identity(request.params_hash, f"{unstreamed} {betas}")

    def _check_identity(self, name: bytes, meaning: str) -> None:
        """One name for each meaning, one meaning for each name."""
        self.repeated += name in self._meaning
        assert self._meaning.setdefault(name, meaning) == meaning, "two requests, one identity"
        assert self._name.setdefault(meaning, name) == name, "one request, two identities"
        if len(self._meaning) > MOST_REMEMBERED:
            self._meaning.popitem(last=False)
            self._name.popitem(last=False)


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    assert len(fields) == len(pairs), "a server could read another body than we did"
    return fields


def damaged_rows(seed: int, count: int) -> Iterator[bytes]:
    """The same rows for the same seed."""
    chance, rows = random.Random(seed), seeds()
    return (mutated(chance, rows) for _ in range(count))
