"""Money under a cap, as the rows of budgets tell it, follows from the attempts."""

import re
import sqlite3
from dataclasses import replace

import pytest
from click.testing import CliRunner

from batcher.cli.menu import group
from batcher.ledger.connect import open_engine
from batcher.ledger.maintenance import verify
from batcher.pricing.money import parse_usd
from tests.making_runs import Case, FakeLane, answered, photograph, refused, row, rows, unknown

CAP = "0.05"


def problems(case):
    engine = open_engine(case.database, read_only=True)
    try:
        found = verify(engine)
    finally:
        engine.dispose()
    return [f"{each.kind}: {each.text}" for each in found.findings]


def capped(case, usd=CAP):
    return case.limit(max_cost=parse_usd(usd), max_cost_month=parse_usd("1"))


def mixed(attempt):
    """Mostly answers; some are in doubt, some have no price."""
    number = attempt.request.row_number
    if number % 7 == 3 and attempt.number == 1:
        return unknown()
    if number % 11 == 5:
        return answered(model="claude-of-tomorrow")
    return answered(usage={"input_tokens": 10, "output_tokens": number % 250})


@pytest.fixture
def case(tmp_path, database_url):
    made = Case(folder=tmp_path, database=database_url)
    made.write(rows(150))
    return made


@pytest.fixture
def spent(tmp_path, sqlite_url):
    """A run that reached its cap, on SQLite."""
    made = Case(folder=tmp_path, database=sqlite_url)
    made.write(rows(150))
    assert capped(made).run(FakeLane(mixed)).exit_code == 77
    return made


def counted(case):
    """What counts against the cap, added up by hand from the views."""
    charged = case.ask(
        "SELECT attempt_uid, SUM(amount_pico_usd), SUM(status = 'unpriced') FROM v_charges"
        " GROUP BY attempt_uid"
    )
    bounds = dict(case.ask("SELECT attempt_uid, cost_high_pico_usd FROM v_attempts"
                           " WHERE state <> 'answered'"))  # fmt: skip
    unpriced = {uid for uid, _, none in charged if none}
    ((worst,),) = case.ask("SELECT MAX(cost_high_pico_usd) FROM v_attempts")
    assert all(bound <= worst for bound in bounds.values())
    known = sum(int(amount) for uid, amount, _ in charged if uid not in unpriced)
    return known + sum(bounds.values()), len(unpriced), worst


def test_a_run_at_its_cap_has_no_problems_nor_has_its_continuation(case):
    assert capped(case).run(FakeLane(mixed)).exit_code == 77
    assert problems(case) == []
    assert capped(case, "0.08").run(FakeLane(mixed)).exit_code == 77
    assert problems(case) == []
    assert capped(case, "0.01").run(FakeLane(mixed)).exit_code == 77
    assert problems(case) == []
    assert case.run(FakeLane(mixed)).exit_code == 0
    assert problems(case) == []


def test_an_unpriced_answer_still_counts_when_the_run_is_continued(spent):
    before = spent.one("SELECT settled FROM budgets WHERE scope = 'run:1'")
    assert capped(spent).run(FakeLane(mixed)).exit_code == 77
    assert spent.one("SELECT settled FROM budgets WHERE scope = 'run:1'") == before
    known, unpriced, worst = counted(spent)
    assert unpriced > 0
    assert known < before <= known + unpriced * worst


def test_an_error_that_may_be_billed_still_counts_when_the_run_is_continued(
    tmp_path, sqlite_url
):
    made = capped(Case(folder=tmp_path, database=sqlite_url), "0.02")
    made = replace(made, endpoint=replace(made.endpoint, errors_may_be_billed=True))
    made.write(rows(40))
    lane = FakeLane(
        lambda attempt: answered() if attempt.request.row_number == 1 else refused(400)
    )
    made.run(lane)
    before = made.one("SELECT settled FROM budgets WHERE scope = 'run:1'")
    capped(made, "0.02").run(FakeLane())
    assert made.one("SELECT settled FROM budgets WHERE scope = 'run:1'") >= before > 0
    assert problems(made) == []


@pytest.mark.parametrize("sent", [1, 8, 30])
def test_a_killed_run_has_no_problems_before_nor_after_it_goes_on(tmp_path, sqlite_url, sent):
    made = Case(folder=tmp_path, database=sqlite_url)
    made.write(rows(150))
    copy = tmp_path / "killed.db"

    async def answer(attempt):
        if len(lane.sent) == sent:
            photograph(sqlite_url.removeprefix("sqlite:///"), copy)
        return mixed(attempt)

    lane = FakeLane(answer)
    capped(made).run(lane)
    killed = replace(made, database=str(copy))
    assert problems(killed) == []
    assert capped(killed).run(FakeLane(mixed)).exit_code == 77
    assert problems(killed) == []


