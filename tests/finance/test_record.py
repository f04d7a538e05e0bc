import hashlib
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batcher.errors import Busy, UsageError
from batcher.finance.reconcile.comparison import comparison_table
from batcher.finance.reconcile.lines import compare
from batcher.finance.reconcile.record import (
    adjustments_table,
    record_residuals,
    undo,
)
from batcher.ledger.connect import open_engine, reading, writing
from batcher.ledger.maintenance import verify
from batcher.ledger.money.adjustments import (
    Author,
    effective,
    newest_entry,
    read_adjustments,
    read_reconciliations,
)
from tests.finance.provider_files import DAY, MODEL, RIGHT, begin, charge, costs, usage
from tests.report.ledger_rows import NOON, LedgerRows
from tests.report.mostly_sqlite import BOTH, database_url  # noqa: F401

LATER = NOON + 30 * 86_400_000_000
ANA = Author("ana on build7", LATER)
DEARER = RIGHT | {"output_tokens": "0.5"}  # one tenth of a cent more than ours


@pytest.fixture
def here(rows):
    return begin(rows)


def record(rows, engine, *files):
    return record_residuals(rows.engine, compare([engine], files, endpoint=None), ANA)


def entries(engine):
    with reading(engine) as connection:
        return read_adjustments(connection)


def differing(engine, *files):
    return len(compare([engine], files, endpoint=None).differing)


@BOTH
def test_what_is_left_over_is_recorded_with_all_that_proves_it(here, engine, tmp_path):
    path = costs(tmp_path, DEARER)
    done = record(here, engine, usage(tmp_path), path)
    assert done.differing == 0
    (entry,) = entries(engine)
    place = entry.residual.place
    assert (place.day, place.model, place.kind) == (DAY, MODEL, "output")
    assert entry.amount == 1_000_000_000
    assert entry.residual.cause == "rate: theirs $25.00, ours $20.00 per million"
    assert (entry.author, entry.endpoint, entry.undoes) == (ANA, "anthropic", None)
    sha256 = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    assert ("costs.json", sha256) in entry.files


@BOTH
def test_the_same_residual_is_never_recorded_twice(here, engine, tmp_path):
    files = (usage(tmp_path), costs(tmp_path, DEARER))
    record(here, engine, *files)
    again = record(here, engine, *files)
    assert (len(entries(engine)), again.differing) == (1, 0)
    assert again.sentences[0].startswith("Nothing was recorded: these files are known")
    assert differing(engine, *files) == 0


def test_charges_stay_as_they_are(here, engine, tmp_path):
    before = compare([engine], [usage(tmp_path)], endpoint=None).ours.places
    record(here, engine, costs(tmp_path, DEARER))
    assert compare([engine], [usage(tmp_path)], endpoint=None).ours.places == before


def test_recorded_lines_are_seen_as_such(here, engine, tmp_path):
    files = [costs(tmp_path, DEARER)]
    record(here, engine, *files)
    table = comparison_table(compare([engine], files, endpoint=None), every=True)
    row = next(row for row in table.rows if row[4] == "output")
    assert row[9:] == (4_000_000_000, Fraction(5_000_000_000), 1_000_000_000, 0, "recorded")
    assert table.totals[0][9:13] == (8_100_000_000, Fraction(9_100_000_000), 10**9, 0)
    assert table.sentences[0].endswith("3 agree (1 by what was recorded), 0 do not.")


def test_a_later_bill_records_only_what_is_new(here, engine, tmp_path):
    record(here, engine, costs(tmp_path, DEARER))
    later = costs(tmp_path, RIGHT | {"output_tokens": "0.45"}, name="later.json")
    (line,) = compare([engine], [later], endpoint=None).differing
    assert line.cost_difference == -500_000_000
    record(here, engine, later)
    assert [entry.amount for entry in entries(engine)] == [10**9, -500_000_000]
    assert entries(engine)[1].residual.cause == "changed since: $0.001 recorded"
    assert differing(engine, later) == 0


