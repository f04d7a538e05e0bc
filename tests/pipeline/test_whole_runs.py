"""Whole invocations: rows in, answers and charges out."""

import json
import os
import pwd
from dataclasses import replace

import pytest
from msgspec import structs

from batcher.errors import (
    AccessRefused,
    ConfigurationError,
    Fenced,
    ProviderUnavailable,
    UsageError,
)
from batcher.ledger.connect import open_engine, writing
from batcher.messages.request import Answered
from batcher.messages.usage import Usage
from batcher.pacing.backoff import BreakerPolicy
from batcher.rows.build.requests import RequestBuilder
from tests import bill
from tests.making_runs import (
    MODEL,
    SETTINGS,
    Case,
    FakeLane,
    FastClock,
    answered,
    endpoint_of,
    exchange,
    in_turn,
    not_sent,
    prompt_of,
    refused,
    row,
    rows,
    simulating,
    unknown,
    unusable,
)


def test_every_row_is_answered_once_and_a_second_run_sends_nothing(on_both):
    on_both.write(rows(60))
    lane = FakeLane(lambda attempt: answered(f"re: {prompt_of(attempt)}"))
    ended = on_both.run(lane)
    assert (ended.exit_code, ended.rows_left, ended.progress.answered) == (0, False, 60)
    assert on_both.texts() == [(n, f"re: row {n}") for n in range(1, 61)]
    again = on_both.run(lane)
    assert (again.exit_code, again.progress.done_before, len(lane.sent)) == (0, 60, 60)


def test_the_ledgers_charges_are_the_simulators_bill_whatever_goes_wrong(on_both):
    faults = {"500": 0.1, "429_ms": 0.05, "529": 0.05, "400": 0.05, "503": 0.05}
    on_both.write(rows(150))
    with simulating(faults=faults, seed=3) as simulator:
        on_both.endpoint = endpoint_of(simulator)
        ended = on_both.run(clock=FastClock())
        lines = [json.loads(line) for line in simulator._bill.text().splitlines()]
    assert ended.progress.answered + ended.progress.failed == 150
    assert ended.exit_code == 65
    charged = on_both.one("SELECT SUM(amount_pico_usd) FROM v_charges")
    assert charged == bill.total_pico_usd(lines) == ended.progress.cost
    uids = {uid for (uid,) in on_both.ask("SELECT attempt_uid FROM v_attempts")}
    assert {line["attempt_uid"] for line in lines} <= uids


def test_what_a_lost_answer_cost_lies_within_the_interval_of_its_attempts(on_both):
    faults = {"close": 0.1, "502_html": 0.1, "200_empty": 0.1, "reset_after_headers": 0.05}
    on_both.write(rows(80))
    with simulating(faults=faults, seed=5) as simulator:
        on_both.endpoint = endpoint_of(simulator)
        on_both.run(clock=FastClock())
        lines = [json.loads(line) for line in simulator._bill.text().splitlines()]
    ((low, high),) = on_both.ask(
        "SELECT SUM(cost_low_pico_usd), SUM(cost_high_pico_usd) FROM v_attempts"
    )
    assert low < bill.total_pico_usd(lines) <= high


@pytest.mark.parametrize(
    "reason", ["end_turn", "max_tokens", "stop_sequence", "refusal", "new"]
)
def test_every_stop_reason_is_kept_as_it_came(case, reason):
    case.write([row("x")])
    case.run(FakeLane(lambda _: answered(stop_reason=reason)))
    assert case.one("SELECT stop_reason FROM v_answers") == reason


# --- Failures


def test_a_refused_row_fails_and_is_sent_again_only_after_its_release(on_both):
    on_both.write(rows(4))
    lane = FakeLane(in_turn({"row 3": [refused(400)]}))
    assert on_both.run(lane).exit_code == 65
    again = on_both.run(lane)
    assert (again.exit_code, again.unfinished_rows) == (65, {"failed": 1})
    assert lane.prompts.count("row 3") == 1
    assert on_both.release() == 1
    assert on_both.run(lane).exit_code == 0
    assert lane.prompts.count("row 3") == 2
    assert on_both.one("SELECT COUNT(*) FROM v_failures") == 0


