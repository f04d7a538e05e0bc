"""docs/failures.md is the table of failures: each of its rows is what the code does."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from batcher.config.endpoints import endpoint_named, endpoint_names
from batcher.messages.failure import (
    STATUS_OF_TYPE,
    VERDICTS,
    Verdict,
    classify,
    retry_after_seconds,
)

PACKAGE = Path(__file__).parent.parent.parent / "batcher"
PAGE = (PACKAGE.parent / "docs/failures.md").read_text()
NOW_US = int(datetime(2026, 11, 1, tzinfo=UTC).timestamp()) * 1_000_000


def table(heading):
    """The rows under the header line that begins with `heading`, without code marks."""
    block = PAGE.split(f"\n| {heading} |")[1].split("\n\n")[0]
    lines = block.splitlines()[2:]
    return [[cell.strip().strip("`") for cell in line[1:-1].split("|")] for line in lines]


def verdict(status, body=b"", headers=None, overrides=None):
    return classify(status, headers or {}, body, NOW_US, overrides or {}).verdict


def test_every_class_is_explained():
    assert [Verdict(name) for name, *_ in table("class | what happens")] == list(Verdict)


def test_the_page_has_one_row_for_each_case_of_the_table():
    shown = {
        (None if status == "any" else int(status), None if code == "any" else code): what
        for status, code, what, _ in table("status | code")
    }
    assert shown == VERDICTS
    assert len(table("status | code")) == len(VERDICTS)


def test_a_spend_limit_in_words_is_on_the_page():
    words = re.search(r"`(specified API usage limits)`", PAGE)[1]
    body = json.dumps({"error": {"type": "x", "message": f"Your {words} are reached"}}).encode()
    assert verdict(400, body) is Verdict.STOP_ACCESS


def test_families_of_statuses_are_those_of_the_page():
    shown = {name.split()[-1][0]: Verdict(what) for name, what, _ in table("status | class")}
    assert shown.keys() == set("345")
    for status in range(300, 600):
        if (status, None) not in VERDICTS:
            assert verdict(status) is shown[str(status)[0]], status


def test_types_count_as_the_statuses_of_the_page():
    assert {name: int(status) for name, status in table("type | counts as")} == STATUS_OF_TYPE


@pytest.mark.parametrize("row", table("body | status"), ids=str)
def test_error_bodies_are_read_as_the_page_says(row):
    body, status, error_type, code, message = row
    failure = classify(int(status), {}, body.encode(), NOW_US, {})
    found = (failure.error_type, failure.error_code or "", failure.message)
    assert found == (error_type, code, message)


STATUS_OF_VERDICT = {
    Verdict.RETRY_ROW: 500,
    Verdict.FAIL_ROW: 400,
    Verdict.PAUSE_QUOTA: 429,
    Verdict.OVERLOADED: 529,
    Verdict.STOP_ACCESS: 401,
    Verdict.STOP_CONFIGURATION: 404,
}


def test_should_retry_changes_what_the_page_says_and_nothing_else():
    rows = table("class by the tables")
    assert {Verdict(before) for before, *_ in rows} == set(Verdict)
    shown = {
        (Verdict(before), wish): Verdict(after)
        for before, asked, after in rows
        for wish in re.findall("true|false", asked)
    }
    for before, status in STATUS_OF_VERDICT.items():
        assert verdict(status) is before
        for wish in ("true", "false"):
            after = shown.get((before, wish), before)
            assert verdict(status, headers={"x-should-retry": wish}) is after


@pytest.mark.parametrize("row", table("headers | seconds"), ids=str)
def test_waits_are_read_as_the_page_says(row):
    headers = dict(h.strip("`").split(": ", 1) for h in re.split(r"`, `", row[0]))
    expected = None if row[1] == "none" else float(row[1])
    assert retry_after_seconds(headers, NOW_US) == expected


def test_the_endpoints_with_a_meaning_of_their_own_are_on_the_page(monkeypatch):
    for name in ("AWS_REGION", "ANTHROPIC_AWS_WORKSPACE_ID", "ANTHROPIC_FOUNDRY_RESOURCE"):
        monkeypatch.setenv(name, "example")
    shown = {(name, int(status)): what for name, status, what in table("endpoint | status")}
    endpoints = [endpoint_named(name, {}) for name in endpoint_names({})]
    assert shown == {(e.name, n): v for e in endpoints for n, v in e.verdicts.items()}
    for (_, status), what in shown.items():
        assert verdict(status, overrides={status: Verdict(what)}) is Verdict(what)


def test_every_reason_of_our_own_is_on_the_page():
    shown = {name for cell, *_ in table("reason") for name in re.findall(r"\w+", cell)}
    source = "".join(
        (PACKAGE / name).read_text()
        for name in (
            "transport/live/bodies.py",
            "transport/live/client.py",
            "transport/live/connections.py",
            "transport/live/credentials.py",
            "transport/live/live_lane.py",
            "pipeline/engine/decide.py",
            "ledger/write/corrections.py",
            "ledger/runs.py",
        )
    )
    before = r"SendError\(|_stopped\(\n? *|error_type=|(?:DIED: Final|ABORTED) = |"
    before += r"Error, |Exception, "
    named = rf'(?:{before})"([a-z_]+)"'
    assert set(re.findall(named, source)) == shown
