"""Estimates end to end, against the simulator's own bill."""

import json
import os
import random
from dataclasses import replace

import pytest

from batcher.errors import ChangedSettings
from batcher.estimate.estimate import estimate
from batcher.estimate.expected_cost import Method
from batcher.ledger.connect import open_engine, reading
from batcher.ledger.money.estimates import stored_estimates
from tests.bill import total_pico_usd
from tests.making_runs import Case, Watcher, endpoint_of, row, simulating

ROWS = 120


@pytest.fixture
def simulator(tmp_path):
    with simulating(bill_path=tmp_path / "bill.jsonl") as running:
        yield running


@pytest.fixture
def case(simulator, tmp_path):
    made = Case(
        folder=tmp_path,
        database=str(tmp_path / "ledger.db"),
        endpoint=endpoint_of(simulator, simulated=True),
    )
    write(made, lines())
    return made


def write(case, lines, name="rows.jsonl"):
    """Chance is drawn from what names the file, its time of change too."""
    os.utime(case.write(lines, name), (0, 0))


def lines(rows=ROWS, seed=1):
    chance = random.Random(seed)
    for n in range(rows):
        words = "word " * int(chance.lognormvariate(3, 1))
        tokens = min(int(chance.lognormvariate(4, 0.8)), 256)
        yield row(f"{n} {words}[[output:{tokens}]]", f"id-{n}")


def bill(tmp_path):
    return [json.loads(line) for line in (tmp_path / "bill.jsonl").read_bytes().splitlines()]


def stored(case):
    engine = open_engine(case.database, read_only=True)
    try:
        with reading(engine) as connection:
            return stored_estimates(connection, None)
    finally:
        engine.dispose()


def test_pilot_rows_are_not_paid_twice(case, tmp_path, database_url):
    case = replace(case, database=database_url)
    made = estimate(case.job(), 20, observer=Watcher(), say=print)
    assert made.pilot.exit_code == 0
    assert len(bill(tmp_path)) == 20
    assert case.run().exit_code == 0
    lines = bill(tmp_path)
    assert len(lines) == ROWS
    assert len({line["body_sha256"] for line in lines}) == ROWS
    assert case.one("SELECT count(*) FROM v_attempts WHERE purpose = 'pilot'") == 20
    assert case.one("SELECT count(*) FROM v_answers") == ROWS


def test_a_pilot_of_a_file_that_grew_afterwards_is_not_paid_twice(case, tmp_path):
    estimate(case.job(), 20, observer=Watcher(), say=print)
    write(case, [*lines(), row("new", "new")])
    case.run()
    assert len(bill(tmp_path)) == ROWS + 1
    assert case.one("SELECT count(*) FROM v_answers") == ROWS + 1


def test_a_second_pilot_sends_only_what_the_first_left_out(case, tmp_path):
    estimate(case.job(), 10, observer=Watcher(), say=print)
    made = estimate(case.job(), 15, observer=Watcher(), say=print)
    assert len(bill(tmp_path)) == 15
    assert made.parts.sampled == 15
    assert estimate(case.job(), 15, observer=Watcher(), say=print).pilot is None


def test_the_real_bill_lies_below_the_ceiling_and_the_estimate_is_graded(case, tmp_path):
    made = estimate(case.job(), 30, observer=Watcher(), say=print)
    piloted = len(bill(tmp_path))
    case.run()
    cost = total_pico_usd(bill(tmp_path)[piloted:])
    assert cost <= made.census.ceiling
    (graded,) = stored(case)
    assert graded.actual == cost
    within = graded.low <= cost <= graded.high
    assert graded.grade == ("within" if within else "below" if cost < graded.low else "above")


def test_without_a_pilot_nothing_is_sent_and_only_the_ceiling_is_known(case, tmp_path):
    made = estimate(case.job(), None, observer=Watcher(), say=print)
    assert bill(tmp_path) == []
    assert made.expectation is None
    assert made.parts.method is Method.CEILING
    assert "--pilot" in made.parts.reason
    case.run()
    assert total_pico_usd(bill(tmp_path)) <= made.census.ceiling
    assert stored(case)[0].grade == "no interval"


def test_earlier_answers_of_the_same_settings_tell_what_to_expect(case, tmp_path, database_url):
    case = replace(case, database=database_url)
    case.run()
    write(case, lines(seed=2), "more.jsonl")
    more = replace(case, inputs=("more.jsonl",), key="more")
    made = estimate(more.job(), None, observer=Watcher(), say=print)
    assert (made.parts.method, made.parts.sampled) == (Method.HISTORY, ROWS)
    before = len(bill(tmp_path))
    more.run()
    cost = total_pico_usd(bill(tmp_path)[before:])
    assert made.expectation.low <= cost <= made.expectation.high <= made.census.ceiling
    assert stored(more)[0].grade == "within"