_FOLLOWED = """CREATE FUNCTION follow() RETURNS trigger AS $$ BEGIN
UPDATE leases SET token = token + 1, owner = 'a run' WHERE name = NEW.name; RETURN NULL;
END $$ LANGUAGE plpgsql;
CREATE TRIGGER follow AFTER UPDATE ON leases FOR EACH ROW WHEN (pg_trigger_depth() = 0)
EXECUTE FUNCTION follow()"""


def test_a_release_changes_nothing_when_a_run_has_begun_since_it_looked(tmp_path, postgres_url):
    case = Case(folder=tmp_path, database=postgres_url)
    case.write(rows(4))
    assert case.run(FakeLane(in_turn({"row 3": [refused(400)]}))).exit_code == 65
    engine = open_engine(postgres_url)
    with writing(engine) as connection:
        connection.exec_driver_sql(_FOLLOWED)
    engine.dispose()
    with pytest.raises(Fenced, match="a run has taken over"):
        case.release()
    assert case.one("SELECT COUNT(*) FROM v_failures") == 1


def test_a_release_in_a_database_that_is_not_there_makes_none(case, tmp_path):
    with pytest.raises(UsageError, match="there is no database"):
        replace(case, database=str(tmp_path / "absent.db")).release()
    assert not (tmp_path / "absent.db").exists()


def test_a_user_without_a_name_is_recorded_by_number(case, monkeypatch):
    """As in containers that run under any number."""

    def nobody(_):
        raise KeyError

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    case.write(rows(1))
    assert case.run(FakeLane()).exit_code == 0
    assert case.one("SELECT os_user FROM invocations") == str(os.getuid())


def test_a_transient_failure_is_tried_five_times_and_again_next_time(on_both):
    on_both.write(rows(3))
    lane = FakeLane(in_turn({"row 2": [refused(500)] * 7}))
    first = on_both.run(lane, FastClock())
    assert (first.exit_code, first.progress.failed) == (65, 1)
    assert lane.prompts.count("row 2") == 5
    second = on_both.run(lane, FastClock())
    assert (second.exit_code, on_both.watcher.start.retrying) == (0, 1)
    numbers = on_both.ask("SELECT attempt FROM v_attempts WHERE row_number = 2 ORDER BY 1")
    assert [number for (number,) in numbers] == [1, 2, 3, 4, 5, 6, 7, 8]


@pytest.mark.parametrize("status", [429, 529])
def test_a_busy_server_never_makes_a_row_fail(case, status):
    case.write(rows(2))
    lane = FakeLane(in_turn({"row 2": [refused(status)] * 9}))
    assert case.run(lane, FastClock(factor=1000)).exit_code == 0
    assert lane.prompts.count("row 2") == 10


def test_should_retry_false_ends_a_row_that_would_be_tried_again(case):
    case.write(rows(3))
    lane = FakeLane(in_turn({"row 2": [refused(500, headers={"x-should-retry": "false"})]}))
    assert case.run(lane).exit_code == 65
    assert lane.prompts.count("row 2") == 1


def test_a_wrong_key_stops_the_run_on_its_first_request(on_both):
    on_both.write(rows(50))
    lane = FakeLane(lambda _: refused(401))
    ended = on_both.run(lane)
    assert (ended.exit_code, ended.rows_left, len(lane.sent)) == (
        AccessRefused.exit_code,
        True,
        1,
    )
    assert "check the key" in ended.error
    assert on_both.run(FakeLane()).exit_code == 0
    assert len(on_both.texts()) == 50


def test_what_a_server_says_cannot_look_like_a_line_of_ours(case):
    said = refused(401)
    forged = structs.replace(said.failure, message="no\nbatcher: all rows are done\r\u2028yes")
    case.write(rows(1))
    ended = case.run(FakeLane(lambda _: structs.replace(said, failure=forged)))
    assert len(ended.error.splitlines()) == 1
    assert "no batcher: all rows are done yes" in ended.error


