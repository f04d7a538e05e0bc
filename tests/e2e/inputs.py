"""Input files of every kind, and the configuration that makes tests quick."""

import gzip
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

Row = dict[str, Any]

MODELS = ("claude-haiku-4-5", "claude-sonnet-4-6", "claude-opus-5-5")
PAUSES = "[[pause:2]]"
_SEARCH = {"type": "web_search_20250305", "name": "web_search", "max_uses": 3}
# What a prompt may order from the simulator, and how many rows in a hundred do.
_ORDERS = (
    ("", 70),
    ("[[stop:refusal]]", 3),
    ("[[stop:refusal]][[output:9]]", 2),
    ("[[stop:stop_sequence]]", 3),
    ("[[stop:tool_use]]", 2),
    ("[[stop:model_context_window_exceeded]]", 2),
    ("[[stop:something_new]]", 2),
    ("[[output:500]]", 4),  # more than max_tokens
    (PAUSES, 5),
    ("[[usage:cache]]", 7),
)

QUICK = """
[retry]
first_wait_seconds = 0.02
max_wait_seconds = 0.2
"""


def row(number: int, order: str = "", **params: Any) -> Row:
    """A row of the Message Batches form; its custom_id is on the bill too."""
    custom_id = f"row-{number}"
    if order == PAUSES:
        params["tools"] = [_SEARCH]
    return {
        "custom_id": custom_id,
        "params": {
            "model": MODELS[number % len(MODELS)],
            "max_tokens": 160,
            "messages": [{"role": "user", "content": f"Question {number}. {order}"}],
            "metadata": {"user_id": custom_id},
            **params,
        },
    }


def rows(count: int, first: int = 0) -> list[Row]:
    """Plain rows with ascending numbers."""
    return [row(number) for number in range(first, first + count)]


def varied_rows(count: int, first: int = 0, seed: int = 1) -> list[Row]:
    """Rows that end in every way an answer can end, the same ones for the same seed."""
    orders, weights = zip(*_ORDERS, strict=True)
    drawn = random.Random(seed).choices(orders, weights, k=count)
    return [row(first + number, order) for number, order in enumerate(drawn)]


def jsonl_text(items: Sequence[Row]) -> bytes:
    return b"".join(json.dumps(item).encode() + b"\n" for item in items)


def write_jsonl(path: Path, items: Sequence[Row]) -> Path:
    """JSON lines, compressed when the name ends in .gz or .zst."""
    text = jsonl_text(items)
    match path.suffix:
        case ".gz":
            path.write_bytes(gzip.compress(text))
        case ".zst":
            with pa.CompressedOutputStream(str(path), "zstd") as stream:
                stream.write(text)
        case _:
            path.write_bytes(text)
    return path


def write_parquet(path: Path, items: Sequence[Row]) -> Path:
    """The same rows as Parquet, in several row groups; `params` is JSON text."""
    columns = {
        "custom_id": [item["custom_id"] for item in items],
        "params": [json.dumps(item["params"]) for item in items],
        "note": [f"stays here {number}" for number in range(len(items))],
    }
    pq.write_table(pa.table(columns), path, row_group_size=500)
    return path
