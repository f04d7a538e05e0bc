"""A server that bills more than what was asked for could cost, and a clock that is wrong."""

import re
import sqlite3
from contextlib import closing

import pytest

from batcher.clock import SystemClock
from batcher.ledger.connect import open_engine
from batcher.ledger.maintenance import verify
from batcher.messages.failure import Failure, Verdict
from batcher.messages.request import Partial
from batcher.pricing.money import parse_usd
from tests.making_runs import Case, FakeLane, answered, rows

BEYOND = {"input_tokens": 10, "output_tokens": 25_600}  # 100 times max_tokens
HONEST = {"input_tokens": 10, "output_tokens": 200}
DEARER_STEP = {
    "type": "message", "model": "claude-opus-4-1",
    "input_tokens": 900_000, "output_tokens": 90_000,
}  # fmt: skip


def case_of(tmp_path, url, cap=None):
    case = Case(folder=tmp_path, database=url)
    case.write(rows(60))
    return case.limit(max_cost=parse_usd(cap)) if cap else case


def one_in(number, outcome):
    """A server that keeps its side but for that attempt."""

    def script(attempt):
        is_it = attempt.request.row_number == number
        return outcome if is_it and attempt.number == 1 else answered(usage=HONEST)

    return script


def broken_after(usage, **fields):
    whole = answered(usage=usage, **fields)
    failure = Failure(verdict=Verdict.RETRY_ROW, error_type="broken_stream", message="cut")
    return Partial(whole.exchange, failure, whole.answer)


def found_by_verify(url):
    engine = open_engine(url, read_only=True)
    try:
        return [f"{each.kind}: {each.text}" for each in verify(engine).findings]
    finally:
        engine.dispose()


@pytest.mark.parametrize(
    "outcome",
    [
        answered(usage=BEYOND),
        answered(usage=HONEST | {"output_tokens": 200}, model="claude-opus-4-1"),
        answered(usage=HONEST | {"cache_read_input_tokens": 900_000}),
        answered(usage=HONEST | {"output_tokens": 5, "iterations": [DEARER_STEP]}),
        answered(usage=HONEST | {"prompt_tokens": 9_000_000}),
        answered(usage=HONEST | {"cache_creation": {"ephemeral_1h_input_tokens": 900_000}}),
    ],
    ids=["tokens", "dearer model", "cache reads", "iterations", "spellings", "lifetimes"],
)
def test_under_a_cap_the_first_such_bill_ends_the_run_with_77(tmp_path, database_url, outcome):
    case = case_of(tmp_path, database_url, cap="50").limit(concurrency=1)
    lane = FakeLane(one_in(7, outcome))
    ended = case.run(lane)
    assert ended.exit_code == 77
    billed, bound = re.findall(r"\$([0-9.]+)", ended.error)[:2]
    assert f"the server billed ${billed} for what could cost ${bound} " in ended.error
    assert float(billed) > float(bound)
    assert len(lane.sent) == 7
    assert case.one("SELECT COUNT(*) FROM v_answers") == 7  # recorded as it came
    assert case.one("SELECT MAX(cost_pico_usd) FROM v_answers") > 0
    found = found_by_verify(database_url)
    assert [line for line in found if line.startswith("bill: attempt ")]


def test_a_broken_stream_that_names_such_usage_is_one_too(tmp_path, sqlite_url):
    broken = broken_after({"input_tokens": 90_000_000, "output_tokens": 1})
    case = case_of(tmp_path, sqlite_url, cap="5000").limit(concurrency=1)
    ended = case.run(FakeLane(one_in(3, broken)))
    assert ended.exit_code == 77
    ((low, high),) = case.ask(
        "SELECT cost_low_pico_usd, cost_high_pico_usd FROM v_attempts WHERE state = 'partial'"
    )
    assert high > low > parse_usd("1")  # and what follows the break may come on top


def test_verify_finds_a_broken_stream_that_counts_more_input_than_the_body_can_be(case):
    """Also where the money for it is within the bound, as much output is allowed."""
    case.write(rows(2))
    usage = {"input_tokens": 1_000, "output_tokens": 1}
    broken = FakeLane(one_in(2, broken_after(usage)))
    assert case.run(broken).exit_code == 0
    (bound,) = {sent.cost_high for sent in broken.sent if sent.request.row_number == 2}
    ((low, high),) = case.ask(
        "SELECT cost_low_pico_usd, cost_high_pico_usd FROM v_attempts WHERE state = 'partial'"
    )
    assert low < bound
    assert high == low + bound
    (found,) = [line for line in found_by_verify(case.database) if "broke off" in line]
    assert re.match(r"bill: attempt \d+ broke off after 1000 input tokens were reported", found)