def test_a_stopped_only_row_is_still_to_do(case):
    case.write(rows(1))
    ended = case.run(FakeLane(lambda _: refused(401)))
    assert (ended.exit_code, ended.rows_left) == (77, True)


@pytest.mark.parametrize(
    ("fault", "error"),
    [("402", AccessRefused), ("403", AccessRefused), ("400_spend", AccessRefused),
     ("429_spend", AccessRefused), ("404", ConfigurationError),
     ("model_not_found", ConfigurationError), ("redirect", ConfigurationError)],
)  # fmt: skip
def test_what_no_row_can_help_stops_the_run(case, fault, error):
    case.write(rows(20, f"row {{}} [[fault:{fault}]]"))
    with simulating() as simulator:
        case.endpoint = endpoint_of(simulator)
        ended = case.run()
        assert (ended.exit_code, simulator.stats.requests) == (error.exit_code, 1)


def test_an_endpoint_that_is_not_there_is_retried_then_given_up_and_nothing_is_lost(case):
    case.write(rows(5))
    impatient = case.limit(breaker=BreakerPolicy(first_contact_seconds=60))
    lane = FakeLane(lambda _: not_sent())
    ended = impatient.run(lane, FastClock())
    assert ended.exit_code == ProviderUnavailable.exit_code
    assert len(lane.sent) > 2
    assert lane.peak == 1
    assert case.run(FakeLane()).exit_code == 0
    assert len(case.texts()) == 5


def test_a_server_that_goes_down_is_probed_by_one_row_and_the_rest_waits(case):
    case.write(rows(60))
    calls = iter(range(10_000))
    lane = FakeLane(lambda _: refused(503) if 10 <= next(calls) < 40 else answered())
    ended = case.run(lane, FastClock(factor=1000))
    assert ended.progress.answered + ended.progress.failed == 60
    assert len(lane.sent) < 120


# --- Doubt


def test_a_row_in_doubt_three_times_is_parked(on_both):
    on_both.write(rows(2))
    lane = FakeLane(in_turn({"row 2": [unknown()] * 9}))
    ended = on_both.run(lane)
    assert (ended.exit_code, ended.unfinished_rows) == (65, {"held": 1})
    assert on_both.ask("SELECT kind, reason FROM v_failures") == [("held", "parked_in_doubt")]
    assert lane.prompts.count("row 2") == 3
    assert (ended.progress.in_doubt, ended.progress.held) == (3, 1)
    bounds = on_both.ask(
        "SELECT cost_low_pico_usd, cost_high_pico_usd FROM v_attempts WHERE state = 'unknown'"
    )
    assert len(bounds) == 3
    assert all(low == 0 < high for low, high in bounds)


@pytest.mark.parametrize(("policy", "kind"), [("hold", "held"), ("fail", "failed")])
def test_the_policy_for_doubt_is_obeyed_at_once(case, policy, kind):
    from batcher.pipeline.choices import OnUnknown

    case.options["on_unknown"] = OnUnknown(policy)
    case.write(rows(3))
    lane = FakeLane(in_turn({"row 2": [unknown()]}))
    assert case.run(lane).unfinished_rows == {kind: 1}
    assert lane.prompts.count("row 2") == 1


def test_the_bytes_of_an_unusable_answer_are_kept(on_both):
    on_both.write(rows(2))
    on_both.run(FakeLane(in_turn({"row 2": [unusable(b"\xff\0<html>")]})))
    ((body,),) = on_both.ask("SELECT body FROM unusable_bodies")
    assert bytes(body) == b"\xff\0<html>"


# --- Quarantine


