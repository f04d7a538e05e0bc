"""Streams through a whole run: the same answers, the same costs, and breaks in doubt."""

import json
from dataclasses import replace

import msgspec
import pytest

from batcher.messages.request import StreamMode
from batcher.rows.build.settings import RequestSettings
from batcher.transport.endpoint import Auth
from tests.bill import cost_pico_usd, total_pico_usd
from tests.making_runs import MODEL, Case, endpoint_of, row, simulating
from tests.simulator.asking import TOOL, WEB_SEARCH

FORMS = (
    "crlf", "cr", "data_only", "comments", "multi_data", "no_blank", "no_ping", "no_stop",
    "two_deltas", "done", "unknown_event", "unknown_delta", "overlap", "json", "split=1",
    "split=7,crlf,comments,unknown_delta",
)  # fmt: skip
THINKING = {"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 3000}


@pytest.fixture
def simulator():
    with simulating(trickle_ms=0) as started:
        yield started


def case_of(folder, database, simulator, **endpoint):
    folder.mkdir(exist_ok=True)
    return Case(folder=folder, database=database, endpoint=endpoint_of(simulator, **endpoint))


def every_kind():
    """Rows of every kind; none of them breaks."""
    yield from (row(f"[[stream:{form}]] ☃ {form}", form, stream=True) for form in FORMS)
    yield row("plain", "plain")
    yield row("thinking", "thinking", **THINKING)
    yield row("[[output:30000]] long", "long", max_tokens=30_000)
    yield row("tool", "tool", stream=True, tools=[TOOL])
    yield row("search", "search", stream=True, tools=[WEB_SEARCH])
    yield row("[[pause:2]] pauses", "pauses", stream=True)
    yield row("[[stop:refusal]] no", "refused", stream=True)
    yield row("[[usage:nulls]] sunra", "nulls", stream=True)
    yield row("[[usage:two_fields]] crun", "two", stream=True)
    yield row("[[usage:openai]] other", "openai", stream=True)
    yield row("[[usage:null]] nothing", "null", stream=True)


COLUMNS = (
    "custom_id, stop_reason, text, content, input_tokens, cache_read_tokens, output_tokens,"
    " thinking_tokens, service_tier, legs, cost_pico_usd, cost_status"
)


def answers(case):
    found = case.ask(f"SELECT {COLUMNS} FROM v_answers ORDER BY custom_id")
    return [(*line[:3], json.loads(line[3]), *line[4:]) for line in found]


def test_streamed_answers_are_those_that_come_whole(tmp_path, simulator, database_url):
    cases = [
        case_of(tmp_path / "auto", database_url, simulator),
        case_of(tmp_path / "never", str(tmp_path / "n.db"), simulator, stream=StreamMode.NEVER),
    ]
    for case in cases:
        case.write(every_kind())
        assert case.run().exit_code == 0
    streamed, plain = (answers(case) for case in cases)
    assert len(streamed) == len(list(every_kind()))
    for one, other in zip(streamed, plain, strict=True):
        assert one == other


def test_only_streamed_answers_have_a_first_token(tmp_path, simulator, sqlite_url):
    case = case_of(tmp_path, sqlite_url, simulator)
    case.write([row("a", "a"), row("b", "b", stream=True), row("c", "c", **THINKING)])
    case.run()
    query = "SELECT custom_id FROM v_answers WHERE first_token_ms IS NOT NULL ORDER BY 1"
    assert case.ask(query) == [("b",), ("c",)]
    slower = "SELECT count(*) FROM v_answers WHERE first_token_ms > latency_ms"
    assert case.one(slower) == 0


def test_an_output_that_the_server_did_not_count_is_assumed(tmp_path, simulator, sqlite_url):
    case = case_of(tmp_path, sqlite_url, simulator)
    case.write([row("[[stream:no_usage]] hi", stream=True)])
    case.run()
    query = "SELECT input_tokens > 0, output_tokens, cost_status FROM v_answers"
    assert case.ask(query) == [(1, None, "assumed")]
    ends = "SELECT cost_low_pico_usd, cost_high_pico_usd FROM v_answers"
    ((low, high),) = case.ask(ends)
    assert 0 < low < total_pico_usd(map(msgspec.structs.asdict, simulator.bill)) < high


BREAKS = ["200_cut", "stream_error", "reset_after_headers"]


def broken_rows():
    """Each breaks at another event, once, and is then answered; all of them were an outage."""
    for fault in BREAKS:
        for at in range(1, 14):
            name = f"{fault}-{at}"
            for whole in "abc":
                yield row(f"[[custom:{name}{whole}]] whole", f"{name}{whole}", stream=True)
            prompt = f"[[fault:{fault}*1]] [[stream:at={at}]] {name} {'word ' * at}"
            yield row(f"[[custom:{name}]] {prompt}", name, stream=True)


def test_what_breaks_is_in_doubt_between_bounds_that_hold_the_bill(
    tmp_path, simulator, database_url
):
    case = case_of(tmp_path, database_url, simulator)
    case.write(broken_rows())
    assert case.run().exit_code == 0
    bill = {line.attempt_uid: line for line in simulator.bill}
    found = case.ask(
        "SELECT attempt_uid, state, cost_low_pico_usd, cost_high_pico_usd FROM v_attempts"
    )
    assert {uid for uid, *_ in found} == set(bill)
    for uid, state, low, high in found:
        billed = cost_pico_usd(msgspec.structs.asdict(bill[uid]))
        assert low <= billed <= high
        assert (low > 0) == (state in {"partial", "answered"})
        if state == "answered":
            assert low == billed == high
    states = dict(case.ask("SELECT state, count(*) FROM v_attempts GROUP BY state"))
    assert states["answered"] == len(list(broken_rows()))
    assert states["partial"] >= 3 * 9


def test_broken_answers_are_kept_and_are_no_answers(tmp_path, simulator, sqlite_url):
    case = case_of(tmp_path, sqlite_url, simulator)
    case.write(
        [row("[[fault:200_cut*1]] [[output:100]] [[stream:at=8]] hi there", "a", stream=True)]
    )
    case.run()
    stored = case.ask("SELECT final, text <> '', usage <> '' FROM answers ORDER BY attempt_id")
    assert stored == [(0, 1, 1), (1, 1, 1)]
    assert case.ask("SELECT final, state FROM v_answers_all") == [(1, "answered")]
    totals = "SELECT requests, attempts, output_tokens, in_doubt_low_pico_usd > 0"
    output = case.one("SELECT output_tokens FROM v_answers")
    assert case.ask(f"{totals} FROM v_cost_by_model_day") == [(1, 2, output, 1)]
    assert case.one("SELECT count(*) FROM charges") == 1


def test_a_row_that_breaks_three_times_is_parked(tmp_path, simulator, sqlite_url):
    case = case_of(tmp_path, sqlite_url, simulator)
    # The healthy row goes first: what breaks before anything was answered may be an outage.
    case.write([row("fine", stream=True), row("[[fault:200_cut]] hi", stream=True)])
    assert case.run().exit_code == 65
    assert case.ask("SELECT kind, reason FROM v_failures") == [("held", "parked_in_doubt")]
    assert len(simulator.bill) == 4


def test_a_leg_that_broke_is_no_part_of_the_answer(tmp_path, simulator, sqlite_url):
    case = case_of(tmp_path, sqlite_url, simulator)
    prompt = "[[fault:200_cut*1]] [[output:100]] [[stream:at=8]] [[pause:1]] news"
    case.write([row(prompt, "a", stream=True)])
    assert case.run().exit_code == 0
    whole = case_of(tmp_path / "whole", str(tmp_path / "w.db"), simulator)
    whole.write([row(prompt, "a", stream=True)])
    assert whole.run().exit_code == 0
    query = "SELECT text, legs, input_tokens, output_tokens FROM v_answers"
    assert case.ask(query) == whole.ask(query)


@pytest.mark.parametrize(("said", "most"), [(None, 1), (False, 0)])
def test_an_error_before_the_message_is_free_where_the_provider_says_so(
    tmp_path, simulator, sqlite_url, said, most
):
    case = case_of(tmp_path, sqlite_url, simulator, errors_may_be_billed=said)
    case.write([row("[[fault:stream_refused*1]] hi", stream=True)])
    assert case.run().exit_code == 0
    query = "SELECT state, error_type, cost_high_pico_usd > 0 FROM v_attempts ORDER BY attempt"
    assert case.ask(query) == [("rejected", "overloaded_error", most), ("answered", None, 1)]
    assert case.one("SELECT cost_pico_usd FROM v_answers") == total_pico_usd(
        map(msgspec.structs.asdict, simulator.bill)
    )


def test_a_stream_and_a_plain_row_are_one_identity(tmp_path, simulator, sqlite_url):
    case = case_of(tmp_path, sqlite_url, simulator)
    case.write([row("same", "a")])
    case.run()
    case.write([row("same", "a", stream=True), row("new", "b", stream=True)])
    case.run()
    assert len(simulator.bill) == 2


@pytest.mark.parametrize("dialect", ["crun", "sunra"])
def test_streams_of_other_servers_are_understood(tmp_path, sqlite_url, dialect):
    with simulating(dialect=dialect) as other:
        base = other.base_url + ("/api/v1" if dialect == "crun" else "")
        case = case_of(tmp_path, sqlite_url, other)
        endpoint = replace(case.endpoint, base_url=base, auth=Auth.BEARER)
        settings = RequestSettings(model=f"anthropic/{MODEL}", max_tokens=99)
        case = replace(case, settings=settings, endpoint=endpoint)
        case.write([{"prompt": "one", "stream": True}, {"prompt": "two"}])
        assert case.run().exit_code == 0
        tokens = case.ask(
            "SELECT input_tokens, output_tokens FROM v_answers ORDER BY row_number"
        )
        assert tokens == [(line.input_tokens, line.output_tokens) for line in other.bill]
