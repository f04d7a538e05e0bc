"""Rows that need nothing more, as they are remembered."""

from batcher.pipeline.engine.known_rows import DoneRows
from batcher.rows.ranges import RowRanges


def test_ranges_and_single_rows_are_remembered_alike():
    done = DoneRows({1: RowRanges(), 2: RowRanges()})
    done.checkpoint()
    done.add_all(1, range(5, 10**9))
    done.add_all(1, (1, 3))
    done.add_all(1, ())
    done.add_all(2, range(4, 4))
    assert done.checkpoint() == (0, {1: f"[[1,1],[3,3],[5,{10**9 - 1}]]"})


def test_nothing_new_is_nothing_to_save():
    done = DoneRows({1: RowRanges()})
    done.checkpoint()
    done.add_all(1, range(0))
    assert done.checkpoint() == (0, {})