def test_a_broken_stream_of_a_dearer_model_may_cost_what_that_one_can(tmp_path, sqlite_url):
    case = case_of(tmp_path, sqlite_url, cap="50").limit(concurrency=1)
    begun = HONEST | {"output_tokens": 1}
    lane = FakeLane(one_in(3, broken_after(begun, model="claude-opus-4-1")))
    assert case.run(lane).exit_code == 0  # what is certain is within the bound
    bound = next(sent.cost_high for sent in lane.sent if sent.request.row_number == 3)
    ((low, high),) = case.ask(
        "SELECT cost_low_pico_usd, cost_high_pico_usd FROM v_attempts WHERE state = 'partial'"
    )
    assert low < bound < high


def test_under_a_cap_a_broken_stream_of_a_model_without_a_price_ends_the_run(
    tmp_path, sqlite_url
):
    case = case_of(tmp_path, sqlite_url, cap="50").limit(concurrency=1)
    ended = case.run(FakeLane(one_in(3, broken_after(HONEST, model="claude-unheard-of"))))
    assert ended.exit_code == 77
    assert "the server named the model claude-unheard-of, of which no price" in ended.error
    assert case.ask("SELECT cost_high_pico_usd FROM v_attempts WHERE state = 'partial'") == [
        (None,)
    ]


@pytest.mark.parametrize("change", ["cost_low + 1", "0"])
def test_verify_recomputes_what_a_broken_stream_costs_at_least(case, change):
    case.write(rows(2))
    assert case.run(FakeLane(one_in(2, broken_after(HONEST)))).exit_code == 0
    assert found_by_verify(case.database) == []
    partial = "WHERE state = 'partial'"
    with closing(sqlite3.connect(case.database.removeprefix("sqlite:///"))) as ledger, ledger:
        ledger.execute(f"UPDATE attempts SET cost_low = {change} {partial}")
    (found,) = found_by_verify(case.database)
    assert re.match(r"charge: attempt \d+ broke off: it costs \d+ pico-units at least", found)


def test_the_same_command_goes_on(tmp_path, sqlite_url):
    case = case_of(tmp_path, sqlite_url, cap="50")
    assert case.run(FakeLane(one_in(7, answered(usage=BEYOND)))).exit_code == 77
    assert case.run(FakeLane(lambda _: answered(usage=HONEST))).exit_code == 0
    assert len(case.texts()) == 60


def test_without_a_cap_it_is_said_once_and_counted(tmp_path, sqlite_url):
    case = case_of(tmp_path, sqlite_url)
    assert case.run(FakeLane(lambda _: answered(usage=BEYOND))).exit_code == 0
    said = [each for each in case.watcher.waits if "the server billed" in each]
    assert len(said) == 1
    assert case.watcher.end.progress.overbilled == 60


def test_a_server_that_keeps_its_side_is_no_finding(tmp_path, database_url):
    case = case_of(tmp_path, database_url, cap="50")
    usage = {"input_tokens": 10, "output_tokens": 256}
    assert case.run(FakeLane(lambda _: answered(usage=usage))).exit_code == 0
    assert case.watcher.end.progress.overbilled == 0
    assert found_by_verify(database_url) == []


# --- A clock that is wrong

YEAR_US = 366 * 86_400 * 10**6


class WrongClock(SystemClock):
    """A machine that lost its battery, or lives in the future."""

    def __init__(self, years: int) -> None:
        self._off_us = years * YEAR_US

    def now_us(self) -> int:
        return super().now_us() + self._off_us


@pytest.mark.parametrize("years", [-30, -15, 200])
def test_a_clock_that_is_wrong_by_years_makes_no_row_fail_for_good(tmp_path, sqlite_url, years):
    case = case_of(tmp_path, sqlite_url, cap="50")
    ended = case.run(FakeLane(lambda _: answered(usage=HONEST)), clock=WrongClock(years))
    assert ended.exit_code in {0, 78}
    assert case.ask("SELECT * FROM v_failures") == []
    if ended.exit_code:
        assert "set the clock of this machine" in ended.error
    assert case.run(FakeLane(lambda _: answered(usage=HONEST))).exit_code == 0
    assert len(case.texts()) == 60


def test_answers_under_one_message_id_are_told_at_the_end_and_by_verify(case):
    case.write(rows(4))
    ended = case.run(
        FakeLane(lambda attempt: answered(id=f"msg_{attempt.request.row_number // 3}"))
    )
    assert (ended.exit_code, ended.progress.repeated_message_ids) == (0, 2)
    found = [line for line in found_by_verify(case.database) if line.startswith("message: ")]
    assert ["2 answers have the message id" in line for line in found] == [True, True]