def test_answers_of_other_settings_tell_nothing(case):
    case.run()
    write(case, lines(seed=2), "more.jsonl")
    settings = replace(case.settings, system="Be brief.")
    more = replace(case, inputs=("more.jsonl",), key="more", settings=settings)
    assert estimate(more.job(), None, observer=Watcher(), say=print).expectation is None


def test_simulated_answers_tell_nothing_of_a_real_endpoint(case):
    case.run()
    away = {"base_url": "https://messages.example", "api_key_env": "NO_SUCH_VARIABLE"}
    real = replace(case.endpoint, simulated=False, **away)
    write(case, lines(seed=2), "more.jsonl")
    more = replace(case, inputs=("more.jsonl",), key="more", endpoint=real)
    made = estimate(more.job(), None, observer=Watcher(), say=print)
    assert made.expectation is None
    assert "needs a key" in made.count_note


def test_input_tokens_are_counted_by_the_endpoint_where_no_answer_tells(case, tmp_path):
    made = estimate(case.job(), None, observer=Watcher(), say=print)
    case.run()
    (model,) = made.parts.models
    assert model.input_method == "counted"
    real = sum(line["input_tokens"] for line in bill(tmp_path))
    assert abs(model.input_tokens - real) < real * 0.15


def test_without_the_endpoint_input_tokens_are_guessed(case):
    nowhere = replace(case.endpoint, base_url="http://127.0.0.1:9")
    made = estimate(replace(case, endpoint=nowhere).job(), None, observer=Watcher(), say=print)
    assert [model.input_method for model in made.parts.models] == ["guessed"]
    assert made.count_note


def test_rows_that_are_finished_are_not_in_the_estimate(case):
    case.limit(row_limit=40).run()
    made = estimate(case.job(), None, observer=Watcher(), say=print)
    assert (made.census.requests, made.census.finished) == (ROWS - 40, 40)
    case.run()
    done = estimate(case.job(), None, observer=Watcher(), say=print)
    assert (done.census.requests, done.census.ceiling, done.estimate_id) == (0, 0, None)


def test_answers_that_move_to_another_file_are_not_in_the_ceiling(case):
    case.run()
    write(case, [*lines(), row("one more", "more")])
    made = estimate(case.job(), None, observer=Watcher(), say=print)
    assert (made.census.requests, made.census.finished) == (1, ROWS)


def test_the_same_inputs_and_ledger_give_the_same_estimate(case):
    case.limit(row_limit=40).run()
    first, second = (
        estimate(case.job(), None, observer=Watcher(), say=print) for _ in range(2)
    )
    assert first.expectation == second.expectation


def test_an_estimate_of_other_rows_is_not_graded_as_if_it_were_of_these(case):
    estimate(case.job(), None, observer=Watcher(), say=print)
    write(case, [row("something else")])
    case.run()
    assert [each.grade for each in stored(case)] == ["other rows"]


def test_a_run_that_is_not_over_grades_nothing(case):
    estimate(case.job(), None, observer=Watcher(), say=print)
    case.limit(row_limit=10).run()
    assert stored(case)[0].grade is None


def test_a_pilot_under_changed_settings_sends_nothing(case, tmp_path):
    case.limit(row_limit=10).run()
    changed = replace(case, settings=replace(case.settings, system="Be brief."))
    with pytest.raises(ChangedSettings, match="no pilot was sent"):
        estimate(changed.job(), 20, observer=Watcher(), say=print)
    assert len(bill(tmp_path)) == 10


def test_a_pilot_that_nobody_answers_leaves_an_honest_ceiling(case):
    write(case, [row(f"{n} [[fault:400]]") for n in range(40)])
    made = estimate(case.job(), 20, observer=Watcher(), say=print)
    assert made.expectation is None
    assert made.pilot.error


def test_models_without_a_price_have_no_expectation(case):
    lines = [row(f"{n}", model="claude-unpriced-9") for n in range(30)]
    write(case, lines)
    made = estimate(case.job(), 20, observer=Watcher(), say=print)
    assert made.expectation is None
    assert "no price in USD is known for claude-unpriced-9" in made.parts.reason
    assert made.census.unbounded == 10


def test_an_input_that_the_job_once_had_does_not_spoil_the_grade(case):
    case.run()
    write(case, lines(40, seed=5), "others.jsonl")
    others = replace(case, inputs=("others.jsonl",))
    estimate(others.job(), 10, observer=Watcher(), say=print)
    others.run()
    assert stored(case)[0].grade in {"within", "below", "above"}