def test_bad_rows_are_quarantined_where_they_are_and_the_others_go_on(on_both):
    lines = [row("a"), "{not json", "[]", row("b"), '{"params": 5}', row("c", role=5)]
    on_both.write(lines)
    ended = on_both.run(FakeLane())
    assert (ended.exit_code, ended.progress.answered) == (65, 3)
    found = on_both.ask("SELECT row_number, kind, byte_offset FROM v_failures ORDER BY 1")
    assert [(number, kind) for number, kind, _ in found] == [
        (n, "quarantined") for n in (2, 3, 5)
    ]
    text = (on_both.folder / "rows.jsonl").read_bytes()
    assert [text[at : at + 4] for *_, at in found] == [b"{not", b"[]\n{", b'{"pa']
    again = on_both.run(FakeLane())
    assert (again.exit_code, again.unfinished_rows) == (65, {"quarantined": 3})


def test_a_bad_row_with_unstorable_words_does_not_end_the_run(on_both):
    on_both.write([row("a"), '{"a\\u0000b": 1, "\\ud83d\\ude00": 2}', '{"x": "\\ud800"}'])
    ended = on_both.run(FakeLane())
    assert (ended.exit_code, ended.unfinished_rows) == (65, {"quarantined": 2})


# --- Trouble of our own


def test_what_a_lane_raises_ends_the_run_and_no_row_is_lost(case):
    case.write(rows(5))

    def broken(attempt):
        if prompt_of(attempt) == "row 3":
            raise RuntimeError("a bug")
        return answered()

    lane = FakeLane(broken)
    with pytest.raises(RuntimeError, match="a bug"):
        case.run(lane)
    assert lane.closed
    assert case.one("SELECT COUNT(*) FROM attempts WHERE state = 'open'") == 0
    assert case.run(FakeLane()).exit_code == 0
    assert [number for number, _ in case.texts()] == [1, 2, 3, 4, 5]


def test_a_bug_while_an_outcome_is_judged_ends_the_run_instead_of_hanging(case):
    case.write(rows(1))
    with pytest.raises(AttributeError):
        case.run(FakeLane(lambda _: "no outcome at all"))


def test_an_input_that_breaks_off_ends_the_run_and_the_invocation_is_closed(case):
    from batcher.errors import StorageError

    class Torn(RequestBuilder):
        def build(self, raw, source_id, row_number, *where):
            if row_number == 300:
                raise StorageError("the disk is gone")
            return super().build(raw, source_id, row_number, *where)

    case.write(rows(400))
    ended = case.run(FakeLane(), builder=Torn(SETTINGS))
    assert (ended.exit_code, ended.error) == (74, "the disk is gone")
    assert case.ask("SELECT exit_code, clean FROM invocations") == [(74, 1)]


def test_an_answer_that_the_database_refuses_is_kept_as_bytes_and_the_others_land(on_both):
    on_both.write(rows(40))
    answer = structs.replace(
        answered().answer, usage=Usage(input_tokens=2**70, output_tokens=1)
    )
    odd = Answered(exchange(), answer)
    lane = FakeLane(in_turn({"row 20": [odd]}))
    ended = on_both.run(lane)
    assert (ended.exit_code, ended.unfinished_rows) == (65, {"held": 1})
    assert len(on_both.texts()) == 39
    ((state, high),) = on_both.ask(
        "SELECT state, cost_high_pico_usd FROM v_attempts WHERE row_number = 20"
    )
    assert (state, high > 0) == ("unusable", True)
    ((body,),) = on_both.ask("SELECT body FROM unusable_bodies")
    assert answer.content in bytes(body)


def test_rows_of_several_models_and_files_find_their_answers(on_both):
    on_both.inputs = ("a.jsonl", "b.jsonl")
    on_both.write([row(f"a{n}") for n in range(5)], "a.jsonl")
    on_both.write([row(f"b{n}", model="claude-haiku-4-5") for n in range(5)], "b.jsonl")
    on_both.run(FakeLane(lambda attempt: answered(prompt_of(attempt))))
    found = on_both.ask(
        "SELECT source, text, requested_model FROM v_answers ORDER BY source, row_number"
    )
    assert found == [(f"{s}.jsonl", f"{s}{n}", m) for s, m in
                     (("a", MODEL), ("b", "claude-haiku-4-5")) for n in range(5)]  # fmt: skip