def test_another_key_s_tokens_are_settled_by_their_recorded_cost(here, engine, tmp_path):
    files = (usage(tmp_path, used=(1000, 0, 0, 500, 250, 0)), costs(tmp_path, DEARER))
    assert differing(engine, *files) == 1
    assert record(here, engine, *files).differing == 0
    assert differing(engine, *files) == 0
    assert differing(engine, files[0]) == 1  # the tokens alone say nothing of money


def test_costs_of_files_that_tell_less_apart_are_made_up_for_too(here, engine, tmp_path):
    record(here, engine, costs(tmp_path, DEARER))
    coarse = costs(tmp_path, DEARER, name="coarse.json", model=None, service_tier=None,
                   inference_geo=None)  # fmt: skip
    assert differing(engine, coarse) == 0


def test_costs_that_only_the_provider_knows_can_be_recorded(here, engine, tmp_path):
    files = [costs(tmp_path, {"": "5"}, cost_type="code_execution", token_type=None, model=None,
                   service_tier=None, inference_geo=None)]  # fmt: skip
    record(here, engine, costs(tmp_path, RIGHT, name="right.json"), *files)
    (entry,) = entries(engine)
    assert (entry.residual.place.kind, entry.residual.place.model) == ("code_execution", None)
    assert entry.amount == 5 * 10**10


def test_an_agreeing_month_is_recorded_as_held_against_the_bill(here, engine, tmp_path):
    done = record(here, engine, costs(tmp_path, RIGHT))
    assert done.sentences[0].endswith("the costs agree, over 1 whole day of costs.")
    with reading(engine) as connection:
        (found,) = read_reconciliations(connection)
        assert newest_entry(connection) == 0
    assert (found.days, found.after_rating, found.simulated) == ((DAY,), 1, False)


def test_a_part_of_a_day_and_other_units_are_never_recorded(here, engine, tmp_path):
    units = record(here, engine, costs(tmp_path, RIGHT | {"output_tokens": "40"}))
    assert units.differing == 1
    assert units.sentences[1].startswith("Not recorded: 1 line of a day")
    part = costs(tmp_path, DEARER, name="part.json", end=f"{DAY}T06:00:00Z")
    assert (
        record(here, engine, part).sentences[0].endswith("no whole day of costs that is over.")
    )
    assert entries(engine) == ()


def test_a_day_that_is_not_over_is_never_recorded(here, engine, tmp_path):
    found = compare([engine], [costs(tmp_path, DEARER)], endpoint=None)
    done = record_residuals(here.engine, found, Author("ana", NOON + 11 * 3600 * 10**6))
    assert (done.differing, entries(engine)) == (1, ())
    over = record_residuals(here.engine, found, Author("ana", NOON + 13 * 3600 * 10**6))
    assert (over.differing, len(entries(engine))) == (0, 1)


def test_tokens_alone_cannot_be_recorded(here, engine, tmp_path):
    with pytest.raises(UsageError, match="needs the provider's costs"):
        record(here, engine, usage(tmp_path))


def test_an_amount_that_no_column_holds_is_refused(here, engine, tmp_path):
    huge = costs(tmp_path, RIGHT | {"output_tokens": "9" * 12})
    with pytest.raises(UsageError, match="more than can be recorded"):
        record(here, engine, huge)
    assert entries(engine) == ()


@BOTH
def test_two_who_record_at_once_record_it_once(here, engine, tmp_path):
    found = compare([engine], [costs(tmp_path, DEARER)], endpoint=None)
    record_residuals(here.engine, found, ANA)
    with pytest.raises(Busy, match="recorded meanwhile"):
        record_residuals(here.engine, found, Author("ben", LATER))
    assert len(entries(engine)) == 1


@BOTH
def test_an_undone_adjustment_stays_and_its_counter_entry_too(here, engine, tmp_path):
    files = [costs(tmp_path, DEARER)]
    record(here, engine, *files)
    said = undo(here.engine, 1, Author("ben", LATER))
    assert said == f"Taken back: adjustment 1, $0.001 of {DAY} {MODEL} output, by adjustment 2."
    first, second = entries(engine)
    assert (first.amount + second.amount, second.undoes, second.author.name) == (0, 1, "ben")
    assert effective((first, second)) == ()
    assert differing(engine, *files) == 1
    record(here, engine, *files)
    assert [entry.amount for entry in effective(entries(engine))] == [10**9]


