"""Shards: every row has exactly one reader, whoever reads, in every kind of file."""

import csv
import json
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.pipeline.progress import Progress, sum_up
from batcher.pipeline.together.shards import ClaimedRows, ShardSize, shard_rows
from batcher.rows.build.requests import RequestBuilder
from batcher.rows.ranges import RowRanges
from batcher.rows.read.reader import read_rows
from batcher.rows.read.source import source_of
from tests.making_runs import SETTINGS

ROWS = 700


@dataclass
class Counter:
    """What the database does: the next rows that nobody claimed."""

    size: int
    claimed: int = 0
    asked: list[int] = field(default_factory=list)

    def claim(self, least):
        self.asked.append(least)
        first = max(self.claimed + 1, least)
        self.claimed = first + self.size - 1
        return first, self.claimed


def ranges(*parts):
    made = RowRanges()
    for first, last in parts:
        made.add_range(first, last)
    return made


@pytest.fixture(params=["jsonl", "csv", "parquet"])
def source(request, tmp_path):
    path = tmp_path / f"rows.{request.param}"
    prompts = [f"row {number}" for number in range(1, ROWS + 1)]
    if request.param == "jsonl":
        path.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts))
    elif request.param == "csv":
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([["prompt"], *([prompt] for prompt in prompts)])
    else:
        import pyarrow as pa
        from pyarrow import parquet

        parquet.write_table(pa.table({"prompt": prompts}), path, row_group_size=50)
    return source_of(path.name, path)


def test_three_readers_read_every_row_once(source):
    counter, done = Counter(20), ranges((1, 30), (101, 101))
    claimed = [ClaimedRows(done, counter.claim) for _ in range(3)]
    builder = RequestBuilder(SETTINGS)
    readers = [read_rows(source, source_id=1, builder=builder, rows=rows) for rows in claimed]
    found = []
    while readers:
        for reader in list(readers):
            batch = next(reader, None)
            if batch is None:
                readers.remove(reader)
            else:
                found += [item.row_number for item in batch.items]
    assert sorted(found) == [n for n in range(1, ROWS + 1) if n not in done]


def test_nothing_is_claimed_before_it_is_read(tmp_path):
    counter = Counter(5)
    gaps = ClaimedRows(RowRanges(), counter.claim).take(1, 100)
    assert not counter.asked
    assert next(gaps) == (1, 5)
    assert counter.asked == [1]


def test_a_finished_beginning_is_not_claimed():
    counter = Counter(10)
    rows = ClaimedRows(ranges((1, 1000)), counter.claim)
    assert rows.none_in(1, 900)
    assert list(rows.take(1, 1012)) == [(1001, 1010), (1011, 1012)]
    assert counter.asked == [1001, 1011]


@given(st.lists(st.tuples(st.integers(1, 300), st.integers(0, 40))), st.integers(1, 50))
def test_one_reader_alone_gets_all_that_is_not_done(parts, size):
    done = ranges(*((first, first + more) for first, more in parts))
    rows = ClaimedRows(done, Counter(size).claim)
    read = [n for first, last in rows.take(1, 350) for n in range(first, last + 1)]
    assert read == [n for n in range(1, 351) if n not in done]


@pytest.mark.parametrize(
    ("estimates", "rows"),
    [([10], 8), ([6_400], 100), ([10**9], 500), ([None], 100), ([10**9, None], 500)],
)
def test_small_inputs_are_cut_smaller(estimates, rows):
    assert shard_rows(estimates) == rows


def sizes_at(pace, *, most=500, concurrency=64, seconds=600.0):
    """What is claimed by one that sends `pace` rows a second, and reads as many ahead."""
    size, claimed, now, sizes = ShardSize(most, concurrency), 0, 0.0, []
    while now < seconds:
        sizes.append(size.next(now))
        claimed += sizes[-1]
        now = max(now, (claimed - 3 * concurrency) / pace)
    return sizes


@pytest.mark.parametrize(("pace", "rows"), [(1, 8), (10, 50), (64, 320), (3_000, 500)])
def test_a_shard_takes_seconds_whatever_the_pace(pace, rows):
    sizes = sizes_at(pace)
    assert sizes[0] == 64, "at first what is in flight"
    assert sizes[-1] == pytest.approx(rows, rel=0.3)
    assert all(after <= 2 * before for before, after in pairwise(sizes))


def test_a_small_input_stays_cut_small():
    assert set(sizes_at(3_000, most=8, seconds=10)) == {8}


@given(st.lists(st.floats(0, 1e4), min_size=1), st.integers(1, 500), st.integers(1, 5_000))
def test_a_shard_has_rows_and_not_too_many(waits, most, concurrency):
    size, now = ShardSize(most, concurrency), 0.0
    for wait in waits:
        now += wait
        assert min(8, most) <= size.next(now) <= most


def test_processes_are_shown_as_one():
    first = Progress(done_before=10, answered=5, cost=3, total_rows=40, cap_free=7, cap_spent=3)
    second = Progress(done_before=12, answered=7, cost=4, total_rows=41, in_doubt_high=None)
    second.unknown_stop_reasons["odd"] = 2
    whole = Progress(answered=99)
    sum_up(whole, first, [second])
    assert (whole.done_before, whole.answered, whole.cost, whole.total_rows) == (10, 12, 7, 41)
    assert (whole.finished_rows, whole.in_doubt_high) == (22, None)
    assert whole.unknown_stop_reasons == {"odd": 2}
    assert (whole.cap_spent, whole.cap_free) == (7, 3)


def test_rows_of_workers_that_were_started_elsewhere_are_seen():
    first, second = Progress(answered=5, elsewhere=20), Progress(answered=7, elsewhere=9)
    whole = Progress()
    sum_up(whole, first, [second])
    assert (whole.finished_rows, whole.elsewhere) == (25, 13)
