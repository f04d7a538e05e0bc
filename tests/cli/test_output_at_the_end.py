"""`-o` at a run's end: when that fails, what went wrong before is still told."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest

from batcher.cli.run.display import Quiet
from batcher.cli.run.summary import finish
from batcher.pipeline.progress import Ended, Progress
from tests.making_runs import Case

ENDED = Ended(exit_code=0, error="", rows_left=False, seconds=1.0, progress=Progress())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"exit_code": 0}, ""),
        ({"exit_code": 0, "stopped": "SIGTERM received, rows are left"}, ""),
        (
            {"exit_code": 75, "stopped": "--max-runtime of 2 s is over, rows are left"},
            "batcher: --max-runtime of 2 s is over, rows are left; run the same command"
            " again\n",
        ),
        (
            {"exit_code": 65, "unfinished_rows": {"quarantined": 2, "failed": 1_000}},
            "batcher: finished, but not all is well: 1,000 failed, 2 quarantined; batcher"
            " failures says why\n",
        ),
        (
            {"exit_code": 65, "unfinished_rows": {"unpriced": 3}},
            "batcher: finished, but not all is well: 3 unpriced; batcher report says why\n",
        ),
        ({"exit_code": 69, "error": "nobody answers"}, "batcher: nobody answers\n"),
    ],
)
def test_quiet_is_silent_for_0_only_and_json_names_the_cause(tmp_path, capsys, changes, said):
    job = Case(folder=tmp_path, database=str(tmp_path / "gone.db")).job()
    ended, watcher = replace(ENDED, **changes), Quiet(assume_yes=False)
    assert finish(job, ended, watcher, as_json=False, quiet=True) == ended.exit_code
    assert capsys.readouterr().err == said
    finish(job, ended, watcher, as_json=True, quiet=False)
    cause = json.loads(capsys.readouterr().out)["cause"]
    assert cause == (said.removeprefix("batcher: ").rstrip() or None)


@pytest.mark.parametrize(
    ("code", "error", "told"),
    [(0, "", 2), (65, "", 2), (75, "", 75), (74, "the lifeboat has it", 74)],
)
def test_an_output_that_fails_hides_nothing_of_how_the_run_ended(
    tmp_path, capsys, code, error, told
):
    job = replace(Case(folder=tmp_path, database=str(tmp_path / "gone.db")).job(), output="o")
    watcher = Quiet(assume_yes=False)
    watcher.start = SimpleNamespace(run_id=1)
    ended = replace(ENDED, exit_code=code, error=error)
    assert finish(job, ended, watcher, as_json=False, quiet=True) == told
    said = capsys.readouterr().err
    assert "there is no database" in said
    assert error in said
