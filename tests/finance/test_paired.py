"""Paired differences of two runs, and Student's interval around them."""

from math import isclose
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.errors import UsageError
from batcher.finance.compare import PairedDifferences, compare_table, student_quantile
from batcher.report.query import ReportQuery


@pytest.mark.parametrize(
    ("freedom", "quantile"), [(4, 2.776), (9, 2.262), (29, 2.045), (120, 1.980), (10**6, 1.960)]
)
def test_quantiles_are_those_of_the_tables(freedom, quantile):
    assert isclose(student_quantile(0.975, freedom), quantile, abs_tol=0.002)


@given(st.lists(st.tuples(*[st.integers(0, 10**15)] * 2), min_size=2, max_size=30))
def test_mean_and_margin_are_those_of_the_definition(pairs):
    found = PairedDifferences()
    for before, after in pairs:
        found.add(before, after)
    differences = [after - before for before, after in pairs]
    mean = sum(differences) / len(differences)
    scatter = sum((each - mean) ** 2 for each in differences) / (len(differences) - 1)
    expected = student_quantile(0.975, len(pairs) - 1) * (scatter / len(pairs)) ** 0.5
    assert isclose(found.mean, mean, abs_tol=1e-6)
    assert isclose(found.margin(), expected, rel_tol=1e-6, abs_tol=1e3)


def test_of_a_hundred_intervals_about_95_hold_the_truth():
    random = Random(1)
    held = 0
    for _ in range(400):
        found = PairedDifferences()
        for _ in range(8):
            found.add(0, round(random.gauss(50_000, 10_000)))
        held += abs(found.mean - 50_000) <= found.margin()
    assert 370 <= held <= 390


def test_two_runs_over_the_same_rows_are_paired(rows, engine):
    for run, name in enumerate(("haiku", "sonnet"), 1):
        rows.run(name, job=name)
        rows.invocation(run)
        rows.source(run, fingerprint="same")
        for number in range(1, 7):
            answer = rows.answer(run, run, number, output_tokens=run * 10, run_id=run)
            rows.charge(answer, run * 2_000_000_000)
    rows.answer(1, 1, 9)
    table = compare_table([engine], ReportQuery(), ("run:haiku", "run:2"))
    assert table.sentences[-1] == (
        "6 rows with an answer in both; run:2 less run:haiku, a row: cost +$0.002 (95 %"
        " interval +$0.002 to +$0.002); output tokens +10.0 (95 % interval +10.0 to +10.0);"
        " latency 0.0 ms (95 % interval 0.0 ms to 0.0 ms)."
    )
    with pytest.raises(UsageError):
        compare_table([engine], ReportQuery(), ("run:gone", "run:2"))