def test_only_what_stands_can_be_taken_back(here, engine, tmp_path):
    record(here, engine, costs(tmp_path, DEARER))
    with pytest.raises(UsageError, match="there is no adjustment 7"):
        undo(here.engine, 7, ANA)
    undo(here.engine, 1, ANA)
    with pytest.raises(UsageError, match="taken back before, by 2"):
        undo(here.engine, 1, ANA)
    with pytest.raises(UsageError, match="takes back adjustment 1"):
        undo(here.engine, 2, ANA)


def test_all_entries_can_be_listed(here, engine, tmp_path):
    assert adjustments_table([engine]).rows == ()
    record(here, engine, costs(tmp_path, DEARER))
    undo(here.engine, 1, ANA)
    table = adjustments_table([engine])
    assert [(row[0], row[7], row[11]) for row in table.rows] == [
        (1, 10**9, None),
        (2, -(10**9), 1),
    ]
    assert table.totals[0][7] == 0


def test_simulated_money_and_real_money_do_not_make_up_for_each_other(here, engine, tmp_path):
    here.invocation(1, simulated=1)
    charge(here, here.answer(2, 1, 2, model=MODEL))
    record(here, engine, costs(tmp_path, DEARER))
    assert not entries(engine)[0].simulated


@settings(max_examples=8, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
@given(st.lists(st.decimals(0, 10**6, places=14), min_size=1, max_size=4))
def test_after_recording_any_bill_agrees_to_the_pico(sqlite_template, tmp_path_factory, bills):
    folder = tmp_path_factory.mktemp("any")
    (folder / "any.db").write_bytes(sqlite_template.read_bytes())
    rows = begin(LedgerRows(str(folder / "any.db")))
    engine = open_engine(str(folder / "any.db"), read_only=True)
    for number, cents in enumerate(bills):
        bill = costs(folder, RIGHT | {"output_tokens": f"{cents:f}"}, name=f"{number}.json")
        looks_like_units = record(rows, engine, bill).differing
        assert differing(engine, bill) == looks_like_units
        exact = Fraction(cents) * 10**10
        recorded = sum(entry.amount for entry in entries(engine))
        assert looks_like_units or abs(4_000_000_000 + recorded - exact) <= Fraction(1, 2)
    engine.dispose()
    rows.engine.dispose()


def told_of_adjustments(engine):
    return [each.text for each in verify(engine).findings if each.kind == "adjustment"]


TAMPERED = [
    ("amount = amount - 1", "adjustment 1 of 1000000000 pico-USD and is -1000000001"),
    ("day = '2026-01-06'", "is of another day, model"),
    ("model = NULL", "is of another day, model"),
    ("geography = 'us'", "is of another day, model"),
    ("undoes = 2", "takes back adjustment 2, which takes back another itself"),
]  # fmt: skip


@BOTH
def test_what_takes_an_adjustment_back_is_verified(here, engine, tmp_path):
    record(here, engine, usage(tmp_path), costs(tmp_path, DEARER))
    undo(here.engine, 1, ANA)
    assert told_of_adjustments(engine) == []
    for change, told in TAMPERED:
        with writing(here.engine) as connection:
            connection.exec_driver_sql("CREATE TEMP TABLE kept AS SELECT * FROM adjustments")
            connection.exec_driver_sql(
                f"UPDATE adjustments SET {change} WHERE adjustment_id = 2"
            )
        found = told_of_adjustments(engine)
        with writing(here.engine) as connection:
            connection.exec_driver_sql("DELETE FROM adjustments")
            connection.exec_driver_sql("INSERT INTO adjustments SELECT * FROM kept")
            connection.exec_driver_sql("DROP TABLE kept")
        assert any(told in each for each in found), (change, found)