def test_a_slice_of_a_dead_run_comes_back_to_the_month(tmp_path, sqlite_url):
    made = Case(folder=tmp_path, database=sqlite_url)
    made.write(rows(150))
    copy = tmp_path / "killed.db"

    async def answer(attempt):
        if len(lane.sent) == 8:
            photograph(sqlite_url.removeprefix("sqlite:///"), copy)
        return answered()

    lane = FakeLane(answer)
    capped(made).run(lane)
    other = replace(capped(made), database=str(copy), key="other", inputs=("more.jsonl",))
    other.write([row("more")], "more.jsonl")
    assert other.run(FakeLane()).exit_code == 0
    assert other.ask("SELECT granted FROM budgets WHERE scope LIKE 'month:%'") == [(0,)]
    assert problems(other) == []


def test_a_reprice_does_not_make_a_budget_wrong(spent, tmp_path):
    book = tmp_path / "dear.toml"
    book.write_text('version = "dear"\nround = true\n[lists.anthropic]\nfactor = "3"\n')
    words = ["reprice", "--book", str(book), "--database", spent.database]
    done = CliRunner().invoke(group, words, standalone_mode=False)
    assert done.exception is None, done.exception
    assert spent.one("SELECT COUNT(*) FROM ratings") == 2
    assert problems(spent) == []
    assert capped(spent, "0.2").run(FakeLane(mixed)).exit_code in {0, 77}
    assert problems(spent) == []


TAMPERED = [
    ("UPDATE budgets SET cap = settled - 1 WHERE scope = 'run:1'",
     r"budget: the budget of run:1 has lent and settled \d+ pico-USD under a cap of \d+"),
    ("UPDATE budgets SET settled = settled + 1 WHERE scope = 'run:1'",
     r"budget: the budget of run:1 has settled \d+ pico-USD, its attempts cost \d+"),
    ("UPDATE budgets SET settled = settled - 1 WHERE scope LIKE 'month:%'",
     r"budget: the budget of month:\d+-\d+ has settled \d+ pico-USD, its attempts cost \d+"),
    ("UPDATE budgets SET granted = 7 WHERE scope = 'run:1'",
     "budget: the budget of run:1 has lent 7 pico-USD, its slices hold 0"),
    ("UPDATE budget_slices SET settled = settled - 1 WHERE scope = 'run:1'",
     r"budget: the slice of invocation 1 of run:1 has settled \d+ pico-USD, its attempts"),
    ("UPDATE budget_slices SET settled = settled + 1 WHERE scope = 'run:1'",
     r"budget: the slice of invocation 1 of run:1 has settled \d+ pico-USD, its attempts"),
    ("UPDATE budget_slices SET granted = 5 WHERE scope = 'run:1'",
     "budget: the slice of invocation 1 of run:1 holds 5 pico-USD for open attempts of 0"),
    ("UPDATE budgets SET granted = -9 WHERE scope = 'run:1'",
     "budget: the budget of run:1 has a negative amount: -9 lent"),
    ("UPDATE attempts SET cost_high = cost_high + 1 WHERE state = 'unknown'",
     r"budget: the budget of run:1 has settled|budget: the slice of invocation 1 of run:1"),
    ("UPDATE budget_slices SET settled = settled - 1000000 WHERE scope = 'run:1';"
     "UPDATE invocations SET ended_at = NULL",
     r"budget: the slice of invocation 1 of run:1 holds \d+ pico-USD, its attempts may cost"),
]  # fmt: skip


@pytest.mark.parametrize(("statements", "told"), TAMPERED)
def test_every_wrong_number_of_a_budget_is_told(spent, statements, told):
    connection = sqlite3.connect(spent.database.removeprefix("sqlite:///"))
    connection.executescript(statements)
    connection.close()
    found = problems(spent)
    assert any(re.search(told, each) for each in found), found


def test_the_command_ends_with_1(spent):
    words = ["verify", "--database", spent.database]
    assert CliRunner().invoke(group, words, standalone_mode=False).return_value == 0
    connection = sqlite3.connect(spent.database.removeprefix("sqlite:///"))
    connection.execute("UPDATE budgets SET settled = settled + 1")
    connection.commit()
    connection.close()
    assert CliRunner().invoke(group, words, standalone_mode=False).return_value == 1
