"""Files that change while they are read: nothing is paid twice, nothing is left unsaid."""

import json
import shutil
from functools import partial
from pathlib import Path

from tests.making_runs import FakeLane, answered, refused, row, rows

COUNT = 2_500  # more than are read ahead of sending


def when_sending_begins(change):
    """A lane that changes something once, when its first attempt is under way."""
    left = [change]

    def script(_):
        if left:
            left.pop()()
        return answered()

    return FakeLane(script)


def line(number: int) -> str:
    return json.dumps(row(f"new {number}", f"new-{number}")) + "\n"


def test_what_is_appended_while_a_file_is_read_is_answered_at_the_latest_next_time(case):
    path = case.write(rows(COUNT))

    def append():
        with path.open("a") as file:
            file.writelines(line(number) for number in range(3))

    first = when_sending_begins(append)
    ended = case.run(first)
    assert ended.exit_code == 75
    assert "rows.jsonl: changed while it was read" in ended.error
    second = FakeLane()
    assert case.run(second).exit_code == 0
    sent = [attempt.request.custom_id for attempt in first.sent + second.sent]
    assert len(sent) == len(set(sent)) == COUNT + 3
    assert case.one("SELECT COUNT(*) FROM v_answers") == COUNT + 3


def test_a_file_that_is_replaced_by_another_order_is_paid_once(case):
    path = case.write(rows(COUNT))
    other = case.write([*reversed(rows(COUNT)), row("new", "new")], "other.jsonl")
    first = when_sending_begins(lambda: other.replace(path))
    assert case.run(first).exit_code == 75
    second = FakeLane()
    assert case.run(second).exit_code == 0
    assert len(first.sent) + len(second.sent) == COUNT + 1
    assert case.one("SELECT COUNT(*) FROM v_answers") == COUNT + 1
    assert case.one("SELECT row_number FROM v_answers WHERE custom_id = 'id-1'") == COUNT


def test_a_file_that_is_cut_short_in_place_does_not_look_complete(case):
    path = case.write(rows(COUNT))
    whole = path.read_bytes()
    first = when_sending_begins(lambda: path.write_bytes(b""))
    assert case.run(first).exit_code == 75
    assert len(first.sent) < COUNT
    path.write_bytes(whole)
    second = FakeLane()
    case.run(second)
    assert case.one("SELECT COUNT(*) FROM v_answers") == COUNT
    assert len(first.sent) + len(second.sent) == COUNT


def test_a_file_that_is_taken_away_is_told(case):
    path = case.write(rows(COUNT))
    ended = case.run(when_sending_begins(path.unlink))
    assert ended.exit_code == 75
    assert "changed while it was read" in ended.error


def test_a_change_behind_the_last_row_read_is_the_next_invocations_work(case):
    """Everything was read when sending began, so the file is no longer of interest."""
    path = case.write(rows(5))
    lane = when_sending_begins(lambda: path.write_text(line(1)))
    assert case.run(lane).exit_code in {0, 75}
    assert case.run(FakeLane()).exit_code == 0
    assert case.one("SELECT COUNT(*) FROM v_answers") == 1


def test_a_database_that_is_removed_under_a_run_is_told_at_the_latest_at_its_end(case):
    """SQLite would go on writing into it, and nobody could ever read that."""
    case.write(rows(20))
    ended = case.run(when_sending_begins(Path(case.database).unlink))
    assert ended.exit_code == 74
    assert "was removed or replaced while the run was on" in ended.error


def test_a_database_that_another_file_replaces_is_told_too(case, tmp_path):
    shutil.copy(case.database, tmp_path / "backup.db")
    case.write(rows(20))
    restore = partial((tmp_path / "backup.db").replace, case.database)
    assert case.run(when_sending_begins(restore)).exit_code == 74


def test_a_row_that_is_still_bad_is_listed_once_also_when_the_new_file_was_not_read(case):
    case.write([*rows(3), "{cut"])
    case.run(FakeLane())
    case.write(["{cut", *rows(COUNT)])
    ended = case.limit(row_limit=1).run(FakeLane())
    assert ended.rows_left or ended.exit_code == 65
    assert case.ask("SELECT row_number, reason FROM v_failures") == [(1, "BAD_JSON")]


def test_failed_rows_stay_listed_while_a_new_file_is_read(case):
    case.write(rows(2))
    case.run(FakeLane(lambda _: refused(400)))
    case.write([*rows(2), "{cut"])
    case.limit(row_limit=1).run(FakeLane())
    assert case.one("SELECT COUNT(*) FROM v_failures WHERE kind = 'failed'") == 2
