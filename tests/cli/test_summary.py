"""The sentences at a run's end say what is so, also of a single row."""

import io
from dataclasses import replace
from pathlib import Path

import pytest

from batcher.cli.run.display import Quiet
from batcher.cli.run.summary import closing_lines, finish
from batcher.monitoring.progress_text import limit_lines
from batcher.pipeline.progress import Ended, Progress
from batcher.wiring import json_summary
from tests.making_runs import Case

ENDED = Ended(exit_code=0, error="", rows_left=False, seconds=1.0, progress=Progress())


@pytest.fixture
def job(tmp_path):
    return Case(folder=tmp_path, database="some.db").job()


def words_of(job, unfinished=None, **progress) -> str:
    ended = replace(ENDED, progress=Progress(**progress), unfinished_rows=unfinished or {})
    return "\n".join(closing_lines(job, ended, None))


def test_answers_without_a_price_are_not_called_rows_without_an_answer(job):
    words = words_of(job, {"quarantined": 1, "unpriced": 3}, answered=3, sent=3)
    assert "rows without an answer: 1 quarantined; see batcher failures" in words
    assert "3 answers have no price, which --strict minds" in words
    ended = replace(ENDED, unfinished_rows={"unpriced": 3})
    assert json_summary(job, ended, None, None)["rows_without_answer"] == {}


def test_who_reads_of_rows_without_an_answer_is_told_how_to_get_them(job):
    words = words_of(job, {"failed": 2}, answered=1, sent=3)
    assert "see batcher failures --database some.db" in words
    assert "batcher export --failures --database some.db" in words


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"answered": 1, "sent": 1}, "1 row answered"),
        ({"truncated": 1, "sent": 1}, "1 answer was cut off by the token limit"),
        ({"refused": 1, "sent": 1}, "1 answer is a refusal"),
        ({"in_doubt": 1, "sent": 1}, "1 attempt is in doubt and may have cost"),
        ({"done_before": 1}, "nothing left to do: 1 row was finished before"),
        ({"unpriced": 1, "sent": 1}, "1 answer unpriced"),
    ],
)
def test_one_is_not_many(job, facts, words):
    assert words in words_of(job, **facts)


def test_a_database_is_named_as_a_shell_takes_it(tmp_path):
    url = "postgresql+psycopg://me:secret@/ledger?host=a,b&target_session_attrs=read-write"
    job = replace(Case(folder=tmp_path, database="some.db").job(), database=url)
    named = f"--database '{url.replace('secret', '***')}'"
    words = words_of(job, {"failed": 2}, answered=1, sent=3)
    assert f"batcher export --failures {named}" in words
    assert f"next: batcher report {named}" in words


def test_rows_that_wait_in_batches_are_no_slow_run(job):
    ended = replace(ENDED, rows_left=True, progress=Progress(sent=3, in_batches=3, batches=1))
    first, *_, last = closing_lines(job, ended, None)
    assert first == "no answers yet"
    assert last == f"rows wait in batches; collect them with: {job.command}"


def test_rows_that_only_came_back_canceled_are_rows(job):
    assert "0 rows answered, 3 failed in 1 s" in words_of(job, {"failed": 3}, failed=3)


def test_an_input_without_rows_is_not_called_finished(job):
    assert "nothing to do: the input has no rows" in words_of(job)


def test_one_429_is_one_answer():
    assert limit_lines(Progress(pauses=1)) == ["1 answer with status 429 came back"]


@pytest.mark.parametrize(("code", "told"), [(0, 74), (65, 65), (75, 75)])
def test_a_summary_that_cannot_be_written_fails_only_a_run_that_was_well(
    job, code, told, monkeypatch, capsys
):
    ended = replace(ENDED, exit_code=code)
    with Path("/dev/full").open("wb", buffering=0) as full:
        monkeypatch.setattr("sys.stdout", io.TextIOWrapper(full, write_through=True))
        assert finish(job, ended, Quiet(assume_yes=False), as_json=True, quiet=False) == told
    assert (
        "the summary cannot be written to standard output: No space" in capsys.readouterr().err
    )
