"""Changed settings of a job would pay answered rows again: nobody does that by accident."""

from dataclasses import replace

import pytest

from batcher.errors import ChangedSettings
from batcher.rows.build.settings import RequestSettings
from tests.making_runs import FakeLane, Watcher, row, rows, write_rows

PLAIN = RequestSettings(model="claude-haiku-4-5", max_tokens=100)
LINES = [{"prompt": f"p{n}"} for n in range(8)]


@pytest.fixture
def done(case):
    case.settings = PLAIN
    case.write(LINES)
    case.run(FakeLane())
    return case


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"model": "claude-haiku-5-5"}, "model was claude-haiku-4-5, is now claude-haiku-5-5"),
        ({"max_tokens": 101}, "max_tokens was 100, is now 101"),
        ({"system": "be brief"}, "system is another text"),
        ({"parameters": {"temperature": 0.5}}, "temperature was not set, is now 0.5"),
        ({"parameters": {"temperature": 0}}, "temperature was not set, is now 0"),
        ({"betas": ("b",)}, 'betas was not set, is now ["b"]'),
        ({"prompt": "{{ prompt }}!"}, "prompt is another text"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_a_change_of_any_setting_is_refused_with_its_name_and_the_count(done, change, named):
    lane = FakeLane()
    with pytest.raises(ChangedSettings, match="8 answered rows would be sent") as refused:
        replace(done, settings=replace(PLAIN, **change)).run(lane)
    assert lane.sent == []
    assert f"the settings of this job changed ({named}), so 8" in str(refused.value)
    assert done.watcher.asked.changes == f" ({named})"


def test_the_texts_of_a_job_are_not_kept_to_name_a_change(case):
    case.settings = replace(PLAIN, system="a secret of the house")
    case.write(LINES)
    case.run(FakeLane())
    kept = case.one("SELECT options FROM invocations")
    assert ('"model":"claude-haiku-4-5"' in kept, "secret" in kept) == (True, False)


def test_the_ceiling_of_what_it_would_cost_is_told(done):
    with pytest.raises(ChangedSettings):
        replace(done, settings=replace(PLAIN, max_tokens=200)).run(FakeLane())
    one_each = 8 * 200 * 5_000_000
    assert done.watcher.asked.rows == 8
    assert done.watcher.asked.cost_high > 5 * one_each  # five attempts a row


def test_accepting_the_change_sends_every_row_again_and_keeps_the_old_answers(done):
    changed = replace(
        done, settings=replace(PLAIN, max_tokens=200), options={"accept_change": True}
    )
    lane = FakeLane()
    assert changed.run(lane).exit_code == 0
    assert len(lane.sent) == 8
    assert (len(done.texts()), done.one("SELECT COUNT(*) FROM v_answers_all")) == (8, 16)


def test_a_person_who_agrees_is_as_good_as_the_option(done):
    changed = replace(
        done, settings=replace(PLAIN, max_tokens=200), watcher=Watcher(agrees=True)
    )
    lane = FakeLane()
    changed.run(lane)
    assert len(lane.sent) == 8


def test_settings_that_are_restored_find_their_old_answers(done):
    with pytest.raises(ChangedSettings):
        replace(done, settings=replace(PLAIN, max_tokens=200)).run(FakeLane())
    lane = FakeLane()
    assert done.run(lane).exit_code == 0
    assert lane.sent == []


def test_settings_there_and_back_again_pay_once_each(done):
    changed = replace(
        done, settings=replace(PLAIN, max_tokens=200), options={"accept_change": True}
    )
    changed.run(FakeLane())
    lane = FakeLane()
    assert done.run(lane).exit_code == 0
    assert lane.sent == []
    assert done.ask("SELECT DISTINCT source FROM v_answers") == [("rows.jsonl",)]


def test_rows_that_bring_everything_themselves_do_not_care(on_both):
    on_both.write(rows(5))
    on_both.run(FakeLane())
    changed = replace(on_both, settings=replace(on_both.settings, max_tokens=9))
    lane = FakeLane()
    assert changed.run(lane).exit_code == 0
    assert lane.sent == []


def test_only_rows_that_were_answered_count(case):
    case.settings = PLAIN
    case.write([*LINES, row("own")])
    case.limit(row_limit=3, concurrency=1).run(FakeLane())
    with pytest.raises(ChangedSettings, match="so 3 answered rows"):
        replace(case, settings=replace(PLAIN, max_tokens=200)).run(FakeLane())


def test_new_rows_are_ordinary_work_whatever_the_settings(done):
    write_rows(done.folder / "rows.jsonl", [{"prompt": "new"}])
    changed = replace(done, settings=replace(PLAIN, max_tokens=200))
    with pytest.raises(ChangedSettings, match="so 1 answered row"):
        changed.run(FakeLane())  # row 1 was answered, and is another row now
    changed.inputs = ("fresh.jsonl",)
    write_rows(done.folder / "fresh.jsonl", [{"prompt": "fresh"}])
    lane = FakeLane()
    assert changed.run(lane).exit_code == 0
    assert len(lane.sent) == 1
