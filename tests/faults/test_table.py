"""The table itself: every entry is a fault of its own, and there are enough of them."""

from collections import Counter

from tests.faults.kinds import Stage
from tests.faults.table import TABLE, counted

LEAST = 140


def test_every_fault_has_a_name_of_its_own():
    names = Counter((entry.id, entry.stage) for entry in TABLE)
    assert [name for name, times in names.items() if times > 1] == []


def test_there_are_at_least_140_distinct_causes_stages_and_classes():
    assert len({(entry.id, entry.stage, entry.expected) for entry in TABLE}) >= LEAST


def test_every_stage_has_its_faults():
    assert {entry.stage for entry in TABLE} == set(Stage)


def test_every_class_of_the_design_is_expected_somewhere():
    classes = {"answered", "rejected", "not_sent", "partial", "unknown", "unusable"}
    assert classes <= {entry.expected for entry in TABLE}


def test_the_counts_add_up_to_the_table():
    assert sum(int(line.split()[1]) for line in counted(TABLE)) == len(TABLE)
