"""`-o` at a run's end: when that fails, what went wrong before is still told."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from batcher.cli.run.display import Quiet
from batcher.cli.run.summary import finish
from batcher.pipeline.events import Ended
from batcher.pipeline.progress import Progress
from tests.making_runs import Case

ENDED = Ended(exit_code=0, error="", rows_left=False, seconds=1.0, progress=Progress())


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
