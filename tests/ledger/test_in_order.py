"""What goes into a column is said by name, and handed over by position."""

import subprocess
import sys
import traceback
from typing import Any

import pytest

from batcher.ledger.write.encode import Row, in_order_of
from tests.ledger.settling import RunLedger


def pair(left: int, right: int) -> Row:
    total = left + right
    return {
        "sum": total,
        "left": left,
        "share": left / total,
    }


@pytest.mark.parametrize("names", [("left", "share", "sum"), ("sum", "left", "share")])
def test_the_values_come_in_the_order_of_the_names(names):
    row = pair(1, 3)
    assert in_order_of(names)(pair)(1, right=3) == tuple(row[name] for name in names)


@pytest.mark.parametrize("names", [("left", "share"), ("left", "share", "sum", "right")])
def test_a_name_too_many_or_too_few_is_told_at_once(names):
    with pytest.raises(ValueError, match="pair and its statement differ in"):
        in_order_of(names)(pair)


def indirect() -> Row:
    row = pair(1, 3)
    return row  # noqa: RET504


def test_a_function_that_does_not_end_with_its_row_is_refused():
    with pytest.raises(ValueError, match="does not end with the row"):
        in_order_of(("sum", "left", "share"))(indirect)


def test_an_error_is_where_the_source_has_it():
    with pytest.raises(ZeroDivisionError) as raised:
        in_order_of(("sum", "left", "share"))(pair)(0, 0)
    frame = traceback.extract_tb(raised.value.__traceback__)[-1]
    assert (frame.filename, frame.line) == (__file__, '"share": left / total,')


def test_without_the_source_the_values_are_the_same():
    made: dict[str, Any] = {}
    exec("def pair(left, right):\n    return {'right': right, 'left': left}", made)
    assert in_order_of(("left", "right"))(made["pair"])(1, right=2) == (1, 2)


def test_where_the_interpreter_keeps_no_places_the_values_are_the_same(tmp_path):
    (tmp_path / "fresh.py").write_text(
        "from batcher.ledger.write.encode import in_order_of\n"
        "@in_order_of(('left', 'right'))\n"
        "def pair(left, right):\n"
        "    return {\n"
        "        'right': right,\n"
        "        'left': left,\n"
        "    }\n"
        "print(pair(1, right=2))\n"
    )
    command = [sys.executable, "-X", "no_debug_ranges", "fresh.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "(1, 2)\n"


@pytest.fixture
def ledger(database_url):
    made = RunLedger(database_url)
    yield made
    made.engine.dispose()


def test_what_is_said_by_name_is_in_the_column_of_that_name(ledger):
    usage = {
        "input_tokens": 11,
        "cache_creation": {"ephemeral_5m_input_tokens": 12, "ephemeral_1h_input_tokens": 13},
        "cache_read_input_tokens": 14,
        "output_tokens": 15,
        "server_tool_use": {"web_search_requests": 16},
        "service_tier": "standard",
    }
    ledger.write(
        ledger.answered(usage, joined_text="both", valid=False, invalid_reason="short")
    )
    tokens = "input_tokens, cache_write_5m_tokens, cache_write_1h_tokens, cache_read_tokens"
    used = f"{tokens}, output_tokens, web_search_requests, service_tier"
    told = "joined_text, valid, invalid_reason, stop_reason, legs, latency_us"
    assert ledger.ask(f"SELECT {used}, {told} FROM answers") == [
        (11, 12, 13, 14, 15, 16, "standard", "both", 0, "short", "end_turn", 1, 1)
    ]
    quantities = "input_quantity, cache_write_5m_quantity, cache_write_1h_quantity"
    rest = "cache_read_quantity, output_quantity, web_search_quantity"
    assert ledger.ask(f"SELECT {quantities}, {rest} FROM charges") == [(11, 12, 13, 14, 15, 16)]
    amounts = rest.replace("quantity", "amount")
    read, written, searched = 1_400_000, 150_000_000, 160_000_000_000
    assert ledger.ask(f"SELECT {amounts} FROM charges") == [(read, written, searched)]
