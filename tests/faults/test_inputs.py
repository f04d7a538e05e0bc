"""Faults of the input: every row is answered or has its reason, and nothing bad is sent."""

import json

import pytest

from batcher.errors import BatcherError
from batcher.rows.build.requests import RequestBuilder
from batcher.rows.read.check import check_source
from batcher.rows.read.source import find_sources
from tests.faults.inputs import CHANGES, FILES, GOOD, ROWS
from tests.making_runs import Case, FakeLane, answered, prompt_of, row


@pytest.fixture
def case(tmp_path, sqlite_url):
    return Case(folder=tmp_path, database=sqlite_url)


@pytest.mark.parametrize("fault", ROWS, ids=lambda fault: fault.id)
def test_a_row_that_cannot_be_sent(case, fault):
    lines = [GOOD[0], fault.line, GOOD[1]]
    path = case.folder / "rows.jsonl"
    path.write_bytes(b"\n".join(lines) + b"\n")
    lane = FakeLane()
    assert case.run(lane).exit_code == 65
    failures = case.ask("SELECT row_number, kind, reason FROM v_failures")
    assert failures == [(2, "quarantined", fault.expected)]
    assert sorted(lane.prompts) == ["row 1", "row 3"]  # nothing was sent, nothing can be billed
    mended = json.dumps(row("mended", "id-2")).encode()
    path.write_bytes(b"\n".join([GOOD[0], mended, GOOD[1]]) + b"\n")
    again = FakeLane()
    assert (case.run(again).exit_code, again.prompts) == (0, ["mended"])
    assert [number for number, _ in case.texts()] == [1, 2, 3]


@pytest.mark.parametrize("fault", FILES, ids=lambda fault: fault.id)
def test_a_file_that_cannot_be_read(case, fault):
    case.inputs, path = (fault.name,), case.folder / fault.name
    fault.make(path)
    lane = FakeLane()
    if fault.expected == "refused":
        with pytest.raises(BatcherError) as caught:
            _look_at(case)
        assert caught.value.exit_code == fault.exit
        return
    _look_at(case)
    assert case.run(lane).exit_code == fault.exit
    reasons = [reason for (reason,) in case.ask("SELECT reason FROM v_failures")]
    assert reasons == [fault.expected] * (fault.exit == 65)
    assert len(case.texts()) == len(lane.sent)
    assert fault.answered in {-1, len(lane.sent)}


def _look_at(case: Case) -> None:
    """As every command does before it sends anything."""
    for source in find_sources(case.inputs, base=case.folder, spool=None):
        check_source(source, RequestBuilder(case.settings))


@pytest.mark.parametrize("fault", CHANGES, ids=lambda fault: fault.id)
def test_a_file_that_changes_while_it_is_read(case, fault):
    path = case.write(row(f"row {n}", f"id-{n}", system="x" * 700) for n in range(fault.rows))

    def script(attempt):
        if prompt_of(attempt) == "row 0":
            fault.change(path)
        return answered()

    ended = case.run(FakeLane(script))
    assert ended.exit_code == fault.exit, case.ask("SELECT row_number, reason FROM v_failures")
    last = FakeLane()
    assert case.run(last).exit_code == 0
    assert len(case.texts()) == fault.left
    assert case.one("SELECT COUNT(*) FROM v_answers") == fault.left
    sent = case.ask("SELECT custom_id FROM v_attempts")
    assert len(sent) == len(set(sent)), "a row was sent twice"
