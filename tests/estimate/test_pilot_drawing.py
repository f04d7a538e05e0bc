"""Whom a pilot asks: random rows of every length, in proportion."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from batcher.clock import seeded
from batcher.estimate.census import (
    Inputs,
    Standing,
    allotted,
    draw,
    grouped,
    read_chosen,
    size_class,
    take_census,
)
from batcher.pipeline.engine.rater import Rater
from batcher.rows.build.requests import RequestBuilder
from batcher.rows.read.source import find_sources
from tests.making_runs import BOOK, SETTINGS, row, write_rows

WEIGHTS = st.lists(st.integers(0, 50), min_size=1, max_size=30)


@given(WEIGHTS, st.integers(1, 100))
def test_groups_hold_everything_once_and_in_order(weights, at_least):
    groups = grouped(list(enumerate(weights)), at_least)
    assert [n for group in groups for n in group] == list(range(len(weights)))
    if sum(weights) >= at_least:
        assert all(sum(weights[n] for n in group) >= at_least for group in groups)
    else:
        assert len(groups) == 1


@given(st.lists(st.integers(0, 10**7), min_size=1, max_size=12), st.integers(0, 500))
def test_shares_add_up_and_are_in_proportion(sizes, rows):
    shares = allotted(sizes, rows)
    assert sum(shares) == min(rows, sum(sizes))
    assert all(0 <= share <= size for share, size in zip(shares, sizes, strict=True))
    total = sum(sizes)
    if total > rows:
        exact = [size * rows / total for size in sizes]
        assert all(abs(s - e) < 1 + 1e-9 for s, e in zip(shares, exact, strict=True))


@given(st.integers(1, 10**8), st.integers(1, 10**8))
def test_size_classes_ascend_with_the_length(one, other):
    smaller, larger = sorted((one, other))
    assert size_class(smaller) <= size_class(larger)
    assert size_class(larger * 2) > size_class(larger)


def inputs_of(folder, lines):
    write_rows(folder / "rows.jsonl", lines)
    return Inputs(
        files=find_sources(("rows.jsonl",), base=folder, spool=None),
        builder=RequestBuilder(SETTINGS),
        rater=Rater(BOOK, "anthropic"),
        now_us=1_790_000_000_000_000,
    )


def census_of(inputs, seed, **options):
    standing = Standing(None, None, inputs.files, "")
    return take_census(inputs, standing, seeded(seed), **options)


def test_every_length_is_asked_in_proportion(tmp_path):
    lengths = [10] * 60 + [600] * 30 + [5_000] * 10
    inputs = inputs_of(tmp_path, [row("x" * length) for length in lengths])
    chosen = draw(census_of(inputs, "a").cells, 20)
    drawn = Counter(len(request.body) // 500 for request in read_chosen(inputs, chosen))
    assert sum(drawn.values()) == 20
    assert 11 <= drawn[0] <= 13
    assert 1 <= drawn[10] <= 3


def test_other_chances_draw_other_rows_and_each_row_can_be_drawn(tmp_path):
    inputs = inputs_of(tmp_path, [row(f"row {n}") for n in range(20)])
    drawn = [draw(census_of(inputs, str(seed)).cells, 5)["rows.jsonl"] for seed in range(60)]
    assert len({ranges.to_json() for ranges in drawn}) > 30
    assert all(any(n in ranges for ranges in drawn) for n in range(1, 21))


def test_a_pilot_larger_than_the_input_takes_all_of_it(tmp_path):
    inputs = inputs_of(tmp_path, [row("a"), row("b"), "no JSON"])
    census = census_of(inputs, "a", tickets=100)
    assert draw(census.cells, 100)["rows.jsonl"].to_json() == "[[1,2]]"
    assert (census.requests, census.bad_rows) == (2, 1)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 400), min_size=1, max_size=40), st.integers(1, 60))
def test_exactly_as_many_rows_are_drawn_as_asked_for(tmp_path_factory, lengths, rows):
    inputs = inputs_of(tmp_path_factory.mktemp("rows"), [row("x" * n) for n in lengths])
    chosen = draw(census_of(inputs, "a", tickets=60).cells, rows)
    assert sum(map(len, chosen.values())) == min(rows, len(lengths))


def test_the_ceiling_is_the_sum_of_all_bounds_and_says_what_has_none(tmp_path):
    lines = [row("a"), row("b"), row("c", model="unheard-of")]
    inputs = inputs_of(tmp_path, lines)
    census = census_of(inputs, "a")
    bounds = [inputs.bound(request) for request in read_chosen(inputs, draw(census.cells, 3))]
    assert census.unbounded == 1
    assert census.ceiling == sum(bound for bound in bounds if bound is not None)
